//! A program's boundaries: its user, its limits, what it inherits. Users need an agent that is root.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use protocol::Outcome;
use release::Limits;

use crate::repository::script;
use crate::site::{Site, wait_for};

/// Says what it is, in its data folder, and runs on.
const TELLS: &[u8] = b"#!/bin/sh\n\
    cd \"$DROVER_DATA\"\n\
    (exec ls /proc/self/fd > fds)\n\
    cat /proc/self/limits > limits\n\
    cat /proc/self/status > status\n\
    echo $$ > pid\n\
    : > /dev/stderr\n\
    : > ready\n\
    exec sleep 1000\n";

fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        assert!(
            std::env::var_os("DROVER_NO_SKIP").is_none(),
            "this test needs an agent that is root"
        );
        eprintln!("skipped: needs root");
    }
    root
}

/// Descriptors beyond the first three that whoever started this test left open for every program.
fn given_to_this_process() -> Vec<String> {
    let mut given = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fdinfo").unwrap().flatten() {
        let info = std::fs::read_to_string(entry.path()).unwrap_or_default();
        let flags = u32::from_str_radix(&line(&info, "flags:"), 8).unwrap_or(0o2_000_000);
        let name = entry.file_name().into_string().unwrap();
        // O_CLOEXEC (fcntl.h of Linux).
        if flags & 0o2_000_000 == 0 && name.parse::<u32>().unwrap() > 3 {
            given.push(name);
        }
    }
    given
}

/// The numbers of a line that begins with `name`.
fn line(text: &str, name: &str) -> String {
    let line = text
        .lines()
        .find(|line| line.starts_with(name))
        .unwrap_or_default();
    let words: Vec<&str> = line.trim_start_matches(name).split_whitespace().collect();
    words.join(" ")
}

#[tokio::test]
async fn a_program_inherits_three_descriptors_and_is_kept_within_the_limits_of_its_release() {
    let site = Site::new().await;
    site.enrolled().await;
    let agent = site.agent().await;
    let mut release = script("1.0.0", 1);
    if let Some(run) = &mut release.run {
        run.limits = Limits {
            memory_bytes: Some(64 << 20),
            open_files: Some(100),
            processes: None,
        };
    }
    site.publish(&release, TELLS, None);
    site.ends_with(&release, Outcome::Committed).await;
    // 3 is the folder that `ls` reads; what this test itself was given by its starter is not the agent's.
    let given = given_to_this_process();
    let fds = site.data("fds");
    let inherited: Vec<&str> = fds
        .split_whitespace()
        .filter(|fd| !given.contains(&(*fd).to_owned()))
        .collect();
    assert_eq!(inherited, ["0", "1", "2", "3"], "given to this test: {given:?}");
    let limits = site.data("limits");
    assert_eq!(line(&limits, "Max open files"), "100 100 files");
    assert_eq!(line(&limits, "Max data size"), "67108864 67108864 bytes");
    // What is recorded of the process is the program itself: the next agent takes it over.
    let pid = site.data("pid");
    assert_eq!(site.running(), [pid.parse::<i32>().unwrap()]);
    agent.cut_off().await;
    let agent = site.agent().await;
    wait_for("the program", || {
        let components = agent.hub.components();
        components
            .first()
            .is_some_and(|state| state.uptime_seconds < 1000)
            .then_some(())
    })
    .await;
    assert_eq!(site.running(), [pid.parse::<i32>().unwrap()]);
    agent.stop().await;
}

#[tokio::test]
async fn a_program_runs_as_the_user_that_the_site_names_and_so_does_its_health_check() {
    if !is_root() {
        return;
    }
    let site = Site::new().await;
    site.enrolled().await;
    site.settings(|settings| {
        settings.programs.users.insert("*".into(), "65533:65534".into());
    });
    let agent = site.agent().await;
    let mut release = script("1.0.0", 1);
    release.health = release::Health::Command {
        argv: [
            "sh",
            "-c",
            "id -u > \"$DROVER_DATA/asked\"; test -f \"$DROVER_DATA/ready\"",
        ]
        .map(str::to_owned)
        .to_vec(),
    };
    if let Some(run) = &mut release.run {
        run.limits.processes = Some(50);
    }
    // Nobody but the owner passes this folder: said before anything runs, and not held against the release.
    let closed = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(site.dir.path(), closed).unwrap();
    site.publish(&release, TELLS, None);
    let report = site.ends_with(&release, Outcome::Failed).await;
    let reason = report.reason.unwrap();
    assert!(
        reason.contains("65533 cannot pass") && reason.contains("chmod o+x"),
        "{reason}"
    );

    let open = std::fs::Permissions::from_mode(0o711);
    std::fs::set_permissions(site.dir.path(), open).unwrap();
    let data = site.layout().data(&crate::site::component());
    std::fs::create_dir_all(data.join("kept")).unwrap();
    std::fs::write(data.join("kept/old"), "of before").unwrap();
    let mut second = script("1.1.0", 2);
    (second.health, second.run) = (release.health, release.run);
    site.publish(&second, &[TELLS, b"# again\n"].concat(), None);
    let report = site.ended(&second).await;
    assert_eq!(report.outcome, Some(Outcome::Committed), "{:?}", report.reason);
    let status = site.data("status");
    assert_eq!(line(&status, "Uid:"), "65533 65533 65533 65533");
    assert_eq!(line(&status, "Gid:"), "65534 65534 65534 65534");
    assert_eq!(line(&status, "Groups:"), "");
    assert_eq!(line(&site.data("limits"), "Max processes"), "50 50 processes");
    assert_eq!(site.data("asked"), "65533");
    assert_eq!(std::fs::metadata(data.join("kept/old")).unwrap().uid(), 65533);
    agent.stop().await;

    // Root is nobody's own user, and somebody who is not there is named.
    for (user, says) in [
        ("root", "which is root"),
        ("1000:0", "whose group is root's"),
        ("nobody-such", "not in /etc/passwd"),
    ] {
        let mut settings = device::settings::Programs::default();
        settings.users.insert("*".into(), user.into());
        let wrong = settings.account(&crate::site::component()).unwrap_err();
        assert!(wrong.contains(says), "{wrong}");
    }
}
