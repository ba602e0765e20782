//! Teams: delegated roles that may list their own components and nothing else.

use std::collections::BTreeMap;

use protocol::Role;
use protocol::author::{Publish, Receipt, Recover, Recovered};
use protocol::device::Problem;
use release::Component;
use repo_server::check::as_client;
use reqwest::StatusCode;
use tuf::editor::TargetsEditor;
use tuf::schema::{DelegatedRole, RoleKeys};
use tuf::{Ed25519Signer, Signer as _, TrustedState};

use crate::site::{DAY, NOW, Running, Sample, Site, role_file, sample, version_of};

/// A team with its key and its newest list.
struct Team {
    name: &'static str,
    key: Ed25519Signer,
    list: Vec<u8>,
}

impl Team {
    fn new(name: &'static str) -> Self {
        let (key, _) = Ed25519Signer::generate().unwrap();
        let list = TargetsEditor::new(NOW.plus_seconds(180 * DAY));
        let list = list.build().unwrap().sign(&key).unwrap().bytes();
        Self { name, key, list }
    }

    fn delegation(&self, paths: &[&str]) -> DelegatedRole {
        DelegatedRole {
            name: self.name.into(),
            keys: RoleKeys {
                keyids: vec![self.key.public_key().id()],
                threshold: std::num::NonZeroU32::MIN,
            },
            terminating: true,
            paths: Some(paths.iter().map(|path| (*path).to_owned()).collect()),
            path_hash_prefixes: None,
        }
    }

    /// The next list, signed by `key`.
    fn next_by(&self, key: &Ed25519Signer, change: impl FnOnce(TargetsEditor) -> TargetsEditor) -> Vec<u8> {
        let editor = change(TargetsEditor::from_existing(&self.list).unwrap());
        editor.build().unwrap().sign(key).unwrap().bytes()
    }

    fn next(&self, change: impl FnOnce(TargetsEditor) -> TargetsEditor) -> Vec<u8> {
        self.next_by(&self.key, change)
    }

    fn with(&self, sample: &Sample) -> Vec<u8> {
        self.next(|editor| editor.add_target(&sample.name(), &sample.target()))
    }
}

/// A release of another component.
fn of(component: &str, version: &str, counter: u64) -> Sample {
    let mut made = sample(version, counter);
    made.release.component = component.parse::<Component>().unwrap();
    made.release.file_name = format!("{component}_{version}.sh");
    made.bytes.extend(component.bytes());
    made
}

fn request(running: &Running<'_>, team: &Team, list: &[u8]) -> Publish {
    Publish {
        update: None,
        expects: running.server.repository().visible().versions[3],
        roots: Vec::new(),
        targets: vec![role_file(
            &format!("{}.{}.json", version_of(list), team.name),
            list,
        )],
        events: Vec::new(),
    }
}

async fn send(running: &Running<'_>, request: &Publish) -> Result<Receipt, (StatusCode, Problem)> {
    let response = running.post(Some(Role::Author), "/api/v1/publish", request).await;
    if response.status() == StatusCode::OK {
        return Ok(serde_json::from_str(&response.text().await.unwrap()).unwrap());
    }
    Err(crate::site::problem(response).await)
}

/// Delegates to teams, each with its first list.
async fn delegate(
    running: &Running<'_>,
    teams: &[(&Team, &[&str])],
) -> Result<Receipt, (StatusCode, Problem)> {
    let site = running.site;
    let targets = site.next_targets(|editor| {
        teams.iter().fold(editor, |editor, (team, paths)| {
            editor.delegate(team.delegation(paths), &[team.key.public_key()])
        })
    });
    let mut request = running.request(&targets);
    for (team, _) in teams {
        let name = format!("{}.{}.json", version_of(&team.list), team.name);
        request.targets.push(role_file(&name, &team.list));
    }
    let receipt = send(running, &request).await?;
    site.keep(targets);
    Ok(receipt)
}

/// What a client that knows only the first root finds.
fn client(running: &Running<'_>) -> TrustedState {
    let root = running.site.author.lock().unwrap().root.clone();
    let state = TrustedState::init(&root, None, &tuf::Limits::default()).unwrap();
    let repository = running.server.repository();
    let visible = repository.visible();
    let mut files = BTreeMap::new();
    for (name, file) in &visible.metadata {
        files.insert(name.clone(), file.bytes.to_vec());
    }
    let (state, lapses) = as_client(&state, &files, repository.now(), &tuf::Limits::default()).unwrap();
    assert!(lapses.is_empty(), "{lapses:?}");
    state
}

#[tokio::test]
async fn a_team_publishes_its_components_and_nothing_else() {
    let site = Site::new();
    let running = site.start().await;
    running.release(&sample("1.0.0", 1)).await;
    let (mut heating, pumps) = (Team::new("heating"), Team::new("pumps"));
    delegate(
        &running,
        &[(&heating, &["heater/*/*"]), (&pumps, &["pump/*/*", "valve/*/*"])],
    )
    .await
    .unwrap();

    let own = of("heater", "1.0.0", 1);
    running.upload(&own.bytes).await;
    let list = heating.with(&own);
    let receipt = send(&running, &request(&running, &heating, &list)).await.unwrap();
    assert_eq!(receipt.team.as_ref().map(protocol::Name::as_str), Some("heating"));
    assert_eq!((receipt.targets, receipt.events.len()), (2, 1));
    // An answer that was lost is given again.
    let again = send(&running, &request(&running, &heating, &list)).await.unwrap();
    assert_eq!(again, receipt);
    heating.list = list;
    let state = client(&running);
    assert_eq!(
        state.target_and_role(&own.name()).unwrap().0,
        tuf::Role::Delegated("heating".into())
    );
    assert_eq!(running.text(&own.served_path()).await.1.into_bytes(), own.bytes);

    // Everything else is refused for what it is: somebody else's component, the author's, a stranger's key, another
    // team's key, a release that a rule forbids, a list that came late.
    let (theirs, authors, newer) = (
        of("pump", "1.0.0", 1),
        sample("2.0.0", 2),
        of("heater", "0.9.0", 2),
    );
    for other in [&theirs, &authors, &newer] {
        running.upload(&other.bytes).await;
    }
    let (stranger, _) = Ed25519Signer::generate().unwrap();
    let add = |editor: TargetsEditor| editor.add_target("heater/2.0.0/x", &own.target());
    for (what, list, code, words) in [
        (
            "another team's component",
            heating.with(&theirs),
            "not-yours",
            "pump/1.0.0/",
        ),
        (
            "the author's component",
            heating.with(&authors),
            "not-yours",
            "Demo/2.0.0/",
        ),
        (
            "a stranger's key",
            heating.next_by(&stranger, |e| e),
            "verification",
            "0 valid signatures",
        ),
        (
            "another team's key",
            heating.next_by(&pumps.key, |e| e),
            "verification",
            "0 valid signatures",
        ),
        (
            "an older version",
            heating.with(&newer),
            "not-newer",
            "not newer than 1.0.0",
        ),
        (
            "another name",
            heating.next(add),
            "bad-release",
            "its name does not say",
        ),
        ("the same version", heating.next(|e| e.version(1)), "conflict", ""),
        (
            "an expired list",
            heating.next(|e| e.expires(NOW)),
            "verification",
            "expired",
        ),
        (
            "a delegation of its own",
            heating.next(|e| e.delegate(pumps.delegation(&["heater/*/*"]), &[pumps.key.public_key()])),
            "delegated",
            "cannot delegate further",
        ),
    ] {
        let (_, problem) = send(&running, &request(&running, &heating, &list))
            .await
            .unwrap_err();
        assert_eq!(problem.code, code, "{what}: {}", problem.message);
        assert!(problem.message.contains(words), "{what}: {}", problem.message);
    }
    let mut as_pumps = request(&running, &heating, &heating.with(&theirs));
    as_pumps.targets[0].name = "2.pumps.json".into();
    let (_, problem) = send(&running, &as_pumps).await.unwrap_err();
    assert!(
        problem.message.contains("pumps.json has 0 valid signatures"),
        "{}",
        problem.message
    );
    // The author still publishes, and so does the other team.
    running.release(&authors).await;
    let list = pumps.with(&theirs);
    send(&running, &request(&running, &pumps, &list)).await.unwrap();
    assert_eq!(client(&running).all_targets().count(), 4);
    running.server.stop().await;

    // It starts again with all of it.
    let running = site.start().await;
    assert_eq!(client(&running).all_targets().count(), 4);
    running.server.stop().await;
}

#[tokio::test]
async fn a_delegation_comes_with_its_list_and_for_whole_components() {
    let site = Site::new();
    let running = site.start().await;
    let team = Team::new("heating");
    let public = [team.key.public_key()];
    let bare = site.next_targets(|editor| editor.delegate(team.delegation(&["heater/*/*"]), &public));
    let (_, problem) = running.refused(&bare).await;
    assert_eq!(problem.code, "delegated");
    assert!(problem.message.contains("no list yet"), "{}", problem.message);
    for paths in [&["*/*/*"][..], &["heater/1.0.0/*"], &["heater/*"], &["../*/*"]] {
        let (_, problem) = delegate(&running, &[(&team, paths)]).await.unwrap_err();
        assert_eq!(problem.code, "delegated", "{paths:?}: {}", problem.message);
    }
    let mut open = team.delegation(&["heater/*/*"]);
    open.terminating = false;
    let targets = site.next_targets(|editor| editor.delegate(open, &public));
    let mut request = running.request(&targets);
    request.targets.push(role_file("1.heating.json", &team.list));
    let (_, problem) = send(&running, &request).await.unwrap_err();
    assert!(
        problem.message.contains("does not end the search"),
        "{}",
        problem.message
    );
    // A list without anybody who asks for it.
    let targets = site.next_targets(|editor| editor);
    let mut request = running.request(&targets);
    request.targets.push(role_file("1.heating.json", &team.list));
    let (_, problem) = send(&running, &request).await.unwrap_err();
    assert!(
        problem.message.contains("0 valid signatures"),
        "{}",
        problem.message
    );
    delegate(&running, &[(&team, &["heater/*/*"])]).await.unwrap();
    running.server.stop().await;
}

#[tokio::test]
async fn a_team_that_lapses_or_leaves_stops_nobody_else() {
    let site = Site::new();
    let running = site.start().await;
    running.release(&sample("1.0.0", 1)).await;
    let mut team = Team::new("heating");
    team.list = team.next_by(&team.key, |editor| {
        editor.version(1).expires(NOW.plus_seconds(DAY))
    });
    delegate(&running, &[(&team, &["heater/*/*"])]).await.unwrap();
    let own = of("heater", "1.0.0", 1);
    running.upload(&own.bytes).await;
    let list = team.with(&own);
    send(&running, &request(&running, &team, &list)).await.unwrap();

    // A key of the delegation that did not sign the list at hand.
    let other = Team::new("heating");
    let targets = site
        .next_targets(|editor| editor.delegate(other.delegation(&["heater/*/*"]), &[other.key.public_key()]));
    let (_, problem) = running.refused(&targets).await;
    assert!(
        problem.message.contains("heating.json has 0 valid signatures"),
        "{}",
        problem.message
    );

    site.clock.forward(2 * DAY);
    assert!(
        running.server.repository().renew().unwrap(),
        "one team's lapse stopped the renewal"
    );
    running.release(&sample("1.1.0", 2)).await;

    // The team is taken away: its releases are gone, its role stays in the snapshot, as clients insist.
    let targets = site.next_targets(|editor| editor.undelegate("heating"));
    running.publish(targets).await;
    let visible = running.server.repository().visible();
    assert!(
        visible
            .listing
            .entries
            .keys()
            .all(|name| name.starts_with("Demo/"))
    );
    for round in 0..2 {
        let state = client(&running);
        assert!(state.target(&own.name()).is_none());
        let snapshot = state.snapshot().unwrap();
        assert_eq!(snapshot.meta["heating.json"].version, 2, "round {round}");
        site.clock.forward(DAY);
        assert!(running.server.repository().renew().unwrap());
    }
    running.server.stop().await;
}

#[tokio::test]
async fn what_a_team_published_is_handed_back_after_a_restore() {
    let site = Site::new();
    let running = site.start().await;
    let mut team = Team::new("heating");
    delegate(&running, &[(&team, &["heater/*/*"])]).await.unwrap();
    let backup = site.dir.path().join("backup");
    running.server.repository().backup(&backup).unwrap();
    let own = of("heater", "1.0.0", 1);
    running.upload(&own.bytes).await;
    team.list = team.with(&own);
    let receipt = send(&running, &request(&running, &team, &team.list))
        .await
        .unwrap();
    running.server.stop().await;

    let dir = site.dir.path().join("restored");
    site.copy_folder(&dir);
    let done = tokio::process::Command::new(env!("CARGO_BIN_EXE_repo-server"))
        .args([
            "restore",
            backup.to_str().unwrap(),
            "--dir",
            dir.to_str().unwrap(),
        ])
        .output()
        .await
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let running = site.start_in(&dir, site.options()).await;
    let recover = Recover {
        roots: site.roots(),
        targets: vec![
            role_file("1.targets.json", &site.current_targets().unwrap()),
            role_file("2.heating.json", &team.list),
        ],
        snapshot: receipt.snapshot,
        timestamp: receipt.timestamp,
    };
    let hand_back = async || -> Recovered {
        let response = running
            .post(Some(Role::Manager), "/api/v1/recover", &recover)
            .await;
        serde_json::from_str(&response.text().await.unwrap()).unwrap()
    };
    assert_eq!(hand_back().await.missing, [own.digest()]);
    running.upload(&own.bytes).await;
    assert!(hand_back().await.missing.is_empty());
    let state = client(&running);
    assert_eq!(state.delegated("heating").unwrap().version, 2);
    assert!(state.timestamp().unwrap().version > receipt.timestamp);
    running.server.stop().await;
}
