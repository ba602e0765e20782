//! What the agent gets from outside, so that tests can bring their own.

use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::Arc;

use durable::Files;
use mtls::FlooredClock;

use crate::launcher::Place;
use crate::random::{Random, SystemRandom};
use crate::sensors::{Machine, Sensors};

/// Clock, randomness, disk, the machine's figures, and where a test may cut the power.
#[derive(Debug, Clone)]
pub struct World {
    /// The time, as far as it is known.
    pub clock: Arc<FlooredClock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
    /// The disk.
    pub files: Files,
    /// Local time, load, batteries.
    pub sensors: Arc<dyn Sensors>,
    /// The program whose command `copy-output` copies what programs write: this one.
    pub copier: PathBuf,
    /// How this agent came to run, and who starts the next one.
    pub place: Place,
    /// Where execution may end without notice.
    pub cut: Arc<dyn Cut>,
}

/// Decides at each point of the install life whether the agent ends there, as by `kill -9`.
pub trait Cut: Send + Sync + Debug {
    /// Whether to end here.
    fn ends_at(&self, point: Point) -> bool;
}

/// Nothing is cut.
#[derive(Debug, Clone, Copy)]
pub struct Whole;

impl Cut for Whole {
    fn ends_at(&self, _point: Point) -> bool {
        false
    }
}

/// A point in the install life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Point {
    /// Before the slot is written with this life.
    BeforeWriting(&'static str),
    /// After it is on disk.
    AfterWriting(&'static str),
    /// After this action.
    After(&'static str),
}

/// The agent was cut off by its [`Cut`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cut off at {0:?}")]
pub struct CutOff(pub Point);

impl World {
    /// The machine as it is.
    #[must_use]
    pub fn system() -> Self {
        Self {
            clock: Arc::new(FlooredClock::new(Some(crate::BUILT))),
            random: Arc::new(SystemRandom),
            files: Files::real(),
            sensors: Arc::new(Machine),
            // Still this program where its file was replaced meanwhile.
            copier: PathBuf::from("/proc/self/exe"),
            place: Place::default(),
            cut: Arc::new(Whole),
        }
    }

    /// Ends here if the cut says so.
    ///
    /// # Errors
    /// [`CutOff`]: the caller returns at once and cleans up nothing.
    pub fn pass(&self, point: Point) -> Result<(), CutOff> {
        if self.cut.ends_at(point) {
            Err(CutOff(point))
        } else {
            Ok(())
        }
    }
}
