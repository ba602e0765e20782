//! The counter, version 1: `counter-plain` and the lines that let it be updated while it runs.

use std::io;

use counter::{Lines, listen};
use futures_util::future::select_all;
use tokio::net::{TcpListener, TcpStream};

#[derive(serde::Serialize, serde::Deserialize)]
struct Counter {
    total: u64,
    #[serde(with = "handoff::socket")]
    listener: TcpListener,
    clients: Vec<Client>,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Client {
    total: u64,
    lines: Lines,
    #[serde(with = "handoff::socket")]
    stream: TcpStream,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (mut program, mut counter) = handoff::Program::begin(Counter::open).await?;
    loop {
        tokio::select! {
            served = counter.serve() => served?,
            ask = program.asked() => if program.give_all(&ask, 1, &counter).await.is_released() { return Ok(()) },
        }
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
