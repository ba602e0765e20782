//! Any bytes as the file of a role: no panic, and nothing is taken that its key did not sign.

use serde_json::Value;

use crate::edits::Input;
use crate::repository::{REPOSITORY, live_with, read_otherwise, refresh, roles};

pub fn seeds() -> Vec<Vec<u8>> {
    let with = |(number, role): (u8, _)| [&[number], REPOSITORY.file(role)].concat();
    (0..).zip(&roles()).map(with).collect()
}

/// The first byte says which role's file the others are.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let role = &roles()[usize::from(input.byte()) % 5];
    let files = REPOSITORY.with(role, input.0.to_vec(), false);
    let (state, _) = refresh(REPOSITORY.client.clone(), &files);
    if state.raw(role) == Some(input.0) {
        let signed = |bytes| {
            serde_json::from_slice::<Value>(bytes)
                .map(|file| file["signed"].clone())
                .ok()
        };
        let given = signed(input.0);
        assert!(
            given == signed(REPOSITORY.file(role)) || REPOSITORY.client.raw(role).map(signed) == Some(given),
            "taken and not signed"
        );
        live_with(&state, &files);
    }
    read_otherwise(role, input.0);
}
