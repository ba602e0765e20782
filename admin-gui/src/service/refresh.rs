//! Looks at the repository: at the start, after each job, when asked, and now and then while somebody watches.

use std::sync::Arc;

use protocol::control::Reach;
use protocol::messages;
use tokio::time::{Instant, sleep_until};

use crate::desk::{Desk, LookError, View};
use crate::draft::chain;
use crate::fleet::Reports;
use crate::limits::REPORTS_KEPT;
use crate::repository::ClientError;
use crate::service::state::Service;
use crate::service::{snapshot, words};
use protocol::control::Level;

/// Looks whenever it is time, until the service ends.
pub(super) async fn run(service: Arc<Service>) {
    loop {
        service.refresh().await;
        let pace = service.setup.pace;
        let wait = match service.known().repository.answers {
            Reach::No => pace.refresh_away.min(pace.refresh),
            Reach::Yes | Reach::Distrusted | Reach::Unknown => pace.refresh,
        };
        let next = Instant::now() + wait;
        tokio::select! {
            () = service.wake.notified() => continue,
            () = sleep_until(next) => {}
        }
        if service.journal.watchers() == 0 {
            // The next one who comes wakes us.
            service.wake.notified().await;
        }
    }
}

impl Service {
    /// Asks the repository and keeps what it says. One at a time here, and one at a time with other programs at
    /// this desk: `Desk::look` waits for its turn.
    pub(super) async fn refresh(self: &Arc<Self>) {
        let _turn = self.turn.lock().await;
        self.reopen();
        let Ok(desk) = self.desk() else {
            self.tell_status();
            return;
        };
        let looked = desk.look().await;
        let now = self.now();
        let (view, trouble) = match looked {
            Ok(view) => (Some(view), None),
            Err(error) => (desk.remembered().ok(), Some(error)),
        };
        self.note_reach(&desk, trouble.as_ref());
        let reached = trouble.is_none();
        self.learn(|known| {
            known.repository.asked = Some(now);
            known.repository.answers = trouble.as_ref().map_or(Reach::Yes, reach);
            known.repository.trouble = trouble.as_ref().map(|error| chain(error));
            if reached {
                known.repository.verified = Some(now);
            }
        });
        if let Some(view) = view {
            if reached && !view.is_empty {
                self.read_reports(&desk).await;
            }
            self.take_view(desk, view).await;
        }
        self.tell_status();
    }

    /// Says once that the repository cannot be used, or can again.
    fn note_reach(&self, desk: &Desk, trouble: Option<&LookError>) {
        let before = self.known().repository.answers;
        let address = desk.repository.base();
        match trouble {
            Some(error) if before != reach(error) => {
                self.say(Level::Warning, words::look_code(error), chain(error));
            }
            None if before == Reach::Unknown => {
                let text = format!("the repository at {address} answers");
                self.say(Level::Info, "author.repository.reached", text);
            }
            None if before != Reach::Yes => {
                let text = format!("the repository at {address} answers again");
                self.say(Level::Info, messages::CONNECTED.id, text);
            }
            _ => {}
        }
    }

    /// Reads the reports that are new.
    async fn read_reports(self: &Arc<Self>, desk: &Desk) {
        let known = self.known();
        let read = desk.reports_after(known.after).await;
        let now = self.now();
        match read {
            Ok((newer, after)) => {
                let more = merged(Arc::clone(&known.reports), newer).await;
                self.learn(|known| {
                    known.after = after;
                    known.reports_asked = Some(now);
                    known.reports_trouble = None;
                    if let Some((reports, fleet)) = more {
                        known.reports = reports;
                        known.fleet = fleet;
                    }
                });
            }
            Err(error) => {
                let trouble = format!("no new reports: {}", chain(&error));
                self.learn(|known| known.reports_trouble = Some(trouble));
            }
        }
    }

    /// Makes the snapshot of the site, away from the async thread: every report is counted.
    pub(super) async fn take_view(self: &Arc<Self>, desk: Desk, view: View) {
        let known = self.known();
        let stale_since = view.state.stale_since(self.now());
        let is_empty = view.is_empty;
        let made = words::blocking(move || snapshot::site(&desk, &view, &known)).await;
        if let Ok(site) = made {
            self.learn(|known| {
                known.repository.is_empty = is_empty;
                known.repository.stale_since = stale_since;
                known.site = Some(site);
            });
        }
    }

    /// Reads all reports anew next time: the repository may have been restored.
    pub(super) fn forget_reports(&self) {
        self.learn(|known| {
            known.after = 0;
            known.reports = Arc::default();
        });
    }
}

type Merged = (Arc<Reports>, Arc<Vec<protocol::control::FleetRow>>);

/// Old and new reports together, and the devices they tell of; none if nothing is new.
async fn merged(reports: Arc<Reports>, newer: Reports) -> Option<Merged> {
    if newer.told.is_empty() && newer.refused.is_empty() {
        return None;
    }
    words::blocking(move || {
        let mut all = Reports::clone(&reports);
        all.extend(newer, REPORTS_KEPT);
        let fleet = all.devices().into_iter().map(snapshot::fleet_row).collect();
        (Arc::new(all), Arc::new(fleet))
    })
    .await
    .ok()
}

/// How the repository answers, by what went wrong.
fn reach(error: &LookError) -> Reach {
    match error {
        LookError::Client(
            ClientError::Untrusted { .. } | ClientError::TooLarge { .. } | ClientError::Malformed { .. },
        )
        | LookError::Behind { .. }
        | LookError::Expired(_)
        | LookError::Refused { .. } => Reach::Distrusted,
        LookError::Client(_) => Reach::No,
        LookError::Trust(_) | LookError::Lock(_) | LookError::Disk(_) => Reach::Unknown,
    }
}
