//! `kill -9` of the running agent at random moments of updates and roll backs.

use std::time::Duration;

use super::rig::Rig;
use super::{Plan, Row, Trial};
use crate::draws::Draws;
use crate::site::Agent;

/// Interruptions of one site; then another begins, so that metadata and stores stay those of a site.
pub(super) const PER_SITE: usize = 100;
/// Of so many releases one is bad.
const ONE_BAD_IN: usize = 4;

/// Moments in an update or in a roll back.
#[derive(Debug, Clone, Copy)]
pub(super) struct Windows {
    good: Duration,
    bad: Duration,
}

impl Windows {
    /// Measured on a device whose agent runs.
    pub(super) async fn measure(rig: &mut Rig) -> Self {
        Self {
            good: rig.window(true).await,
            bad: rig.window(false).await,
        }
    }

    /// Whether the next release is good, and when in its life it is interrupted.
    pub(super) fn draw(&self, draws: &mut Draws) -> (bool, Duration) {
        let good = draws.below(ONE_BAD_IN) != 0;
        let window = if good { self.good } else { self.bad };
        let micros = usize::try_from(window.as_micros()).unwrap_or(usize::MAX);
        (good, Duration::from_micros(draws.below(micros) as u64))
    }
}

pub(super) async fn run(plan: Plan, take: &mut impl FnMut(Row)) {
    let mut row = Row::new("kills", "kill -9 of the running agent at random moments");
    let mut draws = Draws(plan.seed ^ 0x6b69_6c6c);
    let mut left = plan.kills;
    while left > 0 {
        let mut rig = Rig::new(None).await;
        rig.device.start().await;
        let windows = Windows::measure(&mut rig).await;
        let here = left.min(PER_SITE);
        for _ in 0..here {
            let (good, delay) = windows.draw(&mut draws);
            row.note(kill(&mut rig, good, delay).await);
        }
        rig.device.stop().await;
        left -= here;
    }
    take(row);
}

async fn kill(rig: &mut Rig, good: bool, delay: Duration) -> Trial {
    let before = rig.before();
    let release = rig.interrupt(good, delay, Agent::kill).await;
    let mut trial = Trial::at(rig.place(release, &before));
    rig.hold(release, &before, &mut trial);
    rig.device.start_quietly();
    rig.recover(release, before, &mut trial).await;
    trial
}
