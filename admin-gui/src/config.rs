//! The author's folder and its settings, `author.toml`.

use std::path::{Path, PathBuf};

use protocol::Name;
use serde::{Deserialize, Serialize};

use crate::limits::CONFIG_BYTES;

/// `DIR/author.toml`: who publishes, and where to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The site, as in the certificates.
    pub site: Name,
    /// The author's name, as in its certificate.
    pub name: Name,
    /// The repository: `https://HOST:PORT`.
    pub repository: String,
    /// The team whose desk this is; none for the author's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team: Option<Name>,
}

/// What is wrong with `author.toml`.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// This is not an author's folder.
    #[error(
        "{} is not an author's folder (it has no author.toml): name it with --dir, or make a site with \
         `admin-gui init`",
        .0.display()
    )]
    NoFolder(PathBuf),
    /// The file cannot be read.
    #[error("cannot read the settings")]
    File(#[source] durable::Error),
    /// Not UTF-8.
    #[error("{} is not text", .0.display())]
    Text(PathBuf),
    /// A setting that is unknown, missing or of the wrong kind.
    #[error("{} has a setting that cannot be used", path.display())]
    Toml {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: Box<toml::de::Error>,
    },
}

impl Config {
    /// Reads `DIR/author.toml`.
    ///
    /// # Errors
    /// [`ConfigError`] names the file, the line and what is wrong.
    pub fn load(folder: &Folder) -> Result<Self, ConfigError> {
        let path = folder.config();
        let bytes = durable::read_limited(&path, CONFIG_BYTES).map_err(|error| match error {
            missing if missing.is_missing() => ConfigError::NoFolder(folder.dir.clone()),
            other => ConfigError::File(other),
        })?;
        let text = String::from_utf8(bytes).map_err(|_| ConfigError::Text(path.clone()))?;
        toml::from_str(&text).map_err(|source| ConfigError::Toml {
            path,
            source: Box::new(source),
        })
    }
}

/// Where everything lies in an author's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    /// The folder.
    pub dir: PathBuf,
}

macro_rules! places {
    ($($(#[$doc:meta])* $name:ident = $file:literal;)*) => {
        impl Folder {
            $($(#[$doc])* #[must_use] pub fn $name(&self) -> PathBuf { self.dir.join($file) })*
        }
    };
}

places! {
    /// The settings.
    config = "author.toml";
    /// The site's certificate authority.
    ca = "ca.pem";
    /// Its private key, encrypted; needed for new certificates only.
    ca_key = "ca-key.pem";
    /// The root key, encrypted; needed for new roots only.
    root_key = "root-key.pem";
    /// The key that signs releases, encrypted.
    targets_key = "targets-key.pem";
    /// The key that signs a team's releases, encrypted; on a team's desk in place of the two above.
    team_key = "team-key.pem";
    /// The certificate that lets the author upload.
    tls = "tls.pem";
    /// Its private key.
    tls_key = "tls-key.pem";
    /// The newest root.
    root = "root.json";
    /// Every root there ever was, as `N.root.json`.
    roots = "roots";
    /// The newest targets role that was signed here.
    targets = "targets.json";
    /// What the author has verified of the repository.
    trust = "trust";
    /// The record of uploads.
    records = "records";
    /// Folders packed for upload.
    drafts = "drafts";
    /// The folder of the control socket, while a service runs.
    control = "control";
}

impl Folder {
    /// The folder `dir`.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// The author's folder at `dir`: that folder itself, or the one in a site's folder.
    #[must_use]
    pub fn find(dir: &Path) -> Self {
        let (own, inner) = (Self::new(dir), Self::new(&dir.join("author")));
        if !own.config().exists() && inner.config().exists() {
            inner
        } else {
            own
        }
    }

    /// Where a running service of this folder listens.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.control().join("socket")
    }

    /// The root of this version.
    #[must_use]
    pub fn root_version(&self, version: u64) -> PathBuf {
        self.roots().join(format!("{version}.root.json"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_setting_is_named_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let folder = Folder::new(folder.path());
        assert!(matches!(Config::load(&folder), Err(ConfigError::NoFolder(_))));
        let text = "site = 'plant'\nname = 'author'\nrepository = 'https://127.0.0.1:1'\nproxy = 'x'\n";
        std::fs::write(folder.config(), text).unwrap();
        let Err(ConfigError::Toml { source, .. }) = Config::load(&folder) else {
            panic!("accepted")
        };
        assert!(source.to_string().contains("proxy"), "{source}");
    }
}
