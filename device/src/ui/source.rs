//! Where the window gets its news: the agent's control socket, as soon as there is a device.

use std::io;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use control::Client;
use gui_kit::launch::Launch;
use gui_kit::link::{Link, Reading, Service, Wake};
use protocol::control::{DeviceEvent, DeviceRequest, DeviceStatus, InstallEntry};

use crate::layout::Layout;
use crate::limits::WINDOW_HISTORY;

/// How often a folder without a device is looked at again.
const LOOK: Duration = Duration::from_secs(1);

/// What the window draws.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// The device at a glance.
    pub status: DeviceStatus,
    /// The newest entries of the install record, newest first.
    pub history: Vec<InstallEntry>,
}

/// The agent, as its window sees it.
#[derive(Debug, Default)]
pub struct AgentService {
    /// The record as it was read at this count, so that the agent reads its disk only for news.
    history: Mutex<Option<(u64, Vec<InstallEntry>)>>,
}

impl AgentService {
    async fn snapshot(&self, client: &mut Client) -> Result<Snapshot, control::Error> {
        let status: DeviceStatus = client.call(&DeviceRequest::Status).await?;
        let known = self
            .lock()
            .clone()
            .filter(|(recorded, _)| *recorded == status.recorded);
        let history = match known {
            Some((_, history)) => history,
            None => {
                let last = WINDOW_HISTORY;
                let mut history: Vec<InstallEntry> = client.call(&DeviceRequest::History { last }).await?;
                history.reverse();
                *self.lock() = Some((status.recorded, history.clone()));
                history
            }
        };
        Ok(Snapshot { status, history })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<(u64, Vec<InstallEntry>)>> {
        self.history
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Service for AgentService {
    type Snapshot = Snapshot;
    type Event = DeviceEvent;
    type Request = DeviceRequest;

    fn program(&self) -> &'static str {
        "the device agent"
    }

    fn read<'a>(&'a self, client: &'a mut Client) -> Reading<'a, Snapshot> {
        Box::pin(self.snapshot(client))
    }

    fn watch(&self) -> DeviceRequest {
        // Another agent may have counted to the same number.
        *self.lock() = None;
        DeviceRequest::Follow
    }
}

/// The way to the agent; before the device has joined a site, the wait for that.
#[derive(Debug)]
pub struct Source {
    link: Option<Link<AgentService>>,
    waiting: Option<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    coming: Receiver<Link<AgentService>>,
    /// Its end is the thread's end.
    _alive: Sender<()>,
}

impl Source {
    /// Looks for the agent of the device in `layout`, and starts one by `launch` where none runs.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn open(layout: Layout, launch: Option<Launch>, wake: Wake) -> io::Result<Self> {
        let open = |layout: &Layout, launch, wake| {
            Link::open(AgentService::default(), &layout.control(), launch, wake)
        };
        if has_identity(&layout) {
            let link = Some(open(&layout, launch, wake)?);
            return Ok(Self { link, waiting: None });
        }
        let (found, coming) = channel();
        let (alive, closed) = channel::<()>();
        std::thread::Builder::new()
            .name("enrolment".into())
            .spawn(move || {
                // Joined means that the root is pinned too: the last thing that enrolment writes.
                while !(has_identity(&layout) && layout.trust().exists()) {
                    if closed.recv_timeout(LOOK) != Err(RecvTimeoutError::Timeout) {
                        return;
                    }
                }
                if let Ok(link) = open(&layout, launch, std::sync::Arc::clone(&wake)) {
                    found.send(link).ok();
                    wake();
                }
            })?;
        Ok(Self {
            link: None,
            waiting: Some(Waiting {
                coming,
                _alive: alive,
            }),
        })
    }

    /// The link; none while there is no device.
    pub fn link(&mut self) -> Option<&mut Link<AgentService>> {
        if self.link.is_none()
            && let Some(waiting) = &self.waiting
            && let Ok(link) = waiting.coming.try_recv()
        {
            self.link = Some(link);
            self.waiting = None;
        }
        self.link.as_mut()
    }
}

fn has_identity(layout: &Layout) -> bool {
    layout.settings().is_file() && layout.chain().is_file()
}
