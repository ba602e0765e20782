//! Publishing, with everything that can come in between.

use std::collections::BTreeMap;

use admin_gui::desk::{LookError, UnlockError};
use admin_gui::publish::PublishError;
use admin_gui::record::{self, Action};
use admin_gui::repository::ClientError;
use admin_gui::signing::{KeyError, KeyType};
use admin_gui::upload::UploadError;
use admin_gui::visible::VisibleError;
use admin_gui::{Passphrase, progress};
use protocol::Step;
use release::Release;
use tuf::Digest;

use crate::fake::Fake;
use crate::proxy::Proxy;
use crate::site::{Heard, Site, draft, manifest};

const STEPS: [Step; 5] = [
    Step::Clicked,
    Step::Preflighted,
    Step::Signed,
    Step::Uploaded,
    Step::Published,
];

#[tokio::test]
async fn a_release_becomes_visible_with_receipt_record_and_steps() {
    let site = Site::with(KeyType::Rsa);
    let fake = Fake::start(&site.repository()).await;
    let unlocked = site.unlocked(&fake.url);
    let path = site.script("heater_1.0", 300_000);
    let (draft, heard) = (draft(&unlocked.desk, &path), Heard::default());
    let published = unlocked.publish(&draft, &heard.sink()).await.unwrap();

    assert_eq!(heard.steps(), STEPS);
    let said = [
        "author.file.chosen",
        "author.signature.success",
        "author.upload.successful",
    ];
    assert_eq!(heard.messages(), said);
    assert_eq!(published.sent, 300_000);
    assert!(published.warnings.is_empty(), "{:?}", published.warnings);
    assert_eq!(fake.kept().uploads[&draft.digest], std::fs::read(&path).unwrap());

    // What any client sees: the release with its description, under the update id of the click.
    let view = unlocked.desk.look().await.unwrap();
    let listed = &view.catalogue.releases()[0];
    assert_eq!(listed.path, "heater/1.0.0/heater_1.0");
    let release =
        Release::from_custom(view.state.target(&listed.path).unwrap().custom.as_ref().unwrap()).unwrap();
    assert_eq!(release.update_id, published.update.unwrap().to_string());
    assert_eq!(release.counter, 1);

    // The repository got the author's steps, the record has the document's five facts and more.
    assert_eq!(fake.kept().published[0].events.len(), 4);
    let records = record::read(&site.author().join("records")).unwrap();
    assert_eq!(records.len(), 1);
    let entry = &records[0];
    assert_eq!(
        (entry.action, entry.failure.as_ref(), entry.size),
        (Action::Publish, None, Some(300_000))
    );
    assert_eq!(entry.source.as_ref().unwrap(), &path);
    let text = std::fs::read_to_string(site.author().join("records/uploads.log")).unwrap();
    for word in [
        "Source: ",
        "Release Time: ",
        "Application Name: heater",
        "Version Number: 1.0.0",
        "Upload Time: ",
    ] {
        assert!(text.contains(word), "{word} is not in {text}");
    }
}

#[tokio::test]
async fn counters_and_targets_rise_with_every_release() {
    let site = Site::new();
    let fake = Fake::start(&site.repository()).await;
    let unlocked = site.unlocked(&fake.url);
    for (place, version) in ["1.0", "1.1", "2.0"].into_iter().enumerate() {
        let folder = site.folder(version, &manifest(version));
        let draft = draft(&unlocked.desk, &folder);
        let published = unlocked.publish(&draft, &progress::nobody()).await.unwrap();
        assert_eq!(published.release.unwrap().counter, place as u64 + 1);
    }
    let view = unlocked.desk.look().await.unwrap();
    assert_eq!(view.catalogue.releases().len(), 3);
    let heater = "heater".parse().unwrap();
    assert_eq!(
        view.catalogue
            .current(&heater)
            .unwrap()
            .release
            .version
            .to_string(),
        "2.0.0"
    );
    assert_eq!(
        std::fs::read_dir(site.author().join("drafts")).unwrap().count(),
        0,
        "drafts are left"
    );
}

#[test]
fn a_wrong_passphrase_and_a_foreign_key_are_told_apart() {
    let (site, other) = (Site::new(), Site::new());
    let desk = site.desk("https://127.0.0.1:1");
    let wrong = Passphrase::new("not the passphrase").unwrap();
    let error = desk.unlock(&wrong).unwrap_err();
    assert!(
        matches!(error, UnlockError::Key(KeyError::WrongPassphrase(_))),
        "{error:?}"
    );

    std::fs::copy(
        other.author().join("targets-key.pem"),
        site.author().join("targets-key.pem"),
    )
    .unwrap();
    let error = desk.unlock(&crate::site::passphrase()).unwrap_err();
    assert!(
        matches!(error, UnlockError::NotTrusted { root: 1, .. }),
        "{error:?}"
    );

    std::fs::remove_file(site.author().join("targets-key.pem")).unwrap();
    let error = desk.unlock(&crate::site::passphrase()).unwrap_err();
    assert!(
        matches!(error, UnlockError::Key(KeyError::Missing(_))),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_repository_that_is_down_is_named_and_nothing_happens() {
    let site = Site::new();
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let url = format!("https://127.0.0.1:{port}");
    let unlocked = site.unlocked(&url);
    let draft = draft(&unlocked.desk, &site.script("heater_1.0", 100));
    let error = unlocked.publish(&draft, &progress::nobody()).await.unwrap_err();
    let PublishError::Look(LookError::Client(ClientError::Unreachable { base, .. })) = &error else {
        panic!("{error:?}")
    };
    assert_eq!(*base, url);
    let records = record::read(&site.author().join("records")).unwrap();
    assert!(records[0].failure.as_ref().unwrap().contains(&url));
}

#[tokio::test]
async fn another_author_in_between_is_met_by_looking_again() {
    let site = Site::new();
    let fake = Fake::start(&site.repository()).await;
    let unlocked = site.unlocked(&fake.url);
    let one = draft(&unlocked.desk, &site.script("heater_1.0", 100));
    fake.set(|faults| faults.conflicts = 2);
    let published = unlocked.publish(&one, &progress::nobody()).await.unwrap();
    assert_eq!(
        published
            .events
            .iter()
            .map(|event| event.step)
            .collect::<Vec<_>>(),
        STEPS
    );

    // Again and again somebody is faster: given up after a number of tries, with nothing changed.
    let two = draft(&unlocked.desk, &site.script("heater_1.1", 100));
    let before = fake.visible();
    fake.set(|faults| faults.conflicts = u32::MAX);
    let error = unlocked.publish(&two, &progress::nobody()).await.unwrap_err();
    assert!(
        matches!(error, PublishError::Visible(VisibleError::Conflict(_))),
        "{error:?}"
    );
    assert_eq!(fake.visible(), before);
}

#[tokio::test]
async fn the_faster_author_with_the_same_version_wins() {
    let site = Site::new();
    let fake = Fake::start(&site.repository()).await;
    let (mine, theirs) = (site.unlocked(&fake.url), site.unlocked(&fake.url));
    let slow = draft(&mine.desk, &site.script("heater_1.0", 100));
    assert!(mine.desk.preflight(&slow).await.unwrap().passes());
    let fast = draft(&theirs.desk, &site.script("heater_1.0", 200));
    theirs.publish(&fast, &progress::nobody()).await.unwrap();
    // The file itself was replaced by the other's meanwhile: put it back as it was checked.
    let slow = draft(&mine.desk, &site.script("heater_1.0", 100));
    let error = mine.publish(&slow, &progress::nobody()).await.unwrap_err();
    let PublishError::Preflight(report) = error else {
        panic!("{error:?}")
    };
    assert_eq!(report.refusal().unwrap().id, "exists");
}

#[tokio::test]
async fn an_upload_cut_anywhere_shows_nothing_and_resumes() {
    const LENGTH: usize = 400_000;
    for cut in [1_500, 5_000, 50_000, 200_000, 399_000] {
        let site = Site::new();
        let fake = Fake::start(&site.repository()).await;
        let before = fake.visible();
        // Every connection breaks: the publish fails, and what has arrived stays invisible.
        let proxy = Proxy::start(fake.addr, cut, usize::MAX).await;
        let cutting = site.unlocked(&proxy.url);
        let draft = draft(&cutting.desk, &site.script("heater_1.0", LENGTH));
        let failed = cutting.publish(&draft, &progress::nobody()).await;
        let arrived = fake.kept().uploads.get(&draft.digest).map_or(0, Vec::len);
        if let Err(error) = failed {
            assert!(
                matches!(
                    error,
                    PublishError::Upload(_) | PublishError::Look(_) | PublishError::Visible(_)
                ),
                "{error:?}"
            );
            assert_eq!(fake.visible(), before, "cut at {cut}");
        }
        assert!(proxy.cuts() > 0);

        // The next publish goes on where that one stopped.
        let whole = site.unlocked(&fake.url);
        if fake.kept().published.is_empty() {
            let published = whole.publish(&draft, &progress::nobody()).await.unwrap();
            assert_eq!(
                usize::try_from(published.sent).unwrap(),
                LENGTH - arrived,
                "cut at {cut}"
            );
        }
        assert_eq!(Digest::of(&fake.kept().uploads[&draft.digest]), draft.digest);
    }
}

#[tokio::test]
async fn a_cable_that_breaks_once_is_not_even_noticed() {
    let site = Site::new();
    let fake = Fake::start(&site.repository()).await;
    let proxy = Proxy::start(fake.addr, 100_000, 1).await;
    let unlocked = site.unlocked(&proxy.url);
    let (draft, heard) = (
        draft(&unlocked.desk, &site.script("heater_1.0", 400_000)),
        Heard::default(),
    );
    unlocked.publish(&draft, &heard.sink()).await.unwrap();
    assert_eq!((proxy.cuts(), heard.steps()), (1, STEPS.to_vec()));
}

#[tokio::test]
async fn a_lost_answer_is_looked_up() {
    let site = Site::new();
    let fake = Fake::start(&site.repository()).await;
    let unlocked = site.unlocked(&fake.url);
    fake.set(|faults| faults.lost_answers = 1);
    let draft = draft(&unlocked.desk, &site.script("heater_1.0", 100));
    let published = unlocked.publish(&draft, &progress::nobody()).await.unwrap();
    assert_eq!(fake.kept().published.len(), 1);
    assert_eq!(
        (published.receipt.targets, published.receipt.update),
        (2, published.update)
    );
}

#[tokio::test]
async fn a_receipt_that_is_not_true_is_not_believed() {
    let site = Site::new();
    let fake = Fake::start(&site.repository()).await;
    let unlocked = site.unlocked(&fake.url);
    fake.set(|faults| faults.lies = true);
    let draft = draft(&unlocked.desk, &site.script("heater_1.0", 100));
    let error = unlocked.publish(&draft, &progress::nobody()).await.unwrap_err();
    assert!(
        matches!(error, PublishError::Visible(VisibleError::Receipt(_))),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_full_disk_a_busy_one_and_a_garbled_upload_have_their_own_words() {
    let site = Site::new();
    let fake = Fake::start(&site.repository()).await;
    let unlocked = site.unlocked(&fake.url);
    let draft = draft(&unlocked.desk, &site.script("heater_1.0", 1000));
    let before: BTreeMap<_, _> = fake.visible();

    fake.set(|faults| faults.is_full = true);
    let error = unlocked.publish(&draft, &progress::nobody()).await.unwrap_err();
    let PublishError::Upload(UploadError::Client(client)) = &error else {
        panic!("{error:?}")
    };
    assert!(
        client.is_full() && client.to_string().contains("disk is full"),
        "{client}"
    );

    fake.set(|faults| (faults.is_full, faults.garbles) = (false, true));
    let error = unlocked.publish(&draft, &progress::nobody()).await.unwrap_err();
    assert!(
        matches!(error, PublishError::Upload(UploadError::Different { .. })),
        "{error:?}"
    );
    assert_eq!(fake.visible(), before);

    fake.kept().uploads.clear();
    fake.set(|faults| (faults.garbles, faults.busy) = (false, 2));
    unlocked.publish(&draft, &progress::nobody()).await.unwrap();
}

#[tokio::test]
async fn a_repository_that_shows_an_older_state_is_noticed() {
    let site = Site::new();
    let fake = Fake::start(&site.repository()).await;
    let unlocked = site.unlocked(&fake.url);
    for version in ["1.0", "1.1"] {
        let draft = draft(&unlocked.desk, &site.script(&format!("heater_{version}"), 100));
        unlocked.publish(&draft, &progress::nobody()).await.unwrap();
    }
    fake.set(|faults| faults.shows_old = true);
    let error = unlocked.desk.look().await.unwrap_err();
    assert!(matches!(error, LookError::Behind { .. }), "{error:?}");
    assert!(error.to_string().contains("admin-gui recover"), "{error}");
}

#[tokio::test]
async fn a_repository_of_another_site_is_refused() {
    let (site, other) = (Site::new(), Site::new());
    let fake = Fake::start(&other.repository()).await;
    let error = site.desk(&fake.url).look().await.unwrap_err();
    assert!(
        matches!(error, LookError::Client(ClientError::Untrusted { .. })),
        "{error:?}"
    );
    assert!(fake.kept().published.is_empty());
}
