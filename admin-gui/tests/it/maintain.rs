//! Withdraw, renew, recover, and what the devices report.

use admin_gui::fleet::Reports;
use admin_gui::maintain::{RecoverError, Renewal};
use admin_gui::progress;
use admin_gui::publish::PublishError;
use admin_gui::record::{self, Action};
use protocol::Outcome;
use protocol::author::{RelayedReport, StoredReport};

use crate::fake::Fake;
use crate::sender::Sender;
use crate::site::{Site, draft, passphrase};

#[tokio::test]
async fn a_withdrawn_release_stays_listed_with_its_reason() {
    let site = Site::new();
    let fake = Fake::start(&site.repository()).await;
    let unlocked = site.unlocked(&fake.url);
    for version in ["1.0", "1.1"] {
        let draft = draft(&unlocked.desk, &site.script(&format!("heater_{version}"), 100));
        unlocked.publish(&draft, &progress::nobody()).await.unwrap();
    }
    let (heater, version) = ("heater".parse().unwrap(), "1.1".parse().unwrap());
    unlocked
        .withdraw(&heater, &version, "overheats", &progress::nobody())
        .await
        .unwrap();

    let view = unlocked.desk.look().await.unwrap();
    let listed = view.catalogue.find(&heater, &version).unwrap();
    assert_eq!(listed.release.withdrawn.as_ref().unwrap().reason, "overheats");
    assert_eq!(
        view.catalogue
            .current(&heater)
            .unwrap()
            .release
            .version
            .to_string(),
        "1.0.0"
    );
    assert!(view.catalogue.releases()[0].release.withdrawn.is_none());
    let records = record::read(&site.author().join("records")).unwrap();
    assert_eq!(records.last().unwrap().action, Action::Withdraw);

    let again = unlocked
        .withdraw(&heater, &version, "again", &progress::nobody())
        .await
        .unwrap_err();
    assert!(matches!(again, PublishError::AlreadyWithdrawn(_)), "{again:?}");
    let never = unlocked
        .withdraw(&heater, &"9".parse().unwrap(), "never", &progress::nobody())
        .await
        .unwrap_err();
    assert!(matches!(never, PublishError::NoSuchRelease(_)), "{never:?}");
    // The number of a withdrawn release is used up.
    let report = unlocked
        .desk
        .preflight(&draft(&unlocked.desk, &site.script("heater_1.1", 300)))
        .await
        .unwrap();
    assert!(!report.passes());
}

#[tokio::test]
async fn renewing_makes_new_roles_with_a_later_expiry() {
    let site = Site::new();
    let fake = Fake::start(&site.repository()).await;
    let unlocked = site.unlocked(&fake.url);
    let first = draft(&unlocked.desk, &site.script("heater_1.0", 100));
    unlocked.publish(&first, &progress::nobody()).await.unwrap();
    let before = unlocked.desk.look().await.unwrap();
    unlocked.renew(Renewal::All, &passphrase()).await.unwrap();
    let after = unlocked.desk.look().await.unwrap();
    assert_eq!(after.state.root().version, before.state.root().version + 1);
    assert_eq!(after.targets_version(), before.targets_version() + 1);
    assert!(after.state.root().expires >= before.state.root().expires);
    assert_eq!(after.catalogue, before.catalogue);
    // And publishing goes on under the new root.
    let second = draft(&unlocked.desk, &site.script("heater_1.1", 100));
    unlocked.publish(&second, &progress::nobody()).await.unwrap();
}

#[tokio::test]
async fn a_restored_repository_gets_back_what_it_forgot() {
    let site = Site::new();
    let fake = Fake::start(&site.repository()).await;
    let unlocked = site.unlocked(&fake.url);
    assert!(matches!(
        unlocked.desk.recover(&progress::nobody()).await,
        Err(RecoverError::Nothing)
    ));
    for version in ["1.0", "1.1"] {
        let draft = draft(&unlocked.desk, &site.script(&format!("heater_{version}"), 5000));
        unlocked.publish(&draft, &progress::nobody()).await.unwrap();
    }
    let seen = unlocked.desk.look().await.unwrap();

    // Yesterday's backup: nothing but the root.
    let restored = Fake::start(&site.repository()).await;
    let desk = site.desk(&restored.url);
    assert!(
        desk.look().await.is_err(),
        "an empty repository was accepted in place of a full one"
    );
    let done = desk.recover(&progress::nobody()).await.unwrap();
    assert_eq!(
        (done.targets, done.missing.len(), done.files.len()),
        (seen.targets_version(), 0, 2)
    );
    let view = desk.look().await.unwrap();
    assert_eq!(view.catalogue, seen.catalogue);
    assert!(view.state.timestamp().unwrap().version > seen.state.timestamp().unwrap().version);
}

#[tokio::test]
async fn reports_are_verified_and_become_fleet_and_latencies() {
    let site = Site::new();
    let fake = Fake::start(&site.repository()).await;
    let unlocked = site.unlocked(&fake.url);
    let first = draft(&unlocked.desk, &site.script("heater_1.0", 100));
    let published = unlocked.publish(&first, &progress::nobody()).await.unwrap();
    let update = published.update.unwrap();

    let (pump, valve) = (Sender::of(&site, "pump-7"), Sender::of(&site, "valve"));
    let right = pump.rolled_back(update);
    // What a repository could make of it, or without it; each is told by its own check.
    let forged = |change: fn(&mut RelayedReport, RelayedReport), by: &Sender| {
        let mut forged = right.clone();
        change(&mut forged, by.rolled_back(update));
        forged
    };
    let stranger = Sender::of(&Site::new(), "pump-7");
    let altered = |forged: &mut RelayedReport, _| {
        forged.report.report = forged.report.report.replace("rolled-back", "committed");
    };
    let renamed = |forged: &mut RelayedReport, by: RelayedReport| {
        let sender = forged.sender.clone();
        *forged = RelayedReport { sender, ..by };
    };
    let tried = [
        (forged(altered, &pump), "signature is not by the key"),
        (forged(renamed, &valve), "the certificate is that of"),
        (
            forged(|forged, by| *forged = by, &stranger),
            "does not come from this site",
        ),
        (
            forged(|forged, by| forged.report = by.report, &stranger),
            "is for another key",
        ),
        (
            forged(|forged, _| forged.chain.clear(), &pump),
            "without its sender's certificate",
        ),
        (
            forged(|forged, _| forged.chain[0].truncate(40), &pump),
            "cannot be read",
        ),
    ];
    let received = unlocked.desk.senses.now();
    let relayed = std::iter::once(right.clone()).chain(tried.iter().map(|(forged, _)| forged.clone()));
    fake.kept().reports = relayed
        .zip(1..)
        .map(|(relayed, seq)| StoredReport {
            seq,
            received,
            relayed,
        })
        .collect();

    let reports: Reports = unlocked.desk.reports().await.unwrap();
    assert_eq!(reports.told.len(), 1);
    assert_eq!(reports.refused.len(), tried.len());
    for (refused, (_, why)) in reports.refused.iter().zip(&tried) {
        assert!(refused.contains(why), "{refused}: {why}");
    }
    assert!(!reports.is_cut);
    let row = &reports.devices()[0];
    assert_eq!(
        (row.device.name.as_str(), row.outcomes[0].outcome),
        ("pump-7", Outcome::RolledBack)
    );
    let records = record::read(&site.author().join("records")).unwrap();
    let latencies = reports.latencies(&records);
    assert_eq!(latencies[0].latencies.device_verification, Some(15.0));

    let status = unlocked.desk.status().await.unwrap();
    assert_eq!(status.trouble, None);
    let heater = &status.components[0];
    assert_eq!(heater.outcomes.get("rolled back"), Some(&1));
    assert_eq!(heater.reasons, ["pump-7: never answered"]);
    assert_eq!(status.roles.len(), 4);
    assert!(
        status.roles.iter().all(|role| role.advice.is_none()),
        "{:?}",
        status.roles
    );

    // After years the newest reports are what a person sees, not the first.
    let late = admin_gui::limits::REPORTS_READ + 100;
    {
        let mut kept = fake.kept();
        kept.reports.truncate(2);
        kept.reports[1].relayed = kept.reports[0].relayed.clone();
        kept.reports[1].seq = late;
    }
    let reports: Reports = unlocked.desk.reports().await.unwrap();
    assert_eq!(
        reports.told.iter().map(|told| told.seq).collect::<Vec<_>>(),
        [late]
    );
    assert!(reports.is_cut);
}
