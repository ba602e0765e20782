//! A cable that breaks: passes bytes on and cuts each connection after a number of them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

pub struct Proxy {
    pub url: String,
    cuts: Arc<AtomicUsize>,
}

impl Proxy {
    /// Cuts each of the first `times` connections after `bytes` from the client.
    pub async fn start(to: SocketAddr, bytes: u64, times: usize) -> Self {
        Self::begin(to, bytes, times, false).await
    }

    /// Passes on so many bytes of each connection, and then nothing more, without an end.
    pub async fn that_stalls(to: SocketAddr, bytes: u64) -> Self {
        Self::begin(to, bytes, usize::MAX, true).await
    }

    async fn begin(to: SocketAddr, bytes: u64, times: usize, stalls: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let cuts = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&cuts);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let left = if counted.load(Ordering::SeqCst) < times {
                    bytes
                } else {
                    u64::MAX
                };
                let server = TcpStream::connect(to).await.unwrap();
                let (left, cuts) = (AtomicU64::new(left), Arc::clone(&counted));
                tokio::spawn(pass(client, server, left, cuts, stalls));
            }
        });
        Self { url, cuts }
    }

    pub fn cuts(&self) -> usize {
        self.cuts.load(Ordering::SeqCst)
    }
}

async fn pass(
    mut client: TcpStream,
    mut server: TcpStream,
    left: AtomicU64,
    cuts: Arc<AtomicUsize>,
    stalls: bool,
) {
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let up = async {
        let mut buffer = vec![0; 4096];
        loop {
            match from_client.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(count) => {
                    let room = left.load(Ordering::SeqCst);
                    let take = usize::try_from(room).unwrap_or(usize::MAX).min(count);
                    left.store(room - take as u64, Ordering::SeqCst);
                    if to_server.write_all(&buffer[..take]).await.is_err() {
                        return;
                    }
                    if take < count || room == take as u64 {
                        cuts.fetch_add(1, Ordering::SeqCst);
                        if stalls {
                            return std::future::pending().await;
                        }
                        return;
                    }
                }
            }
        }
    };
    let down = async {
        let _ = tokio::io::copy(&mut from_server, &mut to_client).await;
    };
    // Whichever side ends first takes the other with it.
    tokio::select! {
        () = up => {}
        () = down => {}
    }
}
