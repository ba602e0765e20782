//! `repo.toml` and the files beside it.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use protocol::Name;
use serde::Deserialize;

use crate::limits::CONFIG_BYTES;

/// `DIR/repo.toml`. Everything has a default.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The site; by default the one in `tls.pem`, which it must agree with.
    #[serde(default)]
    pub site: Option<Name>,
    /// This repository's name; by default the one in `tls.pem`, which it must agree with.
    #[serde(default)]
    pub name: Option<Name>,
    /// Address and port to serve on.
    #[serde(default = "default_listen")]
    pub listen: SocketAddr,
}

fn default_listen() -> SocketAddr {
    SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 7100))
}

impl Default for Config {
    fn default() -> Self {
        Self {
            site: None,
            name: None,
            listen: default_listen(),
        }
    }
}

impl Config {
    /// Reads `DIR/repo.toml`; without one, everything has its default.
    ///
    /// # Errors
    /// The file cannot be read, or a setting is unknown or not of its type; the text names the line.
    pub fn load(dir: &Path) -> Result<Self> {
        let path = dir.join("repo.toml");
        let bytes = match durable::read_limited(&path, CONFIG_BYTES) {
            Ok(bytes) => bytes,
            Err(error) if error.is_missing() => return Ok(Self::default()),
            Err(error) => return Err(error.into()),
        };
        let text = String::from_utf8(bytes).with_context(|| format!("{} is not UTF-8", path.display()))?;
        toml::from_str(&text).with_context(|| format!("{} has a setting that cannot be used", path.display()))
    }
}

/// Where everything is in a repository's folder.
#[derive(Debug, Clone)]
pub struct Folder {
    /// The folder.
    pub dir: PathBuf,
}

impl Folder {
    /// The folder `dir`.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }
    /// The site's certificate authority.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }
    /// Our certificate.
    #[must_use]
    pub fn tls(&self) -> PathBuf {
        self.dir.join("tls.pem")
    }
    /// Its key.
    #[must_use]
    pub fn tls_key(&self) -> PathBuf {
        self.dir.join("tls-key.pem")
    }
    /// The key that signs snapshot and timestamp, as the site began.
    #[must_use]
    pub fn online_key(&self) -> PathBuf {
        self.dir.join("online-key.pem")
    }
    /// Further keys for the same, made here.
    #[must_use]
    pub fn online_keys(&self) -> PathBuf {
        self.dir.join("online-keys")
    }
    /// The first trusted root, from the author.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.dir.join("root.json")
    }
    /// The author's first targets role, published when there is none yet.
    #[must_use]
    pub fn targets(&self) -> PathBuf {
        self.dir.join("targets.json")
    }
    /// All that the program writes.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.dir.join("state")
    }
    /// Target files by digest.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.state().join("store")
    }
    /// The database.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.state().join("repository.db")
    }
    /// Held locked by the process that signs.
    #[must_use]
    pub fn lock(&self) -> PathBuf {
        self.state().join("lock")
    }
    /// The bound addresses.
    #[must_use]
    pub fn addresses(&self) -> PathBuf {
        self.state().join("addresses.json")
    }
    /// The records for people.
    #[must_use]
    pub fn records(&self) -> PathBuf {
        self.state().join("records")
    }
    /// The control socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.dir.join("control").join("socket")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_has_a_default_and_none_is_unknown() {
        let config: Config = toml::from_str("").unwrap();
        assert_eq!(config, Config::default());
        assert_eq!(config.listen.to_string(), "127.0.0.1:7100");
        let error = toml::from_str::<Config>("lisen = \"127.0.0.1:1\"")
            .unwrap_err()
            .to_string();
        assert!(error.contains("lisen") && error.contains("line 1"), "{error}");
        assert!(toml::from_str::<Config>("listen = \"here\"").is_err());
        assert!(toml::from_str::<Config>("site = \"../x\"").is_err());
    }
}
