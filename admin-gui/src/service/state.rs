//! What the service knows, and the snapshot it makes of it.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use protocol::control::{AuthorEvent, AuthorStatus, FleetRow, Reach, RepositoryView, SiteState, SiteStatus};
use protocol::device::Problem;
use tokio::sync::{Notify, watch};
use tuf::UnixTime;

use crate::config::{ConfigError, Folder};
use crate::desk::{Desk, DeskError};
use crate::draft::Draft;
use crate::fleet::Reports;
use crate::limits::DRAFTS_KEPT;
use crate::service::Setup;
use crate::service::jobs::Jobs;
use crate::service::journal::Journal;
use crate::service::key::Key;
use crate::service::{snapshot, words};
use protocol::control::Level;

/// The service.
pub(super) struct Service {
    pub(super) dir: PathBuf,
    pub(super) setup: Setup,
    pub(super) journal: Journal,
    pub(super) jobs: Jobs,
    pub(super) key: Mutex<Option<Key>>,
    /// One look at the repository at a time.
    pub(super) turn: tokio::sync::Mutex<()>,
    /// Somebody wants a look at the repository soon.
    pub(super) wake: Notify,
    place: Mutex<Place>,
    known: Mutex<Known>,
    drafts: Mutex<Drafts>,
    clients: Mutex<Vec<control::Clients>>,
    /// Something was asked since the last look.
    asked: AtomicBool,
    socket: watch::Sender<Option<PathBuf>>,
}

/// What is in the folder.
struct Place {
    desk: Result<Option<Desk>, Problem>,
    seen: [Option<(SystemTime, u64)>; 4],
}

/// What is known of the site.
#[derive(Clone)]
pub(super) struct Known {
    pub(super) site: Option<Box<SiteStatus>>,
    pub(super) repository: RepositoryView,
    pub(super) reports: Arc<Reports>,
    /// Reports up to this place have been read.
    pub(super) after: u64,
    pub(super) fleet: Arc<Vec<FleetRow>>,
    pub(super) reports_asked: Option<UnixTime>,
    pub(super) reports_trouble: Option<String>,
}

impl Known {
    fn nothing(address: &str) -> Self {
        Self {
            site: None,
            repository: RepositoryView {
                address: address.to_owned(),
                answers: Reach::Unknown,
                trouble: None,
                asked: None,
                verified: None,
                is_empty: false,
                stale_since: None,
            },
            reports: Arc::default(),
            after: 0,
            fleet: Arc::default(),
            reports_asked: None,
            reports_trouble: None,
        }
    }
}

#[derive(Default)]
struct Drafts {
    count: u64,
    kept: VecDeque<(u64, Draft)>,
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Service {
    pub(super) fn open(dir: PathBuf, setup: Setup) -> Self {
        let service = Self {
            dir,
            setup,
            journal: Journal::new(),
            jobs: Jobs::default(),
            key: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            wake: Notify::new(),
            place: Mutex::new(Place {
                desk: Ok(None),
                seen: [None; 4],
            }),
            known: Mutex::new(Known::nothing("")),
            drafts: Mutex::default(),
            clients: Mutex::default(),
            asked: AtomicBool::new(false),
            socket: watch::Sender::new(None),
        };
        service.reopen();
        service
    }

    pub(super) fn now(&self) -> UnixTime {
        self.setup.senses.now()
    }

    pub(super) fn say(&self, level: Level, id: &str, text: String) {
        self.journal.say(self.now(), level, id, text);
    }

    /// Opens the folder again if its settings or certificates have changed, or a site has come.
    pub(super) fn reopen(&self) {
        let folder = Folder::find(&self.dir);
        let seen = seen(&folder);
        let mut place = locked(&self.place);
        if matches!(place.desk, Ok(Some(_))) && place.seen == seen {
            return;
        }
        let had_site = matches!(place.desk, Ok(Some(_)));
        place.seen = seen;
        place.desk = match Desk::open(
            &folder.dir,
            self.setup.repository.as_deref(),
            self.setup.senses.clone(),
        ) {
            Ok(mut desk) => {
                desk.patience = self.setup.patience;
                Ok(Some(desk))
            }
            Err(DeskError::Config(ConfigError::NoFolder(_))) => Ok(None),
            Err(error) => Err(words::problem("author.folder", &error)),
        };
        let desk = place.desk.clone();
        drop(place);
        match desk {
            Ok(Some(desk)) => {
                if !had_site {
                    *locked(&self.known) = Known::nothing(desk.repository.base());
                    // What was verified last, until the repository has answered.
                    if let Ok(view) = desk.remembered() {
                        self.learn(|known| {
                            known.repository.is_empty = view.is_empty;
                            known.repository.stale_since = view.state.stale_since(desk.senses.now());
                            known.site = Some(snapshot::site(&desk, &view, known));
                        });
                    }
                }
                self.learn(|known| desk.repository.base().clone_into(&mut known.repository.address));
                self.socket.send_replace(Some(desk.folder.socket()));
            }
            _ => *locked(&self.known) = Known::nothing(""),
        }
    }

    /// The desk, for a request that needs a site.
    pub(super) fn desk(&self) -> Result<Desk, Problem> {
        self.reopen_if_there_is_none();
        match &locked(&self.place).desk {
            Ok(Some(desk)) => Ok(desk.clone()),
            Ok(None) => Err(words::no_site(&self.dir)),
            Err(problem) => Err(problem.clone()),
        }
    }

    fn reopen_if_there_is_none(&self) {
        let is_there = matches!(locked(&self.place).desk, Ok(Some(_)));
        if !is_there {
            self.reopen();
        }
    }

    /// The whole picture, from memory.
    pub(super) fn status(&self) -> AuthorStatus {
        self.reopen_if_there_is_none();
        let site = match &locked(&self.place).desk {
            Ok(Some(desk)) => {
                let known = locked(&self.known);
                match &known.site {
                    Some(site) => {
                        let mut site = site.clone();
                        site.repository = known.repository.clone();
                        SiteState::Ready(site)
                    }
                    None => SiteState::Broken {
                        problem: words::no_trust(&desk.folder.trust()),
                    },
                }
            }
            Ok(None) => SiteState::NoSite,
            Err(problem) => SiteState::Broken {
                problem: problem.clone(),
            },
        };
        let (job, last_job) = self.jobs.both();
        AuthorStatus {
            program: env!("CARGO_PKG_VERSION").to_owned(),
            dir: self.dir.clone(),
            site,
            key: self.key_state(),
            job,
            last_job,
        }
    }

    /// Tells everybody who watches the whole picture.
    pub(super) fn tell_status(&self) {
        if self.journal.watchers() > 0 {
            self.journal.tell(AuthorEvent::Status(Box::new(self.status())));
        }
    }

    pub(super) fn known(&self) -> Known {
        locked(&self.known).clone()
    }

    pub(super) fn learn(&self, change: impl FnOnce(&mut Known)) {
        change(&mut locked(&self.known));
    }

    /// Keeps a draft for `Publish`; the oldest go.
    pub(super) fn keep_draft(&self, draft: Draft) -> u64 {
        let mut drafts = locked(&self.drafts);
        drafts.count += 1;
        let id = drafts.count;
        if drafts.kept.len() >= DRAFTS_KEPT {
            drafts.kept.pop_front();
        }
        drafts.kept.push_back((id, draft));
        id
    }

    pub(super) fn draft(&self, id: u64) -> Option<Draft> {
        let drafts = locked(&self.drafts);
        let found = drafts.kept.iter().find(|(other, _)| *other == id);
        found.map(|(_, draft)| draft.clone())
    }

    /// Where the site's own socket belongs, once there is a site.
    pub(super) fn sockets(&self) -> watch::Receiver<Option<PathBuf>> {
        self.socket.subscribe()
    }

    pub(super) fn count(&self, clients: control::Clients) {
        locked(&self.clients).push(clients);
    }

    /// Something was asked just now.
    pub(super) fn touch(&self) {
        self.asked.store(true, Ordering::Relaxed);
    }

    /// Whether anybody is or was there since the last time, anything runs, or the key is open.
    pub(super) fn is_needed(&self) -> bool {
        let asked = self.asked.swap(false, Ordering::Relaxed);
        let clients: usize = locked(&self.clients).iter().map(control::Clients::count).sum();
        asked || clients > 0 || self.jobs.is_running() || locked(&self.key).is_some()
    }
}

/// How the files that a desk is opened from look.
fn seen(folder: &Folder) -> [Option<(SystemTime, u64)>; 4] {
    let look = |path: &Path| {
        let meta = std::fs::metadata(path).ok()?;
        Some((meta.modified().ok()?, meta.len()))
    };
    [folder.config(), folder.tls(), folder.tls_key(), folder.ca()].map(|path| look(&path))
}
