//! A stream of steps and messages from `manager watch --json` or `device watch --json`.

use protocol::control::{LoggedMessage, ManagerEvent};
use protocol::{Event, Outcome, Role, Step, UpdateId};

use crate::process::Program;

/// What is watched, from the kept past on.
#[derive(Debug)]
pub struct Steps {
    program: Program,
}

/// Reads a line of either stream.
fn event(line: &str) -> Option<Event> {
    match serde_json::from_str(line) {
        Ok(ManagerEvent::Step(event)) => Some(event),
        Ok(ManagerEvent::Message(_)) => None,
        Err(_) => serde_json::from_str(line).ok(),
    }
}

impl Steps {
    pub(crate) fn of(program: Program) -> Self {
        Self { program }
    }

    /// The program that prints them.
    #[must_use]
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// The first step, past or to come, for which `wanted` is true.
    ///
    /// # Panics
    /// If it does not come in time.
    pub async fn wait(&self, what: &str, wanted: impl Fn(&Event) -> bool) -> Event {
        self.wait_after(0, what, wanted).await
    }

    /// The first one after a [`Self::mark`].
    ///
    /// # Panics
    /// If it does not come in time.
    pub async fn wait_after(&self, mark: usize, what: &str, wanted: impl Fn(&Event) -> bool) -> Event {
        let line = self
            .program
            .wait_line_after(mark, what, |line| event(line).is_some_and(|e| wanted(&e)))
            .await;
        event(&line).expect("it was one")
    }

    /// A place in the stream.
    #[must_use]
    pub fn mark(&self) -> usize {
        self.program.mark()
    }

    /// Waits for a step of a device for a version.
    ///
    /// # Panics
    /// If it does not come in time.
    pub async fn device(&self, device: &str, step: Step, version: &str) -> Event {
        self.wait(&format!("{device}: {step} {version}"), |event| {
            event.actor.role == Role::Device
                && event.actor.name.as_str() == device
                && event.step == step
                && event.version.to_string() == version
        })
        .await
    }

    /// Waits until an update has ended on a device, and says how and why.
    ///
    /// # Panics
    /// If it does not end in time.
    pub async fn outcome(&self, device: &str, update: UpdateId) -> (Outcome, Option<String>) {
        let event = self
            .wait(&format!("the outcome of {update} on {device}"), |event| {
                event.actor.role == Role::Device
                    && event.actor.name.as_str() == device
                    && event.update == update
                    && event.step.outcome().is_some()
            })
            .await;
        (event.step.outcome().expect("it is one"), event.reason)
    }

    /// Waits for a message with this id.
    ///
    /// # Panics
    /// If it does not come in time.
    pub async fn message(&self, id: &str) -> LoggedMessage {
        self.message_with(id, "").await
    }

    /// Waits for a message with this id that has `part` in its text.
    ///
    /// # Panics
    /// If it does not come in time.
    pub async fn message_with(&self, id: &str, part: &str) -> LoggedMessage {
        let read = |line: &str| match serde_json::from_str(line) {
            Ok(ManagerEvent::Message(message)) => Some(message),
            _ => None,
        };
        let wanted = |line: &str| {
            read(line).is_some_and(|message: LoggedMessage| message.id == id && message.text.contains(part))
        };
        read(
            &self
                .program
                .wait_line(&format!("the message {id} {part}"), wanted)
                .await,
        )
        .expect("it was one")
    }

    /// All steps that have come so far.
    #[must_use]
    pub fn all(&self) -> Vec<Event> {
        self.program.said().lines().filter_map(event).collect()
    }

    /// All messages that have come so far.
    #[must_use]
    pub fn messages(&self) -> Vec<LoggedMessage> {
        self.program
            .said()
            .lines()
            .filter_map(|line| match serde_json::from_str(line) {
                Ok(ManagerEvent::Message(message)) => Some(message),
                _ => None,
            })
            .collect()
    }
}
