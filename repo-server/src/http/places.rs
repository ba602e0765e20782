//! Bounded places: so many at a time, so many for each peer, and never all of them for strangers.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use mtls::serve::Peer;
use tuf::Digest;

use crate::Refusal;

/// How many there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlaceLimits {
    /// In all.
    pub all: usize,
    /// Of them for peers without a certificate, so that managers and authors always find one.
    pub anonymous: usize,
    /// For one key, or for one address without a certificate.
    pub each: usize,
}

/// What counts as one peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Who {
    Key(Digest),
    Address(IpAddr),
}

/// The places and who has them.
#[derive(Debug)]
pub(crate) struct Places {
    what: &'static str,
    limits: PlaceLimits,
    taken: Mutex<HashMap<Who, usize>>,
}

/// A place; given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    who: Who,
}

impl Places {
    pub(crate) fn new(what: &'static str, limits: PlaceLimits) -> Arc<Self> {
        Arc::new(Self {
            what,
            limits,
            taken: Mutex::default(),
        })
    }

    /// A place for `peer`.
    pub(crate) fn enter(self: &Arc<Self>, peer: &Peer) -> Result<Place, Refusal> {
        let who = match peer.key {
            Some(key) => Who::Key(key),
            None => Who::Address(network(peer.addr.ip())),
        };
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = taken.values().sum();
        let strangers: usize = taken
            .iter()
            .filter(|(who, _)| matches!(who, Who::Address(_)))
            .map(|(_, count)| count)
            .sum();
        let stranger = matches!(who, Who::Address(_));
        let own = taken.get(&who).copied().unwrap_or(0);
        let full = all >= self.limits.all
            || own >= self.limits.each
            || (stranger && strangers >= self.limits.anonymous);
        if full {
            return Err(Refusal::Busy { what: self.what });
        }
        taken.insert(who, own + 1);
        Ok(Place {
            places: Arc::clone(self),
            who,
        })
    }

    /// How many are taken.
    pub(crate) fn count(&self) -> usize {
        self.taken
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .sum()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.who) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.who);
            }
        }
    }
}

/// An IPv6 host has its whole /64.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(six) => {
            let [a, b, c, d, ..] = six.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        four @ IpAddr::V4(_) => four,
    }
}

#[cfg(test)]
mod tests {
    use mtls::serve::PeerFacts;

    use super::*;

    fn peer(address: &str, key: Option<&[u8]>) -> Peer {
        Peer::new(PeerFacts {
            id: 1,
            addr: format!("{address}:1").parse().unwrap(),
            identity: None,
            key: key.map(Digest::of),
            certificate: None,
            between: Vec::new(),
            exporter: [0; 32],
        })
    }

    #[test]
    fn places_are_bounded_for_each_for_strangers_and_in_all_and_come_back() {
        let limits = PlaceLimits {
            all: 4,
            anonymous: 3,
            each: 2,
        };
        let places = Places::new("chairs", limits);
        let (near, far) = (peer("10.0.0.1", None), peer("10.0.0.2", None));
        let first = places.enter(&near).unwrap();
        let _second = places.enter(&near).unwrap();
        assert!(places.enter(&near).is_err(), "each");
        let _third = places.enter(&far).unwrap();
        assert!(places.enter(&far).is_err(), "strangers");
        let _known = places.enter(&peer("10.0.0.1", Some(b"a"))).unwrap();
        assert!(places.enter(&peer("10.0.0.1", Some(b"b"))).is_err(), "in all");
        drop(first);
        assert_eq!(places.count(), 3);
        places.enter(&near).unwrap();
    }

    #[test]
    fn one_network_is_one_stranger() {
        let limits = PlaceLimits {
            all: 4,
            anonymous: 4,
            each: 1,
        };
        let places = Places::new("chairs", limits);
        let _first = places.enter(&peer("[2001:db8::1]", None)).unwrap();
        assert!(places.enter(&peer("[2001:db8::2]", None)).is_err());
        assert!(places.enter(&peer("[2001:db8:0:1::2]", None)).is_ok());
    }
}
