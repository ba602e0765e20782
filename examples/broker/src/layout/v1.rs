//! The layout of version 1.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::Stage;
use crate::message::{Delivery, Qos};
use crate::state::{ConnectionId, SessionId};

/// A subscription.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Subscription {
    /// What it is to.
    pub topic: Box<str>,
    /// How surely.
    pub qos: Qos,
}

impl super::Subscription for Subscription {
    fn new(filter: &str, qos: Qos) -> Self {
        Self {
            topic: filter.into(),
            qos,
        }
    }

    fn filter(&self) -> &str {
        &self.topic
    }

    fn qos(&self) -> Qos {
        self.qos
    }
}

/// The session itself says where it is connected.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Place {
    /// Where.
    pub connection: Option<ConnectionId>,
}

impl super::Place for Place {
    type Shared = ();

    fn get(&self, (): &(), _: SessionId) -> Option<ConnectionId> {
        self.connection
    }

    fn set(&mut self, (): &mut (), _: SessionId, connection: Option<ConnectionId>) {
        self.connection = connection;
    }
}

/// Each session has its deliveries with the whole messages, in two queues.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Flights {
    /// Sent, oldest first.
    pub sent: VecDeque<Flight>,
    /// Waiting, oldest first.
    pub waiting: VecDeque<Delivery>,
}

/// A delivery that was sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Flight {
    /// Its number.
    pub packet: u16,
    /// What was sent; `None` once the receiver has it.
    pub delivery: Option<Delivery>,
}

impl Flights {
    fn place(&self, packet: u16) -> Option<usize> {
        self.sent.iter().position(|flight| flight.packet == packet)
    }
}

impl super::Flights for Flights {
    type Shared = ();

    fn sent(&self) -> usize {
        self.sent.len()
    }

    fn waiting(&self) -> usize {
        self.waiting.len()
    }

    fn wait(&mut self, (): &mut (), delivery: Delivery) {
        self.waiting.push_back(delivery);
    }

    fn send(&mut self, (): &(), packet: u16) -> Option<Delivery> {
        let delivery = self.waiting.pop_front()?;
        self.sent.push_back(Flight {
            packet,
            delivery: Some(delivery.clone()),
        });
        Some(delivery)
    }

    fn push_released(&mut self, packet: u16) {
        self.sent.push_back(Flight {
            packet,
            delivery: None,
        });
    }

    fn stage(&self, packet: u16) -> Option<Stage> {
        let flight = self.sent.get(self.place(packet)?)?;
        Some(
            flight
                .delivery
                .as_ref()
                .map_or(Stage::Released, |delivery| Stage::Sent(delivery.qos)),
        )
    }

    fn release(&mut self, (): &mut (), packet: u16) -> bool {
        let found = self.place(packet).and_then(|place| self.sent.get_mut(place));
        found.is_some_and(|flight| flight.delivery.take().is_some())
    }

    fn finish(&mut self, (): &mut (), packet: u16) -> bool {
        self.place(packet)
            .and_then(|place| self.sent.remove(place))
            .is_some()
    }

    fn each(&self, (): &(), look: &mut dyn FnMut(Option<u16>, Option<&Delivery>)) {
        for flight in &self.sent {
            look(Some(flight.packet), flight.delivery.as_ref());
        }
        for delivery in &self.waiting {
            look(None, Some(delivery));
        }
    }

    fn clear(&mut self, (): &mut ()) {
        self.sent.clear();
        self.waiting.clear();
    }
}
