//! Programs as processes: starting, watching, stopping, finding again.

pub mod adopt;
pub mod bounds;
pub mod health;
pub mod launch;
pub mod module;
pub mod output;
pub mod process;
pub mod transform;
pub mod tree;
