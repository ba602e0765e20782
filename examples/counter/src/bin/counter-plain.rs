//! The counter without any thought of being updated: what `counter-1` was made of.

use std::io;

use counter::{Lines, listen};
use futures_util::future::select_all;
use tokio::net::{TcpListener, TcpStream};

struct Counter {
    total: u64,
    listener: TcpListener,
    clients: Vec<Client>,
}

struct Client {
    total: u64,
    lines: Lines,
    stream: TcpStream,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut counter = Counter::open().await?;
    loop {
        counter.serve().await?;
    }
}

impl Counter {
    async fn open() -> Result<Self, Box<dyn std::error::Error>> {
        let listener = listen().await?;
        Ok(Self {
            total: 0,
            listener,
            clients: vec![],
        })
    }

    /// Serves whoever comes first.
    async fn serve(&mut self) -> io::Result<()> {
        let accepted = tokio::select! {
            index = next(&self.clients) => Err(index),
            accepted = self.listener.accept() => Ok(accepted?.0),
        };
        let index = match accepted {
            Err(index) => index,
            Ok(stream) => {
                self.clients.push(Client {
                    total: 0,
                    lines: Lines::default(),
                    stream,
                });
                return Ok(());
            }
        };
        let Client { total, lines, stream } = &mut self.clients[index];
        let goes_on = lines.work(stream, |line| {
            let number = line.parse().unwrap_or(0);
            *total += number;
            self.total += number;
            format!("1 {total} {}", self.total)
        });
        if !goes_on {
            self.clients.swap_remove(index);
        }
        Ok(())
    }
}

/// Waits until one of them has something to do.
async fn next(clients: &[Client]) -> usize {
    if clients.is_empty() {
        return std::future::pending().await;
    }
    let waiting = clients
        .iter()
        .map(|client| Box::pin(client.lines.wait(&client.stream)));
    select_all(waiting).await.1
}
