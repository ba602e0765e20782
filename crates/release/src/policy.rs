//! When a release may be installed.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::limits;
use crate::text;

/// How soon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Urgency {
    /// As soon as it is there.
    #[default]
    Immediate,
    /// When the program has nothing to do.
    Idle,
    /// In one of the windows.
    Window,
    /// So many days after its release.
    Soak,
    /// When a person says so.
    ByHand,
}

/// What becomes of a release whose conditions do not come true in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Otherwise {
    /// It waits for a person.
    #[default]
    Ask,
    /// It is installed all the same.
    Install,
    /// It is given up.
    Refuse,
}

/// What becomes of a release on a tainted device: one where what runs is not what was installed, or does not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tainted {
    /// It is installed where there is a way back, or nothing to lose; else it waits for a person.
    #[default]
    Recoverable,
    /// It waits for a person.
    Ask,
    /// It is installed, whatever is there.
    Install,
}

/// When a device may activate a release. The default: at once.
///
/// A condition that a program does not know makes the release malformed for it: what cannot be evaluated
/// must not count as met.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// How soon.
    #[serde(default)]
    pub urgency: Urgency,
    /// Days after the release, for [`Urgency::Soak`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soak_days: Option<u32>,
    /// Times at which it may happen, by the device's local clock; empty: any.
    #[serde(
        default,
        deserialize_with = "text::windows",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub windows: Vec<Window>,
    /// Only while the processors are busy for less than so many percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_below_percent: Option<u8>,
    /// Only while the battery holds more than so many percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power_above_percent: Option<u8>,
    /// Only where the device says that it is, such as `depot`.
    #[serde(
        default,
        deserialize_with = "text::some_label",
        skip_serializing_if = "Option::is_none"
    )]
    pub place: Option<String>,
    /// Only while no interlock of this name is set on the device.
    #[serde(
        default,
        deserialize_with = "text::some_label",
        skip_serializing_if = "Option::is_none"
    )]
    pub interlock: Option<String>,
    /// What becomes of it on a tainted device.
    #[serde(default, skip_serializing_if = "Tainted::is_default")]
    pub tainted: Tainted,
    /// Hours after which waiting ends; none: it waits for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_hours: Option<u32>,
    /// What happens then.
    #[serde(default)]
    pub otherwise: Otherwise,
}

impl Tainted {
    // serde asks by reference.
    #[allow(clippy::trivially_copy_pass_by_ref)]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Policy {
    /// Whether nothing is to be waited for.
    #[must_use]
    pub fn is_immediate(&self) -> bool {
        *self == Self::default()
    }

    /// What contradicts itself in it: the field, and what to do.
    pub(crate) fn contradiction(&self) -> Option<(&'static str, &'static str)> {
        match (self.urgency, self.soak_days, self.windows.is_empty()) {
            (Urgency::Soak, None, _) => {
                return Some(("urgency", "soak needs the number of days: add soak_days = 10"));
            }
            (Urgency::Window, _, true) => {
                return Some((
                    "urgency",
                    "window needs a time: add windows = [\"mon-fri 22:00-04:00\"]",
                ));
            }
            (urgency, Some(_), _) if urgency != Urgency::Soak => {
                return Some((
                    "soak_days",
                    "it has no meaning without urgency = \"soak\": add that or leave this out",
                ));
            }
            _ => {}
        }
        let percent = |field, value: Option<u8>| {
            value
                .is_some_and(|value| !(1..=100).contains(&value))
                .then_some((field, "percent go from 1 to 100"))
        };
        let span = |field, value: Option<u32>, max| {
            value
                .is_some_and(|value| !(1..=max).contains(&value))
                .then_some((field, "it must be at least 1 and at most a year"))
        };
        percent("load_below_percent", self.load_below_percent)
            .or_else(|| percent("power_above_percent", self.power_above_percent))
            .or_else(|| span("soak_days", self.soak_days, limits::POLICY_DAYS))
            .or_else(|| span("wait_hours", self.wait_hours, limits::POLICY_DAYS * 24))
            .or_else(|| {
                (self.otherwise != Otherwise::Ask && self.wait_hours.is_none()).then_some((
                    "otherwise",
                    "it never comes to this without an end of waiting: add wait_hours = 72 or leave this out",
                ))
            })
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = vec![match (self.urgency, self.soak_days) {
            (Urgency::Immediate, _) => "at once".to_owned(),
            (Urgency::Idle, _) => "when the program is idle".to_owned(),
            (Urgency::Window, _) => "in a window".to_owned(),
            (Urgency::Soak, days) => format!("{} days after its release", days.unwrap_or_default()),
            (Urgency::ByHand, _) => "when a person says so".to_owned(),
        }];
        if !self.windows.is_empty() {
            let windows: Vec<String> = self.windows.iter().map(Window::to_string).collect();
            parts.push(format!("only {}", windows.join(", ")));
        }
        let mut more = |text: Option<String>| parts.extend(text);
        more(self.load_below_percent.map(|n| format!("load below {n} %")));
        more(self.power_above_percent.map(|n| format!("power above {n} %")));
        more(self.place.as_ref().map(|place| format!("in {place}")));
        more(
            self.interlock
                .as_ref()
                .map(|name| format!("interlock {name} not set")),
        );
        more(match self.tainted {
            Tainted::Recoverable => None,
            Tainted::Ask => Some("on a tainted device ask a person".to_owned()),
            Tainted::Install => Some("on a tainted device too".to_owned()),
        });
        more(self.wait_hours.map(|hours| {
            let then = match self.otherwise {
                Otherwise::Ask => "ask a person",
                Otherwise::Install => "install all the same",
                Otherwise::Refuse => "give up",
            };
            format!("after {hours} h {then}")
        }));
        f.write_str(&parts.join(", "))
    }
}

/// A time of the week, such as `22:00-04:00` or `sat,sun 00:00-24:00`; `mon-fri` stands for five days.
///
/// It begins on one of its days; where its end is not after its beginning, it ends on the next day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Window {
    /// Bit 0 is Monday.
    days: u8,
    /// Minutes after midnight.
    from: u16,
    /// Minutes after midnight, at most 1440.
    to: u16,
}

/// Why a text is no window.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no time of the week: write it like \"22:00-04:00\" or \"mon-fri 22:00-04:00\"")]
pub struct WindowError(String);

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const EVERY_DAY: u8 = 0x7f;

impl Window {
    /// Whether it is open on a day (0 is Monday) at a minute after midnight.
    #[must_use]
    pub fn is_open(&self, day: u8, minute: u16) -> bool {
        let begins = |day: u8| self.days >> (day % 7) & 1 == 1;
        if self.from < self.to {
            begins(day) && (self.from..self.to).contains(&minute)
        } else {
            (begins(day) && minute >= self.from) || (begins(day % 7 + 6) && minute < self.to)
        }
    }
}

impl FromStr for Window {
    type Err = WindowError;

    fn from_str(text: &str) -> Result<Self, WindowError> {
        let wrong = || WindowError(crate::name::shorten(text));
        let (days, times) = match text.split_once(' ') {
            Some((days, times)) => (days_of(days).ok_or_else(wrong)?, times),
            None => (EVERY_DAY, text),
        };
        let (from, to) = times.split_once('-').ok_or_else(wrong)?;
        let from = minute_of(from)
            .filter(|minute| *minute < 1440)
            .ok_or_else(wrong)?;
        let to = minute_of(to).ok_or_else(wrong)?;
        Ok(Self { days, from, to })
    }
}

fn days_of(text: &str) -> Option<u8> {
    let number = |name: &str| DAYS.iter().position(|day| *day == name);
    let mut days = 0;
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        // `sat-mon` goes over the end of the week.
        for day in 0..=(last + 7 - first) % 7 {
            days |= 1 << ((first + day) % 7);
        }
    }
    Some(days)
}

fn minute_of(text: &str) -> Option<u16> {
    let digits = |text: &str| {
        let plain = text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
        plain.then(|| text.parse::<u16>().ok()).flatten()
    };
    let (hours, minutes) = text.split_once(':')?;
    let (hours, minutes) = (digits(hours)?, digits(minutes)?);
    let all = hours * 60 + minutes;
    (minutes < 60 && all <= 1440).then_some(all)
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.days != EVERY_DAY {
            let names = DAYS.iter().enumerate();
            let days: Vec<&str> = names
                .filter(|(day, _)| self.days >> day & 1 == 1)
                .map(|(_, name)| *name)
                .collect();
            write!(f, "{} ", days.join(","))?;
        }
        let (from, to) = (self.from, self.to);
        write!(
            f,
            "{:02}:{:02}-{:02}:{:02}",
            from / 60,
            from % 60,
            to / 60,
            to % 60
        )
    }
}

impl TryFrom<String> for Window {
    type Error = WindowError;

    fn try_from(text: String) -> Result<Self, WindowError> {
        text.parse()
    }
}

impl From<Window> for String {
    fn from(window: Window) -> Self {
        window.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn window(text: &str) -> Window {
        text.parse().unwrap()
    }

    #[test]
    fn a_window_over_midnight_belongs_to_the_day_it_begins_on() {
        let night = window("fri 22:00-04:00");
        for (day, hour, open) in [
            (4, 21, false),
            (4, 22, true),
            (4, 23, true),
            (5, 0, true),
            (5, 3, true),
            (5, 4, false),
            (5, 22, false),
            (4, 3, false),
        ] {
            assert_eq!(night.is_open(day, hour * 60), open, "day {day} at {hour}");
        }
        assert!(window("sun 23:00-01:00").is_open(0, 30), "Monday follows Sunday");
        assert!((0..7).all(|day| window("00:00-24:00").is_open(day, 1439)));
    }

    #[test]
    fn what_is_no_window_is_refused() {
        for bad in [
            "",
            "22:00",
            "22-23",
            "24:00-01:00",
            "22:60-23:00",
            "22:00-24:01",
            "1:00-2:00",
            "mo 01:00-02:00",
            "mon  01:00-02:00",
            "mon, 01:00-02:00",
            "+1:00-02:00",
            "01:00-02:00 mon",
            "mon-fri",
        ] {
            assert!(bad.parse::<Window>().is_err(), "{bad:?}");
        }
        for (text, normal) in [
            ("mon-sun 01:00-02:00", "01:00-02:00"),
            ("sat-mon 01:00-02:00", "mon,sat,sun 01:00-02:00"),
            ("fri,mon-tue 01:00-24:00", "mon,tue,fri 01:00-24:00"),
        ] {
            assert_eq!(window(text).to_string(), normal);
        }
    }

    proptest! {
        #[test]
        fn a_printed_window_is_the_same_window(days in 1u8..=127, from in 0u16..1440, to in 0u16..=1440) {
            let window = Window { days, from, to };
            prop_assert_eq!(window.to_string().parse::<Window>().unwrap(), window);
        }

        #[test]
        fn a_window_is_open_for_as_long_as_it_says(days in 1u8..=127, from in 0u16..1440, to in 0u16..=1440) {
            let window = Window { days, from, to };
            // Counted minute by minute through a week; a window of a whole day touches none of the next.
            let length = if to > from { to - from } else { 1440 - from + to };
            let open = (0..7u8).flat_map(|day| (0..1440u16).map(move |minute| (day, minute)));
            let open = open.filter(|(day, minute)| window.is_open(*day, *minute)).count();
            prop_assert_eq!(open, usize::from(length) * days.count_ones() as usize);
        }

        #[test]
        fn no_text_makes_a_window_panic(text in "[a-z0-9:, -]{0,24}") {
            if let Ok(window) = text.parse::<Window>() {
                prop_assert_eq!(window.to_string().parse::<Window>().unwrap(), window);
            }
        }
    }
}
