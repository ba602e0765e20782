//! A few interruptions of each row of `scripts/crash-test`: nothing torn, a version that runs, no floor lost, and the
//! device at rest again by itself.

use e2e::crash::{Plan, Row, run};

const NOTHING: Plan = Plan {
    kills: 0,
    cuts: 0,
    points: Some(0),
    damages: Some(0),
    seed: 11,
};

async fn held(plan: Plan) -> Vec<Row> {
    let rows = run(plan, |_| {}).await;
    for row in &rows {
        assert_eq!(row.bad, 0, "{row:#?}");
        if let Some(why) = &row.skipped {
            // A power cut takes root and a loop device, which not every builder gives.
            eprintln!("skipped: {}: {why}", row.id);
        }
    }
    rows
}

/// At system calls and by failing ones.
#[tokio::test]
async fn installs_and_roll_backs_are_killed_and_fail_at_system_calls() {
    let rows = held(Plan {
        points: Some(2),
        ..NOTHING
    })
    .await;
    let traced: Vec<&Row> = rows
        .iter()
        .filter(|row| row.id.starts_with("kill-") || row.id.starts_with("e"))
        .collect();
    match traced.iter().find_map(|row| row.skipped.as_ref()) {
        Some(why) => e2e::skip(why),
        None => assert!(
            traced.iter().map(|row| row.tried).sum::<usize>() >= 4,
            "{traced:#?}"
        ),
    }
}

#[tokio::test]
async fn a_running_agent_is_killed_and_its_power_is_cut_at_random_moments() {
    let rows = held(Plan {
        kills: 4,
        cuts: 2,
        ..NOTHING
    })
    .await;
    let tried: Vec<usize> = rows
        .iter()
        .filter(|row| row.skipped.is_none())
        .map(|row| row.tried)
        .collect();
    assert!(tried.contains(&4), "{rows:#?}");
}

#[tokio::test]
async fn damaged_files_are_told_or_mended_and_the_next_release_gets_there() {
    let rows = held(Plan {
        damages: Some(5),
        ..NOTHING
    })
    .await;
    assert_eq!(rows.last().unwrap().tried, 5);
}
