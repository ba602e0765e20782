//! `device.toml`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use release::Component;
use serde::{Deserialize, Serialize};

use crate::limits::{MAX_SETTINGS, MODULE_SECONDS};

/// Settings of one device. All but `manager` have a default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// `host:port` where the manager serves devices.
    pub manager: String,
    /// `host:port` of the manager's joining port, where a certificate that has run out is renewed; none: it cannot be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub joining: Option<String>,
    /// Components this device runs; `*` stands for all that it is ordered to.
    #[serde(default = "everything")]
    pub components: Vec<String>,
    /// Hardware ids it answers to; a release that names hardware must name one of them.
    #[serde(default)]
    pub hardware: Vec<String>,
    /// Whether orders arrive at once over an open stream; `false`: only by polling.
    #[serde(default = "yes")]
    pub events: bool,
    /// Seconds between two hellos while no stream is open; none: what the manager says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub poll_seconds: Option<u64>,
    /// Per component: environment variables of its program, stronger than the release's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<Component, BTreeMap<String, String>>,
    /// The update modules of this device.
    #[serde(default, skip_serializing_if = "Modules::is_default")]
    pub modules: Modules,
}

/// Which update modules are called, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Modules {
    /// Where their executables lie.
    pub folder: PathBuf,
    /// Seconds in which each of their states ends.
    pub seconds: u64,
    /// The command that reboots this machine when a module asks for it; empty: it is not rebooted.
    pub reboot: Vec<String>,
}

impl Default for Modules {
    fn default() -> Self {
        Self {
            folder: PathBuf::from("/usr/share/mender/modules/v3"),
            seconds: MODULE_SECONDS,
            reboot: Vec::new(),
        }
    }
}

impl Modules {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

fn everything() -> Vec<String> {
    vec!["*".to_owned()]
}

fn yes() -> bool {
    true
}

/// Why `device.toml` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// Cannot be read.
    #[error("cannot read the settings")]
    Read(#[from] durable::Error),
    /// Not UTF-8.
    #[error("{0} is not text")]
    Text(String),
    /// Not valid; the source names line and field.
    #[error("{path} is not valid")]
    Parse {
        /// The file.
        path: String,
        /// Where and why.
        #[source]
        source: toml::de::Error,
    },
    /// A component's name is not one.
    #[error("{name:?} in `components` is not the name of a component")]
    Component {
        /// What stands there.
        name: String,
    },
    /// The settings have no TOML form.
    #[error("the settings cannot be written")]
    Form(#[from] toml::ser::Error),
}

impl Settings {
    /// Settings with every default.
    #[must_use]
    pub fn new(manager: String) -> Self {
        Self {
            manager,
            joining: None,
            components: everything(),
            hardware: Vec::new(),
            events: true,
            poll_seconds: None,
            env: BTreeMap::new(),
            modules: Modules::default(),
        }
    }

    /// Reads and checks the file.
    ///
    /// # Errors
    /// [`SettingsError`] says what is wrong where.
    pub fn load(path: &Path) -> Result<Self, SettingsError> {
        let name = path.display().to_string();
        let bytes = durable::read_limited(path, MAX_SETTINGS)?;
        let text = String::from_utf8(bytes).map_err(|_| SettingsError::Text(name.clone()))?;
        let settings: Self =
            toml::from_str(&text).map_err(|source| SettingsError::Parse { path: name, source })?;
        for name in settings.components.iter().filter(|name| *name != "*") {
            if name.parse::<Component>().is_err() {
                return Err(SettingsError::Component { name: name.clone() });
            }
        }
        Ok(settings)
    }

    /// Writes the file, 0644.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn save(&self, path: &Path) -> Result<(), SettingsError> {
        Ok(durable::replace(path, toml::to_string_pretty(self)?, 0o644)?)
    }

    /// Whether this device may run the component.
    #[must_use]
    pub fn allows(&self, component: &Component) -> bool {
        self.components
            .iter()
            .any(|name| name == "*" || name == component.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Settings, SettingsError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("device.toml");
        std::fs::write(&path, text).unwrap();
        Settings::load(&path)
    }

    #[test]
    fn one_line_is_enough() {
        let settings = load("manager = \"gateway:7101\"").unwrap();
        assert!(settings.events && settings.allows(&"thermostat".parse().unwrap()));
    }

    #[test]
    fn written_settings_read_back() {
        let mut settings = Settings::new("gateway:7101".into());
        settings.components = vec!["thermostat".into()];
        let env = BTreeMap::from([("PORT".to_owned(), "8080".to_owned())]);
        settings.env.insert("thermostat".parse().unwrap(), env);
        let again = load(&toml::to_string_pretty(&settings).unwrap()).unwrap();
        assert_eq!(again, settings);
        assert!(!again.allows(&"counter".parse().unwrap()));
    }

    #[test]
    fn an_unknown_setting_is_named_with_its_line() {
        let error = load("manager = \"gateway:7101\"\nmanger = 1\n").unwrap_err();
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains("line 2") && source.contains("manger"), "{source}");
    }
}
