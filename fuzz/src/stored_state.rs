//! Files that a program reads back from its own disk: trusted state and checked records, with a right checksum too.

use std::cell::LazyCell;

use durable::Record;
use serde_json::Value;
use tuf::{Digest, Limits, TrustedState};

use crate::edits::{Input, edit};
use crate::repository::{REPOSITORY, live_with, refresh};

const STATE: &str = "drover-trusted-state 1";
const FLOORS: &str = "drover-trusted-floors 1";

pub fn seeds() -> Vec<Vec<u8>> {
    let (state, floors) = (REPOSITORY.client.to_bytes(), REPOSITORY.client.floors_bytes());
    let whole = [(0, &state), (1, &floors)].map(|(kind, bytes)| [&[kind], &bytes[..]].concat());
    let bodies = [(2, body(&state)), (3, body(&floors))];
    let bodies = bodies.map(|(kind, bytes)| [&[kind], bytes].concat());
    let edits = (0..8).flat_map(|kind| [4, 5].map(|file| vec![file, 1, 0, kind, kind, 2, b'x', b'y', 0, 9]));
    let record = b"\x06drover-record generation 1 00\n{}".to_vec();
    let mut all: Vec<_> = whole.into_iter().chain(bodies).chain(edits).collect();
    all.extend([record, b"\x07{\"a\":1}".to_vec()]);
    all
}

pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let (state, floors) = (REPOSITORY.client.to_bytes(), REPOSITORY.client.floors_bytes());
    match input.byte() % 8 {
        0 => load(input.0, &floors),
        1 => load(&state, input.0),
        2 => load(&sealed(STATE, input.0), &floors),
        3 => load(&state, &sealed(FLOORS, input.0)),
        4 => load(&sealed(STATE, &edited(&state, &mut input)), &floors),
        5 => load(&state, &sealed(FLOORS, &edited(&floors, &mut input))),
        6 => record(input.0),
        _ => {
            let digest = Digest::of(&[b"generation 1\n", input.0].concat());
            record(
                &[
                    format!("drover-record generation 1 {digest}\n").as_bytes(),
                    input.0,
                ]
                .concat(),
            );
        }
    }
}

/// Whatever is loaded can be lived with, and remembers what either file does.
fn load(state: &[u8], floors: &[u8]) {
    if let Ok(loaded) = TrustedState::from_parts(state, Some(floors)) {
        assert!(loaded.release_floor("thermostat") >= 7 || may_forget(state, floors));
        live_with(&loaded, &REPOSITORY.files);
        let (loaded, _) = refresh(loaded, &REPOSITORY.files);
        live_with(&loaded, &REPOSITORY.files);
    }
    let _ = TrustedState::from_parts(state, None);
    if let Ok(mended) = TrustedState::recover(
        &REPOSITORY.root,
        Some(state),
        Some(floors),
        None,
        &Limits::default(),
    ) {
        assert!(mended.release_floor("thermostat") >= 7 || may_forget(state, floors));
        live_with(&mended, &REPOSITORY.files);
    }
}

/// Whether both files are others than was stored, or either one's release floor is of a later epoch, which begins anew.
fn may_forget(state: &[u8], floors: &[u8]) -> bool {
    let later = |stored: &[u8], floors: &str| {
        let body: Value = serde_json::from_slice(body(stored)).unwrap_or_default();
        let release = body.pointer(&format!("{floors}/releases/thermostat/epoch"));
        release.is_some_and(|epoch| epoch != 0)
    };
    let client = &REPOSITORY.client;
    (state != client.to_bytes() && floors != client.floors_bytes())
        || later(state, "/floors")
        || later(floors, "")
}

fn body(stored: &[u8]) -> &[u8] {
    stored.splitn(2, |&byte| byte == b'\n').last().unwrap_or_default()
}

fn sealed(head: &str, body: &[u8]) -> Vec<u8> {
    [format!("{head} {}\n", Digest::of(body)).as_bytes(), body].concat()
}

/// The body of a stored file with changes in it, and in one of the role files that it holds as texts.
fn edited(stored: &[u8], input: &mut Input<'_>) -> Vec<u8> {
    let mut value: Value = serde_json::from_slice(body(stored)).expect("JSON of our own");
    let role = ["root", "timestamp", "snapshot", "targets"][usize::from(input.byte()) % 4];
    if input.byte().is_multiple_of(2) {
        edit(&mut value, input);
    } else if let Some(mut file) = value[role]
        .as_str()
        .and_then(|raw| serde_json::from_str(raw).ok())
    {
        edit(&mut file, input);
        value[role] = file.to_string().into();
    }
    serde_json::to_vec(&value).expect("JSON")
}

/// A record is what was saved, or an error; never nothing.
fn record(bytes: &[u8]) {
    thread_local! {
        static FOLDER: LazyCell<tempfile::TempDir> = LazyCell::new(crate::package::folder);
    }
    let path = FOLDER.with(|folder| folder.path().join("record"));
    std::fs::write(&path, bytes).expect("written");
    let record: Record<Value> = Record::new(&path, "generation", 1);
    if let Ok(loaded) = record.load() {
        assert!(loaded.is_some());
    }
}
