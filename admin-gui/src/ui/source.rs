//! How the window sees the desk: its status each second, and what it tells of the past when that can have changed.

use std::sync::{Arc, Mutex, PoisonError};

use control::Client;
use gui_kit::link::{Reading, Service};
use protocol::control::{
    AuthorEvent, AuthorRequest, AuthorStatus, FleetPage, FleetRow, HistoryEntry, HistoryView, LatencyView,
    SiteState,
};
use tuf::UnixTime;

use crate::limits::{FLEET_PAGE, HISTORY, WINDOW_FLEET, WINDOW_RELEASES};

/// All that the window draws.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The desk at a glance.
    pub status: AuthorStatus,
    /// The record and the reports; the same one as long as nothing changed.
    pub past: Arc<Past>,
}

impl PartialEq for Snapshot {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.past, &other.past) && self.status == other.status
    }
}

/// What the desk tells of the past.
#[derive(Debug, Default, PartialEq)]
pub struct Past {
    /// The record of uploads, newest first.
    pub history: Vec<HistoryEntry>,
    /// There are older entries.
    pub history_is_cut: bool,
    /// The devices, by name.
    pub devices: Vec<FleetRow>,
    /// Devices in all; more than `devices` where the site is larger than a window shows.
    pub devices_total: usize,
    /// Why the reports are not of now.
    pub devices_trouble: Option<String>,
    /// The latency types of the newest updates.
    pub latencies: LatencyView,
}

/// What the past was read at: while this is the same, so is the past.
type Mark = (Option<u64>, Option<UnixTime>, bool);

/// The desk behind its control socket.
#[derive(Debug, Default)]
pub struct Desk {
    past: Mutex<Option<(Mark, Arc<Past>)>>,
}

impl Desk {
    async fn snapshot(&self, client: &mut Client) -> Result<Snapshot, control::Error> {
        let status: AuthorStatus = client.call(&AuthorRequest::Status).await?;
        let SiteState::Ready(site) = &status.site else {
            return Ok(Snapshot {
                status,
                past: Arc::default(),
            });
        };
        let ended = status.last_job.as_ref().map(|job| job.id);
        let mark: Mark = (ended, site.repository.asked, site.repository.trouble.is_some());
        let known = self.lock().clone();
        let past = match known {
            Some((at, past)) if at == mark => past,
            known => {
                let read = read_past(client).await?;
                // The same words are the same past: nothing is sorted or drawn anew for them.
                let same = known.filter(|(_, past)| **past == read).map(|(_, past)| past);
                let past = same.unwrap_or_else(|| Arc::new(read));
                *self.lock() = Some((mark, Arc::clone(&past)));
                past
            }
        };
        Ok(Snapshot { status, past })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<(Mark, Arc<Past>)>> {
        self.past.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn read_past(client: &mut Client) -> Result<Past, control::Error> {
    let history: HistoryView = client.call(&AuthorRequest::History { last: HISTORY }).await?;
    let mut past = Past {
        history: history.entries,
        history_is_cut: history.is_cut,
        ..Past::default()
    };
    past.history.reverse();
    let mut after = None;
    while past.devices.len() < WINDOW_FLEET {
        let request = AuthorRequest::Fleet {
            after: after.take(),
            limit: FLEET_PAGE,
        };
        let page: FleetPage = client.call(&request).await?;
        past.devices.extend(page.devices);
        (past.devices_total, past.devices_trouble) = (page.total, page.trouble);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let releases = WINDOW_RELEASES;
    past.latencies = client.call(&AuthorRequest::Latencies { releases }).await?;
    Ok(past)
}

impl Service for Desk {
    type Snapshot = Snapshot;
    type Event = AuthorEvent;
    type Request = AuthorRequest;

    fn program(&self) -> &'static str {
        "the author's desk"
    }

    fn read<'a>(&'a self, client: &'a mut Client) -> Reading<'a, Snapshot> {
        Box::pin(self.snapshot(client))
    }

    fn watch(&self) -> AuthorRequest {
        // Another service may have counted its jobs to the same number.
        *self.lock() = None;
        AuthorRequest::Watch
    }
}
