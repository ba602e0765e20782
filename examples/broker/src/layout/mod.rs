//! Where things lie in the state: the one thing in which the three versions differ.
//!
//! - [`V1`] → [`V2`] is the small change: two fields of a subscription have other names, and where a session is
//!   connected has moved from the session to a table. (`v1.rs`, `v2.rs`)
//! - [`V2`] → [`V3`] is the large one: deliveries on their way refer to messages stored once, and are found by
//!   packet number. (`v3.rs`)
//!
//! [`transform()`] goes from each version to its neighbours.

mod blob;
pub mod transform;
mod v1;
mod v2;
mod v3;

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use blob::{BlobError, decode, encode, version_of};
pub use transform::{TransformError, transform};

use crate::message::{Delivery, Qos};
use crate::state::{ConnectionId, SessionId};

/// Something that is part of the state.
pub trait Data: Debug + Clone + PartialEq + Default + Send + Serialize + DeserializeOwned + 'static {}
impl<T: Debug + Clone + PartialEq + Default + Send + Serialize + DeserializeOwned + 'static> Data for T {}

/// One version's choice.
pub trait Layout: Debug + Clone + PartialEq + Send + 'static {
    /// The version, which stands before every state that is moved.
    const VERSION: u16;
    /// A subscription.
    type Subscription: Subscription;
    /// Where a session is connected.
    type Place: Place;
    /// What is on its way to a session.
    type Flights: Flights;
}

/// What a session wants to hear.
pub trait Subscription: Debug + Clone + PartialEq + Send + Serialize + DeserializeOwned + 'static {
    /// A subscription to `filter` with at most `qos`.
    fn new(filter: &str, qos: Qos) -> Self;
    /// The filter.
    fn filter(&self) -> &str;
    /// The highest QoS asked for.
    fn qos(&self) -> Qos;
}

/// Where a session is connected: a part in the session, a part shared by all.
pub trait Place: Data {
    /// The part shared by all sessions.
    type Shared: Data;
    /// Where `session` is connected.
    fn get(&self, shared: &Self::Shared, session: SessionId) -> Option<ConnectionId>;
    /// Notes where.
    fn set(&mut self, shared: &mut Self::Shared, session: SessionId, connection: Option<ConnectionId>);
}

/// How far a delivery is that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Sent; the receiver has not said that it has it.
    Sent(Qos),
    /// The receiver has it and was told that the packet number is free. (MQTT 3.1.1, 4.3.3)
    Released,
}

/// What is on its way to a session, oldest first: sent and not acknowledged in full, then waiting for its turn.
pub trait Flights: Data {
    /// The part shared by all sessions.
    type Shared: Data;
    /// How many are sent.
    fn sent(&self) -> usize;
    /// How many wait.
    fn waiting(&self) -> usize;
    /// Puts one at the end of those that wait.
    fn wait(&mut self, shared: &mut Self::Shared, delivery: Delivery);
    /// The first that waits becomes the last that is sent, under a free packet number.
    fn send(&mut self, shared: &Self::Shared, packet: u16) -> Option<Delivery>;
    /// One that was released before this state began becomes the last that is sent.
    fn push_released(&mut self, packet: u16);
    /// How far a packet is; `None` if there is none of that number.
    fn stage(&self, packet: u16) -> Option<Stage>;
    /// The receiver has the message: it is forgotten, the packet number is not. `false` if there is none.
    fn release(&mut self, shared: &mut Self::Shared, packet: u16) -> bool;
    /// The packet is acknowledged in full. `false` if there was none.
    fn finish(&mut self, shared: &mut Self::Shared, packet: u16) -> bool;
    /// Goes over all in order: packet number if sent, delivery unless released.
    fn each(&self, shared: &Self::Shared, look: &mut dyn FnMut(Option<u16>, Option<&Delivery>));
    /// Forgets all.
    fn clear(&mut self, shared: &mut Self::Shared);
}

/// The first version.
#[derive(Debug, Clone, PartialEq)]
pub struct V1;

/// After the small change.
#[derive(Debug, Clone, PartialEq)]
pub struct V2;

/// After the large change.
#[derive(Debug, Clone, PartialEq)]
pub struct V3;

impl Layout for V1 {
    const VERSION: u16 = 1;
    type Subscription = v1::Subscription;
    type Place = v1::Place;
    type Flights = v1::Flights;
}

impl Layout for V2 {
    const VERSION: u16 = 2;
    type Subscription = v2::Subscription;
    type Place = v2::Place;
    type Flights = v1::Flights;
}

impl Layout for V3 {
    const VERSION: u16 = 3;
    type Subscription = v2::Subscription;
    type Place = v2::Place;
    type Flights = v3::Flights;
}
