//! All that the broker knows, as one value: what an update moves from the old process to the new one.
//!
//! Where things lie in it is the business of its [`Layout`], which is what the versions differ in. What can be
//! worked out again (who subscribes to a topic, which session a client has) is not part of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use mqtt_proto::TopicName;
use serde::{Deserialize, Serialize};

use crate::layout::{Flights, Layout, Place};
use crate::message::{Delivery, Message, Qos};

/// A connection; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ConnectionId(pub u64);

/// A session; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionId(pub u32);

/// The broker's whole state in the layout `L`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct State<L: Layout> {
    /// The next connection's number.
    pub next_connection: u64,
    /// The next session's number.
    pub next_session: u32,
    /// The next message's number.
    pub next_message: u64,
    /// Connections.
    pub links: BTreeMap<ConnectionId, Link>,
    /// Sessions, connected or not.
    pub sessions: BTreeMap<SessionId, Session<L>>,
    /// What the layout keeps about the places of all sessions.
    pub places: <L::Place as Place>::Shared,
    /// What the layout keeps about the deliveries of all sessions.
    pub pool: <L::Flights as Flights>::Shared,
    /// The retained message of each topic that has one.
    pub retained: BTreeMap<Arc<str>, Retained>,
}

/// A connection and every byte of it that is on its way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Link {
    /// Whose it is, once it has said so.
    pub session: Option<SessionId>,
    /// Taken from the kernel and not yet understood: less than a packet.
    pub input: BytesMut,
    /// Said and not yet given to the kernel.
    pub output: BytesMut,
    /// Milliseconds of silence after which it is dead; 0 for never.
    pub patience: u64,
    /// When something was last heard, in milliseconds of the machine's monotonic clock.
    pub heard: u64,
    /// What to publish when it dies.
    pub will: Option<Will>,
}

/// What a client wants to be said when it dies. (MQTT 3.1.1, 3.1.2.5)
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Will {
    /// Where.
    #[serde(with = "crate::message::topic_name")]
    pub topic: TopicName,
    /// What.
    pub payload: Bytes,
    /// How surely.
    pub qos: Qos,
    /// Whether it is to be retained.
    pub retain: bool,
}

/// The last message of a topic that asked to be kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Retained {
    /// The message.
    pub message: Arc<Message>,
    /// How surely it was published.
    pub qos: Qos,
}

/// What is remembered of a client. (MQTT 3.1.1, 3.1.2.4)
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Session<L: Layout> {
    /// The client's name.
    pub client: Arc<str>,
    /// It ends with its connection, and is not kept on the disk.
    pub clean: bool,
    /// What it wants to hear.
    pub subscriptions: Vec<L::Subscription>,
    /// What the layout keeps here about where it is connected.
    pub place: L::Place,
    /// Packets of QoS 2 taken from it and not yet released.
    pub taken: BTreeSet<u16>,
    /// The last packet number given to a delivery.
    pub last_packet: u16,
    /// What is on its way to it.
    pub flights: L::Flights,
}

impl<L: Layout> Default for State<L> {
    fn default() -> Self {
        Self {
            next_connection: 1,
            next_session: 1,
            next_message: 1,
            links: BTreeMap::new(),
            sessions: BTreeMap::new(),
            places: Default::default(),
            pool: Default::default(),
            retained: BTreeMap::new(),
        }
    }
}

impl Link {
    /// A connection that has said nothing yet.
    pub fn new(now: u64) -> Self {
        Self {
            session: None,
            input: BytesMut::new(),
            output: BytesMut::new(),
            patience: crate::limits::CONNECT_MILLIS,
            heard: now,
            will: None,
        }
    }
}

impl<L: Layout> Session<L> {
    /// A session of a client that is not connected yet.
    pub fn new(client: Arc<str>, clean: bool) -> Self {
        Self {
            client,
            clean,
            subscriptions: Vec::new(),
            place: Default::default(),
            taken: BTreeSet::new(),
            last_packet: 0,
            flights: Default::default(),
        }
    }

    /// The next number that no delivery uses. There is one: a window is far smaller than their count.
    pub(crate) fn next_packet(&mut self) -> u16 {
        loop {
            self.last_packet = self.last_packet.checked_add(1).unwrap_or(1);
            if self.flights.stage(self.last_packet).is_none() {
                return self.last_packet;
            }
        }
    }
}

impl<L: Layout> State<L> {
    /// Where a session is connected.
    pub fn place(&self, id: SessionId) -> Option<ConnectionId> {
        self.sessions.get(&id)?.place.get(&self.places, id)
    }

    /// Notes where a session is connected.
    pub(crate) fn set_place(&mut self, id: SessionId, connection: Option<ConnectionId>) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.place.set(&mut self.places, id, connection);
        }
    }

    /// Takes a session out, with all that the layout keeps of it.
    pub(crate) fn remove_session(&mut self, id: SessionId) -> Option<Session<L>> {
        let mut session = self.sessions.remove(&id)?;
        session.place.set(&mut self.places, id, None);
        session.flights.clear(&mut self.pool);
        Some(session)
    }

    /// A new message.
    pub(crate) fn message(&mut self, topic: TopicName, payload: Bytes) -> Arc<Message> {
        let id = self.next_message;
        self.next_message += 1;
        Arc::new(Message { id, topic, payload })
    }

    /// Every delivery of a session in the order of its messages: the packet number and how far it is, if it was
    /// sent. A delivery whose message the receiver has is `None`.
    pub fn deliveries(&self, session: &Session<L>) -> Vec<(Option<u16>, Option<Delivery>)> {
        let mut found = Vec::new();
        session.flights.each(&self.pool, &mut |packet, delivery| {
            found.push((packet, delivery.cloned()));
        });
        found
    }
}
