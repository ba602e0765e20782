//! Where things lie in a device's folder.
//!
//! ```text
//! device.toml      settings
//! identity/        chain.pem  key.pem  ca.pem  token            who this device is
//! trust/           the TUF root, everything verified, the floors
//! state/           generation.rec (the pointer and the journal)  agent.rec  runs/  reports/  lock
//! downloads/       files named by their SHA-256, and parts of them
//! releases/        SHA-256/{release.rec, payload/…}
//! data/COMPONENT/  what a program keeps; survives every update
//! data/.kept/      COMPONENT/{work/, before/}: data while a version with a `[state]` takes over
//! live/            a socket for each live COMPONENT, at which its program reports
//! interlocks/      a file each, made by whoever wants nothing installed meanwhile
//! output/          COMPONENT.log, COMPONENT.log.1
//! records/         install.log, install.jsonl
//! control/socket
//! ```

use std::path::{Path, PathBuf};

use release::Component;
use tuf::Digest;

/// The folder of one device.
#[derive(Debug, Clone)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The device in `root`, made absolute so that programs find their data from any folder.
    ///
    /// # Errors
    /// The current folder is gone.
    pub fn new(root: impl AsRef<Path>) -> std::io::Result<Self> {
        Ok(Self {
            root: std::path::absolute(root)?,
        })
    }

    /// The folder itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Settings.
    #[must_use]
    pub fn settings(&self) -> PathBuf {
        self.root.join("device.toml")
    }

    /// Who this device is.
    #[must_use]
    pub fn identity(&self) -> PathBuf {
        self.root.join("identity")
    }

    /// Certificate and intermediate, PEM.
    #[must_use]
    pub fn chain(&self) -> PathBuf {
        self.identity().join("chain.pem")
    }

    /// Private key, PEM, 0600.
    #[must_use]
    pub fn key(&self) -> PathBuf {
        self.identity().join("key.pem")
    }

    /// The site's root certificate, PEM.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.identity().join("ca.pem")
    }

    /// The token, 0600.
    #[must_use]
    pub fn token(&self) -> PathBuf {
        self.identity().join("token")
    }

    /// Trusted state.
    #[must_use]
    pub fn trust(&self) -> PathBuf {
        self.root.join("trust")
    }

    /// The agent's own state.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.root.join("state")
    }

    /// Held by the running agent.
    #[must_use]
    pub fn lock(&self) -> PathBuf {
        self.state().join("lock")
    }

    /// Which agent is started.
    #[must_use]
    pub fn agent_slots(&self) -> PathBuf {
        self.state().join("agent.rec")
    }

    /// What runs as which process.
    #[must_use]
    pub fn runs(&self) -> PathBuf {
        self.state().join("runs")
    }

    /// Reports that no manager has taken yet.
    #[must_use]
    pub fn reports(&self) -> PathBuf {
        self.state().join("reports")
    }

    /// Downloaded files.
    #[must_use]
    pub fn downloads(&self) -> PathBuf {
        self.root.join("downloads")
    }

    /// Unpacked releases.
    #[must_use]
    pub fn releases(&self) -> PathBuf {
        self.root.join("releases")
    }

    /// One unpacked release.
    #[must_use]
    pub fn release(&self, digest: &Digest) -> PathBuf {
        self.releases().join(digest.to_string())
    }

    /// A component's own data.
    #[must_use]
    pub fn data(&self, component: &Component) -> PathBuf {
        self.root.join("data").join(component.as_str())
    }

    /// Sockets at which live programs report.
    #[must_use]
    pub fn live(&self) -> PathBuf {
        self.root.join("live")
    }

    /// The one of a component.
    #[must_use]
    pub fn live_socket(&self, component: &Component) -> PathBuf {
        self.live().join(component.as_str())
    }

    /// Interlocks that are set.
    #[must_use]
    pub fn interlocks(&self) -> PathBuf {
        self.root.join("interlocks")
    }

    /// Where a component's data lie that are not its own now: on the same file system as those that are.
    #[must_use]
    pub fn kept_data(&self, component: &Component) -> PathBuf {
        self.all_kept_data().join(component.as_str())
    }

    /// Those of all components.
    #[must_use]
    pub fn all_kept_data(&self) -> PathBuf {
        // No component's name begins with a dot.
        self.root.join("data").join(".kept")
    }

    /// What a component's update module is given while it works.
    #[must_use]
    pub fn module_tree(&self, component: &Component) -> PathBuf {
        self.root.join("modules").join(component.as_str()).join("tree")
    }

    /// Where programs write.
    #[must_use]
    pub fn output(&self) -> PathBuf {
        self.root.join("output")
    }

    /// Where one program writes.
    #[must_use]
    pub fn output_of(&self, component: &Component) -> PathBuf {
        self.output().join(format!("{component}.log"))
    }

    /// Install record.
    #[must_use]
    pub fn records(&self) -> PathBuf {
        self.root.join("records")
    }

    /// Control socket.
    #[must_use]
    pub fn control(&self) -> PathBuf {
        self.root.join("control").join("socket")
    }
}
