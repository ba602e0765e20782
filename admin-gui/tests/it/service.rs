//! The desk behind its control socket: what a window sees, asks and gets.

use std::path::Path;
use std::time::Duration;

use admin_gui::limits;
use admin_gui::service::{self, Setup};
use control::Client;
use protocol::control::{
    AuthorEvent, AuthorRequest, AuthorStatus, CancelResult, FleetPage, HistoryView, InitRequest, JobEnd,
    JobKind, JobStatus, KeyState, LatencyView, PreflightReport, PublishOptions, PublishWhat, Reach,
    SigningKeyKind, SiteMade, SiteState, SiteStatus,
};
use protocol::{Secret, messages};
use tokio::task::JoinHandle;

use crate::fake::Fake;
use crate::proxy::Proxy;
use crate::site::{PASSPHRASE, Site};

/// A running service and its socket.
pub struct Running {
    pub socket: std::path::PathBuf,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    pub task: JoinHandle<()>,
}

impl Running {
    pub async fn start(dir: &Path, url: Option<&str>, change: impl FnOnce(&mut Setup)) -> Self {
        let mut setup = Setup {
            repository: url.map(ToOwned::to_owned),
            ..Setup::default()
        };
        setup.patience.longest = Duration::from_millis(5);
        change(&mut setup);
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let own = dir.to_owned();
        let task = tokio::spawn(async move {
            let told = async {
                let _ = stopped.await;
            };
            service::run(&own, setup, told).await.unwrap();
        });
        let socket = dir.join("control/socket");
        let started = Self {
            socket,
            stop: Some(stop),
            task,
        };
        while Client::connect(&started.socket, "admin-gui").await.is_err() {
            assert!(!started.task.is_finished(), "it has ended");
            tokio::task::yield_now().await;
        }
        started
    }

    pub async fn client(&self) -> Client {
        Client::connect(&self.socket, "admin-gui").await.unwrap()
    }

    pub async fn ask<T: serde::de::DeserializeOwned>(&self, request: &AuthorRequest) -> Result<T, String> {
        self.client()
            .await
            .call(request)
            .await
            .map_err(|error| error.to_string())
    }

    pub async fn status(&self) -> AuthorStatus {
        self.ask(&AuthorRequest::Status).await.unwrap()
    }

    pub async fn site(&self) -> SiteStatus {
        match self
            .ask::<AuthorStatus>(&AuthorRequest::Refresh)
            .await
            .unwrap()
            .site
        {
            SiteState::Ready(site) => *site,
            other => panic!("no site: {other:?}"),
        }
    }

    pub async fn watch(&self) -> Watcher {
        let mut client = self.client().await;
        client.send(&AuthorRequest::Watch).await.unwrap();
        Watcher(client)
    }

    pub async fn preflight(&self, path: &Path) -> Result<PreflightReport, String> {
        self.ask(&AuthorRequest::Preflight {
            path: path.to_owned(),
            options: Box::default(),
        })
        .await
    }

    pub async fn publish(&self, what: PublishWhat) -> Result<JobStatus, String> {
        self.ask(&AuthorRequest::Publish {
            what,
            passphrase: Some(Secret::new(PASSPHRASE.into())),
        })
        .await
    }

    pub async fn stop(mut self) {
        let _ = self.stop.take().unwrap().send(());
        self.task.await.unwrap();
    }
}

pub struct Watcher(Client);

impl Watcher {
    pub async fn next(&mut self) -> AuthorEvent {
        let event = tokio::time::timeout(Duration::from_secs(20), self.0.next()).await;
        event
            .expect("an event within 20 s")
            .unwrap()
            .expect("the service lives")
    }

    /// The end of the job of this number.
    pub async fn end(&mut self, id: u64) -> JobEnd {
        loop {
            if let AuthorEvent::Job(JobStatus {
                id: found,
                end: Some(end),
                ..
            }) = self.next().await
                && found == id
            {
                return end;
            }
        }
    }
}

pub fn file(path: &Path) -> PublishWhat {
    PublishWhat::File {
        path: path.to_owned(),
        options: Box::default(),
    }
}

#[tokio::test]
async fn a_file_is_understood_published_and_seen_by_two_windows() {
    let site = Site::new();
    let fake = Fake::start(&site.repository()).await;
    let desk = Running::start(&site.author(), Some(&fake.url), |_| {}).await;
    let (mut one, mut two) = (desk.watch().await, desk.watch().await);
    let report = desk.preflight(&site.script("heater_1.0", 3_000)).await.unwrap();
    assert!(report.passes(), "{:?}", report.refusals);
    assert_eq!(report.component.unwrap().as_str(), "heater");
    assert_eq!(report.previous, None);
    assert!(fake.kept().published.is_empty(), "nothing is signed by looking");
    let job = desk.publish(PublishWhat::Draft(report.draft)).await.unwrap();
    assert_eq!(
        (job.kind, job.subject.as_str()),
        (JobKind::Publish, "heater 1.0.0")
    );
    for window in [&mut one, &mut two] {
        let end = window.end(job.id).await;
        assert!(matches!(end, JobEnd::Done { update: Some(_), .. }), "{end:?}");
    }
    assert_eq!(fake.kept().published.len(), 1);
    let seen = desk.site().await;
    assert_eq!(seen.components[0].current.as_ref().unwrap().to_string(), "1.0.0");
    assert_eq!(seen.repository.answers, Reach::Yes);
    assert!(seen.keys.iter().all(|key| key.is_there));
    let history: HistoryView = desk.ask(&AuthorRequest::History { last: 10 }).await.unwrap();
    assert_eq!(history.entries.len(), 1);
    assert_eq!(history.entries[0].action, "publish");
    let fleet: FleetPage = desk
        .ask(&AuthorRequest::Fleet {
            after: None,
            limit: 10,
        })
        .await
        .unwrap();
    assert_eq!(fleet.total, 0);
    let latencies: LatencyView = desk
        .ask(&AuthorRequest::Latencies { releases: 10 })
        .await
        .unwrap();
    assert!(latencies.rows.is_empty());
    desk.stop().await;
}

#[tokio::test]
async fn what_is_there_or_older_is_refused_with_the_documents_words() {
    let site = Site::new();
    let fake = Fake::start(&site.repository()).await;
    let desk = Running::start(&site.author(), Some(&fake.url), |_| {}).await;
    let mut window = desk.watch().await;
    let first = site.script("heater_1.1", 100);
    let job = desk.publish(file(&first)).await.unwrap();
    assert!(matches!(window.end(job.id).await, JobEnd::Done { .. }));

    let again = desk.preflight(&first).await.unwrap();
    let refusal = &again.refusals[0];
    assert_eq!(
        (refusal.id.as_str(), refusal.prompt.as_str()),
        (messages::FILE_EXISTED.id, messages::FILE_EXISTED.text)
    );

    let older = desk.preflight(&site.script("heater_1.0", 100)).await.unwrap();
    let refusal = older
        .refusals
        .iter()
        .find(|refusal| refusal.id == messages::OLDER_VERSION.id);
    let text = &refusal.expect("the document's message").text;
    assert!(
        text.contains("1.0.0") && text.contains("1.1.0"),
        "both versions: {text}"
    );
    let job = desk.publish(PublishWhat::Draft(older.draft)).await.unwrap();
    let end = window.end(job.id).await;
    assert!(
        matches!(&end, JobEnd::Failed { refusals, .. } if !refusals.is_empty()),
        "{end:?}"
    );
    assert_eq!(fake.kept().published.len(), 1);
}

#[tokio::test]
async fn a_wrong_passphrase_signs_nothing_and_an_open_key_needs_none() {
    let site = Site::new();
    let fake = Fake::start(&site.repository()).await;
    let desk = Running::start(&site.author(), Some(&fake.url), |_| {}).await;
    let mut window = desk.watch().await;
    let path = site.script("heater_1.0", 100);
    let locked = AuthorRequest::Publish {
        what: file(&path),
        passphrase: None,
    };
    assert!(
        desk.ask::<JobStatus>(&locked)
            .await
            .unwrap_err()
            .contains("passphrase")
    );
    let unlock = |words: &str, keep_minutes| AuthorRequest::Unlock {
        passphrase: Secret::new(words.into()),
        keep_minutes,
    };
    let wrong = desk.ask::<KeyState>(&unlock("not at all", 5)).await.unwrap_err();
    assert!(
        !wrong.contains("not at all") && wrong.contains("passphrase"),
        "{wrong}"
    );
    assert!(
        desk.ask::<KeyState>(&unlock(PASSPHRASE, 100_000))
            .await
            .unwrap_err()
            .contains("minutes")
    );
    assert_eq!(desk.status().await.key, KeyState::Locked);
    desk.ask::<KeyState>(&unlock(PASSPHRASE, 5)).await.unwrap();
    assert!(matches!(desk.status().await.key, KeyState::Open { .. }));
    let job: JobStatus = desk.ask(&locked).await.unwrap();
    assert!(matches!(window.end(job.id).await, JobEnd::Done { .. }));
    desk.ask::<()>(&AuthorRequest::Lock).await.unwrap();
    assert_eq!(desk.status().await.key, KeyState::Locked);
}

#[tokio::test]
async fn a_file_that_is_gone_or_forbidden_is_named_with_what_to_do() {
    let site = Site::new();
    let fake = Fake::start(&site.repository()).await;
    let desk = Running::start(&site.author(), Some(&fake.url), |_| {}).await;
    let path = site.script("heater_1.0", 100);
    let report = desk.preflight(&path).await.unwrap();
    std::fs::remove_file(&path).unwrap();
    let error = desk.preflight(&path).await.unwrap_err();
    assert!(
        error.contains("heater_1.0") && error.contains("choose it again"),
        "{error}"
    );
    let mut window = desk.watch().await;
    let job = desk.publish(PublishWhat::Draft(report.draft)).await.unwrap();
    assert!(matches!(window.end(job.id).await, JobEnd::Failed { .. }));
    assert!(
        desk.preflight(Path::new("heater_1.0"))
            .await
            .unwrap_err()
            .contains("whole path")
    );
    let typed = AuthorRequest::Preflight {
        path: site.script("heater_1.1", 10),
        options: Box::new(PublishOptions {
            version: Some("one".into()),
            ..PublishOptions::default()
        }),
    };
    assert!(
        desk.ask::<PreflightReport>(&typed)
            .await
            .unwrap_err()
            .contains("one")
    );
}

#[tokio::test]
async fn a_client_that_hangs_up_stops_nothing_and_a_cancelled_upload_leaves_nothing_visible() {
    let site = Site::new();
    let fake = Fake::start(&site.repository()).await;
    // The upload lasts until it is ended.
    let narrow = Proxy::that_stalls(fake.addr, 1_000_000).await;
    let desk = Running::start(&site.author(), Some(&narrow.url), |_| {}).await;
    let job = desk
        .publish(file(&site.script("heater_1.0", 4_000_000)))
        .await
        .unwrap();
    let mut window = desk.watch().await;
    loop {
        if let AuthorEvent::Job(job) = window.next().await
            && job.phase == protocol::control::JobPhase::Uploading
        {
            break;
        }
    }
    assert!(
        desk.publish(file(&site.script("heater_1.1", 10))).await.is_err(),
        "one job at a time"
    );
    let cancelled: CancelResult = desk
        .ask(&AuthorRequest::Cancel { job: Some(job.id) })
        .await
        .unwrap();
    assert!(cancelled.ended, "{}", cancelled.text);
    assert_eq!(window.end(job.id).await, JobEnd::Cancelled);
    assert!(fake.kept().published.is_empty());
    assert!(desk.status().await.job.is_none());
}

#[tokio::test]
async fn a_repository_that_is_down_is_told_and_found_again() {
    let site = Site::new();
    // Whoever connects is cut off until the repository starts.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (start, mut started) = tokio::sync::oneshot::channel::<()>();
    let folder = site.repository();
    let repository = tokio::spawn(async move {
        loop {
            tokio::select! {
                accepted = listener.accept() => drop(accepted),
                _ = &mut started => return Fake::start_at(&folder, listener),
            }
        }
    });
    let url = format!("https://{address}");
    let desk = Running::start(&site.author(), Some(&url), |setup| {
        setup.pace.refresh = Duration::from_secs(3600);
        setup.pace.refresh_away = Duration::from_millis(20);
    })
    .await;
    let seen = desk.site().await;
    assert_eq!(seen.repository.answers, Reach::No);
    assert!(seen.repository.trouble.unwrap().contains(&address.to_string()));
    let report = desk.preflight(&site.script("heater_1.0", 10)).await.unwrap();
    assert!(
        report.unsure.is_some(),
        "checked against what is remembered, and says so"
    );
    let mut watcher = desk.watch().await;
    start.send(()).unwrap();
    let repository = repository.await.unwrap();
    // Nobody presses Refresh.
    loop {
        if let AuthorEvent::Status(status) = watcher.next().await
            && let SiteState::Ready(site) = status.site
            && site.repository.answers == Reach::Yes
        {
            assert_eq!(site.repository.trouble, None);
            break;
        }
    }
    drop(repository);
}

#[tokio::test]
async fn the_first_start_makes_a_site_and_names_the_field_that_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("plant");
    let desk = Running::start(&place, None, |_| {}).await;
    assert_eq!(desk.status().await.site, SiteState::NoSite);
    assert!(
        desk.preflight(Path::new("/etc/hostname"))
            .await
            .unwrap_err()
            .contains("no site")
    );
    let init = |site: &str, words: &str| AuthorRequest::Init {
        site: Box::new(InitRequest {
            site: site.to_owned(),
            targets_key: SigningKeyKind::Ed25519,
            ..InitRequest::default()
        }),
        passphrase: Secret::new(words.to_owned()),
    };
    for name in ["", "   ", "two words", "a/b", "../up", &"x".repeat(300), "🌡"] {
        let error = desk.ask::<SiteMade>(&init(name, PASSPHRASE)).await;
        assert!(error.is_err(), "{name:?} was taken");
        assert_eq!(desk.status().await.site, SiteState::NoSite);
    }
    assert!(desk.ask::<SiteMade>(&init("plant", "short")).await.is_err());
    let made: SiteMade = desk.ask(&init("plant", PASSPHRASE)).await.unwrap();
    assert!(made.author.join("root.json").exists() && made.manager.exists());
    assert!(matches!(desk.status().await.site, SiteState::Ready(_)));
    let again = desk
        .ask::<SiteMade>(&init("plant", PASSPHRASE))
        .await
        .unwrap_err();
    assert!(again.contains("there is a site already"), "{again}");
}

#[tokio::test]
async fn it_ends_by_itself_when_nobody_needs_it() {
    let site = Site::new();
    let desk = Running::start(&site.author(), Some("https://127.0.0.1:9"), |setup| {
        setup.pace.tick = Duration::from_millis(5);
        setup.pace.idle = Duration::from_millis(50);
    })
    .await;
    tokio::time::timeout(Duration::from_secs(20), desk.task)
        .await
        .unwrap()
        .unwrap();
    assert!(!desk.socket.exists());
    assert!(
        limits::IDLE > Duration::from_secs(60),
        "not in the middle of a person's lunch"
    );
}
