//! `update.toml` as it is written: its tables and fields, one function each.

use semver::VersionReq;
use std::collections::BTreeMap;

use super::fields::{Faults, Field, Table};
use super::{About, Manifest};
use crate::arch::Arch;
use crate::custom::{self, Release, Requires, default_health};
use crate::kind::{Kind, ModuleName};
use crate::limits;
use crate::live::Live;
use crate::name::Component;
use crate::nature::{Category, Nature, Stillness, Transfer};
use crate::policy::{Otherwise, Policy, Tainted, Urgency};
use crate::run::{Health, How, Limits, Run};
use crate::state::State;
use crate::text;

/// Reads the whole file; nothing if there are faults.
pub(super) fn read(mut file: Table<'_>, faults: &mut Faults<'_>) -> Option<Manifest> {
    if let Some(format) = file.need("format", "format = 1", faults)
        && let Some(found) = format.number(u64::MAX, faults)
        && found != u64::from(Release::FORMAT)
    {
        let known = Release::FORMAT;
        faults.add(
            file.place_of("format"),
            format_args!("format {found} is not known: write format = {known}, or use a newer admin-gui"),
        );
    }
    let component = file.need("component", "component = \"thermostat\"", faults);
    let component = component.and_then(|field| field.parsed::<Component>(faults));
    let version = file.need("version", "version = \"1.2.0\"", faults);
    let version = version.and_then(|field| field.parsed(faults));
    let counter = read_if(file.take("counter"), faults, |field, faults| {
        field.number(limits::COUNTER, faults)
    });
    let kind = file
        .take("kind")
        .map_or(Some(Kind::App), |field| field.parsed(faults));
    if let Some(Kind::Module(name)) = &kind {
        not_for_modules(&file, name, faults);
    }
    if kind == Some(Kind::Agent) {
        not_for_agents(&file, faults);
    }
    let runs = matches!(kind, Some(Kind::App | Kind::Live | Kind::Agent));
    let run = file.table("run", faults);
    if runs && run.is_none() && !file.has("run") {
        faults.add(
            0,
            "[run] is missing: add it with how = \"exec\" and program = \"NAME\"",
        );
    }
    let run_at = file.place_of("run");
    let run = read_if(run, faults, self::run);
    if let (Some(Kind::Agent), Some(why)) = (&kind, run.as_ref().and_then(custom::unfit_agent)) {
        faults.add(run_at, format_args!("[run]: {why}"));
    }
    let (health, start_seconds, probation_seconds) = match file.table("health", faults) {
        Some(table) => self::health(table, faults),
        None => (Some(default_health()), None, None),
    };
    let table = file.table("requires", faults);
    let needs = table.map(|table| requires(table, component.as_ref(), faults));
    let (arch, hardware, requires) = needs.unwrap_or_default();
    let state = read_if(file.table("state", faults), faults, state);
    if kind.as_ref().is_some_and(|kind| *kind != Kind::Live) && file.has("live") {
        let at = file.place_of("live");
        faults.add(at, "[live] is for kind = \"live\": write that kind, or remove it");
    }
    let live = read_if(file.table("live", faults), faults, live);
    let nature = read_if(file.table("nature", faults), faults, nature);
    let policy = read_if(file.table("policy", faults), faults, policy);
    let about = read_if(file.table("about", faults), faults, |table, faults| {
        Some(about(table, faults))
    });
    file.finish(faults);
    Some(Manifest {
        component: component?,
        version: version?,
        counter,
        kind: kind?,
        run: if runs { Some(run?) } else { None },
        health: health?,
        start_seconds: start_seconds.unwrap_or_else(custom::default_start_seconds),
        probation_seconds: probation_seconds.unwrap_or_else(custom::default_probation_seconds),
        arch,
        hardware,
        requires,
        state,
        live,
        nature,
        policy: policy.unwrap_or_default(),
        about: about.unwrap_or_default(),
    })
}

fn read_if<I, T>(
    input: Option<I>,
    faults: &mut Faults<'_>,
    read: impl FnOnce(I, &mut Faults<'_>) -> Option<T>,
) -> Option<T> {
    input.and_then(|input| read(input, faults))
}

/// What the agent does for a program of its own, a module does by itself.
fn not_for_modules(file: &Table<'_>, name: &ModuleName, faults: &mut Faults<'_>) {
    for table in ["run", "health", "state"] {
        if file.has(table) {
            faults.add(
                file.place_of(table),
                format_args!(
                    "[{table}] is for applications: remove it, the module {name} installs this release"
                ),
            );
        }
    }
}

/// An agent proves itself by what it does, and keeps its state in a form of its own.
fn not_for_agents(file: &Table<'_>, faults: &mut Faults<'_>) {
    if file.has("state") {
        faults.add(
            file.place_of("state"),
            "[state] is for applications: remove it, an agent says in its records which forms it reads",
        );
    }
    if let Some(question) = ["http", "command", "alive_seconds"]
        .into_iter()
        .find(|question| file.has_in("health", question))
    {
        faults.add(
            file.place_of("health"),
            format_args!(
                "`{question}` is for applications: remove it, an agent is well when it has taken over what runs"
            ),
        );
    }
}

fn run(mut table: Table<'_>, faults: &mut Faults<'_>) -> Option<Run> {
    let how = table.need("how", "how = \"exec\" (or \"jar\", \"python\")", faults);
    let words = [("exec", How::Exec), ("jar", How::Jar), ("python", How::Python)];
    let how = how.and_then(|field| field.one_of(&words, faults));
    let program = table.need("program", "program = \"NAME\", a file below payload/", faults);
    let program = program.and_then(|field| field.parsed(faults));
    let args = read_if(table.take("args"), faults, |field, faults| {
        field.texts(text::check_words, faults)
    });
    let env = read_if(table.take("env"), faults, |field, faults| {
        field.variables(text::check_variables, faults)
    });
    let stop_seconds = read_if(table.take("stop_seconds").as_ref(), faults, seconds);
    let limits = read_if(table.table("limits", faults), faults, run_limits);
    table.finish(faults);
    Some(Run {
        how: how?,
        program: program?,
        args: args.unwrap_or_default(),
        env: env.unwrap_or_default(),
        stop_seconds: stop_seconds.unwrap_or_else(Run::default_stop_seconds),
        limits: limits.unwrap_or_default(),
    })
}

fn run_limits(mut table: Table<'_>, faults: &mut Faults<'_>) -> Option<Limits> {
    let mut number = |key| {
        let field = table.take(key);
        field.and_then(|field| field.number(limits::DEVICE_BYTES, faults))
    };
    let limits = Limits {
        memory_bytes: number("memory_bytes"),
        open_files: number("open_files"),
        processes: number("processes"),
    };
    if let Some(wrong) = limits.contradiction() {
        faults.add(table.place_of(""), wrong);
    }
    table.finish(faults);
    Some(limits)
}

fn seconds(field: &Field<'_>, faults: &mut Faults<'_>) -> Option<u32> {
    field.small(limits::SECONDS, faults)
}

type HealthFields = (Option<Health>, Option<u32>, Option<u32>);

fn health(mut table: Table<'_>, faults: &mut Faults<'_>) -> HealthFields {
    let http = table.take("http");
    let command = table.take("command");
    let alive = table.take("alive_seconds");
    let said = [&http, &command, &alive].into_iter().flatten().count();
    let health = if said > 1 {
        faults.add(
            table.place_of(""),
            "[health] has several questions: keep one of `http`, `command`, `alive_seconds`",
        );
        None
    } else if let Some(field) = http {
        field
            .checked(text::check_url, faults)
            .map(|url| Health::Http { url })
    } else if let Some(field) = command {
        let argv = field.texts(text::check_command, faults);
        argv.map(|argv| Health::Command { argv })
    } else if let Some(field) = alive {
        seconds(&field, faults).map(|seconds| Health::Alive { seconds })
    } else {
        Some(default_health())
    };
    let start = read_if(table.take("start_seconds").as_ref(), faults, seconds);
    let probation = read_if(table.take("probation_seconds").as_ref(), faults, seconds);
    table.finish(faults);
    (health, start, probation)
}

type Needs = (Option<Arch>, Vec<String>, Requires);

fn requires(mut table: Table<'_>, own: Option<&Component>, faults: &mut Faults<'_>) -> Needs {
    let arch = read_if(table.take("arch"), faults, |field, faults| {
        field.one_of(&Arch::ALL.map(|arch| (arch.as_str(), arch)), faults)
    });
    let hardware = read_if(table.take("hardware"), faults, |field, faults| {
        field.texts(text::check_hardware, faults)
    });
    let agent = read_if(table.take("agent").as_ref(), faults, range);
    let mut bytes = |key| {
        let field = table.take(key);
        field.and_then(|field| field.number(limits::DEVICE_BYTES, faults))
    };
    let (memory_bytes, disk_bytes) = (bytes("memory_bytes"), bytes("disk_bytes"));
    let components = table.table("components", faults);
    let components = components
        .map(|table| required(&table, own, faults))
        .unwrap_or_default();
    table.finish(faults);
    let requires = Requires {
        agent,
        memory_bytes,
        disk_bytes,
        components,
    };
    (arch, hardware.unwrap_or_default(), requires)
}

/// Versions that are good enough, such as `>=1.2, <3`.
fn range(field: &Field<'_>, faults: &mut Faults<'_>) -> Option<VersionReq> {
    field.parsed::<Range>(faults).map(|range| range.0)
}

struct Range(VersionReq);

impl std::str::FromStr for Range {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse()
            .map(Self)
            .map_err(|error: semver::Error| format!("{error}: write versions like \">=1.2, <3\""))
    }
}

fn required(
    table: &Table<'_>,
    own: Option<&Component>,
    faults: &mut Faults<'_>,
) -> BTreeMap<Component, VersionReq> {
    let mut all = BTreeMap::new();
    for (key, field) in table.entries() {
        let range = range(&field, faults);
        let at = key.span().start;
        match key.get_ref().parse::<Component>() {
            Err(error) => faults.add(at, error),
            Ok(name) if own == Some(&name) => faults.add(
                at,
                format_args!(
                    "a release of {name} cannot require {name}: what it can replace is said by [state]"
                ),
            ),
            Ok(name) => all.extend(range.map(|range| (name, range))),
        }
    }
    if all.len() > limits::REQUIRED_COMPONENTS {
        faults.add(
            table.place_of(""),
            "more than 32 components are required: require fewer",
        );
    }
    all
}

fn state(mut table: Table<'_>, faults: &mut Faults<'_>) -> Option<State> {
    let folder = read_if(table.take("folder"), faults, |field, faults| field.parsed(faults));
    let from = read_if(table.take("from"), faults, |field, faults| {
        field.list_of("[1, 2]", faults, |field, faults| field.small(u32::MAX, faults))
    });
    let to = table.need("to", "to = 1, the schema that this version writes", faults);
    let to = to.and_then(|field| field.small(u32::MAX, faults));
    let transform = read_if(table.take("transform"), faults, |field, faults| {
        field.texts(text::check_command, faults)
    });
    let transform_seconds = read_if(table.take("transform_seconds").as_ref(), faults, seconds);
    let state = State {
        folder,
        from: from.unwrap_or_default(),
        to: to?,
        transform: transform.unwrap_or_default(),
        transform_seconds: transform_seconds.unwrap_or_else(State::default_transform_seconds),
    };
    if let Some((field, wrong)) = state.contradiction() {
        faults.add(table.place_of(field), format_args!("`{field}`: {wrong}"));
    }
    table.finish(faults);
    Some(state)
}

fn live(mut table: Table<'_>, faults: &mut Faults<'_>) -> Option<Live> {
    let schema = table.need(
        "schema",
        "schema = 1, the schema of the state that it hands over",
        faults,
    );
    let schema = schema.and_then(|field| field.small(u32::MAX, faults));
    let mut schemas = |key| {
        read_if(table.take(key), faults, |field, faults| {
            field.list_of("[1, 2]", faults, |field, faults| field.small(u32::MAX, faults))
        })
    };
    let (from, back) = (schemas("from"), schemas("back"));
    let transform = read_if(table.take("transform"), faults, |field, faults| {
        field.texts(text::check_command, faults)
    });
    let ready_seconds = read_if(table.take("ready_seconds").as_ref(), faults, seconds);
    let still_seconds = read_if(table.take("still_seconds").as_ref(), faults, seconds);
    let live = Live {
        schema: schema?,
        from: from.unwrap_or_default(),
        back: back.unwrap_or_default(),
        transform: transform.unwrap_or_default(),
        ready_seconds: ready_seconds.unwrap_or_else(Live::default_ready_seconds),
        still_seconds: still_seconds.unwrap_or_else(Live::default_still_seconds),
    };
    if let Some((field, wrong)) = live.contradiction() {
        faults.add(table.place_of(field), format_args!("`{field}`: {wrong}"));
    }
    table.finish(faults);
    Some(live)
}

fn nature(mut table: Table<'_>, faults: &mut Faults<'_>) -> Option<Nature> {
    let categories = [
        ("unit", Category::Unit),
        ("protocol", Category::Protocol),
        ("data", Category::Data),
        ("algorithm", Category::Algorithm),
        ("disk", Category::Disk),
        ("hardware", Category::Hardware),
    ];
    let stillness = [
        ("none", Stillness::None),
        ("unit", Stillness::Unit),
        ("protocol", Stillness::Protocol),
        ("data", Stillness::Data),
        ("system", Stillness::System),
        ("reboot", Stillness::Reboot),
    ];
    let category = table.need("category", "category = \"unit\"", faults);
    let category = category.and_then(|field| field.one_of(&categories, faults));
    let still = table.need("stillness", "stillness = \"unit\"", faults);
    let still = still.and_then(|field| field.one_of(&stillness, faults));
    let transfers = [
        ("none", Transfer::None),
        ("needed", Transfer::Needed),
        ("imprecise", Transfer::Imprecise),
        ("impossible", Transfer::Impossible),
    ];
    let transfer = read_if(table.take("transfer"), faults, |f, faults| {
        f.one_of(&transfers, faults)
    });
    let free_at = read_if(table.take("free_at"), faults, |f, faults| {
        f.one_of(&stillness, faults)
    });
    let idle = read_if(table.take("idle"), faults, |field, faults| {
        field.texts(text::check_labels, faults)
    });
    let catch_up = read_if(table.take("catch_up"), faults, |field, faults| {
        field.truth(faults)
    });
    let never_kept = table
        .take("never_kept")
        .and_then(|field| field.checked(text::check_text, faults));
    let nature = category.zip(still).map(|(category, still)| Nature {
        transfer: transfer.unwrap_or_default(),
        free_at,
        idle: idle.unwrap_or_default(),
        catch_up: catch_up.unwrap_or_default(),
        never_kept,
        ..Nature::plain(category, still)
    });
    if let Some((field, wrong)) = nature.as_ref().and_then(Nature::contradiction) {
        faults.add(table.place_of(field), format_args!("`{field}`: {wrong}"));
    }
    table.finish(faults);
    nature
}

fn policy(mut table: Table<'_>, faults: &mut Faults<'_>) -> Option<Policy> {
    let urgencies = [
        ("immediate", Urgency::Immediate),
        ("idle", Urgency::Idle),
        ("window", Urgency::Window),
        ("soak", Urgency::Soak),
        ("by-hand", Urgency::ByHand),
    ];
    let ends = [
        ("ask", Otherwise::Ask),
        ("install", Otherwise::Install),
        ("refuse", Otherwise::Refuse),
    ];
    let urgency = read_if(table.take("urgency"), faults, |f, faults| {
        f.one_of(&urgencies, faults)
    });
    let windows = read_if(table.take("windows"), faults, |field, faults| {
        field.list_of("[\"22:00-04:00\"]", faults, Field::parsed)
    });
    let otherwise = read_if(table.take("otherwise"), faults, |f, faults| {
        f.one_of(&ends, faults)
    });
    let taints = [
        ("recoverable", Tainted::Recoverable),
        ("ask", Tainted::Ask),
        ("install", Tainted::Install),
    ];
    let tainted = read_if(table.take("tainted"), faults, |f, faults| {
        f.one_of(&taints, faults)
    });
    let mut small = |key| table.take(key).and_then(|f| f.small(u32::MAX, faults));
    let (soak_days, wait_hours) = (small("soak_days"), small("wait_hours"));
    let mut percent = |key| table.take(key).and_then(|f| f.small(u8::MAX.into(), faults));
    let (load, power) = (percent("load_below_percent"), percent("power_above_percent"));
    let mut label = |key| table.take(key).and_then(|f| f.checked(text::check_label, faults));
    let (place, interlock) = (label("place"), label("interlock"));
    let policy = Policy {
        urgency: urgency.unwrap_or_default(),
        soak_days,
        windows: windows.unwrap_or_default(),
        load_below_percent: load.and_then(|n| u8::try_from(n).ok()),
        power_above_percent: power.and_then(|n| u8::try_from(n).ok()),
        place,
        interlock,
        tainted: tainted.unwrap_or_default(),
        wait_hours,
        otherwise: otherwise.unwrap_or_default(),
    };
    if let Err(wrong) = text::check_windows(&policy.windows) {
        faults.add(table.place_of("windows"), format_args!("`windows`: {wrong}"));
    }
    if let Some((field, wrong)) = policy.contradiction() {
        faults.add(table.place_of(field), format_args!("`{field}`: {wrong}"));
    }
    table.finish(faults);
    Some(policy)
}

fn about(mut table: Table<'_>, faults: &mut Faults<'_>) -> About {
    let mut text = |key| {
        table
            .take(key)
            .and_then(|field| field.checked(text::check_text, faults))
    };
    let about = About {
        vendor: text("vendor"),
        developer: text("developer"),
        location: text("location"),
        license: text("license"),
        description: text("description"),
    };
    table.finish(faults);
    about
}
