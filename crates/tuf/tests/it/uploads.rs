//! Uploads: a repository takes from an author only what every verifier would take.

use tuf::{Error, Limits, NewFiles, Role, Upload, verify_upload};

use crate::repo::{DAY, NOW, Repo, key};

fn upload(
    repo: &Repo,
    state: &tuf::TrustedState,
    roots: &[&str],
    targets: Option<&[u8]>,
) -> Result<Upload, Error> {
    let roots: Vec<_> = roots.iter().map(|path| repo.files[*path].clone()).collect();
    verify_upload(
        state,
        NewFiles {
            roots: &roots,
            targets,
            ..NewFiles::default()
        },
        NOW,
        &Limits::default(),
    )
}

#[test]
fn newer_targets_are_taken() {
    let (mut repo, state) = Repo::seen_two();
    repo.bump(&Role::Targets);
    repo.add_target("app/2.0.0/app", b"two");
    let targets = repo.targets_file();
    let taken = upload(&repo, &state, &[], Some(&targets)).unwrap();
    assert!(taken.targets_changed);
    assert_eq!(taken.targets.unwrap().targets.len(), 2);
    assert_eq!(taken.state.raw(&Role::Targets), Some(targets.as_slice()));
}

#[test]
fn the_first_targets_of_an_empty_repository_are_taken() {
    let repo = Repo::new();
    let taken = upload(&repo, &repo.client(), &[], Some(&repo.files["1.targets.json"])).unwrap();
    assert_eq!(taken.targets.unwrap().version, 1);
}

#[test]
fn the_same_or_an_older_version_is_refused() {
    let (mut repo, state) = Repo::seen_two();
    for version in [1, 2] {
        repo.versions.insert(Role::Targets, version);
        let error = upload(&repo, &state, &[], Some(&repo.targets_file())).unwrap_err();
        assert_eq!(
            error,
            Error::NotNewer {
                file: "targets.json".into(),
                current: 2,
                found: version
            }
        );
    }
}

#[test]
fn foreign_expired_and_oversized_targets_are_refused() {
    let (mut repo, state) = Repo::seen_two();
    repo.bump(&Role::Targets);
    let good = repo.targets_file();
    repo.keys.insert(Role::Targets, vec![key()]);
    let error = upload(&repo, &state, &[], Some(&repo.targets_file())).unwrap_err();
    assert!(matches!(error, Error::Threshold { .. }), "{error}");
    let limits = Limits {
        targets_length: good.len() as u64 - 1,
        ..Limits::default()
    };
    let new = NewFiles {
        targets: Some(&good),
        ..NewFiles::default()
    };
    assert!(matches!(
        verify_upload(&state, new, NOW, &limits),
        Err(Error::TooLong { .. })
    ));
    let late = NOW.plus_seconds(181 * DAY);
    assert!(matches!(
        verify_upload(&state, new, late, &Limits::default()),
        Err(Error::Expired { .. })
    ));
}

#[test]
fn a_chain_of_roots_comes_with_the_targets_its_last_one_vouches_for() {
    let (mut repo, state) = Repo::seen_two();
    repo.rotate(&Role::Snapshot);
    repo.rotate(&Role::Targets);
    let roots = ["2.root.json", "3.root.json"];
    // The old targets are not signed by the new key.
    assert!(matches!(
        upload(&repo, &state, &roots, None),
        Err(Error::Missing { .. })
    ));
    repo.bump(&Role::Targets);
    let targets = repo.targets_file();
    let taken = upload(&repo, &state, &roots, Some(&targets)).unwrap();
    assert_eq!(taken.root.version, 3);
    assert_eq!(
        taken
            .roots
            .iter()
            .map(|(version, _)| *version)
            .collect::<Vec<_>>(),
        [2, 3]
    );
    // Out of order, or with a gap.
    assert!(upload(&repo, &state, &["3.root.json"], Some(&targets)).is_err());
    assert!(upload(&repo, &state, &[], Some(&targets)).is_err());
}

#[test]
fn a_root_alone_is_taken_when_it_still_vouches_for_the_targets() {
    let (mut repo, state) = Repo::seen_two();
    repo.rotate(&Role::Timestamp);
    let taken = upload(&repo, &state, &["2.root.json"], None).unwrap();
    assert!(!taken.targets_changed);
    assert_eq!(taken.targets.unwrap().version, 2);
    repo.new_root(|root| root.expires(NOW), &[]);
    assert!(matches!(
        upload(&repo, &state, &["2.root.json", "3.root.json"], None),
        Err(Error::Expired { .. })
    ));
}
