//! What the author's window says to the author's desk.
//!
//! A window sends `Watch` on one connection and draws what arrives ([`AuthorEvent`](super::AuthorEvent)): the whole
//! [`AuthorStatus`](super::AuthorStatus) first and whenever it changes, a [`JobStatus`](super::JobStatus) while something runs. Everything else is a
//! short request on another connection. Long work is a job, one at a time; a client that hangs up stops none.

use std::path::PathBuf;

use release::{Component, Version};
use serde::{Deserialize, Serialize};

use super::{InitRequest, PublishOptions};
use crate::Secret;

/// A request to an author's desk.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum AuthorRequest {
    /// → [`super::AuthorStatus`], from what is known; never waits for the network.
    Status,
    /// Asks the repository now, and waits for its answer → [`super::AuthorStatus`].
    Refresh,
    /// Reads, hashes and checks a file or a folder; nothing is signed. The answer comes when it is read to its
    /// end, meanwhile it is a job → [`super::PreflightReport`].
    Preflight {
        /// The file or folder, by its whole path.
        path: PathBuf,
        /// What a person says beside it.
        #[serde(default)]
        options: Box<PublishOptions>,
    },
    /// Tries the whole update from one package to another on the desk's machine, as a job → [`super::JobStatus`], at once;
    /// nothing is signed.
    Rehearse {
        /// The file or folder that is to be published, by its whole path.
        path: PathBuf,
        /// The one that devices run now, by its whole path.
        from: PathBuf,
    },
    /// Opens the key that signs releases and keeps it open → [`super::KeyState`].
    Unlock {
        /// The passphrase of the author's keys.
        passphrase: Secret,
        /// For how many minutes; 0: only checks the passphrase.
        keep_minutes: u32,
    },
    /// Forgets the open key → `null`.
    Lock,
    /// Signs, uploads and publishes, as a job → [`super::JobStatus`], at once.
    Publish {
        /// What.
        what: PublishWhat,
        /// The passphrase, where the key is not open; used for this job only.
        passphrase: Option<Secret>,
    },
    /// Takes a release back, as a job → [`super::JobStatus`], at once.
    Withdraw {
        /// The component.
        component: Component,
        /// The version to take back.
        version: Version,
        /// Why; devices and operators will read it.
        reason: String,
        /// The passphrase, where the key is not open.
        passphrase: Option<Secret>,
    },
    /// Signs roles again with a later expiry, as a job → [`super::JobStatus`], at once.
    Renew {
        /// Which.
        what: RenewWhat,
        /// The passphrase: the root key is never kept open.
        passphrase: Secret,
    },
    /// Hands a restored repository what it has forgotten, as a job → [`super::JobStatus`], at once.
    Recover,
    /// Ends a job, if it can still be ended → [`super::CancelResult`], when it has ended.
    Cancel {
        /// Which; none: the one that runs.
        job: Option<u64>,
    },
    /// The newest entries of the record of uploads, oldest first → [`super::HistoryView`].
    History {
        /// How many at most.
        last: usize,
    },
    /// The devices as their reports show them, by name → [`super::FleetPage`].
    Fleet {
        /// Only those behind this name.
        after: Option<String>,
        /// How many at most.
        limit: usize,
    },
    /// The seven latency types of the newest updates on every device → [`super::LatencyView`].
    Latencies {
        /// Of how many updates.
        releases: usize,
    },
    /// Makes a site in a folder that has none → [`super::SiteMade`].
    Init {
        /// What the site is to be.
        site: Box<InitRequest>,
        /// The passphrase of the new keys.
        passphrase: Secret,
    },
    /// → stream of [`super::AuthorEvent`]: the status, the kept tail, then everything as it happens.
    Watch,
}

/// What to publish.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum PublishWhat {
    /// What a preflight has read; it is refused if the file has changed since.
    Draft(u64),
    /// A file or folder, read first.
    File {
        /// By its whole path.
        path: PathBuf,
        /// What a person says beside it.
        #[serde(default)]
        options: Box<PublishOptions>,
    },
}

/// What to sign again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RenewWhat {
    /// Root and targets.
    All,
    /// The root only.
    Root,
    /// The targets role only.
    Targets,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_survive_the_wire_and_show_no_secret() {
        let requests = [
            AuthorRequest::Status,
            AuthorRequest::Publish {
                what: PublishWhat::Draft(7),
                passphrase: Some(Secret::new("hunter2".into())),
            },
            AuthorRequest::Preflight {
                path: "/tmp/heater_1.0".into(),
                options: Box::default(),
            },
            AuthorRequest::Cancel { job: None },
        ];
        for request in requests {
            assert!(!format!("{request:?}").contains("hunter2"));
            let text = serde_json::to_string(&request).unwrap();
            let read: AuthorRequest = serde_json::from_str(&text).unwrap();
            assert_eq!(serde_json::to_string(&read).unwrap(), text);
        }
        assert!(serde_json::from_str::<AuthorRequest>(r#"{"do":"cancel","job":1,"now":1}"#).is_err());
    }
}
