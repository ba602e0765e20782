//! The program of a release that makes data of another schema its own: run on a copy, bounded, ended with all it started.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::adopt::end_strays;
use super::launch::{Launch, Transforming};
use super::output::{Output, with_words};
use super::process::{Exit, Process};
use crate::limits::{KILL_WAIT, TRANSFORM_LOOK};

/// Why data could not be transformed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotTransformed {
    /// What it did, with its last words.
    pub reason: String,
    /// Whether the release is to blame.
    pub bad: bool,
}

/// What running a transformation takes.
#[derive(Debug)]
pub struct Transformation<'a> {
    /// How the release's programs are called.
    pub launch: &'a Launch,
    /// What is called, and where.
    pub what: Transforming<'a>,
    /// Seconds in which it ends.
    pub seconds: u32,
    /// Where it writes.
    pub output: Output,
    /// The program that copies what it writes.
    pub copier: &'a std::path::Path,
}

impl Transformation<'_> {
    /// Runs it to its end; nothing of it is left then. `too_much`: asked now and then whether it takes too much of the
    /// disk, and why, and whether that is the release's fault.
    ///
    /// # Errors
    /// [`NotTransformed`]: it could not be started, failed, was too slow or took too much.
    pub async fn run<F>(&self, too_much: impl Fn() -> F) -> Result<(), NotTransformed>
    where
        F: Future<Output = Option<NotTransformed>>,
    {
        let ours = |error: std::io::Error| NotTransformed {
            reason: format!("its data cannot be transformed: {error}"),
            bad: false,
        };
        let from = self.output.mark();
        let (copier, pipe) = self.output.copier(self.copier).await.map_err(ours)?;
        let command = self.launch.transform_command(&self.what, pipe).map_err(ours)?;
        let process = Process::spawn(command).await.map_err(|error| {
            let program = self.what.program;
            NotTransformed {
                reason: format!("{program}, which is to transform its data, cannot be started: {error}"),
                // No process or memory left is nobody's fault.
                bad: error.kind() != std::io::ErrorKind::WouldBlock
                    && error.kind() != std::io::ErrorKind::OutOfMemory,
            }
        })?;
        let ended = self.watch(&process, too_much).await;
        if ended.is_err() {
            process.stop(Duration::ZERO).await;
        } else {
            process.clear_group().await;
        }
        end_strays(self.what.data, None, KILL_WAIT).await;
        copier.done().await;
        ended.map_err(|failure| {
            let reason = with_words(&failure.reason, &self.output.last_words(from));
            NotTransformed { reason, ..failure }
        })
    }

    async fn watch<F>(&self, process: &Process, too_much: impl Fn() -> F) -> Result<(), NotTransformed>
    where
        F: Future<Output = Option<NotTransformed>>,
    {
        let program = self.what.program;
        let blame = |how: String| NotTransformed {
            reason: format!("{program}, which is to transform its data: {how}"),
            bad: true,
        };
        let deadline = Instant::now() + Duration::from_secs(u64::from(self.seconds));
        loop {
            let pause = TRANSFORM_LOOK.min(deadline.saturating_duration_since(Instant::now()));
            tokio::select! {
                exit = process.ended() => break match exit {
                    Exit::Code(0) => Ok(()),
                    other => Err(blame(other.to_string())),
                },
                () = sleep(pause) => {}
            }
            if Instant::now() >= deadline {
                return Err(blame(format!("it did not end within {} s", self.seconds)));
            }
            if let Some(failure) = too_much().await {
                return Err(failure);
            }
        }?;
        // Also what a quick one made.
        too_much().await.map_or(Ok(()), Err)
    }
}
