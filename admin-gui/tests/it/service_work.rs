//! The desk's long work and its surroundings: other jobs than publishing, the key's time, a program beside it.

use std::process::Stdio;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use admin_gui::draft::DraftError;
use admin_gui::progress::{Progress, Sink};
use admin_gui::{Options, Stop};
use control::Client;
use protocol::author::StoredReport;
use protocol::control::{
    AuthorEvent, AuthorRequest, AuthorStatus, FleetPage, HistoryView, InitRequest, JobEnd, JobStatus,
    KeyState, LatencyView, PublishWhat, RenewWhat, SigningKeyKind, SiteMade, SiteState,
};
use protocol::{Outcome, Secret, UpdateId};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;

use crate::fake::Fake;
use crate::sender::Sender;
use crate::service::{Running, file};
use crate::site::{PASSPHRASE, Site, manifest};

fn secret(text: &str) -> Secret {
    Secret::new(text.to_owned())
}

#[tokio::test]
async fn withdraw_renew_and_recover_are_jobs_and_stand_in_the_record() {
    let site = Site::new();
    let fake = Fake::start(&site.repository()).await;
    let desk = Running::start(&site.author(), Some(&fake.url), |_| {}).await;
    let mut window = desk.watch().await;
    for version in ["1.0", "1.1"] {
        let job = desk
            .publish(file(&site.folder(version, &manifest(version))))
            .await;
        let end = window.end(job.unwrap().id).await;
        assert!(matches!(end, JobEnd::Done { .. }), "{end:?}");
    }
    let withdraw = |reason: &str, passphrase: Option<&str>| AuthorRequest::Withdraw {
        component: "heater".parse().unwrap(),
        version: "1.1".parse().unwrap(),
        reason: reason.to_owned(),
        passphrase: passphrase.map(secret),
    };
    let long = "x".repeat(501);
    for (reason, passphrase, word) in [
        ("", Some(PASSPHRASE), "reason"),
        (long.as_str(), Some(PASSPHRASE), "501"),
        ("overheats", None, "locked"),
        ("overheats", Some("not the passphrase"), "passphrase"),
    ] {
        let refused = desk.ask::<JobStatus>(&withdraw(reason, passphrase)).await;
        assert!(refused.as_ref().unwrap_err().contains(word), "{refused:?}");
    }
    let job: JobStatus = desk.ask(&withdraw("overheats", Some(PASSPHRASE))).await.unwrap();
    assert!(!job.can_cancel, "a withdrawal is one request");
    assert!(matches!(window.end(job.id).await, JobEnd::Done { .. }));
    // What the job has verified shows without asking the repository again.
    let AuthorStatus {
        site: SiteState::Ready(seen),
        last_job: Some(last),
        ..
    } = desk.status().await
    else {
        panic!("no site")
    };
    assert_eq!(seen.components[0].current, Some("1.0".parse().unwrap()));
    assert_eq!(seen.components[0].withdrawn, ["1.1".parse().unwrap()]);
    assert_eq!(last.id, job.id);

    let renew = |passphrase: &str| AuthorRequest::Renew {
        what: RenewWhat::All,
        passphrase: secret(passphrase),
    };
    assert!(desk.ask::<JobStatus>(&renew("not the passphrase")).await.is_err());
    let job: JobStatus = desk.ask(&renew(PASSPHRASE)).await.unwrap();
    assert!(matches!(window.end(job.id).await, JobEnd::Done { .. }));
    let roles = desk.site().await.roles;
    assert_eq!(
        (roles[0].role.as_str(), roles[0].version),
        ("root", 2),
        "{roles:?}"
    );
    let job: JobStatus = desk.ask(&AuthorRequest::Recover).await.unwrap();
    let end = window.end(job.id).await;
    assert!(matches!(end, JobEnd::Done { .. }), "{end:?}");
    assert_eq!(fake.kept().recovered.len(), 1);

    let history: HistoryView = desk.ask(&AuthorRequest::History { last: 2 }).await.unwrap();
    let actions: Vec<_> = history
        .entries
        .iter()
        .map(|entry| entry.action.as_str())
        .collect();
    assert_eq!(actions, ["withdraw", "renew"]);
    assert!(history.is_cut, "two of four were asked for");
}

#[derive(Debug)]
struct SetClock(AtomicI64);

impl mtls::Clock for SetClock {
    fn now(&self) -> tuf::clock::Believed {
        tuf::clock::Believed {
            now: tuf::UnixTime(self.0.load(Ordering::SeqCst)),
            known: true,
        }
    }
}

#[tokio::test]
async fn an_open_key_is_forgotten_when_its_time_is_over() {
    let site = Site::new();
    let clock = Arc::new(SetClock(AtomicI64::new(admin_gui::Senses::system().now().0)));
    let own: Arc<dyn mtls::Clock> = Arc::clone(&clock) as _;
    let desk = Running::start(&site.author(), Some("https://127.0.0.1:9"), |setup| {
        setup.senses.clock = own;
        setup.pace.tick = Duration::from_millis(5);
    })
    .await;
    let mut window = desk.watch().await;
    let unlock = |keep_minutes| AuthorRequest::Unlock {
        passphrase: secret(PASSPHRASE),
        keep_minutes,
    };
    // Nought minutes only try the passphrase.
    assert_eq!(desk.ask::<KeyState>(&unlock(0)).await.unwrap(), KeyState::Locked);
    let open: KeyState = desk.ask(&unlock(10)).await.unwrap();
    let KeyState::Open { until } = open else {
        panic!("{open:?}")
    };
    clock.0.store(until.0 - 1, Ordering::SeqCst);
    assert_eq!(desk.status().await.key, open);
    clock.0.store(until.0, Ordering::SeqCst);
    loop {
        match window.next().await {
            AuthorEvent::Message(message) if message.id == "author.key.locked" => break,
            _ => {}
        }
    }
    assert_eq!(desk.status().await.key, KeyState::Locked);
}

#[tokio::test]
async fn no_secret_is_in_any_answer_or_event() {
    let site = Site::new();
    let fake = Fake::start(&site.repository()).await;
    let desk = Running::start(&site.author(), Some(&fake.url), |_| {}).await;
    let mut window = desk.watch().await;
    let wrong = AuthorRequest::Unlock {
        passphrase: secret("a secret that is wrong"),
        keep_minutes: 1,
    };
    let refusal = desk.ask::<KeyState>(&wrong).await.unwrap_err();
    let right = AuthorRequest::Unlock {
        passphrase: secret(PASSPHRASE),
        keep_minutes: 1,
    };
    desk.ask::<KeyState>(&right).await.unwrap();
    let job = desk.publish(file(&site.script("heater_1.0", 100))).await.unwrap();
    let mut told = vec![refusal, serde_json::to_string(&desk.status().await).unwrap()];
    loop {
        let event = window.next().await;
        told.push(serde_json::to_string(&event).unwrap());
        if matches!(&event, AuthorEvent::Job(seen) if seen.id == job.id && seen.end.is_some()) {
            break;
        }
    }
    // A request that cannot be read is not repeated in the answer either.
    let broken = serde_json::json!({ "do": "unlock", "passphrase": PASSPHRASE, "minutes": 1 });
    let mut client = desk.client().await;
    told.push(client.call::<KeyState>(&broken).await.unwrap_err().to_string());
    assert!(told.len() > 5);
    for text in told {
        assert!(
            !text.contains("a secret that is wrong") && !text.contains(PASSPHRASE),
            "{text}"
        );
    }
}

/// Does something at the first byte that is read.
fn at_first_byte(act: impl Fn() + Send + Sync + 'static) -> Sink {
    let acted = Mutex::new(false);
    Arc::new(move |news| {
        if matches!(news, Progress::Reading { .. }) && !std::mem::replace(&mut *acted.lock().unwrap(), true) {
            act();
        }
    })
}

#[tokio::test]
async fn a_file_that_vanishes_or_is_replaced_while_it_is_hashed_is_no_draft() {
    let site = Site::new();
    let desk = site.desk("https://127.0.0.1:9");
    let path = site.script("heater_1.0", 1_000_000);
    let gone = path.clone();
    let vanish = at_first_byte(move || std::fs::remove_file(&gone).unwrap());
    let error = desk.draft(&path, &Options::default(), &vanish).unwrap_err();
    let DraftError::Read { path: named, source } = &error else {
        panic!("{error:?}")
    };
    assert_eq!((named, source.kind()), (&path, std::io::ErrorKind::NotFound));

    let (path, other) = (
        site.script("heater_1.0", 1_000_000),
        site.script("other", 1_000_000),
    );
    let place = path.clone();
    let replace = at_first_byte(move || {
        std::fs::rename(&other, &place).unwrap();
    });
    let error = desk.draft(&path, &Options::default(), &replace).unwrap_err();
    assert!(matches!(error, DraftError::Changed(_)), "{error:?}");
}

#[tokio::test]
async fn reading_ends_where_a_person_ends_it_for_files_folders_and_packages() {
    let site = Site::new();
    let desk = site.desk("https://127.0.0.1:9");
    let folder = site.folder("heater", &manifest("1.0"));
    let package = site.temp.path().join("heater.tar");
    admin_gui::package::pack(&folder, &package).unwrap();
    for path in [site.script("heater_1.0", 1_000_000), folder, package] {
        let stop = Stop::default();
        let handle = stop.clone();
        let sink = at_first_byte(move || assert!(handle.stop()));
        let outcome = desk.draft_until(&path, &Options::default(), &sink, &stop);
        assert!(
            matches!(outcome, Err(DraftError::Stopped(_))),
            "{}: {outcome:?}",
            path.display()
        );
    }
    let drafts = std::fs::read_dir(site.author().join("drafts")).unwrap();
    let left: Vec<_> = drafts.map(|entry| entry.unwrap().file_name()).collect();
    assert!(
        left.iter()
            .all(|name| !name.to_string_lossy().ends_with(".trial")),
        "{left:?}"
    );
}

/// A report of a device of the site.
fn report(site: &Site, device: &str, update: UpdateId, seq: u64) -> StoredReport {
    StoredReport {
        seq,
        received: admin_gui::Senses::system().now(),
        relayed: Sender::of(site, device).rolled_back(update),
    }
}

#[tokio::test]
async fn the_fleet_comes_in_pages_with_reasons_and_latencies() {
    let site = Site::new();
    let fake = Fake::start(&site.repository()).await;
    let desk = Running::start(&site.author(), Some(&fake.url), |_| {}).await;
    let mut window = desk.watch().await;
    let job = desk.publish(file(&site.script("heater_1.0", 100))).await.unwrap();
    let end = window.end(job.id).await;
    let JobEnd::Done {
        update: Some(update), ..
    } = end
    else {
        panic!("{end:?}")
    };
    let names = ["pump-1", "pump-2", "pump-3"];
    for (name, seq) in names.into_iter().zip(1..) {
        let stored = report(&site, name, update, seq);
        fake.kept().reports.push(stored);
    }
    let seen = desk.site().await;
    assert_eq!(seen.devices, 3);
    assert_eq!(seen.components[0].outcomes, [(Outcome::RolledBack, 3)]);
    assert!(seen.components[0].reasons[0].contains("pump-1: never answered"));

    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page: FleetPage = desk.ask(&AuthorRequest::Fleet { after, limit: 2 }).await.unwrap();
        assert_eq!(page.total, 3);
        found.extend(page.devices);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let order: Vec<_> = found.iter().map(|row| row.device.name.as_str()).collect();
    assert_eq!(order, names);
    assert_eq!(found[0].outcomes[0].reason.as_deref(), Some("never answered"));
    let view: LatencyView = desk.ask(&AuthorRequest::Latencies { releases: 5 }).await.unwrap();
    assert_eq!(view.rows.len(), 3);
    assert_eq!(view.rows[0].latencies.device_verification, Some(15.0));
}

#[tokio::test]
async fn a_new_site_is_served_at_its_own_place_too_and_an_interrupted_one_is_made_anew() {
    let temp = tempfile::tempdir().unwrap();
    let place = temp.path().join("plant");
    let desk = Running::start(&place, None, |_| {}).await;
    // As a cut of the power between the moves leaves it.
    std::fs::create_dir_all(place.join(".drover-unfinished/author")).unwrap();
    std::fs::create_dir_all(place.join("repository")).unwrap();
    std::fs::write(place.join("repository/online-key.pem"), "of nobody").unwrap();
    let init = AuthorRequest::Init {
        site: Box::new(InitRequest {
            site: "plant".into(),
            targets_key: SigningKeyKind::Ed25519,
            ..InitRequest::default()
        }),
        passphrase: secret(PASSPHRASE),
    };
    let made: SiteMade = desk.ask(&init).await.unwrap();
    let key = std::fs::read_to_string(made.repository.join("online-key.pem")).unwrap();
    assert!(key.contains("PRIVATE KEY"), "the leftover was replaced");
    assert!(!place.join(".drover-unfinished").exists());

    // Whoever names the author's folder finds the same service, not a second one.
    let socket = made.author.join("control/socket");
    let mut inner = loop {
        match Client::connect(&socket, "admin-gui").await {
            Ok(client) => break client,
            Err(_) => tokio::time::sleep(Duration::from_millis(2)).await,
        }
    };
    let status: AuthorStatus = inner.call(&AuthorRequest::Status).await.unwrap();
    assert_eq!(status.dir, std::fs::canonicalize(&place).unwrap());
    assert!(matches!(status.site, SiteState::Ready(_)));
}

#[tokio::test]
async fn a_folder_with_other_things_in_it_becomes_no_site() {
    let temp = tempfile::tempdir().unwrap();
    std::fs::write(temp.path().join("thesis.txt"), "years of work").unwrap();
    std::fs::create_dir(temp.path().join("repository")).unwrap();
    let desk = Running::start(temp.path(), None, |_| {}).await;
    let init = AuthorRequest::Init {
        site: Box::new(InitRequest {
            site: "plant".into(),
            ..InitRequest::default()
        }),
        passphrase: secret(PASSPHRASE),
    };
    let error = desk.ask::<SiteMade>(&init).await.unwrap_err();
    assert!(error.contains("not empty"), "{error}");
    assert!(temp.path().join("repository").exists() && temp.path().join("thesis.txt").exists());
    assert!(!temp.path().join("author").exists());
}

#[tokio::test]
async fn the_program_serves_beside_the_command_line_and_ends_in_order_when_told() {
    let site = Site::new();
    let fake = Fake::start(&site.repository()).await;
    let dir = site.author();
    let program = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_admin-gui"));
        command.kill_on_drop(true);
        command
    };
    let mut serving = program()
        .args(["serve", "--repository", &fake.url, "--dir"])
        .arg(&dir)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(serving.stderr.take().unwrap()).lines();
    let ready = lines.next_line().await.unwrap().unwrap();
    assert!(ready.contains(" ready"), "{ready}");
    let second = program()
        .arg("serve")
        .arg("--dir")
        .arg(&dir)
        .output()
        .await
        .unwrap();
    assert!(!second.status.success());
    assert!(String::from_utf8_lossy(&second.stderr).contains("another process"));

    // Both look at once, again and again: the verified state has one writer at a time.
    let socket = dir.join("control/socket");
    let mut client = Client::connect(&socket, "admin-gui").await.unwrap();
    for version in 1..4 {
        let script = site.script(&format!("heater_{version}.0"), 100);
        let mut publish = program();
        publish.args([
            "publish",
            "--passphrase-stdin",
            "--repository",
            &fake.url,
            "--dir",
        ]);
        let mut publish = publish
            .arg(&dir)
            .arg(&script)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut input = publish.stdin.take().unwrap();
        input.write_all(PASSPHRASE.as_bytes()).await.unwrap();
        drop(input);
        let (ended, looked) = tokio::join!(
            publish.wait(),
            client.call::<AuthorStatus>(&AuthorRequest::Refresh)
        );
        assert!(ended.unwrap().success());
        looked.unwrap();
    }
    let status: AuthorStatus = client.call(&AuthorRequest::Refresh).await.unwrap();
    let SiteState::Ready(seen) = status.site else {
        panic!("{:?}", status.site)
    };
    assert_eq!(seen.components[0].current, Some("3.0".parse().unwrap()));

    let pid = serving.id().unwrap().to_string();
    assert!(Command::new("kill").arg(pid).status().await.unwrap().success());
    let ended = tokio::time::timeout(Duration::from_secs(20), serving.wait()).await;
    assert!(ended.expect("it ends").unwrap().success());
    assert!(!socket.exists());
}

#[tokio::test]
async fn a_check_of_too_long_ago_says_what_to_do() {
    let site = Site::new();
    let fake = Fake::start(&site.repository()).await;
    let desk = Running::start(&site.author(), Some(&fake.url), |_| {}).await;
    let path = site.script("heater_1.0", 100);
    let first = desk.preflight(&path).await.unwrap();
    for _ in 0..admin_gui::limits::DRAFTS_KEPT {
        desk.preflight(&path).await.unwrap();
    }
    let error = desk.publish(PublishWhat::Draft(first.draft)).await.unwrap_err();
    assert!(error.contains("choose the file again"), "{error}");
    assert!(desk.status().await.job.is_none());
}
