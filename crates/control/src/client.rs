//! A window or a command line, and the program it asks.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use protocol::control::Answer;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

use crate::{Error, read_line};

/// A client of one program.
#[derive(Debug)]
pub struct Client {
    lines: BufReader<tokio::net::unix::OwnedReadHalf>,
    write: tokio::net::unix::OwnedWriteHalf,
}

impl Client {
    /// Connects to a program; `program` is its name for the error's text.
    ///
    /// # Errors
    /// [`Error::NotRunning`]; the socket belongs to neither us nor root; those of the operating system.
    pub async fn connect(path: &Path, program: &str) -> Result<Self, Error> {
        let missing = || Error::NotRunning {
            program: program.to_owned(),
            path: path.to_owned(),
        };
        let io = |source| Error::Io {
            path: path.to_owned(),
            source,
        };
        let owner = match std::fs::metadata(path) {
            Ok(metadata) => metadata.uid(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(missing()),
            Err(error) => return Err(io(error)),
        };
        let own = rustix::process::geteuid().as_raw();
        if own != 0 && owner != own && owner != 0 {
            return Err(io(std::io::Error::new(
                std::io::ErrorKind::PermissionDenied,
                format!("it belongs to user {owner}"),
            )));
        }
        let stream = UnixStream::connect(path).await.map_err(|error| {
            if error.kind() == std::io::ErrorKind::ConnectionRefused {
                missing()
            } else {
                io(error)
            }
        })?;
        let (read, write) = stream.into_split();
        Ok(Self {
            lines: BufReader::new(read),
            write,
        })
    }

    /// One request, one answer.
    ///
    /// # Errors
    /// [`Error::Refused`] is the program's own word.
    pub async fn call<T: DeserializeOwned>(&mut self, request: &impl Serialize) -> Result<T, Error> {
        self.send(request).await?;
        self.next().await?.ok_or(Error::Closed)
    }

    /// Sends a request whose answers are read with [`Self::next`].
    ///
    /// # Errors
    /// The program is gone.
    pub async fn send(&mut self, request: &impl Serialize) -> Result<(), Error> {
        let mut line = serde_json::to_vec(request).map_err(Error::Malformed)?;
        line.push(b'\n');
        self.write.write_all(&line).await.map_err(|_| Error::Closed)
    }

    /// The next answer; none when the program has closed the stream.
    ///
    /// # Errors
    /// It cannot be read, or is a refusal.
    pub async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Error> {
        let Some(line) = read_line(&mut self.lines).await? else {
            return Ok(None);
        };
        let answer: Answer<T> = serde_json::from_slice(&line).map_err(Error::Malformed)?;
        answer.map(Some).map_err(Error::Refused)
    }
}
