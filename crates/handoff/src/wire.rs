//! Packets: one message and its descriptors on a Unix socket that keeps packets apart (`SOCK_SEQPACKET`).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::Timespec;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recvmsg, sendmsg,
    socket_with,
};

use crate::limits::{PACKET, PACKET_DESCRIPTORS};
use crate::{Error, Message};

const ANCILLARY: usize = rustix::cmsg_space!(ScmRights(PACKET_DESCRIPTORS));

/// What arrived.
#[derive(Debug)]
pub struct Packet {
    /// The words.
    pub message: Message,
    /// What came with them.
    pub descriptors: Vec<OwnedFd>,
}

/// One end of a connection between agent and program. Never blocks.
#[derive(Debug)]
pub struct Channel(OwnedFd);

impl Channel {
    /// Dials an agent.
    ///
    /// # Errors
    /// There is none, or it has no room.
    pub fn dial(path: &Path) -> Result<Self, Error> {
        let fd = new_socket()?;
        let address = SocketAddrUnix::new(path).map_err(Error::os("use the socket's path"))?;
        connect(&fd, &address).map_err(Error::os("connect to the agent"))?;
        Ok(Self(fd))
    }

    pub(crate) fn accepted(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// Sends one packet.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] inside [`Error::Io`] if the other side has not read what came before;
    /// [`Error::Gone`]; those of the system.
    pub fn try_send(&self, message: &Message, descriptors: &[BorrowedFd<'_>]) -> Result<(), Error> {
        let bytes = serde_json::to_vec(message).map_err(|error| Error::Protocol(error.to_string()))?;
        if bytes.len() > PACKET || descriptors.len() > PACKET_DESCRIPTORS {
            return Err(Error::Protocol("a packet would be too large".into()));
        }
        let mut space = [MaybeUninit::uninit(); ANCILLARY];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(Error::Protocol(
                "a packet would carry too many descriptors".into(),
            ));
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        match retry(|| sendmsg(&self.0, &[IoSlice::new(&bytes)], &mut ancillary, flags)) {
            Ok(_) => Ok(()),
            Err(Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN) => Err(Error::Gone),
            Err(errno) => Err(Error::os("send to the other side")(errno)),
        }
    }

    /// Takes the next packet.
    ///
    /// # Errors
    /// As [`Channel::try_send`]; [`Error::Protocol`] for what is no packet.
    pub fn try_recv(&self) -> Result<Packet, Error> {
        let mut bytes = vec![0; PACKET];
        let mut space = [MaybeUninit::uninit(); ANCILLARY];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let received = retry(|| recvmsg(&self.0, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, flags));
        let received = match received {
            Ok(received) => received,
            Err(Errno::CONNRESET | Errno::PIPE | Errno::NOTCONN) => return Err(Error::Gone),
            Err(errno) => return Err(Error::os("receive from the other side")(errno)),
        };
        let mut descriptors = Vec::new();
        for part in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = part {
                descriptors.extend(rights);
            }
        }
        if received.bytes == 0 {
            return Err(Error::Gone);
        }
        if received
            .flags
            .intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC)
        {
            let told = "a packet was too large, or there is no room for its descriptors".into();
            return Err(Error::Protocol(told));
        }
        let message = serde_json::from_slice(bytes.get(..received.bytes).unwrap_or_default())
            .map_err(|error| Error::Protocol(error.to_string()))?;
        Ok(Packet { message, descriptors })
    }

    /// Sends, waiting until `until` for the other side to read.
    ///
    /// # Errors
    /// As [`Channel::try_send`].
    pub fn send(
        &self,
        message: &Message,
        descriptors: &[BorrowedFd<'_>],
        until: Instant,
    ) -> Result<(), Error> {
        loop {
            match self.try_send(message, descriptors) {
                Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::WouldBlock => {
                    if !wait_for(&[self.as_fd()], PollFlags::OUT, until)? {
                        return Err(Error::Late);
                    }
                }
                other => return other,
            }
        }
    }

    /// Sends descriptors, as many to a packet as fit.
    pub(crate) fn send_all(
        &self,
        update: &str,
        descriptors: &[OwnedFd],
        until: Instant,
    ) -> Result<(), Error> {
        for chunk in descriptors.chunks(PACKET_DESCRIPTORS) {
            let chunk: Vec<BorrowedFd<'_>> = chunk.iter().map(AsFd::as_fd).collect();
            let update = update.to_owned();
            self.send(&Message::Descriptors { update }, &chunk, until)?;
        }
        Ok(())
    }

    /// Takes the next packet, waiting for it until `until`; none: nothing came.
    ///
    /// # Errors
    /// As [`Channel::try_recv`].
    pub fn recv(&self, until: Instant) -> Result<Option<Packet>, Error> {
        loop {
            match self.try_recv() {
                Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::WouldBlock => {
                    if !wait_for(&[self.as_fd()], PollFlags::IN, until)? {
                        return Ok(None);
                    }
                }
                other => return other.map(Some),
            }
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Channel {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// A socket of the protocol's kind.
pub(crate) fn new_socket() -> Result<OwnedFd, Error> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).map_err(Error::os("make a socket"))
}

/// Waits until one of them has something to say, or hung up; whether one has.
pub(crate) fn wait_for(fds: &[BorrowedFd<'_>], flags: PollFlags, until: Instant) -> Result<bool, Error> {
    let mut polled: Vec<PollFd<'_>> = fds.iter().map(|fd| PollFd::new(fd, flags)).collect();
    loop {
        let left = until.saturating_duration_since(Instant::now());
        match poll(&mut polled, Some(&timespec(left))) {
            Ok(0) if left.is_zero() => return Ok(false),
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => return Ok(true),
            Err(errno) => return Err(Error::os("wait for the other side")(errno)),
        }
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}

fn retry<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}
