//! Prepare to die: a running program gives its state and its connections to its next version, and drops nothing.
//!
//! An agent asks every unit of an update to [prepare](Message::Prepare). Each finishes what it must, stands still, and gives
//! its state (a sealed memfd) and its descriptors. The new programs, started beforehand, take them and say that they are
//! alive. Only then the agent decides; until the decision the old programs can go on at once, because what they gave are
//! duplicates. The decision is one [`Verdict`] that all of them hold and that can be made only once, so that the old or the
//! new version serves, whoever dies when. The wire is told in `docs/handoff.md`, so that other languages can speak it.
//!
//! ```no_run
//! # async fn serve() {} fn restore(_: &[u8]) {}
//! # async fn run() -> Result<(), handoff::Error> {
//! let (mut program, inherited) = handoff::Program::from_env().await?;
//! if let Some(inherited) = &inherited {
//!     restore(&inherited.state()?);
//! }
//! program.alive().await?; // From here on this program serves, and nobody else.
//! loop {
//!     tokio::select! {
//!         () = serve() => {}
//!         prepare = program.asked() => {
//!             // Stand still here.
//!             if program.give(&prepare, 1, b"state", &[]).await.is_released() {
//!                 return Ok(());
//!             }
//!         }
//!     }
//! }
//! # }
//! # fn main() {}
//! ```

#[cfg(feature = "program")]
mod barrier;
mod desk;
mod error;
pub mod limits;
mod message;
#[cfg(feature = "program")]
mod program;
mod seat;
#[cfg(feature = "program")]
pub mod socket;
mod state;
mod update;
mod verdict;
mod wire;

#[cfg(feature = "program")]
pub use barrier::{Barrier, Pass, Still};
pub use desk::{Desk, Guest};
pub use error::Error;
pub use message::{Directives, Message, PROTOCOL};
#[cfg(feature = "program")]
pub use program::{Fate, Inherited, Prepare, Program};
pub use state::State;
pub use update::{
    Ended, Journal, Outcome, Passed, Phase, Process, Starter, Successor, Terms, Transform, Unit, Update,
};
pub use verdict::{Decision, Verdict};
pub use wire::{Channel, Packet};

/// Environment variable: the path of the agent's socket.
pub const SOCKET: &str = "DROVER_HANDOFF";
/// Environment variable: the word by which the agent knows this process again.
pub const TOKEN: &str = "DROVER_HANDOFF_TOKEN";
/// Environment variable: `successor` in a program that is to take over; absent in one that serves at once.
pub const ROLE: &str = "DROVER_HANDOFF_ROLE";
/// What [`ROLE`] says in a program that is to take over.
pub const SUCCESSOR: &str = "successor";
