//! The control socket: what the command line and a window ask of the running agent.

use std::sync::Arc;

use control::{Reply, Server};
use protocol::control::{DeviceEvent, DeviceRequest};
use protocol::device::Problem;
use release::Component;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use crate::backoff::BackOff;
use crate::dry_run::dry_run;
use crate::hub::Hub;
use crate::limits::{BACK_OFF_BASE, BACK_OFF_CAP, WATCH_LAG};
use crate::trust::chain;
use crate::unit::Command;

/// Answers requests until the agent ends. Where the socket cannot be opened, as on a full disk, it is tried
/// again: the programs do not wait for it.
pub async fn serve(hub: Arc<Hub>) {
    let mut wait = BackOff::new(BACK_OFF_BASE, BACK_OFF_CAP);
    loop {
        let opened = Server::open(&hub.layout.control()).await;
        hub.listening.notify_one();
        match opened {
            Ok(server) => {
                let hub = Arc::clone(&hub);
                server
                    .run(move |request: DeviceRequest| answer(Arc::clone(&hub), request))
                    .await;
                return;
            }
            Err(error) => {
                tracing::warn!(target: "drover", error = %chain(&error), "cannot be controlled for now");
                sleep(wait.next(&*hub.world.random)).await;
            }
        }
    }
}

async fn answer(hub: Arc<Hub>, request: DeviceRequest) -> Reply {
    match request {
        DeviceRequest::Status => Reply::of(Ok(hub.status())),
        DeviceRequest::History { last } => {
            let read = spawn_blocking(move || hub.log.last(last)).await;
            Reply::of(match read {
                Ok(entries) => entries.map_err(|error| problem("disk", &error)),
                Err(error) => Err(problem("ending", &error)),
            })
        }
        DeviceRequest::Rollback { component } => Reply::of(ask(&hub, component, Command::RollBack).await),
        DeviceRequest::Release { component } => Reply::of(ask(&hub, component, Command::Release).await),
        DeviceRequest::Activate {
            component,
            overriding,
        } => Reply::of(ask(&hub, component, |reply| Command::Activate(overriding, reply)).await),
        DeviceRequest::Plan { component, version } => {
            Reply::of(dry_run(&hub, &component, version.as_ref()).await)
        }
        DeviceRequest::Watch => follow(&hub, step_only),
        DeviceRequest::Follow => follow(&hub, |line| serde_json::to_value(line).ok()),
    }
}

async fn ask(
    hub: &Arc<Hub>,
    component: Component,
    command: impl FnOnce(crate::unit::Reply) -> Command,
) -> Result<(), Problem> {
    let unknown = || Problem {
        code: "unknown-component".into(),
        message: format!("this device has no component {component}"),
    };
    let mailbox = hub.unit(&component, false).ok_or_else(unknown)?;
    let (reply, answer) = oneshot::channel();
    let gone = |_| Problem {
        code: "ending".into(),
        message: "the agent is ending".into(),
    };
    mailbox.send(command(reply)).await.map_err(|_| gone(()))?;
    answer.await.map_err(|_| gone(()))?
}

/// Streams what is kept and what comes, each line in the form that `form` gives it; none: not shown.
fn follow(hub: &Hub, form: fn(&DeviceEvent) -> Option<serde_json::Value>) -> Reply {
    let (kept, mut coming) = hub.bus.watch();
    let (values, stream) = mpsc::channel(WATCH_LAG);
    tokio::spawn(async move {
        for line in &kept {
            if let Some(value) = form(line)
                && values.send(value).await.is_err()
            {
                return;
            }
        }
        drop(kept);
        loop {
            match coming.recv().await {
                Ok(line) => {
                    if let Some(value) = form(&line)
                        && values.send(value).await.is_err()
                    {
                        return;
                    }
                }
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    });
    Reply::Stream(stream)
}

fn step_only(line: &DeviceEvent) -> Option<serde_json::Value> {
    match line {
        DeviceEvent::Step(event) => serde_json::to_value(event).ok(),
        DeviceEvent::Message(_) => None,
    }
}

fn problem(code: &str, error: &dyn std::error::Error) -> Problem {
    Problem {
        code: code.to_owned(),
        message: chain(error),
    }
}
