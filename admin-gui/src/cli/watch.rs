//! Progress on a terminal: a bar where there is one, plain lines elsewhere, nothing where a program reads.

use std::io::IsTerminal as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::progress::{Progress, Sink, nobody};

/// What the command line watches a publish with; standard output stays for results.
#[must_use]
pub(super) fn sink(json: bool) -> Sink {
    if json {
        nobody()
    } else if std::io::stderr().is_terminal() {
        on_terminal()
    } else {
        as_lines()
    }
}

fn on_terminal() -> Sink {
    let bar: Mutex<Option<(&'static str, ProgressBar)>> = Mutex::new(None);
    Arc::new(move |news| {
        let mut bar = bar.lock().unwrap_or_else(PoisonError::into_inner);
        match moving(news) {
            Some((what, done, total)) => {
                if bar.as_ref().is_none_or(|(shown, _)| *shown != what) {
                    *bar = Some((what, new_bar(what, total)));
                }
                if let Some((_, bar)) = &*bar {
                    bar.set_position(done);
                    if done >= total {
                        bar.finish_and_clear();
                    }
                }
            }
            None => {
                if let Some(line) = line(news) {
                    match &*bar {
                        Some((_, bar)) => bar.suspend(|| eprintln!("{line}")),
                        None => eprintln!("{line}"),
                    }
                }
            }
        }
    })
}

fn new_bar(what: &'static str, total: u64) -> ProgressBar {
    let bar = ProgressBar::new(total).with_message(what);
    let template = "{msg:>9} {bar:30} {bytes}/{total_bytes} {bytes_per_sec}, {eta} left";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// One line for each tenth.
fn as_lines() -> Sink {
    let last: Mutex<Option<(&'static str, u64)>> = Mutex::new(None);
    Arc::new(move |news| match moving(news) {
        Some((what, done, total)) => {
            let tenth = done.saturating_mul(10).checked_div(total).unwrap_or(10);
            let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
            if last.replace((what, tenth)) != Some((what, tenth)) {
                eprintln!("{what}: {done} of {total} bytes");
            }
        }
        None => {
            if let Some(line) = line(news) {
                eprintln!("{line}");
            }
        }
    })
}

fn moving(news: &Progress) -> Option<(&'static str, u64, u64)> {
    match news {
        Progress::Reading { done, total } => Some(("reading", *done, *total)),
        Progress::Uploading { done, total } => Some(("uploading", *done, *total)),
        _ => None,
    }
}

fn line(news: &Progress) -> Option<String> {
    match news {
        Progress::Message { text, .. } => Some(text.clone()),
        Progress::Trouble(text) => Some(format!("… {text}")),
        _ => None,
    }
}
