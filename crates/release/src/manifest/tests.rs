//! What is a manifest, and what is said of one that is none.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::nature::{Category, Nature, Stillness};
use crate::policy::{Otherwise, Tainted, Urgency};
use crate::run::How;

const SMALL: &str = "format = 1\ncomponent = \"thermostat\"\nversion = \"1.2\"\n\n[run]\nhow = \"exec\"\nprogram = \"thermostat\"\n";

/// The text in the documentation: every field there is.
fn full() -> String {
    let doc: Vec<&str> = include_str!("mod.rs")
        .lines()
        .map_while(|line| line.strip_prefix("//!"))
        .map(|line| line.strip_prefix(' ').unwrap_or(line))
        .collect();
    let doc = doc.join("\n");
    doc.split("```")
        .nth(1)
        .unwrap()
        .strip_prefix("toml\n")
        .unwrap()
        .to_owned()
}

#[test]
fn the_smallest_manifest_has_good_defaults() {
    let manifest = Manifest::parse(SMALL).unwrap();
    let run = Run::plain(How::Exec, "thermostat".parse().unwrap());
    assert_eq!(
        manifest,
        Manifest::new("thermostat".parse().unwrap(), "1.2.0".parse().unwrap(), run)
    );
}

#[test]
fn the_manifest_in_the_documentation_is_one() {
    let manifest = Manifest::parse(&full()).unwrap();
    assert_eq!(manifest.requires.disk_bytes, Some(10_000_000));
    assert_eq!(manifest.run.as_ref().unwrap().env["MODE"], "heat");
    let broker = "broker".parse().unwrap();
    assert!(manifest.requires.components[&broker].matches(&semver::Version::new(2, 9, 0)));
    let state = manifest.state.as_ref().unwrap();
    assert_eq!(state.readable(), "1, 2, 3");
    assert_eq!(state.transformer().unwrap().0.as_str(), "migrate");
    assert_eq!(
        manifest.policy.to_string(),
        "10 days after its release, only mon,tue,wed,thu,fri 22:00-04:00, sat,sun 00:00-24:00, load below 50 %, \
         power above 30 %, in depot, interlock door-open not set, after 720 h ask a person"
    );
    assert_eq!(signed(&manifest).counter, 3);
}

#[test]
fn what_a_module_installs_needs_no_program() {
    let text = "format = 1\ncomponent = \"base\"\nversion = \"1.2\"\nkind = \"module:deb\"\n";
    let manifest = Manifest::parse(text).unwrap();
    assert_eq!(manifest.kind.module().unwrap().as_str(), "deb");
    assert!(manifest.run.is_none() && signed(&manifest).run.is_none());
    for table in [
        "[run]\nhow = \"exec\"\nprogram = \"x\"",
        "[health]\nalive_seconds = 1",
        "[state]\nto = 1",
    ] {
        let error = Manifest::parse(&format!("{text}{table}\n")).unwrap_err();
        assert_eq!(error.faults.len(), 1, "{error}");
        assert_eq!(error.faults[0].line, 5);
        assert!(error.faults[0].message.contains("is for applications"), "{error}");
    }
}

#[test]
fn a_live_release_says_what_it_hands_over() {
    let text = "format = 1\ncomponent = \"counter\"\nversion = \"2\"\nkind = \"live\"\n";
    let run = "[run]\nhow = \"exec\"\nprogram = \"counter\"\n";
    let live = "[live]\nschema = 2\nfrom = [1]\nback = [1]\ntransform = [\"change\"]\nstill_seconds = 2\n";
    let manifest = Manifest::parse(&format!("{text}{run}{live}")).unwrap();
    let signed = signed(&manifest).live.unwrap();
    assert_eq!(
        (signed.schema, signed.ready_seconds, signed.still_seconds),
        (2, 10, 2)
    );
    assert_eq!(signed.transformer().unwrap().0.as_str(), "change");
    assert!(
        Manifest::parse(&format!("{text}{run}")).unwrap().live.is_none(),
        "schema 0"
    );
    let app = text.replace("live", "app");
    let error = Manifest::parse(&format!("{app}{run}{live}"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("[live] is for kind = \"live\""), "{error}");
    let error = Manifest::parse(&format!("{text}{run}[live]\nschema = 2\nback = [1]\n"))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("line 10, column 8: `back`: there is no program"),
        "{error}"
    );
}

#[test]
fn an_agent_is_a_program_and_nothing_that_its_launcher_decides() {
    let text = "format = 1\ncomponent = \"drover-agent\"\nversion = \"0.2\"\nkind = \"agent\"\n";
    let run = "[run]\nhow = \"exec\"\nprogram = \"device\"\n";
    let manifest = Manifest::parse(&format!("{text}{run}[health]\nprobation_seconds = 60\n")).unwrap();
    assert_eq!(
        (manifest.kind.clone(), manifest.probation_seconds),
        (Kind::Agent, 60)
    );
    assert_eq!(signed(&manifest).kind, Kind::Agent);
    for (bad, says) in [
        ("", "[run] is missing"),
        (
            "[run]\nhow = \"python\"\nprogram = \"device\"\n",
            "how = \"exec\"",
        ),
        (
            "[run]\nhow = \"exec\"\nprogram = \"device\"\nargs = [\"-v\"]\n",
            "from its launcher",
        ),
        (
            "[run]\nhow = \"exec\"\nprogram = \"device\"\n[state]\nto = 1\n",
            "[state] is for applications",
        ),
        (
            "[run]\nhow = \"exec\"\nprogram = \"device\"\n[health]\nalive_seconds = 1\n",
            "`alive_seconds` is for applications",
        ),
    ] {
        let error = Manifest::parse(&format!("{text}{bad}")).unwrap_err();
        assert_eq!(error.faults.len(), 1, "{error}");
        assert!(error.faults[0].message.contains(says), "{error}");
    }
}

/// The description that a device will read.
fn signed(manifest: &Manifest) -> Release {
    let released = UnixTime(1_790_000_000);
    let release = manifest.release("0".repeat(32), 3, Form::Package, "t.tar".to_owned(), released);
    let read = Release::from_custom(&release.to_custom().unwrap()).unwrap();
    assert_eq!(read, release);
    read
}

#[test]
fn a_fault_names_its_place_and_the_way_out() {
    for (place, old, new, words) in [
        ((1, 10), "format = 1", "format = 2", "write format = 1"),
        ((1, 10), "format = 1", "format = \"1\"", "without quotes"),
        ((2, 1), "component =", "componant =", "did you mean `component`?"),
        ((2, 13), "\"thermostat\"", "\"thermo stat\"", "A-Z a-z 0-9"),
        ((3, 11), "\"1.2.0\"", "\"1.2.3.4\"", "like 1.2.3"),
        ((3, 11), "\"1.2.0\"", "1.2", "put it in quotes, \"1.2\""),
        ((4, 8), "\"app\"", "\"dead\"", "write \"app\""),
        ((4, 8), "\"app\"", "\"module:../deb\"", "no module's name"),
        ((7, 1), "\"app\"", "\"module:deb\"", "[run] is for applications"),
        ((7, 2), "[run]", "[rune]", "did you mean `run`?"),
        ((7, 5), "[run]", "[run", "unclosed table"),
        ((8, 7), "\"exec\"", "\"shell\"", "\"exec\", \"jar\", \"python\""),
        (
            (9, 11),
            "\"thermostat\"    #",
            "\"../thermostat\" #",
            "part . or ..",
        ),
        ((10, 8), "[\"--quiet\"]", "\"--quiet\"", "[\"one\", \"two\"]"),
        ((10, 9), "\"--quiet\"", "7", "put it in quotes, \"7\""),
        ((11, 7), "{ MODE = \"heat\" }", "{ DROVER_X = \"1\" }", "DROVER_"),
        ((11, 16), "\"heat\"", "true", "put it in quotes, \"true\""),
        ((12, 16), "stop_seconds = 10", "stop_seconds = 9999", "0 to 3600"),
        ((12, 16), "stop_seconds = 10", "stop_seconds = -1", "0 to 3600"),
        (
            (15, 8),
            "\"http://127.0.0.1:${PORT}/health\"",
            "\"ftp://a\"",
            "http://",
        ),
        ((15, 8), "${PORT}", "${PORT", "${PORT}"),
        ((14, 2), "start_seconds", "alive_seconds", "keep one"),
        (
            (16, 1),
            "start_seconds",
            "startseconds",
            "did you mean `start_seconds`?",
        ),
        ((20, 8), "\"x86-64\"", "\"mips\"", "riscv64"),
        ((21, 12), "\"rpi-4\"", "\"rpi 4\"", "no blanks"),
        ((22, 9), ">=0.1", "newest", ">=1.2, <3"),
        ((23, 16), "64_000_000", "\"64 MB\"", "without quotes"),
        ((27, 1), "broker =", "thermostat =", "cannot require"),
        ((27, 10), "\">=2.1, <3\"", "2", "put it in quotes, \"2\""),
        ((31, 8), "[1, 2]", "[1, 3]", "`to`"),
        ((31, 8), "[1, 2]", "[1, 1]", "twice"),
        ((32, 6), "to = 3", "to = \"3\"", "without quotes"),
        ((33, 13), "[\"migrate\"]", "\"migrate\"", "[\"one\", \"two\"]"),
        ((33, 13), "[\"migrate\"]", "[]", "program as its first word"),
        ((33, 13), "\"migrate\"", "\"/bin/sh\"", "no file below payload/"),
        ((33, 13), "from = [1, 2]", "from = []", "list the schemas"),
        ((34, 21), "seconds = 60", "seconds = 0", "1 to 3600"),
        ((34, 21), "seconds = 60", "seconds = 3601", "0 to 3600"),
        ((29, 2), "to = 3", "", "`to` is missing in [state]"),
        ((37, 12), "\"disk\"", "\"floppy\"", "\"disk\""),
        ((47, 13), "\"soak\"", "\"idle\"", "leave this out"),
        ((46, 11), "soak_days = 10", "", "add soak_days"),
        ((48, 35), "sat,sun 00", "weekend 00", "mon-fri 22:00-04:00"),
        ((49, 22), "percent = 50", "percent = 101", "1 to 100"),
        ((55, 13), "\"ask\"", "\"pray\"", "\"install\""),
        ((58, 10), "\"…\"", "\"\\u0007\"", "control character"),
    ] {
        let text = full();
        assert!(text.contains(old), "{old}");
        let text = text.replacen(old, new, 1);
        let error = Manifest::parse(&text).unwrap_err();
        let found = error
            .faults
            .iter()
            .find(|fault| (fault.line, fault.column) == place);
        let found = found.unwrap_or_else(|| panic!("{new} at {place:?}: {error}"));
        assert!(found.message.contains(words), "{new}: {error}");
    }
}

#[test]
fn all_faults_are_told_at_once_in_order() {
    let text = SMALL
        .replace("1.2", "x")
        .replace("exec", "y")
        .replace("format = 1\n", "");
    let error = Manifest::parse(&text).unwrap_err();
    let places: Vec<_> = error
        .faults
        .iter()
        .map(|fault| (fault.line, fault.column))
        .collect();
    assert_eq!(places, [(1, 1), (2, 11), (5, 7)]);
    let told = error.to_string();
    assert!(
        told.starts_with("update.toml line 1, column 1: `format` is missing"),
        "{told}"
    );
    let mut many = SMALL.to_owned();
    for n in 0..100 {
        writeln!(many, "x{n} = 1").unwrap();
    }
    let error = Manifest::parse(&many).unwrap_err();
    assert_eq!(error.faults.len(), limits::FAULTS);
    assert!(error.to_string().ends_with("(and 80 more faults)"), "{error}");
}

#[test]
fn what_is_missing_is_named_with_an_example() {
    for (gone, place) in [
        ("component = \"thermostat\"\n", (1, 1)),
        ("version = \"1.2\"\n", (1, 1)),
        ("format = 1\n", (1, 1)),
        ("how = \"exec\"\n", (5, 2)),
        ("program = \"thermostat\"\n", (5, 2)),
    ] {
        let error = Manifest::parse(&SMALL.replacen(gone, "", 1)).unwrap_err();
        let field = gone.split(' ').next().unwrap();
        let [fault] = &error.faults[..] else {
            panic!("{error}")
        };
        assert_eq!((fault.line, fault.column), place, "{error}");
        assert!(
            fault.message.starts_with(&format!("`{field}` is missing in ")),
            "{error}"
        );
        assert!(fault.message.contains(&format!("add {field} = ")), "{error}");
    }
    let error = Manifest::parse("format = 1\ncomponent = \"a\"\nversion = \"1\"\n").unwrap_err();
    assert!(error.to_string().contains("[run] is missing"), "{error}");
    let error = Manifest::parse(&format!("{SMALL}[policy]\nurgency = \"window\"\n")).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("line 9, column 11: `urgency`: window needs a time"),
        "{error}"
    );
    let error = Manifest::parse("format = 1\ncomponent = \"a\"\nversion = \"1\"\nrun = 3\n").unwrap_err();
    assert!(
        error.to_string().contains("line 4, column 7") && error.faults.len() == 1,
        "{error}"
    );
}

#[test]
fn columns_are_counted_in_characters() {
    let text = SMALL.replace("[run]", "[run]\nenv = { GRUSS = \"Grüße\", N = 1 }");
    let error = Manifest::parse(&text).unwrap_err();
    assert_eq!((error.faults[0].line, error.faults[0].column), (6, 30), "{error}");
}

/// A manifest and the text that a person would write for it, made apart from the reader.
fn written() -> impl Strategy<Value = (Manifest, String)> {
    let name = || "[A-Za-z0-9][A-Za-z0-9_-]{0,20}";
    let label = || "[!-~]{1,20}";
    let run = (
        select(vec![
            (How::Exec, "exec"),
            (How::Jar, "jar"),
            (How::Python, "python"),
        ]),
        "[a-z]{1,8}(/[a-z]{1,8}){0,2}",
        prop::collection::vec("[^\\x00]{0,12}", 0..4),
        prop::collection::btree_map("[A-C][A-Z0-9_]{0,5}", "[^\\x00]{0,12}", 0..3),
        0..=3600u32,
    );
    let requires = (
        of(select(Arch::ALL.to_vec())),
        prop::collection::vec(label(), 0..3),
        of(0..=limits::DEVICE_BYTES),
        of(0..=limits::DEVICE_BYTES),
        prop::collection::btree_map("other-[a-z]{1,5}", (0..9u64, 0..9u64), 0..3),
    );
    let state = of((
        of("[a-z]{1,5}"),
        prop::collection::btree_set(0..50u32, 0..4),
        50..99u32,
    ));
    let policy = (
        of(1..=365u32),
        of(1..=100u8),
        of(label()),
        of(1..8760u32),
        0..1440u16,
        0..1440u16,
    );
    (
        name(),
        any::<[u32; 3]>(),
        of(0..=limits::COUNTER),
        run,
        requires,
        state,
        policy,
        of("[^\\x00-\\x1f\\x7f-\\x9f]{0,30}"),
    )
        .prop_map(
            |(component, v, counter, run, requires, state, policy, description)| {
                let mut text = format!("format = 1\ncomponent = {}\n", quoted(&component));
                let ((how, word), program, args, env, stop_seconds) = run;
                writeln!(text, "version = \"{}.{}.{}\"", v[0], v[1], v[2]).unwrap();
                let version = Version::new(v[0].into(), v[1].into(), v[2].into());
                let mut run = Run::plain(how, program.parse().unwrap());
                (run.args, run.env, run.stop_seconds) = (args, env, stop_seconds);
                let mut manifest = Manifest::new(component.parse().unwrap(), version, run);
                manifest.counter = counter;
                line(&mut text, "counter", counter);
                write_run(&mut text, word, manifest.run.as_ref().unwrap());
                write_requires(&mut text, &mut manifest, requires);
                write_state(&mut text, &mut manifest, state);
                write_policy(&mut text, &mut manifest, policy);
                writeln!(text, "[about]").unwrap();
                line(&mut text, "description", description.as_deref().map(quoted));
                manifest.about.description = description;
                (manifest, text)
            },
        )
}

/// A TOML basic string (specification 1.0, "String").
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => write!(out, "\\u{:04X}", u32::from(c)).unwrap(),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn line(text: &mut String, key: &str, value: Option<impl std::fmt::Display>) {
    if let Some(value) = value {
        writeln!(text, "{key} = {value}").unwrap();
    }
}

fn write_run(text: &mut String, how: &str, run: &Run) {
    let args: Vec<String> = run.args.iter().map(|word| quoted(word)).collect();
    let env: Vec<String> = run
        .env
        .iter()
        .map(|(name, value)| format!("{name} = {}", quoted(value)))
        .collect();
    writeln!(
        text,
        "[run]\nhow = \"{how}\"\nprogram = \"{}\"\nargs = [{}]",
        run.program,
        args.join(", ")
    )
    .unwrap();
    writeln!(
        text,
        "env = {{ {} }}\nstop_seconds = {}",
        env.join(", "),
        run.stop_seconds
    )
    .unwrap();
}

type Needs = (
    Option<Arch>,
    Vec<String>,
    Option<u64>,
    Option<u64>,
    BTreeMap<String, (u64, u64)>,
);

fn write_requires(
    text: &mut String,
    manifest: &mut Manifest,
    (arch, hardware, memory, disk, components): Needs,
) {
    let names: Vec<String> = hardware.iter().map(|name| quoted(name)).collect();
    writeln!(text, "[requires]\nhardware = [{}]", names.join(",")).unwrap();
    line(text, "arch", arch.map(|arch| format!("\"{arch}\"")));
    line(text, "memory_bytes", memory);
    line(text, "disk_bytes", disk.map(|bytes| format!("0x{bytes:x}")));
    writeln!(text, "[requires.components]").unwrap();
    for (name, (major, minor)) in &components {
        writeln!(text, "{name} = \">={major}.{minor}\"").unwrap();
    }
    (manifest.arch, manifest.hardware) = (arch, hardware);
    manifest.requires.memory_bytes = memory;
    manifest.requires.disk_bytes = disk;
    manifest.requires.components = components
        .into_iter()
        .map(|(name, (major, minor))| {
            (
                name.parse().unwrap(),
                format!(">={major}.{minor}").parse().unwrap(),
            )
        })
        .collect();
}

type Schemas = Option<(Option<String>, std::collections::BTreeSet<u32>, u32)>;

fn write_state(text: &mut String, manifest: &mut Manifest, state: Schemas) {
    let Some((folder, from, to)) = state else { return };
    let from: Vec<u32> = from.into_iter().collect();
    writeln!(text, "[state]\nfrom = {from:?}\nto = {to}").unwrap();
    line(text, "folder", folder.as_deref().map(quoted));
    let folder = folder.map(|folder| folder.parse().unwrap());
    let mut state = State::of_schema(to);
    (state.folder, state.from) = (folder, from);
    // A program where there is something to transform.
    if !state.from.is_empty() && to % 2 == 0 {
        let seconds = 1 + to % 3600;
        writeln!(
            text,
            "transform = [\"bin/migrate\", \"--all\"]\ntransform_seconds = {seconds}"
        )
        .unwrap();
        state.transform = vec!["bin/migrate".to_owned(), "--all".to_owned()];
        state.transform_seconds = seconds;
    }
    manifest.state = Some(state);
}

fn write_policy(
    text: &mut String,
    manifest: &mut Manifest,
    (soak, load, place, wait, from, to): (Option<u32>, Option<u8>, Option<String>, Option<u32>, u16, u16),
) {
    let window = format!(
        "tue {:02}:{:02}-{:02}:{:02}",
        from / 60,
        from % 60,
        to / 60,
        to % 60
    );
    writeln!(text, "[nature]\ncategory = \"data\"\nstillness = \"protocol\"").unwrap();
    writeln!(text, "[policy]\nwindows = [\"{window}\"]").unwrap();
    line(text, "urgency", soak.map(|_| "\"soak\""));
    line(text, "soak_days", soak);
    line(text, "load_below_percent", load);
    line(text, "place", place.as_deref().map(quoted));
    line(text, "tainted", wait.map(|_| "\"ask\""));
    line(text, "wait_hours", wait);
    line(text, "otherwise", wait.map(|_| "\"refuse\""));
    manifest.nature = Some(Nature::plain(Category::Data, Stillness::Protocol));
    manifest.policy = Policy {
        urgency: soak.map_or(Urgency::Immediate, |_| Urgency::Soak),
        soak_days: soak,
        windows: vec![window.parse().unwrap()],
        load_below_percent: load,
        place,
        tainted: wait.map_or(Tainted::Recoverable, |_| Tainted::Ask),
        wait_hours: wait,
        otherwise: wait.map_or(Otherwise::Ask, |_| Otherwise::Refuse),
        ..Policy::default()
    };
}

proptest! {
    #[test]
    fn what_is_written_is_read_and_signed((manifest, text) in written()) {
        let read = Manifest::parse(&text);
        prop_assert_eq!(read.as_ref(), Ok(&manifest), "{}", text);
        signed(&manifest);
    }

    #[test]
    fn a_misspelt_field_is_found_wherever_it_stands((_, text) in written(), at in any::<prop::sample::Index>()) {
        let mut lines: Vec<&str> = text.lines().collect();
        let at = at.index(lines.len());
        lines.insert(at, "no-such-field = 1");
        let error = Manifest::parse(&lines.join("\n")).unwrap_err();
        let [fault] = &error.faults[..] else { panic!("{error}") };
        // Among the required components it is the name of one, without quotes.
        let column = if lines[..at].iter().rfind(|line| line.starts_with('[')) == Some(&"[requires.components]") {
            17
        } else {
            1
        };
        prop_assert_eq!((fault.line, fault.column), (at + 1, column), "{}", error);
    }

    #[test]
    fn a_text_of_any_bytes_is_read_or_its_faults_lie_in_it((_, text) in written(), cut in any::<prop::sample::Index>(),
        put in "[\\x00-\\x7fä]{0,3}", gone in 0..4usize) {
        let chars: Vec<char> = text.chars().collect();
        let at = cut.index(chars.len());
        let text: String = chars[..at].iter().copied().chain(put.chars()).chain(chars.iter().skip(at + gone).copied()).collect();
        match Manifest::parse(&text) {
            Ok(manifest) => drop(signed(&manifest)),
            Err(error) => {
                prop_assert!(!error.faults.is_empty());
                for fault in &error.faults {
                    let line = text.split('\n').nth(fault.line - 1);
                    let width = line.map(|line| line.chars().count() + 1);
                    prop_assert!(width.is_some_and(|width| fault.column <= width), "{} in {:?}", error, text);
                }
            }
        }
    }
}
