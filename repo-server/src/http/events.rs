//! `/events`: "something new is visible", to a bounded number of listeners.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::{Stream, stream};
use mtls::serve::Peer;
use protocol::author::Published;
use protocol::limits::KEEP_ALIVE_SECONDS;
use tokio::sync::watch;

use super::App;
use super::places::Place;
use crate::Refusal;
use crate::visible::Visible;

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
    let place = app.subscribers.enter(&peer)?;
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
