//! From an order to a release on disk: everything that does not touch the running version.

use std::sync::Arc;

use durable::StoreError;
use protocol::device::{Activity, Order};
use protocol::{Step, messages};
use release::{Component, Release, State};
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tuf::Digest;

use crate::backoff::BackOff;
use crate::bus::Teller;
use crate::data::{Data, room};
use crate::download::{DownloadError, download};
use crate::hub::Hub;
use crate::limits::{BACK_OFF_BASE, BACK_OFF_CAP, DOWNLOAD_TRIES};
use crate::machine::Slot;
use crate::machine_info::{free_bytes, machine};
use crate::order::{
    DataRoom, Facts, Neighbour, Neighbours, Plan, Verdict, consider, data_change, first_look, misfit,
};
use crate::stage::{self, StageError};
use crate::trust::{TrustFault, chain};
use crate::unit::own::agent_stays;
use crate::unit::{data_disk, transforms};
use crate::writer::DiskError;

/// Why a release is not on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unprepared {
    /// For a person.
    pub reason: String,
    /// Whether the release itself is at fault.
    pub bad: bool,
}

/// Judges an order by newly verified metadata; with the digest of its target, once that is known.
pub async fn judge(hub: &Arc<Hub>, order: &Order, slot: &Slot) -> (Verdict, Option<Digest>) {
    if let Some(reason) = first_look(order, slot) {
        return (Verdict::Refused(reason), None);
    }
    if let Err(verdict) = refresh(hub).await {
        return (verdict, None);
    }
    weigh(hub, order, slot).await
}

/// The same by the metadata that are here.
pub async fn weigh(hub: &Arc<Hub>, order: &Order, slot: &Slot) -> (Verdict, Option<Digest>) {
    let found = match hub.trust.look_up_new(&order.target).await {
        Ok(found) => found,
        Err(fault) => return (Verdict::Refused(chain(&fault)), None),
    };
    let (neighbours, schema) = surroundings(hub, &order.component).await;
    let (state, data) = saving(hub, slot, &found.release, schema).await;
    let facts = Facts {
        neighbours,
        schema,
        state,
        data,
        machine: machine(&hub.settings.hardware),
        free_bytes: free_bytes(hub.layout.root()),
        arrived_bytes: hub
            .store
            .has(&found.digest)
            .unwrap_or_else(|| hub.store.arrived(&found.digest)),
        module: found
            .release
            .kind
            .module()
            .and_then(|name| hub.settings.modules.find(name).err())
            .map(|fault| chain(&fault)),
        agent_stays: agent_stays(hub, &order.component, &found.release.kind),
        floor: hub.trust.release_floor(order.component.as_str()).await,
        now: mtls::stamp(),
    };
    (consider(order, slot, &found, &facts), Some(found.digest))
}

/// What else is installed here, and the schema of the component's own data.
pub async fn surroundings(hub: &Arc<Hub>, component: &Component) -> (Neighbours, Option<u32>) {
    let (hub, component) = (Arc::clone(hub), component.clone());
    let looked = spawn_blocking(move || {
        let mut installed = hub.generation.get().components;
        let own = installed.remove(&component).and_then(|slot| slot.current);
        let load = |digest: &Digest| stage::load(&hub.world.files, &hub.layout, digest).ok();
        // Without its record the running version does not start either: it then keeps no data that matter.
        let schema = own.and_then(|own| load(&own.digest)).map(|staged| {
            let state = staged.release.state.unwrap_or_default();
            state.to
        });
        let releases = |slot: Slot| {
            let to = slot
                .attempt
                .filter(|_| slot.life.may_come_to_run())
                .map(|attempt| attempt.to);
            let releases = slot.current.into_iter().chain(to);
            releases.map(|here| Neighbour {
                requires: load(&here.digest)
                    .map(|s| s.release.requires.components)
                    .unwrap_or_default(),
                version: here.version,
            })
        };
        let neighbours = installed.into_iter();
        let neighbours = neighbours
            .map(|(name, slot)| (name, releases(slot).collect()))
            .collect();
        (neighbours, schema)
    });
    looked.await.unwrap_or_default()
}

/// How the running version keeps its data, and what saving them for a release takes.
async fn saving(
    hub: &Arc<Hub>,
    slot: &Slot,
    release: &Release,
    schema: Option<u32>,
) -> (Option<State>, Result<DataRoom, String>) {
    let Some(current) = slot.current.as_ref().filter(|_| release.state.is_some()) else {
        return (None, Ok(DataRoom::default()));
    };
    let (digest, release) = (current.digest, release.clone());
    let looked = hub.long_work(move |hub| {
        let staged = stage::load(&hub.world.files, &hub.layout, &digest);
        let state = staged.ok().and_then(|staged| staged.release.state);
        let Some(change) = data_change(&release, state.as_ref(), schema) else {
            return (state, Ok(DataRoom::default()));
        };
        let files = &hub.world.files;
        let data = Data::new(files, &hub.layout, &release.component, change.folder.as_ref());
        let transforms = change.from != change.to && transforms(&release);
        let room = data.measure().map_err(|fault| chain(&fault)).map(|measured| {
            let disk = data_disk(hub);
            let apart = !same_disk(&disk, hub.layout.root());
            DataRoom {
                needed: room(&measured, transforms),
                apart: apart.then(|| free_bytes(&disk)),
            }
        });
        (state, room)
    });
    match looked.await {
        Ok(looked) => looked,
        Err(error) => (None, Err(error.to_string())),
    }
}

fn same_disk(one: &std::path::Path, other: &std::path::Path) -> bool {
    let device = |path| {
        std::fs::metadata(path)
            .map(|found| std::os::unix::fs::MetadataExt::dev(&found))
            .ok()
    };
    device(one) == device(other)
}

/// Why a release on this disk does not go together with the others here; none also where its record cannot be read.
pub async fn misfit_here(hub: &Arc<Hub>, component: &Component, digest: Digest) -> Option<String> {
    let (neighbours, _) = surroundings(hub, component).await;
    let hub = Arc::clone(hub);
    let loaded = spawn_blocking(move || stage::load(&hub.world.files, &hub.layout, &digest));
    misfit(&loaded.await.ok()?.ok()?.release, &neighbours)
}

async fn refresh(hub: &Hub) -> Result<(), Verdict> {
    let mut wait = BackOff::new(BACK_OFF_BASE, BACK_OFF_CAP);
    loop {
        match hub.trust.refresh(&hub.manager).await {
            Ok(()) => return Ok(()),
            Err(TrustFault::Fetch(error)) => {
                let pause = wait.next(&*hub.world.random);
                if wait.failures() >= DOWNLOAD_TRIES {
                    return Err(Verdict::Failed(chain(&TrustFault::Fetch(error))));
                }
                sleep(pause).await;
            }
            Err(keep @ TrustFault::Keep(_)) => return Err(Verdict::Failed(chain(&keep))),
            Err(fault) => return Err(Verdict::Refused(chain(&fault))),
        }
    }
}

/// Downloads, verifies and stages a release.
///
/// # Errors
/// [`Unprepared`]; of a release that is at fault nothing is left.
pub async fn prepare(hub: &Arc<Hub>, plan: &Plan, teller: &Teller) -> Result<(), Unprepared> {
    let digest = plan.attempt.to.digest;
    if is_staged(hub, digest).await {
        teller.tell(Step::InstallStarted);
        teller.tell(Step::Staged);
        return Ok(());
    }
    if let Err(error) = fetch(hub, plan, teller).await {
        refuse_file(hub, &error).await;
        // Wrong bytes are the fault of who sent them: the signed release may still come another time.
        return Err(Unprepared {
            reason: chain(&error),
            bad: false,
        });
    }
    let name = format!("{} {}", plan.release.component, plan.release.version);
    hub.bus.say(&messages::DEVICE_DOWNLOADED, &name);
    hub.bus.say(&messages::FILE_VERIFIED, "");
    hub.bus.say(&messages::PREPARE_INSTALL, &name);
    hub.show_activity(&plan.release.component, Activity::Staging);
    teller.tell(Step::InstallStarted);
    put_in_place(hub, plan).await.map_err(|error| Unprepared {
        bad: error.blames_release(),
        reason: chain(&error),
    })?;
    teller.tell(Step::Staged);
    Ok(())
}

/// Whether the release lies there whole, from an earlier attempt.
async fn is_staged(hub: &Arc<Hub>, digest: Digest) -> bool {
    if !hub.layout.release(&digest).is_dir() {
        return false;
    }
    hub.long_work(move |hub| stage::verify(&hub.world.files, &hub.layout, &digest).is_ok())
        .await
        .unwrap_or(false)
}

async fn fetch(hub: &Hub, plan: &Plan, teller: &Teller) -> Result<(), DownloadError> {
    let digest = plan.attempt.to.digest;
    let get = || {
        download(
            &hub.manager,
            &hub.store,
            digest,
            plan.length,
            teller,
            &*hub.world.random,
        )
    };
    match get().await {
        // A power cut can damage the end of a part: once more from the start before anybody is blamed.
        Err(DownloadError::Disk(DiskError::Store(StoreError::WrongDigest {
            resumed_from: 1.., ..
        }))) => get().await,
        other => other,
    }
}

/// What is not what was signed does not stay: the device has no room for evidence.
async fn refuse_file(hub: &Arc<Hub>, error: &DownloadError) {
    let DownloadError::Disk(DiskError::Store(StoreError::WrongDigest { quarantined, .. })) = error else {
        return;
    };
    hub.bus.warn(&messages::FILE_REFUSED, "", &chain(error));
    let Some(path) = quarantined.clone() else { return };
    let hub = Arc::clone(hub);
    if let Ok(Err(error)) = spawn_blocking(move || hub.world.files.remove_file(&path)).await {
        tracing::warn!(target: "drover", error = %chain(&error), "a refused file cannot be removed");
    }
}

async fn put_in_place(hub: &Arc<Hub>, plan: &Plan) -> Result<(), StageError> {
    let (digest, release) = (plan.attempt.to.digest, plan.release.clone());
    let staging = hub.long_work(move |hub| {
        let source = hub.store.path(&digest);
        let staged = stage::stage(&hub.world.files, &hub.layout, &digest, &release, &source);
        // What was unpacked, changed or cannot be unpacked is of no more use here.
        let disk_is_at_fault = staged.as_ref().is_err_and(|error| !error.blames_release());
        if (!disk_is_at_fault || matches!(staged, Err(StageError::Changed)))
            && let Err(error) = hub.store.remove(&digest)
        {
            tracing::warn!(target: "drover", error = %chain(&error), "a downloaded file cannot be removed");
        }
        staged.map(drop)
    });
    match staging.await {
        Ok(staged) => staged,
        Err(error) => Err(StageError::Io {
            action: "stage into",
            path: hub_path_of(&digest),
            source: std::io::Error::other(error),
        }),
    }
}

fn hub_path_of(digest: &Digest) -> std::path::PathBuf {
    std::path::PathBuf::from(digest.to_string())
}
