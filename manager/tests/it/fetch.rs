//! Files that are not what was signed, and the downloader's switch.

use protocol::control::ManagerRequest;

use crate::site::Site;

/// Serves something else than what was signed: said once, with this word, asked for once, and once more when the
/// author has signed anew.
async fn is_refused(harm: impl FnOnce(&mut Vec<u8>), word: &str) {
    let mut site = Site::new(1).await;
    site.publish("1.0");
    let path = site.path("1.0");
    let right = site.bytes("1.0").to_vec();
    let mut wrong = right.clone();
    harm(&mut wrong);
    let shelf = site.repositories[0].shelf.clone();
    shelf.lock().unwrap().files.insert(path.clone(), wrong);
    let gateway = site.start().await;
    gateway.check().await;
    gateway.check().await;
    assert_eq!(site.repositories[0].asked(&path), 1, "asked for again");
    let status = gateway.status().await;
    assert_eq!(status.alarms.len(), 1, "{:?}", status.alarms);
    assert!(status.alarms[0].contains(word), "{:?}", status.alarms);
    assert!(!status.releases[0].mirrored);

    shelf.lock().unwrap().files.insert(path.clone(), right);
    site.sign();
    gateway.check().await;
    let status = gateway.status().await;
    assert!(
        status.releases[0].mirrored && status.alarms.is_empty(),
        "{status:?}"
    );
    assert_eq!(site.repositories[0].asked(&path), 2);
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
