//! Which files the mirror keeps: what is sought, what devices run or would go back to, what is being sent, and the most
//! recent others within a budget. The others are for a list of devices that is put back, and for a repository that is
//! handed back what it has forgotten.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use durable::{Store, StoreError, Stored};
use protocol::chain;
use release::{Component, Release, Version};
use tuf::{Digest, TrustedState, UnixTime};

use crate::gateway::Gateway;
use crate::limits;
use crate::sends::Sends;

/// What the signed lists say of a file.
#[derive(Debug, Clone)]
struct Listed {
    /// Its name there, for people.
    name: String,
    released: UnixTime,
    release: Option<(Component, Version)>,
}

/// Every file that the lists name, also of withdrawn releases.
fn listed(state: &TrustedState) -> HashMap<Digest, Listed> {
    let files = state.all_targets().filter_map(|(name, target)| {
        let release = target
            .custom
            .as_ref()
            .map(Release::from_custom)
            .and_then(Result::ok);
        let listed = Listed {
            name: name.to_owned(),
            released: release.as_ref().map_or(UnixTime(0), |release| release.released),
            release: release.map(|release| (release.component, release.version)),
        };
        Some((target.sha256()?, listed))
    });
    files.collect()
}

/// Removes what the mirror need not keep, when it is time to: after new lists, and now and then, because devices move
/// on. A file that is on its way comes first; then it is done with one of the next checks.
pub(super) async fn prune(gateway: &Arc<Gateway>, state: &TrustedState) {
    let due = *gateway.downloader.prune_at();
    if due.is_some_and(|due| Instant::now() < due) {
        return;
    }
    let Ok(_alone) = gateway.downloader.fetching.try_lock() else {
        return;
    };
    let (store, sends) = (gateway.mirror.clone(), gateway.sends.clone());
    let here = match store.list() {
        Ok(here) => here,
        Err(error) => {
            tracing::warn!(target: "drover", error = chain(&error), "the mirror could not be looked through");
            return;
        }
    };
    let listed = listed(state);
    let wanted = wanted(gateway, &listed);
    let budget = gateway.config.older_megabytes.saturating_mul(1 << 20);
    let going = surplus(&here, &wanted, &listed, budget);
    // Before they go: nobody is to be ordered what is not here.
    super::fetch::mark(
        gateway,
        |digest| going.iter().any(|file| file.digest == *digest),
        false,
    );
    let names: HashMap<Digest, String> = going
        .iter()
        .filter_map(|file| Some((file.digest, listed.get(&file.digest)?.name.clone())))
        .collect();
    let keep: HashSet<Digest> = here.iter().map(|file| file.digest).chain(wanted).collect();
    let removed = tokio::task::spawn_blocking(move || remove(&store, &sends, &going, keep)).await;
    match removed {
        Ok(Ok(removed)) => {
            told(&removed.gone, &names);
            // What was being sent and what was not: as the disk says.
            super::fetch::mark(gateway, |digest| removed.kept.contains(digest), true);
        }
        Ok(Err(error)) => {
            tracing::warn!(target: "drover", error = chain(&error), "old files could not be removed");
        }
        Err(error) => tracing::warn!(target: "drover", %error, "old files could not be removed"),
    }
    *gateway.downloader.prune_at() = Some(Instant::now() + limits::PRUNE_EVERY);
}

fn told(gone: &[Stored], names: &HashMap<Digest, String>) {
    for file in gone {
        let name = names
            .get(&file.digest)
            .map_or("not listed any more", String::as_str);
        tracing::info!(target: "drover", name, digest = %file.digest, bytes = file.length, "removed from the mirror");
    }
}

/// What is sought, and what devices run or would go back to.
fn wanted(gateway: &Gateway, listed: &HashMap<Digest, Listed>) -> HashSet<Digest> {
    let (catalog, stopped) = (gateway.catalog(), gateway.fleet.all_stopped());
    let mut wanted: HashSet<Digest> = catalog.sought(&stopped).map(|offer| offer.digest).collect();
    let held = gateway.fleet.held();
    let on_a_device = |(digest, listed): &(&Digest, &Listed)| {
        let release = listed.release.as_ref();
        held.digests.contains(*digest) || release.is_some_and(|release| held.releases.contains(release))
    };
    wanted.extend(listed.iter().filter(on_a_device).map(|(digest, _)| *digest));
    wanted
}

/// The files that go: unlisted ones, and of the others those that are not wanted and older than what fits `budget`.
fn surplus(
    here: &[Stored],
    wanted: &HashSet<Digest>,
    listed: &HashMap<Digest, Listed>,
    budget: u64,
) -> Vec<Stored> {
    let mut others: Vec<(Option<UnixTime>, &Stored)> = here
        .iter()
        .filter(|file| !wanted.contains(&file.digest))
        .map(|file| (listed.get(&file.digest).map(|listed| listed.released), file))
        .collect();
    // The newest first, the unlisted last; among equals the order is always the same.
    others.sort_by_key(|(released, file)| (std::cmp::Reverse(*released), file.digest));
    let mut left = budget;
    let goes = |(released, file): (Option<UnixTime>, &Stored)| {
        if released.is_some() && file.length <= left {
            left -= file.length;
            return None;
        }
        Some(*file)
    };
    others.into_iter().filter_map(goes).collect()
}

/// What came of [`remove`].
#[derive(Debug, Default)]
struct Removed {
    gone: Vec<Stored>,
    /// Somebody was sending them: their turn is another time.
    kept: Vec<Digest>,
}

/// Removes files one by one, each durably, none that is being sent; then the parts of files that are neither here nor
/// wanted (`keep`). Cut off anywhere it has removed some of them, and the next time it removes the rest.
fn remove(
    store: &Store,
    sends: &Sends,
    going: &[Stored],
    mut keep: HashSet<Digest>,
) -> Result<Removed, StoreError> {
    let mut removed = Removed::default();
    for file in going {
        let Some(_removing) = sends.remove(&file.digest) else {
            removed.kept.push(file.digest);
            continue;
        };
        keep.remove(&file.digest);
        store.remove(&file.digest)?;
        removed.gone.push(*file);
    }
    store.collect(&keep)?;
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use durable::Files;
    use durable::faulty::{Fault, Faulty};

    use super::*;

    fn bytes(number: u8) -> Vec<u8> {
        vec![number; 100 + usize::from(number)]
    }

    fn stored(number: u8) -> Stored {
        let bytes = bytes(number);
        Stored {
            digest: Digest::of(&bytes),
            length: bytes.len() as u64,
        }
    }

    fn listed(released: i64) -> Listed {
        Listed {
            name: format!("app/{released}"),
            released: UnixTime(released),
            release: None,
        }
    }

    #[test]
    fn what_is_wanted_and_the_most_recent_others_stay() {
        let here: Vec<Stored> = (1..=6).map(stored).collect();
        // The sixth is not listed any more; the first is the oldest.
        let lists: HashMap<Digest, Listed> = (1..=5_u8)
            .map(|number| (stored(number).digest, listed(i64::from(number))))
            .collect();
        let wanted = HashSet::from([stored(1).digest]);
        let goes = |budget| {
            let mut goes = surplus(&here, &wanted, &lists, budget);
            goes.sort_by_key(|file| file.length);
            goes
        };
        let files =
            |numbers: &[u8]| -> Vec<Stored> { numbers.iter().map(|number| stored(*number)).collect() };
        assert_eq!(goes(0), files(&[2, 3, 4, 5, 6]));
        // One that does not fit makes no room for none: the next older one may.
        assert_eq!(goes(104), files(&[2, 3, 5, 6]));
        assert_eq!(goes(105), files(&[2, 3, 4, 6]));
        assert_eq!(goes(105 + 104), files(&[2, 3, 6]));
        assert_eq!(goes(u64::MAX), files(&[6]));
    }

    /// Killed before or after each operation on the disk: what is to stay is whole, and the next time ends the work.
    #[test]
    fn a_kill_at_any_step_loses_nothing_that_was_to_stay() {
        let mut killed = 0;
        for fault in [Fault::Killed, Fault::KilledAfter] {
            for at in 1.. {
                let dir = tempfile::tempdir().unwrap();
                let store = Store::open(dir.path()).unwrap();
                for number in 1..=5 {
                    store.put(&bytes(number)).unwrap();
                }
                let mut part = store.begin(stored(9).digest, 109).unwrap();
                part.write(b"9").unwrap();
                drop(part);
                let (going, keep) = (
                    [stored(2), stored(4)],
                    HashSet::from([1, 3, 5].map(|n| stored(n).digest)),
                );
                let disk = Arc::new(Faulty::new(fault, at));
                let faulty = Store::open_on(Files::on(disk.clone()), dir.path());
                let done = faulty.and_then(|store| remove(&store, &Sends::default(), &going, keep.clone()));
                let store = Store::open(dir.path()).unwrap();
                for digest in &keep {
                    store.verify(digest).unwrap();
                }
                if !disk.fired() {
                    done.unwrap();
                    break;
                }
                killed += 1;
                remove(&store, &Sends::default(), &going, keep.clone()).unwrap();
                let left: HashSet<Digest> = store.list().unwrap().iter().map(|file| file.digest).collect();
                assert_eq!(left, keep);
                assert_eq!(store.arrived(&stored(9).digest), 0, "a part that nobody wants");
            }
        }
        assert!(killed >= 8, "{killed}: two unlinks and flushes each, and a part");
    }

    #[test]
    fn a_file_that_is_being_sent_stays_until_the_next_time() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let (going, sends) = ([stored(1), stored(2)], Sends::default());
        for number in 1..=2 {
            store.put(&bytes(number)).unwrap();
        }
        let keep: HashSet<Digest> = going.iter().map(|file| file.digest).collect();
        let sending = sends.send(&stored(1).digest).unwrap();
        let removed = remove(&store, &sends, &going, keep.clone()).unwrap();
        assert_eq!(
            (removed.gone, removed.kept),
            (vec![stored(2)], vec![stored(1).digest])
        );
        store.verify(&stored(1).digest).unwrap();
        drop(sending);
        assert_eq!(
            remove(&store, &sends, &going[..1], keep).unwrap().gone,
            [stored(1)]
        );
        assert!(store.list().unwrap().is_empty());
    }
}
