//! The time this program signs with and judges certificates by (DESIGN section 4, "Time").

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use mtls::Clock;
use tuf::UnixTime;
use tuf::clock::{Believed, believe};

/// A clock held against what was signed here before the start: one at 1970 or 2099 is not believed.
///
/// The floor is fixed at the start, and only the time since then is added to it. Were it raised by what this
/// program signs itself, a wrong clock would lend it a little more time with every signature.
#[derive(Debug)]
pub(crate) struct Floored {
    wall: Arc<dyn Clock>,
    floor: OnceLock<UnixTime>,
    started: Duration,
}

impl Floored {
    pub(crate) fn new(wall: Arc<dyn Clock>) -> Self {
        Self {
            wall,
            floor: OnceLock::new(),
            started: mtls::since_boot(),
        }
    }

    /// Nothing verified is older than this; counts only once.
    pub(crate) fn set_floor(&self, floor: UnixTime) {
        let _ = self.floor.set(floor);
    }
}

impl Clock for Floored {
    fn now(&self) -> Believed {
        let running = mtls::since_boot().saturating_sub(self.started);
        believe(self.wall.now().now, running, self.floor.get().copied())
    }
}
