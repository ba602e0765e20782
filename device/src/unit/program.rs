//! The component's program: started, adopted, stopped, started again.

use std::sync::Arc;
use std::time::Duration;

use protocol::messages;
use release::Release;
use tokio::task::spawn_blocking;
use tokio::time::Instant;
use tuf::Digest;

use super::Unit;
use crate::limits::{FAILING_CAP, LOOP_BREAKER, MAX_STOP, RESTART_CAP, STABLE_AFTER};
use crate::machine::{Installed, Life};
use crate::stage::{self, Staged};
use crate::supervise::adopt::{self, Run, end_strays};
use crate::supervise::bounds::Bounds;
use crate::supervise::health::Check;
use crate::supervise::launch::Launch;
use crate::supervise::output::{Copier, Mark, Output, with_words};
use crate::supervise::process::{Exit, Process};
use crate::trust::chain;

/// Time to stop for a program whose release says nothing of it.
const PATIENCE: Duration = Duration::from_secs(10);

/// A program that runs.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) process: Process,
    pub(super) run: Run,
    pub(super) digest: Digest,
    pub(super) release: Release,
    pub(super) check: Result<Check, String>,
    /// When its proof begins to count.
    pub(super) started: Instant,
    output: Output,
    output_from: Mark,
    /// None if it is gone, or if an agent that knew no copiers started the program.
    pub(super) copier: Option<Copier>,
}

impl Program {
    pub(super) fn patience(&self) -> Duration {
        let run = self.release.run.as_ref();
        let patience = run.map_or(PATIENCE, |run| Duration::from_secs(u64::from(run.stop_seconds)));
        patience.min(MAX_STOP)
    }

    /// Waits a moment for the output of a program that has ended.
    async fn output_done(&self) {
        if let Some(copier) = &self.copier {
            copier.done().await;
        }
    }

    /// A reason with what the program wrote last.
    pub(super) async fn with_last_words(&self, reason: &str) -> String {
        if !self.process.is_alive() {
            self.output_done().await;
        }
        with_words(reason, &self.output.last_words(self.output_from))
    }
}

/// Why a program could not be started.
#[derive(Debug)]
pub(super) struct Unstarted {
    pub(super) reason: String,
    /// Whether this device is to blame: its disk, its memory, its descriptors.
    pub(super) hindered: bool,
}

impl Unstarted {
    pub(super) fn of_release(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            hindered: false,
        }
    }

    pub(super) fn of_device(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            hindered: true,
        }
    }
}

/// Errors of a machine that has run out of something or whose disk fails, whatever is started.
fn is_of_device(error: &std::io::Error) -> bool {
    use rustix::io::Errno;
    let own = [
        Errno::IO,
        Errno::NOSPC,
        Errno::NOMEM,
        Errno::AGAIN,
        Errno::MFILE,
        Errno::NFILE,
        Errno::ROFS,
    ];
    own.iter()
        .any(|own| error.raw_os_error() == Some(own.raw_os_error()))
}

impl Unit {
    /// Starts what the pointer names, unless it runs. A failure waits for the next try.
    pub(super) async fn start_current(&mut self) {
        let current = self.slot.current.clone();
        if !self.swept {
            self.take_over(current.as_ref()).await;
        }
        let Some(current) = current else {
            self.stop_program().await;
            self.say_nothing_runs();
            return;
        };
        if !current.kind.is_supervised() {
            return;
        }
        if self
            .program
            .as_ref()
            .is_some_and(|program| program.digest == current.digest)
        {
            return;
        }
        self.stop_program().await;
        match self.launch(&current).await {
            Ok(program) => {
                self.start_failure = None;
                self.program = Some(program);
            }
            Err(failure) => {
                tracing::warn!(target: "drover", component = %self.component, reason = failure.reason, "cannot start");
                self.start_failure = Some(failure);
                self.start_later(Duration::ZERO);
            }
        }
    }

    /// Takes over the process that an earlier agent started, if it runs what it should; ends all others.
    async fn take_over(&mut self, current: Option<&Installed>) {
        self.swept = true;
        let files = &self.hub.world.files;
        let run = adopt::record(files, &self.hub.layout, &self.component)
            .load()
            .unwrap_or_default();
        let data = self.hub.layout.data(&self.component);
        let mut patience = PATIENCE;
        if let (Some(current), Some(run)) = (current, run)
            && run.digest == current.digest
            && let Some(process) = run.find()
        {
            let staged = stage::load(files, &self.hub.layout, &current.digest).map_err(|error| chain(&error));
            let found = staged.and_then(|staged| Ok((self.launch_of(current, &staged.release)?, staged)));
            match found {
                Ok((launch, staged)) => {
                    tracing::info!(target: "drover", component = %self.component, pid = process.pid(), "goes on running under this agent");
                    let copier = run.find_copier();
                    let unbounded = run.copier.is_none();
                    if let (Some(stand), Some(token)) = (self.stand(current), &run.token) {
                        stand.desk.expect(token);
                    }
                    let program = self.program_of((process, run), staged.release, &launch, copier);
                    patience = program.patience();
                    self.program = Some(program);
                    if unbounded {
                        // An agent that knew no copiers started it: it writes into the file itself, without a bound.
                        tracing::info!(target: "drover", component = %self.component, "is started again: nothing bounds its output");
                        self.stop_program().await;
                        return;
                    }
                }
                Err(error) => {
                    tracing::warn!(target: "drover", error, "cannot take over a running program");
                }
            }
        }
        let spare = self.program.as_ref().map(|program| program.process.pid());
        end_strays(&data, spare, patience).await;
    }

    pub(super) fn launch_of(&self, current: &Installed, release: &Release) -> Result<Launch, String> {
        let device = self.hub.settings.env.get(&self.component);
        let account = self.hub.settings.programs.account(&self.component)?;
        let bounds = |limits| Bounds::new(self.hub.world.copier.clone(), account, limits);
        Launch::new(&self.hub.layout, &current.digest, release, device, bounds)
            .ok_or_else(|| format!("{} {} names no program", self.component, current.version))
    }

    fn program_of(
        &self,
        (process, run): (Process, Run),
        release: Release,
        launch: &Launch,
        copier: Option<Copier>,
    ) -> Program {
        let output = Output::new(self.hub.layout.output_of(&self.component));
        Program {
            check: Check::new(&release.health, launch),
            started: Instant::now(),
            output_from: output.mark(),
            copier,
            process,
            digest: run.digest,
            run,
            release,
            output,
        }
    }

    async fn launch(&mut self, current: &Installed) -> Result<Program, Unstarted> {
        let staged = self.checked(current.digest).await.map_err(Unstarted::of_device)?;
        let program = self.spawn(current, staged.release, false).await?;
        self.record_run(program.run.clone()).await;
        Ok(program)
    }

    /// Starts a program; `takes_over`: beside the one that runs, to take over from it.
    pub(super) async fn spawn(
        &mut self,
        current: &Installed,
        release: Release,
        takes_over: bool,
    ) -> Result<Program, Unstarted> {
        let mut launch = self.launch_of(current, &release).map_err(Unstarted::of_release)?;
        let token = self.stand(current).map(|stand| {
            let token = self.hub.world.random.nonce();
            stand.desk.expect(&token);
            for (name, value) in stand.variables(&token, takes_over) {
                launch.set(name, value);
            }
            token
        });
        let name = format!("{} {}", self.component, current.version);
        self.hub.bus.say(&messages::STARTING, name);
        let files = &self.hub.world.files;
        files
            .create_dir(launch.data(), 0o750)
            .map_err(|error| Unstarted::of_device(chain(&error)))?;
        let (given, files, data) = (launch.bounds().clone(), files.clone(), launch.data().to_owned());
        let giving = spawn_blocking(move || given.give(&files, &data)).await;
        giving
            .map_err(|error| Unstarted::of_device(error.to_string()))?
            .map_err(Unstarted::of_device)?;
        let output = Output::new(self.hub.layout.output_of(&self.component));
        let output_from = output.mark();
        let (copier, pipe) = output
            .copier(&self.hub.world.copier)
            .await
            .map_err(|error| Unstarted::of_device(format!("what it writes cannot be copied: {error}")))?;
        let command = launch
            .command(pipe)
            .map_err(|error| Unstarted::of_device(error.to_string()))?;
        let process = Process::spawn(command).await.map_err(|error| Unstarted {
            reason: launch.explain(&error),
            hindered: is_of_device(&error),
        })?;
        let run = Run {
            token,
            ..Run::of(&process, current.digest, &copier)
        };
        let program = self.program_of((process, run), release, &launch, Some(copier));
        Ok(Program {
            output_from,
            ..program
        })
    }

    /// What lies in the release's folder, checked just before it is started.
    pub(super) async fn checked(&mut self, digest: Digest) -> Result<Staged, String> {
        let fresh = self.verified.take() == Some(digest);
        let hub = Arc::clone(&self.hub);
        let checked = spawn_blocking(move || {
            if fresh {
                stage::load(&hub.world.files, &hub.layout, &digest)
            } else {
                stage::verify(&hub.world.files, &hub.layout, &digest)
            }
        });
        match checked.await {
            Ok(staged) => staged.map_err(|error| chain(&error)),
            Err(error) => Err(error.to_string()),
        }
    }

    pub(super) async fn record_run(&self, run: Run) {
        let record = adopt::record(&self.hub.world.files, &self.hub.layout, &self.component);
        if let Ok(Err(error)) = spawn_blocking(move || record.save(&run)).await {
            // The mark in its environment still finds the process.
            tracing::warn!(target: "drover", error = %chain(&error), "cannot record the process");
        }
    }

    /// Stops the program, if one runs, and everything it started; also what an earlier agent left.
    pub(super) async fn stop_program(&mut self) {
        self.restart_at = None;
        let mut patience = PATIENCE;
        let mut copier = None;
        if let Some(mut program) = self.program.take() {
            patience = program.patience();
            copier = program.copier.take();
            let exit = program.process.stop(patience).await;
            tracing::debug!(target: "drover", component = %self.component, "stopped: {exit}");
        }
        // A process may have left its program's group; its mark finds it.
        self.swept = true;
        end_strays(&self.hub.layout.data(&self.component), None, patience).await;
        if let Some(copier) = copier {
            // Its last words stand before the first of the next program.
            copier.done().await;
        }
    }

    /// The program ended by itself: it is started again, later each time.
    pub(super) async fn program_ended(&mut self, exit: Exit) {
        let Some(program) = self.program.take() else {
            return;
        };
        program.process.clear_group().await;
        let data = self.hub.layout.data(&self.component);
        end_strays(&data, None, program.patience()).await;
        let ran = program.process.since().elapsed();
        let reason = program.with_last_words(&exit.to_string()).await;
        tracing::warn!(target: "drover", component = %self.component, reason, "the program ended");
        self.start_later(ran);
        self.show_resting();
    }

    fn start_later(&mut self, ran: Duration) {
        if ran >= STABLE_AFTER {
            self.wait.reset();
            self.wait.set_cap(RESTART_CAP);
        }
        let pause = self.wait.next(&*self.hub.world.random);
        if self.wait.failures() >= LOOP_BREAKER {
            self.wait.set_cap(FAILING_CAP);
        }
        if !matches!(self.slot.life, Life::Trying) {
            self.restart_at = Some(Instant::now() + pause);
        }
    }
}
