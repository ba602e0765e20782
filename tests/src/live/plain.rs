//! Brokers that are restarted and not updated: ours, and mosquitto.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::process::bin;

/// How long a broker may take to start or to end.
const LONG: Duration = Duration::from_secs(30);

/// Which broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Ours, in this version, with no agent.
    Ours(u16),
    /// mosquitto, with its persistence.
    Mosquitto,
}

/// A broker with no agent.
#[derive(Debug)]
pub struct Plain {
    folder: PathBuf,
    port: u16,
    child: Child,
}

/// Whether mosquitto is installed here.
#[must_use]
pub fn has_mosquitto() -> bool {
    mosquitto().is_some()
}

fn mosquitto() -> Option<&'static str> {
    let places = [
        "/usr/sbin/mosquitto",
        "/usr/bin/mosquitto",
        "/usr/local/sbin/mosquitto",
    ];
    places.into_iter().find(|place| Path::new(place).exists())
}

/// A port that was free a moment ago.
///
/// # Errors
/// There is none.
pub(super) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Where a broker on `port` listens.
pub(super) fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

impl Plain {
    /// Starts a broker whose files lie in `folder`, and waits until it listens.
    ///
    /// # Errors
    /// It does not come up.
    pub fn start(kind: Kind, folder: &Path) -> Result<Self> {
        let port = free_port()?;
        let plain = Self {
            child: spawn(kind, folder, port)?,
            folder: folder.to_owned(),
            port,
        };
        plain.wait()?;
        Ok(plain)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        local(self.port)
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as an administrator would, and starts it again, as what it is to be now; how long nobody listened.
    ///
    /// # Errors
    /// It does not end, or does not come up.
    pub fn restart(&mut self, kind: Kind) -> Result<Duration> {
        let began = Instant::now();
        let pid = Pid::from_raw(i32::try_from(self.child.id())?).context("no process")?;
        kill_process(pid, Signal::TERM)?;
        self.child.wait()?;
        self.child = spawn(kind, &self.folder, self.port)?;
        self.wait()?;
        Ok(began.elapsed())
    }

    fn wait(&self) -> Result<()> {
        let until = Instant::now() + LONG;
        while TcpStream::connect(self.address()).is_err() {
            ensure!(
                Instant::now() < until,
                "the broker does not listen on {}",
                self.address()
            );
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn spawn(kind: Kind, folder: &Path, port: u16) -> Result<Child> {
    let mut command = match kind {
        Kind::Ours(version) => {
            let mut command = Command::new(bin(&format!("broker-{version}")));
            command
                .env("DROVER_DATA", folder.join("data"))
                .env("BROKER_LISTEN", local(port).to_string())
                .env_remove(handoff::SOCKET)
                .env_remove(handoff::TOKEN)
                .env_remove(handoff::ROLE);
            command
        }
        Kind::Mosquitto => {
            let file = folder.join("mosquitto.conf");
            durable::replace(&file, settings(folder, port), 0o600)?;
            let mut command = Command::new(mosquitto().context("mosquitto is not installed")?);
            command.arg("-c").arg(file);
            command
        }
    };
    let quiet = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Ok(quiet.spawn()?)
}

/// Nothing is limited more than ours limits it; what is remembered is written when it ends.
fn settings(folder: &Path, port: u16) -> String {
    format!(
        "listener {port} 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location {}/\nuser root\n\
         max_inflight_messages 512\nmax_queued_messages 100000\nset_tcp_nodelay true\nlog_dest none\n",
        folder.display()
    )
}
