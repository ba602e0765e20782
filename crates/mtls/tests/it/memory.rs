//! How much a connection costs, measured with the clients in a process of their own.

use std::io::Read;
use std::process::{Command, Stdio};

use mtls::serve::Limits;
use mtls::{ClientAuth, Credentials, HTTP_1_1, SiteCa, client_config};
use protocol::Role;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::site::{NOW, Site, at, name, start_with};

/// Connections to measure with: enough to drown the process's own size.
const COUNT: usize = 500;
/// Bytes of resident memory that one device listening to events may cost, in a debug build.
const ALLOWED: usize = 48 * 1024;

fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[tokio::test]
async fn a_device_that_listens_to_events_costs_little_memory() {
    let site = Site::new();
    let limits = Limits {
        per_key: COUNT,
        ..Limits::default()
    };
    let server = start_with(
        site.server(Role::Manager, ClientAuth::Required, &[Role::Device]),
        limits,
    )
    .await;
    let dir = tempfile::TempDir::new().unwrap();
    let issued = site.issued(Role::Device);
    let (cert, key) = (dir.path().join("tls.pem"), dir.path().join("tls-key.pem"));
    certs::files::write_issued(&cert, &key, &issued).unwrap();
    certs::files::write_certificate(&dir.path().join("ca.pem"), site.root.certificate_pem()).unwrap();
    let before = resident();
    let mut clients = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "--ignored",
            "--nocapture",
            "memory::the_clients_of_the_measurement",
        ])
        .env("MTLS_TEST_SITE", dir.path())
        .env("MTLS_TEST_PORT", server.addr.port().to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut words = clients.stderr.take().unwrap();
    let ready = tokio::task::spawn_blocking(move || words.read_exact(&mut [0; 5]).map(|()| words));
    let _words = ready.await.unwrap().expect("the clients did not connect");
    assert_eq!(server.connections.counts().live, COUNT);
    let each = (resident() - before) / COUNT;
    println!("{each} bytes for each connection");
    drop(clients.stdin.take());
    clients.wait().unwrap();
    assert!(
        each < ALLOWED,
        "{each} bytes for each connection, {ALLOWED} allowed"
    );
}

#[tokio::test]
#[ignore = "started by the test above, as a process of its own"]
async fn the_clients_of_the_measurement() {
    let dir = std::path::PathBuf::from(std::env::var_os("MTLS_TEST_SITE").unwrap());
    let port = std::env::var("MTLS_TEST_PORT").unwrap().parse().unwrap();
    let own = Credentials::load(&dir.join("tls.pem"), &dir.join("tls-key.pem")).unwrap();
    let ca = SiteCa::load(&dir.join("ca.pem")).unwrap();
    let config = client_config(
        Some(&own),
        &ca,
        &name("plant"),
        Role::Manager,
        &[HTTP_1_1],
        at(NOW),
    )
    .unwrap();
    let config = std::sync::Arc::new(config);
    let mut open = Vec::with_capacity(COUNT);
    for _ in 0..COUNT {
        let dialled = mtls::dial::dial("127.0.0.1", port, config.clone(), crate::site::WAIT)
            .await
            .unwrap();
        let mut stream = dialled.stream;
        stream
            .write_all(b"GET /events HTTP/1.1\r\nhost: plant\r\n\r\n")
            .await
            .unwrap();
        stream.read_u8().await.unwrap();
        open.push(stream);
    }
    eprint!("ready");
    // Until the parent closes our standard input.
    let mut sink = Vec::new();
    std::io::stdin().read_to_end(&mut sink).unwrap();
}
