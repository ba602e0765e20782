//! What each fuzz target does with its bytes, and the inputs that it begins with.
//!
//! A target fails by a panic: one in the code under test, or one here because an answer is not what it must be.
pub mod control_frames;
pub mod device_state;
mod edits;
pub mod manifest;
pub mod messages;
pub mod metadata_raw;
pub mod metadata_signed;
pub mod package;
mod repository;
pub mod seeds;
pub mod stored_state;
