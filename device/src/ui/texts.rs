//! The window's words; `en.toml` has them.

gui_kit::texts! {
    /// The texts of the device's window.
    Words {
        title, service, page_overview, page_update, page_history, page_events, page_device, not_enrolled,
        not_enrolled_hint, not_enrolled_then, command_name, root_place, nothing_installed, nothing_installed_hint,
        running_for, not_running, no_version, current_version, released, by, license, state_empty, state_running,
        state_downloading, state_staging, state_switching, state_probation, state_rolling_back, state_failing,
        held_what, held_why, held_remedy, bad_what, bad_remedy, failing_what, failing_why, failing_remedy, roll_back,
        rolling_back, release, ask_roll_back, ask_roll_back_why, rolled_back, released_again, failed_roll_back,
        failed_release, too_many, connection, whose, connected, not_connected, connected_polling, download_information,
        install_information, no_download, no_install, download_of, download_progress, downloaded_in, downloaded_all,
        no_description, stage_download, stage_check, stage_install, stage_restart, stage_probation, stage_name,
        stage_done, ended_committed, ended_badly, ended_rolled_back, whole_reason, restart_what, restart_to, history_empty,
        history_empty_hint, history_line, nothing_before, outcome_committed, outcome_rolled_back,
        outcome_refused, outcome_failed, event_ordered, event_stopping, event_healthy, event_withdrawn, device_name,
        device_site, device_manager, device_agent, device_certificate, device_metadata, device_metadata_fresh,
        device_metadata_stale, device_clock, device_clock_known, device_clock_unknown, device_folder, device_look,
        unknown, trouble_what, trouble_remedy, stale_what, stale_remedy, clock_what, clock_remedy, certificate_ends,
        certificate_ended, certificate_remedy, offline_what, offline_remedy, start_agent, waits_what, waits_unfetched,
        waits_since, waits_until, waits_then, waits_remedy, activate, failed_activate, event_waiting,
    }
}

/// English.
pub const ENGLISH: &str = include_str!("en.toml");
