//! `device run`: starts what is installed at once, then looks for the manager.

use std::fs::{File, OpenOptions, TryLockError};
use std::sync::Arc;

use anyhow::{Context, bail};
use durable::{RecordError, Store};
use mtls::Credentials;
use protocol::Secret;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::bus::Bus;
use crate::control;
use crate::generation::{Generation, GenerationStore};
use crate::http::Pool;
use crate::hub::{Hub, Link};
use crate::launcher::slots::{SlotRecord, Slots};
use crate::layout::Layout;
use crate::limits::{LOCK_PAUSE, LOCK_TRIES, LONG_WORK, MAX_TYPED, TASKS_CHECK};
use crate::link;
use crate::machine::{Installed, Slot};
use crate::manager::Manager;
use crate::records::InstallLog;
use crate::renew;
use crate::reports::{Outbox, ReportKey};
use crate::settings::Settings;
use crate::stage;
use crate::sync::Shared;
use crate::trust::{Trust, chain};
use crate::unit::watch_interlocks;
use crate::world::{CutOff, World};

/// A running agent.
#[derive(Debug)]
pub struct Agent {
    /// Its parts.
    pub hub: Arc<Hub>,
    _lock: File,
    _interlocks: Option<notify::RecommendedWatcher>,
}

impl Agent {
    /// Starts the agent of the device in `layout`: its programs first, then the connection.
    ///
    /// # Errors
    /// Not enrolled, settings wrong, another agent runs, the disk.
    pub async fn start(layout: Layout, world: World) -> anyhow::Result<Self> {
        let lock = lock(&world, &layout)?;
        let (hub, progress) = assemble(layout, world)?;
        let hub = Arc::new(hub);
        let interlocks = watch_interlocks(&hub)
            .inspect_err(|error| tracing::warn!(target: "drover", %error, "interlocks are not watched; they are looked at now and then"))
            .ok();
        let installed = hub.generation.get().components;
        if installed.values().all(|slot| slot.current.is_none()) {
            hub.bus.say(&protocol::messages::NOTHING_RUNNING, "");
        }
        for component in installed.keys() {
            drop(hub.unit(component, true));
        }
        let background = |tasks: &mut JoinSet<()>| {
            let another = || Arc::clone(&hub);
            tasks.spawn(control::serve(another()));
            tasks.spawn(link::send_progress(another(), progress));
            tasks.spawn(link::send_reports(another()));
            tasks.spawn(renew::keep(another()));
            tasks.spawn(tidy(another()));
            tasks.spawn(link::keep(another()));
        };
        hub.tasks.with(background);
        hub.listening.notified().await;
        tracing::info!(target: "drover", device = %hub.me, "ready");
        Ok(Self {
            hub,
            _lock: lock,
            _interlocks: interlocks,
        })
    }

    /// Ends the agent as `kill -9` would: the programs run on.
    pub async fn cut_off(self) {
        self.hub.tasks.with(std::mem::take).shutdown().await;
    }

    /// Waits until it shall end for another agent.
    pub async fn replaced(&self) {
        self.hub.leave.cancelled().await;
    }

    /// Waits until a test's cut ends a unit; for ever without one.
    pub async fn until_cut(&self) -> CutOff {
        let mut cut = self.hub.cut.subscribe();
        loop {
            if let Some(cut) = *cut.borrow_and_update() {
                return cut;
            }
            // The sender lives in the hub.
            cut.changed().await.ok();
        }
    }

    /// Ends the agent and its programs, each within its time.
    pub async fn stop(self) {
        self.hub.shutdown.cancel();
        let units = self.hub.units.with(std::mem::take);
        for mailbox in units.into_values() {
            mailbox.closed().await;
        }
        self.hub.tasks.with(std::mem::take).shutdown().await;
    }
}

/// One launcher per folder, and nothing else meanwhile that needs the agent to be away.
pub(crate) fn hold(layout: &Layout) -> anyhow::Result<File> {
    let dir = layout.state();
    durable::Files::real().create_dir(&dir, 0o700).ok();
    // The folder itself is locked: a disk that is full has no room for another file.
    let folder = File::open(&dir)
        .with_context(|| format!("cannot open {}: is a device enrolled there?", dir.display()))?;
    locked(folder, layout)
}

/// The file, locked by nobody else.
fn locked(file: File, layout: &Layout) -> anyhow::Result<File> {
    // Of an agent that was killed the lock goes last, a moment after all that one can see of it.
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(error)) => return Err(error).context("cannot lock the device's folder"),
        }
    }
    bail!("another agent runs in {}: stop it first", layout.root().display())
}

/// One agent per folder: two would start everything twice.
pub(crate) fn lock(world: &World, layout: &Layout) -> anyhow::Result<File> {
    let path = layout.lock();
    let created = world.files.create_dir(&layout.state(), 0o700);
    // On a disk that is full or read-only the file that is there does as well.
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .or_else(|_| File::open(&path))
        .with_context(|| format!("cannot open {}: is a device enrolled there?", path.display()));
    created?;
    locked(file?, layout)
}

/// The device as it lies there, while no agent runs: nothing is started, nobody else may start one meanwhile.
///
/// # Errors
/// Not enrolled, settings wrong, an agent runs, the disk.
pub(crate) fn at_rest(layout: Layout, world: World) -> anyhow::Result<(Arc<Hub>, File)> {
    let lock = lock(&world, &layout)?;
    Ok((Arc::new(assemble(layout, world)?.0), lock))
}

type Progress = tokio::sync::mpsc::Receiver<protocol::Event>;

fn assemble(layout: Layout, world: World) -> anyhow::Result<(Hub, Progress)> {
    let not_enrolled = || {
        format!(
            "no device is enrolled in {}: run `device enroll` first",
            layout.root().display()
        )
    };
    let settings = Settings::load(&layout.settings()).with_context(|| match layout.settings().exists() {
        true => "the settings cannot be used: correct them and start the agent again".to_owned(),
        false => not_enrolled(),
    })?;
    let credentials = Credentials::load(&layout.chain(), &layout.key()).with_context(not_enrolled)?;
    let me = credentials.identity()?;
    let token = read_token(&world, &layout)?;
    make_room(&world, &layout);
    let trust = Trust::open(&world.files, &layout, Arc::clone(&world.clock));
    let tls = renew::tls(&layout, &world, &credentials, &me.site)?;
    let manager = Manager::new(Pool::new(&settings.manager, tls)?, token);
    let (generation, trouble) =
        GenerationStore::open(&world.files, &layout, || rebuild(&world, &layout, &trust))?;
    for problem in trust.trouble().iter().chain(&trouble) {
        tracing::error!(target: "drover", "{problem}");
    }
    let key = ReportKey::new(&credentials)?;
    let (bus, progress) = Bus::new(me.clone());
    let slots = SlotRecord::new(&world.files, &layout);
    let (on_trial, unread) = match slots.load() {
        Ok(found) => (
            world.place.slot.is_some_and(|me| found.trial_of(&me).is_some()),
            None,
        ),
        Err(error) => {
            let begun_anew = matches!(error, RecordError::Damaged { .. })
                && world.place.slot.is_none()
                && slots.save(&Slots::default()).is_ok();
            let now = if begun_anew {
                "; it was begun anew: the agent that the device was delivered with runs, and can be replaced again"
            } else {
                ""
            };
            (false, Some(format!("{}{now}", chain(&error))))
        }
    };
    let trouble = trouble
        .into_iter()
        .chain(unread)
        .reduce(|one, other| format!("{one}; {other}"));
    let hub = Hub {
        generation,
        trust,
        manager,
        store: Store::open_on(world.files.clone(), layout.downloads())?,
        outbox: Outbox::open(world.files.clone(), layout.reports(), key, me.clone())?,
        log: InstallLog::new(&world.files, &layout),
        bus,
        hello_due: Notify::new(),
        wake: watch::channel(0).0,
        hellos: Shared::default(),
        held_back: Shared::default(),
        listening: Notify::new(),
        link: Shared::new(Link::default()),
        shutdown: CancellationToken::new(),
        leave: CancellationToken::new(),
        on_trial: Shared::new(on_trial),
        slots,
        tasks: Shared::new(JoinSet::new()),
        cut: watch::channel(None).0,
        certificate_until: Shared::new(credentials.validity().ok().map(|validity| validity.not_after)),
        expired: Shared::new(false),
        renewal_due: Notify::new(),
        renewed: Notify::new(),
        refreshing: Shared::new(false),
        long: Arc::new(Semaphore::new(LONG_WORK)),
        board: Shared::default(),
        abouts: Shared::default(),
        units: Shared::default(),
        refused: Shared::default(),
        trouble,
        layout,
        settings,
        world,
        me,
    };
    Ok((hub, progress))
}

/// Makes the folders and removes what a cut left half done. Nothing here keeps the programs from starting,
/// not even a disk that is full.
fn make_room(world: &World, layout: &Layout) {
    for dir in [
        layout.output(),
        layout.runs(),
        layout.releases(),
        layout.interlocks(),
    ] {
        let made = world
            .files
            .create_dir(&dir, 0o755)
            .and_then(|()| world.files.collect_leftovers(&dir));
        if let Err(error) = made {
            tracing::warn!(target: "drover", error = %chain(&error), "cannot tidy up");
        }
    }
    let kept = layout.all_kept_data();
    if kept.is_dir()
        && let Err(error) = world.files.collect_leftovers(&kept)
    {
        tracing::warn!(target: "drover", error = %chain(&error), "cannot tidy up");
    }
}

fn read_token(world: &World, layout: &Layout) -> anyhow::Result<Secret> {
    let bytes = world.files.read_private(&layout.token())?;
    anyhow::ensure!(
        bytes.len() as u64 <= MAX_TYPED,
        "{} is not a token",
        layout.token().display()
    );
    Ok(Secret::new(String::from_utf8(bytes)?.trim().to_owned()))
}

/// What the release folders say was committed: per component the one whose counter is the floor.
fn rebuild(world: &World, layout: &Layout, trust: &Trust) -> Generation {
    let mut generation = Generation::default();
    let floors = trust.floors();
    for (digest, path) in stage::folders(layout).unwrap_or_default() {
        if path.extension().is_some() {
            continue;
        }
        let Ok(staged) = stage::verify(&world.files, layout, &digest) else {
            continue;
        };
        let release = staged.release;
        let (Ok(update), Ok(target)) = (release.update_id.parse(), release.target_path()) else {
            continue;
        };
        let found = Installed {
            digest,
            version: release.version,
            counter: release.counter,
            update,
            target,
            kind: release.kind,
        };
        let floor = floors
            .iter()
            .find(|(name, _)| name == release.component.as_str())
            .map(|(_, floor)| *floor);
        let slot: &mut Slot = generation.components.entry(release.component).or_default();
        if is_better(slot.current.as_ref(), &found, floor) {
            slot.current = Some(found);
        }
    }
    generation
}

/// The committed one wins; without a floor, the newest.
fn is_better(before: Option<&Installed>, found: &Installed, floor: Option<u64>) -> bool {
    let Some(before) = before else { return true };
    let committed = |release: &Installed| floor.is_none_or(|floor| release.counter <= floor);
    match (committed(before), committed(found)) {
        (true, true) => found.counter > before.counter,
        (false, true) => true,
        (_, false) => false,
    }
}

/// Forgets tasks that have ended.
async fn tidy(hub: Arc<Hub>) {
    loop {
        sleep(TASKS_CHECK).await;
        while hub.tasks.with(|tasks| tasks.try_join_next().is_some()) {}
    }
}
