//! Handing a component's program over to its next version while it runs (docs/handoff.md).
//!
//! What the unit (`unit::live`) needs for it: the socket at which programs report, what is written down so that the next
//! agent finds out who serves, and the package's program that makes one schema of a state of another.

mod change;
mod handing;
mod stand;

pub(crate) use change::Change;
pub(crate) use handing::{Group, Handing, Notes, StandsBy, decided, record};
pub(crate) use stand::Stand;
