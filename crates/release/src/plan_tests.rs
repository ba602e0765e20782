//! The thirteen worked examples of "Prepare to Die" (R-003-31 to R-003-43), each with the paper's answer, and what comes on
//! top of them. Each example is written as its author would write it, in `update.toml`.

use super::*;
use crate::manifest::Manifest;

fn nature(lines: &str) -> Nature {
    let text = format!(
        "format = 1\ncomponent = \"fs\"\nversion = \"2.0.0\"\n[run]\nhow = \"exec\"\nprogram = \"fs\"\n[nature]\n{lines}"
    );
    Manifest::parse(&text).unwrap().nature.unwrap()
}

fn unit(name: &str, most: Stillness, names: &[&str]) -> Unit {
    Unit {
        component: name.parse().unwrap(),
        cooperates: Some(Rest {
            most,
            names: names.iter().map(|name| (*name).to_owned()).collect(),
        }),
    }
}

fn unaware(name: &str) -> Unit {
    Unit {
        component: name.parse().unwrap(),
        cooperates: None,
    }
}

/// A file server that can come to rest in every way and hand over, on a device with all it needs.
fn ready() -> Facts {
    Facts {
        running: vec![unit("fs", Stillness::Data, &["write", "checksum", "exec"])],
        takes_over: true,
        recovery: true,
        room_bytes: Some(1 << 30),
        spare_bytes: Some(1 << 30),
        ..Facts::default()
    }
}

/// What the plan says: how, at which stillness, whether state is carried over.
fn said(plan: &Plan) -> (Answer, Option<Stillness>, bool) {
    assert!(!plan.reasons.is_empty(), "{plan:?}");
    (plan.answer, plan.stillness, plan.carries)
}

/// R-003-31: one structural unit (bug fix `i<j` to `i<=j`): replaced when it processes no message; state only if data change.
#[test]
fn example_1_a_bug_fix_of_one_unit() {
    let nature = nature("category = \"unit\"\nstillness = \"unit\"");
    let plan = plan(Some(&nature), &ready());
    assert_eq!(said(&plan), (Answer::Live, Some(Stillness::Unit), false));
}

/// R-003-32: buffered to unbuffered writes: unit-level atomicity forces a flush, protocol-level atomicity needs none.
#[test]
fn example_2_unbuffered_writes_need_no_flush_between_exchanges() {
    let nature =
        nature("category = \"unit\"\nstillness = \"unit\"\ntransfer = \"needed\"\nfree_at = \"protocol\"");
    let calm = plan(Some(&nature), &ready());
    assert_eq!(said(&calm), (Answer::Live, Some(Stillness::Protocol), false));
    let mut busy = ready();
    busy.running = vec![unit("fs", Stillness::Unit, &[])];
    let flushed = plan(Some(&nature), &busy);
    assert_eq!(said(&flushed), (Answer::Live, Some(Stillness::Unit), true));
}

/// R-003-33: statistics of how long write() takes: mid-protocol no transfer is possible; protocol-level atomicity makes it
/// simple; or accept imprecision.
#[test]
fn example_3_statistics_wait_for_the_exchange_or_are_imprecise() {
    let strict = nature(
        "category = \"unit\"\nstillness = \"unit\"\ntransfer = \"impossible\"\nfree_at = \"protocol\"",
    );
    let between = plan(Some(&strict), &ready());
    assert_eq!(said(&between), (Answer::Live, Some(Stillness::Protocol), false));
    let mut busy = ready();
    busy.running = vec![unit("fs", Stillness::Unit, &[])];
    assert_eq!(plan(Some(&strict), &busy).answer, Answer::Restart);
    let near = nature("category = \"unit\"\nstillness = \"unit\"\ntransfer = \"imprecise\"");
    assert_eq!(
        said(&plan(Some(&near), &busy)),
        (Answer::Live, Some(Stillness::Unit), true)
    );
}

/// R-003-34: a protocol (block number 32 to 48 bit): replace all affected units when the protocol is not in progress.
#[test]
fn example_4_a_protocol_is_replaced_in_all_units_at_once() {
    let nature = nature("category = \"protocol\"\nstillness = \"protocol\"");
    let mut facts = ready();
    facts.running.push(unit("driver", Stillness::Protocol, &[]));
    let all = plan(Some(&nature), &facts);
    assert_eq!(said(&all), (Answer::Live, Some(Stillness::Protocol), false));
    // One that does not take part, and no old unit may meet a new one.
    facts.running.push(unaware("cache"));
    let plan = plan(Some(&nature), &facts);
    assert_eq!(plan.answer, Answer::Restart);
    assert!(plan.reasons.concat().contains("cache"), "{plan:?}");
}

/// R-003-35: a nested protocol (a checksum helper): idle at both the inner and the enclosing service protocol.
#[test]
fn example_5_a_nested_protocol_is_at_rest_with_the_one_around_it() {
    let nature =
        nature("category = \"protocol\"\nstillness = \"protocol\"\nidle = [\"write\", \"checksum\"]");
    let both = plan(Some(&nature), &ready());
    assert_eq!(said(&both), (Answer::Live, Some(Stillness::Protocol), false));
    assert!(both.reasons.concat().contains("write, checksum"), "{both:?}");
    let mut inner_only = ready();
    inner_only.running = vec![unit("fs", Stillness::Data, &["checksum"])];
    let plan = plan(Some(&nature), &inner_only);
    assert_eq!(plan.answer, Answer::Restart);
    assert!(plan.reasons.concat().contains("write"), "{plan:?}");
}

/// R-003-36: global data (process ids 16 to 32 bit): replace all affected units when none actively accesses the data.
#[test]
fn example_6_shared_data_are_replaced_when_nobody_uses_them() {
    let nature = nature("category = \"data\"\nstillness = \"data\"\ntransfer = \"needed\"");
    let mut facts = ready();
    facts.running.push(unit("pm", Stillness::Data, &[]));
    assert_eq!(
        said(&plan(Some(&nature), &facts)),
        (Answer::Live, Some(Stillness::Data), true)
    );
    facts.running.push(unit("sched", Stillness::Protocol, &[]));
    assert_eq!(plan(Some(&nature), &facts).answer, Answer::Restart);
}

/// R-003-37: new error codes while exec() is in progress: no valid transfer; wait until the call is not in progress.
#[test]
fn example_7_error_codes_wait_for_the_call() {
    let nature = nature("category = \"data\"\nstillness = \"data\"\nidle = [\"exec\"]");
    let plan = plan(Some(&nature), &ready());
    assert_eq!(said(&plan), (Answer::Live, Some(Stillness::Data), false));
    assert!(plan.reasons.concat().contains("exec"), "{plan:?}");
}

/// R-003-38: a usage counter moves from open() to the first read or write: with no file open no transfer; else decrement per
/// never-accessed open file; information missing: impossible live.
#[test]
fn example_8_a_counter_that_moves_needs_what_only_the_old_version_may_know() {
    let told = nature(
        "category = \"algorithm\"\nstillness = \"protocol\"\ntransfer = \"needed\"\nfree_at = \"data\"",
    );
    let none_open = plan(Some(&told), &ready());
    assert_eq!(said(&none_open), (Answer::Live, Some(Stillness::Data), false));
    let mut files_open = ready();
    files_open.running = vec![unit("fs", Stillness::Protocol, &[])];
    let decremented = plan(Some(&told), &files_open);
    assert_eq!(
        said(&decremented),
        (Answer::Live, Some(Stillness::Protocol), true)
    );
    let untold = nature(
        "category = \"algorithm\"\nstillness = \"protocol\"\ntransfer = \"impossible\"\nfree_at = \"data\"",
    );
    assert_eq!(plan(Some(&untold), &files_open).answer, Answer::Restart);
}

/// R-003-39: a random number generator whose sequence is relied on: only a conventional reboot is reliable.
#[test]
fn example_9_a_sequence_that_is_relied_on_takes_a_reboot() {
    let nature = nature("category = \"algorithm\"\nstillness = \"reboot\"");
    let plan = plan(Some(&nature), &ready());
    assert_eq!(said(&plan), (Answer::Restart, Some(Stillness::Reboot), false));
}

/// R-003-40: data on disk: units not accessing; a transfer function converts; time grows with size.
#[test]
fn example_10_data_on_disk_are_converted_and_take_their_time() {
    let nature = nature("category = \"disk\"\nstillness = \"data\"\ntransfer = \"needed\"");
    let of = |state_bytes| {
        let facts = Facts {
            state_bytes,
            ..ready()
        };
        plan(Some(&nature), &facts)
    };
    let (small, large) = (of(1 << 20), of(1 << 28));
    assert_eq!(said(&small), (Answer::Live, Some(Stillness::Data), true));
    assert_eq!(large.answer, Answer::Live);
    let pause = |plan: &Plan| plan.pause.unwrap().expected_ms;
    assert!(pause(&large) > 100 * pause(&small), "{small:?} {large:?}");
}

/// R-003-41: a file system with a spare partition: copy, copy again what changed until done; live, though slow.
#[test]
fn example_11_a_spare_partition_keeps_a_file_system_alive() {
    let nature = nature("category = \"disk\"\nstillness = \"data\"\ntransfer = \"needed\"\ncatch_up = true");
    let mut facts = Facts {
        state_bytes: 1 << 28,
        ..ready()
    };
    let copied = plan(Some(&nature), &facts);
    assert_eq!(said(&copied), (Answer::Live, Some(Stillness::Data), true));
    assert_eq!(copied.pause.unwrap().expected_ms, limits::LIVE_PAUSE_MS);
    facts.spare_bytes = Some(1 << 20);
    assert_eq!(plan(Some(&nature), &facts).answer, Answer::Restart);
}

/// R-003-42: a count of accesses since creation: neither live nor reboot can do it.
#[test]
fn example_12_what_nobody_counted_cannot_be_brought_back() {
    let nature =
        nature("category = \"disk\"\nstillness = \"data\"\nnever_kept = \"the accesses since creation\"");
    for facts in [ready(), Facts::default()] {
        let plan = plan(Some(&nature), &facts);
        assert_eq!(said(&plan), (Answer::Impossible, None, false));
        assert!(
            plan.reasons.concat().contains("the accesses since creation"),
            "{plan:?}"
        );
    }
}

/// R-003-43: hardware requirements (memory 512 MB to 1 GB): only if the hardware already matches; else buy and reboot.
#[test]
fn example_13_hardware_matches_or_somebody_buys_it() {
    let nature = nature("category = \"hardware\"\nstillness = \"unit\"");
    assert_eq!(plan(Some(&nature), &ready()).answer, Answer::Live);
    let facts = Facts {
        lacks: Some("it requires 1073741824 bytes of memory, there are 536870912".to_owned()),
        ..ready()
    };
    let plan = plan(Some(&nature), &facts);
    assert_eq!(said(&plan), (Answer::NeedsPerson, None, false));
    assert!(plan.reasons.concat().contains("1073741824"), "{plan:?}");
}

/// R-003-24: tainted by latent errors, an update must not happen unless a recovery mechanism is available.
#[test]
fn a_tainted_device_needs_a_way_back_or_a_person() {
    let nature = nature("category = \"unit\"\nstillness = \"unit\"");
    let mut facts = Facts {
        tainted: vec!["bin/fs was changed".to_owned()],
        ..ready()
    };
    let back = plan(Some(&nature), &facts);
    assert_eq!(said(&back), (Answer::Restart, Some(Stillness::System), false));
    facts.recovery = false;
    let stuck = plan(Some(&nature), &facts);
    assert_eq!(stuck.answer, Answer::NeedsPerson);
    assert!(stuck.reasons.concat().contains("bin/fs was changed"), "{stuck:?}");
}

/// R-003-45, 49: possible is not always worth it, and no moment is safe by itself.
#[test]
fn a_restart_is_planned_where_live_costs_more_or_nobody_said_what_changes() {
    let carried = nature("category = \"data\"\nstillness = \"data\"\ntransfer = \"needed\"");
    let base = || Facts {
        state_bytes: 100_000_000,
        ..ready()
    };
    let long = plan(Some(&carried), &base());
    assert_eq!(long.answer, Answer::Restart, "{long:?}");
    let learnt = Facts {
        live_ms: vec![40, 7, 9],
        restart_ms: vec![900],
        ..base()
    };
    let short = plan(Some(&carried), &learnt);
    assert_eq!(short.answer, Answer::Live);
    let pause = Pause {
        expected_ms: 9,
        measured: 3,
    };
    assert_eq!(short.pause, Some(pause));
    let tight = Facts {
        room_bytes: Some(1000),
        ..learnt
    };
    assert_eq!(plan(Some(&carried), &tight).answer, Answer::Restart);
    for (nature, facts) in [
        (None, ready()),
        (Some(&carried), Facts::default()),
        (
            Some(&carried),
            Facts {
                takes_over: false,
                ..ready()
            },
        ),
        (
            Some(&carried),
            Facts {
                must_stop: Some("its data on disk are saved while neither version runs".to_owned()),
                ..ready()
            },
        ),
    ] {
        assert_eq!(plan(nature, &facts).answer, Answer::Restart, "{facts:?}");
    }
}

#[test]
fn a_nature_that_contradicts_itself_is_refused_where_it_stands() {
    for (lines, line, words) in [
        (
            "category = \"unit\"\nstillness = \"none\"\ntransfer = \"needed\"",
            10,
            "at rest",
        ),
        (
            "category = \"unit\"\nstillness = \"data\"\ntransfer = \"needed\"\nfree_at = \"unit\"",
            11,
            "more than",
        ),
        (
            "category = \"unit\"\nstillness = \"unit\"\nfree_at = \"data\"",
            10,
            "anyway",
        ),
        (
            "category = \"unit\"\nstillness = \"unit\"\ncatch_up = true",
            10,
            "disk",
        ),
        (
            "category = \"disk\"\nstillness = \"unit\"\ncatch_up = \"yes\"",
            10,
            "true or false",
        ),
        (
            "category = \"unit\"\nstillness = \"unit\"\nidle = [\"a b\"]",
            10,
            "blanks",
        ),
        (
            "category = \"unit\"\nstillness = \"unit\"\ntransfer = \"some\"",
            10,
            "imprecise",
        ),
        ("stillness = \"unit\"\ntransferr = \"none\"", 9, "did you mean"),
    ] {
        let text = format!(
            "format = 1\ncomponent = \"fs\"\nversion = \"2.0.0\"\n[run]\nhow = \"exec\"\nprogram = \"fs\"\n[nature]\n{lines}"
        );
        let faults = Manifest::parse(&text).unwrap_err().faults;
        let found = faults
            .iter()
            .any(|fault| fault.line == line && fault.message.contains(words));
        assert!(found, "{lines}: {faults:?}");
    }
}

/// What an older author signed, and what a newer one will.
#[test]
fn a_nature_of_two_words_is_still_one() {
    let old: Nature = serde_json::from_str(r#"{"category":"unit","stillness":"unit"}"#).unwrap();
    assert_eq!(old, Nature::plain(Category::Unit, Stillness::Unit));
    let back = serde_json::to_string(&old).unwrap();
    assert_eq!(back, r#"{"category":"unit","stillness":"unit"}"#);
    let newer = r#"{"category":"unit","stillness":"unit","colour":"red"}"#;
    assert_eq!(serde_json::from_str::<Nature>(newer).unwrap(), old);
}
