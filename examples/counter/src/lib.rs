//! What the versions of the counter share: lines in, lines out, on sockets that other programs may have begun.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::Interest;
use tokio::net::{TcpListener, TcpStream};

/// Bytes of a line that is not yet whole, and of answers that are not yet read.
const MAX_HELD: usize = 64 * 1024;
/// Where it listens unless `COUNTER_PORT` says otherwise.
const PORT: u16 = 8090;

/// A connection's bytes on their way.
///
/// Reading, answering and writing are steps that end at once; whoever waits between them holds nothing that is not in here.
#[derive(serde::Serialize, serde::Deserialize, Debug, Default)]
pub struct Lines {
    input: Vec<u8>,
    output: Vec<u8>,
}

/// Listens on the counter's port.
///
/// # Errors
/// The port is taken, or is no number.
pub async fn listen() -> io::Result<TcpListener> {
    let port = match std::env::var("COUNTER_PORT") {
        Ok(text) => text.parse().map_err(io::Error::other)?,
        Err(_) => PORT,
    };
    TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await
}

impl Lines {
    /// Waits until there is something to do on this connection.
    ///
    /// # Errors
    /// Those of the system.
    pub async fn wait(&self, stream: &TcpStream) -> io::Result<()> {
        let mut interest = Interest::READABLE;
        if !self.output.is_empty() {
            // Whoever does not read answers is not listened to.
            interest = if self.output.len() < MAX_HELD {
                interest | Interest::WRITABLE
            } else {
                Interest::WRITABLE
            };
        }
        stream.ready(interest).await.map(drop)
    }

    /// Reads what is there, answers every whole line, writes what can be written; whether the connection goes on.
    pub fn work(&mut self, stream: &TcpStream, mut answer: impl FnMut(&str) -> String) -> bool {
        let mut bytes = [0; 4096];
        let mut open = true;
        if self.output.len() < MAX_HELD {
            match stream.try_read(&mut bytes) {
                Ok(0) => open = false,
                Ok(count) => self.input.extend(bytes.iter().take(count)),
                Err(error) => open = error.kind() == io::ErrorKind::WouldBlock,
            }
        }
        while let Some(end) = self.input.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.input.drain(..=end).collect();
            self.output
                .extend(answer(String::from_utf8_lossy(&line).trim()).bytes());
            self.output.push(b'\n');
        }
        match stream.try_write(&self.output) {
            Ok(count) => drop(self.output.drain(..count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => open = false,
        }
        open && self.input.len() < MAX_HELD
    }
}
