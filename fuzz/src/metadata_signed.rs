//! Changed metadata, signed again with the right key: what a thief of any one key reaches behind the signature check.

use crate::edits::{Input, edit};
use crate::repository::{REPOSITORY, live_with, read_otherwise, refresh, roles};

pub fn seeds() -> Vec<Vec<u8>> {
    let one = |role, kind| vec![role, 1, 0, 0, role * 3, kind, 4, b'n', b'a', b'm', b'e', 3, 0, 0];
    (0..5)
        .flat_map(|role| (0..8).map(move |kind| one(role, kind)))
        .collect()
}

/// Which role, whether its parents describe it, then the changes.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let role = &roles()[usize::from(input.byte()) % 5];
    let described = input.byte().is_multiple_of(2);
    let mut value = REPOSITORY.value(role);
    edit(&mut value, &mut input);
    let Some(bytes) = REPOSITORY.forged(role, &value) else {
        return;
    };
    read_otherwise(role, &bytes);
    let files = REPOSITORY.with(role, bytes, described);
    let (state, _) = refresh(REPOSITORY.client.clone(), &files);
    let version = |held: Option<u64>| held.unwrap_or(u64::MAX);
    assert!(state.root().version >= 1);
    assert!(version(state.timestamp().map(|role| role.version)) >= 1);
    assert!(state.release_floor("thermostat") >= 7, "a release floor fell");
    // What was taken can be lived with, and does not stop the next refresh from going on.
    let (state, _) = refresh(state, &files);
    live_with(&state, &files);
}
