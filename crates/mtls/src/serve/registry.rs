//! The live connections: listed, counted, and cut at once when somebody is no longer welcome.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;
use tuf::Digest;

use super::limits::{Limits, REFUSALS};
use super::meter::{Meter, Watch};
use super::peer::{Peer, Refused};
use crate::Refusal;

/// The connections of one or more listeners; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Connections(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    next: AtomicU64,
    accepted: AtomicU64,
    refused: AtomicU64,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    live: HashMap<u64, Entry>,
    keys: HashMap<Digest, usize>,
    waiting: HashMap<IpAddr, usize>,
    refusals: VecDeque<Refused>,
}

#[derive(Debug)]
struct Entry {
    peer: Peer,
    listener: u64,
    cut: CancellationToken,
    meter: Arc<Meter>,
    watch: Watch,
}

/// How many connections there were since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Let in.
    pub accepted: u64,
    /// Turned away, for whatever reason.
    pub refused: u64,
    /// In at this moment.
    pub live: usize,
}

impl Connections {
    /// No connections yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Closes every live connection whose peer answers to `wanted`, whatever it is doing, also in the middle of
    /// an answer; returns how many there were.
    pub fn close_where(&self, wanted: impl Fn(&Peer) -> bool) -> usize {
        let table = self.table();
        let mut count = 0;
        for entry in table.live.values().filter(|entry| wanted(&entry.peer)) {
            entry.cut.cancel();
            count += 1;
        }
        count
    }

    /// Everybody who is connected, in no particular order.
    pub fn list(&self) -> Vec<Peer> {
        self.table()
            .live
            .values()
            .map(|entry| entry.peer.clone())
            .collect()
    }

    /// How many are and were connected.
    pub fn counts(&self) -> Counts {
        let live = self.table().live.len();
        let accepted = self.0.accepted.load(Ordering::Relaxed);
        Counts {
            accepted,
            refused: self.0.refused.load(Ordering::Relaxed),
            live,
        }
    }

    /// The last connections that were turned away, oldest first.
    pub fn refusals(&self) -> Vec<Refused> {
        self.table().refusals.iter().cloned().collect()
    }

    pub(crate) fn number(&self) -> u64 {
        self.0.next.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn note_refused(&self, addr: SocketAddr, reason: Refusal) {
        self.0.refused.fetch_add(1, Ordering::Relaxed);
        let mut table = self.table();
        if table.refusals.len() == REFUSALS {
            table.refusals.pop_front();
        }
        table.refusals.push_back(Refused { addr, reason });
    }

    /// Counts a connection that nobody has vouched for yet.
    pub(crate) fn wait(&self, addr: SocketAddr, limits: &Limits) -> Result<Waiting, Refusal> {
        let place = place(addr.ip());
        let mut table = self.table();
        let count = table.waiting.entry(place).or_default();
        if *count >= limits.per_address {
            return Err(Refusal::TooMany(
                "this address has its share of unauthenticated ones",
            ));
        }
        *count += 1;
        Ok(Waiting {
            connections: self.clone(),
            place,
        })
    }

    /// Puts a connection on the list; it is off again when the guard is dropped.
    pub(crate) fn admit(
        &self,
        peer: &Peer,
        listener: u64,
        meter: Arc<Meter>,
        limits: &Limits,
    ) -> Result<Admitted, Refusal> {
        let cut = CancellationToken::new();
        let mut table = self.table();
        if let Some(key) = peer.key {
            let count = table.keys.entry(key).or_default();
            if *count >= limits.per_key {
                return Err(Refusal::TooMany("this key has its share of them"));
            }
            *count += 1;
        }
        let watch = Watch::default();
        let entry = Entry {
            peer: peer.clone(),
            listener,
            cut: cut.clone(),
            meter,
            watch,
        };
        table.live.insert(peer.id, entry);
        self.0.accepted.fetch_add(1, Ordering::Relaxed);
        Ok(Admitted {
            connections: self.clone(),
            id: peer.id,
            cut,
        })
    }

    /// Cuts the connections of `listener` that have taken too long; returns who and why.
    pub(crate) fn sweep(&self, listener: u64, limits: &Limits) -> Vec<(Peer, &'static str)> {
        let mut table = self.table();
        let mut slow = Vec::new();
        for entry in table.live.values_mut().filter(|entry| entry.listener == listener) {
            if let Some(why) = entry.watch.look(&entry.meter, limits) {
                entry.cut.cancel();
                slow.push((entry.peer.clone(), why));
            }
        }
        slow
    }

    pub(crate) fn close_listener(&self, listener: u64) {
        for entry in self
            .table()
            .live
            .values()
            .filter(|entry| entry.listener == listener)
        {
            entry.cut.cancel();
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Every change is a single step: a panic elsewhere leaves the table whole.
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place among the unauthenticated connections of an address.
#[derive(Debug)]
pub(crate) struct Waiting {
    connections: Connections,
    place: IpAddr,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut table = self.connections.table();
        if let Some(count) = table.waiting.get_mut(&self.place) {
            *count -= 1;
            if *count == 0 {
                table.waiting.remove(&self.place);
            }
        }
    }
}

/// A place on the list.
#[derive(Debug)]
pub(crate) struct Admitted {
    connections: Connections,
    id: u64,
    pub(crate) cut: CancellationToken,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut table = self.connections.table();
        let Some(entry) = table.live.remove(&self.id) else {
            return;
        };
        let Some(key) = entry.peer.key else { return };
        if let Some(count) = table.keys.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                table.keys.remove(&key);
            }
        }
    }
}

/// What counts as one address: an IPv6 host has its whole /64.
fn place(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(six) => {
            let [a, b, c, d, ..] = six.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        four => four,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_ipv6_network_counts_as_one_address() {
        let near: IpAddr = "2001:db8:1:2:3:4:5:6".parse().unwrap();
        let same: IpAddr = "2001:db8:1:2:ffff::1".parse().unwrap();
        let other: IpAddr = "2001:db8:1:3::1".parse().unwrap();
        assert_eq!(place(near), place(same));
        assert_ne!(place(near), place(other));
        let mapped: IpAddr = "::ffff:192.0.2.1".parse().unwrap();
        assert_eq!(place(mapped), "192.0.2.1".parse::<IpAddr>().unwrap());
    }
}
