//! What everybody may read: metadata, targets, health, the OpenAPI document.

use std::io::Read;
use std::ops::Range;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::{ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use mtls::serve::Peer;
use tracing::error;

use super::places::Place;
use super::range::{Part, is_held, part};
use super::{App, OPENAPI, blocking, shortened};
use crate::Refusal;
use crate::counters::add;
use crate::limits::READ_BYTES;
use crate::publish::split_name;
use crate::visible::{RoleBytes, Served};

/// A file that never changes under its name.
const IMMUTABLE: &str = "public, max-age=31536000, immutable";

/// 503 and the reason where it serves, but not as it should: a monitor is not to stay green.
pub(crate) async fn healthz(State(app): State<App>) -> Response {
    match blocking(move || Ok(app.repository.trouble())).await {
        Ok(None) => "ok\n".into_response(),
        Ok(Some(trouble)) => (StatusCode::SERVICE_UNAVAILABLE, format!("{trouble}\n")).into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

pub(crate) async fn openapi() -> Response {
    (
        [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-cache")],
        OPENAPI,
    )
        .into_response()
}

/// `timestamp.json` may change at any moment; files with a version in their name never do.
pub(crate) async fn metadata(
    State(app): State<App>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let visible = app.repository.visible();
    let fixed = split_name(&name);
    if fixed.is_none() && name != "timestamp.json" {
        return Err(Refusal::NotFound(shortened(&name)));
    }
    if fixed.is_none() && visible.recovering {
        return Err(Refusal::Recovering);
    }
    let file = match (visible.metadata.get(&name), fixed) {
        (Some(file), _) => Some(file.clone()),
        (None, Some((version, role))) => {
            let (repository, role) = (app.repository.clone(), role.to_owned());
            blocking(move || repository.old_role_file(&role, version)).await?
        }
        (None, None) => None,
    };
    let RoleBytes { bytes, digest } = file.ok_or_else(|| Refusal::NotFound(shortened(&name)))?;
    let etag = format!("\"{digest}\"");
    let caching = if fixed.is_some() { IMMUTABLE } else { "no-cache" };
    let common = [(ETAG, etag.clone()), (CACHE_CONTROL, caching.to_owned())];
    if is_held(&headers, &etag) {
        return Ok((StatusCode::NOT_MODIFIED, common).into_response());
    }
    Ok((common, [(CONTENT_TYPE, "application/json")], bytes).into_response())
}

/// A target's bytes, or a range of them, straight from the disk. Only what the targets role lists is there.
pub(crate) async fn target(
    State(app): State<App>,
    peer: Peer,
    Path(path): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let visible = app.repository.visible();
    let served = *visible
        .paths
        .get(&path)
        .ok_or_else(|| Refusal::NotFound(shortened(&path)))?;
    let etag = format!("\"{}\"", served.digest);
    let common = [
        (ETAG, etag.clone()),
        (CACHE_CONTROL, IMMUTABLE.to_owned()),
        (ACCEPT_RANGES, "bytes".to_owned()),
    ];
    if is_held(&headers, &etag) {
        return Ok((StatusCode::NOT_MODIFIED, common).into_response());
    }
    let length = served.length;
    let (status, bytes) = match part(&headers, length, &etag)? {
        Part::Whole => (StatusCode::OK, 0..length),
        Part::Bytes(bytes) => (StatusCode::PARTIAL_CONTENT, bytes),
    };
    let mut response = if method == Method::HEAD {
        (status, common).into_response()
    } else {
        let place = app.downloads.enter(&peer)?;
        (status, common, stream(app, served, bytes.clone(), place).await?).into_response()
    };
    let fields = response.headers_mut();
    fields.insert(
        CONTENT_TYPE,
        axum::http::HeaderValue::from_static("application/octet-stream"),
    );
    fields.insert(CONTENT_LENGTH, (bytes.end - bytes.start).into());
    if status == StatusCode::PARTIAL_CONTENT {
        let range = format!("bytes {}-{}/{length}", bytes.start, bytes.end - 1);
        if let Ok(range) = range.try_into() {
            fields.insert(CONTENT_RANGE, range);
        }
    }
    Ok(response)
}

/// A download under way; holds its place among them.
struct Sending {
    reader: Box<dyn Read + Send>,
    left: u64,
    served: Served,
    app: App,
    _place: Place,
}

async fn stream(app: App, served: Served, range: Range<u64>, place: Place) -> Result<Body, Refusal> {
    let storage = app.repository.storage.clone();
    let left = range.end - range.start;
    let reader = blocking(move || Ok(storage.read(&served.digest, range)?)).await?;
    let sending = Sending {
        reader,
        left,
        served,
        app,
        _place: place,
    };
    Ok(Body::from_stream(stream::try_unfold(sending, next_piece)))
}

async fn next_piece(sending: Sending) -> Result<Option<(Bytes, Sending)>, Refusal> {
    if sending.left == 0 {
        return Ok(None);
    }
    let digest = sending.served.digest;
    let read = blocking(move || {
        let mut sending = sending;
        let want = usize::try_from(sending.left)
            .unwrap_or(READ_BYTES)
            .min(READ_BYTES);
        let mut buffer = vec![0; want];
        sending
            .reader
            .read_exact(&mut buffer)
            .map_err(anyhow::Error::new)?;
        sending.left -= want as u64;
        add(&sending.app.repository.counters.target_bytes, want as u64);
        Ok(Some((Bytes::from(buffer), sending)))
    });
    read.await
        .inspect_err(|refusal| error!(%digest, reason = ?refusal, "a stored file cannot be read"))
}
