//! What the layout of version 3 changes: another store for what is on its way.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Stage;
use crate::message::{Delivery, Message, Qos};

/// Messages on their way, each once however many sessions it goes to.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Pool {
    /// By the message's number.
    pub messages: BTreeMap<u64, Pooled>,
}

/// A message and how many deliveries refer to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pooled {
    /// The message.
    pub message: Arc<Message>,
    /// Deliveries that refer to it: never 0.
    pub uses: u32,
}

/// Each session has an index by packet number, an order, and a queue of references.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Flights {
    /// What was sent, by packet number.
    pub sent: BTreeMap<u16, Flight>,
    /// Counts what was sent.
    pub next_order: u64,
    /// Waiting, oldest first.
    pub waiting: VecDeque<Reference>,
}

/// A delivery that was sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Flight {
    /// Its place among those sent.
    pub order: u64,
    /// What was sent; `None` once the receiver has it.
    pub reference: Option<Reference>,
}

/// A delivery of a message in the pool.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Reference {
    /// The message's number.
    pub message: u64,
    /// As in [`Delivery`].
    pub qos: Qos,
    /// As in [`Delivery`].
    pub retain: bool,
}

impl Pool {
    /// Counts one more delivery of a message.
    pub(super) fn add(&mut self, delivery: Delivery) -> Reference {
        let reference = Reference {
            message: delivery.message.id,
            qos: delivery.qos,
            retain: delivery.retain,
        };
        let pooled = self.messages.entry(reference.message).or_insert(Pooled {
            message: delivery.message,
            uses: 0,
        });
        pooled.uses += 1;
        reference
    }

    /// The delivery behind a reference; there is one, because references are counted.
    pub(super) fn delivery(&self, reference: Reference) -> Option<Delivery> {
        self.messages.get(&reference.message).map(|pooled| Delivery {
            message: pooled.message.clone(),
            qos: reference.qos,
            retain: reference.retain,
        })
    }

    fn forget(&mut self, reference: Reference) {
        if let Some(pooled) = self.messages.get_mut(&reference.message) {
            pooled.uses -= 1;
            if pooled.uses == 0 {
                self.messages.remove(&reference.message);
            }
        }
    }
}

impl Flights {
    /// What was sent, in order.
    pub(super) fn in_order(&self) -> Vec<(u16, Option<Reference>)> {
        let mut sent: Vec<_> = self.sent.iter().collect();
        sent.sort_unstable_by_key(|(_, flight)| flight.order);
        sent.into_iter()
            .map(|(packet, flight)| (*packet, flight.reference))
            .collect()
    }

    /// Notes a delivery as the last that was sent.
    pub(super) fn push_sent(&mut self, packet: u16, reference: Option<Reference>) {
        let order = self.next_order;
        self.next_order += 1;
        self.sent.insert(packet, Flight { order, reference });
    }
}

impl super::Flights for Flights {
    type Shared = Pool;

    fn sent(&self) -> usize {
        self.sent.len()
    }

    fn waiting(&self) -> usize {
        self.waiting.len()
    }

    fn wait(&mut self, pool: &mut Pool, delivery: Delivery) {
        self.waiting.push_back(pool.add(delivery));
    }

    fn send(&mut self, pool: &Pool, packet: u16) -> Option<Delivery> {
        let reference = self.waiting.pop_front()?;
        self.push_sent(packet, Some(reference));
        pool.delivery(reference)
    }

    fn push_released(&mut self, packet: u16) {
        self.push_sent(packet, None);
    }

    fn stage(&self, packet: u16) -> Option<Stage> {
        let flight = self.sent.get(&packet)?;
        Some(
            flight
                .reference
                .map_or(Stage::Released, |reference| Stage::Sent(reference.qos)),
        )
    }

    fn release(&mut self, pool: &mut Pool, packet: u16) -> bool {
        let found = self
            .sent
            .get_mut(&packet)
            .and_then(|flight| flight.reference.take());
        found.map(|reference| pool.forget(reference)).is_some()
    }

    fn finish(&mut self, pool: &mut Pool, packet: u16) -> bool {
        let Some(flight) = self.sent.remove(&packet) else {
            return false;
        };
        if let Some(reference) = flight.reference {
            pool.forget(reference);
        }
        true
    }

    fn each(&self, pool: &Pool, look: &mut dyn FnMut(Option<u16>, Option<&Delivery>)) {
        for (packet, reference) in self.in_order() {
            let delivery = reference.and_then(|reference| pool.delivery(reference));
            look(Some(packet), delivery.as_ref());
        }
        for reference in &self.waiting {
            if let Some(delivery) = pool.delivery(*reference) {
                look(None, Some(&delivery));
            }
        }
    }

    fn clear(&mut self, pool: &mut Pool) {
        let sent = std::mem::take(&mut self.sent);
        let waiting = std::mem::take(&mut self.waiting);
        let references = sent.into_values().filter_map(|flight| flight.reference);
        references
            .chain(waiting)
            .for_each(|reference| pool.forget(reference));
    }
}
