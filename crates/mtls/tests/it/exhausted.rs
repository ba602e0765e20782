//! No file descriptor left: the listener waits without spinning, and goes on when there is one again.

use std::process::Command;
use std::time::Duration;

use mtls::ClientAuth;
use protocol::Role;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpStream;

use crate::site::{Site, WAIT, start, who};

/// The limit holds for a whole process, so the test runs in one of its own.
#[test]
fn a_listener_without_descriptors_neither_spins_nor_dies() {
    let outcome = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "--ignored",
            "--nocapture",
            "exhausted::in_a_process_of_its_own",
        ])
        .output()
        .unwrap();
    assert!(
        outcome.status.success(),
        "{}",
        String::from_utf8_lossy(&outcome.stderr)
    );
}

#[tokio::test]
#[ignore = "started by the test above, as a process of its own"]
async fn in_a_process_of_its_own() {
    let site = Site::new();
    let server = start(site.server(Role::Repository, ClientAuth::None, &[])).await;
    let client = site.client(None, Role::Repository);
    who(server.addr, client.clone()).await.unwrap();

    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(64),
            maximum,
        },
    )
    .unwrap();
    let mut held = Vec::new();
    // The last descriptor goes to a client of whose connection nobody can take the other end.
    while let Ok(socket) = TcpStream::connect(server.addr).await {
        held.push(socket);
    }
    let before = processor_time();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let used = processor_time() - before;
    assert!(used < Duration::from_millis(100), "{used:?} of half a second");

    drop(held);
    let served = async { while who(server.addr, client.clone()).await.is_err() {} };
    tokio::time::timeout(WAIT, served)
        .await
        .expect("the listener is dead");
}

fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap(),
        u32::try_from(time.tv_nsec).unwrap(),
    )
}
