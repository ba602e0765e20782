//! Slow, silent and too many clients.

use std::time::{Duration, Instant};

use mtls::serve::Limits;
use mtls::{ClientAuth, Refusal, ServerConfig};
use protocol::Role;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::site::{Running, Site, WAIT, ask, open, start_with, who};

fn anonymous(site: &Site) -> ServerConfig {
    site.server(Role::Repository, ClientAuth::Optional, &[Role::Author])
}

async fn raw(site: &Site, server: &Running) -> TlsStream<TcpStream> {
    let config = site.client(None, Role::Repository);
    mtls::dial::dial("127.0.0.1", server.addr.port(), config, WAIT)
        .await
        .unwrap()
        .stream
}

/// Reads until the other side closes, whichever way.
async fn closed(stream: &mut (impl AsyncReadExt + Unpin)) {
    let mut sink = vec![0; 64 * 1024];
    let reading = async { while stream.read(&mut sink).await.is_ok_and(|bytes| bytes > 0) {} };
    tokio::time::timeout(WAIT, reading)
        .await
        .expect("the connection stays open");
}

#[tokio::test]
async fn a_client_that_never_says_hello_is_dropped() {
    let site = Site::new();
    let limits = Limits {
        handshake_seconds: 1,
        ..Limits::default()
    };
    let server = start_with(anonymous(&site), limits).await;
    let mut silent = TcpStream::connect(server.addr).await.unwrap();
    closed(&mut silent).await;
    assert_eq!(server.refusal().await, Refusal::TooSlow);
}

#[tokio::test]
async fn silent_clients_do_not_take_the_turns_of_others() {
    let site = Site::new();
    let limits = Limits {
        handshakes: 1,
        ..Limits::default()
    };
    let server = start_with(anonymous(&site), limits).await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(TcpStream::connect(server.addr).await.unwrap());
    }
    who(server.addr, site.client(None, Role::Repository))
        .await
        .unwrap();
}

#[tokio::test]
async fn one_address_gets_its_share_of_anonymous_connections_and_no_more() {
    let site = Site::new();
    let limits = Limits {
        per_address: 2,
        ..Limits::default()
    };
    let server = start_with(anonymous(&site), limits).await;
    let client = site.client(None, Role::Repository);
    let first = open(server.addr, client.clone()).await.unwrap();
    let _second = open(server.addr, client.clone()).await.unwrap();
    server.live(2).await;
    let mut third = TcpStream::connect(server.addr).await.unwrap();
    closed(&mut third).await;
    assert!(matches!(server.refusal().await, Refusal::TooMany(_)));
    drop(first);
    server.live(1).await;
    who(server.addr, client).await.unwrap();
}

#[tokio::test]
async fn those_who_have_shown_who_they_are_do_not_count_against_their_address() {
    let site = Site::new();
    let limits = Limits {
        per_address: 1,
        ..Limits::default()
    };
    let server = start_with(anonymous(&site), limits).await;
    let author = site.credentials(Role::Author);
    let known = site.client(Some(&author), Role::Repository);
    let mut kept = Vec::new();
    for count in 1..=5 {
        kept.push(open(server.addr, known.clone()).await.unwrap());
        server.live(count).await;
    }
    who(server.addr, site.client(None, Role::Repository))
        .await
        .unwrap();
}

#[tokio::test]
async fn one_key_gets_its_share_of_connections_and_no_more() {
    let site = Site::new();
    let limits = Limits {
        per_key: 1,
        ..Limits::default()
    };
    let server = start_with(anonymous(&site), limits).await;
    let author = site.credentials(Role::Author);
    let known = site.client(Some(&author), Role::Repository);
    let (mut first, _) = open(server.addr, known.clone()).await.unwrap();
    ask(&mut first, "/who").await.unwrap();
    who(server.addr, known).await.unwrap_err();
    assert!(matches!(server.refusal().await, Refusal::TooMany(_)));
    ask(&mut first, "/who").await.unwrap();
}

#[tokio::test]
async fn a_full_listener_turns_away_and_recovers() {
    let site = Site::new();
    let limits = Limits {
        connections: 1,
        ..Limits::default()
    };
    let server = start_with(anonymous(&site), limits).await;
    let client = site.client(None, Role::Repository);
    let first = open(server.addr, client.clone()).await.unwrap();
    server.live(1).await;
    let mut second = TcpStream::connect(server.addr).await.unwrap();
    closed(&mut second).await;
    drop(first);
    server.live(0).await;
    while who(server.addr, client.clone()).await.is_err() {}
}

#[tokio::test]
async fn a_header_that_trickles_in_is_cut_off() {
    let site = Site::new();
    let limits = Limits {
        header_seconds: 1,
        ..Limits::default()
    };
    let server = start_with(anonymous(&site), limits).await;
    let mut slow = raw(&site, &server).await;
    let began = Instant::now();
    slow.write_all(b"GET /who HTTP/1.1\r\nhost: plant\r\n")
        .await
        .unwrap();
    let mut sink = [0; 1024];
    loop {
        // One more header byte now and then does not help.
        tokio::select! {
            read = slow.read(&mut sink) => if read.is_err() || read.is_ok_and(|bytes| bytes == 0) { break },
            () = tokio::time::sleep(Duration::from_millis(100)) => {
                if slow.write_all(b"x").await.is_err() { break }
            }
        }
        assert!(began.elapsed() < WAIT);
    }
    server.live(0).await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_but_not_before_its_time() {
    let site = Site::new();
    let limits = Limits {
        idle_seconds: 1,
        header_seconds: 60,
        ..Limits::default()
    };
    let server = start_with(anonymous(&site), limits).await;
    let began = Instant::now();
    let mut idle = raw(&site, &server).await;
    closed(&mut idle).await;
    assert!(began.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn a_body_that_never_comes_is_not_waited_for() {
    let site = Site::new();
    let limits = Limits {
        stall_seconds: 1,
        ..Limits::default()
    };
    let server = start_with(anonymous(&site), limits).await;
    let mut slow = raw(&site, &server).await;
    let head = b"POST /echo HTTP/1.1\r\nhost: plant\r\ncontent-length: 1000\r\n\r\nhalf";
    slow.write_all(head).await.unwrap();
    closed(&mut slow).await;
}

#[tokio::test]
async fn an_answer_that_nobody_takes_is_dropped() {
    let site = Site::new();
    let limits = Limits {
        stall_seconds: 1,
        ..Limits::default()
    };
    let server = start_with(anonymous(&site), limits).await;
    let mut deaf = raw(&site, &server).await;
    deaf.write_all(b"GET /big HTTP/1.1\r\nhost: plant\r\n\r\n")
        .await
        .unwrap();
    server.live(1).await;
    server.live(0).await;
}

#[tokio::test]
async fn an_event_stream_is_neither_idle_nor_stalled() {
    let site = Site::new();
    let limits = Limits {
        stall_seconds: 1,
        idle_seconds: 1,
        header_seconds: 1,
        ..Limits::default()
    };
    let server = start_with(anonymous(&site), limits).await;
    let mut listening = raw(&site, &server).await;
    listening
        .write_all(b"GET /events HTTP/1.1\r\nhost: plant\r\n\r\n")
        .await
        .unwrap();
    server.live(1).await;
    // Three times the longest of those limits.
    let gone = tokio::time::timeout(Duration::from_secs(3), server.live(0)).await;
    assert!(gone.is_err(), "the stream was closed");
}

#[tokio::test]
async fn a_header_larger_than_its_limit_is_refused() {
    let site = Site::new();
    let server = start_with(anonymous(&site), Limits::default()).await;
    let mut big = raw(&site, &server).await;
    let head = format!(
        "GET /who HTTP/1.1\r\nhost: plant\r\nx: {}\r\n\r\n",
        "y".repeat(64 * 1024)
    );
    let _ = big.write_all(head.as_bytes()).await;
    let mut answer = vec![0; 12];
    big.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, b"HTTP/1.1 431");
}
