//! What is wrong with the device, and what to do about it.

use egui::Ui;
use gui_kit::format;
use gui_kit::text::fill;
use gui_kit::widgets::{Notice, Tone};

use super::parts::{Scene, quoted};

/// A certificate is renewed at two thirds of its life: whoever has less than this left has missed it for days.
const CERTIFICATE_WARNING_SECONDS: i64 = 5 * 86_400;

/// Shows all that is wrong, worst first.
pub(super) fn show(ui: &mut Ui, scene: &Scene<'_>) {
    let mut notices = all(scene);
    notices.sort_by_key(|notice| std::cmp::Reverse(notice.tone));
    for notice in notices {
        notice.show(ui, |_| {});
    }
}

fn all(scene: &Scene<'_>) -> Vec<Notice> {
    let (words, status) = (scene.words, &scene.snapshot.status);
    let mut notices = Vec::new();
    let mut add = |tone, what: String, why: String, remedy: String| {
        notices.push(Notice {
            tone,
            what,
            why,
            remedy,
        });
    };
    if let Some(trouble) = &status.trouble {
        let command = format!("device repair-trust --dir {} --root root.json", quoted(scene.dir));
        let remedy = fill(&words.trouble_remedy, &[&command]);
        add(
            Tone::Bad,
            words.trouble_what.clone(),
            format::sentence(trouble),
            remedy,
        );
    }
    if let Some(since) = status.stale_since {
        let what = fill(&words.stale_what, &[&format::time(since)]);
        add(Tone::Warn, what, String::new(), words.stale_remedy.clone());
    }
    if !status.time_known {
        let remedy = words.clock_remedy.clone();
        add(Tone::Warn, words.clock_what.clone(), String::new(), remedy);
    }
    if !status.connected && !status.connection.is_empty() {
        let what = fill(&words.offline_what, &[&status.manager]);
        add(
            Tone::Warn,
            what,
            format::sentence(&status.connection),
            words.offline_remedy.clone(),
        );
    }
    if let Some(until) = status.certificate_until {
        let left = until.seconds_since(scene.now);
        let remedy = fill(&words.certificate_remedy, &[&status.manager]);
        let date = format::date(until);
        if left <= 0 {
            let what = fill(&words.certificate_ended, &[&date]);
            add(Tone::Bad, what, String::new(), remedy);
        } else if left < CERTIFICATE_WARNING_SECONDS {
            let what = fill(&words.certificate_ends, &[&date]);
            add(Tone::Warn, what, String::new(), remedy);
        }
    }
    notices
}
