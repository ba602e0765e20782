//! What a device's agent reads back from its own disk, apart from what it trusts: which version runs and where its
//! install life stands, and its settings; with a right checksum too. Whatever is read can be gone on from.

use std::cell::LazyCell;
use std::path::Path;

use device::generation::{Generation, GenerationStore};
use device::layout::Layout;
use device::machine::{
    Answers, Attempt, Bad, Cause, Ended, Happening, Installed, Life, Phase, Reboot, Slot, step,
};
use device::settings::Settings;
use durable::Files;
use protocol::{Outcome, UpdateId};
use release::Kind;
use serde_json::Value;
use tuf::Digest;

use crate::edits::{Input, edit};

/// What the records begin with.
const HEAD: &str = "drover-record generation 1";
/// Steps that one input may take from what was read.
const STEPS: usize = 16;

pub fn seeds() -> Vec<Vec<u8>> {
    let mut all = vec![[b"\x00", &sealed(&body(&whole()))[..]].concat()];
    all.push([b"\x01", &body(&whole())[..]].concat());
    for kind in 0..8 {
        all.push(vec![2, 1, 0, kind, kind, 2, b'x', b'y', 0, 9, 10, 4, 5, 7]);
    }
    all.push(b"\x03manager = \"gateway:7101\"\ncomponents = [\"*\"]\n".to_vec());
    all
}

pub fn run(data: &[u8]) {
    thread_local! {
        static FOLDER: LazyCell<tempfile::TempDir> = LazyCell::new(crate::package::folder);
    }
    let mut input = Input(data);
    FOLDER.with(|folder| {
        let folder = folder.path();
        match input.byte() % 4 {
            0 => open(folder, input.0, &sealed(&body(&whole())), &mut Input(&[])),
            1 => open(folder, &sealed(input.0), input.0, &mut Input(&[])),
            2 => {
                let mut value: Value = serde_json::from_slice(&body(&whole())).expect("JSON of our own");
                edit(&mut value, &mut input);
                let changed = serde_json::to_vec(&value).expect("JSON");
                open(folder, &sealed(&changed), b"", &mut input);
            }
            _ => settings(folder, input.0),
        }
    });
}

/// Opens both records, and goes on from what they say.
fn open(folder: &Path, record: &[u8], copy: &[u8], input: &mut Input<'_>) {
    let layout = Layout::new(folder).expect("a folder");
    std::fs::create_dir_all(layout.state()).expect("made");
    for (name, bytes) in [("generation.rec", record), ("generation.copy.rec", copy)] {
        std::fs::write(layout.state().join(name), bytes).expect("written");
    }
    let opened = GenerationStore::open(&Files::default(), &layout, Generation::default);
    let Ok((store, _)) = opened else { return };
    let said = store.get();
    let _ = store.needed();
    store.save().expect("saved");
    for slot in said.components.into_values() {
        go_on(slot, input);
    }
    let (again, trouble) =
        GenerationStore::open(&Files::default(), &layout, Generation::default).expect("read again");
    assert_eq!((again.get(), trouble), (store.get(), None));
}

/// The agent has started, and then happens what the input says.
fn go_on(slot: Slot, input: &mut Input<'_>) {
    let Ok((mut slot, _)) = step(slot, Happening::Restarted) else {
        return;
    };
    for _ in 0..STEPS {
        let reason = || "made up".to_owned();
        let happening = match input.byte() % 15 {
            0 => Happening::Ordered(attempt(Cause::Order)),
            1 => Happening::RolledBackByHand(attempt(Cause::ByHand)),
            2 => Happening::Prepared,
            3 => Happening::NotPrepared {
                reason: reason(),
                bad: true,
            },
            4 => Happening::Cleared,
            5 => Happening::NotCleared { reason: reason() },
            6 => Happening::Stopped,
            7 => Happening::Passed,
            8 => Happening::Unhealthy { reason: reason() },
            9 => Happening::TakenBack,
            10 => Happening::Reported,
            11 => Happening::Fetched { undoes: true },
            12 => Happening::Did { reboot: Reboot::Yes },
            13 => Happening::DidNot { reason: reason() },
            _ => Happening::Released,
        };
        let ran = slot.current.is_some();
        if let Ok((next, _)) = step(slot.clone(), happening) {
            // The pointer goes from one version to another, never from one to none, unless there was none before, or
            // a module could not undo what it did.
            let way_back = slot
                .attempt
                .as_ref()
                .is_some_and(|attempt| attempt.from.is_some());
            assert!(
                !ran || next.current.is_some() || !way_back || matches!(slot.life, Life::Module(_)),
                "{slot:?} -> {next:?}"
            );
            slot = next;
        }
    }
}

fn settings(folder: &Path, text: &[u8]) {
    let path = folder.join("device.toml");
    std::fs::write(&path, text).expect("written");
    if let Ok(settings) = Settings::load(&path) {
        settings.save(&path).expect("saved");
        let again = Settings::load(&path).expect("what was saved is read");
        assert_eq!(format!("{again:?}"), format!("{settings:?}"));
    }
}

fn sealed(body: &[u8]) -> Vec<u8> {
    let digest = Digest::of(&[b"generation 1\n", body].concat());
    [format!("{HEAD} {digest}\n").as_bytes(), body].concat()
}

fn body(generation: &Generation) -> Vec<u8> {
    serde_json::to_vec(generation).expect("JSON")
}

/// A component in every state of its life.
fn whole() -> Generation {
    let ended = Life::Ended(Ended {
        outcome: Outcome::RolledBack,
        reason: Some("it did not start".into()),
    });
    let lives = [
        Life::Idle,
        Life::Preparing,
        Life::Staged,
        Life::Switching,
        Life::Trying,
        Life::Returning,
        Life::Module(Phase::Install),
        Life::Module(Phase::Undo),
        ended,
    ];
    let slot = |life: Life| Slot {
        current: Some(installed(1)),
        previous: Some(installed(0)),
        attempt: (life != Life::Idle).then(|| attempt(Cause::Order)),
        life,
        bad: vec![Bad {
            digest: Digest::of(b"bad"),
            version: "0.9.0".parse().expect("a version"),
            reason: "it died".into(),
        }],
        held: false,
        interrupted: Some((id(), 1)),
        arrived: Some((id(), 7)),
        excused: Some((id(), 1)),
    };
    let named = lives.into_iter().map(|life| {
        let name = life
            .name()
            .to_lowercase()
            .replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        (name.parse().expect("a component"), slot(life))
    });
    Generation {
        number: 7,
        components: named.collect(),
    }
}

fn installed(version: u64) -> Installed {
    Installed {
        digest: Digest::of(&version.to_be_bytes()),
        version: format!("1.{version}.0").parse().expect("a version"),
        counter: version,
        update: id(),
        target: format!("heater/1.{version}.0/heater").parse().expect("a path"),
        kind: Kind::App,
    }
}

fn attempt(cause: Cause) -> Attempt {
    Attempt {
        update: id(),
        cause,
        to: installed(2),
        from: Some(installed(1)),
        restarts: 0,
        began: mtls::stamp(),
        events: Vec::new(),
        answers: Answers::default(),
        wait: None,
        word: None,
        data: None,
        note: None,
        excuse: None,
    }
}

fn id() -> UpdateId {
    UpdateId::from_random([7; 16])
}
