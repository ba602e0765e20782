//! `device.toml`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use release::{Component, Window};
use serde::{Deserialize, Serialize};

use crate::limits::{MAX_SETTINGS, MAX_SITE_CONDITIONS, MODULE_SECONDS};

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
    /// As which users programs run.
    #[serde(default, skip_serializing_if = "Programs::is_default")]
    pub programs: Programs,
    /// The update modules of this device.
    #[serde(default, skip_serializing_if = "Modules::is_default")]
    pub modules: Modules,
    /// Where this device is, for releases whose author asks for a place, such as `depot`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// When releases are installed here, beside what their authors ask.
    #[serde(default, skip_serializing_if = "Install::is_default")]
    pub install: Install,
}

/// The table `[install]`: what holds for every component, and in `[install.COMPONENT]` what holds for one instead.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Install {
    /// How much of an install happens by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Times at which anything is activated, by local time; empty: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub windows: Option<Vec<Window>>,
    /// Nothing is activated while one of these is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interlocks: Option<Vec<String>>,
    /// Whether `manager activate --override` is followed here: whoever has the gateway could then activate what was
    /// released while an interlock is set.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gateway_overrides: bool,
    /// Per component; what is left out is as above. What is no setting is taken for a component here, and refused.
    #[serde(flatten)]
    pub components: BTreeMap<Component, InstallOne>,
}

/// The same for one component.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a component's table: settings for all are mode, windows, interlocks, gateway_overrides"
)]
pub struct InstallOne {
    /// How much of an install happens by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Times at which it is activated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub windows: Option<Vec<Window>>,
    /// It is not activated while one of these is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interlocks: Option<Vec<String>>,
}

/// How much of an install happens by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// All of it.
    #[default]
    Automatic,
    /// Fetching and staging; activation waits for a person.
    Download,
    /// Nothing: it is shown, and fetched when a person says so.
    Notify,
}

/// What this site asks of one component's installs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Site {
    /// How much of an install happens by itself.
    pub mode: Mode,
    /// Times at which it is activated; empty: any.
    pub windows: Vec<Window>,
    /// It is not activated while one of these is set.
    pub interlocks: Vec<String>,
}

impl Site {
    /// Whether it asks for nothing.
    #[must_use]
    pub fn is_free(&self) -> bool {
        *self == Self::default()
    }
}

impl Install {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// What holds for a component.
    #[must_use]
    pub fn of(&self, component: &Component) -> Site {
        let own = self.components.get(component).cloned().unwrap_or_default();
        Site {
            mode: own.mode.or(self.mode).unwrap_or_default(),
            windows: own.windows.or_else(|| self.windows.clone()).unwrap_or_default(),
            interlocks: own
                .interlocks
                .or_else(|| self.interlocks.clone())
                .unwrap_or_default(),
        }
    }

    /// What in it cannot be meant.
    fn fault(&self) -> Option<String> {
        let all = (&self.windows, &self.interlocks);
        let parts = self
            .components
            .values()
            .map(|one| (&one.windows, &one.interlocks));
        for (windows, interlocks) in parts.chain([all]) {
            let interlocks = interlocks.iter().flatten();
            if windows.iter().flatten().count().max(interlocks.clone().count()) > MAX_SITE_CONDITIONS {
                return Some(format!(
                    "more than {MAX_SITE_CONDITIONS} windows or interlocks: join some"
                ));
            }
            // It would never be set, and hold back nothing.
            let is_file = |name: &&String| !name.is_empty() && !name.contains('/') && !name.starts_with('.');
            if let Some(name) = interlocks.clone().find(|name| !is_file(name)) {
                return Some(format!(
                    "the interlock {name:?} cannot be the name of a file: use letters"
                ));
            }
        }
        None
    }
}

/// As which users programs run, where the agent is root.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Programs {
    /// Per component the name of a user, or `UID:GID`; `*` stands for all others.
    pub users: BTreeMap<String, String>,
}

impl Programs {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
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
    /// The table `[install]` says what cannot be.
    #[error("[install] in {path}: {fault}")]
    Install {
        /// The file.
        path: String,
        /// What is wrong, and what to do.
        fault: String,
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
            programs: Programs::default(),
            modules: Modules::default(),
            place: None,
            install: Install::default(),
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
        let settings: Self = toml::from_str(&text).map_err(|source| SettingsError::Parse {
            path: name.clone(),
            source,
        })?;
        if let Some(fault) = settings.install.fault() {
            return Err(SettingsError::Install { path: name, fault });
        }
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
    fn one_component_may_be_installed_otherwise_than_the_others() {
        let text = "manager = \"gateway:7101\"\nplace = \"depot\"\n[install]\nmode = \"download\"\n\
                    windows = [\"22:00-04:00\"]\n[install.thermostat]\nwindows = []\ninterlocks = [\"door\"]\n\
                    [install.pump]\nmode = \"notify\"\n";
        let settings = load(text).unwrap();
        assert_eq!(
            load(&toml::to_string_pretty(&settings).unwrap()).unwrap(),
            settings
        );
        let of = |name: &str| settings.install.of(&name.parse().unwrap());
        let night = vec!["22:00-04:00".parse().unwrap()];
        assert_eq!(
            (of("other").mode, of("other").windows),
            (Mode::Download, night.clone())
        );
        assert_eq!((of("pump").mode, of("pump").windows), (Mode::Notify, night));
        let thermostat = of("thermostat");
        assert_eq!((thermostat.mode, thermostat.windows.len()), (Mode::Download, 0));
        assert_eq!(thermostat.interlocks, ["door"]);
        assert!(
            Settings::new("g:1".into())
                .install
                .of(&"x".parse().unwrap())
                .is_free()
        );
        for wrong in [
            "mode = \"auto\"",
            "widnows = [\"22:00-04:00\"]",
            "windows = [\"always\"]",
            "interlocks = [\"../door\"]",
            "interlocks = [\"\"]",
            "[install.pump]\nmoed = \"notify\"",
        ] {
            assert!(
                load(&format!("manager = \"g:1\"\n[install]\n{wrong}\n")).is_err(),
                "{wrong}"
            );
        }
    }

    #[test]
    fn an_unknown_setting_is_named_with_its_line() {
        let error = load("manager = \"gateway:7101\"\nmanger = 1\n").unwrap_err();
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains("line 2") && source.contains("manger"), "{source}");
    }
}
