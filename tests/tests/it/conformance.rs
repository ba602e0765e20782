//! The client that the public conformance suite drives, against vectors of our own: the suite itself is not part of
//! CI (`scripts/conformance`).

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use http::{StatusCode, Uri};
use tuf::UnixTime;

use e2e::authored::{Algorithms, Authored, Plan};
use e2e::differential::{case, mutants, plans};
use e2e::process::{bin, run};

struct Shelf {
    authored: Mutex<Authored>,
    asked: Mutex<Vec<String>>,
}

/// A repository that is served, and a client of it.
struct Client {
    dir: tempfile::TempDir,
    at: SocketAddr,
    shelf: Arc<Shelf>,
}

fn now() -> UnixTime {
    mtls::Clock::now(&mtls::SystemClock).now
}

async fn serve(State(shelf): State<Arc<Shelf>>, uri: Uri) -> Result<Vec<u8>, StatusCode> {
    shelf.asked.lock().unwrap().push(uri.path().to_owned());
    let authored = shelf.authored.lock().unwrap();
    let file = match uri.path().split_at_checked(10) {
        Some(("/metadata/", name)) => authored.metadata.get(name),
        _ => uri
            .path()
            .strip_prefix("/targets/")
            .and_then(|path| authored.targets.get(path)),
    };
    file.cloned().ok_or(StatusCode::NOT_FOUND)
}

impl Client {
    async fn of(plan: Plan) -> Self {
        let shelf = Arc::new(Shelf {
            authored: Mutex::new(Authored::new(plan, now())),
            asked: Mutex::default(),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let app = Router::new().fallback(serve).with_state(shelf.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("metadata")).unwrap();
        std::fs::create_dir(dir.path().join("targets")).unwrap();
        let client = Self { dir, at, shelf };
        let root = client.dir.path().join("initial_root.json");
        let first = client.shelf.authored.lock().unwrap().first_root().to_vec();
        durable::replace(&root, &first, 0o644).unwrap();
        assert_eq!(client.run(&["init", root.to_str().unwrap()]).await, 0);
        assert!(client.asked().is_empty(), "beginning asks for nothing");
        client
    }

    fn metadata(&self, file: &str) -> PathBuf {
        self.dir.path().join("metadata").join(file)
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.shelf.asked.lock().unwrap())
    }

    async fn run(&self, args: &[&str]) -> i32 {
        let folder = |name: &str| self.dir.path().join(name).display().to_string();
        let url = |name: &str| format!("http://{}/{name}/", self.at);
        let (metadata_dir, target_dir) = (folder("metadata"), folder("targets"));
        let (metadata_url, target_url) = (url("metadata"), url("targets"));
        let common = [
            ("--metadata-dir", &metadata_dir),
            ("--metadata-url", &metadata_url),
            ("--target-dir", &target_dir),
            ("--target-base-url", &target_url),
        ];
        let common = common.iter().flat_map(|(name, value)| [*name, value.as_str()]);
        let output = run(
            &bin("tuf-conformance-client"),
            common.chain(args.iter().copied()),
            "",
            &[],
        )
        .await;
        output.code
    }

    async fn refresh(&self) -> i32 {
        self.run(&["refresh"]).await
    }

    async fn download(&self, name: &str) -> i32 {
        self.run(&["--target-name", name, "download"]).await
    }

    fn downloaded(&self) -> Vec<Vec<u8>> {
        let files = std::fs::read_dir(self.dir.path().join("targets")).unwrap();
        files
            .map(|file| std::fs::read(file.unwrap().path()).unwrap())
            .collect()
    }
}

#[tokio::test]
async fn the_conformance_client_asks_in_order_and_keeps_what_it_got() {
    let client = Client::of(Plan {
        team: "../te am?#".to_owned(),
        unknown: true,
        roots: 3,
        ..Plan::default()
    })
    .await;
    assert_eq!(client.refresh().await, 0);
    let asked = [
        "2.root.json",
        "3.root.json",
        "4.root.json",
        "timestamp.json",
        "1.snapshot.json",
        "1.targets.json",
    ];
    assert_eq!(client.asked(), asked.map(|file| format!("/metadata/{file}")));

    let name = "team/under/app";
    assert_eq!(client.download(name).await, 0);
    let asked = client.asked();
    let metadata: Vec<_> = asked
        .iter()
        .filter(|path| path.starts_with("/metadata/"))
        .collect();
    let team = "..%2Fte%20am%3F%23.json";
    let under = "under%20..%2Fte%20am%3F%23.json";
    let right = [
        "4.root.json",
        "timestamp.json",
        &format!("1.{team}"),
        &format!("1.{under}"),
    ];
    assert_eq!(
        metadata,
        right
            .map(|file| format!("/metadata/{file}"))
            .iter()
            .collect::<Vec<_>>()
    );
    assert_eq!(asked.len(), metadata.len() + 1, "one target");
    let served = client.shelf.authored.lock().unwrap().metadata.clone();
    for (copy, original) in [
        ("root.json", "3.root.json"),
        ("timestamp.json", "timestamp.json"),
        ("snapshot.json", "1.snapshot.json"),
        ("targets.json", "1.targets.json"),
        (team, &format!("1.{team}")),
        (under, &format!("1.{under}")),
    ] {
        assert_eq!(
            std::fs::read(client.metadata(copy)).unwrap(),
            served[original],
            "{copy}"
        );
    }
    let listed = client.shelf.authored.lock().unwrap().listed.clone();
    assert_eq!(client.downloaded(), [listed[name].clone()]);

    assert_eq!(client.download(name).await, 0);
    assert!(
        !client.asked().iter().any(|path| path.starts_with("/targets/")),
        "what is there is not fetched again"
    );
    assert_eq!(client.download("nobody's").await, 1);
}

#[tokio::test]
async fn the_conformance_client_downloads_by_either_hash_and_refuses_other_bytes() {
    for algorithms in [Algorithms::Sha256, Algorithms::Sha512, Algorithms::Both] {
        let client = Client::of(Plan {
            algorithms,
            consistent: algorithms != Algorithms::Both,
            ..Plan::default()
        })
        .await;
        assert_eq!(client.download("folder/app_1.0.tar").await, 0, "{algorithms:?}");
        for bytes in client.shelf.authored.lock().unwrap().targets.values_mut() {
            bytes.make_ascii_uppercase();
        }
        assert_eq!(client.download("app").await, 1, "{algorithms:?}");
        assert_eq!(client.downloaded().len(), 1);
    }
}

/// What `scripts/differential` gives to python-tuf and tough, which are not there in CI.
#[test]
fn every_shape_is_accepted_and_mutants_are_judged() {
    for plan in plans() {
        let what = format!("{plan:?}");
        assert_eq!(
            case(&what, false, &Authored::new(plan, now()), now()).refused,
            None,
            "{what}"
        );
    }
    let mut refused = 0;
    mutants(200, 3, now(), |case| {
        // A signed byte changed without a signature, or a file cut: nobody takes that.
        let cut = case.what.contains(".targets.json: cut") || case.what.contains("timestamp.json: cut");
        assert!(!cut || case.refused.is_some(), "{}", case.what);
        refused += usize::from(case.refused.is_some());
    });
    assert!(
        (100..200).contains(&refused),
        "{refused} of 200 mutants are refused"
    );
}

#[tokio::test]
async fn the_conformance_client_with_torn_state_takes_nothing_older() {
    let client = Client::of(Plan::default()).await;
    assert_eq!(client.refresh().await, 0);
    let yesterday = client.shelf.authored.lock().unwrap().metadata.clone();
    client.shelf.authored.lock().unwrap().publish();
    assert_eq!(client.refresh().await, 0);
    let today = std::mem::replace(&mut client.shelf.authored.lock().unwrap().metadata, yesterday);
    assert_eq!(client.refresh().await, 1, "an older timestamp");

    // The copies are nobody's state: without them the answer is the same.
    for copy in ["timestamp.json", "snapshot.json"] {
        durable::replace(client.metadata(copy), b"", 0o644).unwrap();
    }
    assert_eq!(client.refresh().await, 1);
    assert_eq!(
        std::fs::read(client.metadata("timestamp.json")).unwrap(),
        today["timestamp.json"]
    );
    for file in std::fs::read_dir(client.metadata("trusted-state")).unwrap() {
        let path = file.unwrap().path();
        let whole = std::fs::read(&path).unwrap();
        durable::replace(&path, b"", 0o600).unwrap();
        assert_eq!(client.refresh().await, 1, "{} emptied", path.display());
        durable::replace(&path, &whole, 0o600).unwrap();
    }
    client.shelf.authored.lock().unwrap().metadata = today;
    assert_eq!(client.refresh().await, 0);
}
