//! What a life of releases leaves behind: data, processes, records, figures.

use e2e::packages::{Script, app};
use e2e::{Site, SiteOptions, eventually};
use protocol::{Name, Outcome, Step, latencies};

/// R-004-121 to R-004-128, R-004-92: all seven figures, and the device's signed word at the author's desk.
#[tokio::test]
async fn figures_and_signed_reports_of_every_device_reach_the_author() {
    let work = tempfile::tempdir().unwrap();
    let site = Site::running(SiteOptions::default()).await;
    let agents = [site.device("north").await, site.device("south").await];
    let steps = site.watch();
    let _ = site.release(&app(work.path(), "1.0.0")).await;
    for agent in &agents {
        steps.device(&agent.name, Step::Committed, "1.0.0").await;
    }
    let published = site.release(&app(work.path(), "2.0.0")).await;
    for agent in &agents {
        steps.outcome(&agent.name, published.update).await;
    }
    let mut events = published.events.clone();
    events.extend(
        steps
            .all()
            .into_iter()
            .filter(|event| event.update == published.update),
    );
    for agent in &agents {
        let name: Name = agent.name.parse().unwrap();
        let figures = latencies(&events, &name);
        let (total, actual) = (figures.total().unwrap(), figures.actual_total.unwrap());
        assert!(figures.click_to_healthy.unwrap() >= actual, "{figures:?}");
        assert!(total > 0.0 && actual > 0.0, "{figures:?}");
    }
    let read = || async { site.author(["reports", "--json"]).await.ok().stdout };
    let update = published.update.to_string();
    eventually("the reports reach the author", read, |text: &String| {
        agents
            .iter()
            .all(|agent| text.contains(&format!("drover://plant/device/{}", agent.name)))
            && text.contains(&update)
            // The gateway reports its own steps too, a moment later.
            && text.contains("drover://plant/manager/gateway")
    })
    .await;
    let table = site.author(["latency"]).await.ok().stdout;
    assert!(table.contains("2.0.0"), "{table}");
}

/// R-004-27, R-004-28, R-004-30: what exists or is not newer is refused before anything is signed.
#[tokio::test]
async fn a_version_that_exists_or_is_not_newer_is_refused_with_both_versions() {
    let work = tempfile::tempdir().unwrap();
    let site = Site::running(SiteOptions::default()).await;
    let nine = Script {
        version: "9.0.0",
        ..Script::default()
    }
    .write(work.path());
    let ten = Script {
        version: "10.0.0",
        ..Script::default()
    }
    .write(work.path());
    let _ = site.release(&nine).await;
    let _ = site.release(&ten).await; // as text, 10 is below 9: R-004-30 [C]
    let again = site.publish(&ten, &[]).await;
    assert!(
        again.refused().contains("File existed! Please re-select"),
        "{}",
        again.stderr
    );
    let older = Script {
        version: "9.5.0",
        ..Script::default()
    }
    .write(work.path());
    let older = site.publish(&older, &[]).await;
    let text = older.refused();
    assert!(text.contains("Upload version is older than current!"), "{text}");
    assert!(text.contains("9.5.0") && text.contains("10.0.0"), "{text}");
    let status = site.repository(["status", "--json"]).await;
    assert!(!status.stdout.contains("9.5.0"));
}

/// What a program keeps in its data folder is there after an update and after a roll back.
#[tokio::test]
async fn persistent_data_outlives_update_and_roll_back() {
    let work = tempfile::tempdir().unwrap();
    let site = Site::running(SiteOptions::default()).await;
    let agent = site.device("north").await;
    let steps = agent.watch();
    let body = "echo start >> \"$DROVER_DATA/starts\"\necho \"$(wc -l < \"$DROVER_DATA/starts\") starts\"\n";
    for (version, end, outcome) in [
        ("1.0.0", "exec sleep 100000", Outcome::Committed),
        ("2.0.0", "exec sleep 100000", Outcome::Committed),
        ("3.0.0", "exit 3", Outcome::RolledBack),
    ] {
        let body = format!("{body}{end}");
        let package = Script {
            version,
            body: &body,
            probation: 1,
            ..Script::default()
        }
        .write(work.path());
        let published = site.release(&package).await;
        assert_eq!(
            steps.outcome("north", published.update).await.0,
            outcome,
            "{version}"
        );
    }
    // 1.0, 2.0, 3.0 once, and 2.0 again after the roll back.
    let starts = || async { std::fs::read_to_string(agent.dir.join("data/app/starts")).unwrap_or_default() };
    eventually("four starts", starts, |text| text.lines().count() == 4).await;
    assert_eq!(agent.shows("app").await, "2.0.0 running");
}

/// R-004-96: the newest application is launched at once and kept running, whatever the network does.
#[tokio::test]
async fn programs_are_kept_running_through_ends_restarts_and_no_manager() {
    let work = tempfile::tempdir().unwrap();
    let mut site = Site::running(SiteOptions::default()).await;
    let mut agent = site.device("north").await;
    let published = site.release(&app(work.path(), "1.0.0")).await;
    agent.watch().outcome("north", published.update).await;

    // Killed from outside: it is started again.
    let first = agent.processes("app");
    assert_eq!(first.len(), 1);
    kill(first[0]);
    let again = eventually(
        "it is started again",
        || async { agent.processes("app") },
        |now: &Vec<i32>| now.len() == 1 && *now != first,
    )
    .await;

    // The agent crashes: the program goes on, and is taken over, not started twice.
    site.stop_manager().await;
    agent.kill().await;
    assert_eq!(agent.processes("app"), again);
    agent.start().await;
    eventually(
        "it is running",
        || agent.shows("app"),
        |shown| shown == "1.0.0 running",
    )
    .await;
    assert_eq!(agent.processes("app"), again, "the same process, adopted");

    // The agent is stopped in order: so is the program; and with no manager there it comes back.
    agent.stop().await;
    assert!(agent.processes("app").is_empty());
    agent.start().await;
    // What is installed is shown before it has been started.
    eventually(
        "it is started again",
        || async { agent.processes("app") },
        |now: &Vec<i32>| now.len() == 1,
    )
    .await;
    assert_eq!(agent.shows("app").await, "1.0.0 running");
    eventually(
        "it says why it is not connected",
        || agent.status(),
        |status| !status.connected && !status.connection.is_empty(),
    )
    .await;
}

/// By hand to the previous version, held there, and on again: the manager's orders are told why not.
#[tokio::test]
async fn a_person_rolls_back_and_the_device_stays_there_until_released() {
    let work = tempfile::tempdir().unwrap();
    let site = Site::running(SiteOptions::default()).await;
    let agent = site.device("north").await;
    let steps = agent.watch();
    for version in ["1.0.0", "2.0.0"] {
        let published = site.release(&app(work.path(), version)).await;
        assert_eq!(
            steps.outcome("north", published.update).await.0,
            Outcome::Committed
        );
    }
    let _ = agent.command(["rollback", "app"]).await.ok();
    eventually(
        "1.0.0 runs",
        || agent.shows("app"),
        |shown| shown == "1.0.0 running",
    )
    .await;
    eventually(
        "it is held",
        || agent.status(),
        |status| status.components[0].held,
    )
    .await;
    let third = site.release(&app(work.path(), "3.0.0")).await;
    eventually(
        "the manager knows of the hold",
        || site.device_row("north"),
        |row| row.components.iter().any(|state| state.held),
    )
    .await;
    assert_eq!(agent.shows("app").await, "1.0.0 running");
    let _ = agent.command(["release", "app"]).await.ok();
    assert_eq!(steps.outcome("north", third.update).await.0, Outcome::Committed);
    assert_eq!(agent.shows("app").await, "3.0.0 running");
    steps.device("north", Step::Committed, "3.0.0").await;
}

fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}
