//! Sockets as fields of a program's state: `#[serde(with = "handoff::socket")]`.
//!
//! While [`Program::give_all`](crate::Program::give_all) writes a state, such a field leaves its number in the text and a
//! duplicate of its descriptor beside it; while [`Inherited::all`](crate::Inherited::all) reads it, the field is made of the
//! descriptor of that number. Anywhere else it is an error to write or read one.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use serde::de::{DeserializeOwned, Error as _};
use serde::ser::Error as _;
use serde::{Deserialize as _, Deserializer, Serialize, Serializer};

use crate::Error;

thread_local! {
    /// What is being written or read on this thread.
    static BESIDE: RefCell<Option<Vec<Option<OwnedFd>>>> = const { RefCell::new(None) };
}

/// Something that is made of a descriptor.
pub trait Socket: AsFd + Sized {
    /// Takes the descriptor over.
    ///
    /// # Errors
    /// It cannot be watched.
    fn from_descriptor(descriptor: OwnedFd) -> io::Result<Self>;
}

macro_rules! sockets {
    ($($tokio:ty, $std:ty;)*) => {$(
        impl Socket for $tokio {
            fn from_descriptor(descriptor: OwnedFd) -> io::Result<Self> {
                let socket = <$std>::from(descriptor);
                socket.set_nonblocking(true)?;
                Self::from_std(socket)
            }
        }
        impl Socket for $std {
            fn from_descriptor(descriptor: OwnedFd) -> io::Result<Self> {
                Ok(descriptor.into())
            }
        }
    )*};
}

sockets! {
    tokio::net::TcpListener, std::net::TcpListener;
    tokio::net::TcpStream, std::net::TcpStream;
    tokio::net::UdpSocket, std::net::UdpSocket;
    tokio::net::UnixListener, std::os::unix::net::UnixListener;
    tokio::net::UnixStream, std::os::unix::net::UnixStream;
}

/// Writes the number of a socket, and lays a duplicate of it beside.
///
/// # Errors
/// No state is being given; there are no descriptors left.
pub fn serialize<T: AsFd, S: Serializer>(socket: &T, serializer: S) -> Result<S::Ok, S::Error> {
    let number = BESIDE.with_borrow_mut(|beside| {
        let beside = beside
            .as_mut()
            .ok_or("a socket can only be written while it is handed over".to_owned())?;
        let copy = socket
            .as_fd()
            .try_clone_to_owned()
            .map_err(|error| error.to_string())?;
        beside.push(Some(copy));
        Ok::<_, String>(beside.len() - 1)
    });
    serializer.serialize_u64(
        number
            .map(|number| u64::try_from(number).unwrap_or(u64::MAX))
            .map_err(S::Error::custom)?,
    )
}

/// Makes a socket of the descriptor of the number that is read.
///
/// # Errors
/// There is none of that number, it was taken before, or it is no socket that can be watched.
pub fn deserialize<'de, T: Socket, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    let number = u64::deserialize(deserializer)?;
    let descriptor = BESIDE.with_borrow_mut(|beside| {
        let place = beside.as_mut()?.get_mut(usize::try_from(number).ok()?)?;
        place.take()
    });
    let descriptor =
        descriptor.ok_or_else(|| D::Error::custom(format!("no descriptor {number} was handed over")))?;
    T::from_descriptor(descriptor).map_err(D::Error::custom)
}

/// A state as JSON, and its sockets.
pub(crate) fn write(state: &impl Serialize) -> Result<(Vec<u8>, Vec<OwnedFd>), Error> {
    BESIDE.set(Some(Vec::new()));
    let text = serde_json::to_vec(state);
    let beside = BESIDE.take().unwrap_or_default();
    let text = text.map_err(|error| Error::Protocol(format!("the state cannot be written: {error}")))?;
    Ok((text, beside.into_iter().flatten().collect()))
}

/// Reads a state back; what it does not take of the sockets is closed.
pub(crate) fn read<T: DeserializeOwned>(text: &[u8], sockets: Vec<OwnedFd>) -> Result<T, Error> {
    BESIDE.set(Some(sockets.into_iter().map(Some).collect()));
    let state = serde_json::from_slice(text);
    BESIDE.set(None);
    state.map_err(|error| Error::Protocol(format!("the state cannot be read: {error}")))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use serde::Deserialize;

    use super::*;

    #[derive(Serialize, Deserialize)]
    struct Holds {
        name: String,
        #[serde(with = "super")]
        listener: TcpListener,
    }

    #[test]
    fn a_state_is_read_with_its_sockets_and_each_only_once() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (text, sockets) = write(&Holds {
            name: "one".into(),
            listener,
        })
        .unwrap();
        assert_eq!(text, br#"{"name":"one","listener":0}"#);
        let read_back: Holds = read(&text, sockets).unwrap();
        TcpStream::connect(address).unwrap();
        assert_eq!(read_back.name, "one");
        assert!(read::<Holds>(&text, vec![]).is_err());
        assert!(
            serde_json::to_vec(&read_back).is_err(),
            "not while it is handed over"
        );
    }
}
