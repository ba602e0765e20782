//! Live connections are cut at once; a shutdown lets requests finish.

use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper_util::rt::{TokioExecutor, TokioIo};
use mtls::serve::Limits;
use mtls::{ClientAuth, HTTP_2};
use protocol::Role;

use crate::site::{NOW, Site, WAIT, ask, at, open, start, start_with};

#[tokio::test]
async fn a_deleted_device_is_cut_in_the_middle_of_its_event_stream() {
    let site = Site::new();
    let server = start(site.server(Role::Manager, ClientAuth::Required, &[Role::Device])).await;
    let own = site.credentials(Role::Device);
    let (mut sender, _) = open(server.addr, site.client(Some(&own), Role::Manager))
        .await
        .unwrap();
    let request = Request::get("/events")
        .header("host", "plant")
        .body(Empty::new())
        .unwrap();
    let mut events = sender.send_request(request).await.unwrap().into_body();
    events.frame().await.unwrap().unwrap();

    let other = server.connections.close_where(|peer| peer.key.is_none());
    assert_eq!(other, 0);
    let began = Instant::now();
    let key = own.key_fingerprint().unwrap();
    assert_eq!(server.connections.close_where(|peer| peer.key == Some(key)), 1);
    let end = tokio::time::timeout(WAIT, events.frame()).await.unwrap();
    assert!(
        matches!(end, Some(Err(_))),
        "the stream must break, not end: {end:?}"
    );
    assert!(began.elapsed() < Duration::from_secs(1));
    server.live(0).await;
}

#[tokio::test]
async fn an_http_2_stream_is_cut_as_well() {
    let site = Site::new();
    let server = start(site.server(Role::Manager, ClientAuth::Required, &[Role::Device])).await;
    let own = site.credentials(Role::Device);
    let config = site.client_at(Some(&own), Role::Manager, HTTP_2, at(NOW));
    let dialled = mtls::dial::dial("127.0.0.1", server.addr.port(), config, WAIT)
        .await
        .unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(dialled.stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    let request = Request::get("https://plant/events")
        .body(Empty::<axum::body::Bytes>::new())
        .unwrap();
    let mut events = sender.send_request(request).await.unwrap().into_body();
    events.frame().await.unwrap().unwrap();
    assert_eq!(server.connections.close_where(|peer| peer.identity.is_some()), 1);
    let end = tokio::time::timeout(WAIT, events.frame()).await.unwrap();
    assert!(
        matches!(end, Some(Err(_))),
        "the stream must break, not end: {end:?}"
    );
}

#[tokio::test]
async fn an_idle_connection_is_cut_as_well() {
    let site = Site::new();
    let server = start(site.server(Role::Manager, ClientAuth::Required, &[Role::Device])).await;
    let own = site.credentials(Role::Device);
    let (mut sender, _) = open(server.addr, site.client(Some(&own), Role::Manager))
        .await
        .unwrap();
    ask(&mut sender, "/who").await.unwrap();
    assert_eq!(server.connections.list().len(), 1);
    assert_eq!(server.connections.close_where(|_| true), 1);
    ask(&mut sender, "/who").await.unwrap_err();
    server.live(0).await;
}

#[tokio::test]
async fn a_shutdown_ends_idle_connections_at_once_and_streams_after_the_drain() {
    let site = Site::new();
    let limits = Limits {
        drain_seconds: 1,
        ..Limits::default()
    };
    let config = site.server(Role::Manager, ClientAuth::Required, &[Role::Device]);
    let mut server = start_with(config, limits).await;
    let own = site.credentials(Role::Device);
    let client = site.client(Some(&own), Role::Manager);
    let (mut idle, _) = open(server.addr, client.clone()).await.unwrap();
    ask(&mut idle, "/who").await.unwrap();
    let (mut busy, _) = open(server.addr, client).await.unwrap();
    let request = Request::get("/events")
        .header("host", "plant")
        .body(Empty::new())
        .unwrap();
    let mut events = busy.send_request(request).await.unwrap().into_body();
    events.frame().await.unwrap().unwrap();

    server.shutdown.cancel();
    server.live(1).await;
    assert!(!server.task.is_finished());
    assert!(events.frame().await.unwrap().is_err());
    tokio::time::timeout(WAIT, &mut server.task)
        .await
        .unwrap()
        .unwrap();
}
