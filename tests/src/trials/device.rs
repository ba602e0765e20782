//! A device, with a stolen gateway in front of it.

use protocol::device::Order;
use protocol::{Outcome, Report};
use release::Release;

use super::files::{BEFORE, RUNS, Series, TAMPERINGS, input, own, packed};
use super::metadata::{ATTACKS, Maker};
use super::{Plan, Row, Verdict};
use crate::draws::Draws;
use crate::forge::{Listed, Set};
use crate::packages::app;
use crate::{Agent, Rogue, Site, SiteOptions};

/// Who is tried here.
const AT: &str = "device";

struct Session {
    site: Site,
    agent: Agent,
    rogue: Rogue,
    series: Series,
    bytes: Vec<u8>,
    runs: String,
}

impl Session {
    async fn start() -> Self {
        let work = tempfile::tempdir().expect("a folder");
        let mut site = Site::running(SiteOptions {
            poll_seconds: 3600,
            ..SiteOptions::default()
        })
        .await;
        let mut agent = site.enroll("north").await;
        agent.start().await;
        let steps = agent.watch();
        for version in [BEFORE, RUNS] {
            let published = site.release(&app(work.path(), version)).await;
            let (outcome, reason) = steps.outcome("north", published.update).await;
            assert_eq!(outcome, Outcome::Committed, "{reason:?}");
        }
        let series = Series::of(&site);
        site.stop_manager().await;
        let rogue = Rogue::manager(&site).await;
        Self {
            site,
            agent,
            rogue,
            series,
            bytes: packed("2.0.0").await,
            runs: RUNS.to_owned(),
        }
    }

    /// Puts metadata on the shelf, orders, and waits for the device's report.
    async fn order(&mut self, set: &Set, order: &Order) -> Verdict {
        self.rogue.forget();
        self.rogue.remove("/v1/metadata/2.root.json");
        self.rogue.metadata(set);
        self.rogue.order(order);
        let report = self
            .rogue
            .wait_report("outcome", |report: &Report| {
                report.update == Some(order.update) && report.outcome.is_some()
            })
            .await;
        match report.outcome {
            Some(Outcome::Committed) => Verdict::Accepted,
            _ => Verdict::Refused(report.reason.unwrap_or_default()),
        }
    }

    fn order_of(&self, listed: &Listed) -> Order {
        listed.order(Some(&self.runs))
    }
}

pub(super) async fn run(plan: Plan, take: &mut impl FnMut(Row)) {
    let mut session = Session::start().await;
    let mut draws = Draws(plan.seed ^ 1);
    let before = session.agent.processes("app");
    let bytes = session.bytes.clone();
    let next = session.series.next(&bytes, |_| {});
    for attack in ATTACKS {
        let mut row = Row::wrong(
            attack.id,
            attack.what,
            AT,
            gateway(attack.attacker),
            attack.wanted,
        );
        for number in 0..plan.trials {
            let maker = Maker {
                forge: &session.series.forge,
                next: &next,
            };
            let set = attack.set(&maker, &mut draws, number);
            let mut order = session.order_of(&next);
            order.update = session.series.another_update();
            let verdict = session.order(&set, &order).await;
            row.note(input(&set, b"", Some(&order)), verdict);
            session.series.forge.version += 1;
        }
        assert_eq!(
            session.agent.processes("app"),
            before,
            "{}: what runs was touched",
            attack.what
        );
        take(row);
    }
    orders(plan, &mut session, &mut draws, take).await;
    files(plan, &mut session, &mut draws, take).await;
    hostile(plan, &mut session, &mut draws, take).await;
    assert_eq!(session.agent.processes("app"), before, "what runs was touched");
    right(plan, &mut session, take).await;
    session.agent.stop().await;
    drop(session.site);
}

fn gateway(attacker: &'static str) -> &'static str {
    if attacker == "server" { "gateway" } else { attacker }
}

/// The release that ran before the one that runs, with its name.
fn replaced(series: &Series) -> (String, Release) {
    let described = |(name, target): (String, tuf::schema::TargetFile)| {
        let release = Release::from_custom(target.custom.as_ref()?).ok()?;
        Some((name, release))
    };
    let mut listed = series.forge.listed().into_iter().filter_map(described);
    listed
        .find(|(_, release)| release.version.to_string() == BEFORE)
        .expect("it is still listed")
}

/// What an order may not ask for, whoever gives it.
async fn orders(plan: Plan, session: &mut Session, draws: &mut Draws, take: &mut impl FnMut(Row)) {
    let bytes = session.bytes.clone();
    let model = session.series.forge.model.as_ref().expect("a release");
    let counter = model.counter;
    let (old_name, old) = replaced(&session.series);

    let mut row = Row::wrong(
        "A7",
        "an order for what has been replaced",
        AT,
        "gateway",
        &["is below"],
    );
    for _ in 0..plan.trials {
        let below = draws.number() % counter.max(1);
        let listed = session.series.next(&bytes, |release| release.counter = below);
        let set = session.series.set(&listed);
        let order = session.order_of(&listed);
        let verdict = session.order(&set, &order).await;
        row.note(input(&set, b"", Some(&order)), verdict);
    }
    take(row);

    let mut row = Row::wrong(
        "A12",
        "an order for a name that nobody signed",
        AT,
        "gateway",
        &["is not in the verified metadata"],
    );
    let listed = session.series.next(&bytes, |_| {});
    let set = session.series.set(&listed);
    for _ in 0..plan.trials {
        let mut order = session.order_of(&listed);
        order.update = session.series.another_update();
        let number = draws.below(1 << 30);
        order.version = format!("9.{number}.0").parse().expect("a version");
        order.target = format!("app/9.{number}.0/app.tar").parse().expect("a path");
        let verdict = session.order(&set, &order).await;
        row.note(input(&set, b"", Some(&order)), verdict);
    }
    take(row);

    let mut row = Row::wrong(
        "A12",
        "an order that gives a signed file another version",
        AT,
        "gateway",
        &["names the target"],
    );
    for number in 0..plan.trials {
        let mut order = session.order_of(&listed);
        order.update = session.series.another_update();
        order.version = format!("9.{number}.0").parse().expect("a version");
        let verdict = session.order(&set, &order).await;
        row.note(input(&set, b"", Some(&order)), verdict);
    }
    take(row);

    let mut row = Row::wrong(
        "replay",
        "an order made for another state",
        AT,
        "gateway",
        &["to run, but", "which has been committed here"],
    );
    for number in 0..plan.trials {
        let mut order = session.order_of(&listed);
        order.update = session.series.another_update();
        order.expects = Some(format!("0.{number}.0").parse().expect("a version"));
        if number % 2 == 1 {
            // What the author has signed once and the device has run.
            order.update = old.update_id.parse().expect("an id");
            order.version = old.version.clone();
            order.target = old_name.parse().expect("a path");
        }
        let verdict = session.order(&set, &order).await;
        row.note(input(&set, b"", Some(&order)), verdict);
    }
    take(row);

    let mut row = Row::wrong(
        "wrong",
        "a release for other hardware",
        AT,
        "gateway",
        &["it is for hardware", "it is built for"],
    );
    for number in 0..plan.trials {
        let name = format!("plc-{}", draws.hex(8));
        let listed = session.series.next(&bytes, |release| {
            if number % 2 == 0 {
                release.hardware = vec![name];
            } else {
                release.arch = Some(release::Arch::Armv7);
            }
        });
        let set = session.series.set(&listed);
        let order = session.order_of(&listed);
        let verdict = session.order(&set, &order).await;
        row.note(input(&set, b"", Some(&order)), verdict);
    }
    take(row);
}

async fn files(plan: Plan, session: &mut Session, draws: &mut Draws, take: &mut impl FnMut(Row)) {
    let bytes = session.bytes.clone();
    for tampering in TAMPERINGS {
        let mut row = Row::wrong(tampering.id, tampering.what, AT, "gateway", tampering.wanted);
        for number in 0..plan.trials {
            let own = own(&bytes, number);
            let served = tampering.of(&own, draws);
            let _ = carried(session, &own, &served, &mut row).await;
        }
        take(row);
    }
}

/// Lists a release with the file `signed`, serves `served`, and notes what comes of it.
async fn carried(session: &mut Session, signed: &[u8], served: &[u8], row: &mut Row) -> Listed {
    let listed = session.series.next(signed, |_| {});
    let path = format!("/v1/targets/{}", listed.digest);
    session.rogue.put_bytes(&path, served.to_vec());
    let set = session.series.set(&listed);
    let order = session.order_of(&listed);
    let verdict = session.order(&set, &order).await;
    session.rogue.remove(&path);
    row.note(input(&set, served, Some(&order)), verdict);
    listed
}

/// A11: the author's own key has signed a package that wants out of its folder.
async fn hostile(plan: Plan, session: &mut Session, draws: &mut Draws, take: &mut impl FnMut(Row)) {
    let bytes = session.bytes.clone();
    let wanted = &["payload", "link", "package", "path", "absolute", "..", "ustar"];
    let mut row = Row::wrong(
        "A11",
        "a package with a path that leads out",
        AT,
        "author's desk",
        wanted,
    );
    let outside = session.agent.dir.join("evil");
    for number in 0..plan.trials {
        let evil = climbing(&bytes, &outside.display().to_string(), draws, number);
        let _ = carried(session, &evil, &evil, &mut row).await;
        assert!(!outside.exists(), "it has written outside");
    }
    take(row);
}

/// The package with one entry more in front, which leads out in one of several ways.
fn climbing(bytes: &[u8], outside: &str, draws: &mut Draws, number: usize) -> Vec<u8> {
    let up = "../".repeat(1 + draws.below(8));
    let tag = draws.hex(8);
    let (name, kind, link) = match number % 6 {
        0 => (format!("payload/{up}evil"), b'0', String::new()),
        1 => (outside.to_owned(), b'0', String::new()),
        2 => (format!("payload/{tag}"), b'2', format!("{up}{tag}")),
        3 => (format!("payload/{tag}"), b'1', format!("{up}etc/passwd")),
        4 => (format!("payload/{tag}/./{up}evil"), b'0', String::new()),
        _ => (format!("payload/{tag}"), b"346"[draws.below(3)], String::new()),
    };
    let mut header = [0_u8; 512];
    let put =
        |header: &mut [u8; 512], at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
    let name = name.as_bytes();
    put(&mut header, 0, &name[..name.len().min(100)]);
    put(&mut header, 100, b"0000755\0");
    put(&mut header, 108, b"0000000\0");
    put(&mut header, 116, b"0000000\0");
    put(&mut header, 124, b"00000000000\0");
    put(&mut header, 136, b"00000000000\0");
    header[156] = kind;
    put(&mut header, 157, &link.as_bytes()[..link.len().min(100)]);
    put(&mut header, 257, b"ustar\x0000");
    put(&mut header, 148, b"        ");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    put(&mut header, 148, format!("{sum:06o}\0 ").as_bytes());
    // Behind the description and in front of the rest: where the first entry ends.
    let size = std::str::from_utf8(&bytes[124..135])
        .ok()
        .and_then(|text| usize::from_str_radix(text, 8).ok());
    let first = 512 + size.unwrap_or(0).div_ceil(512) * 512;
    let mut out = bytes[..first].to_vec();
    out.extend_from_slice(&header);
    out.extend_from_slice(&bytes[first..]);
    out
}

/// Releases without a flaw, each installed over the one before it.
async fn right(plan: Plan, session: &mut Session, take: &mut impl FnMut(Row)) {
    let mut row = Row::right("6.4", "uncorrupted files, installed one after the other", AT);
    for number in 0..plan.trials {
        let bytes = own(&session.bytes, number);
        let listed = carried(session, &bytes, &bytes, &mut row).await;
        session.runs = listed.release.version.to_string();
    }
    take(row);
}
