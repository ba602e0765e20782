//! From a version's state to its neighbour's, in both directions. The only place that knows two layouts at once.

use std::collections::BTreeMap;

use super::{BlobError, Flights as _, Layout, V1, V2, V3, decode, encode, v1, v2, v3, version_of};
use crate::state::{Session, State};

/// Why a state was not transformed.
#[derive(Debug, thiserror::Error)]
pub enum TransformError {
    /// The bytes.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// There is no such version.
    #[error("no way from version {from} to version {to}; there are the versions 1, 2 and 3")]
    NoWay {
        /// What the state is.
        from: u16,
        /// What it is to become.
        to: u16,
    },
}

/// The state `bytes` in the layout of version `to`, by way of the versions between. The same bytes if that is what
/// they are.
///
/// # Errors
/// [`TransformError`].
pub fn transform(bytes: &[u8], to: u16) -> Result<Vec<u8>, TransformError> {
    let from = version_of(bytes)?;
    let done = match (from, to) {
        (1, 2) => encode(&v1_to_v2(decode(bytes)?))?,
        (1, 3) => encode(&v2_to_v3(v1_to_v2(decode(bytes)?)))?,
        (2, 1) => encode(&v2_to_v1(decode(bytes)?))?,
        (2, 3) => encode(&v2_to_v3(decode(bytes)?))?,
        (3, 2) => encode(&v3_to_v2(decode(bytes)?))?,
        (3, 1) => encode(&v2_to_v1(v3_to_v2(decode(bytes)?)))?,
        (1..=3, same) if same == from => bytes.to_vec(),
        _ => return Err(TransformError::NoWay { from, to }),
    };
    Ok(done)
}

/// The small change: a subscription's fields have other names, a session's connection has moved.
#[must_use]
pub fn v1_to_v2(old: State<V1>) -> State<V2> {
    let mut places = BTreeMap::new();
    let sessions = old.sessions.into_iter().map(|(id, session)| {
        if let Some(connection) = session.place.connection {
            places.insert(id, connection);
        }
        let subscription = |s: v1::Subscription| v2::Subscription {
            filter: s.topic,
            maximum_qos: s.qos,
        };
        (id, carry(session, subscription, v2::Place, |flights| flights))
    });
    let sessions = sessions.collect();
    State {
        next_connection: old.next_connection,
        next_session: old.next_session,
        next_message: old.next_message,
        links: old.links,
        sessions,
        places,
        pool: (),
        retained: old.retained,
    }
}

/// The small change undone.
#[must_use]
pub fn v2_to_v1(old: State<V2>) -> State<V1> {
    let places = old.places;
    let sessions = old.sessions.into_iter().map(|(id, session)| {
        let place = v1::Place {
            connection: places.get(&id).copied(),
        };
        let subscription = |s: v2::Subscription| v1::Subscription {
            topic: s.filter,
            qos: s.maximum_qos,
        };
        (id, carry(session, subscription, place, |flights| flights))
    });
    State {
        next_connection: old.next_connection,
        next_session: old.next_session,
        next_message: old.next_message,
        links: old.links,
        sessions: sessions.collect(),
        places: (),
        pool: (),
        retained: old.retained,
    }
}

/// The large change: messages go to the pool, deliveries refer to them.
#[must_use]
pub fn v2_to_v3(old: State<V2>) -> State<V3> {
    let mut pool = v3::Pool::default();
    let sessions = old.sessions.into_iter().map(|(id, session)| {
        let flights = |old: v1::Flights| {
            let mut flights = v3::Flights::default();
            for flight in old.sent {
                let reference = flight.delivery.map(|delivery| pool.add(delivery));
                flights.push_sent(flight.packet, reference);
            }
            for delivery in old.waiting {
                flights.wait(&mut pool, delivery);
            }
            flights
        };
        (id, carry(session, |same| same, v2::Place, flights))
    });
    let sessions = sessions.collect();
    State {
        next_connection: old.next_connection,
        next_session: old.next_session,
        next_message: old.next_message,
        links: old.links,
        sessions,
        places: old.places,
        pool,
        retained: old.retained,
    }
}

/// The large change undone.
#[must_use]
pub fn v3_to_v2(old: State<V3>) -> State<V2> {
    let pool = old.pool;
    let sessions = old.sessions.into_iter().map(|(id, session)| {
        let flights = |old: v3::Flights| {
            let sent = old.in_order().into_iter().map(|(packet, reference)| v1::Flight {
                packet,
                delivery: reference.and_then(|reference| pool.delivery(reference)),
            });
            let waiting = old
                .waiting
                .iter()
                .filter_map(|reference| pool.delivery(*reference));
            v1::Flights {
                sent: sent.collect(),
                waiting: waiting.collect(),
            }
        };
        (id, carry(session, |same| same, v2::Place, flights))
    });
    State {
        next_connection: old.next_connection,
        next_session: old.next_session,
        next_message: old.next_message,
        links: old.links,
        sessions: sessions.collect(),
        places: old.places,
        pool: (),
        retained: old.retained,
    }
}

/// A session with its changed parts changed and all others as they are.
fn carry<From: Layout, To: Layout>(
    old: Session<From>,
    subscription: impl FnMut(From::Subscription) -> To::Subscription,
    place: To::Place,
    flights: impl FnOnce(From::Flights) -> To::Flights,
) -> Session<To> {
    Session {
        client: old.client,
        clean: old.clean,
        subscriptions: old.subscriptions.into_iter().map(subscription).collect(),
        place,
        taken: old.taken,
        last_packet: old.last_packet,
        flights: flights(old.flights),
    }
}
