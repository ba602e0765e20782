//! The supervisor with real programs.

use std::time::Duration;

use device::supervise::adopt;
use durable::Files;
use protocol::device::Activity;
use protocol::{Outcome, Step};
use release::{Form, Health, How, Run};

use crate::repository::{good, script};
use crate::site::{Site, component, wait_for};

fn pid_of_last_start(site: &Site) -> String {
    site.data("starts")
        .lines()
        .last()
        .unwrap_or_default()
        .rsplit(' ')
        .next()
        .unwrap()
        .to_owned()
}

#[tokio::test]
async fn a_restarted_agent_takes_over_the_running_program() {
    let site = Site::new().await;
    let (agent, _) = site.with_first_version().await;
    let before = site.running();
    agent.cut_off().await;
    assert_eq!(site.running(), before, "the program outlives its agent");
    let agent = site.agent().await;
    let second = script("1.1.0", 2);
    site.publish(&second, &good("1.1.0"), Some("1.0.0"));
    wait_for("the taking over", || {
        let states = agent.hub.components();
        states
            .iter()
            .any(|state| state.activity == Activity::Running && state.version.is_some())
            .then_some(())
    })
    .await;
    assert_eq!(
        site.data("starts").matches("1.0.0").count(),
        1,
        "it was not started again"
    );
    // What was taken over is stopped like a child of one's own.
    site.ends_with(&second, Outcome::Committed).await;
    assert_eq!(site.running().len(), 1);
    assert!(!site.running().contains(&before[0]));
    agent.stop().await;
}

/// What an agent before the copiers left: its program appends to the file itself, and nothing would bound that.
#[tokio::test]
async fn a_program_of_an_agent_without_copiers_is_started_again_with_one() {
    let site = Site::new().await;
    let (agent, _) = site.with_first_version().await;
    agent.cut_off().await;
    let before = site.running();
    let record = adopt::record(&Files::real(), &site.layout(), &component());
    let run = record.load().unwrap().unwrap();
    record.save(&adopt::Run { copier: None, ..run }).unwrap();
    let agent = site.agent().await;
    let after = wait_for("the program with a copier", || {
        let run = record.load().unwrap().unwrap();
        run.copier.map(|_| run.pid)
    })
    .await;
    assert_ne!(vec![after], before);
    wait_for("the new program alone", || {
        (site.running() == [after]).then_some(())
    })
    .await;
    wait_for("its start", || {
        (pid_of_last_start(&site) == after.to_string()).then_some(())
    })
    .await;
    assert_eq!(
        site.data("starts").lines().count(),
        2,
        "once, not again and again"
    );
    agent.stop().await;
}

#[tokio::test]
async fn a_process_that_was_never_recorded_is_found_by_its_mark_and_ended() {
    let site = Site::new().await;
    let (agent, _) = site.with_first_version().await;
    agent.cut_off().await;
    let before = site.running();
    std::fs::remove_file(site.layout().runs().join("thermostat.rec")).unwrap();
    let agent = site.agent().await;
    wait_for("another process alone", || {
        let now = site.running();
        (now.len() == 1 && now != before).then_some(())
    })
    .await;
    agent.stop().await;
}

#[tokio::test]
async fn a_program_that_ends_is_started_again_and_one_that_cannot_start_is_shown_as_failing() {
    let site = Site::new().await;
    let (agent, _) = site.with_first_version().await;
    let first = pid_of_last_start(&site);
    site.end_programs();
    wait_for("another start", || {
        (pid_of_last_start(&site) != first).then_some(())
    })
    .await;
    // From now on it cannot start: its data folder is a file.
    std::fs::remove_dir_all(site.layout().data(&component())).unwrap();
    std::fs::write(site.layout().data(&component()), b"in the way").unwrap();
    site.end_programs();
    wait_for("what is shown", || {
        (agent.hub.components()[0].activity == Activity::Failing).then_some(())
    })
    .await;
    std::fs::remove_file(site.layout().data(&component())).unwrap();
    wait_for("recovery", || {
        (agent.hub.components()[0].activity == Activity::Running).then_some(())
    })
    .await;
    agent.stop().await;
}

#[tokio::test]
async fn a_program_that_ignores_being_told_to_stop_is_killed_after_its_time() {
    let site = Site::new().await;
    site.enrolled().await;
    let agent = site.agent().await;
    let mut first = script("1.0.0", 1);
    first.run.as_mut().unwrap().stop_seconds = 1;
    let stubborn = String::from_utf8(good("1.0.0"))
        .unwrap()
        .replace("exit 0' TERM", ":' TERM");
    site.publish(&first, stubborn.as_bytes(), None);
    site.ends_with(&first, Outcome::Committed).await;
    let before = site.running();
    let second = script("1.1.0", 2);
    site.publish(&second, &good("1.1.0"), Some("1.0.0"));
    let report = site.ends_with(&second, Outcome::Committed).await;
    let at = |step| {
        report
            .events
            .iter()
            .find(|event| event.step == step)
            .unwrap()
            .at
            .clone()
    };
    let stop = at(Step::Stopped).since_ns(&at(Step::Stopping)) / 1_000_000;
    assert!((900..3000).contains(&stop), "{stop} ms");
    assert_eq!(site.running().len(), 1);
    assert_ne!(site.running(), before);
    agent.stop().await;
}

#[tokio::test]
async fn a_file_changed_on_this_disk_is_not_started() {
    let site = Site::new().await;
    let (agent, first) = site.with_first_version().await;
    let digest = agent.hub.components()[0].digest.unwrap();
    let file = site.layout().release(&digest).join("payload/thermostat.sh");
    let mut changed = std::fs::read(&file).unwrap();
    let place = changed.len() - 3;
    changed[place] ^= 1;
    std::fs::write(&file, &changed).unwrap();
    site.end_programs();
    wait_for("the refusal to start it", || {
        (agent.hub.components()[0].activity == Activity::Failing).then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert!(
        site.running().is_empty(),
        "{} was started although it was changed",
        first.version
    );
    agent.stop().await;
}

#[tokio::test]
async fn a_jar_without_java_says_what_to_install() {
    let site = Site::new().await;
    site.enrolled().await;
    // A search path without java, whatever this machine has.
    site.settings(|settings| {
        let env = [("PATH".to_owned(), "/nonexistent".to_owned())].into();
        settings.env.insert(component(), env);
    });
    let agent = site.agent().await;
    let mut jar = script("1.0.0", 1);
    jar.file_name = "thermostat.jar".into();
    jar.run = Some(Run::plain(How::Jar, "thermostat.jar".parse().unwrap()));
    site.publish(&jar, b"PK\x03\x04 no real jar", None);
    let report = site.ends_with(&jar, Outcome::RolledBack).await;
    let reason = report.reason.unwrap();
    assert!(reason.contains("install a Java runtime"), "{reason}");
    agent.stop().await;
}

#[tokio::test]
async fn a_file_that_is_no_program_says_so() {
    let site = Site::new().await;
    site.enrolled().await;
    let agent = site.agent().await;
    let first = script("1.0.0", 1);
    site.publish(&first, b"\x7fELF but not really", None);
    let report = site.ends_with(&first, Outcome::RolledBack).await;
    let reason = report.reason.unwrap();
    assert!(reason.contains("not a program for this device"), "{reason}");
    agent.stop().await;
}

const PYTHON: &str = r#"
import http.server, os
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        good = os.environ["MOOD"] == "good"
        self.send_response(200 if good else 503)
        self.end_headers()
        self.wfile.write(b"fine" if good else b"valve stuck")
http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Answer).serve_forever()
"#;

fn python(version: &str, counter: u64) -> release::Release {
    let mut release = script(version, counter);
    release.file_name = "thermostat.py".into();
    release.run = Some(Run::plain(How::Python, "thermostat.py".parse().unwrap()));
    release.run.as_mut().unwrap().env = [
        ("MOOD".to_owned(), "good".to_owned()),
        ("PORT".to_owned(), "1".to_owned()),
    ]
    .into();
    release.health = Health::Http {
        url: "http://127.0.0.1:${PORT}/health".into(),
    };
    release
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

#[tokio::test]
async fn a_python_file_is_asked_over_http_at_the_port_that_the_device_chose() {
    let site = Site::new().await;
    site.enrolled().await;
    let port = free_port();
    site.settings(|settings| {
        settings
            .env
            .insert(component(), [("PORT".to_owned(), port.to_string())].into());
    });
    let agent = site.agent().await;
    let first = python("1.0.0", 1);
    site.publish(&first, PYTHON.as_bytes(), None);
    site.ends_with(&first, Outcome::Committed).await;
    // The next one starts and answers, but says that it is not well.
    let mut second = python("1.1.0", 2);
    second
        .run
        .as_mut()
        .unwrap()
        .env
        .insert("MOOD".into(), "bad".into());
    second.start_seconds = 1;
    let bytes = format!("{PYTHON}# 1.1.0\n");
    site.publish(&second, bytes.as_bytes(), Some("1.0.0"));
    let report = site.ends_with(&second, Outcome::RolledBack).await;
    let reason = report.reason.unwrap();
    assert!(
        reason.contains("503") && reason.contains("valve stuck"),
        "{reason}"
    );
    wait_for("the old one to answer", || {
        std::net::TcpStream::connect(("127.0.0.1", port)).ok()
    })
    .await;
    agent.stop().await;
}

#[tokio::test]
async fn a_version_that_dies_on_probation_is_rolled_back() {
    let site = Site::new().await;
    let (agent, _) = site.with_first_version().await;
    let mut second = script("1.1.0", 2);
    second.probation_seconds = 20;
    let text = String::from_utf8(good("1.1.0")).unwrap();
    let dies = text.replace(
        "while :; do sleep 1000 & wait $!; done",
        "sleep 0.3; echo lost my mind; exit 9",
    );
    site.publish(&second, dies.as_bytes(), Some("1.0.0"));
    let report = site.ends_with(&second, Outcome::RolledBack).await;
    let reason = report.reason.unwrap();
    assert!(
        reason.contains("code 9") && reason.contains("lost my mind"),
        "{reason}"
    );
    assert!(
        report.events.iter().any(|event| event.step == Step::Healthy),
        "it had been healthy before"
    );
    agent.stop().await;
}

#[tokio::test]
async fn a_package_of_several_files_runs_and_keeps_its_data_over_an_update() {
    let site = Site::new().await;
    site.enrolled().await;
    let agent = site.agent().await;
    for (version, counter, expects) in [("1.0.0", 1, None), ("1.1.0", 2, Some("1.0.0"))] {
        let mut release = script(version, counter);
        release.form = Form::Package;
        release.file_name = format!("thermostat-{version}.tar");
        release.run.as_mut().unwrap().program = "bin/start.sh".parse().unwrap();
        site.publish(&release, &package(version), expects);
        site.ends_with(&release, Outcome::Committed).await;
        assert_eq!(site.data("running"), version);
    }
    assert_eq!(
        site.data("starts").lines().count(),
        2,
        "what it wrote into its data folder is kept"
    );
    agent.stop().await;
}

/// A program that reads its version from a file beside it.
fn package(version: &str) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let at = |path: &str| dir.path().join(path);
    std::fs::create_dir_all(at("payload/bin")).unwrap();
    std::fs::create_dir_all(at("payload/share")).unwrap();
    let text = String::from_utf8(good("$version")).unwrap();
    let text = text.replacen(
        '\n',
        "\nversion=$(cat \"$(dirname \"$0\")/../share/version\")\n",
        1,
    );
    std::fs::write(at("payload/bin/start.sh"), text).unwrap();
    let mode = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o755);
    std::fs::set_permissions(at("payload/bin/start.sh"), mode).unwrap();
    std::fs::write(at("payload/share/version"), version).unwrap();
    let manifest = format!(
        "format = 1\ncomponent = \"thermostat\"\nversion = \"{version}\"\n\
         [run]\nhow = \"exec\"\nprogram = \"bin/start.sh\"\n"
    );
    std::fs::write(at("update.toml"), manifest).unwrap();
    let mut bytes = Vec::new();
    release::pack(dir.path(), &mut bytes).unwrap();
    bytes
}

#[tokio::test]
async fn a_worker_that_left_its_group_does_not_survive_the_switch() {
    let site = Site::new().await;
    site.enrolled().await;
    let agent = site.agent().await;
    let first = script("1.0.0", 1);
    let worker = "#!/bin/sh\nsetsid sleep 1000 &\n";
    let with_worker = String::from_utf8(good("1.0.0"))
        .unwrap()
        .replace("#!/bin/sh\n", worker);
    site.publish(&first, with_worker.as_bytes(), None);
    site.ends_with(&first, Outcome::Committed).await;
    let before = site.running();
    assert_eq!(before.len(), 2, "the program and its worker");
    // An agent that takes the program over leaves its worker alone.
    agent.cut_off().await;
    let agent = site.agent().await;
    let second = script("1.1.0", 2);
    wait_for("the taking over", || {
        let states = agent.hub.components();
        states
            .iter()
            .any(|state| state.activity == Activity::Running && state.version.is_some())
            .then_some(())
    })
    .await;
    assert_eq!(site.running(), before);
    site.publish(&second, &good("1.1.0"), Some("1.0.0"));
    site.ends_with(&second, Outcome::Committed).await;
    let after = site.running();
    assert_eq!(after.len(), 1, "{after:?}, before {before:?}");
    assert!(!before.contains(&after[0]));
    agent.stop().await;
}
