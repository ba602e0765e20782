//! The package's program that makes one schema of a state of another: started beforehand, so that no start lies in the pause.

use std::io::{Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Instant;

use handoff::State;
use rustix::process::{Pid, Signal, kill_process_group};

use super::Group;
use handoff::Process as _;

/// A transformation that waits for its input.
pub(crate) struct Change {
    child: Child,
    from: u32,
    to: u32,
    name: String,
}

impl Change {
    /// Starts the program; it reads a state of schema `from` from its standard input to the end, and writes one of schema `to`
    /// to its standard output.
    ///
    /// # Errors
    /// Those of the system.
    pub(crate) fn start(mut command: Command, name: String, from: u32, to: u32) -> std::io::Result<Self> {
        command
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let child = command.spawn()?;
        Ok(Self {
            child,
            from,
            to,
            name,
        })
    }

    /// The state in the other schema.
    ///
    /// # Errors
    /// The state is of a third schema; the program fails, writes too much, or is not done by `until`.
    pub(crate) fn of(&mut self, state: &State, until: Instant) -> Result<State, String> {
        if state.schema() != self.from {
            return Err(format!(
                "it is of schema {}, and not {} as its release says",
                state.schema(),
                self.from
            ));
        }
        let bytes = state.bytes().map_err(|error| error.to_string())?;
        let (Some(mut input), Some(output)) = (self.child.stdin.take(), self.child.stdout.take()) else {
            return Err("it was transformed before".to_owned());
        };
        let group = Pid::from_child(&self.child);
        let (done, waits) = mpsc::channel::<()>();
        let made = std::thread::scope(|scope| {
            scope.spawn(move || {
                // A program that does not read all of it is not to blame for that.
                input.write_all(&bytes).ok();
            });
            scope.spawn(move || {
                let left = until.saturating_duration_since(Instant::now());
                if waits.recv_timeout(left) == Err(mpsc::RecvTimeoutError::Timeout) {
                    kill_process_group(group, Signal::KILL).ok();
                }
            });
            let mut made = Vec::new();
            let read = output
                .take(handoff::limits::STATE.saturating_add(1))
                .read_to_end(&mut made);
            let ended = read.and_then(|_| self.child.wait());
            done.send(()).ok();
            ended.map(|status| (status, made))
        });
        match made {
            Ok((status, made)) if status.success() => {
                State::new(self.to, &made).map_err(|error| error.to_string())
            }
            Ok(_) if Instant::now() >= until => Err(format!("{} was not done in time", self.name)),
            Ok((status, _)) => Err(format!("{} failed: {status}", self.name)),
            Err(error) => Err(format!("{}: {error}", self.name)),
        }
    }
}

impl Drop for Change {
    fn drop(&mut self) {
        // Also what it has started itself.
        Group(Pid::from_child(&self.child).as_raw_pid()).end();
        self.child.wait().ok();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn changed(script: &str, patience: Duration) -> Result<Vec<u8>, String> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        let mut change = Change::start(command, "change".into(), 1, 2).unwrap();
        let state = State::new(1, &[b'x'; 200_000]).unwrap();
        let made = change.of(&state, Instant::now() + patience)?;
        assert_eq!(made.schema(), 2);
        Ok(made.bytes().unwrap())
    }

    #[test]
    fn a_state_goes_through_the_program_whatever_its_length() {
        let long = Duration::from_secs(20);
        assert_eq!(changed("tr x y", long).unwrap(), vec![b'y'; 200_000]);
        assert_eq!(
            changed("echo new", long).unwrap(),
            b"new\n",
            "it need not read all"
        );
        assert!(
            changed("cat; exit 3", long)
                .unwrap_err()
                .contains("exit status: 3")
        );
    }

    #[test]
    fn a_program_that_is_not_done_in_time_is_ended_with_all_it_started() {
        let error = changed("sleep 1000 & cat >/dev/null; wait", Duration::from_millis(100)).unwrap_err();
        assert_eq!(error, "change was not done in time");
    }
}
