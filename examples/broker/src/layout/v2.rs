//! What the layout of version 2 changes: a small change.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::message::Qos;
use crate::state::{ConnectionId, SessionId};

/// A subscription, in the standard's words.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Subscription {
    /// What it is to; `topic` in version 1.
    pub filter: Box<str>,
    /// The highest QoS with which messages are delivered; `qos` in version 1.
    pub maximum_qos: Qos,
}

impl super::Subscription for Subscription {
    fn new(filter: &str, qos: Qos) -> Self {
        Self {
            filter: filter.into(),
            maximum_qos: qos,
        }
    }

    fn filter(&self) -> &str {
        &self.filter
    }

    fn qos(&self) -> Qos {
        self.maximum_qos
    }
}

/// Nothing in the session; `connection` in version 1.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Place;

impl super::Place for Place {
    /// The sessions that are connected, and where.
    type Shared = BTreeMap<SessionId, ConnectionId>;

    fn get(&self, shared: &Self::Shared, session: SessionId) -> Option<ConnectionId> {
        shared.get(&session).copied()
    }

    fn set(&mut self, shared: &mut Self::Shared, session: SessionId, connection: Option<ConnectionId>) {
        match connection {
            Some(connection) => shared.insert(session, connection),
            None => shared.remove(&session),
        };
    }
}
