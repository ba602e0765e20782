//! Where programs report to their agent: one socket, and who stands at it.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use rustix::event::PollFlags;
use rustix::net::sockopt::socket_peercred;
use rustix::net::{Shutdown, SocketAddrUnix, SocketFlags, accept_with, bind, listen, shutdown};

use crate::wire::{new_socket, wait_for};
use crate::{Channel, Error, Message, PROTOCOL, limits};

/// A program that has said who it is.
#[derive(Debug)]
pub struct Guest {
    /// Its connection.
    pub channel: Channel,
    /// Whether it serves, or stands by to take over.
    pub serving: bool,
    /// Its process, as the kernel tells it.
    pub pid: i32,
}

impl Guest {
    /// Whether it has not hung up.
    fn is_here(&self) -> bool {
        !matches!(
            wait_for(&[self.channel.as_fd()], PollFlags::RDHUP, Instant::now()),
            Ok(true) | Err(_)
        )
    }
}

#[derive(Debug, Default)]
struct Book {
    /// By token; none: expected, not yet here.
    guests: HashMap<String, Option<Guest>>,
    closed: bool,
}

#[derive(Debug, Default)]
struct Shared {
    book: Mutex<Book>,
    changed: Condvar,
}

impl Shared {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The agent's socket for the programs of one component. A thread of its own lets programs in until it is dropped.
#[derive(Debug)]
pub struct Desk {
    path: PathBuf,
    socket: Arc<OwnedFd>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Desk {
    /// Listens at `path`, in the place of a socket that an earlier agent left there. Who may come in is a matter of the
    /// folder's rights and of the tokens.
    ///
    /// # Errors
    /// Those of the system.
    pub fn open(path: &Path) -> Result<Self, Error> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("remove the old socket")(error));
            }
            _ => {}
        }
        let socket = Arc::new(new_socket()?);
        let address = SocketAddrUnix::new(path).map_err(Error::os("use the socket's path"))?;
        bind(&*socket, &address).map_err(Error::os("bind the socket"))?;
        listen(&*socket, 64).map_err(Error::os("listen at the socket"))?;
        let shared = Arc::new(Shared::default());
        let inside = (Arc::clone(&socket), Arc::clone(&shared));
        let thread = std::thread::Builder::new()
            .name("handoff-desk".into())
            .spawn(move || let_in(&inside.0, &inside.1))
            .map_err(Error::io("start a thread"))?;
        Ok(Self {
            path: path.to_owned(),
            socket,
            shared,
            thread: Some(thread),
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Lets the program with this token in; all others are sent away.
    pub fn expect(&self, token: &str) {
        self.shared.book().guests.entry(token.to_owned()).or_default();
    }

    /// Knows this token no more.
    pub fn forget(&self, token: &str) {
        self.shared.book().guests.remove(token);
    }

    /// Takes the program with this token from the desk, waiting for it until `until`; none: it is not here.
    #[must_use]
    pub fn take(&self, token: &str, until: Instant) -> Option<Guest> {
        let mut book = self.shared.book();
        loop {
            if let Some(guest) = book.guests.get_mut(token)?.take()
                && guest.is_here()
            {
                return Some(guest);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || book.closed {
                return None;
            }
            book = self
                .shared
                .changed
                .wait_timeout(book, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Puts a program back that was taken, unless it has come again meanwhile.
    pub fn put(&self, token: &str, guest: Guest) {
        self.shared
            .book()
            .guests
            .entry(token.to_owned())
            .or_default()
            .get_or_insert(guest);
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.shared.book().closed = true;
        // Ends the thread's waiting.
        shutdown(&*self.socket, Shutdown::Both).ok();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// Lets programs in and hears who they are, until the socket is shut.
fn let_in(socket: &OwnedFd, shared: &Shared) {
    let mut strangers: Vec<(Channel, i32, Instant)> = Vec::new();
    loop {
        let now = Instant::now();
        strangers.retain(|(.., until)| *until > now);
        let until = strangers.iter().map(|(.., until)| *until).min();
        let until = until.unwrap_or(now + limits::PATIENCE);
        let mut fds = vec![socket.as_fd()];
        fds.extend(strangers.iter().map(|(channel, ..)| channel.as_fd()));
        if wait_for(&fds, PollFlags::IN, until).is_err() || shared.book().closed {
            break;
        }
        let (waiting, said): (Vec<_>, Vec<_>) = std::mem::take(&mut strangers)
            .into_iter()
            .partition(|(channel, ..)| !has_something(channel));
        strangers = waiting;
        for (channel, pid, _) in said {
            seat(shared, channel, pid);
        }
        match accept_with(socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            Ok(fd) => {
                let pid = socket_peercred(&fd).map_or(0, |peer| peer.pid.as_raw_pid());
                if strangers.len() == limits::STRANGERS {
                    strangers.remove(0);
                }
                strangers.push((Channel::accepted(fd), pid, Instant::now() + limits::HELLO));
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            // No descriptors left, most likely: whoever waits can wait a little longer.
            Err(_) => std::thread::sleep(limits::RECONNECT_BASE),
        }
    }
    shared.book().closed = true;
    shared.changed.notify_all();
}

fn has_something(channel: &Channel) -> bool {
    wait_for(&[channel.as_fd()], PollFlags::IN, Instant::now()).unwrap_or(true)
}

/// Seats a program whose token is expected; any other one is hung up on.
fn seat(shared: &Shared, channel: Channel, pid: i32) {
    let Ok(packet) = channel.try_recv() else { return };
    let Message::Hello {
        protocol: PROTOCOL,
        token,
        serving,
    } = packet.message
    else {
        return;
    };
    if let Some(place) = shared.book().guests.get_mut(&token) {
        *place = Some(Guest {
            channel,
            serving,
            pid,
        });
    }
    shared.changed.notify_all();
}
