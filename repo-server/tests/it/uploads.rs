//! Files on their way in.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use protocol::Role;
use protocol::author::UploadState;
use protocol::limits::{MAX_TARGET, MAX_UPLOAD_PIECE};
use repo_server::{Limits, Options};
use reqwest::{Body, StatusCode};
use tokio::sync::oneshot;
use tuf::Digest;

use crate::site::{DAY, Running, Site, problem, sample};

fn content(length: usize) -> Vec<u8> {
    (0..length).map(|n| u8::try_from(n * 31 % 251).unwrap()).collect()
}

async fn state(running: &Running<'_>, digest: &Digest) -> UploadState {
    let path = format!("/api/v1/uploads/{digest}");
    running
        .get(Some(Role::Author), &path)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap()
}

/// A body that sends `bytes` and then waits for word: to go on to its end, or to break off.
fn held_body(bytes: Vec<u8>) -> (Body, oneshot::Sender<bool>) {
    let (release, released) = oneshot::channel::<bool>();
    let first = stream::iter([Ok::<_, std::io::Error>(Bytes::from(bytes))]);
    let end = stream::once(async move {
        match released.await {
            Ok(true) => Ok(Bytes::new()),
            _ => Err(std::io::Error::other("cut")),
        }
    });
    (
        Body::wrap_stream(futures_util::StreamExt::chain(first, end)),
        release,
    )
}

/// Asks again until `wanted` bytes are here; the server writes them when they come.
async fn arrives(running: &Running<'_>, digest: &Digest, wanted: u64) {
    let asked = async {
        while state(running, digest).await.received < wanted {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), asked)
        .await
        .unwrap();
}

#[tokio::test]
async fn an_upload_that_was_cut_goes_on_where_it_stopped() {
    let site = Site::new();
    let running = site.start().await;
    let bytes = content(3 << 20);
    let (digest, length) = (Digest::of(&bytes), bytes.len() as u64);
    assert_eq!(
        state(&running, &digest).await,
        UploadState {
            received: 0,
            complete: false
        }
    );

    let (body, release) = held_body(bytes[..2 << 20].to_vec());
    let url = running.url(&format!("/api/v1/uploads/{digest}?length={length}"));
    let client = site.client(Some(Role::Author));
    let sending = tokio::spawn(client.patch(url).header("Upload-Offset", 0).body(body).send());
    // The first piece that is handed to the disk; what came after it follows at the break.
    arrives(&running, &digest, 1 << 20).await;

    // While it is being sent, nobody else can send it.
    let (status, other) = problem(running.piece(&digest, length, 0, bytes.clone()).await).await;
    assert_eq!((status, other.code.as_str()), (StatusCode::LOCKED, "upload-busy"));
    release.send(false).unwrap();
    assert!(sending.await.unwrap().is_err());

    // The wrong place is answered with the right one.
    let mut response = running.piece(&digest, length, 5, bytes.clone()).await;
    for _ in 0..1000 {
        if response.status() != StatusCode::LOCKED {
            break;
        }
        tokio::task::yield_now().await;
        response = running.piece(&digest, length, 5, bytes.clone()).await;
    }
    assert_eq!(response.status(), StatusCode::CONFLICT);
    let here: UploadState = response.json().await.unwrap();
    assert!(
        !here.complete && here.received >= 1 << 20 && here.received <= 2 << 20,
        "{here:?}"
    );

    let from = usize::try_from(here.received).unwrap();
    let rest = bytes[from..].to_vec();
    let done = running.piece(&digest, length, here.received, rest).await;
    assert_eq!(
        done.json::<UploadState>().await.unwrap(),
        UploadState {
            received: length,
            complete: true
        }
    );
    // Once more is no error: it is here.
    let again = running.piece(&digest, length, 0, bytes.clone()).await;
    assert_eq!(
        again.json::<UploadState>().await.unwrap(),
        UploadState {
            received: length,
            complete: true
        }
    );
}

#[tokio::test]
async fn an_upload_goes_on_after_a_restart_and_is_published_after_another() {
    let site = Site::new();
    let one = sample("1.0.0", 1);
    let (digest, length) = (one.digest(), one.bytes.len() as u64);
    let running = site.start().await;
    running.piece(&digest, length, 0, one.bytes[..100].to_vec()).await;
    running.server.stop().await;

    let running = site.start().await;
    assert_eq!(
        state(&running, &digest).await,
        UploadState {
            received: 100,
            complete: false
        }
    );
    let response = running
        .piece(&digest, length, 100, one.bytes[100..].to_vec())
        .await;
    assert!(response.json::<UploadState>().await.unwrap().complete);
    running.server.stop().await;

    let running = site.start().await;
    assert!(
        state(&running, &digest).await.complete,
        "what waits for its metadata outlives a restart"
    );
    running
        .publish(site.next_targets(|editor| editor.add_target(&one.name(), &one.target())))
        .await;
    assert_eq!(running.text(&one.served_path()).await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_corrupt_upload_is_refused_and_starts_again_from_nothing() {
    let site = Site::new();
    let running = site.start().await;
    let bytes = content(100_000);
    let (digest, length) = (Digest::of(&bytes), bytes.len() as u64);
    let mut corrupt = bytes.clone();
    corrupt[77] ^= 1;
    let (status, other) = problem(running.piece(&digest, length, 0, corrupt.clone()).await).await;
    assert_eq!(
        (status, other.code.as_str()),
        (StatusCode::UNPROCESSABLE_ENTITY, "upload-corrupt")
    );
    assert!(
        other.message.contains(&Digest::of(&corrupt).to_string()),
        "{}",
        other.message
    );
    assert_eq!(
        state(&running, &digest).await,
        UploadState {
            received: 0,
            complete: false
        }
    );
    assert!(running.upload(&bytes).await.complete);
}

#[tokio::test]
async fn more_bytes_than_announced_or_allowed_are_refused() {
    let site = Site::new();
    let running = site.start().await;
    let bytes = content(1000);
    let digest = Digest::of(&bytes);
    let (status, _) = problem(running.piece(&digest, 999, 0, bytes.clone()).await).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    let (status, _) = problem(running.piece(&digest, MAX_TARGET + 1, 0, Vec::new()).await).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);

    let url = running.url(&format!("/api/v1/uploads/{digest}?length={MAX_TARGET}"));
    let (body, _release) = held_body(Vec::new());
    let request = site
        .client(Some(Role::Author))
        .patch(url)
        .header("Upload-Offset", 0)
        .body(body);
    let announced = request
        .header("Content-Length", MAX_UPLOAD_PIECE + 1)
        .send()
        .await
        .unwrap();
    assert_eq!(announced.status(), StatusCode::PAYLOAD_TOO_LARGE);

    for (path, offset) in [
        (format!("/api/v1/uploads/{digest}"), Some("0")),
        (format!("/api/v1/uploads/{digest}?length=-1"), Some("0")),
        (format!("/api/v1/uploads/{digest}?length=1000"), None),
        (format!("/api/v1/uploads/{digest}?length=1000"), Some("x")),
        ("/api/v1/uploads/XYZ?length=1000".to_owned(), Some("0")),
    ] {
        let mut request = site
            .client(Some(Role::Author))
            .patch(running.url(&path))
            .body(bytes.clone());
        if let Some(offset) = offset {
            request = request.header("Upload-Offset", offset);
        }
        let (status, other) = problem(request.send().await.unwrap()).await;
        assert_eq!(
            (status, other.code.as_str()),
            (StatusCode::BAD_REQUEST, "malformed"),
            "{path} {offset:?}"
        );
    }
    assert!(
        running.upload(&bytes).await.complete,
        "a wrong length before does no harm"
    );
}

#[tokio::test]
async fn a_sender_that_dawdles_is_cut_and_may_go_on_later() {
    let site = Site::new();
    let limits = Limits {
        pace_bytes: 1000,
        pace_window: Duration::from_millis(100),
        ..Limits::default()
    };
    let options = Options {
        limits,
        ..site.options()
    };
    let running = site.start_in(&site.repository(), options).await;
    let bytes = content(50_000);
    let (digest, length) = (Digest::of(&bytes), bytes.len() as u64);
    let url = running.url(&format!("/api/v1/uploads/{digest}?length={length}"));
    let (body, _release) = held_body(bytes[..40_000].to_vec());
    let client = site.client(Some(Role::Author));
    let (status, other) = problem(
        client
            .patch(url)
            .header("Upload-Offset", 0)
            .body(body)
            .send()
            .await
            .unwrap(),
    )
    .await;
    assert_eq!(
        (status, other.code.as_str()),
        (StatusCode::REQUEST_TIMEOUT, "body-slow")
    );
    assert_eq!(
        state(&running, &digest).await.received,
        40_000,
        "what came is kept"
    );
    let rest = running
        .piece(&digest, length, 40_000, bytes[40_000..].to_vec())
        .await;
    assert!(rest.json::<UploadState>().await.unwrap().complete);

    let (body, _release) = held_body(b"{".to_vec());
    let publish = client
        .post(running.url("/api/v1/publish"))
        .body(body)
        .send()
        .await
        .unwrap();
    assert_eq!(publish.status(), StatusCode::REQUEST_TIMEOUT, "JSON bodies too");
}

#[tokio::test]
async fn what_nobody_publishes_is_removed_after_a_day_and_what_is_listed_is_not() {
    let site = Site::new();
    let running = site.start().await;
    let one = sample("1.0.0", 1);
    running.release(&one).await;
    let (whole, half) = (content(5000), content(6000));
    running.upload(&whole).await;
    running
        .piece(&Digest::of(&half), 6000, 0, half[..10].to_vec())
        .await;

    let repository = running.server.repository().clone();
    site.clock.forward(DAY - 1);
    repository.collect().unwrap();
    assert!(state(&running, &Digest::of(&whole)).await.complete);
    site.clock.forward(2);
    repository.collect().unwrap();
    for bytes in [&whole, &half] {
        assert_eq!(state(&running, &Digest::of(bytes)).await.received, 0);
    }
    assert_eq!(running.text(&one.served_path()).await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_file_taken_off_the_list_is_not_served_and_goes_after_a_day() {
    let site = Site::new();
    let running = site.start().await;
    let one = sample("1.0.0", 1);
    running.release(&one).await;
    running
        .publish(site.next_targets(|editor| editor.remove_target(&one.name())))
        .await;
    assert_eq!(running.text(&one.served_path()).await.0, StatusCode::NOT_FOUND);
    let store = site
        .repository()
        .join("state/store")
        .join(one.digest().to_string());
    running.server.repository().collect().unwrap();
    assert!(store.exists(), "somebody may be fetching it");
    site.clock.forward(DAY + 1);
    running.server.repository().collect().unwrap();
    assert!(!store.exists());
}

#[tokio::test]
async fn a_manager_uploads_only_what_was_asked_for() {
    let site = Site::new();
    let running = site.start().await;
    let bytes = content(1000);
    let response = running
        .piece_as(Role::Manager, &Digest::of(&bytes), 1000, 0, bytes)
        .await;
    let (status, other) = problem(response).await;
    assert_eq!(
        (status, other.code.as_str()),
        (StatusCode::FORBIDDEN, "not-wanted")
    );
}
