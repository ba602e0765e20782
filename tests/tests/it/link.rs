//! Links that break at a byte: a proxy stands where the dialler dials and stops, cuts and counts.

use e2e::packages::large_app;
use e2e::process::bin;
use e2e::site::PASSPHRASE;
use e2e::{Program, Proxy, Site, SiteOptions, eventually};
use protocol::control::DownloadEntry;
use protocol::{Outcome, Step};

/// Bytes of the release that is on its way.
const LENGTH: u64 = 6_000_000;
/// Where the link stops.
const HALF: u64 = 3_000_000;
/// What may cross the link twice or beside the release: what lay in the sockets when it broke, TLS, metadata.
const SLACK: u64 = 800_000;

fn release(work: &std::path::Path, version: &str) -> std::path::PathBuf {
    large_app(work, version, usize::try_from(LENGTH).unwrap())
}

/// The gateway dies with half of a release on its way; the device goes on where it was.
#[tokio::test]
async fn a_gateway_restarts_in_mid_transfer_and_the_device_resumes() {
    let work = tempfile::tempdir().unwrap();
    let mut site = Site::running(SiteOptions::default()).await;
    let (agent, proxy) = site.device_behind("north", 7201).await;
    let steps = agent.watch();

    proxy.hold_after(HALF);
    let published = site.release(&release(work.path(), "1.0.0")).await;
    proxy.wait_held().await;
    site.kill_manager().await;
    proxy.cut();
    let mark = steps.mark();
    proxy.release();
    site.start_manager().await;

    assert_eq!(
        steps.outcome("north", published.update).await.0,
        Outcome::Committed
    );
    let carried = proxy.carried_down();
    assert!(
        carried < LENGTH + SLACK,
        "{} bytes were sent twice",
        carried - LENGTH
    );
    let event = steps
        .wait_after(mark, "the download goes on", |event| {
            matches!(
                event.step,
                Step::DownloadStarted | Step::Downloading | Step::Downloaded
            )
        })
        .await;
    assert!(event.bytes.unwrap() > HALF / 2, "it began again: {event:?}");
    // The new gateway has sent the rest and no more.
    let sent = site.manager_status().await.sent_bytes;
    assert!(sent < LENGTH - HALF + SLACK, "the new gateway sent {sent} bytes");
}

/// A link that breaks again and again carries the release once.
#[tokio::test]
async fn a_link_that_breaks_at_every_second_megabyte_is_enough() {
    let work = tempfile::tempdir().unwrap();
    let site = Site::running(SiteOptions::default()).await;
    let (agent, proxy) = site.device_behind("north", 7201).await;
    let steps = agent.watch();
    let before = proxy.carried_down();

    // Each connection breaks after two megabytes: three are needed.
    proxy.hold_after(2_000_000);
    let published = site.release(&release(work.path(), "1.0.0")).await;
    for _ in 0..2 {
        proxy.wait_held().await;
        proxy.cut();
        proxy.wait_gone().await;
    }
    proxy.release();
    assert_eq!(
        steps.outcome("north", published.update).await.0,
        Outcome::Committed
    );
    let carried = proxy.carried_down() - before;
    assert!(
        carried < LENGTH + 2 * SLACK,
        "{} bytes were sent twice",
        carried - LENGTH
    );
}

/// R-004-54 [C]: a partial file counted as downloaded. Here the gateway resumes, and records what crossed the wire.
#[tokio::test]
async fn the_gateways_own_download_breaks_and_resumes() {
    let work = tempfile::tempdir().unwrap();
    let mut site = Site::create(SiteOptions::default()).await;
    let proxy = Proxy::start(site.at(7200), site.at(7100)).await;
    let address = format!("[\"https://{}\"]", proxy.address);
    site.set("manager/manager.toml", "repositories", &address);
    site.start_repository().await;
    site.start_manager().await;
    let agent = site.device("north").await;

    proxy.hold_after(HALF);
    let published = site.release(&release(work.path(), "1.0.0")).await;
    proxy.wait_held().await;
    let status = site.manager_status().await;
    assert!(!status.releases[0].mirrored, "half a file is in the mirror");
    proxy.release();
    proxy.cut();
    assert_eq!(
        agent.watch().outcome("north", published.update).await.0,
        Outcome::Committed
    );
    let carried = proxy.carried_down();
    assert!(
        carried < LENGTH + SLACK,
        "{} bytes were sent twice",
        carried - LENGTH
    );
    let entries: Vec<DownloadEntry> = site.manager(["history", "--json"], "").await.ok().json();
    let last = entries.last().unwrap();
    assert_eq!(last.outcome, "verified");
    assert!(last.length > LENGTH && last.bytes < last.length, "{last:?}");
}

/// R-004-34: an upload that breaks is picked up within the same click.
#[tokio::test]
async fn an_upload_that_breaks_is_picked_up_where_it_was() {
    let work = tempfile::tempdir().unwrap();
    let site = Site::running(SiteOptions::default()).await;
    let proxy = Proxy::start(site.at(7200), site.at(7100)).await;
    proxy.hold_up_after(HALF);
    let mut publisher = publish_through(&site, &proxy, &release(work.path(), "1.0.0"));
    proxy.wait_held().await;
    assert!(!shows(&site, "1.0.0").await, "half a release is visible");
    proxy.release();
    proxy.cut();
    assert!(publisher.wait().await.success(), "{}", publisher.said());
    let carried = proxy.carried_up();
    assert!(
        carried < LENGTH + SLACK,
        "{} bytes were sent twice",
        carried - LENGTH
    );
    eventually("it is visible", || shows(&site, "1.0.0"), |shown| *shown).await;
}

/// The author's machine dies with half of the upload done: nothing is visible, and the next try sends the rest.
#[tokio::test]
async fn an_author_killed_in_mid_upload_publishes_nothing_and_goes_on_later() {
    let work = tempfile::tempdir().unwrap();
    let site = Site::running(SiteOptions::default()).await;
    let proxy = Proxy::start(site.at(7200), site.at(7100)).await;
    proxy.hold_up_after(HALF);
    let package = release(work.path(), "1.0.0");
    let publisher = publish_through(&site, &proxy, &package);
    proxy.wait_held().await;
    publisher.kill().await;
    proxy.cut();
    proxy.release();
    assert!(!shows(&site, "1.0.0").await, "half a release is visible");
    let published = site.release(&package).await;
    assert!(
        published.sent < LENGTH,
        "all {} bytes were sent again",
        published.sent
    );
    assert!(shows(&site, "1.0.0").await);
}

/// A manager may know several addresses: the second one takes over.
#[tokio::test]
async fn a_second_repository_address_takes_over() {
    let work = tempfile::tempdir().unwrap();
    let mut site = Site::create(SiteOptions::default()).await;
    let proxy = Proxy::start(site.at(7200), site.at(7100)).await;
    let addresses = format!("[\"https://{}\", \"https://{}\"]", proxy.address, site.at(7100));
    site.set("manager/manager.toml", "repositories", &addresses);
    site.start_repository().await;
    site.start_manager().await;
    let agent = site.device("north").await;
    let steps = agent.watch();
    let first = site.release(&large_app(work.path(), "1.0.0", 0)).await;
    assert_eq!(steps.outcome("north", first.update).await.0, Outcome::Committed);
    proxy.open(false);
    let second = site.release(&large_app(work.path(), "2.0.0", 0)).await;
    assert_eq!(steps.outcome("north", second.update).await.0, Outcome::Committed);
    let entries: Vec<DownloadEntry> = site.manager(["history", "--json"], "").await.ok().json();
    let sources: Vec<&str> = entries.iter().map(|entry| entry.source.as_str()).collect();
    assert!(
        sources[0].contains(":7200") && sources[1].contains(":7100"),
        "{sources:?}"
    );
}

fn publish_through(site: &Site, proxy: &Proxy, package: &std::path::Path) -> Program {
    let author = site.path("author").display().to_string();
    let repository = format!("https://{}", proxy.address);
    let package = package.display().to_string();
    let args = [
        "publish",
        &package,
        "--yes",
        "--dir",
        &author,
        "--repository",
        &repository,
        "--passphrase-stdin",
    ];
    Program::start_with(
        "publisher",
        &bin("admin-gui"),
        args,
        &format!("{PASSPHRASE}\n"),
        &[],
    )
}

/// Whether the repository shows a version to its visitors.
async fn shows(site: &Site, version: &str) -> bool {
    let ca = site.path("manager/ca.pem");
    let connected = e2e::client::connect(site.at(7100), &ca, site.name(), protocol::Role::Repository, None);
    let mut visitor = connected.await.unwrap();
    visitor
        .ask("GET", "/", &[], "")
        .await
        .unwrap()
        .text()
        .contains(version)
}
