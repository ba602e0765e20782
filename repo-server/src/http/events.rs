//! `/events`: "something new is visible", to a bounded number of listeners.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::{Stream, stream};
use mtls::serve::Peer;
use protocol::author::Published;
use protocol::limits::KEEP_ALIVE_SECONDS;
use tokio::sync::watch;

use super::App;
use crate::visible::Visible;
use crate::{Limits, Refusal};

/// Who listens, by address.
#[derive(Debug)]
pub(crate) struct Subscribers {
    at_most: usize,
    per_address: usize,
    here: Mutex<HashMap<IpAddr, usize>>,
}

/// One listener; gives its place back when dropped.
struct Place {
    subscribers: Arc<Subscribers>,
    address: IpAddr,
}

impl Subscribers {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            at_most: limits.subscribers,
            per_address: limits.subscribers_per_address,
            here: Mutex::default(),
        }
    }

    fn enter(self: &Arc<Self>, address: IpAddr) -> Result<Place, Refusal> {
        let mut here = self.here.lock().unwrap_or_else(PoisonError::into_inner);
        let total: usize = here.values().sum();
        let count = here.entry(address).or_default();
        if total >= self.at_most || *count >= self.per_address {
            if *count == 0 {
                here.remove(&address);
            }
            return Err(Refusal::Busy {
                what: "event streams",
            });
        }
        *count += 1;
        Ok(Place {
            subscribers: Arc::clone(self),
            address,
        })
    }

    /// How many listen.
    pub(crate) fn count(&self) -> usize {
        self.here
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .sum()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut here = self
            .subscribers
            .here
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = here.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                here.remove(&self.address);
            }
        }
    }
}

/// What a stream goes on with.
struct Listening {
    visible: watch::Receiver<Arc<Visible>>,
    last: u64,
    app: App,
    _place: Place,
}

/// The newest version at once, then each change. A slow listener misses those in between, never the last.
pub(crate) async fn events(
    State(app): State<App>,
    peer: Peer,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Refusal> {
    let place = app.subscribers.enter(peer.addr.ip().to_canonical())?;
    let mut visible = app.repository.watch();
    visible.mark_changed();
    let listening = Listening {
        visible,
        last: 0,
        app,
        _place: place,
    };
    let events = stream::unfold(listening, async |mut listening| {
        let event = next(&mut listening).await?;
        Some((Ok(event), listening))
    });
    let keep_alive = KeepAlive::new()
        .interval(Duration::from_secs(KEEP_ALIVE_SECONDS))
        .text("still here");
    Ok(Sse::new(events).keep_alive(keep_alive))
}

async fn next(listening: &mut Listening) -> Option<Event> {
    loop {
        tokio::select! {
            () = listening.app.stop.cancelled() => return None,
            changed = listening.visible.changed() => changed.ok()?,
        }
        let published = {
            let visible = listening.visible.borrow_and_update();
            let [_, timestamp, _, _] = visible.versions;
            if visible.recovering || timestamp == 0 || timestamp == listening.last {
                continue;
            }
            listening.last = timestamp;
            Published {
                timestamp,
                update: visible.update,
            }
        };
        if let Ok(event) = Event::default().event("published").json_data(published) {
            return Some(event);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_in_all_and_per_address_and_come_back() {
        let limits = Limits {
            subscribers: 3,
            subscribers_per_address: 2,
            ..Limits::default()
        };
        let subscribers = Arc::new(Subscribers::new(&limits));
        let (near, far): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let first = subscribers.enter(near).unwrap();
        let _second = subscribers.enter(near).unwrap();
        assert!(subscribers.enter(near).is_err());
        let _third = subscribers.enter(far).unwrap();
        assert!(subscribers.enter(far).is_err());
        drop(first);
        assert_eq!(subscribers.count(), 2);
        subscribers.enter(near).unwrap();
    }
}
