//! From the journal to a state and back, in any layout.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use mqtt_proto::TopicName;

use super::Record;
use crate::layout::{Flights as _, Layout, Subscription as _};
use crate::message::{Delivery, Message};
use crate::state::{Retained, Session, SessionId, State};

/// Bytes of a group when a journal is written anew.
const GROUP: usize = 1024 * 1024;

/// The state that the records of `groups` lead to: nobody is connected.
///
/// # Errors
/// A byte, counted in the records, and what is wrong there.
pub fn replay<L: Layout>(groups: &[&[u8]]) -> Result<State<L>, (usize, &'static str)> {
    let mut replay = Replay::default();
    let mut at = 0;
    for group in groups {
        let mut rest = *group;
        while !rest.is_empty() {
            let (record, next) =
                postcard::take_from_bytes(rest).map_err(|_| (at, "a record does not have its form"))?;
            replay.apply(&record).map_err(|what| (at, what))?;
            at += rest.len() - next.len();
            rest = next;
        }
    }
    Ok(replay.state)
}

struct Replay<L: Layout> {
    state: State<L>,
    messages: HashMap<u64, Arc<Message>>,
}

impl<L: Layout> Default for Replay<L> {
    fn default() -> Self {
        Self {
            state: State::default(),
            messages: HashMap::new(),
        }
    }
}

const NO_SESSION: &str = "a record names a session that is not there";
const NO_MESSAGE: &str = "a record names a message that is not there";
const NO_PACKET: &str = "a record names a packet that is not there";

impl<L: Layout> Replay<L> {
    fn apply(&mut self, record: &Record<'_>) -> Result<(), &'static str> {
        match *record {
            Record::Session { session, client } => {
                self.state.next_session = self.state.next_session.max(session.0 + 1);
                self.state
                    .sessions
                    .insert(session, Session::new(client.into(), false));
            }
            Record::Ended { session } => {
                self.state.remove_session(session).ok_or(NO_SESSION)?;
            }
            Record::Subscribed { session, filter, qos } => {
                let subscriptions = &mut self.session(session)?.subscriptions;
                subscriptions.retain(|old| old.filter() != filter);
                subscriptions.push(L::Subscription::new(filter, qos));
            }
            Record::Unsubscribed { session, filter } => {
                self.session(session)?
                    .subscriptions
                    .retain(|old| old.filter() != filter);
            }
            Record::Taken { session, packet } => {
                self.session(session)?.taken.insert(packet);
            }
            Record::Freed { session, packet } => {
                self.session(session)?.taken.remove(&packet);
            }
            Record::Message { .. } | Record::Retained { .. } | Record::Cleared { .. } => {
                return self.apply_message(record);
            }
            Record::Queued { .. }
            | Record::Sent { .. }
            | Record::Released { .. }
            | Record::WasReleased { .. }
            | Record::Done { .. } => return self.apply_flight(record),
        }
        Ok(())
    }

    fn apply_message(&mut self, record: &Record<'_>) -> Result<(), &'static str> {
        match *record {
            Record::Message {
                message,
                topic,
                payload,
            } => {
                self.state.next_message = self.state.next_message.max(message + 1);
                let topic = TopicName::try_from(topic).map_err(|_| "a message has an impossible topic")?;
                let payload = Bytes::copy_from_slice(payload);
                self.messages.insert(
                    message,
                    Arc::new(Message {
                        id: message,
                        topic,
                        payload,
                    }),
                );
            }
            Record::Retained { message, qos } => {
                let message = self.messages.get(&message).ok_or(NO_MESSAGE)?.clone();
                let topic: &str = &message.topic;
                self.state.retained.insert(
                    topic.into(),
                    Retained {
                        message: message.clone(),
                        qos,
                    },
                );
            }
            Record::Cleared { topic } => {
                self.state.retained.remove(topic);
            }
            _ => {}
        }
        Ok(())
    }

    fn apply_flight(&mut self, record: &Record<'_>) -> Result<(), &'static str> {
        let State { sessions, pool, .. } = &mut self.state;
        match *record {
            Record::Queued {
                session: id,
                message,
                qos,
                retain,
            } => {
                let message = self.messages.get(&message).ok_or(NO_MESSAGE)?.clone();
                find(sessions, id)?
                    .flights
                    .wait(pool, Delivery { message, qos, retain });
            }
            Record::Sent { session: id, packet } => {
                let session = find(sessions, id)?;
                session.last_packet = packet;
                session.flights.send(pool, packet).ok_or(NO_PACKET)?;
            }
            Record::Released { session: id, packet } => {
                let done = find(sessions, id)?.flights.release(pool, packet);
                return if done { Ok(()) } else { Err(NO_PACKET) };
            }
            Record::WasReleased { session: id, packet } => find(sessions, id)?.flights.push_released(packet),
            Record::Done { session: id, packet } => {
                let done = find(sessions, id)?.flights.finish(pool, packet);
                return if done { Ok(()) } else { Err(NO_PACKET) };
            }
            _ => {}
        }
        Ok(())
    }

    fn session(&mut self, id: SessionId) -> Result<&mut Session<L>, &'static str> {
        find(&mut self.state.sessions, id)
    }
}

fn find<L: Layout>(
    sessions: &mut BTreeMap<SessionId, Session<L>>,
    id: SessionId,
) -> Result<&mut Session<L>, &'static str> {
    sessions.get_mut(&id).ok_or(NO_SESSION)
}

/// The fewest records that lead to what of `state` is to be remembered, in groups.
pub fn snapshot<L: Layout>(state: &State<L>) -> Vec<Vec<u8>> {
    let mut out = Snapshot::default();
    for retained in state.retained.values() {
        out.message(&retained.message);
        out.put(&Record::Retained {
            message: retained.message.id,
            qos: retained.qos,
        });
    }
    for (id, session) in state.sessions.iter().filter(|(_, session)| !session.clean) {
        out.session(*id, session);
        session.flights.each(&state.pool, &mut |packet, delivery| {
            out.flight(*id, packet, delivery);
        });
    }
    out.groups.push(out.group);
    out.groups.retain(|group| !group.is_empty());
    out.groups
}

#[derive(Default)]
struct Snapshot {
    groups: Vec<Vec<u8>>,
    group: Vec<u8>,
    messages: HashSet<u64>,
}

impl Snapshot {
    fn put(&mut self, record: &Record<'_>) {
        record.put(&mut self.group);
        if self.group.len() > GROUP {
            self.groups.push(std::mem::take(&mut self.group));
        }
    }

    fn message(&mut self, message: &Message) {
        if self.messages.insert(message.id) {
            self.put(&Record::Message {
                message: message.id,
                topic: &message.topic,
                payload: &message.payload,
            });
        }
    }

    fn session<L: Layout>(&mut self, id: SessionId, session: &Session<L>) {
        self.put(&Record::Session {
            session: id,
            client: &session.client,
        });
        for subscription in &session.subscriptions {
            self.put(&Record::Subscribed {
                session: id,
                filter: subscription.filter(),
                qos: subscription.qos(),
            });
        }
        for packet in &session.taken {
            self.put(&Record::Taken {
                session: id,
                packet: *packet,
            });
        }
    }

    fn flight(&mut self, session: SessionId, packet: Option<u16>, delivery: Option<&Delivery>) {
        if let Some(delivery) = delivery {
            self.message(&delivery.message);
            self.put(&Record::Queued {
                session,
                message: delivery.message.id,
                qos: delivery.qos,
                retain: delivery.retain,
            });
        }
        match (packet, delivery) {
            (Some(packet), Some(_)) => self.put(&Record::Sent { session, packet }),
            (Some(packet), None) => self.put(&Record::WasReleased { session, packet }),
            (None, _) => {}
        }
    }
}
