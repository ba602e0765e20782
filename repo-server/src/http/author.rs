//! `/api/v1`: uploads, publish, recover, reports.

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use mtls::serve::Peer;
use protocol::author::{Publish, Receipt, Recover, Recovered, RelayedReport, ReportPage, UploadState};
use protocol::device::ReportsTaken;
use protocol::limits::{MAX_PUBLISH_BODY, MAX_UPLOAD_PIECE};
use serde::Deserialize;
use tuf::Digest;

use super::body::{Paced, check_length, json};
use super::{App, blocking, identity};
use crate::Refusal;
use crate::counters::add;
use crate::limits::{REPORT_PAGE, REPORTS_BODY, WRITE_BYTES};
use crate::uploads::{Opened, Piece};

fn digest(text: &str) -> Result<Digest, Refusal> {
    text.parse()
        .map_err(|error| Refusal::Malformed(format!("the name of an upload: {error}")))
}

fn query<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, Refusal> {
    match query {
        Ok(Query(values)) => Ok(values),
        Err(error) => Err(Refusal::Malformed(error.body_text())),
    }
}

pub(crate) async fn upload_state(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Json<UploadState>, Refusal> {
    let digest = digest(&name)?;
    blocking(move || Ok(Json(app.repository.upload_state(&digest)))).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UploadQuery {
    length: u64,
}

pub(crate) async fn upload(
    State(app): State<App>,
    peer: Peer,
    Path(name): Path<String>,
    values: Result<Query<UploadQuery>, QueryRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<UploadState>, Refusal> {
    let digest = digest(&name)?;
    let UploadQuery { length } = query(values)?;
    let offset = headers
        .get("upload-offset")
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok())
        .ok_or_else(|| Refusal::Malformed("the header Upload-Offset must say the next byte".to_owned()))?;
    check_length(&headers, MAX_UPLOAD_PIECE)?;
    let peer = identity(&peer)?;
    let repository = app.repository.clone();
    let opened = blocking(move || repository.open_upload(&peer, digest, length, offset)).await?;
    match opened {
        Opened::Complete(state) => Ok(Json(state)),
        Opened::Piece(piece) => {
            // On a task of its own: if the peer goes away in the middle, what has arrived is still written.
            let paced = Paced::new(body, &app.repository.limits);
            let task = tokio::spawn(receive(app, piece, paced));
            match task.await {
                Ok(outcome) => outcome.map(Json),
                Err(failed) => Err(Refusal::Internal(anyhow::Error::new(failed))),
            }
        }
    }
}

/// Moves a body to the disk in pieces of [`WRITE_BYTES`]; what came before a break stays.
async fn receive(app: App, mut piece: Piece, mut body: Paced) -> Result<UploadState, Refusal> {
    let mut buffer = Vec::with_capacity(WRITE_BYTES);
    let max = piece.room();
    let mut room = max;
    let broken = loop {
        match body.next().await {
            Ok(Some(bytes)) if bytes.len() as u64 > room => break Some(Refusal::BodyTooLarge { max }),
            Ok(Some(bytes)) => {
                room -= bytes.len() as u64;
                buffer.extend_from_slice(&bytes);
            }
            Ok(None) => break None,
            Err(refusal) => break Some(refusal),
        }
        if buffer.len() >= WRITE_BYTES {
            (piece, buffer) = write(&app, piece, buffer).await?;
        }
    };
    if !buffer.is_empty() {
        (piece, _) = write(&app, piece, buffer).await?;
    }
    match broken {
        None => blocking(move || piece.end()).await,
        Some(refusal) => {
            if matches!(refusal, Refusal::BodySlow { .. }) {
                add(&app.repository.counters.slow_cut, 1);
            }
            Err(refusal)
        }
    }
}

async fn write(app: &App, mut piece: Piece, mut buffer: Vec<u8>) -> Result<(Piece, Vec<u8>), Refusal> {
    add(&app.repository.counters.upload_bytes, buffer.len() as u64);
    blocking(move || {
        piece.write(&buffer)?;
        buffer.clear();
        Ok((piece, buffer))
    })
    .await
}

pub(crate) async fn publish(
    State(app): State<App>,
    peer: Peer,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Receipt>, Refusal> {
    let peer = identity(&peer)?;
    let request: Publish = json(&headers, body, MAX_PUBLISH_BODY, &app.repository.limits).await?;
    blocking(move || app.repository.publish(&peer, &request).map(Json)).await
}

pub(crate) async fn recover(
    State(app): State<App>,
    peer: Peer,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Recovered>, Refusal> {
    let peer = identity(&peer)?;
    let request: Recover = json(&headers, body, MAX_PUBLISH_BODY, &app.repository.limits).await?;
    blocking(move || app.repository.recover(&peer, &request).map(Json)).await
}

pub(crate) async fn take_reports(
    State(app): State<App>,
    peer: Peer,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<ReportsTaken>, Refusal> {
    let peer = identity(&peer)?;
    let reports: Vec<RelayedReport> = json(&headers, body, REPORTS_BODY, &app.repository.limits).await?;
    blocking(move || app.repository.take_reports(&peer, &reports).map(Json)).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReportsQuery {
    #[serde(default)]
    after: u64,
    #[serde(default = "page")]
    limit: u64,
    newest: Option<u64>,
}

fn page() -> u64 {
    REPORT_PAGE
}

pub(crate) async fn reports(
    State(app): State<App>,
    values: Result<Query<ReportsQuery>, QueryRejection>,
) -> Result<Json<ReportPage>, Refusal> {
    let ReportsQuery { after, limit, newest } = query(values)?;
    blocking(move || app.repository.reports(after, limit, newest).map(Json)).await
}
