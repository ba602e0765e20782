//! The counter, version 2: it also counts answers, and keeps its sums elsewhere.

use std::io;

use counter::{Lines, listen};
use futures_util::future::select_all;
use tokio::net::{TcpListener, TcpStream};

#[derive(serde::Serialize, serde::Deserialize)]
struct Counter {
    all: Sums,
    #[serde(with = "handoff::socket")]
    listener: TcpListener,
    clients: Vec<Client>,
}

/// What was added, and how often.
#[derive(Default, serde::Serialize, serde::Deserialize)]
struct Sums {
    sum: u64,
    answers: u64,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Client {
    own: Sums,
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
            ask = program.asked() => if program.give_all(&ask, 2, &counter).await.is_released() { return Ok(()) },
        }
    }
}

impl Counter {
    async fn open() -> Result<Self, Box<dyn std::error::Error>> {
        let listener = listen().await?;
        Ok(Self {
            all: Sums::default(),
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
                    own: Sums::default(),
                    lines: Lines::default(),
                    stream,
                });
                return Ok(());
            }
        };
        let Client { own, lines, stream } = &mut self.clients[index];
        let goes_on = lines.work(stream, |line| {
            let number = line.parse().unwrap_or(0);
            for sums in [&mut *own, &mut self.all] {
                sums.sum += number;
                sums.answers += 1;
            }
            format!("2 {} {} {}", own.sum, self.all.sum, self.all.answers)
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
