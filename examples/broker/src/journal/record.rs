//! One event of the journal. The order of the variants is the format: new ones go to the end.

use serde::{Deserialize, Serialize};

use crate::message::Qos;
use crate::state::SessionId;

/// What happened to a session that is remembered, or to the retained messages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Record<'a> {
    /// A session begins.
    Session {
        /// Its number.
        session: SessionId,
        /// The client's name.
        client: &'a str,
    },
    /// A session ends, with all that is its.
    Ended {
        /// Which.
        session: SessionId,
    },
    /// A subscription, in the place of one with the same filter.
    Subscribed {
        /// Whose.
        session: SessionId,
        /// To what.
        filter: &'a str,
        /// How surely.
        qos: Qos,
    },
    /// A subscription ends.
    Unsubscribed {
        /// Whose.
        session: SessionId,
        /// To what.
        filter: &'a str,
    },
    /// A message that later records refer to.
    Message {
        /// Its number.
        message: u64,
        /// Where it was published.
        topic: &'a str,
        /// What it says.
        #[serde(serialize_with = "as_bytes")]
        payload: &'a [u8],
    },
    /// A message waits for a session, behind those that wait already.
    Queued {
        /// For whom.
        session: SessionId,
        /// Which.
        message: u64,
        /// How surely.
        qos: Qos,
        /// It was retained when the session subscribed.
        retain: bool,
    },
    /// The first that waits is sent under a packet number.
    Sent {
        /// To whom.
        session: SessionId,
        /// The number.
        packet: u16,
    },
    /// The receiver has the message of QoS 2.
    Released {
        /// Which receiver.
        session: SessionId,
        /// The packet's number.
        packet: u16,
    },
    /// A packet that was released before this journal was written anew.
    WasReleased {
        /// Which receiver.
        session: SessionId,
        /// The packet's number.
        packet: u16,
    },
    /// A packet is acknowledged in full.
    Done {
        /// By whom.
        session: SessionId,
        /// Its number.
        packet: u16,
    },
    /// A packet of QoS 2 was taken from a publisher.
    Taken {
        /// From whom.
        session: SessionId,
        /// Its number.
        packet: u16,
    },
    /// The publisher will not send that packet again.
    Freed {
        /// Which publisher.
        session: SessionId,
        /// Its number.
        packet: u16,
    },
    /// A message is retained for its topic.
    Retained {
        /// Which.
        message: u64,
        /// How surely.
        qos: Qos,
    },
    /// Nothing is retained for a topic any more.
    Cleared {
        /// Which topic.
        topic: &'a str,
    },
}

impl Record<'_> {
    /// Adds the record to `out`.
    pub fn put(&self, out: &mut Vec<u8>) {
        // A record can always be encoded: the buffer grows, and nothing in it has an unknown length.
        if let Ok(longer) = postcard::to_extend(self, std::mem::take(out)) {
            *out = longer;
        }
    }
}

fn as_bytes<S: serde::Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
    to.serialize_bytes(bytes)
}
