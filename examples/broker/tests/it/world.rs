//! A broker, its journal and its clients, and everything that can happen to them.

use broker::state::ConnectionId;

use crate::any::AnyBroker;
use crate::client::{Client, Who};

/// A client and its wire: bytes that are on the way in both directions.
pub(crate) struct Seat {
    pub(crate) client: Client,
    connection: Option<ConnectionId>,
    /// Written by the client, not read by the broker.
    inward: Vec<u8>,
    /// Written by the broker, not read by the client.
    outward: Vec<u8>,
}

/// Everything.
pub(crate) struct World {
    pub(crate) broker: AnyBroker,
    /// What is on the disk.
    journal: Vec<Vec<u8>>,
    pub(crate) seats: Vec<Seat>,
    pub(crate) now: u64,
}

impl World {
    pub(crate) fn new(version: u16, clients: impl IntoIterator<Item = Who>) -> Self {
        let seats = clients.into_iter().map(|who| Seat {
            client: Client::new(who),
            connection: None,
            inward: Vec::new(),
            outward: Vec::new(),
        });
        Self {
            broker: AnyBroker::from_journal(&[], version),
            journal: Vec::new(),
            seats: seats.collect(),
            now: 0,
        }
    }

    pub(crate) fn client(&mut self, seat: usize) -> &mut Client {
        &mut self.seats[seat].client
    }

    /// Connects a client, if it is not.
    pub(crate) fn connect(&mut self, seat: usize) {
        if self.seats[seat].connection.is_none() {
            let id = self.broker.accept(self.now);
            self.seats[seat].connection = Some(id);
            self.seats[seat].client.connect();
        }
    }

    /// A connection breaks; what was on the way is lost.
    pub(crate) fn cut(&mut self, seat: usize) {
        if let Some(id) = self.forget(seat) {
            self.broker.lost(id);
            self.turn_ends();
        }
    }

    /// The broker dies, with everything that is not on the disk, and starts again in any version.
    pub(crate) fn crash(&mut self, version: u16) {
        for seat in 0..self.seats.len() {
            self.forget(seat);
        }
        self.broker = AnyBroker::from_journal(&self.journal, version);
        self.journal = self.broker.snapshot();
    }

    /// The broker's state moves to another version; nothing else happens.
    pub(crate) fn update(&mut self, version: u16) {
        let broker = std::mem::replace(&mut self.broker, AnyBroker::from_journal(&[], 1));
        self.broker = broker.updated(version);
    }

    /// Moves up to `count` bytes of a client to the broker, which works on them; `dies` before it has put anything on
    /// the disk.
    pub(crate) fn inward(&mut self, seat: usize, count: usize, dies: bool) {
        let place = &mut self.seats[seat];
        let Some(id) = place.connection else { return };
        place.inward.append(&mut place.client.output);
        let count = count.min(place.inward.len());
        let bytes: Vec<u8> = place.inward.drain(..count).collect();
        if !bytes.is_empty() {
            self.broker.received(id, &bytes, self.now);
        }
        if dies {
            self.crash(self.broker.version());
        } else {
            self.turn_ends();
        }
    }

    /// Moves up to `count` bytes of the broker to a client, which answers them.
    pub(crate) fn outward(&mut self, seat: usize, count: usize) {
        let place = &mut self.seats[seat];
        let Some(id) = place.connection else { return };
        if let Some(link) = self.broker.link(id) {
            place.outward.extend_from_slice(&link.output.split());
        }
        let count = count.min(place.outward.len());
        let bytes: Vec<u8> = place.outward.drain(..count).collect();
        place.client.take(&bytes);
    }

    /// Moves everything until nothing moves any more.
    pub(crate) fn settle(&mut self) {
        for _ in 0..10_000 {
            let before = self.moved();
            for seat in 0..self.seats.len() {
                self.inward(seat, usize::MAX, false);
                self.outward(seat, usize::MAX);
            }
            if before == self.moved() && self.seats.iter().all(|seat| seat.client.output.is_empty()) {
                return;
            }
        }
        panic!("it never comes to rest");
    }

    fn moved(&self) -> (usize, usize, Vec<usize>) {
        let heard = self
            .seats
            .iter()
            .map(|seat| seat.client.got.len() + seat.client.heard.len());
        let output = self.seats.iter().map(|seat| seat.client.output.len()).sum();
        (self.broker.on_their_way(), output, heard.collect())
    }

    /// Records go to the disk; then the connections that the broker has ended are seen to be over.
    pub(crate) fn turn_ends(&mut self) {
        let records = self.broker.take_records();
        if !records.is_empty() {
            self.journal.push(records);
        }
        for closed in self.broker.take_closed() {
            let place = self
                .seats
                .iter_mut()
                .find(|seat| seat.connection == Some(closed.connection));
            if let Some(place) = place {
                place.outward.extend_from_slice(&closed.output);
                let bytes = std::mem::take(&mut place.outward);
                place.client.take(&bytes);
                place.client.connected = false;
                place.client.output.clear();
                place.inward.clear();
                place.connection = None;
            }
        }
    }

    fn forget(&mut self, seat: usize) -> Option<ConnectionId> {
        let place = &mut self.seats[seat];
        place.client.connected = false;
        place.client.output.clear();
        place.inward.clear();
        place.outward.clear();
        place.connection.take()
    }
}
