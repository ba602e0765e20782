//! How the command line prints what the agent answers.

use protocol::Event;
use protocol::control::{DevicePlan, DeviceStatus, InstallEntry};
use protocol::device::Waiting;

use crate::once::{self, Applied};

pub(crate) fn status_text(status: &DeviceStatus) -> String {
    let mut lines = vec![
        format!(
            "device     {} at site {} (agent {})",
            status.name, status.site, status.program
        ),
        format!(
            "manager    {}: {}",
            status.manager,
            match (status.connected, status.connection.as_str()) {
                (true, _) => "connected",
                (false, "") => "not connected",
                (false, problem) => problem,
            }
        ),
    ];
    if !status.time_known {
        lines.push("time       not known: freshness of metadata cannot be judged".into());
    }
    if let Some(since) = status.stale_since {
        lines.push(format!(
            "metadata   stale since {since}: what runs goes on, nothing new is installed until the repository has fresh \
             metadata; tell the author (`admin-gui renew`)"
        ));
    }
    if let Some(until) = status.certificate_until {
        lines.push(format!("identity   certificate until {until}"));
    }
    if let Some(trouble) = &status.trouble {
        lines.push(format!("TROUBLE    {trouble}"));
    }
    if status.components.is_empty() {
        lines.push(protocol::messages::NOTHING_RUNNING.text.to_owned());
    }
    for state in &status.components {
        let version = state
            .version
            .as_ref()
            .map_or_else(|| "-".to_owned(), ToString::to_string);
        let mut line = format!(
            "{:<16} {version:<12} {:<12} up {} s",
            state.component.as_str(),
            state.activity,
            state.uptime_seconds
        );
        if let Some(previous) = &state.previous {
            line.push_str(&format!("  previous {previous}"));
        }
        if state.held {
            line.push_str("  held");
        }
        if !state.bad.is_empty() {
            line.push_str(&format!("  {} failed before", state.bad.len()));
        }
        lines.push(line);
        if let Some(waiting) = &state.waiting {
            lines.extend(waiting_lines(waiting));
        }
    }
    lines.join("\n") + "\n"
}

fn waiting_lines(waiting: &Waiting) -> Vec<String> {
    let here = if waiting.fetched {
        "is here and waits"
    } else {
        "is not fetched yet and waits"
    };
    let mut lines = vec![format!("  {} {here} since {}", waiting.version, waiting.since)];
    lines.extend(waiting.unmet.iter().map(|unmet| format!("    - {unmet}")));
    if let Some(until) = waiting.until {
        lines.push(format!("    all of it is met by itself at {until}"));
    }
    if let (Some(hours), Some(then)) = (waiting.hours, &waiting.then) {
        lines.push(format!("    after {hours} h of waiting {then}"));
    }
    lines
}

pub(crate) fn plan_text(planned: &DevicePlan) -> String {
    let runs = planned.running.as_ref().map_or_else(
        || "nothing of it runs".to_owned(),
        |version| format!("{version} runs"),
    );
    let mut lines = vec![
        format!("{} {} ({runs})", planned.component, planned.version),
        format!("  answer   {}", planned.plan.answer.word()),
    ];
    lines.extend(planned.plan.reasons.iter().map(|why| format!("  why      {why}")));
    if let Some(pause) = planned.plan.pause {
        let from = match pause.measured {
            0 => "an estimate: none was measured here".to_owned(),
            many => format!("from {many} measured here"),
        };
        lines.push(format!("  pause    about {} ms, {from}", pause.expected_ms));
    }
    lines.push(format!("  when     {}", planned.policy));
    lines.extend(planned.waits.iter().map(|what| format!("  waits    {what}")));
    lines.join("\n") + "\n"
}

pub(crate) fn applied_text(applied: &Applied) -> String {
    let mut lines: Vec<String> = Vec::new();
    for end in &applied.ended {
        let reason = end
            .reason
            .as_ref()
            .map_or_else(String::new, |reason| format!(": {reason}"));
        lines.push(format!(
            "{} {} {}{reason}",
            end.component, end.version, end.outcome
        ));
    }
    lines.extend(applied.waiting.iter().cloned());
    for component in &applied.failing {
        lines.push(format!("{component} does not run: see output/{component}.log"));
    }
    match applied.result {
        once::Result::NothingToDo => lines.push("nothing to do".into()),
        once::Result::Unfinished => lines.push("not finished: the next run goes on".into()),
        once::Result::NoAnswer => lines.push(format!("the manager does not answer: {}", applied.connection)),
        _ => {}
    }
    if applied.waiting_reports > 0 {
        lines.push(format!(
            "reports that wait for the manager: {}",
            applied.waiting_reports
        ));
    }
    lines.join("\n") + "\n"
}

pub(crate) fn entry_text(entry: &InstallEntry) -> String {
    let from = entry
        .from
        .as_ref()
        .map_or_else(|| "-".to_owned(), ToString::to_string);
    let reason = entry
        .reason
        .as_ref()
        .map_or_else(String::new, |reason| format!(": {reason}"));
    format!(
        "{}  {} {from} → {}  {} after {} ms{reason}\n",
        entry.at, entry.component, entry.version, entry.outcome, entry.milliseconds
    )
}

pub(crate) fn event_text(event: &Event) -> String {
    let bytes = match (event.bytes, event.total) {
        (Some(bytes), Some(total)) => format!(" {bytes} of {total} bytes"),
        _ => String::new(),
    };
    let reason = event
        .reason
        .as_ref()
        .map_or_else(String::new, |reason| format!(": {reason}"));
    let seconds = event.at.boot_ns / 1_000_000_000;
    let milliseconds = event.at.boot_ns / 1_000_000 % 1000;
    format!(
        "{seconds}.{milliseconds:03} {} {} {}{bytes}{reason}\n",
        event.component, event.version, event.step
    )
}
