//! A TCP proxy that holds or cuts connections at byte offsets that a test chooses.
//!
//! It stands where a device dials its manager (or a manager its repository). TLS runs through it untouched;
//! what it can do is what a bad link does: stop, break, come back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use crate::process::patience;
use crate::site::{Agent, Site};

/// Bytes read at a time: small, so that a limit is met closely.
const PIECE: usize = 4096;

/// What the link does with connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Link {
    /// Whether new connections get through.
    open: bool,
    /// Bytes that one connection may carry to the dialler before it stands still.
    down: u64,
    /// Bytes that one connection may carry from the dialler before it stands still.
    up: u64,
    /// Connections that began under an earlier number are cut.
    cuts: u64,
}

#[derive(Debug, Default)]
struct Counts {
    down: AtomicU64,
    up: AtomicU64,
}

/// A running proxy; it ends when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    /// Where to dial it.
    pub address: SocketAddr,
    link: watch::Sender<Link>,
    held: watch::Receiver<u64>,
    counts: Arc<Counts>,
    task: AbortHandle,
}

impl Proxy {
    /// Listens on `address` and passes everything on to `to`.
    ///
    /// # Panics
    /// If the address is taken.
    pub async fn start(address: SocketAddr, to: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.expect("the proxy's own address");
        let address = listener.local_addr().expect("bound");
        let (link, watched) = watch::channel(Link {
            open: true,
            down: u64::MAX,
            up: u64::MAX,
            cuts: 0,
        });
        let (hold, held) = watch::channel(0);
        let counts = Arc::new(Counts::default());
        let shared = counts.clone();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                while connections.try_join_next().is_some() {}
                if watched.borrow().open {
                    connections.spawn(pass(stream, to, watched.clone(), hold.clone(), shared.clone()));
                }
            }
        });
        Self {
            address,
            link,
            held,
            counts,
            task: task.abort_handle(),
        }
    }

    /// From now on each connection carries `bytes` to the dialler and then stands still.
    pub fn hold_after(&self, bytes: u64) {
        self.link.send_modify(|link| link.down = bytes);
    }

    /// From now on each connection carries `bytes` from the dialler and then stands still.
    pub fn hold_up_after(&self, bytes: u64) {
        self.link.send_modify(|link| link.up = bytes);
    }

    /// Waits until a connection stands still.
    ///
    /// # Panics
    /// If none does within [`patience`].
    pub async fn wait_held(&self) {
        let mut held = self.held.clone();
        tokio::time::timeout(patience(), held.wait_for(|count| *count > 0))
            .await
            .expect("a connection was to stand still at its limit")
            .expect("the proxy runs");
    }

    /// Waits until no connection stands still.
    ///
    /// # Panics
    /// If one does for longer than [`patience`].
    pub async fn wait_gone(&self) {
        let mut held = self.held.clone();
        tokio::time::timeout(patience(), held.wait_for(|count| *count == 0))
            .await
            .expect("a connection was to be cut")
            .expect("the proxy runs");
    }

    /// Takes the limit away; what stood still goes on.
    pub fn release(&self) {
        self.link
            .send_modify(|link| (link.down, link.up) = (u64::MAX, u64::MAX));
    }

    /// Cuts every connection that is there; new ones get through.
    pub fn cut(&self) {
        self.link.send_modify(|link| link.cuts += 1);
    }

    /// Whether new connections get through; if not, those that are there are cut too.
    pub fn open(&self, open: bool) {
        self.link.send_modify(|link| {
            link.open = open;
            link.cuts += u64::from(!open);
        });
    }

    /// Bytes carried to diallers by all connections so far.
    #[must_use]
    pub fn carried_down(&self) -> u64 {
        self.counts.down.load(Ordering::SeqCst)
    }

    /// Bytes carried from diallers by all connections so far.
    #[must_use]
    pub fn carried_up(&self) -> u64 {
        self.counts.up.load(Ordering::SeqCst)
    }
}

impl Site {
    /// A device that runs, and reaches its manager through a proxy on this port only.
    pub async fn device_behind(&self, name: &str, port: u16) -> (Agent, Proxy) {
        let proxy = Proxy::start(self.at(port), self.at(7101)).await;
        let mut agent = self.enroll(name).await;
        agent.set("manager", &format!("\"{}\"", proxy.address));
        agent.start().await;
        (agent, proxy)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One connection, both ways, until an end closes it or the link is cut.
async fn pass(
    near: TcpStream,
    to: SocketAddr,
    mut link: watch::Receiver<Link>,
    hold: watch::Sender<u64>,
    counts: Arc<Counts>,
) {
    let began = link.borrow().cuts;
    let _ = near.set_nodelay(true);
    let Ok(far) = TcpStream::connect(to).await else {
        return;
    };
    let _ = far.set_nodelay(true);
    let (mut near_read, mut near_write) = near.into_split();
    let (mut far_read, mut far_write) = far.into_split();
    let budgets = link.clone();
    let down = async {
        let mut carried = 0;
        let mut piece = [0; PIECE];
        loop {
            let room = wait_for_room(&budgets, |link| link.down, carried, &hold).await;
            let most = usize::try_from(room).unwrap_or(PIECE).min(PIECE);
            match far_read.read(&mut piece[..most]).await {
                Ok(count) if count > 0 => {
                    carried += count as u64;
                    counts.down.fetch_add(count as u64, Ordering::SeqCst);
                    if near_write.write_all(&piece[..count]).await.is_err() {
                        return;
                    }
                }
                _ => return,
            }
        }
    };
    let up = async {
        let mut carried = 0;
        let mut piece = [0; PIECE];
        loop {
            let room = wait_for_room(&budgets, |link| link.up, carried, &hold).await;
            let most = usize::try_from(room).unwrap_or(PIECE).min(PIECE);
            match near_read.read(&mut piece[..most]).await {
                Ok(count) if count > 0 => {
                    carried += count as u64;
                    counts.up.fetch_add(count as u64, Ordering::SeqCst);
                    if far_write.write_all(&piece[..count]).await.is_err() {
                        return;
                    }
                }
                _ => return,
            }
        }
    };
    tokio::select! {
        () = down => {}
        () = up => {}
        _ = link.wait_for(|link| link.cuts > began) => {}
    }
}

/// Waits until the connection may carry more, and says how much.
async fn wait_for_room(
    link: &watch::Receiver<Link>,
    budget: fn(&Link) -> u64,
    carried: u64,
    hold: &watch::Sender<u64>,
) -> u64 {
    let mut link = link.clone();
    let room = budget(&link.borrow_and_update()).saturating_sub(carried);
    if room > 0 {
        return room;
    }
    let _standing = Standing::new(hold);
    let budget = link
        .wait_for(|link| budget(link) > carried)
        .await
        .map_or(u64::MAX, |link| budget(&link));
    budget.saturating_sub(carried)
}

/// Counts a connection that stands still, until it goes on or is cut.
struct Standing<'a>(&'a watch::Sender<u64>);

impl<'a> Standing<'a> {
    fn new(hold: &'a watch::Sender<u64>) -> Self {
        hold.send_modify(|count| *count += 1);
        Self(hold)
    }
}

impl Drop for Standing<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count = count.saturating_sub(1));
    }
}
