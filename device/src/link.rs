//! The connection to the manager: hello, the event stream, reports and progress.
//!
//! One connection idles on the stream, another is used for what is asked and told. Nothing is tried faster
//! because it failed; and nothing here ever touches the programs, which run with and without a manager.

use std::sync::Arc;
use std::time::Duration;

use protocol::device::{Activate, Order, Refresh, Welcome};
use protocol::limits::KEEP_ALIVE_SECONDS;
use protocol::{Event, Step, messages};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use crate::backoff::{BackOff, about};
use crate::bus::shorten;
use crate::hub::{Hub, Link};
use crate::limits::{
    BACK_OFF_BASE, BACK_OFF_CAP, DEAD_AFTER_KEEP_ALIVES, HELLO_WITH_EVENTS, MAX_POLL_SECONDS,
    MAX_WAITING_PROGRESS, MIN_POLL_SECONDS, PROGRESS_PAUSE,
};
use crate::manager::ManagerError;
use crate::sse::{Item, Parser};
use crate::trust::{TrustFault, chain};
use crate::unit::Command;

/// Keeps up with the manager until the agent ends.
pub async fn keep(hub: Arc<Hub>) {
    let mut wait = BackOff::new(BACK_OFF_BASE, BACK_OFF_CAP);
    loop {
        let shown = hub.certificate_until.get();
        let outcome = if hub.settings.events {
            follow(&hub, &mut wait).await
        } else {
            poll(&hub, &mut wait).await
        };
        let Err(error) = outcome;
        let pause = wait.next(&*hub.world.random);
        let pause = error
            .retry_after()
            .map_or(pause, |asked| asked.min(BACK_OFF_CAP).max(pause));
        disconnected(&hub, &error);
        // Said of the certificate that was shown; a new one may have come meanwhile.
        if mtls::peer_says_expired(&error) && shown == hub.certificate_until.get() {
            hub.expired.set(true);
            hub.renewal_due.notify_one();
        }
        // With a new certificate there is a reason to try again before.
        timeout(pause, hub.renewed.notified()).await.ok();
    }
}

/// Why a connection was given up; nothing that succeeds ends it.
type Lost = Result<std::convert::Infallible, ManagerError>;

/// Opens the stream first and says hello then, so that no order falls between the two.
async fn follow(hub: &Arc<Hub>, wait: &mut BackOff) -> Lost {
    let mut stream = hub.manager.events().await?;
    hello(hub).await?;
    connected(hub, wait);
    let mut parser = Parser::default();
    let patience = Duration::from_secs(KEEP_ALIVE_SECONDS) * DEAD_AFTER_KEEP_ALIVES;
    let again = sleep(about(HELLO_WITH_EVENTS, &*hub.world.random));
    tokio::pin!(again);
    loop {
        tokio::select! {
            bytes = stream.next_within(patience) => {
                let bytes = bytes?.ok_or_else(|| ended("the manager closed the event stream"))?;
                for item in parser.feed(&bytes).map_err(|error| ended(&error.to_string()))? {
                    take(hub, &item).await;
                }
            }
            () = hub.hello_due.notified() => { hello(hub).await?; }
            () = &mut again => {
                hello(hub).await?;
                again.set(sleep(about(HELLO_WITH_EVENTS, &*hub.world.random)));
            }
        }
    }
}

/// Says hello every now and then.
async fn poll(hub: &Arc<Hub>, wait: &mut BackOff) -> Lost {
    loop {
        let welcome = hello(hub).await?;
        connected(hub, wait);
        let seconds = hub.settings.poll_seconds.unwrap_or(welcome.poll_seconds);
        let pause = Duration::from_secs(seconds.clamp(MIN_POLL_SECONDS, MAX_POLL_SECONDS));
        // Cut short only by something that ended here, never by a failure.
        timeout(about(pause, &*hub.world.random), hub.hello_due.notified())
            .await
            .ok();
    }
}

fn ended(why: &str) -> ManagerError {
    ManagerError::Refused {
        status: 200,
        message: why.to_owned(),
    }
}

async fn hello(hub: &Arc<Hub>) -> Result<Welcome, ManagerError> {
    let number = hub.hellos.with(|hellos| {
        hellos.asked += 1;
        hellos.asked
    });
    let welcome = hub.manager.hello(&hub.hello()).await?;
    for order in &welcome.orders {
        hub.take_order(order.clone()).await;
    }
    let held_back = welcome.held_back.iter();
    let held_back =
        held_back.map(|(update, reason)| (*update, shorten(&reason.replace(char::is_control, " "))));
    hub.held_back.set(held_back.collect());
    hub.hellos.with(|hellos| hellos.answered = number);
    hub.look_again();
    notice(hub, welcome.refresh);
    Ok(welcome)
}

async fn take(hub: &Arc<Hub>, item: &Item) {
    match item.event.as_str() {
        "order" => match serde_json::from_str::<Order>(&item.data) {
            Ok(order) => hub.take_order(order).await,
            Err(error) => tracing::warn!(target: "drover", %error, "an order cannot be read"),
        },
        "refresh" => match serde_json::from_str::<Refresh>(&item.data) {
            Ok(refresh) => notice(hub, refresh),
            Err(error) => tracing::warn!(target: "drover", %error, "a refresh cannot be read"),
        },
        "activate" => match serde_json::from_str::<Activate>(&item.data) {
            // A full mailbox loses it: what waits is still shown as waiting.
            Ok(told) => {
                if let Some(mailbox) = hub.unit(&told.component, false) {
                    mailbox.try_send(Command::ActivateForGateway(told)).ok();
                }
            }
            Err(error) => tracing::warn!(target: "drover", %error, "an activation cannot be read"),
        },
        other => tracing::debug!(target: "drover", event = other, "an event of an unknown kind"),
    }
}

/// Newer metadata: fetched beside everything else, so that what is withdrawn is known before it is switched to.
fn notice(hub: &Arc<Hub>, refresh: Refresh) {
    let hub = Arc::clone(hub);
    let busy = hub.refreshing.with(|busy| std::mem::replace(busy, true));
    if busy {
        return;
    }
    let task_hub = Arc::clone(&hub);
    hub.tasks.with(|tasks| {
        tasks.spawn(async move {
            if task_hub.trust.trouble().is_none() && refresh.timestamp > task_hub.trust.timestamp().await {
                match task_hub.trust.refresh(&task_hub.manager).await {
                    // What waits may have been withdrawn.
                    Ok(()) => task_hub.look_again(),
                    Err(fault @ TrustFault::Fetch(_)) => {
                        tracing::debug!(target: "drover", error = %chain(&fault), "the metadata did not come");
                    }
                    Err(fault) => task_hub.bus.warn(&messages::FILE_REFUSED, "", &chain(&fault)),
                }
            }
            task_hub.refreshing.set(false);
        })
    });
}

fn connected(hub: &Hub, wait: &mut BackOff) {
    wait.reset();
    // It was the manager's clock, then: the certificate is renewed as usual.
    hub.expired.set(false);
    let before = hub.link.with(|link| {
        let streaming = hub.settings.events;
        std::mem::replace(
            link,
            Link {
                connected: streaming,
                up: true,
                problem: String::new(),
            },
        )
    });
    if !before.up {
        hub.bus.say(&messages::CONNECTED, "");
        hub.bus.say(&messages::AUTHENTICATED, "");
        hub.outbox.wake.notify_one();
    }
}

fn disconnected(hub: &Hub, error: &ManagerError) {
    let problem = chain(error);
    let before = hub.link.with(|link| {
        std::mem::replace(
            link,
            Link {
                connected: false,
                up: false,
                problem: problem.clone(),
            },
        )
    });
    if before.problem != problem {
        let message = match error {
            ManagerError::NotOnTheList(_) => &messages::AUTHENTICATION_FAILED,
            _ => &messages::CONNECT_FAILED,
        };
        hub.bus.warn(message, "", &problem);
    }
}

/// Hands over signed reports until the agent ends.
pub async fn send_reports(hub: Arc<Hub>) {
    let mut wait = BackOff::new(BACK_OFF_BASE, BACK_OFF_CAP);
    loop {
        let queue = Arc::clone(&hub);
        // Cut off, it ends with the agent.
        let waiting = spawn_blocking(move || queue.outbox.oldest())
            .await
            .unwrap_or_default();
        let Some((last, _)) = waiting.last() else {
            hub.outbox.wake.notified().await;
            continue;
        };
        let last = *last;
        let reports: Vec<_> = waiting.into_iter().map(|(_, report)| report).collect();
        match hub.manager.reports(&reports).await {
            Ok(taken) if taken.through >= last => {
                wait.reset();
                forget(&hub, taken.through).await;
                continue;
            }
            Ok(taken) => {
                forget(&hub, taken.through).await;
                tracing::debug!(target: "drover", through = taken.through, last, "the manager took only a part");
            }
            Err(error) => {
                tracing::debug!(target: "drover", error = %chain(&error), "reports wait for the manager");
            }
        }
        let pause = wait.next(&*hub.world.random);
        // A new connection is a reason to try at once; a new report is not.
        sleep(pause).await;
    }
}

async fn forget(hub: &Arc<Hub>, through: u64) {
    let hub = Arc::clone(hub);
    spawn_blocking(move || hub.outbox.taken(through)).await.ok();
}

/// Tells steps as they happen, as a courtesy: several at a time, thinned, dropped when it fails.
pub async fn send_progress(hub: Arc<Hub>, mut waiting: mpsc::Receiver<Event>) {
    let mut events = Vec::new();
    loop {
        if waiting.recv_many(&mut events, MAX_WAITING_PROGRESS).await == 0 {
            return;
        }
        sleep(PROGRESS_PAUSE).await;
        while let Ok(event) = waiting.try_recv() {
            events.push(event);
        }
        thin(&mut events);
        if hub.link.with(|link| link.up)
            && let Err(error) = hub.manager.progress(&events).await
        {
            tracing::debug!(target: "drover", error = %chain(&error), "progress was not told");
        }
        events.clear();
    }
}

/// Of several progress events of one download only the newest is of interest.
fn thin(events: &mut Vec<Event>) {
    let mut seen = std::collections::HashSet::new();
    events.reverse();
    events.retain(|event| event.step != Step::Downloading || seen.insert(event.update));
    events.reverse();
}
