//! Following updates through the manager's event stream.

use protocol::control::ManagerEvent;
use protocol::{Event, Role, Step};

use crate::process::Program;
use crate::site::Site;

/// A running `manager watch --json`, read event by event; what happened before it was opened comes first.
#[derive(Debug)]
pub struct Follow {
    program: Program,
    at: usize,
    /// Every step so far: devices end in any order.
    steps: Vec<Event>,
    messages: Vec<String>,
}

impl Site {
    /// Follows what happens at this site.
    #[must_use]
    pub fn follow(&self) -> Follow {
        Follow {
            program: self.watch_manager(),
            at: 0,
            steps: Vec::new(),
            messages: Vec::new(),
        }
    }
}

impl Follow {
    /// The next event.
    pub async fn next(&mut self) -> ManagerEvent {
        loop {
            let line = self
                .program
                .wait_line_after(self.at, "the next event", |_| true)
                .await;
            self.at += 1;
            let Ok(event) = serde_json::from_str::<ManagerEvent>(&line) else {
                continue;
            };
            match &event {
                ManagerEvent::Step(step) => self.steps.push(step.clone()),
                ManagerEvent::Message(message) => self.messages.push(message.text.clone()),
            }
            return event;
        }
    }

    /// The next step for which `wanted` is true.
    pub async fn step(&mut self, wanted: impl Fn(&Event) -> bool) -> Event {
        loop {
            if let ManagerEvent::Step(event) = self.next().await
                && wanted(&event)
            {
                return event;
            }
        }
    }

    /// A message whose text contains `words`, said already or to come.
    pub async fn message(&mut self, words: &str) -> String {
        if let Some(text) = self.messages.iter().find(|text| text.contains(words)) {
            return text.clone();
        }
        loop {
            if let ManagerEvent::Message(message) = self.next().await
                && message.text.contains(words)
            {
                return message.text;
            }
        }
    }

    /// How `version` ended on `device`, whether it has already or will.
    pub async fn outcome(&mut self, device: &str, version: &str) -> Event {
        let wanted = |event: &Event| {
            event.actor.role == Role::Device
                && event.actor.name.as_str() == device
                && event.version.to_string() == version
                && event.step.outcome().is_some()
        };
        if let Some(event) = self.steps.iter().find(|event| wanted(event)) {
            return event.clone();
        }
        self.step(wanted).await
    }

    /// Waits until `device` has committed `version`.
    ///
    /// # Panics
    /// If it ends otherwise.
    pub async fn committed(&mut self, device: &str, version: &str) {
        let event = self.outcome(device, version).await;
        assert_eq!(
            event.step,
            Step::Committed,
            "{device} {version}: {:?}",
            event.reason
        );
    }
}
