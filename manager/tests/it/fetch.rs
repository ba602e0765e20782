//! Files that are not what was signed, and the downloader's switch.

use protocol::Step;
use protocol::control::{DownloadEntry, ManagerRequest, ManagerStatus};

use crate::site::Site;

/// Serves something else than what was signed: said once, with this word, asked for once by the timer, and once more
/// when the author has signed anew.
async fn is_refused(harm: impl FnOnce(&mut Vec<u8>), word: &str) {
    let mut site = Site::new(1).await;
    site.publish("1.0");
    let path = site.path("1.0");
    let right = site.bytes("1.0").to_vec();
    let mut wrong = right.clone();
    harm(&mut wrong);
    let shelf = site.repositories[0].shelf.clone();
    shelf.lock().unwrap().files.insert(path.clone(), wrong);
    let gateway = site.start_unasked().await;
    gateway
        .until("it has told", |status| !status.alarms.is_empty())
        .await;
    for _ in 0..3 {
        gateway.by_timer(&site).await;
    }
    assert_eq!(site.repositories[0].asked(&path), 1, "asked for again");
    let status = gateway.status().await;
    assert_eq!(status.alarms.len(), 1, "{:?}", status.alarms);
    assert!(status.alarms[0].contains(word), "{:?}", status.alarms);
    assert!(!status.releases[0].mirrored);

    shelf.lock().unwrap().files.insert(path.clone(), right);
    site.sign();
    gateway.by_timer(&site).await;
    let here = |status: &ManagerStatus| status.releases[0].mirrored && status.alarms.is_empty();
    gateway.until("it is here", here).await;
    assert_eq!(site.repositories[0].asked(&path), 2);
}

/// A file that the repository has lost is told of, in the status at once, as an alarm after the third try, in the
/// record and to the author; when it is put right a check fetches it at once, however long the wait would have been.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_not_there_is_told_of_and_fetched_at_once_when_it_is_put_right() {
    let mut site = Site::new(1).await;
    site.publish("1.0");
    let path = site.path("1.0");
    let shelf = site.repositories[0].shelf.clone();
    shelf.lock().unwrap().lost.insert(path.clone());
    let gateway = site.start_unasked().await;
    let text = "Demo_1.0.0 could not be downloaded: the repository refused (404 Not Found";
    let told = gateway
        .until("the status tells", |status| status.downloader.starts_with(text))
        .await;
    assert!(told.downloader.contains(", next try "), "{}", told.downloader);
    // New metadata change nothing of it.
    site.sign();
    for _ in 0..2 {
        let found = gateway.check().await;
        assert!(found.failed && found.message.contains(text), "{found:?}");
    }
    let status = gateway.status().await;
    assert!(status.downloader.starts_with(text), "{}", status.downloader);
    assert_eq!(status.alarms.len(), 1, "{:?}", status.alarms);
    assert!(status.alarms[0].starts_with(text), "{:?}", status.alarms);
    let entries: Vec<DownloadEntry> = gateway.ask(&ManagerRequest::History { last: 9 }).await.unwrap();
    assert_eq!(entries.len(), 1, "{entries:?}");
    assert!(
        entries[0]
            .outcome
            .starts_with("failed: the repository refused (404"),
        "{entries:?}"
    );
    site.repositories[0].reported(Step::Failed, text).await;

    shelf.lock().unwrap().lost.clear();
    let found = gateway.check().await;
    assert!(found.changed && !found.failed, "{found:?}");
    let status = gateway.status().await;
    assert!(
        status.releases[0].mirrored && status.alarms.is_empty(),
        "{status:?}"
    );
    assert_eq!(status.downloader, "up to date");
    let entries: Vec<DownloadEntry> = gateway.ask(&ManagerRequest::History { last: 9 }).await.unwrap();
    assert_eq!(entries.last().unwrap().outcome, "verified");
}

/// The same for bytes that are wrong, which would be left alone for an hour.
#[tokio::test(flavor = "multi_thread")]
async fn a_check_by_hand_asks_again_for_a_file_that_came_wrong() {
    let mut site = Site::new(1).await;
    site.publish("1.0");
    let path = site.path("1.0");
    let right = site.bytes("1.0").to_vec();
    let shelf = site.repositories[0].shelf.clone();
    shelf
        .lock()
        .unwrap()
        .files
        .insert(path.clone(), vec![b'x'; right.len()]);
    let gateway = site.start().await;
    let found = gateway.check().await;
    assert!(
        found.failed && found.message.contains("the received bytes are"),
        "{found:?}"
    );
    shelf.lock().unwrap().files.insert(path, right);
    let found = gateway.check().await;
    assert!(found.changed && !found.failed, "{found:?}");
    let status = gateway.status().await;
    assert!(
        status.releases[0].mirrored && status.alarms.is_empty(),
        "{status:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_file_is_told_from_a_broken_link_and_asked_for_once() {
    let harm = |bytes: &mut Vec<u8>| bytes.truncate(bytes.len() / 2);
    is_refused(harm, "truncated").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_oversized_file_is_refused_and_asked_for_once() {
    is_refused(|bytes| bytes.push(0), "endless data").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_downloader_stays_stopped_over_a_restart() {
    let mut site = Site::new(1).await;
    site.publish("1.0");
    let gateway = site.start().await;
    gateway.ask::<()>(&ManagerRequest::Stop).await.unwrap();
    gateway
        .until("it has stopped", |status| status.next_check_seconds.is_none())
        .await;
    gateway.stop().await;
    let gateway = site.start().await;
    assert!(!gateway.status().await.downloader_running);
    gateway.ask::<()>(&ManagerRequest::Start).await.unwrap();
    assert!(gateway.status().await.downloader_running);
}
