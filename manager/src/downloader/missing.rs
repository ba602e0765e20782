//! Files that could not be had: written down, told to people, reported to the author.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use protocol::messages;
use tuf::Digest;

use super::fetch::{name, record};
use super::pace::Breaker;
use crate::catalog::Offer;
use crate::gateway::Gateway;
use crate::limits;
use protocol::control::Level;

/// How a repository failed to give a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Its bytes are not the file's.
    Wrong,
    /// This gateway's disk has no room for it.
    Full,
    /// Anything else: not there, refused, interrupted, slow.
    Passing,
}

/// One repository's failure to give a file.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) source: String,
    pub(super) kind: Kind,
    pub(super) reason: String,
    /// Bytes that crossed the wire.
    pub(super) bytes: u64,
    pub(super) elapsed: Duration,
}

/// Notes that no repository gave a file: its breaker, the record, and an alarm where somebody has to do something.
pub(super) fn note(gateway: &Gateway, offer: &Offer, failures: &[Failure]) {
    let is = |kind: Kind| failures.iter().any(|failure| failure.kind == kind);
    let all_wrong = failures.iter().all(|failure| failure.kind == Kind::Wrong);
    let waits = if all_wrong {
        (limits::WRONG_FILE_WAIT, limits::WRONG_FILE_WAIT_MAX)
    } else {
        (limits::FETCH_BACKOFF, limits::FETCH_BACKOFF_MAX)
    };
    let reason = reason(failures);
    let (now, random) = (Instant::now(), crate::secrets::jitter());
    let tripped = gateway
        .downloader
        .breakers()
        .trip(offer.digest, &reason, waits, now, random);
    for failure in failures {
        // A link that is down for a week is one line, and bytes that came for nothing are one each time.
        if tripped.new || failure.kind == Kind::Wrong {
            let outcome = format!("failed: {}", failure.reason);
            record(
                gateway,
                offer,
                &failure.source,
                failure.bytes,
                failure.elapsed,
                outcome,
            );
        }
    }
    if is(Kind::Wrong) {
        corrupted(gateway, offer, &wrong(failures));
    } else if is(Kind::Full) || tripped.tries >= limits::FETCH_TRIES {
        alarm(
            gateway,
            offer,
            &format!("{} could not be downloaded: {reason}", name(offer)),
        );
    }
}

/// Why the file did not come, repository by repository.
fn reason(failures: &[Failure]) -> String {
    let mut reasons: Vec<String> = failures
        .iter()
        .map(|failure| match failure.kind {
            Kind::Full => format!("{}: make room on this gateway's disk", failure.reason),
            Kind::Wrong | Kind::Passing if failures.len() == 1 => failure.reason.clone(),
            Kind::Wrong | Kind::Passing => format!("{} ({})", failure.reason, failure.source),
        })
        .collect();
    reasons.dedup();
    reasons.join("; ")
}

fn wrong(failures: &[Failure]) -> String {
    let wrong = failures.iter().filter(|failure| failure.kind == Kind::Wrong);
    let each: Vec<String> = wrong
        .map(|failure| format!("{} ({})", failure.source, failure.reason))
        .collect();
    each.join("; ")
}

/// Raises the alarm of a file. True if its text is new.
fn alarm(gateway: &Gateway, offer: &Offer, text: &str) -> bool {
    let key = key(&offer.digest);
    let known = gateway.journal.alarm_of(&key).is_some();
    let new = gateway.journal.alarm(gateway.now(), &key, text);
    if !known {
        gateway.failed(offer, text);
    }
    new
}

fn key(digest: &Digest) -> String {
    format!("file:{digest}")
}

/// Said and reported once; the store has put the bytes aside, the breaker keeps it from being asked for every ten
/// seconds (R-004-56, R-004-57).
fn corrupted(gateway: &Gateway, offer: &Offer, reason: &str) {
    let name = name(offer);
    let text = format!("{name} is not the file that was signed: {reason}");
    if !alarm(gateway, offer, &text) {
        return;
    }
    let now = gateway.now();
    gateway
        .journal
        .say(now, Level::Error, messages::CORRUPTED, "", &text);
    gateway.journal.say(
        now,
        Level::Info,
        messages::DELETED,
        &name,
        "kept aside in quarantine",
    );
}

/// The file is here.
pub(super) fn arrived(gateway: &Gateway, digest: &Digest) {
    gateway.downloader.breakers().heal(digest);
    gateway.journal.clear(&key(digest));
}

/// Files that are not sought any more are nobody's trouble.
pub(super) fn forget(gateway: &Gateway) {
    let (catalog, stopped) = (gateway.catalog(), gateway.fleet.all_stopped());
    let sought: HashSet<&Digest> = catalog.sought(&stopped).map(|offer| &offer.digest).collect();
    let gone = gateway
        .downloader
        .breakers()
        .forget(|digest| sought.contains(digest));
    for digest in gone {
        gateway.journal.clear(&key(&digest));
    }
}

/// What is to be said of a file that could not be had so far.
pub(super) fn said(gateway: &Gateway, offer: &Offer) -> Option<String> {
    let breakers = gateway.downloader.breakers();
    let Breaker { until, reason, .. } = breakers.of(&offer.digest)?;
    let next = if gateway.downloader.is_running() {
        format!(
            ", next try {}",
            words(until.saturating_duration_since(Instant::now()))
        )
    } else {
        String::new()
    };
    Some(format!("{} could not be downloaded: {reason}{next}", name(offer)))
}

/// All that could not be had so far, of what is sought.
pub(super) fn all(gateway: &Gateway) -> Vec<String> {
    let (catalog, stopped) = (gateway.catalog(), gateway.fleet.all_stopped());
    let absent = catalog.sought(&stopped).filter(|offer| !offer.mirrored);
    absent.filter_map(|offer| said(gateway, offer)).collect()
}

/// A wait, for people.
fn words(wait: Duration) -> String {
    match wait.as_secs() {
        0 => "at once".to_owned(),
        seconds @ 1..120 => format!("in {seconds} s"),
        seconds @ 120..7_200 => format!("in {} min", seconds / 60),
        seconds => format!("in {} h", seconds / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use durable::faulty::{Fault, Faulty};
    use durable::{Files, Store};
    use protocol::control::DownloadEntry;

    use super::super::fetch::fetch_all;
    use super::super::{UP_TO_DATE, said};
    use super::{Duration, Offer, forget, words};
    use crate::catalog::Catalog;
    use crate::fixture::Fixture;
    use crate::fleet;

    fn offer() -> Offer {
        Offer {
            mirrored: false,
            ..fleet::fixture::offer("1.0.0", |_| {})
        }
    }

    #[tokio::test]
    async fn a_full_disk_is_an_alarm_at_once_and_over_when_the_file_is_not_sought_any_more() {
        let disk = Arc::new(Faulty::new(Fault::NoSpace, 1));
        let fixture = Fixture::with(certs::life::LEAF, |gateway| {
            let mirror = gateway.paths.mirror();
            // The folder is there already: nothing but a file needs room.
            gateway.mirror = Store::open_on(Files::on(disk.clone()), mirror).unwrap();
        });
        let gateway = &fixture.gateway;
        let repositories = crate::service::repositories(gateway).unwrap();
        gateway
            .downloader
            .tell(|status| status.checked = UP_TO_DATE.into());
        gateway
            .catalog
            .send_replace(Arc::new(Catalog::of([offer()].into_iter())));
        for _ in 0..2 {
            let fetched = fetch_all(gateway, &repositories, true).await;
            assert_eq!((fetched.count, fetched.failed.len()), (0, 1));
        }
        assert!(disk.fired());
        let alarms = gateway.journal.alarms();
        assert_eq!(alarms.len(), 1, "{alarms:?}");
        let text = "app_1.0.0 could not be downloaded: ";
        assert!(alarms[0].starts_with(text), "{alarms:?}");
        assert!(
            alarms[0].contains("No space left") && alarms[0].contains("make room"),
            "{alarms:?}"
        );
        let status = said(gateway);
        assert!(
            status.starts_with(&alarms[0]) && status.contains(", next try in "),
            "{status}"
        );
        let record: Vec<DownloadEntry> = gateway.downloads.read(9).unwrap();
        assert_eq!(record.len(), 1, "the same reason is one line");
        assert!(record[0].outcome.starts_with("failed: "), "{:?}", record[0]);

        gateway.catalog.send_replace(Arc::default());
        forget(gateway);
        assert!(gateway.journal.alarms().is_empty());
        assert_eq!(said(gateway), UP_TO_DATE);
    }

    #[test]
    fn a_wait_is_said_in_whole_units() {
        let said = |seconds| words(Duration::from_secs(seconds));
        let all = [0, 1, 119, 120, 7_199, 7_200].map(said);
        assert_eq!(
            all,
            [
                "at once",
                "in 1 s",
                "in 119 s",
                "in 2 min",
                "in 119 min",
                "in 2 h"
            ]
        );
    }
}
