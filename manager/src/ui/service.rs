//! How the window sees the gateway: what is read of it each second, and what is kept between readings.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use control::Client;
use gui_kit::link::{Reading, Service};
use protocol::Name;
use protocol::control::{DevicePage, DeviceRow, ManagerEvent, ManagerRequest, ManagerStatus};

/// All that the window draws.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// The gateway at a glance.
    pub status: ManagerStatus,
    /// The devices.
    pub table: Table,
}

/// The device table. A new one shares the rows that have not changed with the one before.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// See [`DevicePage::generation`].
    pub generation: u64,
    /// See [`DevicePage::revision`].
    pub revision: u64,
    /// By name.
    pub rows: Arc<Vec<Arc<DeviceRow>>>,
}

impl PartialEq for Table {
    fn eq(&self, other: &Self) -> bool {
        (self.generation, self.revision) == (other.generation, other.revision)
    }
}

/// A gateway behind its control socket.
#[derive(Debug, Default)]
pub struct Gateway {
    known: Mutex<Known>,
}

/// What earlier readings brought, so that each one asks for changes only.
#[derive(Debug, Default)]
struct Known {
    rows: BTreeMap<Name, Arc<DeviceRow>>,
    table: Table,
}

impl Known {
    /// Takes the pages that are new.
    async fn follow(&mut self, client: &mut Client) -> Result<(), control::Error> {
        let mut changed = false;
        loop {
            let request = ManagerRequest::DevicesSince {
                generation: self.table.generation,
                revision: self.table.revision,
            };
            let page: DevicePage = client.call(&request).await?;
            if page.generation != self.table.generation {
                self.rows.clear();
                changed = true;
            }
            changed |= !page.rows.is_empty();
            (self.table.generation, self.table.revision) = (page.generation, page.revision);
            self.rows
                .extend(page.rows.into_iter().map(|row| (row.name.clone(), Arc::new(row))));
            if !page.more {
                break;
            }
        }
        if changed {
            self.table.rows = Arc::new(self.rows.values().cloned().collect());
        }
        Ok(())
    }
}

impl Service for Gateway {
    type Snapshot = Snapshot;
    type Event = ManagerEvent;
    type Request = ManagerRequest;

    fn program(&self) -> &'static str {
        "the manager"
    }

    fn read<'a>(&'a self, client: &'a mut Client) -> Reading<'a, Snapshot> {
        Box::pin(async move {
            let status = client.call(&ManagerRequest::Status).await?;
            // Taken out meanwhile: what a broken reading leaves behind is forgotten and read anew.
            let mut known = std::mem::take(&mut *self.known.lock().unwrap_or_else(PoisonError::into_inner));
            known.follow(client).await?;
            let table = known.table.clone();
            *self.known.lock().unwrap_or_else(PoisonError::into_inner) = known;
            Ok(Snapshot { status, table })
        })
    }

    fn watch(&self) -> ManagerRequest {
        ManagerRequest::Watch
    }
}
