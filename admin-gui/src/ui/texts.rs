//! The window's words; `en.toml` has them.

gui_kit::texts! {
    /// The texts of the author's window.
    Words {
        title, service, waiting_title, waiting_hint, page_overview, page_history, page_fleet, page_latency,
        page_keys, page_events, repository_is, reach_unknown, reach_yes, reach_no, reach_distrusted,
        site_broken, too_many_commands, not_known, applications, upload, upload_note, nothing_published,
        nothing_published_hint, app_name, current, none_current, release_time, version, size, architecture,
        any_architecture, description, withdrawn, devices_outcome, outcome_committed, outcome_rolled_back,
        outcome_refused, outcome_failed, see_devices, repository, refresh, refreshing, asked_verified, asked_never,
        repository_empty, repository_trouble, role, expires, role_version, stale, stale_why, stale_remedy,
        refused_reports, refused_reports_remedy, renew_asks, recover_asks, choose_title, reading_title,
        unreadable, choose_another, upload_another, check_again, try_again, understood, previous, previous_of,
        no_previous, file, kind, form_package, form_single, digest, checks, say_yourself, say_yourself_hint,
        sign_title, passphrase, keep_open, key_open_until, sign_and_publish, passphrase_missing,
        passphrase_remedy, wrong_passphrase, wrong_passphrase_remedy, not_published, not_done, publishing,
        step_check, step_sign, step_upload, step_publish, phase_starting, phase_reading, phase_checking,
        phase_signing, phase_uploading, phase_publishing, phase_published, phase_rehearsing, rehearse_title, rehearse_hint, rehearse,
        rehearse_again, rehearse_choose, not_rehearsed, rehearsal_bad, rehearsal_bad_remedy, rehearsal_cancelled, rehearsal_well, published_hint, failed_publish,
        cancelled, nothing_visible, history_empty, history_empty_hint, history_cut, entries_shown,
        upload_time, action, action_publish, action_withdraw, action_renew, result, result_done, entry_name,
        source, update, signer, author, receipt, receipt_of, fleet_empty, fleet_empty_hint, reports_old,
        devices_shown, device, runs, doing, last_update, last_report, reason, before, held, latency_empty,
        latency_empty_hint, latency_lines, latency_lines_name, latency_boxes, latency_boxes_name,
        milliseconds, latency_type, median, mean, least, most, figures, type_1, type_2, type_3, type_4,
        type_5, type_6, type_7, signing_key, key_locked, key_open, key_locked_hint, lock_now, key_files,
        key_files_hint, key_root, key_targets, key_authority, key_connection, key_elsewhere, expiries,
        author_certificate, withdraw_asks, withdraw, withdraw_title, withdraw_hint, withdraw_reason,
        reason_missing, reason_remedy, renew, renew_title, renew_hint, renew_targets, renew_root, renew_all,
        recover, recover_title, recover_hint, wizard_title, wizard_hint, wizard_who, site_name,
        site_name_hint, site_name_missing, author_name, author_name_hint, repository_address,
        repository_address_hint, manager_address, manager_address_hint, key_kind, key_kind_rsa,
        key_kind_ed25519, wizard_passphrase, wizard_passphrase_hint, passphrase_again, passphrases_differ,
        passphrases_differ_remedy, make_site, making_site, site_not_made, site_made, site_made_where,
        root_ends, next_steps, next_repository, next_repository_here, next_manager, next_manager_here, next_devices, next_backup, fingerprints,
        fingerprints_hint, root_fingerprint, ca_fingerprint, go_on,
    }
}

/// English.
pub const ENGLISH: &str = include_str!("en.toml");
