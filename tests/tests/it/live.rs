//! The example broker under load, updated and hit: the small form of `scripts/eval-live`.

use std::time::Duration;

use e2e::live::{Fault, Plan, Victim, strikes};
use handoff::Phase;

/// Ten publishers, three subscribers, a rate that any machine keeps up with.
fn small() -> Plan {
    Plan {
        publishers: 10,
        messages: 100_000,
        bytes: 128,
        subscribers: 3,
        rate: 200.0,
        patience: Duration::from_secs(60),
    }
}

fn at(phase: Phase) -> usize {
    Phase::ALL.iter().position(|one| *one == phase).unwrap()
}

#[test]
fn updates_and_a_kill_under_load_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let kill = Fault {
        phase: at(Phase::Given),
        victim: Victim::New,
    };
    let (pauses, struck, record) = strikes(&small(), 4, [kill], folder.path(), |_| {}).unwrap();
    assert_eq!(pauses.len(), 4, "through all versions and back");
    assert_eq!(
        (struck[0].dropped, struck[0].serves),
        (0, 1),
        "the old version went on"
    );
    assert!(record.total.is_exact(), "{:?}", record.total);
    assert_eq!(record.total.dropped, 0);
    assert_eq!(record.total.delivered, record.total.published * 3);
}

#[test]
fn a_broker_that_dies_in_an_update_loses_connections_and_no_message() {
    let folder = tempfile::tempdir().unwrap();
    let kills = [Phase::Asked, Phase::Ready].map(|phase| Fault {
        phase: at(phase),
        victim: Victim::Old,
    });
    let (_, struck, record) = strikes(&small(), 0, kills, folder.path(), |_| {}).unwrap();
    assert_eq!(struck[1].dropped, 0, "it had given everything");
    assert!(record.total.is_exact(), "{:?}", record.total);
    assert_eq!(record.total.delivered, record.total.published * 3);
}
