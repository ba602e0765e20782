//! Figures for people: bytes, rates, times.

use std::time::Duration;

use tuf::UnixTime;

use crate::text::{Kit, fill};

/// `3.2 MB`: decimal, as disks and networks count.
#[must_use]
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    #[allow(clippy::cast_precision_loss, reason = "shown with two digits")]
    let mut value = bytes as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if value < 99.95 {
        format!("{value:.1} {}", UNITS[unit])
    } else {
        format!("{value:.0} {}", UNITS[unit])
    }
}

/// `3.2 MB/s`.
#[must_use]
pub fn rate(bytes_per_second: f64) -> String {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to what u64 holds"
    )]
    let whole = bytes_per_second.clamp(0.0, 1e18) as u64;
    format!("{}/s", bytes(whole))
}

/// `12 s`, `4 min 05 s`, `2 h 10 min`, `3 d 4 h`.
#[must_use]
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// Milliseconds as `204 ms` or `3.2 s`.
#[must_use]
pub fn milliseconds(value: f64) -> String {
    if value < 1000.0 {
        format!("{value:.0} ms")
    } else {
        format!("{:.1} s", value / 1000.0)
    }
}

/// How long ago `at` was, as a person would say it.
#[must_use]
pub fn ago(kit: &Kit, at: UnixTime, now: UnixTime) -> String {
    let seconds = now.seconds_since(at);
    match seconds {
        ..2 => kit.just_now.clone(),
        2..60 => fill(&kit.seconds_ago, &[&seconds]),
        60..3600 => fill(&kit.minutes_ago, &[&(seconds / 60)]),
        3600..172_800 => fill(&kit.hours_ago, &[&(seconds / 3600)]),
        _ => fill(&kit.days_ago, &[&(seconds / 86_400)]),
    }
}

/// [`ago`] on a window, which is drawn again when these words change and not before.
#[must_use]
pub fn ago_shown(ui: &egui::Ui, at: UnixTime, now: UnixTime) -> String {
    ui.ctx().request_repaint_after(ago_holds(at, now));
    ago(&Kit::of(ui.ctx()), at, now)
}

/// How long what [`ago`] says stays true, in whole seconds; at least one.
fn ago_holds(at: UnixTime, now: UnixTime) -> Duration {
    let seconds = now.seconds_since(at);
    let left = match seconds {
        // A clock that was set back: until `at` is reached and a little more.
        ..2 => 2_i64.saturating_sub(seconds),
        2..60 => 1,
        60..3600 => 60 - seconds % 60,
        3600..172_800 => 3600 - seconds % 3600,
        _ => 86_400 - seconds % 86_400,
    };
    Duration::from_secs(u64::try_from(left).unwrap_or(1))
}

/// Time left, as a person would say it.
#[must_use]
pub fn left(kit: &Kit, seconds: u64) -> String {
    match seconds {
        0..90 => fill(&kit.seconds_left, &[&seconds]),
        90..5400 => fill(&kit.minutes_left, &[&((seconds + 30) / 60)]),
        _ => fill(&kit.hours_left, &[&((seconds + 1800) / 3600)]),
    }
}

/// `2026-11-26 16:04:10`, in UTC: the same on every machine of a site, whatever its time zone.
#[must_use]
pub fn time(at: UnixTime) -> String {
    at.to_string().replace('T', " ").replace('Z', "")
}

/// `2026-11-26`.
#[must_use]
pub fn date(at: UnixTime) -> String {
    at.to_string().chars().take(10).collect()
}

/// Characters of a text that [`brief`] leaves.
const BRIEF: usize = 160;

/// A text as a sentence begins.
#[must_use]
pub fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().into_iter().flat_map(char::to_uppercase);
    first.chain(letters).collect()
}

/// As much of a text that a program dictated as fits beside other things: up to where it quotes JSON, which is not for
/// people, and whole words. Where it is cut, all of it must be to be read elsewhere.
#[must_use]
pub fn brief(text: &str) -> String {
    let spoken = text.split_once(": {\"").map_or(text, |(spoken, _)| spoken);
    let end = spoken
        .char_indices()
        .nth(BRIEF)
        .map_or(spoken.len(), |(end, _)| end);
    let start = &spoken[..end];
    if start.len() == text.len() {
        return text.to_owned();
    }
    let whole = match start.rfind(' ') {
        Some(space) if start.len() < spoken.len() && space > end / 2 => &start[..space],
        _ => start,
    };
    format!("{} …", whole.trim_end_matches([' ', ',', ';', ':']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_ends_with_a_whole_word_and_before_what_only_programs_read() {
        assert_eq!(brief("the disk is full"), "the disk is full");
        let answer = "answers 500 Internal Server Error: {\"name\": \"pump\"}; its last output: x";
        assert_eq!(brief(answer), "answers 500 Internal Server Error …");
        let long = "zwölf Wörter, ".repeat(40);
        let cut = brief(&long);
        assert!(cut.ends_with("Wörter …") || cut.ends_with("zwölf …"), "{cut}");
        assert!(cut.chars().count() <= BRIEF + 2, "{cut}");
        assert_eq!(brief(&"ü".repeat(500)).chars().count(), BRIEF + 2);
    }

    /// The words are the same until the moment said, and others from then on.
    #[test]
    fn words_hold_as_long_as_they_are_said_to() {
        let kit = Kit::english();
        let at = UnixTime(1_000_000);
        for seconds in [
            -5, 0, 1, 2, 59, 60, 61, 3599, 3600, 9000, 172_799, 172_800, 999_999,
        ] {
            let now = UnixTime(at.0 + seconds);
            let holds = i64::try_from(ago_holds(at, now).as_secs()).unwrap();
            assert!(holds >= 1);
            let said = ago(&kit, at, now);
            assert_eq!(said, ago(&kit, at, UnixTime(now.0 + holds - 1)), "{seconds}");
            assert_ne!(said, ago(&kit, at, UnixTime(now.0 + holds)), "{seconds}");
        }
    }

    #[test]
    fn figures_are_those_a_person_would_write() {
        for (value, shown) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (3_240_000, "3.2 MB"),
            (250_000_000, "250 MB"),
            (999_960, "1.0 MB"),
            (u64::MAX, "18447 PB"),
        ] {
            assert_eq!(bytes(value), shown);
        }
        assert_eq!(rate(1_500_000.0), "1.5 MB/s");
        assert_eq!(rate(f64::NAN), "0 B/s");
        assert_eq!(duration(Duration::from_secs(245)), "4 min 05 s");
        assert_eq!(duration(Duration::from_secs(277_200)), "3 d 5 h");
        assert_eq!(milliseconds(203.6), "204 ms");
    }
}
