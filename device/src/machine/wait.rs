//! How long a release has waited, and what a person has said of it.

use std::collections::BTreeMap;

use protocol::Stamp;
use serde::{Deserialize, Serialize};
use tuf::UnixTime;

/// A release waits for its conditions, or for a person.
///
/// How long is measured so that no clock that somebody sets ends it early: what the boot clocks counted, added up over
/// every boot, or what verified times prove, whichever is more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wait {
    /// When it began, by the time that was believed then.
    pub since: UnixTime,
    /// Seconds that boot clocks had counted up to `marked`.
    pub measured: u64,
    /// When that was.
    pub marked: Stamp,
    /// What was not met at the last look, by its key, and since when.
    #[serde(default)]
    pub unmet: BTreeMap<String, UnixTime>,
    /// Its author's time was over before its conditions came true: it waits for a person.
    #[serde(default)]
    pub asks: bool,
}

/// What a person has said of a release that waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Word {
    /// It may be installed as far as people are concerned.
    Go,
    /// It is to be installed although conditions are not met; which ones, in words.
    Override(String),
}

impl Wait {
    /// A wait that begins now: `believed` as far as the time is known, `now` on the clocks.
    #[must_use]
    pub fn begin(believed: UnixTime, now: &Stamp) -> Self {
        Self {
            since: believed,
            measured: 0,
            marked: now.clone(),
            unmet: BTreeMap::new(),
            asks: false,
        }
    }

    /// The same with what was counted since the last mark added up.
    #[must_use]
    pub fn mark(&self, now: &Stamp) -> Self {
        Self {
            measured: self.counted(now),
            marked: now.clone(),
            ..self.clone()
        }
    }

    /// Seconds that it has lasted for certain; `floor`: nothing verified lies after it.
    #[must_use]
    pub fn seconds(&self, now: &Stamp, floor: Option<UnixTime>) -> u64 {
        let proved = floor.map_or(0, |floor| floor.seconds_since(self.since));
        self.counted(now).max(u64::try_from(proved).unwrap_or(0))
    }

    /// Seconds counted by boot clocks. In another boot than the last mark's the machine has run since it started, at
    /// least; for how long it was off, nobody counted.
    fn counted(&self, now: &Stamp) -> u64 {
        self.measured.saturating_add(self.since_mark(now))
    }

    /// Seconds counted since the last mark.
    #[must_use]
    pub fn since_mark(&self, now: &Stamp) -> u64 {
        let same = now.boot_id == self.marked.boot_id && now.boot_ns >= self.marked.boot_ns;
        let from = if same { self.marked.boot_ns } else { 0 };
        now.boot_ns.saturating_sub(from) / 1_000_000_000
    }
}

impl Word {
    /// What is to be recorded of it.
    #[must_use]
    pub fn note(&self) -> Option<String> {
        match self {
            Self::Go => None,
            Self::Override(conditions) => Some(format!("conditions overridden by hand: {conditions}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(boot: &str, seconds: u64) -> Stamp {
        Stamp {
            wall_ns: 0,
            boot_ns: seconds * 1_000_000_000,
            boot_id: boot.to_owned(),
        }
    }

    #[test]
    fn what_a_power_cut_left_uncounted_is_counted_again_once_it_is_proved() {
        let begin = UnixTime(1_800_000_000);
        let wait = Wait::begin(begin, &at("a", 100)).mark(&at("a", 160));
        assert_eq!(wait.seconds(&at("a", 170), None), 70);
        // Off for a week, as nobody knows; on for 30 seconds again.
        assert_eq!(wait.seconds(&at("b", 30), Some(begin)), 90);
        let proved = Some(begin.plus_seconds(7 * 86_400));
        assert_eq!(wait.seconds(&at("b", 30), proved), 7 * 86_400);
        // A floor below the beginning proves nothing.
        assert_eq!(wait.seconds(&at("b", 30), Some(begin.plus_seconds(-9))), 90);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Marked as often and in as many boots as may be: what is counted is what the machine was on, less at most a
        /// second for each mark.
        #[test]
        fn marks_and_boots_lose_no_time_that_the_machine_was_on(
            spans in prop::collection::vec((1_u64..100_000, any::<bool>()), 1..20),
        ) {
            let mut wait = Wait::begin(UnixTime(0), &at("0", 0));
            let (mut boot, mut up, mut on) = (0_u32, 0_u64, 0_u64);
            for (span, reboots) in &spans {
                up += span;
                on += span;
                wait = wait.mark(&at(&boot.to_string(), up));
                if *reboots {
                    boot += 1;
                    up = 0;
                }
            }
            prop_assert_eq!(wait.seconds(&at(&boot.to_string(), up), None), on);
        }
    }
}
