//! Which version this is and what it can do.

use serde::Deserialize;

/// `release.json` beside the program.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Release {
    /// Three numbers.
    pub(crate) version: String,
    /// Shows the temperature in Fahrenheit too.
    #[serde(default)]
    pub(crate) fahrenheit: bool,
    /// Has a humidity sensor.
    #[serde(default)]
    pub(crate) humidity: bool,
    /// A fault in this version: its sensor goes mad so many seconds after the start.
    #[serde(default)]
    pub(crate) fails_after_seconds: Option<u64>,
}

impl Release {
    pub(crate) fn beside_this_program() -> Result<Self, String> {
        let program = std::env::current_exe().map_err(|e| format!("cannot find this program's file: {e}"))?;
        let path = program.with_file_name("release.json");
        let text = std::fs::read_to_string(&path).map_err(|e| {
            format!(
                "cannot read {}: {e}; it belongs beside the program",
                path.display()
            )
        })?;
        serde_json::from_str(&text).map_err(|e| format!("{} is malformed: {e}", path.display()))
    }

    /// `thermostat_1.0.0`, as its lines begin.
    pub(crate) fn name_version(&self) -> String {
        format!("thermostat_{}", self.version)
    }
}
