//! The one loop that moves bytes between the kernel and the broker, and can stand still between two turns.
//!
//! A turn: wait for events, read, work, put what must survive on the disk, write. Nothing is read that is not in the
//! state when the turn ends, so [`Server::still`] can give the whole of it away, and [`Server::run`] can go on as if
//! nothing had been.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use durable::Files;
use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with, sockopt};

use crate::core::{Broker, Closed};
use crate::journal::{Journal, JournalError};
use crate::layout::{self, BlobError, Layout};
use crate::limits;
use crate::state::{ConnectionId, State};

/// Milliseconds of a clock that all processes of the machine share and nobody sets.
pub type Clock = fn() -> u64;

/// Why the server cannot begin or go on.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address.
    #[error("cannot listen on {address}; is another program listening there?")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another broker.
    #[error("another broker works in {0}; end it, or give this one a folder of its own")]
    InUse(PathBuf),
    /// The folder.
    #[error("the folder of the journal cannot be used")]
    Folder(#[from] durable::Error),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The kernel.
    #[error("the kernel refuses {what}")]
    Kernel {
        /// What was asked.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What the process before has given.
    #[error("what the process before has given cannot be used")]
    Inherited(#[source] BlobError),
    /// Its state and its descriptors do not belong together.
    #[error("{found} descriptors were given for {wanted}")]
    Descriptors {
        /// How many came.
        found: usize,
        /// How many the state speaks of.
        wanted: usize,
    },
}

fn kernel(what: &'static str) -> impl FnOnce(Errno) -> ServerError {
    move |errno| ServerError::Kernel {
        what,
        source: errno.into(),
    }
}

/// Ends a [`Server::run`] from another thread.
#[derive(Debug, Clone)]
pub struct Stop {
    asked: Arc<AtomicBool>,
    bell: Arc<OwnedFd>,
}

impl Stop {
    /// Asks the server to stand still at the end of its turn.
    pub fn ask(&self) {
        self.asked.store(true, Ordering::Release);
        // It can only fail if 2^64 are waiting to be heard.
        let _ = rustix::io::write(&*self.bell, &1_u64.to_ne_bytes());
    }

    /// Whether it was asked; asked once, it is answered once. Costs nothing while nobody asks.
    fn answered(&self) -> bool {
        if !self.asked.load(Ordering::Acquire) {
            return false;
        }
        let _ = rustix::io::read(&*self.bell, &mut [0; 8]);
        self.asked.store(false, Ordering::Release);
        true
    }
}

/// The broker with its sockets and its journal.
#[derive(Debug)]
pub struct Server<L: Layout> {
    broker: Broker<L>,
    journal: Journal,
    listener: OwnedFd,
    /// Held by every process that may write the journal; the lock goes along with the descriptor.
    lock: OwnedFd,
    sockets: HashMap<ConnectionId, Socket>,
    epoll: OwnedFd,
    stop: Stop,
    clock: Clock,
    next_tick: u64,
    buffer: Box<[u8]>,
    log: fn(&Closed),
}

#[derive(Debug)]
struct Socket {
    fd: OwnedFd,
    interest: epoll::EventFlags,
}

/// What stands for something else than a connection in the kernel's events: connections count from 1.
const LISTENER: u64 = 0;
const BELL: u64 = u64::MAX;

/// What is fixed for a server's life.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The folder of the journal.
    pub data: PathBuf,
    /// The disk.
    pub files: Files,
    /// The clock.
    pub clock: Clock,
    /// Hears of every connection that ends.
    pub log: fn(&Closed),
}

impl<L: Layout> Server<L> {
    /// Begins with what the journal has kept, listening on `address`.
    ///
    /// # Errors
    /// [`ServerError`].
    pub fn begin(settings: &Settings, address: SocketAddr) -> Result<Self, ServerError> {
        let lock = lock(settings)?;
        let (journal, state) = Journal::open(settings.files.clone(), &journal_path(&settings.data))?;
        let listen = |source| ServerError::Listen { address, source };
        let listener = TcpListener::bind(address).map_err(listen)?;
        listener.set_nonblocking(true).map_err(listen)?;
        Self::new(
            settings,
            Broker::new(state),
            journal,
            listener.into(),
            lock,
            HashMap::new(),
        )
    }

    /// Takes over from another process: `state` and `descriptors` as [`Self::still`] gave them. Touches nothing but
    /// its own memory; whoever calls it decides when [`Self::run`] may begin.
    ///
    /// # Errors
    /// [`ServerError`].
    pub fn resume(settings: &Settings, state: &[u8], descriptors: Vec<OwnedFd>) -> Result<Self, ServerError> {
        let state: State<L> = layout::decode(state).map_err(ServerError::Inherited)?;
        let wrong = ServerError::Descriptors {
            found: descriptors.len(),
            wanted: state.links.len() + 2,
        };
        if descriptors.len() != state.links.len() + 2 {
            return Err(wrong);
        }
        let mut descriptors = descriptors.into_iter();
        let (Some(listener), Some(lock)) = (descriptors.next(), descriptors.next()) else {
            return Err(wrong);
        };
        let sockets = state
            .links
            .keys()
            .copied()
            .zip(descriptors.map(Socket::new))
            .collect();
        let journal = Journal::resume(settings.files.clone(), &journal_path(&settings.data))?;
        Self::new(settings, Broker::new(state), journal, listener, lock, sockets)
    }

    fn new(
        settings: &Settings,
        broker: Broker<L>,
        journal: Journal,
        listener: OwnedFd,
        lock: OwnedFd,
        sockets: HashMap<ConnectionId, Socket>,
    ) -> Result<Self, ServerError> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(kernel("to wait for events"))?;
        let bell = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).map_err(kernel("a bell"))?;
        let stop = Stop {
            asked: Arc::default(),
            bell: Arc::new(bell),
        };
        for (fd, name) in [(listener.as_fd(), LISTENER), (stop.bell.as_fd(), BELL)] {
            epoll::add(&epoll, fd, epoll::EventData::new_u64(name), epoll::EventFlags::IN)
                .map_err(kernel("to wait for connections"))?;
        }
        for (id, socket) in &sockets {
            socket
                .watch(&epoll, *id)
                .map_err(kernel("to wait for a client"))?;
        }
        Ok(Self {
            broker,
            journal,
            listener,
            lock,
            sockets,
            epoll,
            stop,
            clock: settings.clock,
            next_tick: 0,
            buffer: vec![0; limits::READ_BYTES].into_boxed_slice(),
            log: settings.log,
        })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn address(&self) -> Result<SocketAddr, ServerError> {
        let refused = |source| ServerError::Kernel {
            what: "its address",
            source,
        };
        let listener = self.listener.try_clone().map_err(refused)?;
        TcpListener::from(listener).local_addr().map_err(refused)
    }

    /// Ends [`Self::run`] from another thread.
    pub fn stop(&self) -> Stop {
        self.stop.clone()
    }

    /// The broker, to look at.
    pub fn broker(&self) -> &Broker<L> {
        &self.broker
    }

    /// Serves until [`Stop::ask`].
    ///
    /// # Errors
    /// [`ServerError`]: what was not acknowledged may be lost, and this server must not go on.
    pub fn run(&mut self) -> Result<(), ServerError> {
        let mut events = Vec::with_capacity(limits::EVENTS);
        loop {
            self.write_touched();
            if self.stop.answered() {
                return Ok(());
            }
            self.wait(&mut events)?;
            for event in events.drain(..) {
                match event.data.u64() {
                    LISTENER => self.accept(),
                    BELL => {}
                    id => self.ready(ConnectionId(id), event.flags),
                }
            }
            self.tick();
            self.commit()?;
        }
    }

    /// Everything the next process needs, while this one stands still: the state, and listener, lock and connections.
    ///
    /// # Errors
    /// None that this program can cause; those of the encoder.
    pub fn still(&self) -> Result<(Vec<u8>, Vec<BorrowedFd<'_>>), ServerError> {
        let state = layout::encode(self.broker.state()).map_err(ServerError::Inherited)?;
        let sockets = self
            .broker
            .state()
            .links
            .keys()
            .filter_map(|id| self.sockets.get(id));
        let own = [self.listener.as_fd(), self.lock.as_fd()];
        Ok((
            state,
            own.into_iter()
                .chain(sockets.map(|socket| socket.fd.as_fd()))
                .collect(),
        ))
    }

    fn wait(&self, events: &mut Vec<epoll::Event>) -> Result<(), ServerError> {
        let left = self
            .next_tick
            .saturating_sub((self.clock)())
            .min(limits::TICK_MILLIS);
        let timeout = Timespec::try_from(std::time::Duration::from_millis(left)).ok();
        match epoll::wait(
            &self.epoll,
            rustix::buffer::spare_capacity(events),
            timeout.as_ref(),
        ) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(kernel("to wait for events")(errno)),
        }
    }

    fn accept(&mut self) {
        for _ in 0..limits::ACCEPTS {
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            // An error here is the peer's, or a lack that passes; the loop comes back.
            let Ok(fd) = accept_with(&self.listener, flags) else {
                return;
            };
            let _ = sockopt::set_tcp_nodelay(&fd, true);
            let Some(id) = self.broker.accept((self.clock)()) else {
                continue;
            };
            let socket = Socket::new(fd);
            if socket.watch(&self.epoll, id).is_err() {
                self.broker.lost(id);
                continue;
            }
            self.sockets.insert(id, socket);
        }
    }

    fn ready(&mut self, id: ConnectionId, flags: epoll::EventFlags) {
        if flags.contains(epoll::EventFlags::OUT) {
            self.write(id);
        }
        if flags.intersects(epoll::EventFlags::IN | epoll::EventFlags::HUP | epoll::EventFlags::ERR) {
            self.read(id);
        }
    }

    fn read(&mut self, id: ConnectionId) {
        let Some(socket) = self.sockets.get(&id) else {
            return;
        };
        match rustix::io::read(&socket.fd, &mut *self.buffer) {
            Ok(0) => self.broker.lost(id),
            Ok(count) => {
                if let Some(link) = self.broker.link(id) {
                    link.input
                        .extend_from_slice(self.buffer.get(..count).unwrap_or_default());
                }
                self.broker.received(id, (self.clock)());
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.broker.lost(id),
        }
    }

    fn tick(&mut self) {
        let now = (self.clock)();
        if now >= self.next_tick {
            self.next_tick = now + limits::TICK_MILLIS;
            self.broker.tick(now);
        }
    }

    /// Puts on the disk what must survive; only then anyone is told.
    fn commit(&mut self) -> Result<(), ServerError> {
        self.journal.append(self.broker.records())?;
        self.broker.recorded();
        self.journal.tidy(self.broker.state())?;
        Ok(())
    }

    fn write_touched(&mut self) {
        for id in self.broker.take_touched() {
            self.write(id);
        }
        for closed in self.broker.take_closed() {
            if let Some(socket) = self.sockets.remove(&closed.connection) {
                // The last words, as far as they find room.
                let _ = rustix::io::write(&socket.fd, &closed.output);
            }
            (self.log)(&closed);
        }
    }

    fn write(&mut self, id: ConnectionId) {
        let (Some(socket), Some(link)) = (self.sockets.get_mut(&id), self.broker.link(id)) else {
            return;
        };
        while !link.output.is_empty() {
            match rustix::io::write(&socket.fd, &link.output) {
                Ok(count) => drop(link.output.split_to(count)),
                Err(Errno::INTR) => {}
                // A broken connection is told by its events.
                Err(_) => break,
            }
        }
        let mut wanted = epoll::EventFlags::empty();
        // Whoever does not take its answers is not listened to.
        wanted.set(
            epoll::EventFlags::IN,
            link.output.len() < limits::OUTPUT_SOFT_BYTES,
        );
        wanted.set(epoll::EventFlags::OUT, !link.output.is_empty());
        if wanted != socket.interest {
            socket.interest = wanted;
            let _ = epoll::modify(&self.epoll, &socket.fd, epoll::EventData::new_u64(id.0), wanted);
        }
    }
}

impl Socket {
    fn new(fd: OwnedFd) -> Self {
        Self {
            fd,
            interest: epoll::EventFlags::IN,
        }
    }

    fn watch(&self, epoll: &OwnedFd, id: ConnectionId) -> Result<(), Errno> {
        epoll::add(epoll, &self.fd, epoll::EventData::new_u64(id.0), self.interest)
    }
}

fn journal_path(data: &Path) -> PathBuf {
    data.join("journal")
}

fn lock(settings: &Settings) -> Result<OwnedFd, ServerError> {
    settings.files.create_dir(&settings.data, 0o700)?;
    let lock = settings.files.lock(&settings.data.join("lock"))?;
    lock.map(OwnedFd::from)
        .ok_or_else(|| ServerError::InUse(settings.data.clone()))
}
