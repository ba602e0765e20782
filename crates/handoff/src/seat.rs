//! One unit of an update: what its two programs have said, and what it has in hand for them.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::message::brief;
use crate::update::{Ended, Successor, Transform, Unit};
use crate::{Error, Guest, Message, Packet, State, limits};

pub(crate) struct Seat {
    pub(crate) name: String,
    pub(crate) transform: Option<Transform>,
    pub(crate) old: Option<Guest>,
    pub(crate) new: Option<Successor>,
    pub(crate) given: Given,
    pub(crate) asked: Option<Instant>,
    pub(crate) stilled: Option<Duration>,
    pub(crate) alive: bool,
    pub(crate) serving: bool,
    pub(crate) pause: Option<Duration>,
}

/// What the old program has given so far.
#[derive(Default)]
pub(crate) struct Given {
    pub(crate) descriptors: Vec<OwnedFd>,
    pub(crate) state: Option<State>,
    pub(crate) stopped_ns: u64,
}

/// Why an update does not come about.
pub(crate) enum Fault {
    Refused {
        unit: String,
        reason: String,
        again: Option<Duration>,
    },
    Failed(String),
    /// The same, and the new version is to blame.
    NewFailed(String),
}

impl Seat {
    pub(crate) fn new(unit: Unit) -> Self {
        Self {
            name: unit.name,
            transform: unit.transform,
            old: Some(unit.old),
            new: None,
            given: Given::default(),
            asked: None,
            stilled: None,
            alive: false,
            serving: false,
            pause: None,
        }
    }

    /// What became of it.
    pub(crate) fn into_ended(self) -> Ended {
        Ended {
            name: self.name,
            old: self.old,
            new: self.new,
            stilled: self.stilled,
            pause: self.pause,
        }
    }

    pub(crate) fn fault(&self, what: &str, reason: &str) -> Fault {
        Fault::Failed(format!("{} {what}: {reason}", self.name))
    }

    pub(crate) fn new_fault(&self, what: &str, reason: &str) -> Fault {
        Fault::NewFailed(format!("{} {what}: {reason}", self.name))
    }

    pub(crate) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let old = self.old.iter().map(|old| old.channel.as_fd());
        old.chain(self.new.iter().map(|new| new.guest.channel.as_fd()))
    }

    pub(crate) fn tell_old(&self, message: &Message) {
        if let Some(old) = &self.old {
            old.channel.try_send(message, &[]).ok();
        }
    }

    pub(crate) fn tell_new(&self, message: &Message) {
        if let Some(new) = &self.new {
            new.guest.channel.try_send(message, &[]).ok();
        }
    }

    /// Listens to the old program as long as it has something to say. Once it has given everything its end changes nothing.
    pub(crate) fn hear_old(&mut self, update: &str) -> Result<(), Fault> {
        while let Some(old) = &self.old {
            match packet(&old.channel) {
                Ok(None) => return Ok(()),
                Ok(Some(packet)) => self.heed_old(update, packet)?,
                Err(error) => {
                    self.old = None;
                    if self.given.stopped_ns == 0 && !self.alive {
                        return Err(self.fault("has ended", &told(&error)));
                    }
                }
            }
        }
        Ok(())
    }

    fn heed_old(&mut self, update: &str, packet: Packet) -> Result<(), Fault> {
        match packet.message {
            Message::Refuse {
                update: of,
                reason,
                again_ms,
            } if of == update => Err(Fault::Refused {
                unit: self.name.clone(),
                reason: brief(&reason),
                again: again_ms.map(Duration::from_millis),
            }),
            Message::Descriptors { update: of } if of == update => {
                if self.given.descriptors.len() + packet.descriptors.len() > limits::DESCRIPTORS {
                    return Err(self.fault("gives too much", "too many descriptors"));
                }
                self.given.descriptors.extend(packet.descriptors);
                Ok(())
            }
            Message::Ready {
                update: of,
                schema,
                length,
                descriptors,
                stopped_ns,
            } if of == update => {
                let Some(fd) = packet.descriptors.into_iter().next() else {
                    return Err(self.fault("gives nothing", "there is no state beside its words"));
                };
                if u64::try_from(self.given.descriptors.len()) != Ok(descriptors) {
                    return Err(self.fault("gives too little", "not all of its descriptors have arrived"));
                }
                let state = State::received(schema, length, fd);
                self.given.state = Some(state.map_err(|error| self.fault("gives no state", &told(&error)))?);
                self.given.stopped_ns = stopped_ns.max(1);
                self.stilled = self.asked.map(|asked| asked.elapsed());
                Ok(())
            }
            // Of an update before this one, or of a later protocol.
            _ => Ok(()),
        }
    }

    /// Listens to the new program; whether it said anything. One that has ended is none.
    pub(crate) fn hear_new(&mut self, update: &str) -> Result<bool, Fault> {
        let mut heard = false;
        while let Some(new) = &self.new {
            match packet(&new.guest.channel) {
                Ok(None) => return Ok(heard),
                Ok(Some(packet)) => {
                    heard = true;
                    self.heed_new(update, packet.message)?;
                }
                Err(_) if self.serving => return Ok(heard),
                Err(error) => {
                    if let Some(mut new) = self.new.take() {
                        new.process.end();
                    }
                    return Err(self.new_fault("did not come alive", &told(&error)));
                }
            }
        }
        Ok(heard)
    }

    fn heed_new(&mut self, update: &str, message: Message) -> Result<(), Fault> {
        match message {
            Message::Alive { update: of } if of == update => self.alive = true,
            Message::Serving { update: of, began_ns } if of == update => {
                self.serving = true;
                if let Some(new) = &mut self.new {
                    new.guest.serving = true;
                }
                let pause = began_ns.saturating_sub(self.given.stopped_ns);
                self.pause = Some(Duration::from_nanos(pause));
            }
            Message::Failed { update: of, reason } if of == update => {
                return Err(self.new_fault("cannot take over", &brief(&reason)));
            }
            _ => {}
        }
        Ok(())
    }
}

fn packet(channel: &crate::Channel) -> Result<Option<Packet>, Error> {
    match channel.try_recv() {
        Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::WouldBlock => Ok(None),
        other => other.map(Some),
    }
}

/// An error with what caused it.
pub(crate) fn told(error: &Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
