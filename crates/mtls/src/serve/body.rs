//! Bodies that tell the meter when somebody waits for them and when they are done.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};

use super::meter::{InFlight, Meter};

/// The body of a request.
pub(crate) struct Inbound {
    body: Incoming,
    meter: Arc<Meter>,
    awaited: bool,
}

impl Inbound {
    pub(crate) fn wrap(body: Incoming, meter: &Arc<Meter>) -> Body {
        if body.is_end_stream() {
            return Body::empty();
        }
        Body::new(Self {
            body,
            meter: Arc::clone(meter),
            awaited: false,
        })
    }

    fn mark(&mut self, awaited: bool) {
        if self.awaited != awaited {
            self.awaited = awaited;
            self.meter.body_awaited(awaited);
        }
    }
}

impl HttpBody for Inbound {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let outcome = Pin::new(&mut self.body).poll_frame(context);
        self.mark(outcome.is_pending());
        outcome
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Inbound {
    fn drop(&mut self) {
        self.mark(false);
    }
}

/// The body of an answer; its request is in flight until it is dropped.
pub(crate) struct Outbound {
    body: Body,
    _in_flight: InFlight,
}

impl Outbound {
    pub(crate) fn new(body: Body, in_flight: InFlight) -> Self {
        Self {
            body,
            _in_flight: in_flight,
        }
    }
}

impl HttpBody for Outbound {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
