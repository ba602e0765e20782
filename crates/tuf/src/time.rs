//! Times as the metadata writes them: UTC, whole seconds.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::{Date, Month, OffsetDateTime, Time};

/// Seconds since 1970-01-01T00:00:00Z, written `YYYY-MM-DDTHH:MM:SSZ` (specification, section 4.2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixTime(pub i64);

/// A text that is not a time of the form `YYYY-MM-DDTHH:MM:SSZ`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a time of the form YYYY-MM-DDTHH:MM:SSZ")]
pub struct TimeError;

impl UnixTime {
    /// 0001-01-01T00:00:00Z, the earliest time the form can carry.
    pub const MIN: Self = Self(-62_135_596_800);
    /// 9999-12-31T23:59:59Z, the latest time the form can carry.
    pub const MAX: Self = Self(253_402_300_799);

    /// This time plus `seconds`, kept within [`MIN`](Self::MIN) and [`MAX`](Self::MAX).
    #[must_use]
    pub const fn plus_seconds(self, seconds: i64) -> Self {
        Self(self.0.saturating_add(seconds)).within_range()
    }

    /// Seconds from `earlier` to this time; negative when this one is the earlier.
    #[must_use]
    pub const fn seconds_since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    const fn within_range(self) -> Self {
        if self.0 < Self::MIN.0 {
            Self::MIN
        } else if self.0 > Self::MAX.0 {
            Self::MAX
        } else {
            self
        }
    }
}

impl fmt::Display for UnixTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moment =
            OffsetDateTime::from_unix_timestamp(self.within_range().0).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let (date, time) = (moment.date(), moment.time());
        let (year, month, day) = (date.year(), u8::from(date.month()), date.day());
        let (hour, minute, second) = time.as_hms();
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"
        )
    }
}

impl fmt::Debug for UnixTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UnixTime({self})")
    }
}

impl FromStr for UnixTime {
    type Err = TimeError;

    fn from_str(text: &str) -> Result<Self, TimeError> {
        parse(text.as_bytes()).ok_or(TimeError)
    }
}

/// Exactly the twenty characters of the form; no offset, no fraction, no leap second.
fn parse(text: &[u8]) -> Option<UnixTime> {
    let form = b"dddd-dd-ddTdd:dd:ddZ";
    let fits = text.len() == form.len()
        && text
            .iter()
            .zip(form)
            .all(|(&c, &f)| if f == b'd' { c.is_ascii_digit() } else { c == f });
    if !fits {
        return None;
    }
    let number = |from: usize, to: usize| {
        text[from..to]
            .iter()
            .fold(0_u16, |n, c| n * 10 + u16::from(c - b'0'))
    };
    let small = |from: usize| u8::try_from(number(from, from + 2)).ok();
    let month = Month::try_from(small(5)?).ok()?;
    let date = Date::from_calendar_date(i32::from(number(0, 4)), month, small(8)?).ok()?;
    let time = Time::from_hms(small(11)?, small(14)?, small(17)?).ok()?;
    let seconds = date.with_time(time).assume_utc().unix_timestamp();
    (seconds >= UnixTime::MIN.0).then_some(UnixTime(seconds))
}

impl Serialize for UnixTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for UnixTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_the_one_form_of_the_specification_is_a_time() {
        assert_eq!("1970-01-01T00:00:00Z".parse(), Ok(UnixTime(0)));
        assert_eq!("2026-11-26T12:00:00Z".parse(), Ok(UnixTime(1_795_694_400)));
        for wrong in [
            "",
            "2026-11-26T12:00:00",
            "2026-11-26 12:00:00Z",
            "2026-02-30T12:00:00Z",
            "2026-13-01T12:00:00Z",
            "2026-11-26T24:00:00Z",
            "2026-11-26T12:00:60Z",
            "0000-01-01T00:00:00Z",
            "2026-11-26T12:00:00.5Z",
            "2026-11-26T12:00:00+00:00",
            "+026-11-26T12:00:00Z",
        ] {
            assert_eq!(wrong.parse::<UnixTime>(), Err(TimeError), "{wrong}");
        }
    }

    #[test]
    fn sums_stay_within_what_can_be_written() {
        assert_eq!(UnixTime(i64::MAX).plus_seconds(i64::MAX), UnixTime::MAX);
        assert_eq!(UnixTime(i64::MIN).plus_seconds(-1), UnixTime::MIN);
        assert_eq!(UnixTime(i64::MIN).to_string(), "0001-01-01T00:00:00Z");
    }

    proptest! {
        #[test]
        fn every_time_is_read_back_from_its_text(seconds in UnixTime::MIN.0..=UnixTime::MAX.0) {
            prop_assert_eq!(UnixTime(seconds).to_string().parse(), Ok(UnixTime(seconds)));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,24}") {
            let _ = text.parse::<UnixTime>();
        }
    }
}
