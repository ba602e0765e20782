//! What a device's row means to a person: one word, one colour, one reason.

use gui_kit::text::fill;
use gui_kit::widgets::Tone;
use protocol::control::DeviceRow;
use protocol::device::{Activity, Waiting};
use protocol::{Outcome, Step};

use super::Words;

/// How a device is, the most urgent first: the order in which the column sorts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum State {
    /// It is cut off by the operator's choice.
    Quarantined,
    /// It told trouble of its own.
    Trouble,
    /// Its program does not stay up.
    Failing,
    /// Its last update did not work out.
    Ended(Ended),
    /// It is in the middle of an update.
    Updating(Step),
    /// It is on the list and has not joined.
    Waiting,
    /// It is not connected.
    Away,
    /// It runs nothing yet.
    Empty,
    /// All is well.
    Running,
}

/// How an update ended that did not stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ended {
    Failed,
    RolledBack,
    Refused,
}

impl State {
    pub(crate) fn of(row: &DeviceRow) -> Self {
        if row.quarantine.is_some() {
            return Self::Quarantined;
        }
        if row.trouble.is_some() {
            return Self::Trouble;
        }
        if !row.enrolled {
            return Self::Waiting;
        }
        if !row.connected {
            return Self::Away;
        }
        if let Some(progress) = &row.progress {
            return Self::Updating(progress.step);
        }
        if row
            .components
            .iter()
            .any(|state| state.activity == Activity::Failing)
        {
            return Self::Failing;
        }
        match row.last.as_ref().map(|last| last.outcome) {
            Some(Outcome::Failed) => return Self::Ended(Ended::Failed),
            Some(Outcome::RolledBack) => return Self::Ended(Ended::RolledBack),
            Some(Outcome::Refused) => return Self::Ended(Ended::Refused),
            Some(Outcome::Committed) | None => {}
        }
        if row.components.iter().all(|state| state.version.is_none()) {
            return Self::Empty;
        }
        Self::Running
    }

    pub(crate) fn word(self, words: &Words) -> &str {
        match self {
            Self::Quarantined => &words.state_quarantined,
            Self::Trouble => &words.state_trouble,
            Self::Failing => &words.state_failing,
            Self::Ended(Ended::Failed) => &words.state_failed,
            Self::Ended(Ended::RolledBack) => &words.state_rolled_back,
            Self::Ended(Ended::Refused) => &words.state_refused,
            Self::Updating(step) => doing(words, step),
            Self::Waiting => &words.state_waiting,
            Self::Away => &words.state_away,
            Self::Empty => &words.state_empty,
            Self::Running => &words.state_running,
        }
    }

    pub(crate) fn tone(self) -> Tone {
        match self {
            Self::Quarantined | Self::Trouble | Self::Failing => Tone::Bad,
            Self::Ended(_) => Tone::Warn,
            Self::Updating(_) | Self::Waiting | Self::Away | Self::Empty => Tone::Plain,
            Self::Running => Tone::Good,
        }
    }
}

/// What a device in the middle of an update is doing.
fn doing(words: &Words, step: Step) -> &str {
    match step {
        Step::DownloadStarted | Step::Downloading | Step::Sent => &words.doing_downloading,
        Step::Downloaded | Step::VerifyStarted | Step::Verified => &words.doing_checking,
        Step::InstallStarted | Step::Staged => &words.doing_installing,
        Step::Waiting => &words.doing_waiting,
        Step::Stopping | Step::Stopped | Step::Switched | Step::Started => &words.doing_restarting,
        Step::Healthy => &words.doing_trial,
        _ => &words.doing_ordered,
    }
}

/// A step as a line of the event list tells it.
pub(crate) fn step(words: &Words, step: Step, to_device: bool) -> &str {
    match step {
        Step::Noticed => &words.step_noticed,
        Step::FetchStarted => &words.step_fetch_started,
        Step::Fetched => &words.step_fetched,
        Step::MirrorVerifyStarted => &words.step_mirror_verify_started,
        Step::MirrorVerified => &words.step_mirror_verified,
        Step::Offered => &words.step_offered,
        Step::Sent => &words.step_sent,
        Step::Ordered => &words.step_ordered,
        Step::DownloadStarted | Step::Downloading => &words.step_download_started,
        Step::Downloaded => &words.step_downloaded,
        Step::VerifyStarted => &words.step_verify_started,
        Step::Verified => &words.step_verified,
        Step::InstallStarted => &words.step_install_started,
        Step::Staged => &words.step_staged,
        Step::Waiting => &words.step_waiting,
        Step::Stopping => &words.step_stopping,
        Step::Stopped => &words.step_stopped,
        Step::Switched => &words.step_switched,
        Step::Started => &words.step_started,
        Step::Healthy => &words.step_healthy,
        Step::Committed => &words.step_committed,
        Step::Refused => &words.step_refused,
        Step::Failed if to_device => &words.step_failed,
        Step::Failed => &words.step_fetch_failed,
        Step::RolledBack => &words.step_rolled_back,
        Step::Withdrawn => &words.step_withdrawn,
        Step::Clicked
        | Step::Preflighted
        | Step::Signed
        | Step::Uploaded
        | Step::Published
        | Step::Accepted => &words.step_published,
    }
}

/// `Demo 1.2.0, Gauge 3.0.0`; empty where nothing is installed.
pub(crate) fn versions(row: &DeviceRow) -> String {
    let mut text = String::new();
    for state in &row.components {
        if let Some(version) = &state.version {
            if !text.is_empty() {
                text.push_str(", ");
            }
            text.push_str(&format!("{} {version}", state.component));
        }
    }
    text
}

/// Why it is as it is; empty where there is nothing to explain.
pub(crate) fn reason(words: &Words, row: &DeviceRow) -> String {
    if let Some(trouble) = &row.trouble {
        return trouble.clone();
    }
    if let Some((component, waiting)) = waits(row) {
        return fill(&words.reason_of, &[component, &waiting.version, &unmet(waiting)]);
    }
    let Some(last) = &row.last else {
        return String::new();
    };
    match (&last.reason, last.outcome) {
        (_, Outcome::Committed) => String::new(),
        (Some(reason), _) => fill(&words.reason_of, &[&last.component, &last.version, reason]),
        (None, _) => format!("{} {}", last.component, last.version),
    }
}

/// The first of its components for which a release waits.
fn waits(row: &DeviceRow) -> Option<(&release::Component, &Waiting)> {
    let mut waiting = row.components.iter();
    waiting.find_map(|state| Some((&state.component, state.waiting.as_ref()?)))
}

/// What is not met, in one line.
pub(crate) fn unmet(waiting: &Waiting) -> String {
    let unmet: Vec<String> = waiting.unmet.iter().map(ToString::to_string).collect();
    unmet.join("; ")
}

/// How far a device's download is, 0 to 1; none where no bytes are on their way.
pub(crate) fn part(row: &DeviceRow) -> Option<f32> {
    let progress = row.progress.as_ref()?;
    let (done, total) = (progress.bytes?, progress.total.filter(|total| *total > 0)?);
    if !matches!(progress.step, Step::DownloadStarted | Step::Downloading) {
        return None;
    }
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "a part from 0 to 1"
    )]
    let part = (done as f64 / total as f64) as f32;
    Some(part.clamp(0.0, 1.0))
}
