//! Randomness as a parameter.

use std::fmt::Debug;

/// Where random bytes come from.
pub trait Random: Send + Sync + Debug {
    /// Fills `bytes`.
    fn fill(&self, bytes: &mut [u8]);

    /// A number in `0.0..1.0`.
    fn fraction(&self) -> f64 {
        let mut bytes = [0; 4];
        self.fill(&mut bytes);
        f64::from(u32::from_le_bytes(bytes)) / (f64::from(u32::MAX) + 1.0)
    }

    /// 16 bytes in hexadecimal.
    fn nonce(&self) -> String {
        let mut bytes = [0; 16];
        self.fill(&mut bytes);
        hex::encode(bytes)
    }
}

/// The system's generator, through aws-lc.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&self, bytes: &mut [u8]) {
        // Fails only before the kernel's generator is up; jitter and nonces are then predictable, and the
        // keys, which aws-lc draws by itself, are refused.
        if aws_lc_rs::rand::fill(bytes).is_err() {
            tracing::warn!(target: "drover", "the system has no randomness yet");
        }
    }
}
