//! What a device is and has, and whether a release fits it.

use serde::{Deserialize, Serialize};

use crate::arch::Arch;
use crate::custom::Requires;
use crate::version::Version;

/// A device, as far as a release can require something of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The version of its agent.
    pub agent: Version,
    /// Its processor; none if it has no name here.
    #[serde(default)]
    pub arch: Option<Arch>,
    /// Hardware ids that it answers to.
    #[serde(default)]
    pub hardware: Vec<String>,
    /// All its memory in bytes.
    #[serde(default)]
    pub memory_bytes: u64,
}

impl Machine {
    /// What a release requires that this device is not or has not: the processor it is built for, hardware it is for
    /// (empty: any), an agent, memory. None: it fits.
    #[must_use]
    pub fn lacks(&self, arch: Option<Arch>, hardware: &[String], requires: &Requires) -> Option<String> {
        if let Some(arch) = arch.filter(|arch| Some(*arch) != self.arch) {
            let here = self
                .arch
                .map_or_else(|| std::env::consts::ARCH.to_owned(), |here| here.to_string());
            return Some(format!("it is built for {arch}, this device is {here}"));
        }
        if !hardware.is_empty() && !hardware.iter().any(|id| self.hardware.contains(id)) {
            return Some(format!(
                "it is for hardware {}, this device is {}",
                hardware.join(", "),
                if self.hardware.is_empty() {
                    "none of it".into()
                } else {
                    self.hardware.join(", ")
                }
            ));
        }
        let agent = requires.agent.as_ref();
        if let Some(wanted) = agent.filter(|wanted| !wanted.matches(self.agent.semver())) {
            return Some(format!(
                "it requires an agent {wanted}, this one is {}",
                self.agent
            ));
        }
        let wanted = requires
            .memory_bytes
            .filter(|wanted| *wanted > self.memory_bytes)?;
        Some(format!(
            "it requires {wanted} bytes of memory, there are {}",
            self.memory_bytes
        ))
    }
}
