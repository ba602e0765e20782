//! A broker of a version that is chosen while the test runs.

use broker::core::{Broker, Closed};
use broker::journal::{replay, snapshot};
use broker::layout::{V1, V2, V3, decode, encode, transform};
use broker::state::{ConnectionId, Link};

pub(crate) enum AnyBroker {
    One(Broker<V1>),
    Two(Broker<V2>),
    Three(Broker<V3>),
}

/// The same expression for each version.
macro_rules! each {
    ($any:expr, $broker:ident => $what:expr) => {
        match $any {
            AnyBroker::One($broker) => $what,
            AnyBroker::Two($broker) => $what,
            AnyBroker::Three($broker) => $what,
        }
    };
}

impl AnyBroker {
    /// What the records of a journal lead to.
    pub(crate) fn from_journal(groups: &[Vec<u8>], version: u16) -> Self {
        let groups: Vec<&[u8]> = groups.iter().map(Vec::as_slice).collect();
        match version {
            1 => Self::One(Broker::new(replay(&groups).unwrap())),
            2 => Self::Two(Broker::new(replay(&groups).unwrap())),
            _ => Self::Three(Broker::new(replay(&groups).unwrap())),
        }
    }

    /// The same broker in another version, by way of bytes.
    pub(crate) fn updated(self, version: u16) -> Self {
        let old = self.state();
        let bytes = transform(&old, version).unwrap();
        let new = match version {
            1 => Self::One(Broker::new(decode(&bytes).unwrap())),
            2 => Self::Two(Broker::new(decode(&bytes).unwrap())),
            _ => Self::Three(Broker::new(decode(&bytes).unwrap())),
        };
        let (old, new_state) = (transform(&old, 1), transform(&new.state(), 1));
        assert_eq!(new_state.unwrap(), old.unwrap(), "there and back");
        new
    }

    pub(crate) fn state(&self) -> Vec<u8> {
        each!(self, broker => encode(broker.state()).unwrap())
    }

    pub(crate) fn version(&self) -> u16 {
        match self {
            Self::One(_) => 1,
            Self::Two(_) => 2,
            Self::Three(_) => 3,
        }
    }

    pub(crate) fn accept(&mut self, now: u64) -> ConnectionId {
        each!(self, broker => broker.accept(now).unwrap())
    }

    pub(crate) fn link(&mut self, id: ConnectionId) -> Option<&mut Link> {
        each!(self, broker => broker.link(id))
    }

    pub(crate) fn received(&mut self, id: ConnectionId, bytes: &[u8], now: u64) {
        if let Some(link) = self.link(id) {
            link.input.extend_from_slice(bytes);
        }
        each!(self, broker => broker.received(id, now));
    }

    pub(crate) fn lost(&mut self, id: ConnectionId) {
        each!(self, broker => broker.lost(id));
    }

    pub(crate) fn tick(&mut self, now: u64) {
        each!(self, broker => broker.tick(now));
    }

    /// Records that are to be put on the disk now.
    pub(crate) fn take_records(&mut self) -> Vec<u8> {
        each!(self, broker => {
            let records = broker.records().to_vec();
            broker.recorded();
            records
        })
    }

    pub(crate) fn take_closed(&mut self) -> Vec<Closed> {
        each!(self, broker => broker.take_closed())
    }

    /// The journal, written anew.
    pub(crate) fn snapshot(&self) -> Vec<Vec<u8>> {
        each!(self, broker => snapshot(broker.state()))
    }

    /// Messages on their way to anyone.
    pub(crate) fn on_their_way(&self) -> usize {
        each!(self, broker => {
            let state = broker.state();
            state.sessions.values().map(|session| state.deliveries(session).len()).sum()
        })
    }
}
