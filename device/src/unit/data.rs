//! Carrying out what becomes of a component's data: saved, transformed, applied, put back.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;

use protocol::device::Activity;
use release::{Release, State};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tuf::Digest;

use super::prove::turn_away;
use super::{Command, Unit};
use crate::backoff::BackOff;
use crate::data::{self, Data};
use crate::hub::Hub;
use crate::limits::{DISK_RESERVE, KILL_WAIT, PUT_BACK_BASE, PUT_BACK_CAP};
use crate::machine::{DataChange, Happening, Life};
use crate::machine_info::free_bytes;
use crate::order::{data_change, strange_data};
use crate::prepare::surroundings;
use crate::stage;
use crate::supervise::adopt::end_strays;
use crate::supervise::bounds::Bounds;
use crate::supervise::launch::{Launch, Transforming};
use crate::supervise::output::Output;
use crate::supervise::transform::{NotTransformed, Transformation};
use crate::trust::chain;

/// Work on data that was given up; `bad`: the release is to blame.
type Unsaved = NotTransformed;

impl Unit {
    fn data(&self) -> Option<Data> {
        let change = self.slot.data_change()?;
        Some(self.data_of(change))
    }

    fn data_of(&self, change: &DataChange) -> Data {
        let files = &self.hub.world.files;
        Data::new(files, &self.hub.layout, &self.component, change.folder.as_ref())
    }

    /// What going back to a release on this disk makes of the data; why it cannot be.
    pub(super) async fn data_for(&self, to: Digest) -> Result<Option<DataChange>, String> {
        let (_, here) = surroundings(&self.hub, &self.component).await;
        let from = self.slot.current.as_ref().map(|now| now.digest);
        let hub = Arc::clone(&self.hub);
        let loaded = spawn_blocking(move || {
            let load =
                |digest| stage::load(&hub.world.files, &hub.layout, &digest).map(|staged| staged.release);
            let to = load(to).map_err(|error| chain(&error))?;
            Ok::<_, String>((to, from.and_then(|from| load(from).ok())))
        });
        let (release, old) = loaded.await.map_err(|error| error.to_string())??;
        if let Some(reason) = strange_data(&release, here) {
            return Err(format!(
                "{reason}; its own data of before were kept only until the version that runs was committed"
            ));
        }
        Ok(data_change(
            &release,
            old.as_ref().and_then(|old| old.state.as_ref()),
            here,
        ))
    }

    /// The last look before anything is stopped: whether there is room to save the data, as they are by now.
    pub(super) async fn data_objection(&self) -> Option<String> {
        let change = self.slot.data_change()?.clone();
        let data = self.data_of(&change);
        let to = self.slot.attempt.as_ref()?.to.digest;
        let looked = self.hub.long_work(move |hub| {
            let transforms = stage::load(&hub.world.files, &hub.layout, &to)
                .is_ok_and(|staged| change.from != change.to && transforms(&staged.release));
            let measured = data.measure().map_err(|fault| chain(&fault))?;
            let needed = data::room(&measured, transforms).saturating_add(DISK_RESERVE);
            let free = free_bytes(&data_disk(hub));
            if needed > free {
                return Err(format!("the disk has {free} bytes free, {needed} are needed"));
            }
            Ok(())
        });
        let problem = match looked.await {
            Ok(looked) => looked.err(),
            Err(error) => Some(error.to_string()),
        };
        problem.map(|problem| format!("its data cannot be saved: {problem}"))
    }

    /// Copies the data for the new version and lets its own program transform them; none: the agent is to end first.
    pub(super) async fn save_data(&mut self) -> Option<Happening> {
        self.show(Activity::Switching);
        let saving = self.saving();
        let saved = self.without_program(async { saving?.save().await }).await?;
        Some(match saved {
            Ok(()) => Happening::Saved,
            Err(Unsaved { reason, bad }) => {
                tracing::warn!(target: "drover", component = %self.component, reason, "data are not ready for the new version");
                Happening::NotSaved { reason, bad }
            }
        })
    }

    /// Puts the new version's data in place.
    pub(super) async fn apply_data(&mut self) -> Happening {
        // Where a step back could not be written down, the old version runs.
        self.stop_program().await;
        let applied = match self.data() {
            Some(data) => self.hub.long_work(move |_| data.apply()).await,
            None => return Happening::Applied,
        };
        let failed = match applied {
            Ok(Ok(())) => return Happening::Applied,
            Ok(Err(fault)) => chain(&fault),
            Err(error) => error.to_string(),
        };
        Happening::NotApplied {
            reason: format!("the data of the new version could not be put in place: {failed}"),
        }
    }

    /// Puts the old version's data back; tries for as long as it takes, because the old version never runs on others.
    /// None: the agent is to end first.
    pub(super) async fn put_back_data(&mut self) -> Option<Happening> {
        self.show(Activity::RollingBack);
        self.stop_program().await;
        let Some(data) = self.data() else {
            return Some(Happening::Restored);
        };
        end_strays(&data.work(), None, KILL_WAIT).await;
        let hub = Arc::clone(&self.hub);
        let component = self.component.clone();
        self.without_program(async {
            let mut wait = BackOff::new(PUT_BACK_BASE, PUT_BACK_CAP);
            loop {
                let (working, files) = (Arc::clone(&hub), data.clone());
                let failed = match working.long_work(move |_| files.put_back()).await {
                    Ok(Ok(())) => return Happening::Restored,
                    Ok(Err(fault)) => chain(&fault),
                    Err(error) => error.to_string(),
                };
                tracing::error!(target: "drover", %component, failed, "the data of the old version cannot be put back yet: nothing starts until they are");
                hub.show_activity(&component, Activity::Failing);
                sleep(wait.next(&*hub.world.random)).await;
            }
        })
        .await
    }

    /// Whether the data of the version on trial are not there: where a step back could not be written down.
    pub(super) async fn lacks_data(&self) -> bool {
        let Some(data) = self.data().filter(|_| self.slot.life == Life::Trying) else {
            return false;
        };
        let applied = spawn_blocking(move || data.are_applied()).await;
        !applied.unwrap_or(false)
    }

    /// Before anything starts: where an older record of what is installed counts, its data count too.
    pub(super) async fn settle_data(&mut self) {
        let owns = matches!(
            self.slot.life,
            Life::Idle
                | Life::Notified
                | Life::Preparing
                | Life::Staged
                | Life::Switching
                | Life::Saving
                | Life::Ended(_)
        );
        let Some(current) = self.slot.current.as_ref().filter(|_| owns).map(|now| now.digest) else {
            return;
        };
        let kept = self.hub.layout.kept_data(&self.component);
        if !kept.exists() {
            return;
        }
        end_strays(&kept.join("work"), None, KILL_WAIT).await;
        let component = self.component.clone();
        let settled = self
            .hub
            .long_work(move |hub| data::settle(&hub.world.files, &hub.layout, &component, &current));
        match settled.await {
            Ok(Ok(true)) => {
                tracing::warn!(target: "drover", component = %self.component, "data that were set aside for a newer version are back in place");
            }
            Ok(Err(fault)) => {
                tracing::error!(target: "drover", component = %self.component, error = %chain(&fault), "data that were set aside cannot be looked at");
            }
            Ok(Ok(false)) | Err(_) => {}
        }
    }

    /// Removes what was kept of a change that has ended, once its end is on disk; whether that is done.
    pub(super) async fn drop_kept_data(&self) -> bool {
        if self.slot.life != Life::Idle || !self.hub.layout.kept_data(&self.component).exists() {
            return true;
        }
        if !self.hub.generation.is_on_disk() {
            return false;
        }
        let data = Data::new(&self.hub.world.files, &self.hub.layout, &self.component, None);
        end_strays(&data.work(), None, KILL_WAIT).await;
        let dropped = self.hub.long_work(move |_| data.drop_kept());
        if let Ok(Err(fault)) = dropped.await {
            tracing::warn!(target: "drover", component = %self.component, error = %chain(&fault), "data of a change that has ended cannot be removed");
        }
        true
    }

    /// Does something while no program of the component runs and whoever asks is turned away; none when the agent is to
    /// end.
    async fn without_program<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let work_folder = self.data().map(|data| data.work());
        let done = tokio::select! {
            () = self.hub.shutdown.cancelled() => None,
            () = turn_all_away(&mut self.commands, &self.component) => None,
            done = work => Some(done),
        };
        if let Some(folder) = work_folder.filter(|_| done.is_none()) {
            end_strays(&folder, None, KILL_WAIT).await;
        }
        done
    }

    fn saving(&self) -> Result<Saving, Unsaved> {
        let ours = |reason: &str| Unsaved {
            reason: reason.to_owned(),
            bad: false,
        };
        let attempt = self
            .slot
            .attempt
            .as_ref()
            .ok_or_else(|| ours("there is nothing to install"))?;
        let change = attempt
            .data
            .clone()
            .ok_or_else(|| ours("there are no data to save"))?;
        let from = attempt
            .from
            .as_ref()
            .ok_or_else(|| ours("there are no data to save"))?;
        Ok(Saving {
            hub: Arc::clone(&self.hub),
            data: self.data_of(&change),
            output: self.hub.layout.output_of(&self.component),
            to: attempt.to.digest,
            of: from.digest,
            change,
        })
    }
}

/// What making the new version's data takes.
struct Saving {
    hub: Arc<Hub>,
    data: Data,
    output: PathBuf,
    to: Digest,
    of: Digest,
    change: DataChange,
}

impl Saving {
    async fn save(self) -> Result<(), Unsaved> {
        // Of an agent that was killed in the middle of it.
        end_strays(&self.data.work(), None, KILL_WAIT).await;
        let (data, of, to) = (self.data.clone(), self.of, self.to);
        let (copied, release) = self
            .on_disk(move |hub| {
                let copied = data
                    .copy(of, &|| !hub.shutdown.is_cancelled())
                    .map_err(|fault| chain(&fault))?;
                let staged =
                    stage::load(&hub.world.files, &hub.layout, &to).map_err(|fault| chain(&fault))?;
                Ok((copied, staged.release))
            })
            .await?;
        if copied.left_out_count > 0 {
            let named: Vec<String> = copied
                .left_out
                .iter()
                .map(|path| path.display().to_string())
                .collect();
            tracing::info!(target: "drover", component = %release.component, count = copied.left_out_count, names = named.join(", "), "sockets, pipes and devices are not saved");
        }
        if self.change.from != self.change.to {
            self.transform(&release, copied.bytes).await?;
        }
        let data = self.data.clone();
        self.on_disk(move |_| data.finish().map_err(|fault| chain(&fault)))
            .await
    }

    async fn transform(&self, release: &Release, bytes: u64) -> Result<(), Unsaved> {
        let Some(state) = release.state.as_ref() else {
            return Ok(());
        };
        let Some((program, words)) = state.transformer() else {
            return Ok(());
        };
        let device = self.hub.settings.env.get(&release.component);
        let account = self.hub.settings.programs.account(&release.component);
        let account = account.map_err(|reason| Unsaved { reason, bad: false })?;
        let bounds = |limits| Bounds::new(self.hub.world.copier.clone(), account, limits);
        let Some(launch) = Launch::new(&self.hub.layout, &self.to, release, device, bounds) else {
            return Ok(());
        };
        let work = self.data.work();
        let folder = match &state.folder {
            Some(folder) => work.join(folder.as_str()),
            None => work.clone(),
        };
        let (made, folder_of) = (folder.clone(), self.hub.world.files.clone());
        let (given, of) = (launch.bounds().clone(), work.clone());
        self.on_disk(move |_| {
            folder_of
                .create_dir(&made, 0o750)
                .map_err(|fault| chain(&fault))?;
            given.give(&folder_of, &of)
        })
        .await?;
        let transformation = Transformation {
            launch: &launch,
            what: Transforming {
                program: &program,
                words,
                data: &work,
                state: &folder,
                from: self.change.from,
                to: self.change.to,
            },
            seconds: state.transform_seconds,
            output: Output::new(self.output.clone()),
            copier: &self.hub.world.copier,
        };
        transformation.run(|| self.too_much(bytes)).await
    }

    /// Why the program takes too much of the disk, if it does.
    async fn too_much(&self, bytes: u64) -> Option<Unsaved> {
        let data = self.data.clone();
        let looked = self.hub.long_work(move |hub| {
            let free = free_bytes(&data_disk(hub));
            if free < DISK_RESERVE {
                return Some(Unsaved {
                    reason: format!("the disk has {free} bytes left while its data are transformed"),
                    bad: false,
                });
            }
            let fault = data.check_growth(bytes).err()?;
            // What it removes while it is looked at is no fault.
            let gone = matches!(&fault, data::DataFault::Disk(error) if error.is_missing());
            (!gone).then(|| Unsaved {
                reason: format!(
                    "its data take too much when they are transformed: {}",
                    chain(&fault)
                ),
                bad: true,
            })
        });
        looked.await.unwrap_or(None)
    }

    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Hub) -> Result<T, String> + Send + 'static,
    ) -> Result<T, Unsaved> {
        let done = match self.hub.long_work(work).await {
            Ok(done) => done,
            Err(error) => Err(error.to_string()),
        };
        done.map_err(|problem| Unsaved {
            reason: format!("its data cannot be saved: {problem}"),
            bad: false,
        })
    }
}

/// Whether data of another schema are transformed for this release.
pub(crate) fn transforms(release: &Release) -> bool {
    release
        .state
        .as_ref()
        .is_some_and(|state: &State| !state.transform.is_empty())
}

/// A folder on the file system where data lie.
pub(crate) fn data_disk(hub: &Hub) -> PathBuf {
    let data = hub.layout.root().join("data");
    if data.exists() {
        data
    } else {
        hub.layout.root().to_owned()
    }
}

/// Answers what comes while data change; returns when nobody is left to ask.
async fn turn_all_away(commands: &mut mpsc::Receiver<Command>, component: &release::Component) {
    while let Some(command) = commands.recv().await {
        let message =
            format!("the data of {component} are being saved or put back: wait for the end of that");
        turn_away(command, message);
    }
}
