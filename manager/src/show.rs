//! How the command line prints what the gateway answers.

use protocol::control::{DeviceRow, DownloadEntry, ListEntry, ManagerEvent, ManagerStatus};

pub(crate) fn show_event(event: &ManagerEvent) {
    match event {
        ManagerEvent::Step(step) => {
            let device = step
                .device
                .as_ref()
                .map(|device| format!(" → {device}"))
                .unwrap_or_default();
            let reason = step
                .reason
                .as_ref()
                .map(|reason| format!(" ({reason})"))
                .unwrap_or_default();
            let who = format!("{} {}{device}", step.actor.role, step.actor.name);
            println!(
                "{who:<32} {:<20} {} {}{reason}",
                step.step, step.component, step.version
            );
        }
        ManagerEvent::Message(message) => println!("{} {:<8} {}", message.at, message.level, message.text),
    }
}

pub(crate) fn show_status(status: &ManagerStatus) {
    println!(
        "manager {} of site {} (version {})",
        status.name, status.site, status.program
    );
    let next = status
        .next_check_seconds
        .map(|seconds| format!(", next check in {seconds} s"))
        .unwrap_or_default();
    println!("downloader   {}{next}", status.downloader);
    println!(
        "events       {}",
        if status.events_connected {
            "connected"
        } else {
            "not connected, polling"
        }
    );
    if let Some(since) = status.stale_since {
        println!(
            "stale since  {since}: what runs goes on, no new release is accepted until the repository has fresh metadata: \
             it must run and be reached, and of what the author signs nothing may have expired (`admin-gui status`, \
             `admin-gui renew`)"
        );
    }
    println!(
        "devices      {} on the list, {} connected",
        status.devices, status.connected
    );
    println!(
        "listening    {} (devices), {} (enrolment)",
        status.devices_address, status.enroll_address
    );
    if let Some(until) = status.certificate_until {
        println!("certificate  until {until}");
    }
    println!("sent         {} bytes since the start", status.sent_bytes);
    for row in &status.releases {
        let state = match (&row.stopped, row.mirrored) {
            (Some(reason), _) => format!("stopped: {reason}"),
            (None, true) if row.fallback => {
                "offered to devices that run none, while the newest is stopped".to_owned()
            }
            (None, true) => "offered".to_owned(),
            (None, false) => "not yet downloaded".to_owned(),
        };
        let back = match row.rolled_back {
            0 => String::new(),
            devices => format!(", {devices} rolled it back"),
        };
        println!(
            "release      {} {}: {state}; {} run it{back}",
            row.component, row.version, row.running
        );
    }
    for row in &status.waiting {
        println!(
            "waiting      {} on {}: {}",
            row.component, row.device, row.waiting
        );
    }
    let more = status.waiting_in_all.saturating_sub(status.waiting.len());
    if more > 0 {
        println!("waiting      {more} more: `manager devices` shows them all");
    }
    for alarm in &status.alarms {
        println!("ALARM        {alarm}");
    }
}

pub(crate) fn show_devices(rows: &[DeviceRow]) {
    if rows.is_empty() {
        println!("no device is on the list: add one with manager add-device NAME");
    }
    for row in rows {
        let state = match (&row.quarantine, row.enrolled, row.connected) {
            (Some(_), ..) => "quarantined",
            (None, false, _) => "not enrolled",
            (None, true, true) => "connected",
            (None, true, false) => "away",
        };
        let runs: Vec<String> = row
            .components
            .iter()
            .map(|component| {
                let version = component
                    .version
                    .as_ref()
                    .map_or_else(|| "-".to_owned(), ToString::to_string);
                format!("{} {version} {}", component.component, component.activity)
            })
            .collect();
        let seen = row
            .last_seen
            .map_or_else(|| "never".to_owned(), |at| at.to_string());
        println!("{:<24} {state:<13} seen {seen:<21} {}", row.name, runs.join(", "));
        if let Some(last) = &row.last
            && let Some(reason) = &last.reason
        {
            println!(
                "{:<24} {} {} {}: {reason}",
                "", last.component, last.version, last.outcome
            );
        }
        for component in &row.components {
            if let Some(waiting) = &component.waiting {
                println!("{:<24} {} {waiting}", "", component.component);
            }
        }
        if let Some(quarantine) = &row.quarantine {
            let reason = match quarantine.reason.as_str() {
                "" => "no reason given",
                reason => reason,
            };
            println!("{:<24} in quarantine since {}: {reason}", "", quarantine.since);
        }
        if let Some(trouble) = &row.trouble {
            println!("{:<24} TROUBLE {trouble}", "");
        }
    }
}

pub(crate) fn show_history(entries: &[DownloadEntry]) {
    for entry in entries {
        println!(
            "{} {} {} {} bytes in {} ms from {}: {}",
            entry.at,
            entry.component,
            entry.version,
            entry.bytes,
            entry.milliseconds,
            entry.source,
            entry.outcome
        );
    }
}

pub(crate) fn show_list_history(entries: &[ListEntry]) {
    for entry in entries {
        println!(
            "{} {:<24} {:<9} {}",
            entry.at, entry.device, entry.change, entry.how
        );
    }
}
