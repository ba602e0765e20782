//! Teams: delegated roles with a key and a folder of their own, which publish their components and nothing else.
//!
//! A team makes its folder ([`make`]) and hands over `team.json`: its public key and its first list, empty and signed.
//! A new key is handed over the same way ([`new_key`]), with the list that is published.
//! The author publishes the delegation together with that list ([`Unlocked::add_team`]) and makes the folder an
//! author's folder with a certificate ([`hand_over`]). From then on the team's desk works like the author's.

use std::path::{Path, PathBuf};

use certs::SiteAuthority;
use protocol::Name;
use protocol::author::RoleFile;
use release::Component;
use serde::{Deserialize, Serialize};
use tuf::editor::{Signed, TargetsEditor};
use tuf::schema::{DelegatedRole, RoleKeys};
use tuf::{PublicKey, Role, Targets, TrustedState, UnixTime};

use crate::config::{Config, Folder};
use crate::desk::{Desk, LookError, Unlocked, View};
use crate::keyring::{self, NewKeyError, short, write_public};
use crate::limits::{TARGETS_SECONDS, TEAM_FILE_BYTES};
use crate::maintain::Entry;
use crate::passphrase::{Passphrase, PassphraseError};
use crate::publish::{PublishError, Published};
use crate::record::Action;
use crate::roles::{self, RolesError};
use crate::signing::{AuthorKey, KeyError, KeyType, seal, unseal};
use crate::visible::Change;

/// What a team hands to the author.
const HANDED: &str = "team.json";

/// Why there is no such team.
#[derive(Debug, thiserror::Error)]
pub enum TeamError {
    /// The folder is in use.
    #[error("{} is there already: choose another name or folder, nothing was changed", .0.display())]
    Exists(PathBuf),
    /// Not a team's folder.
    #[error("{} is not what a team hands over: `admin-gui team new NAME` makes it", path.display())]
    NotATeam {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Its list says something that the author has not seen.
    #[error(
        "the list of {0} is not the one that is published, signed anew (or, for a new team, not empty): \
         have it made again with `admin-gui team new-key`"
    )]
    Unseen(Name),
    /// A component has a team.
    #[error("{component} is published by the team {team} already")]
    Taken {
        /// The component.
        component: Component,
        /// Whose it is.
        team: String,
    },
    /// The name was used.
    #[error("there was a team {0}: its list is signed and stays known, so take another name")]
    Used(Name),
    /// No such team.
    #[error("there is no team {0}: see `admin-gui team list`")]
    Unknown(Name),
    /// Only a team's desk may.
    #[error("this is the author's desk: a team makes its new key in its own folder")]
    NotATeamsDesk,
    /// Only the author's desk may.
    #[error("this is the desk of the team {0}: teams are added and taken away at the author's")]
    NotTheAuthor(Name),
    /// The passphrase is too weak.
    #[error("this passphrase cannot protect the key")]
    Passphrase(#[from] PassphraseError),
    /// A new key.
    #[error(transparent)]
    NewKey(#[from] NewKeyError),
    /// A key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The list.
    #[error("cannot make the team's list")]
    Roles(#[from] RolesError),
    /// The certificate.
    #[error("cannot make the team's certificate")]
    Certificate(#[from] certs::Error),
    /// The team's trust.
    #[error("cannot set up the team's trust")]
    Trust(#[from] durable::TrustError),
    /// The settings.
    #[error("cannot write the team's settings")]
    Toml(#[from] toml::ser::Error),
    /// The disk.
    #[error("cannot use the team's files")]
    Disk(#[from] durable::Error),
    /// Like publishing.
    #[error(transparent)]
    Publish(#[from] PublishError),
}

impl From<LookError> for TeamError {
    fn from(error: LookError) -> Self {
        Self::Publish(error.into())
    }
}

/// `team.json`, as it travels.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    team: Name,
    key: PublicKey,
    list: String,
}

/// A team as it was handed over: its list is signed by its key.
#[derive(Debug, Clone)]
pub struct Team {
    /// Its name, which is its role's.
    pub name: Name,
    /// Its key.
    pub key: PublicKey,
    /// Its first list.
    list: String,
    content: Targets,
}

/// A team of the repository's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TeamRow {
    /// Its name.
    pub team: String,
    /// The components that it publishes.
    pub components: Vec<String>,
    /// The beginnings of its keys' ids.
    pub keys: Vec<String>,
    /// How many of them must sign.
    pub needed: u32,
    /// The version of its list; none if that is not at hand.
    pub version: Option<u64>,
    /// When its list expires.
    pub expires: Option<UnixTime>,
}

/// Makes a team's folder: a key, and what is handed to the author. Gives the key's beginning, as people compare it.
///
/// # Errors
/// [`TeamError`]; nothing that is there is replaced.
pub fn make(
    dir: &Path,
    name: &Name,
    kind: KeyType,
    passphrase: &Passphrase,
    now: UnixTime,
) -> Result<String, TeamError> {
    passphrase.check_new()?;
    let folder = Folder::new(dir);
    for there in [folder.team_key(), dir.join(HANDED), folder.config()] {
        if there.exists() {
            return Err(TeamError::Exists(there));
        }
    }
    let (key, pkcs8) = AuthorKey::generate(kind)?;
    let public = tuf::Signer::public_key(&key);
    let list = roles::first_targets(&key, now.plus_seconds(TARGETS_SECONDS))?;
    durable::create_dir(dir, 0o700)?;
    durable::replace(folder.team_key(), seal(&pkcs8, passphrase)?.as_bytes(), 0o600)?;
    write_public(&folder.team_key().with_extension("pub"), &public)?;
    hand(dir, name, &public, list)?;
    Ok(short(public.id()))
}

/// Writes what is handed to the author.
fn hand(dir: &Path, name: &Name, key: &PublicKey, list: Vec<u8>) -> Result<(), TeamError> {
    let wire = Wire {
        team: name.clone(),
        key: key.clone(),
        list: String::from_utf8(list).map_err(|_| RolesError::Text)?,
    };
    // A struct of texts: this cannot fail; an empty file would be refused by its reader.
    let text = serde_json::to_vec_pretty(&wire).unwrap_or_default();
    durable::replace(dir.join(HANDED), text, 0o644)?;
    Ok(())
}

/// Makes a new key on a team's desk, and signs the list that is published with it: to be handed to the author, who puts
/// it in the place of the old one. Gives the key's beginning.
///
/// # Errors
/// [`TeamError`]; the old key goes on signing until the author has published the new one.
pub async fn new_key(
    desk: &Desk,
    name: &Name,
    kind: KeyType,
    passphrase: &Passphrase,
) -> Result<String, TeamError> {
    let team = desk.config.team.clone().ok_or(TeamError::NotATeamsDesk)?;
    let view = desk.look().await?;
    let base = view
        .state
        .raw(&desk.role())
        .ok_or_else(|| TeamError::Unknown(team.clone()))?;
    let made = keyring::make(&desk.folder.dir, name, kind, passphrase)?;
    let key = AuthorKey::open(&made.path, passphrase)?;
    let expires = desk.senses.now().plus_seconds(TARGETS_SECONDS);
    let list = TargetsEditor::from_existing(base)
        .map_err(RolesError::from)?
        .expires(expires)
        .build()
        .map_err(RolesError::from)?
        .sign(&key)
        .map_err(RolesError::from)?;
    hand(&desk.folder.dir, &team, &made.public, list.bytes())?;
    Ok(short(made.public.id()))
}

impl Team {
    /// Reads what a team has handed over: `team.json`, or the folder that has it.
    ///
    /// # Errors
    /// [`TeamError`]; among others when its list is not signed by its key, or delegates further.
    pub fn read(path: &Path) -> Result<Self, TeamError> {
        let path = if path.is_dir() {
            path.join(HANDED)
        } else {
            path.to_owned()
        };
        let not = |source: Box<dyn std::error::Error + Send + Sync>| TeamError::NotATeam {
            path: path.clone(),
            source,
        };
        let bytes = durable::read_limited(&path, TEAM_FILE_BYTES).map_err(|error| not(error.into()))?;
        let wire: Wire = serde_json::from_slice(&bytes).map_err(|error| not(error.into()))?;
        let signed =
            Signed::<Targets>::from_bytes(wire.list.as_bytes()).map_err(|error| not(error.into()))?;
        let list = signed.view().map_err(|error| not(error.into()))?;
        let team = Self {
            name: wire.team,
            key: wire.key,
            list: wire.list,
            content: list,
        };
        signed
            .check(&team.keys(), &[(team.key.id(), team.key.clone())].into())
            .map_err(|error| not(error.into()))?;
        if team.content.delegations.is_some() {
            return Err(TeamError::Unseen(team.name));
        }
        Ok(team)
    }

    fn keys(&self) -> RoleKeys {
        RoleKeys {
            keyids: vec![self.key.id()],
            threshold: std::num::NonZeroU32::MIN,
        }
    }

    fn role(&self) -> Role {
        Role::Delegated(self.name.to_string())
    }

    fn delegation(&self, components: &[Component]) -> DelegatedRole {
        DelegatedRole {
            name: self.name.to_string(),
            keys: self.keys(),
            terminating: true,
            paths: Some(components.iter().map(paths_of).collect()),
            path_hash_prefixes: None,
        }
    }
}

/// Every target of a component: `COMPONENT/VERSION/FILE`.
fn paths_of(component: &Component) -> String {
    format!("{component}/*/*")
}

/// The teams that the newest list delegates to.
#[must_use]
pub fn teams(state: &TrustedState) -> Vec<TeamRow> {
    let delegations = state.targets().and_then(|targets| targets.delegations.as_ref());
    let roles = delegations.into_iter().flat_map(|delegations| &delegations.roles);
    let row = |role: &DelegatedRole| {
        let list = state.delegated(&role.name);
        let paths = role.paths.iter().flatten();
        TeamRow {
            team: role.name.clone(),
            components: paths
                .map(|path| path.strip_suffix("/*/*").unwrap_or(path).to_owned())
                .collect(),
            keys: role.keys.keyids.iter().map(|id| short(*id)).collect(),
            needed: role.keys.threshold.get(),
            version: list.map(|list| list.version),
            expires: list.map(|list| list.expires),
        }
    };
    roles.map(row).collect()
}

impl Unlocked {
    /// Lets a team publish these components, from now on. For a team that is there, this puts its new key in the place
    /// of the old one, with the list that is published, signed anew.
    ///
    /// # Errors
    /// [`TeamError`]; nothing changed then.
    pub async fn add_team(&self, team: &Team, components: &[Component]) -> Result<Published, TeamError> {
        let view = self.author_view().await?;
        let known = view.state.snapshot().is_some_and(|snapshot| {
            let name = team.role().meta_name();
            snapshot.meta.contains_key(&name)
        });
        let rows = teams(&view.state);
        let is_there = rows.iter().any(|row| row.team == team.name.as_str());
        if known && !is_there {
            return Err(TeamError::Used(team.name.clone()));
        }
        let seen = match view.state.delegated(team.name.as_str()).filter(|_| is_there) {
            Some(now) => team.content.targets == now.targets && team.content.version == now.version + 1,
            None => team.content.targets.is_empty(),
        };
        if !seen {
            return Err(TeamError::Unseen(team.name.clone()));
        }
        for row in rows.into_iter().filter(|row| row.team != team.name.as_str()) {
            let taken = components
                .iter()
                .find(|component| row.components.iter().any(|name| name == component.as_str()));
            if let Some(component) = taken {
                return Err(TeamError::Taken {
                    component: component.clone(),
                    team: row.team,
                });
            }
        }
        let list = RoleFile {
            name: team.role().versioned_file_name(team.content.version),
            body: team.list.clone(),
        };
        let (delegation, key) = (team.delegation(components), team.key.clone());
        let outcome = self
            .change_teams(&view, vec![list], |editor| editor.delegate(delegation, &[key]))
            .await;
        Ok(self.note_teams(outcome)?)
    }

    /// Takes a team away: what it has published is offered to nobody any more.
    ///
    /// # Errors
    /// [`TeamError`]; nothing changed then.
    pub async fn remove_team(&self, name: &Name) -> Result<Published, TeamError> {
        let view = self.author_view().await?;
        if !teams(&view.state).iter().any(|row| row.team == name.as_str()) {
            return Err(TeamError::Unknown(name.clone()));
        }
        let outcome = self
            .change_teams(&view, Vec::new(), |editor| editor.undelegate(name.as_str()))
            .await;
        Ok(self.note_teams(outcome)?)
    }

    async fn author_view(&self) -> Result<View, TeamError> {
        match &self.desk.config.team {
            Some(team) => Err(TeamError::NotTheAuthor(team.clone())),
            None => Ok(self.desk.look().await?),
        }
    }

    async fn change_teams(
        &self,
        view: &View,
        lists: Vec<RoleFile>,
        change: impl FnOnce(TargetsEditor) -> TargetsEditor,
    ) -> Result<Published, PublishError> {
        let desk = &self.desk;
        let base = desk.base_targets(view)?;
        let expires = desk.senses.now().plus_seconds(TARGETS_SECONDS);
        let authority = desk.authority(&view.state).ok_or(PublishError::NoTeam)?;
        let targets = roles::next_targets(&base, &self.signers(), expires, &authority, change)?;
        let change = Change {
            expects: view.targets_version(),
            roots: desk.pending_roots(view)?,
            targets: Some(targets),
            lists,
            target: None,
        };
        let receipt = desk.make_visible(&change, None, &[]).await?;
        let mut warnings = Vec::new();
        desk.confirm(&change, &receipt, &mut warnings).await?;
        Ok(Published {
            update: None,
            release: None,
            receipt,
            events: Vec::new(),
            sent: 0,
            warnings,
        })
    }

    fn note_teams(&self, outcome: Result<Published, PublishError>) -> Result<Published, PublishError> {
        let entry = Entry {
            action: Action::Team,
            subject: None,
        };
        self.desk.note(&entry, self.signer(), outcome)
    }
}

/// Makes a team's folder a desk: settings, the site's anchors, and a certificate of its own, which needs the site's
/// authority and so the author's passphrase. A certificate that is there stays.
///
/// # Errors
/// [`TeamError`].
pub fn hand_over(
    desk: &Desk,
    team: &Team,
    dir: &Path,
    passphrase: &Passphrase,
    now: UnixTime,
) -> Result<(), TeamError> {
    let (own, folder) = (&desk.folder, Folder::new(dir));
    for dir in [&folder.dir, &folder.roots(), &folder.records(), &folder.drafts()] {
        durable::create_dir(dir, 0o700)?;
    }
    let ca = durable::read_limited(own.ca(), TEAM_FILE_BYTES)?;
    if !folder.tls_key().exists() {
        let key = unseal(&own.ca_key(), passphrase)?;
        let certificate = String::from_utf8_lossy(&ca);
        let authority = SiteAuthority::load_der(&certificate, &key)?;
        let issued = authority.issue(protocol::Role::Author, &team.name, &[], certs::life::LEAF, now)?;
        certs::files::write_issued(&folder.tls(), &folder.tls_key(), &issued)?;
    }
    durable::replace(folder.ca(), ca, 0o644)?;
    let state = desk.remembered()?.state;
    let root = state.raw(&Role::Root).unwrap_or_default();
    durable::replace(folder.root(), root, 0o644)?;
    durable::replace(folder.root_version(state.root().version), root, 0o644)?;
    if !folder.trust().exists() {
        durable::TrustStore::create(folder.trust(), root, None)?;
    }
    let config = Config {
        site: desk.config.site.clone(),
        name: team.name.clone(),
        repository: desk.config.repository.clone(),
        team: Some(team.name.clone()),
    };
    // Last: it is what makes the folder a desk.
    durable::replace(folder.config(), toml::to_string(&config)?, 0o644)?;
    Ok(())
}
