//! A slow disk under a download: the agent goes on looking after everything else.

use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use device::agent::Agent;
use device::limits::WRITE_PIECE;
use device::world::World;
use device::writer::{Writer, begin};
use durable::{Files, Store};
use protocol::Outcome;
use protocol::control::{DeviceRequest, DeviceStatus, InstallEntry};
use release::Release;
use tuf::Digest;

use crate::disk::{Ear, Heard, Op};
use crate::repository::{good, script};
use crate::site::{Site, wait_for};

/// A disk on which one operation on a part does not return before the test lets it.
#[derive(Debug)]
struct Gate {
    holds: Op,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    reached: bool,
    open: bool,
    /// Nobody opened it: whoever should have was blocked itself.
    gave_up: bool,
}

impl Gate {
    fn holding(holds: Op) -> Arc<Self> {
        Arc::new(Self {
            holds,
            state: Mutex::default(),
            changed: Condvar::new(),
        })
    }

    fn is_reached(&self) -> bool {
        self.state.lock().unwrap().reached
    }

    /// Lets it go on; whether it was still held.
    fn open(&self) -> bool {
        let mut state = self.state.lock().unwrap();
        state.open = true;
        self.changed.notify_all();
        !state.gave_up
    }
}

impl Ear for Gate {
    fn hear(&self, op: Op, path: &Path) -> io::Result<()> {
        if op != self.holds || path.extension().is_none_or(|end| end != "part") {
            return Ok(());
        }
        let mut state = self.state.lock().unwrap();
        state.reached = true;
        // Not a wait for anything that happens: without it a failure would hang.
        let patience = Duration::from_secs(20);
        let (mut state, waited) = self
            .changed
            .wait_timeout_while(state, patience, |state| !state.open)
            .unwrap();
        if waited.timed_out() {
            state.open = true;
            state.gave_up = true;
        }
        Ok(())
    }
}

/// An agent on which 1.0.0 runs, on a disk with this gate.
async fn agent_behind(site: &Site, gate: &Arc<Gate>) -> Agent {
    let (agent, _) = site.with_first_version().await;
    agent.cut_off().await;
    let world = World {
        files: Files::on(Arc::new(Heard(gate.clone()))),
        ..World::system()
    };
    let agent = site.agent_in(world).await;
    wait_for("the program", || (site.running().len() == 1).then_some(())).await;
    agent
}

fn large(version: &str, length: usize) -> (Release, Vec<u8>) {
    let mut program = good(version);
    program.extend(std::iter::repeat_n(b'#', length));
    (script(version, 2), program)
}

/// While the disk holds the download: requests are answered, and a program that dies is started again.
async fn all_else_goes_on(site: &Site, gate: &Gate) {
    wait_for("the slow disk", || gate.is_reached().then_some(())).await;
    let mut client = control::Client::connect(&site.layout().control(), "device")
        .await
        .unwrap();
    let status: DeviceStatus = client.call(&DeviceRequest::Status).await.unwrap();
    assert_eq!(
        status.components[0].version.as_ref().unwrap().to_string(),
        "1.0.0"
    );
    let history: Vec<InstallEntry> = client.call(&DeviceRequest::History { last: 1 }).await.unwrap();
    assert_eq!(history.len(), 1);
    let starts = site.data("starts").lines().count();
    site.end_programs();
    wait_for("another start", || {
        (site.data("starts").lines().count() > starts).then_some(())
    })
    .await;
    assert!(gate.open(), "the agent waited for the disk");
}

async fn goes_on_while(holds: Op) {
    let site = Site::new().await;
    let gate = Gate::holding(holds);
    let agent = agent_behind(&site, &gate).await;
    let (second, program) = large("1.1.0", 3 << 20);
    site.publish(&second, &program, Some("1.0.0"));
    all_else_goes_on(&site, &gate).await;
    site.ends_with(&second, Outcome::Committed).await;
    assert_eq!(site.data("running"), "1.1.0");
    agent.stop().await;
}

#[tokio::test]
async fn the_agent_goes_on_while_a_part_is_taken_up() {
    goes_on_while(Op::Reserve).await;
}

#[tokio::test]
async fn the_agent_goes_on_while_a_piece_is_written() {
    goes_on_while(Op::Write).await;
}

#[tokio::test]
async fn the_agent_goes_on_while_a_file_is_flushed() {
    goes_on_while(Op::Flush).await;
}

/// A disk that takes nothing holds the network back: what waits in memory is bounded.
#[tokio::test]
async fn a_disk_that_takes_nothing_leaves_no_room_for_more() {
    const PIECE: usize = 64 << 10;
    let dir = tempfile::tempdir().unwrap();
    let gate = Gate::holding(Op::Write);
    let store = Store::open_on(Files::on(Arc::new(Heard(gate.clone()))), dir.path()).unwrap();
    let whole = vec![b'#'; 4 << 20];
    let incoming = begin(&store, Digest::of(&whole), whole.len() as u64)
        .await
        .unwrap();
    let mut writer = Writer::new(incoming);
    let mut pieces = whole.chunks(PIECE);
    while writer.has_room() {
        writer.take(pieces.next().unwrap()).unwrap();
    }
    let most = 2 * WRITE_PIECE + PIECE;
    assert!(
        writer.offset() <= most as u64,
        "{} bytes are held",
        writer.offset()
    );
    assert!(writer.is_writing() && gate.open());
    for piece in pieces {
        writer.take(piece).unwrap();
        writer.written().await.unwrap();
    }
    writer.finish().await.unwrap();
    assert_eq!(store.verify(&Digest::of(&whole)).unwrap(), whole.len() as u64);
}

/// An order that is superseded in the middle of a piece leaves its part locked for a moment.
#[tokio::test]
async fn a_part_that_a_dropped_download_still_writes_is_waited_for() {
    let site = Site::new().await;
    let gate = Gate::holding(Op::Write);
    let agent = agent_behind(&site, &gate).await;
    let (second, program) = large("1.1.0", 3 << 20);
    site.publish(&second, &program, Some("1.0.0"));
    wait_for("the slow disk", || gate.is_reached().then_some(())).await;
    agent.cut_off().await;
    let agent = site.agent().await;
    wait_for("the download that comes again", || {
        let newest = agent.hub.bus.newest(&crate::site::component()).last;
        newest
            .is_some_and(|last| last.step == protocol::Step::Ordered)
            .then_some(())
    })
    .await;
    assert!(gate.open());
    site.ends_with(&second, Outcome::Committed).await;
    agent.stop().await;
}
