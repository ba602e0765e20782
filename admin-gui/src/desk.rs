//! The author's desk: the folder, the way to the repository, and what has been verified of it.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use protocol::{Identity, Name, Role, Stamp, UpdateId};
use release::Component;
use tuf::{Attack, KeyId, Limits, Signer as _, TrustedState, UnixTime};

use crate::catalogue::Catalogue;
use crate::config::{Config, ConfigError, Folder};
use crate::draft::{Draft, DraftError, Options};
use crate::passphrase::Passphrase;
use crate::preflight::{Check, Preflight, Verdict, preflight};
use crate::progress::Sink;
use crate::repository::{ClientError, Repository};
use crate::roles::Authority;
use crate::signing::{AuthorKey, KeyError};
use crate::stop::Stop;
use crate::upload::Patience;

/// Clock and randomness, so that tests can bring their own.
#[derive(Clone)]
pub struct Senses {
    /// What time it is.
    pub clock: Arc<dyn mtls::Clock>,
    /// A moment on both clocks.
    pub stamp: Arc<dyn Fn() -> Stamp + Send + Sync>,
    /// Sixteen random bytes.
    pub random: Arc<dyn Fn() -> Result<[u8; 16], getrandom::Error> + Send + Sync>,
}

impl Senses {
    /// The machine's own.
    #[must_use]
    pub fn system() -> Self {
        Self {
            clock: Arc::new(mtls::SystemClock),
            stamp: Arc::new(mtls::stamp),
            random: Arc::new(|| {
                let mut bytes = [0; 16];
                getrandom::fill(&mut bytes).map(|()| bytes)
            }),
        }
    }

    /// Now, in seconds.
    #[must_use]
    pub fn now(&self) -> UnixTime {
        self.clock.now().now
    }
}

impl fmt::Debug for Senses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Senses")
            .field("clock", &self.clock)
            .finish_non_exhaustive()
    }
}

/// Why the desk cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DeskError {
    /// The settings.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Certificates and keys for the connection.
    #[error("cannot use the author's certificate")]
    Tls(#[from] mtls::Error),
    /// The repository's address.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The trust cannot be opened.
    #[error("cannot open what this desk has verified so far")]
    Trust(#[from] durable::TrustError),
}

/// Why the repository's state is not known.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    /// The repository or the way to it.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// It lies behind what this desk has seen.
    #[error(
        "the repository is behind what this desk has verified ({attack}): if it was restored from a backup, run \
         `admin-gui recover`; if not, somebody shows an old state"
    )]
    Behind {
        /// What it looks like.
        attack: Attack,
        /// The facts.
        #[source]
        source: tuf::Error,
    },
    /// A role has expired.
    #[error("metadata in the repository has expired: start the repository, or run `admin-gui renew`")]
    Expired(#[source] tuf::Error),
    /// It does not verify.
    #[error("what the repository serves does not verify ({attack}): nothing was published")]
    Refused {
        /// What it looks like.
        attack: Attack,
        /// The facts.
        #[source]
        source: tuf::Error,
    },
    /// The trust cannot be kept.
    #[error("cannot keep what was verified")]
    Trust(#[from] durable::TrustError),
    /// A verified root cannot be kept.
    #[error("cannot keep a new root")]
    Disk(#[source] durable::Error),
    /// The trust cannot be reserved for this program.
    #[error("cannot reserve the folder with what was verified")]
    Lock(#[source] std::io::Error),
}

/// Why the key is not ready.
#[derive(Debug, thiserror::Error)]
pub enum UnlockError {
    /// The key or its passphrase.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The root names other keys.
    #[error(
        "the key {found} in {file} is not among the keys that root version {root} trusts for releases: \
         bring back the right key, or change the root"
    )]
    NotTrusted {
        /// The key's file.
        file: String,
        /// The key.
        found: KeyId,
        /// The root's version.
        root: u64,
    },
    /// Nobody delegates to this desk's team.
    #[error(
        "the site has no team {0}, as far as this desk knows: ask the author, and look with `admin-gui status`"
    )]
    NoTeam(String),
    /// The trust cannot be read.
    #[error("cannot read what this desk has verified so far")]
    Trust(#[from] durable::TrustError),
}

/// The repository as verified a moment ago.
#[derive(Debug, Clone)]
pub struct View {
    /// The verified metadata.
    pub state: TrustedState,
    /// Its releases.
    pub catalogue: Catalogue,
    /// The repository has no metadata yet.
    pub is_empty: bool,
    /// Teams whose list was left out, and why.
    pub lapses: Vec<String>,
}

impl View {
    fn new(state: TrustedState, is_empty: bool) -> Self {
        Self {
            catalogue: Catalogue::of(&state),
            state,
            is_empty,
            lapses: Vec::new(),
        }
    }

    /// Version of the author's or a team's list; 0 where there is none.
    #[must_use]
    pub fn version_of(&self, role: &tuf::Role) -> u64 {
        match role {
            tuf::Role::Delegated(team) => self.state.delegated(team).map_or(0, |list| list.version),
            _ => self.targets_version(),
        }
    }

    /// Version of the targets role; 0 for an empty repository.
    #[must_use]
    pub fn targets_version(&self) -> u64 {
        self.state.targets().map_or(0, |targets| targets.version)
    }
}

/// An author's folder, open.
#[derive(Debug, Clone)]
pub struct Desk {
    /// Its files.
    pub folder: Folder,
    /// Its settings.
    pub config: Config,
    /// Who the author is.
    pub author: Identity,
    /// When the author's certificate expires.
    pub certificate_expires: UnixTime,
    /// When the site's certificate authority expires.
    pub authority_expires: UnixTime,
    /// How long a broken upload is picked up again.
    pub patience: Patience,
    /// Clock and randomness.
    pub senses: Senses,
    pub(crate) repository: Repository,
    pub(crate) trust: Arc<durable::TrustStore>,
    /// Whose key signs a report.
    pub(crate) vouchers: Arc<mtls::Vouchers>,
    /// One refresh at a time: the trust has one writer.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Desk {
    /// Opens the folder `dir`; `repository` replaces the address in its settings. No key is touched and no
    /// connection made.
    ///
    /// # Errors
    /// [`DeskError`] says which file is at fault.
    pub fn open(dir: &Path, repository: Option<&str>, senses: Senses) -> Result<Self, DeskError> {
        let folder = Folder::new(dir);
        let mut config = Config::load(&folder)?;
        if let Some(address) = repository {
            address.clone_into(&mut config.repository);
        }
        let credentials = mtls::Credentials::load(&folder.tls(), &folder.tls_key())?;
        let ca = mtls::SiteCa::load(&folder.ca())?;
        let tls = mtls::client_config(
            Some(&credentials),
            &ca,
            &config.site,
            Role::Repository,
            &[mtls::HTTP_1_1],
            Arc::clone(&senses.clock),
        )?;
        let author = Identity {
            site: config.site.clone(),
            role: Role::Author,
            name: config.name.clone(),
        };
        let authority = mtls::validity_of(ca.certificate()).map_err(mtls::Error::from)?;
        Ok(Self {
            authority_expires: authority.not_after,
            certificate_expires: credentials.validity().map_err(mtls::Error::from)?.not_after,
            repository: Repository::new(&config.repository, tls)?,
            vouchers: Arc::new(mtls::Vouchers::new(&ca, &config.site)?),
            trust: Arc::new(durable::TrustStore::open(folder.trust())?),
            turn: Arc::default(),
            patience: Patience::default(),
            folder,
            config,
            author,
            senses,
        })
    }

    /// Fetches and verifies the repository's newest metadata, as any client would.
    ///
    /// # Errors
    /// [`LookError`]; what was verified before the fault is kept.
    pub async fn look(&self) -> Result<View, LookError> {
        let _turn = self.turn.lock().await;
        let _lock = self.lock().await?;
        let state = self.trust.load()?;
        let had_timestamp = state.timestamp().is_some();
        let now = self.senses.now();
        let mut roots = Vec::new();
        let keep_roots = |file: &str, bytes: &[u8]| {
            if file.ends_with(".root.json") {
                roots.push((file.to_owned(), bytes.to_vec()));
            }
        };
        let (state, outcome) = durable::refresh_all(
            &*self.trust,
            state,
            &self.repository,
            now,
            Limits::default(),
            keep_roots,
        )
        .await;
        self.keep_roots(&roots)?;
        match outcome {
            Ok(lapses) => {
                let told = |(role, error): &durable::Lapse| {
                    format!("{role} is left out: {}", protocol::chain(error))
                };
                Ok(View {
                    lapses: lapses.iter().map(told).collect(),
                    ..View::new(state, false)
                })
            }
            Err(durable::RefreshError::Verify(tuf::Error::Missing { file })) if file == "timestamp.json" => {
                if had_timestamp {
                    let source = tuf::Error::Missing { file };
                    Err(LookError::Behind {
                        attack: source.attack(),
                        source,
                    })
                } else {
                    Ok(View::new(state, true))
                }
            }
            Err(durable::RefreshError::Verify(source)) => Err(judge(source)),
            Err(durable::RefreshError::Fetch(error)) => Err(error.into()),
            Err(durable::RefreshError::Trust(error)) => Err(error.into()),
        }
    }

    /// Roots that were verified lie in `roots/` for good, and the newest as `root.json`: the one that devices are
    /// given, and that drafts are read against.
    fn keep_roots(&self, roots: &[(String, Vec<u8>)]) -> Result<(), LookError> {
        for (file, bytes) in roots {
            durable::replace(self.folder.roots().join(file), bytes, 0o644).map_err(LookError::Disk)?;
        }
        match roots.last() {
            Some((_, newest)) => durable::replace(self.folder.root(), newest, 0o644).map_err(LookError::Disk),
            None => Ok(()),
        }
    }

    /// Waits for other programs at this desk: the trust has one writer at a time.
    async fn lock(&self) -> Result<std::fs::File, LookError> {
        let path = self.folder.trust();
        let locked = tokio::task::spawn_blocking(move || {
            let file = std::fs::File::open(path)?;
            file.lock()?;
            Ok(file)
        });
        locked
            .await
            .unwrap_or_else(|error| Err(std::io::Error::other(error)))
            .map_err(LookError::Lock)
    }

    /// What was verified last, without asking anybody.
    ///
    /// # Errors
    /// The trust is damaged.
    pub fn remembered(&self) -> Result<View, durable::TrustError> {
        let state = self.trust.load()?;
        let is_empty = state.timestamp().is_none();
        Ok(View::new(state, is_empty))
    }

    /// Reads what a person chose.
    ///
    /// # Errors
    /// As [`Draft::read`].
    pub fn draft(&self, path: &Path, options: &Options, sink: &Sink) -> Result<Draft, DraftError> {
        self.draft_until(path, options, sink, &Stop::default())
    }

    /// The same, until a person ends it.
    ///
    /// # Errors
    /// As [`Draft::read`].
    pub fn draft_until(
        &self,
        path: &Path,
        options: &Options,
        sink: &Sink,
        stop: &Stop,
    ) -> Result<Draft, DraftError> {
        Draft::read(path, options, &self.folder.drafts(), sink, stop)
    }

    /// Checks a draft against the repository of this moment; nothing is signed and no key needed.
    ///
    /// # Errors
    /// The repository's state is not known.
    pub async fn preflight(&self, draft: &Draft) -> Result<Preflight, LookError> {
        Ok(self.judged(draft, &self.look().await?))
    }

    /// Opens the key that signs releases. Takes about a quarter of a second: scrypt is meant to be slow.
    ///
    /// # Errors
    /// [`UnlockError`] says whether the file, the passphrase or the root is at fault.
    pub fn unlock(&self, passphrase: &Passphrase) -> Result<Unlocked, UnlockError> {
        let state = self.trust.load()?;
        let root = state.root();
        let authority = self.authority(&state);
        let authority = authority.ok_or_else(|| UnlockError::NoTeam(self.role().name().to_owned()))?;
        let usual = match self.config.team {
            Some(_) => self.folder.team_key(),
            None => self.folder.targets_key(),
        };
        let path = self.folder.key_for(authority.keys(), usual);
        let key = AuthorKey::open(&path, passphrase)?;
        let found = key.public_key().id();
        if !authority.keys().keyids.contains(&found) {
            let file = path.display().to_string();
            return Err(UnlockError::NotTrusted {
                file,
                found,
                root: root.version,
            });
        }
        // Folders of earlier versions have no public half beside it.
        let public = path.with_extension("pub");
        if !public.exists() {
            let _ = crate::keyring::write_public(&public, &key.public_key());
        }
        let others = self.folder.others_for(authority.keys(), &path, passphrase)?;
        Ok(Unlocked {
            desk: self.clone(),
            keys: Arc::new((key, others)),
        })
    }

    /// The role whose list this desk signs: the author's, or its team's.
    #[must_use]
    pub fn role(&self) -> tuf::Role {
        match &self.config.team {
            Some(team) => tuf::Role::Delegated(team.to_string()),
            None => tuf::Role::Targets,
        }
    }

    /// Who must sign this desk's list; none for a team that nobody delegates to.
    pub(crate) fn authority(&self, state: &TrustedState) -> Option<Authority> {
        match &self.config.team {
            Some(team) => Authority::of_team(state, team),
            None => Some(Authority::of_author(state)),
        }
    }

    /// The checks of a draft against what the repository shows; on a team's desk, whether the component is its own too.
    #[must_use]
    pub fn judged(&self, draft: &Draft, view: &View) -> Preflight {
        let mut report = preflight(draft, &view.catalogue);
        if let (Some(team), Some(component)) = (&self.config.team, &draft.component) {
            report.checks.push(whose(team, component, &view.state));
        }
        report
    }

    pub(crate) fn new_update(&self) -> Result<UpdateId, getrandom::Error> {
        Ok(UpdateId::from_random((self.senses.random)()?))
    }
}

/// Whether a component is among a team's own.
fn whose(team: &Name, component: &Component, state: &TrustedState) -> Check {
    let rows = crate::team::teams(state);
    let own = rows.iter().find(|row| row.team == team.as_str());
    let own = own.map(|row| row.components.as_slice()).unwrap_or_default();
    let (verdict, text) = if own.iter().any(|name| name == component.as_str()) {
        (
            Verdict::Passed,
            format!("{component} is published by the team {team}"),
        )
    } else {
        let text = format!("the team {team} publishes {}, not {component}", own.join(", "));
        (Verdict::Refused, text)
    };
    Check {
        id: "team",
        verdict,
        text,
    }
}

/// Sorts a refusal by what a person can do about it.
fn judge(source: tuf::Error) -> LookError {
    match source.attack() {
        Attack::Rollback => LookError::Behind {
            attack: Attack::Rollback,
            source,
        },
        _ if matches!(source, tuf::Error::Expired { .. }) => LookError::Expired(source),
        attack => LookError::Refused { attack, source },
    }
}

/// A desk whose release key is open.
#[derive(Debug, Clone)]
pub struct Unlocked {
    /// The desk.
    pub desk: Desk,
    /// The first key, and those that sign with it.
    pub(crate) keys: Arc<(AuthorKey, Vec<AuthorKey>)>,
}

impl Unlocked {
    /// Every open key, in the order in which they sign.
    pub(crate) fn signers(&self) -> Vec<&dyn tuf::Signer> {
        let (first, others) = &*self.keys;
        std::iter::once(first)
            .chain(others)
            .map(|key| key as &dyn tuf::Signer)
            .collect()
    }

    /// The key that will sign, the first of them.
    #[must_use]
    pub fn signer(&self) -> KeyId {
        self.keys.0.public_key().id()
    }
}
