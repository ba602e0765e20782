//! Delegations: order, patterns, ends, and that each role speaks only for the parent that vouches for it.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use tuf::editor::{SnapshotEditor, TargetsEditor};
use tuf::schema::{DelegatedRole, Hashes, RoleKeys, TargetFile};
use tuf::{
    Attack, Digest, Ed25519Signer, Error, Limits, NewFiles, Next, Role, Search, Signer as _, TrustedState,
    Update, verify_upload,
};

use crate::repo::{DAY, NOW, Repo, key, sign};

/// The role that names a target, and the target's length.
type Found = Result<Option<(Role, u64)>, Error>;
/// Parent, child, terminating.
type Edges<'a> = &'a [(&'a str, &'a str, bool)];

/// A repository whose targets delegate; each role has one key and version 1.
struct Team {
    repo: Repo,
    roles: BTreeMap<String, (TargetsEditor, Ed25519Signer)>,
}

fn target(content: &[u8]) -> TargetFile {
    TargetFile {
        length: content.len() as u64,
        hashes: Hashes::sha256(Digest::of(content)),
        custom: None,
    }
}

fn delegation(name: &str, paths: &[&str], terminating: bool) -> DelegatedRole {
    DelegatedRole {
        name: name.to_owned(),
        keys: RoleKeys {
            keyids: Vec::new(),
            threshold: NonZeroU32::MIN,
        },
        terminating,
        paths: Some(paths.iter().map(|&path| path.to_owned()).collect()),
        path_hash_prefixes: None,
    }
}

impl Team {
    fn new() -> Self {
        Self {
            repo: Repo::new(),
            roles: BTreeMap::new(),
        }
    }

    fn delegate(&mut self, parent: &str, role: DelegatedRole) {
        let expires = NOW.plus_seconds(100 * DAY);
        let name = role.name.clone();
        let child = self
            .roles
            .entry(name)
            .or_insert_with(|| (TargetsEditor::new(expires), key()));
        let public = [child.1.public_key()];
        if parent == "targets" {
            self.repo.targets = self.repo.targets.clone().delegate(role, &public);
        } else {
            let (editor, _) = self.roles.get_mut(parent).unwrap();
            *editor = editor.clone().delegate(role, &public);
        }
    }

    fn add(&mut self, role: &str, name: &str, content: &[u8]) {
        let (editor, _) = self.roles.get_mut(role).unwrap();
        *editor = editor.clone().add_target(name, &target(content));
    }

    fn publish(&mut self) {
        self.repo.next_version();
        let targets = self.repo.targets_file();
        let mut snapshot = SnapshotEditor::new(
            self.repo.version(&Role::Snapshot),
            self.repo.expires[&Role::Snapshot],
        )
        .role(&Role::Targets, self.repo.version(&Role::Targets), &targets);
        self.repo.serve(&Role::Targets, targets);
        for (name, (editor, signer)) in &self.roles {
            let role = Role::Delegated(name.clone());
            let bytes = sign(editor.clone().build().unwrap(), std::slice::from_ref(signer));
            snapshot = snapshot.role(&role, 1, &bytes);
            self.repo.files.insert(role.versioned_file_name(1), bytes);
        }
        let snapshot = sign(snapshot.build().unwrap(), &self.repo.keys[&Role::Snapshot]);
        self.repo.serve(&Role::Snapshot, snapshot);
        self.repo.publish_timestamp();
    }

    fn client(&mut self) -> TrustedState {
        let client = self.repo.client();
        self.repo.refreshed(client)
    }

    /// Looks a target up; the roles asked for, in order, and what was found.
    fn look_up(&self, client: &TrustedState, name: &str) -> (Vec<String>, Found) {
        let mut asked = Vec::new();
        let mut search = match Search::start(client.clone(), name, NOW, Limits::default()) {
            Ok(search) => search,
            Err(error) => return (asked, Err(error)),
        };
        while let Next::Fetch(request) = search.next() {
            asked.push(request.role.name().to_owned());
            let verdict = match self.repo.files.get(&request.path) {
                Some(bytes) => search.supply(bytes).map(drop),
                None => search.missing(),
            };
            if let Err(error) = verdict {
                return (asked, Err(error));
            }
        }
        let found = search.found().map(|(role, target)| (role.clone(), target.length));
        (asked, Ok(found))
    }

    /// A refresh that brings every role.
    fn refresh_all(&self, client: TrustedState) -> (TrustedState, Vec<(Role, Error)>) {
        let mut update = Update::start(client, NOW, Limits::default()).with_delegations();
        while let Next::Fetch(request) = update.next() {
            match self.repo.files.get(&request.path) {
                Some(bytes) => drop(update.supply(bytes).unwrap()),
                None => update.missing().unwrap(),
            }
        }
        let problems = update.problems().to_vec();
        (update.into_state(), problems)
    }
}

fn delegated(name: &str) -> Role {
    Role::Delegated(name.to_owned())
}

#[test]
fn roles_are_asked_in_order_of_precedence_and_depth_first() {
    // (delegations as parent, child, terminating; the order in which a missing target asks them)
    let graphs: [(Edges<'_>, &[&str]); 7] = [
        (&[("targets", "A", false), ("targets", "B", false)], &["A", "B"]),
        (
            &[
                ("targets", "A", false),
                ("targets", "B", false),
                ("A", "C", false),
                ("A", "D", false),
            ],
            &["A", "C", "D", "B"],
        ),
        (
            &[
                ("targets", "A", false),
                ("targets", "B", false),
                ("A", "C", true),
                ("A", "D", false),
            ],
            &["A", "C"],
        ),
        (
            &[("targets", "A", true), ("targets", "B", false), ("A", "C", false)],
            &["A", "C"],
        ),
        (
            &[
                ("targets", "A", false),
                ("A", "B", false),
                ("B", "A", false),
                ("B", "C", false),
            ],
            &["A", "B", "C"],
        ),
        (
            &[
                ("targets", "A", false),
                ("targets", "B", false),
                ("B", "C", false),
                ("A", "C", false),
            ],
            &["A", "C", "B"],
        ),
        (&[("targets", "A", false), ("A", "A", false)], &["A"]),
    ];
    for (edges, order) in graphs {
        let mut team = Team::new();
        for (parent, child, terminating) in edges {
            team.delegate(parent, delegation(child, &["*"], *terminating));
        }
        team.publish();
        let client = team.client();
        let (asked, found) = team.look_up(&client, "missing");
        assert_eq!(asked, order, "{edges:?}");
        assert_eq!(found, Ok(None));
    }
}

#[test]
fn a_role_is_asked_only_for_the_names_it_may_speak_for() {
    let mut team = Team::new();
    team.delegate("targets", delegation("A", &["*.doc", "foo-?.tgz"], false));
    team.delegate("targets", delegation("B", &["releases/*/*"], false));
    team.delegate("B", delegation("C", &["releases/x/*"], false));
    team.add("A", "read.doc", b"a");
    team.add("A", "foo-alpha.tgz", b"aa");
    team.add("C", "releases/x/v1", b"ccc");
    team.add("C", "releases/y/v1", b"cccc");
    team.publish();
    let client = team.client();
    for (name, roles, found) in [
        ("app/1.0.0/app", &[][..], Some((Role::Targets, 3))),
        ("read.doc", &["A"][..], Some((delegated("A"), 1))),
        ("foo-1.tgz", &["A"][..], None),
        ("foo-alpha.tgz", &[][..], None),
        ("sub/read.doc", &[][..], None),
        ("READ.DOC", &[][..], None),
        ("releases/x/v1", &["B", "C"][..], Some((delegated("C"), 3))),
        ("releases/y/v1", &["B"][..], None),
        ("releases/x", &[][..], None),
    ] {
        assert_eq!(
            team.look_up(&client, name),
            (roles.iter().map(ToString::to_string).collect(), Ok(found)),
            "{name}"
        );
    }
    // The same answers from a refresh that brought everything.
    let (all, problems) = team.refresh_all(client);
    assert_eq!(problems, []);
    assert_eq!(
        all.target_and_role("releases/x/v1").map(|(role, _)| role),
        Some(delegated("C"))
    );
    assert_eq!(all.target("releases/y/v1"), None);
    assert_eq!(all.target("foo-alpha.tgz"), None);
    let names: Vec<_> = all.all_targets().map(|(name, _)| name).collect();
    assert_eq!(names, ["app/1.0.0/app", "read.doc", "releases/x/v1"]);
    let stored = TrustedState::from_parts(&all.to_bytes(), Some(&all.floors_bytes())).unwrap();
    assert_eq!(stored.all_targets().count(), 3);
}

#[test]
fn hash_prefixes_share_names_out() {
    let mut team = Team::new();
    let name = "some/target";
    let hash = Digest::of(name.as_bytes()).to_string();
    let by_hash = |role: &str, prefix: &str| DelegatedRole {
        paths: None,
        path_hash_prefixes: Some(vec![prefix.to_owned()]),
        ..delegation(role, &[], false)
    };
    let other = if hash.starts_with('0') { "1" } else { "0" };
    team.delegate("targets", by_hash("A", other));
    team.delegate("targets", by_hash("B", &hash[..3]));
    team.add("B", name, b"b");
    team.publish();
    let client = team.client();
    assert_eq!(
        team.look_up(&client, name),
        (vec!["B".to_owned()], Ok(Some((delegated("B"), 1))))
    );
}

#[test]
fn an_earlier_role_that_is_not_at_hand_is_not_answered_for() {
    let mut team = Team::new();
    team.delegate("targets", delegation("A", &["*"], false));
    team.delegate("targets", delegation("B", &["*"], false));
    team.add("A", "t", b"a");
    team.add("B", "t", b"bb");
    team.publish();
    let client = team.client();
    let file = team.repo.files.remove("1.A.json").unwrap();
    let (_, found) = team.look_up(&client, "t");
    assert_eq!(
        found,
        Err(Error::Missing {
            file: "1.A.json".to_owned()
        })
    );
    let (all, problems) = team.refresh_all(client.clone());
    assert!(matches!(problems.as_slice(), [(role, Error::Missing { .. })] if *role == delegated("A")));
    assert_eq!(all.target("t"), None, "B must not answer for A");
    team.repo.files.insert("1.A.json".to_owned(), file);
    let (all, problems) = team.refresh_all(all);
    assert_eq!(problems, []);
    assert_eq!(
        all.target_and_role("t")
            .map(|(role, target)| (role, target.length)),
        Some((delegated("A"), 1))
    );
}

#[test]
fn one_teams_lapse_does_not_stop_the_others() {
    let mut team = Team::new();
    team.delegate("targets", delegation("late", &["late/*"], false));
    team.delegate("targets", delegation("good", &["good/*"], false));
    let (editor, _) = team.roles.get_mut("late").unwrap();
    *editor = editor.clone().expires(NOW);
    team.add("late", "late/x", b"l");
    team.add("good", "good/x", b"g");
    team.publish();
    let client = team.client();
    let (all, problems) = team.refresh_all(client.clone());
    assert!(matches!(problems.as_slice(), [(role, Error::Expired { .. })] if *role == delegated("late")));
    assert!(all.target("good/x").is_some());
    assert!(all.target("late/x").is_none());
    assert!(matches!(
        team.look_up(&client, "late/x").1,
        Err(Error::Expired { .. })
    ));
}

#[test]
fn a_role_speaks_only_for_the_parent_whose_keys_signed_it() {
    // A diamond: both parents delegate to "release", each to a key of its own; only A's key signed it.
    let mut team = Team::new();
    team.delegate("targets", delegation("parent-a", &["team-a/*"], false));
    team.delegate("targets", delegation("parent-b", &["team-b/*"], false));
    team.delegate("parent-a", delegation("release", &["team-a/*"], false));
    let stranger = key().public_key();
    let (editor, _) = team.roles.get_mut("parent-b").unwrap();
    *editor = editor
        .clone()
        .delegate(delegation("release", &["team-b/*"], false), &[stranger]);
    team.add("release", "team-a/x", b"a");
    team.add("release", "team-b/x", b"bb");
    team.publish();
    let client = team.client();
    let mut search = Search::start(client.clone(), "team-a/x", NOW, Limits::default()).unwrap();
    while let Next::Fetch(request) = search.next() {
        search.supply(&team.repo.files[&request.path]).unwrap();
    }
    assert!(search.found().is_some());
    // The file is in hand now; the other parent still does not vouch for it.
    let (asked, found) = team.look_up(search.state(), "team-b/x");
    assert_eq!(asked, ["parent-b"]);
    let Err(error) = found else {
        panic!("found through the wrong parent")
    };
    assert!(
        matches!(&error, Error::Threshold { delegator, .. } if delegator.contains("parent-b")),
        "{error}"
    );
    assert_eq!(error.attack(), Attack::ArbitrarySoftware);
    let (all, problems) = team.refresh_all(client);
    assert_eq!(problems.len(), 1);
    assert!(all.target("team-a/x").is_some());
    assert!(all.target("team-b/x").is_none());
}

#[test]
fn a_delegated_role_must_stand_in_the_snapshot() {
    let mut team = Team::new();
    team.delegate("targets", delegation("A", &["*"], false));
    team.publish();
    team.repo.bend(&Role::Snapshot, |signed| {
        drop(signed["meta"].as_object_mut().unwrap().remove("A.json"));
    });
    let client = team.client();
    let (asked, found) = team.look_up(&client, "t");
    assert_eq!(
        (asked.len(), found),
        (
            0,
            Err(Error::NotInSnapshot {
                role: "delegated role \"A\"".to_owned()
            })
        )
    );
}

#[test]
fn strange_role_names_are_asked_for_safely() {
    for name in ["?", "#", "/delegated", "../delegated", "a b", "é"] {
        let mut team = Team::new();
        team.delegate("targets", delegation(name, &["*"], false));
        team.publish();
        let client = team.client();
        let search = Search::start(client, "t", NOW, Limits::default()).unwrap();
        let Next::Fetch(request) = search.next() else {
            panic!("nothing asked for")
        };
        assert!(
            !request.path.contains(['/', '?', '#', ' ']) && request.path.is_ascii(),
            "{}",
            request.path
        );
        assert!(team.repo.files.contains_key(&request.path));
    }
}

#[test]
fn more_roles_than_the_limit_are_not_walked() {
    let mut team = Team::new();
    for n in 0..6 {
        team.delegate("targets", delegation(&format!("r{n}"), &["*"], false));
    }
    team.publish();
    let client = team.client();
    let limits = Limits {
        delegations: 4,
        ..Limits::default()
    };
    let mut search = Search::start(client, "t", NOW, limits).unwrap();
    let error = loop {
        let Next::Fetch(request) = search.next() else {
            panic!("walked to the end")
        };
        if let Err(error) = search.supply(&team.repo.files[&request.path]) {
            break error;
        }
    };
    assert_eq!(error.attack(), Attack::EndlessData);
}

#[test]
fn a_name_or_pattern_beyond_its_limit_is_refused() {
    let long = "*".repeat(1025);
    let mut team = Team::new();
    team.delegate("targets", delegation("A", &[&long], false));
    team.repo.next_version();
    let editor = team.repo.targets.clone().version(3);
    assert!(matches!(
        editor.build(),
        Err(Error::TooMany {
            what: "bytes in a name",
            limit: 1024,
            ..
        })
    ));
    let editor = TargetsEditor::new(NOW).add_target(&long, &target(b"x"));
    assert!(matches!(editor.build(), Err(Error::TooMany { .. })));
}

#[test]
fn a_role_that_is_no_longer_delegated_to_is_forgotten() {
    let mut team = Team::new();
    team.delegate("targets", delegation("A", &["*"], false));
    team.add("A", "t", b"a");
    team.publish();
    let client = team.client();
    let (all, _) = team.refresh_all(client);
    assert!(all.target("t").is_some());
    team.repo.targets = team.repo.targets.clone().undelegate("A");
    team.publish();
    let (all, problems) = team.refresh_all(all);
    assert_eq!(problems, []);
    assert!(all.target("t").is_none() && all.delegated("A").is_none());
}

#[test]
fn a_pattern_full_of_stars_is_matched_quickly() {
    let mut role = delegation("A", &[], false);
    role.paths = Some(vec!["*a".repeat(200)]);
    assert!(!role.covers(&"a".repeat(20_000).replace("aa", "ab")));
    role.paths = Some(vec!["a*b?c".to_owned()]);
    assert!(role.covers("axxbbyc") && !role.covers("axxbyyc") && !role.covers("a/bxc"));
}

#[test]
fn a_team_uploads_its_own_role_and_nothing_else() {
    let mut team = Team::new();
    team.delegate("targets", delegation("A", &["a/*"], false));
    team.delegate("targets", delegation("B", &["b/*"], false));
    team.add("A", "a/x", b"a");
    team.publish();
    let client = team.client();
    let (state, _) = team.refresh_all(client);
    let next = |team: &Team, version: u64, signer: &str| {
        let editor = team.roles["A"]
            .0
            .clone()
            .version(version)
            .add_target("a/y", &target(b"new"));
        sign(
            editor.build().unwrap(),
            std::slice::from_ref(&team.roles[signer].1),
        )
    };
    let offer = |name: &str, bytes: Vec<u8>| {
        let delegated = [(name.to_owned(), bytes)];
        let new = NewFiles {
            delegated: &delegated,
            ..NewFiles::default()
        };
        verify_upload(&state, new, NOW, &Limits::default())
    };
    let taken = offer("A", next(&team, 2, "A")).unwrap();
    assert_eq!(taken.delegated[0].1.targets.len(), 2);
    assert!(taken.state.target("a/y").is_some());
    let error = offer("B", next(&team, 2, "A")).unwrap_err();
    assert!(matches!(error, Error::Threshold { .. }), "{error}");
    let error = offer("A", next(&team, 2, "B")).unwrap_err();
    assert!(matches!(error, Error::Threshold { .. }), "{error}");
    let error = offer("A", next(&team, 1, "A")).unwrap_err();
    assert!(
        matches!(
            error,
            Error::NotNewer {
                current: 1,
                found: 1,
                ..
            }
        ),
        "{error}"
    );
    assert!(offer("C", next(&team, 2, "A")).is_err());
}
