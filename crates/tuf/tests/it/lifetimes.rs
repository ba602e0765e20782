//! Long absences under a virtual clock (DESIGN section 4, "Lifetimes"): what was verified stays known, nothing new is
//! accepted meanwhile, and what ends the absence brings everything back.

use std::time::Duration;

use tuf::clock::believe;
use tuf::{Attack, Error, Role, TrustedState, UnixTime};

use crate::repo::{DAY, NOW, Repo, versions};

const ROOT_LIFE: i64 = 365;
const TARGETS_LIFE: i64 = 180;
const ONLINE_LIFE: i64 = 14;

/// A repository and its author over the days; the verifier is a gateway or a device, they verify alike.
struct Site {
    repo: Repo,
    client: TrustedState,
}

impl Site {
    /// Everything is fresh on day 0, and the verifier has seen it.
    fn new() -> Self {
        let mut repo = Repo::new();
        let client = repo.client();
        let client = repo.refreshed(client);
        Self { repo, client }
    }

    fn day(&mut self, day: i64) {
        self.repo.now = NOW.plus_seconds(day * DAY);
    }

    /// The repository signs snapshot and timestamp again, as it does twice a day; never beyond what the author's
    /// roles vouch for.
    fn re_sign(&mut self) {
        let author = self.repo.expires[&Role::Root].min(self.repo.expires[&Role::Targets]);
        for role in [Role::Snapshot, Role::Timestamp] {
            self.repo.bump(&role);
            let until = self.repo.now.plus_seconds(ONLINE_LIFE * DAY);
            self.repo.expires.insert(role, until);
        }
        self.repo.signed_at = Some(self.repo.now.min(author));
        self.repo.publish_snapshot();
    }

    /// The author signs a release.
    fn release(&mut self, name: &str) {
        self.repo.bump(&Role::Targets);
        let until = self.repo.now.plus_seconds(TARGETS_LIFE * DAY);
        self.repo.expires.insert(Role::Targets, until);
        self.repo.add_target(name, name.as_bytes());
        let targets = self.repo.targets_file();
        self.repo.serve(&Role::Targets, targets);
        self.re_sign();
    }

    fn refresh(&mut self) {
        self.client = self.repo.refreshed(self.client.clone());
        assert_eq!(self.client.stale_since(self.repo.now), None);
        self.restarts();
    }

    /// A refresh that brings nothing; what was known is known.
    fn brings_nothing(&mut self) -> Error {
        let before = (self.client.targets().unwrap().version, self.client.not_before());
        let (client, error) = self.repo.refused(self.client.clone());
        self.client = client;
        assert_eq!(
            (self.client.targets().unwrap().version, self.client.not_before()),
            before
        );
        assert!(
            self.client.target("app/1.0.0/app").is_some(),
            "what runs is still known"
        );
        assert!(self.client.target("new").is_none());
        self.restarts();
        error
    }

    fn restarts(&mut self) {
        let again = TrustedState::from_parts(&self.client.to_bytes(), Some(&self.client.floors_bytes()));
        self.client = again.unwrap();
    }

    fn expired(&mut self, file: &str, day: i64) {
        let error = self.brings_nothing();
        assert_eq!(error.attack(), Attack::Freeze);
        let when = NOW.plus_seconds(day * DAY);
        assert!(
            matches!(&error, Error::Expired { file: what, expires, .. } if what.ends_with(file) && *expires == when),
            "{error}"
        );
    }
}

#[test]
fn a_repository_that_was_down_for_20_days_needs_nobody_when_it_is_back() {
    let mut site = Site::new();
    site.day(13);
    assert_eq!(site.client.stale_since(site.repo.now), None);
    site.refresh();
    // Nobody answers any more: the verifier knows by itself from day 14 on.
    site.day(20);
    let since = NOW.plus_seconds(ONLINE_LIFE * DAY);
    assert_eq!(site.client.stale_since(site.repo.now), Some(since));
    site.expired("timestamp.json", ONLINE_LIFE);
    site.re_sign();
    site.refresh();
    site.release("new");
    site.refresh();
    assert!(site.client.target("new").is_some());
}

#[test]
fn a_device_that_was_off_for_40_days_takes_the_first_refresh_whatever_its_clock_says() {
    for clock in [
        NOW.plus_seconds(40 * DAY),
        NOW,
        UnixTime(0),
        UnixTime(4_070_908_800),
    ] {
        let mut site = Site::new();
        let off = site.repo.files.clone();
        for half_day in 1..=80 {
            site.repo.now = NOW.plus_seconds(half_day * DAY / 2);
            if half_day == 30 {
                site.release("new");
            }
            site.re_sign();
        }
        let today = std::mem::replace(&mut site.repo.files, off);
        let minutes = Duration::from_secs(120);
        let believed = believe(clock, minutes, site.client.not_before());
        assert_eq!(
            believed.known,
            clock.0 >= NOW.0 && clock.0 < 4_000_000_000,
            "{clock:?}"
        );
        // What it saw last, again: no news under a right clock, an old copy under a wrong one; nothing older in any case.
        site.repo.now = believed.now;
        let (client, _) = site.repo.refresh(site.client.clone());
        assert_eq!(versions(&client), [1, 1, 1, 1]);
        site.client = client;
        assert!(site.client.target("new").is_none());
        site.repo.files = today;
        site.repo.now = believed.now;
        site.client = site.repo.refreshed(site.client.clone());
        assert!(site.client.target("new").is_some(), "{clock:?}");
        // From here on its time is right to half a day, by what was signed.
        assert_eq!(site.client.not_before(), Some(NOW.plus_seconds(40 * DAY)));
        let believed = believe(clock, minutes, site.client.not_before());
        assert!(believed.now >= NOW.plus_seconds(40 * DAY));
    }
}

#[test]
fn an_author_who_is_away_past_the_expiry_of_targets_ends_it_with_one_signature() {
    let mut site = Site::new();
    for day in (7..TARGETS_LIFE).step_by(7) {
        site.day(day);
        site.re_sign();
        site.refresh();
    }
    site.day(TARGETS_LIFE + 5);
    site.re_sign();
    // The online keys alone cannot lengthen what the author signed.
    let (client, error) = site.repo.refused(site.client.clone());
    assert!(
        matches!(&error, Error::Expired { file, .. } if file == "1.targets.json"),
        "{error}"
    );
    assert_eq!(
        client.stale_since(site.repo.now),
        Some(NOW.plus_seconds(TARGETS_LIFE * DAY))
    );
    site.client = client;
    assert!(site.client.target("app/1.0.0/app").is_some());
    // Nor by saying that it is another time.
    site.repo.signed_at = Some(site.repo.now.plus_seconds(DAY));
    site.repo.bump(&Role::Timestamp);
    site.repo.publish_timestamp();
    let (client, _) = site.repo.refused(site.client.clone());
    assert_eq!(client.not_before(), site.client.not_before());
    site.client = client;
    site.release("new");
    site.refresh();
    assert!(site.client.target("new").is_some());
}

#[test]
fn an_expired_root_stops_news_until_the_same_people_sign_the_next_one() {
    let mut site = Site::new();
    for day in (7..ROOT_LIFE).step_by(7) {
        site.day(day);
        if day % 70 == 0 {
            site.release(&format!("release of day {day}"));
        } else {
            site.re_sign();
        }
        site.refresh();
    }
    let known = site.client.all_targets().count();
    site.day(ROOT_LIFE + 30);
    site.release("new");
    site.expired(".root.json", ROOT_LIFE);
    assert_eq!(site.client.all_targets().count(), known);
    // The keys of a root that has expired still name their successor: its expiry is judged at the end of the chain.
    let until = site.repo.now.plus_seconds(ROOT_LIFE * DAY);
    site.repo.new_root(|root| root.expires(until), &[]);
    site.repo.expires.insert(Role::Root, until);
    site.re_sign();
    site.refresh();
    assert!(site.client.target("new").is_some());
    assert_eq!(site.client.all_targets().count(), known + 1);
}
