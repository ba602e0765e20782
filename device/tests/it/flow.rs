//! From the order to the report.

use std::sync::atomic::Ordering;

use device::enroll::{Anchor, enroll};
use device::world::World;
use protocol::device::Activity;
use protocol::{Outcome, Step};
use tuf::Digest;

use crate::repository::{good, script, sick};
use crate::site::{Site, component, wait_for};

#[tokio::test]
async fn an_order_becomes_a_running_version_and_a_signed_report() {
    let site = Site::new().await;
    let (agent, first) = site.with_first_version().await;
    assert_eq!(site.data("running"), "1.0.0");
    let report = site.ended(&first).await;
    let steps: Vec<Step> = report.events.iter().map(|event| event.step).collect();
    let expected = [
        Step::Ordered,
        Step::DownloadStarted,
        Step::Downloaded,
        Step::VerifyStarted,
        Step::Verified,
        Step::InstallStarted,
        Step::Staged,
        Step::Switched,
        Step::Started,
        Step::Healthy,
        Step::Committed,
    ];
    assert_eq!(steps, expected);
    assert_eq!(report.components[0].activity, Activity::Running);
    assert_eq!(agent.hub.log.last(9).unwrap()[0].outcome, "committed");
    agent.stop().await;
    assert!(
        site.running().is_empty(),
        "a stopped agent leaves nothing running"
    );
}

#[tokio::test]
async fn a_second_version_replaces_the_first_and_the_first_stays_to_go_back_to() {
    let site = Site::new().await;
    let (agent, _) = site.with_first_version().await;
    let second = script("1.1.0", 2);
    site.publish(&second, &good("1.1.0"), Some("1.0.0"));
    let report = site.ends_with(&second, Outcome::Committed).await;
    assert_eq!(site.data("running"), "1.1.0");
    assert_eq!(site.running().len(), 1);
    let state = &report.components[0];
    assert_eq!(state.previous.as_ref().unwrap().to_string(), "1.0.0");
    assert!(report.events.iter().any(|event| event.step == Step::Stopped));
    agent.stop().await;
}

#[tokio::test]
async fn a_version_that_dies_is_rolled_back_with_its_last_words_and_not_tried_again() {
    let site = Site::new().await;
    let (agent, _) = site.with_first_version().await;
    let bad = script("1.2.0", 3);
    site.publish(&bad, &sick("1.2.0"), Some("1.0.0"));
    let report = site.ends_with(&bad, Outcome::RolledBack).await;
    let reason = report.reason.unwrap();
    assert!(
        reason.contains("the sensor does not answer") && reason.contains("1.0.0 runs again"),
        "{reason}"
    );
    wait_for("the old version", || {
        (site.data("running") == "1.0.0").then_some(())
    })
    .await;
    // The order comes again with every hello; the digest is remembered.
    let again = Site::ended;
    agent.hub.hello_due.notify_one();
    wait_for("the refusal", || {
        let reports = site.manager.reports.lock().unwrap();
        reports
            .iter()
            .find(|report| report.outcome == Some(Outcome::Refused))
            .cloned()
    })
    .await;
    assert_eq!(again(&site, &bad).await.outcome, Some(Outcome::RolledBack));
    assert_eq!(site.data("starts").matches("1.2.0").count(), 1);
    assert_eq!(site.running().len(), 1);
    agent.stop().await;
}

#[tokio::test]
async fn a_first_version_that_dies_leaves_nothing_and_says_so() {
    let site = Site::new().await;
    site.enrolled().await;
    let agent = site.agent().await;
    let bad = script("1.0.0", 1);
    site.publish(&bad, &sick("1.0.0"), None);
    let report = site.ends_with(&bad, Outcome::RolledBack).await;
    assert!(report.reason.unwrap().contains("nothing runs"));
    assert_eq!(agent.hub.components()[0].activity, Activity::Empty);
    assert!(site.running().is_empty());
    agent.stop().await;
}

#[tokio::test]
async fn an_order_that_expects_another_version_is_refused() {
    let site = Site::new().await;
    let (agent, _) = site.with_first_version().await;
    let second = script("1.1.0", 2);
    site.publish(&second, &good("1.1.0"), Some("0.9.0"));
    let report = site.ends_with(&second, Outcome::Refused).await;
    assert!(
        report
            .reason
            .unwrap()
            .contains("expects 0.9.0 to run, but 1.0.0 runs")
    );
    assert_eq!(site.data("running"), "1.0.0");
    agent.stop().await;
}

#[tokio::test]
async fn a_broken_download_is_resumed_where_it_stopped() {
    let site = Site::new().await;
    let (agent, _) = site.with_first_version().await;
    let mut program = good("1.1.0");
    program.extend(std::iter::repeat_n(b'#', 3 << 20));
    *site.manager.break_after.lock().unwrap() = Some(1 << 20);
    *site.manager.bytes_sent.lock().unwrap() = 0;
    let second = script("1.1.0", 2);
    site.publish(&second, &program, Some("1.0.0"));
    site.ends_with(&second, Outcome::Committed).await;
    let sent = *site.manager.bytes_sent.lock().unwrap();
    assert!(
        sent <= program.len() as u64 + (128 << 10),
        "{sent} bytes for {}",
        program.len()
    );
    agent.stop().await;
}

#[tokio::test]
async fn three_megabytes_are_healthy_soon_after_the_order() {
    let site = Site::new().await;
    let (agent, _) = site.with_first_version().await;
    let mut program = good("1.1.0");
    program.extend(std::iter::repeat_n(b'#', 3 << 20));
    let second = script("1.1.0", 2);
    site.publish(&second, &program, Some("1.0.0"));
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
    for pair in report.events.windows(2) {
        println!(
            "{:>9.2} ms  {}",
            pair[1].at.since_ns(&pair[0].at) as f64 / 1e6,
            pair[1].step
        );
    }
    let took = at(Step::Healthy).since_ns(&at(Step::Ordered)) / 1_000_000;
    assert!(took < 1500, "{took} ms");
    agent.stop().await;
}

#[tokio::test]
async fn a_roll_back_by_hand_holds_until_it_is_released() {
    let site = Site::new().await;
    let (agent, _) = site.with_first_version().await;
    let second = script("1.1.0", 2);
    site.publish(&second, &good("1.1.0"), Some("1.0.0"));
    site.ends_with(&second, Outcome::Committed).await;
    site.manager.reports.lock().unwrap().clear();

    let mut client = control::Client::connect(&site.layout().control(), "device")
        .await
        .unwrap();
    let back = protocol::control::DeviceRequest::Rollback {
        component: component(),
    };
    client.call::<()>(&back).await.unwrap();
    assert_eq!(site.data("running"), "1.0.0");
    let report = site.ends_with(&second, Outcome::RolledBack).await;
    assert!(report.reason.unwrap().contains("by hand"));
    assert!(agent.hub.components()[0].held);
    wait_for("the refusal of the order that comes again", || {
        let reports = site.manager.reports.lock().unwrap();
        reports
            .iter()
            .any(|report| report.outcome == Some(Outcome::Refused))
            .then_some(())
    })
    .await;

    site.manager.reports.lock().unwrap().clear();
    let order = site.manager.orders.lock().unwrap()[0].clone();
    assert_eq!(order.expects.unwrap().to_string(), "1.0.0");
    client
        .call::<()>(&protocol::control::DeviceRequest::Release {
            component: component(),
        })
        .await
        .unwrap();
    site.ends_with(&second, Outcome::Committed).await;
    assert_eq!(site.data("running"), "1.1.0");
    agent.stop().await;
}

#[tokio::test]
async fn a_roll_back_by_hand_to_what_another_component_does_not_suit_is_refused() {
    let site = Site::new().await;
    let (agent, _) = site.with_first_version().await;
    let second = script("1.1.0", 2);
    site.publish(&second, &good("1.1.0"), Some("1.0.0"));
    site.ends_with(&second, Outcome::Committed).await;
    let mut broker = script("3.0.0", 7);
    broker.component = "broker".parse().unwrap();
    let wanted = (component(), ">=1.1.0".parse().unwrap());
    broker.requires.components = [wanted].into();
    site.publish(&broker, &good("broker"), None);
    site.ends_with(&broker, Outcome::Committed).await;
    let (before, told) = (site.running(), site.manager.reports.lock().unwrap().len());

    let mut client = control::Client::connect(&site.layout().control(), "device")
        .await
        .unwrap();
    let back = protocol::control::DeviceRequest::Rollback {
        component: component(),
    };
    let refused = client.call::<()>(&back).await.unwrap_err().to_string();
    let right = "thermostat cannot go back to 1.0.0: \
                 broker 3.0.0, which is here, requires thermostat >=1.1.0; change that one first";
    assert!(refused.contains(right), "{refused}");
    // Refused before anything happened: what runs was not stopped, is not held and has not failed.
    assert_eq!(site.running(), before);
    assert_eq!(site.data("running"), "1.1.0");
    assert!(agent.hub.components().iter().all(|state| !state.held));
    assert_eq!(site.manager.reports.lock().unwrap().len(), told);
    agent.stop().await;
}

#[tokio::test]
async fn without_a_manager_the_program_runs_and_the_report_waits() {
    let site = Site::new().await;
    let (agent, first) = site.with_first_version().await;
    agent.stop().await;
    *site.manager.down.lock().unwrap() = true;
    let agent = site.agent().await;
    wait_for("the program", || (site.running().len() == 1).then_some(())).await;
    wait_for("the trouble with the connection", || {
        (!agent.hub.status().connection.is_empty()).then_some(())
    })
    .await;
    assert_eq!(agent.hub.components()[0].version, Some(first.version));
    agent.stop().await;
}

#[tokio::test]
async fn polling_works_without_an_event_stream() {
    let site = Site::new().await;
    site.enrolled().await;
    site.settings(|settings| {
        settings.events = false;
        settings.poll_seconds = Some(1);
    });
    let agent = site.agent().await;
    let first = script("1.0.0", 1);
    site.publish(&first, &good("1.0.0"), None);
    site.ends_with(&first, Outcome::Committed).await;
    assert!(
        !site
            .manager
            .requests
            .lock()
            .unwrap()
            .iter()
            .any(|request| request.contains("/v1/events"))
    );
    agent.stop().await;
}

#[tokio::test]
async fn a_wrong_password_enrols_nothing() {
    let site = Site::new().await;
    let mut joining = site.joining(Anchor::File(site.root_file()));
    joining.password = protocol::Secret::new("guess".into());
    let error = enroll(&site.layout(), &World::system(), joining)
        .await
        .unwrap_err();
    assert!(format!("{error:#}").contains("does not enrol"), "{error:#}");
    assert!(!site.layout().key().exists() && !site.layout().trust().exists());
}

#[tokio::test]
async fn a_site_with_another_authority_than_in_the_code_is_not_joined() {
    let site = Site::new().await;
    let mut joining = site.joining(Anchor::File(site.root_file()));
    joining.code.site_ca = Digest::of(b"another");
    let error = enroll(&site.layout(), &World::system(), joining)
        .await
        .unwrap_err();
    assert!(format!("{error:#}").contains("cannot reach"), "{error:#}");
    assert!(!site.layout().key().exists());
}

#[tokio::test]
async fn a_root_is_taken_from_the_manager_by_its_fingerprint_only() {
    let site = Site::new().await;
    let right = Digest::of(&site.manager.repository.lock().unwrap().root);
    let wrong = Anchor::Fingerprint(Digest::of(b"another root"));
    let error = enroll(&site.layout(), &World::system(), site.joining(wrong))
        .await
        .unwrap_err();
    assert!(format!("{error:#}").contains("fingerprint"), "{error:#}");
    assert!(!site.layout().trust().exists());
    let mut joining = site.joining(Anchor::Fingerprint(right));
    joining.again = true;
    enroll(&site.layout(), &World::system(), joining).await.unwrap();
    assert!(site.layout().trust().exists());
}

#[tokio::test]
async fn a_certificate_past_two_thirds_of_its_life_is_renewed() {
    let site = Site::new().await;
    *site.manager.device_life.lock().unwrap() = 600;
    site.enrolled().await;
    let before = std::fs::read(site.layout().chain()).unwrap();
    let agent = site.agent().await;
    wait_for("a new certificate", || {
        (std::fs::read(site.layout().chain()).unwrap() != before).then_some(())
    })
    .await;
    let first = script("1.0.0", 1);
    site.publish(&first, &good("1.0.0"), None);
    site.ends_with(&first, Outcome::Committed).await;
    agent.stop().await;
}

#[tokio::test]
async fn a_device_that_was_off_while_its_certificate_ran_out_gets_a_new_one() {
    let site = Site::new().await;
    *site.manager.device_life.lock().unwrap() = -40 * 86_400;
    site.enrolled().await;
    let before = std::fs::read(site.layout().chain()).unwrap();
    let key = std::fs::read(site.layout().key()).unwrap();
    let agent = site.agent().await;
    wait_for("a new certificate", || {
        (std::fs::read(site.layout().chain()).unwrap() != before).then_some(())
    })
    .await;
    let first = script("1.0.0", 1);
    site.publish(&first, &good("1.0.0"), None);
    site.ends_with(&first, Outcome::Committed).await;
    assert_eq!(site.manager.late.lock().unwrap().len(), 1);
    assert_eq!(
        std::fs::read(site.layout().key()).unwrap(),
        key,
        "the key stays: it is what the device is known by"
    );
    agent.stop().await;
}

#[tokio::test]
async fn a_manager_whose_clock_was_ahead_does_not_end_the_usual_renewal() {
    let site = Site::new().await;
    *site.manager.device_life.lock().unwrap() = 600;
    site.enrolled().await;
    // As an earlier version wrote it: a certificate that has run out cannot be renewed.
    site.settings(|settings| settings.joining = None);
    let before = std::fs::read(site.layout().chain()).unwrap();
    site.manager.clock.0.store(86_400, Ordering::Relaxed);
    let agent = site.agent().await;
    wait_for("the manager's refusal", || {
        let problem = agent.hub.link.with(|link| link.problem.clone());
        problem.contains("our certificate has expired").then_some(())
    })
    .await;
    site.manager.clock.0.store(0, Ordering::Relaxed);
    wait_for("a new certificate", || {
        (std::fs::read(site.layout().chain()).unwrap() != before).then_some(())
    })
    .await;
    assert!(site.manager.late.lock().unwrap().is_empty());
    agent.stop().await;
}

#[tokio::test]
async fn another_authors_root_is_refused_before_the_code_is_used() {
    let site = Site::new().await;
    let layout = site.enrolled().await;
    let key = std::fs::read(layout.key()).unwrap();
    let other = site.dir.path().join("other.json");
    std::fs::write(&other, crate::repository::Repository::new().root).unwrap();
    let again = |anchor| device::enroll::Joining {
        again: true,
        ..site.joining(anchor)
    };
    for anchor in [
        Anchor::File(other.clone()),
        Anchor::Fingerprint(Digest::of(b"other")),
    ] {
        let error = enroll(&layout, &World::system(), again(anchor))
            .await
            .unwrap_err();
        assert!(format!("{error:#}").contains("another author"), "{error:#}");
        assert_eq!(
            std::fs::read(layout.key()).unwrap(),
            key,
            "the identity is as it was"
        );
    }
    // The same author's is accepted, and the way out that is named works.
    enroll(&layout, &World::system(), again(Anchor::File(site.root_file())))
        .await
        .unwrap();
    assert_ne!(std::fs::read(layout.key()).unwrap(), key);
    std::fs::remove_dir_all(layout.trust()).unwrap();
    enroll(&layout, &World::system(), again(Anchor::File(other)))
        .await
        .unwrap();
}

/// What an operator has it do after a quarantine. The newest report of before is still on the disk, since it holds the
/// counter; another one waits there.
#[tokio::test]
async fn a_device_that_enrols_anew_goes_on_reporting() {
    let site = Site::new().await;
    let (agent, first) = site.with_first_version().await;
    agent.stop().await;
    let made = site
        .manager
        .reports
        .lock()
        .unwrap()
        .iter()
        .map(|report| report.counter)
        .max();
    site.manager.reports.lock().unwrap().clear();
    let again = device::enroll::Joining {
        again: true,
        ..site.joining(Anchor::File(site.root_file()))
    };
    enroll(&site.layout(), &World::system(), again).await.unwrap();
    let agent = site.agent().await;
    let second = script("1.1.0", 2);
    site.publish(&second, &good("1.1.0"), Some("1.0.0"));
    let report = site.ends_with(&second, Outcome::Committed).await;
    assert!(Some(report.counter) > made, "it goes on counting");
    // Signed by the key it has now, the one of before counts for the manager as well.
    site.ends_with(&first, Outcome::Committed).await;
    agent.stop().await;
}

#[tokio::test]
async fn settings_that_cannot_be_read_are_told_before_the_code_is_used() {
    let site = Site::new().await;
    let layout = site.enrolled().await;
    let key = std::fs::read(layout.key()).unwrap();
    let joining = || device::enroll::Joining {
        again: true,
        ..site.joining(Anchor::File(site.root_file()))
    };
    for damaged in ["", "manager = ", "\u{1}"] {
        std::fs::write(layout.settings(), damaged).unwrap();
        let error = enroll(&layout, &World::system(), joining()).await.unwrap_err();
        assert!(
            error.to_string().starts_with("nothing was sent: put "),
            "{error:#}"
        );
        assert_eq!(
            std::fs::read(layout.key()).unwrap(),
            key,
            "the identity is as it was"
        );
    }
    // The way out that is named works.
    std::fs::remove_file(layout.settings()).unwrap();
    enroll(&layout, &World::system(), joining()).await.unwrap();
    assert_ne!(std::fs::read(layout.key()).unwrap(), key);
    site.agent().await.stop().await;
}

#[tokio::test]
async fn trusting_the_gateway_does_not_keep_another_trust_in_silence() {
    let site = Site::new().await;
    let layout = site.enrolled().await;
    let key = std::fs::read(layout.key()).unwrap();
    let again = || device::enroll::Joining {
        again: true,
        ..site.joining(Anchor::DangerTrustGateway)
    };
    let error = enroll(&layout, &World::system(), again())
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("--danger-trust-gateway does not replace"),
        "{error}"
    );
    assert!(error.contains(&layout.trust().display().to_string()), "{error}");
    assert_eq!(
        std::fs::read(layout.key()).unwrap(),
        key,
        "the identity is as it was"
    );
    // The way out that is named works.
    std::fs::remove_dir_all(layout.trust()).unwrap();
    enroll(&layout, &World::system(), again()).await.unwrap();
    assert!(layout.trust().exists());
}
