//! What readers get.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use mtls::Clock as _;
use protocol::Role;
use protocol::author::Published;
use repo_server::{Options, Refusal};
use reqwest::StatusCode;
use reqwest::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, ETAG, IF_NONE_MATCH, IF_RANGE, RANGE};

use tuf::UnixTime;

use crate::site::{DAY, Manual, NOW, Site, problem, sample};

#[tokio::test]
async fn targets_come_whole_in_ranges_and_not_at_all_when_held() {
    let site = Site::new();
    let running = site.start().await;
    let mut one = sample("1.0.0", 1);
    one.bytes = one.bytes.repeat(200);
    running.release(&one).await;
    let path = one.served_path();
    let etag = format!("\"{}\"", one.digest());

    let whole = running.get(None, &path).send().await.unwrap();
    assert_eq!(whole.headers()[ETAG], etag.as_str());
    assert_eq!(
        whole.headers()[CACHE_CONTROL],
        "public, max-age=31536000, immutable"
    );
    assert_eq!(whole.headers()["x-content-type-options"], "nosniff");
    assert_eq!(whole.bytes().await.unwrap(), one.bytes);

    let range = format!("bytes={}-", one.bytes.len() - 7);
    let tail = running
        .get(None, &path)
        .header(RANGE, &range)
        .header(IF_RANGE, &etag)
        .send()
        .await
        .unwrap();
    assert_eq!(tail.status(), StatusCode::PARTIAL_CONTENT);
    let (from, all) = (one.bytes.len() - 7, one.bytes.len());
    assert_eq!(
        tail.headers()[CONTENT_RANGE],
        format!("bytes {from}-{}/{all}", all - 1).as_str()
    );
    assert_eq!(tail.bytes().await.unwrap(), &one.bytes[from..]);

    let outside = running
        .get(None, &path)
        .header(RANGE, format!("bytes={all}-"))
        .send()
        .await
        .unwrap();
    assert_eq!(
        outside.headers()[CONTENT_RANGE],
        format!("bytes */{all}").as_str()
    );
    assert_eq!(problem(outside).await.0, StatusCode::RANGE_NOT_SATISFIABLE);

    let held = running
        .get(None, &path)
        .header(IF_NONE_MATCH, &etag)
        .send()
        .await
        .unwrap();
    assert_eq!(
        (held.status(), held.content_length()),
        (StatusCode::NOT_MODIFIED, Some(0))
    );
    let head = site.client(None).head(running.url(&path)).send().await.unwrap();
    assert_eq!(head.headers()[CONTENT_LENGTH], all.to_string().as_str());

    // Only the served name: neither the plain target name nor the bare digest.
    for wrong in [
        format!("/targets/{}", one.name()),
        format!("/targets/{}", one.digest()),
    ] {
        assert_eq!(running.text(&wrong).await.0, StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn the_timestamp_is_asked_for_each_time_and_numbered_files_never_change() {
    let site = Site::new();
    let running = site.start().await;
    running.release(&sample("1.0.0", 1)).await;
    let timestamp = running
        .get(None, "/metadata/timestamp.json")
        .send()
        .await
        .unwrap();
    assert_eq!(timestamp.headers()[CACHE_CONTROL], "no-cache");
    let etag = timestamp.headers()[ETAG].clone();
    let again = running
        .get(None, "/metadata/timestamp.json")
        .header(IF_NONE_MATCH, &etag)
        .send()
        .await
        .unwrap();
    assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
    let old_snapshot = running.server.repository().visible().versions[2];
    running.release(&sample("1.1.0", 2)).await;
    let again = running
        .get(None, "/metadata/timestamp.json")
        .header(IF_NONE_MATCH, &etag)
        .send()
        .await
        .unwrap();
    assert_eq!(again.status(), StatusCode::OK, "a new one");
    // A client half way through its refresh still finds its files.
    for name in [
        format!("{old_snapshot}.snapshot.json"),
        "1.targets.json".into(),
        "1.root.json".into(),
    ] {
        let file = running
            .get(None, &format!("/metadata/{name}"))
            .send()
            .await
            .unwrap();
        assert_eq!(file.status(), StatusCode::OK, "{name}");
        assert!(
            file.headers()[CACHE_CONTROL]
                .to_str()
                .unwrap()
                .contains("immutable"),
            "{name}"
        );
    }
    assert_eq!(
        running.text("/metadata/2.root.json").await.0,
        StatusCode::NOT_FOUND
    );
}

async fn next_event(stream: &mut (impl Stream<Item = reqwest::Result<Bytes>> + Unpin)) -> Published {
    let reading = async {
        let mut text = String::new();
        loop {
            let bytes = stream.next().await.unwrap().unwrap();
            text.push_str(std::str::from_utf8(&bytes).unwrap());
            if let Some((event, _)) = text.split_once("\n\n") {
                let (kind, data) = event.split_once('\n').unwrap();
                assert_eq!(kind, "event: published");
                return serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), reading)
        .await
        .unwrap()
}

#[tokio::test]
async fn listeners_hear_of_what_is_visible_and_of_each_publish() {
    let site = Site::new();
    let running = site.start().await;
    let first = running.release(&sample("1.0.0", 1)).await;
    let mut stream = running.get(None, "/events").send().await.unwrap().bytes_stream();
    assert_eq!(next_event(&mut stream).await.timestamp, first.timestamp);
    let second = running.release(&sample("1.1.0", 2)).await;
    let heard = next_event(&mut stream).await;
    assert_eq!(
        heard,
        Published {
            timestamp: second.timestamp,
            update: second.update
        }
    );
    running.server.stop().await;
    let end = tokio::time::timeout(Duration::from_secs(10), stream.next())
        .await
        .unwrap();
    assert!(
        end.is_none_or(|last| last.is_err()),
        "streams end when the program does"
    );
}

#[tokio::test]
async fn the_page_shows_versions_newest_first_and_no_markup_from_outside() {
    let site = Site::new();
    let running = site.start().await;
    assert!(running.text("/").await.1.contains("No release here"));
    running.release(&sample("1.9.0", 1)).await;
    let mut ten = sample("1.10.0", 2);
    ten.release.description = Some("<img src=x onerror=alert(1)>".into());
    running.release(&ten).await;
    let eleven = sample("1.11.0", 3);
    running.release(&eleven).await;
    let gone = eleven.clone().withdrawn();
    running
        .publish(site.next_targets(|editor| editor.add_target(&gone.name(), &gone.target())))
        .await;

    let response = running.get(None, "/").send().await.unwrap();
    let policy = response.headers()["content-security-policy"]
        .to_str()
        .unwrap()
        .to_owned();
    assert!(
        policy.starts_with("default-src 'none'") && !policy.contains("script-src"),
        "{policy}"
    );
    let page = response.text().await.unwrap();
    let place = |text: &str| {
        page.find(text)
            .unwrap_or_else(|| panic!("{text} is not on the page"))
    };
    assert!(
        place("<b>1.11.0</b>") < place("<b>1.10.0</b>"),
        "newest first, by number"
    );
    assert!(
        place("<b>1.10.0</b>") < place("<b>1.9.0</b>"),
        "1.10 is newer than 1.9"
    );
    let marked: Vec<_> = page.match_indices("tag newest").collect();
    assert_eq!(marked.len(), 1);
    assert!(marked[0].0 > place("<b>1.10.0</b>") && marked[0].0 < place("<b>1.9.0</b>"));
    assert!(page.contains("withdrawn") && page.contains("it &lt;b&gt;bites&lt;/b&gt;"));
    assert!(!page.contains("<img") && !page.to_lowercase().contains("<script"));
    for fact in [
        ten.digest().to_string(),
        "2027-01-15 08:00 UTC".into(),
        "2.2 kB".into(),
        "version 4".into(),
    ] {
        assert!(page.contains(&fact), "{fact}");
    }
    let filtered = running.text("/?component=nothing%22%3E").await.1;
    assert!(filtered.contains("No release here") && filtered.contains("nothing&quot;&gt;"));

    let (_, json) = running.text("/api/v1/releases").await;
    let rows: serde_json::Value = serde_json::from_str(&json).unwrap();
    let versions: Vec<_> = rows
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["version"].as_str().unwrap())
        .collect();
    assert_eq!(versions, ["1.11.0", "1.10.0", "1.9.0"]);
    let path = rows[1]["path"].as_str().unwrap();
    assert_eq!(
        running.text(path).await.0,
        StatusCode::OK,
        "links lead to the file"
    );
}

#[tokio::test]
async fn metrics_and_the_interface_are_served() {
    let site = Site::new();
    let running = site.start().await;
    running.release(&sample("1.0.0", 1)).await;
    let (status, text) = running.text("/metrics").await;
    assert_eq!(status, StatusCode::OK);
    for line in [
        "drover_repository_publishes_total 1",
        "drover_repository_files 1",
        "drover_repository_recovering 0",
        "drover_repository_role_version{role=\"targets\"} 1",
        "drover_repository_requests_total{route=\"/api/v1/publish\",status=\"200\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} not in\n{text}");
    }
    let (_, document) = running.text("/api/v1/openapi.json").await;
    assert_eq!(document, repo_server::http::OPENAPI);
}

#[tokio::test]
async fn signatures_are_renewed_by_themselves_and_never_outlive_what_the_author_vouches_for() {
    let site = Site::new();
    let running = site.start().await;
    running.release(&sample("1.0.0", 1)).await;
    let repository = running.server.repository();
    let first = repository.visible();
    site.clock.forward(12 * 3600 - 1);
    assert!(!repository.renew().unwrap(), "not due yet");
    site.clock.forward(1);
    repository.tick();
    let second = repository.visible();
    assert!(second.versions[1] > first.versions[1] && second.versions[2] > first.versions[2]);
    assert_eq!(second.versions[3], first.versions[3]);
    assert_eq!(second.online_until, Some(NOW.plus_seconds(DAY / 2 + 14 * DAY)));

    let targets_until = first.targets_until.unwrap();
    site.clock
        .forward(targets_until.seconds_since(NOW) - DAY / 2 - DAY);
    assert!(repository.renew().unwrap());
    assert_eq!(repository.visible().online_until, Some(targets_until), "capped");
    site.clock.forward(DAY);
    let refusal = repository.renew().unwrap_err();
    assert!(
        matches!(refusal, Refusal::Expired { role: "targets", at } if at == targets_until),
        "{refusal}"
    );
    repository.tick();
    assert_eq!(
        running.text("/metadata/timestamp.json").await.0,
        StatusCode::OK,
        "what is there is served"
    );
    // The author signs again: all is well.
    running.publish(site.next_targets(|editor| editor)).await;
}

#[tokio::test]
async fn a_clock_at_1970_or_2099_is_not_signed_with() {
    let site = Site::new();
    let running = site.start().await;
    running.release(&sample("1.0.0", 1)).await;
    running.server.stop().await;
    for (wall, counter) in [(0, 2), (4_070_908_800, 3)] {
        let clock = Arc::new(Manual::at(UnixTime(wall)));
        let options = Options {
            clock,
            ..site.options()
        };
        let running = site.start_in(&site.repository(), options).await;
        let receipt = running.release(&sample(&format!("1.{counter}.0"), counter)).await;
        let signed_at = running.server.repository().visible().signed_at.unwrap();
        assert!(
            signed_at >= NOW && signed_at.seconds_since(NOW) < 300,
            "{signed_at}"
        );
        assert!(receipt.timestamp > u64::try_from(NOW.0).unwrap());
        running.server.stop().await;
    }
}

#[tokio::test]
async fn the_same_answers_come_over_http_2_also_before_a_body_has_ended() {
    let site = Site::new();
    let running = site.start().await;
    let one = sample("1.0.0", 1);
    running.release(&one).await;
    let reader = site.client_2(None);
    let file = reader.get(running.url(&one.served_path())).send().await.unwrap();
    assert_eq!(file.version(), reqwest::Version::HTTP_2);
    assert_eq!(file.bytes().await.unwrap(), one.bytes);

    let author = site.client_2(Some(Role::Author));
    let wrong = author
        .patch(running.url(&format!("/api/v1/uploads/{}?length=9000000", "0".repeat(64))))
        .header("Upload-Offset", 5)
        .body(vec![0; 9_000_000]);
    assert_eq!(wrong.send().await.unwrap().status(), StatusCode::CONFLICT);
    let stranger = reader
        .post(running.url("/api/v1/publish"))
        .body(vec![0; 9_000_000]);
    assert_eq!(stranger.send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_certificate_that_ends_soon_is_told_of_in_time() {
    let site = Site::new();
    let running = site.start().await;
    assert_eq!(
        running.text("/healthz").await,
        (StatusCode::OK, "ok\n".to_owned())
    );
    let until = running.server.repository().certificate_until().unwrap();
    let left = until.seconds_since(site.clock.now().now);
    site.clock.forward(left - 29 * DAY);
    let trouble = running.server.repository().trouble().unwrap();
    assert!(
        trouble.contains("certs issue") && trouble.contains(&until.to_string()),
        "{trouble}"
    );
}
