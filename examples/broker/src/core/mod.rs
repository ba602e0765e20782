//! The broker without I/O: bytes of clients in, bytes for clients and records for the journal out.
//!
//! Whoever runs it puts what the kernel gave into [`Link::input`], calls [`Broker::received`], puts the
//! [records](Broker::records) on the disk, and only then gives each [`Link::output`] to the kernel: so no
//! client is told of anything that a power cut could take back.

mod connect;
mod deliver;
mod publish;
mod subscribe;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use bytes::BytesMut;
use mqtt_proto::v3::Packet;

use crate::journal::Record;
use crate::layout::{Layout, Stage, Subscription as _};
use crate::limits;
use crate::message::Qos;
use crate::state::{ConnectionId, Link, SessionId, State};
use crate::topic::Topics;
use crate::wire::{self, Malformed};

/// What happened, counted since the start of the process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Messages taken from publishers.
    pub published: u64,
    /// Messages put on the way to a subscriber.
    pub delivered: u64,
    /// Deliveries left out because too many waited.
    pub left_out: u64,
}

/// A connection that is over: what is still to be said to it, as far as it listens.
#[derive(Debug)]
pub struct Closed {
    /// Which.
    pub connection: ConnectionId,
    /// Last bytes.
    pub output: BytesMut,
    /// Why, in words for the log; `None` if the client said goodbye.
    pub why: Option<Why>,
}

/// Why the broker ended a connection.
#[derive(Debug, thiserror::Error)]
pub enum Why {
    /// The kernel said so.
    #[error("the connection broke")]
    Lost,
    /// Nothing heard for one and a half times its keep-alive, or no CONNECT.
    #[error("nothing heard from it for too long")]
    Silent,
    /// Not MQTT.
    #[error("{0}")]
    Malformed(#[from] Malformed),
    /// Valid packets in an order that is not.
    #[error("{0}")]
    Protocol(&'static str),
    /// CONNECT refused.
    #[error("refused: {0}")]
    Refused(&'static str),
    /// The same client connected again. (MQTT 3.1.1, 3.1.4-2)
    #[error("the client connected again")]
    TakenOver,
    /// It takes nothing.
    #[error("it does not read what it is sent")]
    Full,
}

/// The broker in the layout `L`.
#[derive(Debug)]
pub struct Broker<L: Layout> {
    state: State<L>,
    topics: Topics,
    clients: HashMap<Arc<str>, SessionId>,
    records: Vec<u8>,
    touched: BTreeSet<ConnectionId>,
    closed: Vec<Closed>,
    counters: Counters,
    /// Kept to reuse its memory.
    matching: Vec<(SessionId, Qos)>,
}

impl<L: Layout> Broker<L> {
    /// A broker that goes on from `state`.
    pub fn new(state: State<L>) -> Self {
        let mut topics = Topics::default();
        let mut clients = HashMap::new();
        for (id, session) in &state.sessions {
            clients.insert(session.client.clone(), *id);
            for subscription in &session.subscriptions {
                topics.insert(subscription.filter(), *id, subscription.qos());
            }
        }
        // What was not written by the one before is to be written.
        let touched = state
            .links
            .iter()
            .filter(|(_, link)| !link.output.is_empty())
            .map(|(id, _)| *id)
            .collect();
        Self {
            state,
            topics,
            clients,
            records: Vec::new(),
            touched,
            closed: Vec::new(),
            counters: Counters::default(),
            matching: Vec::new(),
        }
    }

    /// Everything it knows.
    pub fn state(&self) -> &State<L> {
        &self.state
    }

    /// Everything it knows, to be given away.
    pub fn into_state(self) -> State<L> {
        self.state
    }

    /// What happened so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Records that are not in the journal yet. Their encoding is [`crate::journal`]'s.
    pub fn records(&self) -> &[u8] {
        &self.records
    }

    /// Says that all records are in the journal.
    pub fn recorded(&mut self) {
        self.records.clear();
    }

    /// Connections with something new to be written to them.
    pub fn take_touched(&mut self) -> BTreeSet<ConnectionId> {
        std::mem::take(&mut self.touched)
    }

    /// Connections that are over.
    pub fn take_closed(&mut self) -> Vec<Closed> {
        std::mem::take(&mut self.closed)
    }

    /// A connection's buffers.
    pub fn link(&mut self, connection: ConnectionId) -> Option<&mut Link> {
        self.state.links.get_mut(&connection)
    }

    /// A new connection; `None` if there are too many.
    pub fn accept(&mut self, now: u64) -> Option<ConnectionId> {
        if self.state.links.len() >= limits::CONNECTIONS {
            return None;
        }
        let id = ConnectionId(self.state.next_connection);
        self.state.next_connection += 1;
        self.state.links.insert(id, Link::new(now));
        Some(id)
    }

    /// Works on what has come into a connection's input.
    pub fn received(&mut self, id: ConnectionId, now: u64) {
        let Some(link) = self.state.links.get_mut(&id) else {
            return;
        };
        link.heard = now;
        let mut input = std::mem::take(&mut link.input);
        let mut at = 0;
        let end = loop {
            match wire::first(input.get(at..).unwrap_or_default()) {
                Ok(None) => break Ok(()),
                Ok(Some((packet, length))) => {
                    at += length;
                    if let Err(end) = self.packet(id, packet) {
                        break Err(end);
                    }
                }
                Err(malformed) => {
                    self.refuse_version(id, &malformed);
                    break Err(End::Bad(malformed.into()));
                }
            }
        };
        match end {
            Err(End::Goodbye) => self.close(id, None),
            Err(End::Bad(why)) => self.close(id, Some(why)),
            Ok(()) => {
                let _ = input.split_to(at);
                if let Some(link) = self.state.links.get_mut(&id) {
                    link.input = input;
                }
            }
        }
    }

    /// The kernel says that a connection is over.
    pub fn lost(&mut self, id: ConnectionId) {
        self.close(id, Some(Why::Lost));
    }

    /// Ends connections that have been silent for too long, or that take nothing.
    pub fn tick(&mut self, now: u64) {
        let ends = self.state.links.iter().filter_map(|(id, link)| {
            if link.patience > 0 && now.saturating_sub(link.heard) > link.patience {
                Some((*id, Why::Silent))
            } else if link.output.len() > limits::OUTPUT_BYTES {
                Some((*id, Why::Full))
            } else {
                None
            }
        });
        for (id, why) in ends.collect::<Vec<_>>() {
            self.close(id, Some(why));
        }
    }

    fn packet(&mut self, id: ConnectionId, packet: Packet) -> Result<(), End> {
        let session = self.state.links.get(&id).and_then(|link| link.session);
        match (packet, session) {
            (Packet::Connect(connect), None) => self.connect(id, &connect),
            (_, None) => Err(End::protocol("the first packet is no CONNECT")),
            (Packet::Connect(_), Some(_)) => Err(End::protocol("a second CONNECT")),
            (packet, Some(session)) => self.packet_of(id, session, packet),
        }
    }

    fn packet_of(&mut self, id: ConnectionId, session: SessionId, packet: Packet) -> Result<(), End> {
        match packet {
            Packet::Publish(publish) => self.published(id, session, publish)?,
            Packet::Puback(pid) => self.acknowledged(session, pid.value(), Stage::Sent(Qos::AtLeastOnce)),
            Packet::Pubcomp(pid) => self.acknowledged(session, pid.value(), Stage::Released),
            Packet::Pubrec(pid) => self.received_by(id, session, pid.value()),
            Packet::Pubrel(pid) => self.released_by(id, session, pid.value()),
            Packet::Subscribe(subscribe) => self.subscribe(id, session, &subscribe),
            Packet::Unsubscribe(unsubscribe) => self.unsubscribe(id, session, &unsubscribe),
            Packet::Pingreq => self.say(id, &Packet::Pingresp),
            Packet::Disconnect => return Err(End::Goodbye),
            _ => return Err(End::protocol("a packet that only a broker sends")),
        }
        Ok(())
    }

    /// Ends a connection. Its will is published unless the client said goodbye. (MQTT 3.1.1, 3.1.2.5)
    fn close(&mut self, id: ConnectionId, why: Option<Why>) {
        let Some(link) = self.state.links.remove(&id) else {
            return;
        };
        if let Some(session) = link.session {
            self.state.set_place(session, None);
            if self
                .state
                .sessions
                .get(&session)
                .is_some_and(|session| session.clean)
            {
                self.end_session(session);
            }
        }
        let spoken = why.is_some();
        self.closed.push(Closed {
            connection: id,
            output: link.output,
            why,
        });
        if let Some(will) = link.will.filter(|_| spoken) {
            self.publish_will(will);
        }
    }

    /// Forgets a session and its subscriptions.
    fn end_session(&mut self, id: SessionId) {
        let Some(session) = self.state.remove_session(id) else {
            return;
        };
        for subscription in &session.subscriptions {
            self.topics.remove(subscription.filter(), id);
        }
        self.clients.remove(&session.client);
        if !session.clean {
            self.record(&Record::Ended { session: id });
        }
    }

    fn say(&mut self, id: ConnectionId, packet: &Packet) {
        if let Some(link) = self.state.links.get_mut(&id) {
            wire::put(&mut link.output, packet);
            self.touched.insert(id);
        }
    }

    fn record(&mut self, record: &Record<'_>) {
        record.put(&mut self.records);
    }

    /// Whether a session is kept on the disk.
    fn is_kept(&self, id: SessionId) -> bool {
        self.state.sessions.get(&id).is_some_and(|session| !session.clean)
    }
}

/// How a packet ends its connection.
enum End {
    Goodbye,
    Bad(Why),
}

impl End {
    fn protocol(what: &'static str) -> Self {
        Self::Bad(Why::Protocol(what))
    }
}
