//! Stored state after a power cut or a hand on the disk: damage is an error, and nothing older comes back.

use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::Value;
use tuf::{Attack, Digest, Error, Limits, Role, TrustedState};

use crate::mutations::{places, replacement};
use crate::repo::{NOW, Repo, versions};

fn refuses_to_load(state: &[u8], floors: Option<&[u8]>, flaw: &str) {
    let error = TrustedState::from_parts(state, floors).expect_err(flaw);
    assert!(matches!(error, Error::StateDamaged { .. }), "{flaw}: {error}");
    assert_eq!(error.attack(), Attack::StateDamaged);
}

/// A copy of `bytes` for each way a disk or a hand damages a file.
fn flaws(bytes: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let half = bytes.len() / 2;
    let mut nul_tail = bytes.to_vec();
    nul_tail[half..].fill(0);
    let mut flipped = bytes.to_vec();
    flipped[half] ^= 1;
    vec![
        ("empty", Vec::new()),
        ("truncated", bytes[..half].to_vec()),
        ("without its last byte", bytes[..bytes.len() - 1].to_vec()),
        ("full of NULs", vec![0; bytes.len()]),
        ("NULs at the end", nul_tail),
        ("a bit flipped", flipped),
        ("a byte more", [bytes, b"\n"].concat()),
        ("twice", [bytes, bytes].concat()),
    ]
}

#[test]
fn a_damaged_state_or_copy_is_an_error_and_never_a_first_use() {
    let (_, client) = Repo::seen_two();
    let (state, floors) = (client.to_bytes(), client.floors_bytes());
    for (flaw, bad) in flaws(&state) {
        refuses_to_load(&bad, Some(&floors), flaw);
        refuses_to_load(&bad, None, flaw);
    }
    for (flaw, bad) in flaws(&floors) {
        refuses_to_load(&state, Some(&bad), flaw);
    }
    refuses_to_load(&floors, Some(&state), "swapped");
    refuses_to_load(&state, Some(&state), "the state twice");
}

#[test]
fn two_copies_of_different_sites_do_not_fit() {
    let (_, one) = Repo::seen_two();
    let (_, other) = Repo::seen_two();
    refuses_to_load(
        &one.to_bytes(),
        Some(&other.floors_bytes()),
        "another site's floors",
    );
}

#[test]
fn an_older_timestamp_is_refused_while_either_copy_remembers() {
    let mut repo = Repo::new();
    let client = repo.client();
    let first = repo.refreshed(client);
    let old_files = repo.files.clone();
    repo.next_version();
    repo.publish();
    let second = repo.refreshed(first.clone());
    let new_files = repo.files.clone();

    let old = (first.to_bytes(), first.floors_bytes());
    let new = (second.to_bytes(), second.floors_bytes());
    for (what, state, floors, held) in [
        ("an old state put back", &old.0, Some(&new.1), [1, 0, 0, 0]),
        ("old floors put back", &new.0, Some(&old.1), [1, 2, 2, 2]),
        ("no second copy", &new.0, None, [1, 2, 2, 2]),
    ] {
        let client = TrustedState::from_parts(state, floors.map(Vec::as_slice)).unwrap();
        assert_eq!(
            versions(&client),
            held,
            "{what}: nothing below the floors is served"
        );
        assert!(!what.contains("state") || client.target("app/1.0.0/app").is_none());
        assert_eq!(client.not_before(), Some(NOW));
        // Yesterday's files, validly signed, are replayed.
        repo.files = old_files.clone();
        let (client, error) = repo.refused(client);
        assert!(
            matches!(
                error,
                Error::Rollback {
                    floor: 2,
                    found: 1,
                    ..
                }
            ),
            "{what}: {error}"
        );
        // And the way back works by itself.
        repo.files = new_files.clone();
        let client = repo.refreshed(client);
        assert_eq!(versions(&client), [1, 2, 2, 2], "{what}");
    }
    // Old copies of all of them at once cannot be told from the past (SECURITY.md says so).
    assert!(TrustedState::from_parts(&old.0, Some(&old.1)).is_ok());
}

#[test]
fn release_floors_are_the_higher_of_both_copies() {
    let (_, mut client) = Repo::seen_two();
    client.raise_release_floor("app", 3);
    let old = (client.to_bytes(), client.floors_bytes());
    client.raise_release_floor("app", 8);
    client.raise_release_floor("agent", 2);
    let new = (client.to_bytes(), client.floors_bytes());
    for (state, floors) in [(&old.0, &new.1), (&new.0, &old.1), (&new.0, &new.1)] {
        let client = TrustedState::from_parts(state, Some(floors)).unwrap();
        assert_eq!(
            (client.release_floor("app"), client.release_floor("agent")),
            (8, 2)
        );
    }
}

#[test]
fn a_refresh_that_stopped_half_way_goes_on_after_a_restart() {
    let (mut repo, client) = Repo::seen_two();
    repo.next_version();
    repo.publish();
    let targets = repo.files.remove("3.targets.json").unwrap();
    let (client, _) = repo.refused(client);
    assert!(!client.is_complete());
    let client = TrustedState::from_parts(&client.to_bytes(), Some(&client.floors_bytes())).unwrap();
    assert_eq!(versions(&client), [1, 3, 3, 2]);
    assert!(
        client.target("app/1.0.0/app").is_some(),
        "the last complete word still counts"
    );
    repo.files.insert("3.targets.json".to_owned(), targets);
    let client = repo.refreshed(client);
    assert_eq!(repo.asked, ["2.root.json", "timestamp.json", "3.targets.json"]);
    assert_eq!(versions(&client), [1, 3, 3, 3]);
}

#[test]
fn targets_once_held_are_not_replaced_by_an_old_copy() {
    // Half way, stored; then completed, stored; then the half-way state is put back.
    let (mut repo, client) = Repo::seen_two();
    repo.next_version();
    repo.targets = repo.targets.clone().remove_target("app/1.0.0/app");
    repo.publish();
    let targets = repo.files.remove("3.targets.json").unwrap();
    let (half, _) = repo.refused(client);
    repo.files.insert("3.targets.json".to_owned(), targets);
    let whole = repo.refreshed(half.clone());
    let put_back = TrustedState::from_parts(&half.to_bytes(), Some(&whole.floors_bytes())).unwrap();
    assert!(put_back.targets().is_none());
    assert!(put_back.target("app/1.0.0/app").is_none());
    let put_back = repo.refreshed(put_back);
    assert_eq!(put_back.raw(&Role::Targets), whole.raw(&Role::Targets));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_changed_byte_is_loaded(at in any::<prop::sample::Index>(), by in 1..=255_u8, floors in any::<bool>()) {
        let (_, client) = Repo::seen_two();
        let (mut state, mut copy) = (client.to_bytes(), client.floors_bytes());
        let target = if floors { &mut copy } else { &mut state };
        let at = at.index(target.len());
        target[at] ^= by;
        prop_assert!(TrustedState::from_parts(&state, Some(&copy)).is_err());
    }

    #[test]
    fn no_bytes_make_the_loader_panic(state in prop::collection::vec(any::<u8>(), 0..200), floors in any::<Option<Vec<u8>>>()) {
        prop_assert!(TrustedState::from_parts(&state, floors.as_deref()).is_err());
    }

    /// Changed and given a right checksum, as no torn disk does it: refused, or a state that can be gone on with and
    /// remembers what the other file does.
    #[test]
    fn what_has_a_right_checksum_is_refused_or_can_be_gone_on_with(
        at in any::<prop::sample::Index>(),
        new in replacement(),
        of_floors in any::<bool>(),
    ) {
        let (repo, client) = &*SEEN;
        let parts = [client.to_bytes(), client.floors_bytes()];
        let mut changed = parts.clone();
        let mut place = String::new();
        changed[usize::from(of_floors)] = resealed(&parts[usize::from(of_floors)], |body| {
            let mut all = Vec::new();
            places(body, "", &mut all);
            place.clone_from(&all[at.index(all.len())]);
            *body.pointer_mut(&place).unwrap() = new;
        });
        // A higher epoch begins a counter anew.
        prop_assume!(!place.ends_with("/epoch"));
        if let Ok(loaded) = TrustedState::from_parts(&changed[0], Some(&changed[1])) {
            prop_assert!(loaded.release_floor("app") >= 7);
            let again = TrustedState::from_parts(&loaded.to_bytes(), Some(&loaded.floors_bytes()));
            prop_assert!(again.is_ok());
        }
        let root = &repo.files["1.root.json"];
        let mended = TrustedState::recover(root, Some(&changed[0]), Some(&changed[1]), None, &Limits::default());
        if let Ok(mended) = mended {
            prop_assert!(mended.release_floor("app") >= 7);
        }
    }
}

/// A repository and a client that has seen its second version and the seventh release of `app`.
static SEEN: LazyLock<(Repo, TrustedState)> = LazyLock::new(|| {
    let (repo, mut client) = Repo::seen_two();
    client.raise_release_floor("app", 7);
    (repo, client)
});

/// A stored record with another body, and the checksum of that.
fn resealed(stored: &[u8], change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let text = std::str::from_utf8(stored).unwrap();
    let (line, body) = text.split_once('\n').unwrap();
    let (head, _) = line.rsplit_once(' ').unwrap();
    let mut body = serde_json::from_str(body).unwrap();
    change(&mut body);
    let body = body.to_string();
    format!("{head} {}\n{body}", Digest::of(body.as_bytes())).into_bytes()
}
