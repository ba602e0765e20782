//! A component that an update module installs: its states, called as the install life says.

use std::future::Future;
use std::path::PathBuf;
use std::process::Command as Program;
use std::sync::Arc;
use std::time::Duration;

use protocol::Step;
use protocol::device::Activity;
use release::{Component, ModuleName};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use super::prove::turn_away;
use super::{Command, Unit};
use crate::limits::{MODULE_STOP, REBOOT_TIME};
use crate::machine::{Happening, Life, Phase, Reboot};
use crate::stage;
use crate::supervise::adopt::end_strays;
use crate::supervise::module::{Work, yes};
use crate::supervise::process::{Exit, Process};
use crate::supervise::tree::{Given, artifact_name, make_tree};
use crate::trust::chain;

impl Unit {
    /// Makes the module's tree and lets it have its files; none: the agent is to end first.
    pub(super) async fn fetch_for_module(&mut self) -> Option<Happening> {
        self.show(Activity::Switching);
        // Of a start that was cut off in the middle of this.
        self.clean_up().await;
        let work = self.work();
        let fetching = self.fetching();
        let fetched = self
            .beside(async {
                let (work, fetching) = (work?, fetching?);
                fetching.fetch(&work).await
            })
            .await?;
        Some(match fetched {
            Ok(undoes) => Happening::Fetched { undoes },
            Err(reason) => Happening::NotCleared { reason },
        })
    }

    /// Calls the module for the phase that the life is in; none: the agent is to end first.
    pub(super) async fn call_module(&mut self) -> Option<Happening> {
        let Life::Module(phase) = self.slot.life else {
            return None;
        };
        let forward = matches!(
            phase,
            Phase::Install | Phase::Reboot | Phase::Verify | Phase::Commit
        );
        self.show(if forward {
            Activity::Switching
        } else {
            Activity::RollingBack
        });
        if let Some(teller) = self.teller.as_ref().filter(|_| phase == Phase::Install) {
            teller.tell(Step::Switched);
        }
        self.end_older_calls().await;
        let work = self.work();
        let reboot = self.hub.settings.modules.reboot.clone();
        let wanted = self.slot.answers().reboot;
        let called = self
            .beside(async {
                match phase {
                    Phase::Reboot | Phase::UndoReboot if wanted == Reboot::Automatic => {
                        reboot_machine(&reboot).await.map(|()| Reboot::No)
                    }
                    Phase::Install => install(&work?, !reboot.is_empty()).await,
                    _ => work?.call(phase.state()).await.map(|()| Reboot::No),
                }
            })
            .await?;
        Some(match called {
            Ok(reboot) => Happening::Did { reboot },
            Err(reason) => {
                tracing::warn!(target: "drover", component = %self.component, reason, "an update module failed");
                Happening::DidNot { reason }
            }
        })
    }

    /// Lets the module clean up and removes what it was given; nothing, if it was given nothing.
    pub(super) async fn clean_up(&mut self) {
        let tree = self.tree();
        if !tree.is_dir() {
            return;
        }
        self.end_older_calls().await;
        let cleaned = match self.work() {
            Ok(work) => work.call("Cleanup").await,
            Err(reason) => Err(reason),
        };
        if let Err(reason) = cleaned {
            tracing::warn!(target: "drover", component = %self.component, reason, "an update module did not clean up");
        }
        let hub = Arc::clone(&self.hub);
        let removed = spawn_blocking(move || hub.world.files.remove_tree(&tree)).await;
        if let Ok(Err(error)) = removed {
            tracing::warn!(target: "drover", error = %chain(&error), "what a module was given cannot be removed");
        }
    }

    /// Does something with the module while others who ask are turned away; none, with all of the module's
    /// processes ended, when the agent is to end.
    async fn beside<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let done = tokio::select! {
            () = self.hub.shutdown.cancelled() => None,
            () = turn_all_away(&mut self.commands, &self.component) => None,
            done = work => Some(done),
        };
        if done.is_none() {
            end_strays(&self.tree(), None, MODULE_STOP).await;
        }
        done
    }

    /// An earlier agent's call may still run: two never work on the same tree.
    async fn end_older_calls(&mut self) {
        if !std::mem::replace(&mut self.calls_swept, true) {
            end_strays(&self.tree(), None, MODULE_STOP).await;
        }
    }

    fn tree(&self) -> PathBuf {
        self.hub.layout.module_tree(&self.component)
    }

    /// The module of the change under way, sought anew for each call.
    fn work(&self) -> Result<Work, String> {
        let modules = &self.hub.settings.modules;
        let name = self.module().ok_or("no update module installs this")?;
        Ok(Work {
            program: modules.find(&name).map_err(|fault| chain(&fault))?,
            name,
            tree: self.tree(),
            output: self.hub.layout.output_of(&self.component),
            copier: self.hub.world.copier.clone(),
            limit: Duration::from_secs(modules.seconds),
        })
    }

    fn module(&self) -> Option<ModuleName> {
        self.slot.attempt.as_ref()?.to.kind.module().cloned()
    }

    fn fetching(&self) -> Result<Fetching, String> {
        let attempt = self.slot.attempt.as_ref().ok_or("there is nothing to install")?;
        let current = self.slot.current.as_ref();
        Ok(Fetching {
            hub: Arc::clone(&self.hub),
            digest: attempt.to.digest,
            current: current.map(|now| artifact_name(&self.component, &now.version)),
        })
    }
}

/// What making a tree takes.
struct Fetching {
    hub: Arc<crate::hub::Hub>,
    digest: tuf::Digest,
    current: Option<String>,
}

impl Fetching {
    /// Makes the tree and lets the module have the files; whether it can roll back.
    async fn fetch(self, work: &Work) -> Result<bool, String> {
        let (hub, digest) = (Arc::clone(&self.hub), self.digest);
        let (name, tree, current) = (work.name.clone(), work.tree.clone(), self.current);
        let making = self.hub.long_work(move |hub| {
            let staged =
                stage::load(&hub.world.files, &hub.layout, &digest).map_err(|fault| chain(&fault))?;
            let given = Given {
                release: staged.release.clone(),
                module: name,
                current,
                hardware: hub.settings.hardware.clone(),
            };
            let made = make_tree(&hub.world.files, &tree, &given);
            made.map_err(|fault| chain(&fault)).map(|()| staged)
        });
        let staged = making.await.map_err(|error| error.to_string())??;
        let undoes = yes(&work.ask("SupportsRollback").await?, "SupportsRollback")?;
        let payload = hub.layout.release(&digest).join("payload");
        work.download(&hub.world.files, &payload, &staged.files).await?;
        Ok(undoes)
    }
}

/// `ArtifactInstall`, and what then has to be rebooted.
async fn install(work: &Work, may_reboot: bool) -> Result<Reboot, String> {
    work.call(Phase::Install.state()).await?;
    match work.ask("NeedsArtifactReboot").await?.as_str() {
        "No" | "" => Ok(Reboot::No),
        "Yes" => Ok(Reboot::Yes),
        "Automatic" if may_reboot => Ok(Reboot::Automatic),
        "Automatic" => Err(format!(
            "the update module {} wants this machine rebooted, which is not allowed here: see `reboot` in [modules] of \
             device.toml",
            work.name
        )),
        other => Err(format!(
            "NeedsArtifactReboot is answered with {other:?}, none of No, Yes and Automatic"
        )),
    }
}

/// Reboots the machine; returns only if that does not happen.
async fn reboot_machine(words: &[String]) -> Result<(), String> {
    let (program, args) = words
        .split_first()
        .ok_or("this machine is not to be rebooted: see `reboot` in [modules] of device.toml")?;
    let mut command = Program::new(program);
    command.args(args).stdin(std::process::Stdio::null());
    let cannot = |error| format!("the machine cannot be rebooted by {program}: {error}");
    let process = Process::spawn(command).await.map_err(cannot)?;
    match timeout(REBOOT_TIME, process.ended()).await {
        Ok(Exit::Code(0)) => {}
        Ok(exit) => return Err(format!("{program} was to reboot the machine: {exit}")),
        Err(_) => {
            process.stop(MODULE_STOP).await;
        }
    }
    sleep(REBOOT_TIME).await;
    Err(format!(
        "the machine did not go down within {} s of {program}",
        REBOOT_TIME.as_secs()
    ))
}

/// Answers what comes while a module works; returns when nobody is left to ask.
async fn turn_all_away(commands: &mut mpsc::Receiver<Command>, component: &Component) {
    while let Some(command) = commands.recv().await {
        let message = format!("{component} is being installed by its update module: wait for its end");
        turn_away(command, message);
    }
}
