//! The gateway's trusted state after a hand on its disk: nothing older comes back, and the way back works.

use std::collections::BTreeMap;
use std::path::Path;

use manager::trust::repair;
use tokio_util::sync::CancellationToken;

use crate::site::{Gateway, Site};

const STATE: &str = "state.rec";
const FLOORS: &str = "floors.rec";

/// A gateway's folder that has seen 2.0, with what it stored and what was on the shelf when 1.0 was the newest.
struct Seen {
    site: Site,
    stored: [BTreeMap<&'static str, Vec<u8>>; 2],
    shelves: [BTreeMap<String, Vec<u8>>; 2],
}

impl Seen {
    async fn two() -> Self {
        let mut site = Site::new(1).await;
        site.publish("1.0");
        let gateway = site.start().await;
        let shelf = |site: &Site| site.repositories[0].shelf.lock().unwrap().files.clone();
        let (old_shelf, old) = (shelf(&site), stored(&site));
        site.publish("2.0");
        gateway.check().await;
        gateway.stop().await;
        let (new_shelf, new) = (shelf(&site), stored(&site));
        assert_ne!(old, new);
        Self {
            site,
            stored: [old, new],
            shelves: [old_shelf, new_shelf],
        }
    }

    fn serve(&self, which: usize) {
        self.site.repositories[0].shelf.lock().unwrap().files = self.shelves[which].clone();
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        durable::replace(self.site.folder().join("state/trust").join(name), bytes, 0o600).unwrap();
    }

    /// The repository goes back a release: the gateway takes nothing of it. With the newest one all is well.
    async fn takes_nothing_older(&self, what: &str) {
        self.serve(0);
        let gateway = self.site.start().await;
        let found = gateway.check().await;
        assert!(
            found.message.contains("has been seen"),
            "{what}: {}",
            found.message
        );
        let status = gateway.status().await;
        assert!(
            status
                .releases
                .iter()
                .all(|release| release.version.to_string() == "2.0.0"),
            "{what}"
        );
        self.serve(1);
        gateway.check().await;
        let status = gateway.until(what, |status| !status.releases.is_empty()).await;
        assert_eq!(status.releases[0].version.to_string(), "2.0.0", "{what}");
        gateway.stop().await;
        assert_eq!(&stored(&self.site), &self.stored[1], "{what}");
    }

    async fn does_not_start(&self, what: &str) {
        let error = manager::service::run(&self.site.folder(), CancellationToken::new())
            .await
            .expect_err(what);
        let text = format!("{error:#}");
        assert!(text.contains("repair-trust"), "{what}: {text}");
    }
}

fn stored(site: &Site) -> BTreeMap<&'static str, Vec<u8>> {
    let read = |name| std::fs::read(site.folder().join("state/trust").join(name)).unwrap();
    BTreeMap::from([STATE, FLOORS].map(|name| (name, read(name))))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_copy_of_either_file_brings_no_old_release_back_to_the_gateway() {
    let seen = Seen::two().await;
    // One after the other, with a start in between while the repository is away.
    for order in [[STATE, FLOORS], [FLOORS, STATE]] {
        for name in order {
            seen.put(name, &seen.stored[0][name]);
            seen.site.repositories[0].shelf.lock().unwrap().broken = true;
            seen.site.start().await.stop().await;
            seen.site.repositories[0].shelf.lock().unwrap().broken = false;
        }
        seen.takes_nothing_older(&format!("{order:?}")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_with_damaged_trust_says_the_way_back_and_it_works() {
    let seen = Seen::two().await;
    let folder = seen.site.folder();
    for name in [STATE, FLOORS] {
        let whole = &seen.stored[1][name];
        let other = &seen.stored[1][if name == STATE { FLOORS } else { STATE }];
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 1;
        let flaws = [
            ("empty", Vec::new()),
            ("torn", whole[..whole.len() / 2].to_vec()),
            ("full of NULs", vec![0; whole.len()]),
            ("a bit flipped", flipped),
            ("swapped", other.clone()),
        ];
        for (flaw, bytes) in flaws {
            let what = format!("{name} {flaw}");
            seen.put(name, &bytes);
            seen.does_not_start(&what).await;
            repair(&folder, None, false).await.unwrap();
            seen.takes_nothing_older(&what).await;
        }
        std::fs::remove_file(folder.join("state/trust").join(name)).unwrap();
        seen.does_not_start(name).await;
        repair(&folder, None, false).await.unwrap();
        seen.takes_nothing_older(name).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_has_trusted_before_never_begins_anew_by_itself() {
    let seen = Seen::two().await;
    let folder = seen.site.folder();
    let empty: fn(&Path) = |trust| std::fs::create_dir(trust).unwrap();
    let nothing: fn(&Path) = |_| {};
    for (what, left) in [("an empty folder", empty), ("no folder", nothing)] {
        let trust = folder.join("state/trust");
        std::fs::remove_dir_all(&trust).unwrap();
        left(&trust);
        seen.does_not_start(what).await;
        let error = repair(&folder, None, false).await.unwrap_err();
        assert!(
            format!("{error:#}").contains("--danger-forget-floors"),
            "{error:#}"
        );
        repair(&folder, None, true).await.unwrap();
        let gateway = Gateway::start(&folder).await;
        let status = gateway.until(what, |status| !status.releases.is_empty()).await;
        assert_eq!(status.releases[0].version.to_string(), "2.0.0");
        let running = repair(&folder, None, false).await.unwrap_err();
        assert!(
            format!("{running:#}").contains("another process listens"),
            "{running:#}"
        );
        gateway.stop().await;
    }
}
