//! Who somebody is: a role at a site, under a name. Certificates carry it as a URI.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::name::{Name, NameError};

/// What somebody may do at a site. The table role → permission stands in `mtls`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Signs and publishes releases.
    Author,
    /// Stores and serves them.
    Repository,
    /// The gateway: mirrors, decides, fans out.
    Manager,
    /// Runs them.
    Device,
}

impl Role {
    /// The word in a certificate and in a log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Author => "author",
            Self::Repository => "repository",
            Self::Manager => "manager",
            Self::Device => "device",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Role {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        [Self::Author, Self::Repository, Self::Manager, Self::Device]
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| IdentityError::Role(text.to_owned()))
    }
}

/// A role at a site under a name, written `drover://SITE/ROLE/NAME`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Identity {
    /// The site.
    pub site: Name,
    /// What it may do there.
    pub role: Role,
    /// Its name there.
    pub name: Name,
}

/// Why a text is not an [`Identity`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Not of the form `drover://SITE/ROLE/NAME`.
    #[error("{0:?} is not of the form drover://SITE/ROLE/NAME")]
    Form(String),
    /// No such role.
    #[error("{0:?} is not a role: author, repository, manager or device")]
    Role(String),
    /// A part is not a name.
    #[error("the {part} in the identity is not valid")]
    Name {
        /// `site` or `name`.
        part: &'static str,
        /// What is wrong with it.
        #[source]
        source: NameError,
    },
}

impl FromStr for Identity {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let form = || IdentityError::Form(text.chars().take(200).collect());
        let rest = text.strip_prefix("drover://").ok_or_else(form)?;
        let parts: Vec<&str> = rest.split('/').collect();
        let [site, role, name] = parts[..] else {
            return Err(form());
        };
        Ok(Self {
            site: site
                .parse()
                .map_err(|source| IdentityError::Name { part: "site", source })?,
            role: role.parse()?,
            name: name
                .parse()
                .map_err(|source| IdentityError::Name { part: "name", source })?,
        })
    }
}

impl TryFrom<String> for Identity {
    type Error = IdentityError;

    fn try_from(text: String) -> Result<Self, IdentityError> {
        text.parse()
    }
}

impl From<Identity> for String {
    fn from(identity: Identity) -> Self {
        identity.to_string()
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "drover://{}/{}/{}", self.site, self.role, self.name)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_reads_back_as_it_was_written() {
        let text = "drover://plant/device/pump-7";
        assert_eq!(text.parse::<Identity>().unwrap().to_string(), text);
    }

    #[test]
    fn other_schemes_roles_and_extra_parts_are_refused() {
        for bad in [
            "https://plant/device/pump",
            "drover://plant/device",
            "drover://plant/device/pump/x",
            "drover://plant/root/pump",
            "drover:///device/pump",
            "drover://plant/device/../x",
            "drover://plant/Device/pump",
        ] {
            assert!(bad.parse::<Identity>().is_err(), "{bad} was accepted");
        }
    }
}
