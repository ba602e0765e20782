//! Attacks by the thousand (`scripts/eval-security`): every row is one attack on one party, tried with inputs that all
//! differ; a wrong input counts as refused only if the check that the row names refused it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde::Serialize;
use tuf::Digest;

mod copies;
mod device;
mod doors;
mod files;
mod gateway;
mod joining;
mod metadata;

/// Different reasons that are kept of one row.
const REASONS: usize = 12;
/// Characters of a reason.
const REASON: usize = 160;

/// How much is tried.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Inputs of each row.
    pub trials: usize,
    /// The same seed makes the same inputs, but for keys and times.
    pub seed: u64,
}

/// What became of one input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It was taken.
    Accepted,
    /// It was not, and why.
    Refused(String),
}

/// What is tried on whom.
#[derive(Debug, Clone, Serialize)]
pub struct Subject {
    /// The row of the document (6.4), or the attack's number or name.
    pub id: &'static str,
    /// What is tried.
    pub what: String,
    /// Who has to find out.
    pub at: &'static str,
    /// Who attacks.
    pub attacker: &'static str,
}

/// One row of the result.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// What was tried.
    #[serde(flatten)]
    pub subject: Subject,
    /// Whether the inputs were right ones.
    pub right: bool,
    /// How many were tried.
    pub trials: usize,
    /// How many of them differ.
    pub distinct: usize,
    /// How many were accepted.
    pub accepted: usize,
    /// How many were refused by another check than the row names.
    pub elsewhere: usize,
    /// Reasons given, with digits and digests left out, and how often.
    pub reasons: BTreeMap<String, usize>,
    /// Seconds that all of them took; where a row measures something of its own, of that.
    pub seconds: f64,
    /// The longest of what the row measures, seconds.
    pub longest: Option<f64>,
    #[serde(skip)]
    seen: BTreeSet<Digest>,
    #[serde(skip)]
    wanted: &'static [&'static str],
    #[serde(skip)]
    begun: Instant,
}

impl Row {
    fn new(subject: Subject, wanted: &'static [&'static str], right: bool) -> Self {
        Self {
            subject,
            right,
            trials: 0,
            distinct: 0,
            accepted: 0,
            elsewhere: 0,
            reasons: BTreeMap::new(),
            seconds: 0.0,
            longest: None,
            seen: BTreeSet::new(),
            wanted,
            begun: Instant::now(),
        }
    }

    /// Inputs that must be accepted.
    #[must_use]
    fn right(id: &'static str, what: &str, at: &'static str) -> Self {
        let subject = Subject {
            id,
            what: what.to_owned(),
            at,
            attacker: "nobody",
        };
        Self::new(subject, &[], true)
    }

    /// Inputs that must be refused for one of the reasons `wanted`.
    #[must_use]
    fn wrong(
        id: &'static str,
        what: &str,
        at: &'static str,
        attacker: &'static str,
        wanted: &'static [&'static str],
    ) -> Self {
        let subject = Subject {
            id,
            what: what.to_owned(),
            at,
            attacker,
        };
        Self::new(subject, wanted, false)
    }

    fn note(&mut self, input: Digest, verdict: Verdict) {
        self.trials += 1;
        self.seen.insert(input);
        match verdict {
            Verdict::Accepted => self.accepted += 1,
            Verdict::Refused(reason) => {
                if !self.right && !self.wanted.iter().any(|wanted| reason.contains(wanted)) {
                    self.elsewhere += 1;
                }
                let mut reason = general(&reason);
                if self.reasons.len() >= REASONS && !self.reasons.contains_key(&reason) {
                    reason = "others".to_owned();
                }
                *self.reasons.entry(reason).or_default() += 1;
            }
        }
    }

    /// What one input took, where the row measures more than the time from row to row.
    fn took(&mut self, time: Duration) {
        let seconds = time.as_secs_f64();
        self.seconds += seconds;
        self.longest = Some(self.longest.map_or(seconds, |longest| longest.max(seconds)));
    }

    fn done(mut self) -> Self {
        self.distinct = self.seen.len();
        if self.longest.is_none() {
            self.seconds = self.begun.elapsed().as_secs_f64();
        }
        self
    }

    /// Whether it came out as it must.
    #[must_use]
    pub fn holds(&self) -> bool {
        let accepted = if self.right { self.trials } else { 0 };
        self.accepted == accepted && self.elsewhere == 0 && self.trials > 0
    }

    /// Share of the inputs that were accepted, in percent.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    pub fn percent(&self) -> f64 {
        100.0 * self.accepted as f64 / self.trials.max(1) as f64
    }

    /// Mean time of one input.
    #[must_use]
    pub fn each(&self) -> Duration {
        let trials = u32::try_from(self.trials.max(1)).unwrap_or(u32::MAX);
        Duration::from_secs_f64(self.seconds) / trials
    }
}

/// A reason without what differs from input to input: digests, numbers.
fn general(reason: &str) -> String {
    let mut text = String::new();
    for word in reason.split_inclusive(|c: char| !c.is_ascii_alphanumeric()) {
        let (body, end) = match word.char_indices().last() {
            Some((at, last)) if !last.is_ascii_alphanumeric() => word.split_at(at),
            _ => (word, ""),
        };
        let number = body.bytes().any(|byte| byte.is_ascii_digit());
        text.push_str(if number { "N" } else { body });
        text.push_str(end);
    }
    text.chars().take(REASON).collect()
}

/// Tries everything; each row is handed on when it is done.
pub async fn run(plan: Plan, mut each: impl FnMut(&Row)) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut take = |row: Row| {
        let row = row.done();
        each(&row);
        rows.push(row);
    };
    gateway::run(plan, &mut take).await;
    device::run(plan, &mut take).await;
    doors::run(plan, &mut take).await;
    joining::run(plan, &mut take).await;
    copies::run(plan, &mut take).await;
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_by_another_check_is_not_the_rows_own() {
        let mut row = Row::wrong("A1", "flipped", "device", "network", &["hash"]);
        row.note(Digest::of(b"1"), Verdict::Refused("the hash differs".into()));
        assert!(row.holds());
        row.note(Digest::of(b"2"), Verdict::Refused("the disk is full".into()));
        assert!(!row.holds());
        let mut row = Row::wrong("A1", "flipped", "device", "network", &["hash"]);
        row.note(Digest::of(b"1"), Verdict::Accepted);
        assert!(!row.holds());
        assert!(!Row::right("6.4", "nothing tried", "device").holds());
    }

    #[test]
    fn what_differs_from_input_to_input_is_left_out() {
        assert_eq!(
            general("12.targets.json has 0 valid signatures of ab12cd"),
            general("77.targets.json has 0 valid signatures of 99fe00")
        );
    }
}
