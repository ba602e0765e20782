//! The gateway's folder and its settings.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use protocol::Name;
use reqwest::Url;
use serde::{Deserialize, Serialize};

use crate::limits;

/// `manager.toml`. Every setting but the site, the name and the repositories has a good default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The site, as in the certificates.
    pub site: Name,
    /// This gateway's name, as in its certificate.
    pub name: Name,
    /// Base addresses of the repository, the preferred one first: `https://host:port`.
    pub repositories: Vec<String>,
    /// Where devices connect.
    #[serde(default = "default_devices")]
    pub listen_devices: SocketAddr,
    /// Where devices join.
    #[serde(default = "default_enroll")]
    pub listen_enroll: SocketAddr,
    /// Host name or address that devices dial; default: the listening address, or the machine's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Where metrics are served; a loopback address.
    #[serde(default = "default_metrics")]
    pub metrics: SocketAddr,
    /// Seconds between two checks of the repository.
    #[serde(default = "default_poll")]
    pub poll_seconds: u64,
    /// Whether to listen to the repository's event stream as well.
    #[serde(default = "default_events")]
    pub events: bool,
    /// Downloads to devices at a time.
    #[serde(default = "default_downloads")]
    pub downloads: usize,
    /// Days that a device's certificate lives.
    #[serde(default = "default_certificate_days")]
    pub certificate_days: u16,
    /// MiB of the mirror for the most recent releases that are neither the newest nor on a device: a repository that
    /// was restored from a backup is handed back what it has forgotten.
    #[serde(default = "default_older_megabytes")]
    pub older_megabytes: u64,
}

fn default_devices() -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], 7101))
}

fn default_enroll() -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], 7102))
}

fn default_metrics() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 7103))
}

fn default_poll() -> u64 {
    10
}

fn default_events() -> bool {
    true
}

fn default_downloads() -> usize {
    64
}

fn default_certificate_days() -> u16 {
    30
}

fn default_older_megabytes() -> u64 {
    1_024
}

/// What is wrong with `manager.toml`.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the settings")]
    File(#[source] durable::Error),
    /// Not UTF-8.
    #[error("{} is not text", .0.display())]
    Text(PathBuf),
    /// Not the settings of a manager.
    #[error("{} is not a manager's settings", path.display())]
    Toml {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// A value that cannot be.
    #[error("setting {setting} in {}: {problem}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The setting.
        setting: &'static str,
        /// What is wrong and what would be right.
        problem: String,
    },
}

impl Config {
    /// Reads and checks `manager.toml`.
    ///
    /// # Errors
    /// [`ConfigError`] names the file, the setting and what would be right.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let bytes = durable::read_limited(path, limits::CONFIG_BYTES).map_err(ConfigError::File)?;
        let text = std::str::from_utf8(&bytes).map_err(|_| ConfigError::Text(path.to_owned()))?;
        Self::parse(text, path)
    }

    /// Reads and checks the text of `manager.toml`; `path` is for messages.
    ///
    /// # Errors
    /// As for [`Self::load`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text).map_err(|source| ConfigError::Toml {
            path: path.to_owned(),
            source: Box::new(source),
        })?;
        config.check().map_err(|(setting, problem)| ConfigError::Value {
            path: path.to_owned(),
            setting,
            problem,
        })?;
        Ok(config)
    }

    fn check(&self) -> Result<(), (&'static str, String)> {
        if self.repositories.is_empty() || self.repositories.len() > limits::REPOSITORIES {
            let problem = format!("name 1 to {} addresses", limits::REPOSITORIES);
            return Err(("repositories", problem));
        }
        self.repository_urls()
            .map_err(|problem| ("repositories", problem))?;
        if !(1..=86_400).contains(&self.poll_seconds) {
            return Err(("poll_seconds", "1 to 86400 seconds".to_owned()));
        }
        if !(1..=10_000).contains(&self.downloads) {
            return Err(("downloads", "1 to 10000".to_owned()));
        }
        if !(1..=365).contains(&self.certificate_days) {
            return Err(("certificate_days", "1 to 365 days".to_owned()));
        }
        if !self.metrics.ip().is_loopback() {
            return Err((
                "metrics",
                "metrics are served on a loopback address only".to_owned(),
            ));
        }
        if let Some(host) = &self.host
            && (host.is_empty() || host.len() > 253 || host.contains(['/', ' ', '@']))
        {
            return Err((
                "host",
                "a host name or an address, without port or scheme".to_owned(),
            ));
        }
        Ok(())
    }

    /// The repositories' base addresses, each ending in `/`.
    ///
    /// # Errors
    /// A sentence about the first address that is none.
    pub fn repository_urls(&self) -> Result<Vec<Url>, String> {
        self.repositories
            .iter()
            .map(|text| {
                let slash = if text.ends_with('/') { "" } else { "/" };
                let url = Url::parse(&format!("{text}{slash}"))
                    .map_err(|error| format!("{text:?} is not an address: {error}"))?;
                if url.scheme() != "https" || url.host_str().is_none() || url.query().is_some() {
                    return Err(format!("{text:?} is not of the form https://host:port"));
                }
                Ok(url)
            })
            .collect()
    }

    /// `host:port` that devices dial for a listener bound at `bound`.
    #[must_use]
    pub fn advertised(&self, bound: SocketAddr) -> String {
        let host = match (&self.host, bound.ip()) {
            (Some(host), _) => host.clone(),
            (None, ip) if !ip.is_unspecified() => ip.to_string(),
            (None, _) => rustix::system::uname().nodename().to_string_lossy().into_owned(),
        };
        match host.parse::<IpAddr>() {
            Ok(IpAddr::V6(ip)) => format!("[{ip}]:{}", bound.port()),
            _ => format!("{host}:{}", bound.port()),
        }
    }
}

/// Where everything lies below the gateway's folder.
#[derive(Debug, Clone)]
pub struct Paths {
    /// The folder itself.
    pub dir: PathBuf,
}

impl Paths {
    /// Below `dir`.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// Settings.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.dir.join("manager.toml")
    }

    /// The site's root certificate.
    #[must_use]
    pub fn site_ca(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// The gateway's certificate.
    #[must_use]
    pub fn tls(&self) -> PathBuf {
        self.dir.join("tls.pem")
    }

    /// Its key.
    #[must_use]
    pub fn tls_key(&self) -> PathBuf {
        self.dir.join("tls-key.pem")
    }

    /// The intermediate that vouches for devices.
    #[must_use]
    pub fn device_ca(&self) -> PathBuf {
        self.dir.join("device-ca.pem")
    }

    /// Its key.
    #[must_use]
    pub fn device_ca_key(&self) -> PathBuf {
        self.dir.join("device-ca-key.pem")
    }

    /// The first trusted root, from the author.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.dir.join("root.json")
    }

    /// State of the program.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// The database.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.state().join("manager.db")
    }

    /// The key under which tokens and codes are hashed, apart from the database that holds the hashes.
    #[must_use]
    pub fn pepper(&self) -> PathBuf {
        self.state().join("pepper")
    }

    /// Trusted state.
    #[must_use]
    pub fn trust(&self) -> PathBuf {
        self.state().join("trust")
    }

    /// Root files for devices.
    #[must_use]
    pub fn roots(&self) -> PathBuf {
        self.state().join("roots")
    }

    /// Target files.
    #[must_use]
    pub fn mirror(&self) -> PathBuf {
        self.state().join("mirror")
    }

    /// Records for people.
    #[must_use]
    pub fn records(&self) -> PathBuf {
        self.dir.join("records")
    }

    /// Bound addresses, written when listening.
    #[must_use]
    pub fn addresses(&self) -> PathBuf {
        self.state().join("addresses.json")
    }

    /// Folder of the control socket.
    #[must_use]
    pub fn control(&self) -> PathBuf {
        self.dir.join("control")
    }

    /// The control socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.control().join("socket")
    }
}

/// The addresses a running manager is bound to, as it writes them to `state/addresses.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// Devices connect here.
    pub devices: SocketAddr,
    /// Devices join here.
    pub enroll: SocketAddr,
    /// Metrics.
    pub metrics: SocketAddr,
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str = "site = 'plant'\nname = 'gateway'\nrepositories = ['https://127.0.0.1:7100']\n";

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(text, Path::new("manager.toml"))
    }

    #[test]
    fn three_settings_are_enough() {
        let config = parse(LEAST).unwrap();
        assert_eq!(config.poll_seconds, 10);
        assert!(config.events);
        assert_eq!(
            config.repository_urls().unwrap()[0].as_str(),
            "https://127.0.0.1:7100/"
        );
    }

    #[test]
    fn a_wrong_setting_is_named_with_what_would_be_right() {
        for (line, word) in [
            ("poll_seconds = 0", "1 to 86400"),
            ("metrics = '0.0.0.0:7103'", "loopback"),
            ("host = 'a/b'", "host name"),
            ("downloads = 0", "1 to 10000"),
        ] {
            let error = parse(&format!("{LEAST}{line}\n")).unwrap_err().to_string();
            assert!(error.contains(word), "{line}: {error}");
        }
        assert!(parse(&format!("{LEAST}polls = 3\n")).is_err());
        assert!(parse("site = 'p'\nname = 'g'\nrepositories = ['http://h:1']\n").is_err());
        assert!(parse("site = 'p'\nname = 'g'\nrepositories = []\n").is_err());
    }

    #[test]
    fn the_advertised_address_is_one_that_can_be_dialled() {
        let mut config = parse(LEAST).unwrap();
        assert_eq!(config.advertised("127.0.0.1:5".parse().unwrap()), "127.0.0.1:5");
        assert!(
            !config
                .advertised("0.0.0.0:5".parse().unwrap())
                .starts_with("0.0.0.0")
        );
        config.host = Some("fe80::1".to_owned());
        assert_eq!(config.advertised("0.0.0.0:5".parse().unwrap()), "[fe80::1]:5");
    }
}
