//! What time it is, when the clock may lie (DESIGN section 4, "Time").

use std::time::Duration;

use crate::UnixTime;

/// A clock more than this far above the floor is not believed: two years, in seconds.
///
/// Without the cap, a device whose clock says 2099 would call everything expired; with it, the worst a
/// wrong clock does is to make freshness unknown.
pub const BELIEVED_ABOVE_FLOOR_SECONDS: i64 = 2 * 365 * 24 * 60 * 60;

/// A time to verify with, and whether it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Believed {
    /// The time to use, for the metadata and for TLS alike.
    pub now: UnixTime,
    /// False: the clock was not believed, `now` is a lower bound and "freshness unknown" is to be reported.
    pub known: bool,
}

/// The time to use when the wall clock says `wall`, the machine has run for `since_boot`, and nothing
/// verified lies after `floor` ([`crate::TrustedState::not_before`]).
#[must_use]
pub fn believe(wall: UnixTime, since_boot: Duration, floor: Option<UnixTime>) -> Believed {
    let Some(floor) = floor else {
        return Believed {
            now: wall,
            known: true,
        };
    };
    if wall >= floor && wall.seconds_since(floor) <= BELIEVED_ABOVE_FLOOR_SECONDS {
        return Believed {
            now: wall,
            known: true,
        };
    }
    let running = i64::try_from(since_boot.as_secs()).unwrap_or(i64::MAX);
    Believed {
        now: floor.plus_seconds(running),
        known: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FLOOR: UnixTime = UnixTime(1_800_000_000);

    #[test]
    fn a_clock_at_1970_or_2099_is_not_believed_and_time_still_passes() {
        for wall in [UnixTime(0), UnixTime(4_070_908_800), FLOOR.plus_seconds(-1)] {
            let believed = believe(wall, Duration::from_secs(90), Some(FLOOR));
            assert_eq!(
                believed,
                Believed {
                    now: FLOOR.plus_seconds(90),
                    known: false
                }
            );
        }
    }

    #[test]
    fn a_clock_within_two_years_of_the_floor_is_believed() {
        for wall in [FLOOR, FLOOR.plus_seconds(BELIEVED_ABOVE_FLOOR_SECONDS)] {
            assert_eq!(
                believe(wall, Duration::ZERO, Some(FLOOR)),
                Believed {
                    now: wall,
                    known: true
                }
            );
        }
        let late = FLOOR.plus_seconds(BELIEVED_ABOVE_FLOOR_SECONDS + 1);
        assert!(!believe(late, Duration::ZERO, Some(FLOOR)).known);
    }

    #[test]
    fn without_a_floor_the_clock_is_all_there_is() {
        assert_eq!(
            believe(UnixTime(0), Duration::ZERO, None),
            Believed {
                now: UnixTime(0),
                known: true
            }
        );
    }

    proptest! {
        #[test]
        fn the_time_used_is_never_below_the_floor(wall: i64, running: u64, floor in 0..4_000_000_000_i64) {
            let floor = UnixTime(floor);
            let believed = believe(UnixTime(wall), Duration::from_secs(running), Some(floor));
            prop_assert!(believed.now >= floor);
        }
    }
}
