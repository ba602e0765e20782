//! Clients that hold their connections, work all the time, and know every answer beforehand.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What one client saw.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) answers: u64,
    pub(crate) slowest: Duration,
    pub(crate) versions: BTreeSet<String>,
    /// Why its connection broke, or what answer was wrong.
    pub(crate) wrong: Option<String>,
}

/// Clients at work.
pub(crate) struct Clients {
    stop: Arc<AtomicBool>,
    answers: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Seen>>,
}

impl Clients {
    /// `count` that keep one connection, and one that makes a new one for each question.
    pub(crate) fn start(port: u16, count: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let answers = Arc::new(AtomicU64::new(0));
        let threads = (0..=count)
            .map(|number| {
                let (stop, answers) = (Arc::clone(&stop), Arc::clone(&answers));
                let each = if number == count { 1 } else { u64::MAX };
                let first = connect(port);
                std::thread::spawn(move || {
                    let mut seen = Seen::default();
                    let mut connection = Some(first);
                    while !stop.load(Ordering::Relaxed) && seen.wrong.is_none() {
                        let connection = connection.take().unwrap_or_else(|| connect(port));
                        if let Err(wrong) = talk(&connection, each, &stop, &answers, &mut seen) {
                            seen.wrong = Some(wrong);
                        }
                    }
                    seen
                })
            })
            .collect();
        Self {
            stop,
            answers,
            threads,
        }
    }

    /// Waits until so many more answers have come, or no more come.
    pub(crate) fn more(&self, count: u64) {
        let wanted = self.answers.load(Ordering::Relaxed) + count;
        let until = Instant::now() + Duration::from_secs(20);
        while self.answers.load(Ordering::Relaxed) < wanted {
            if self.threads.iter().all(JoinHandle::is_finished) {
                return;
            }
            assert!(Instant::now() < until, "nobody is answered");
            std::thread::yield_now();
        }
    }

    pub(crate) fn stop(self) -> Vec<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        self.threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    }
}

fn connect(port: u16) -> TcpStream {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        match TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
            Ok(stream) => {
                stream.set_nodelay(true).unwrap();
                stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
                return stream;
            }
            Err(error) => assert!(Instant::now() < until, "{error}"),
        }
    }
}

/// Adds numbers on one connection; each answer must tell their sum.
fn talk(
    stream: &TcpStream,
    questions: u64,
    stop: &AtomicBool,
    answers: &AtomicU64,
    seen: &mut Seen,
) -> Result<(), String> {
    let mut lines = BufReader::new(stream);
    let (mut sum, mut asked) = (0, 0);
    while asked < questions && !stop.load(Ordering::Relaxed) {
        let number = asked % 10;
        asked += 1;
        sum += number;
        let began = Instant::now();
        // In two parts: a line is often not whole when somebody stands still.
        let mut writer = stream;
        let text = format!("{number}\n");
        for part in text.as_bytes().chunks(1) {
            writer.write_all(part).map_err(|error| error.to_string())?;
        }
        let mut answer = String::new();
        if lines.read_line(&mut answer).map_err(|error| error.to_string())? == 0 {
            return Err("the connection was closed".into());
        }
        let words: Vec<&str> = answer.split_whitespace().collect();
        if words.get(1).and_then(|word| word.parse().ok()) != Some(sum) {
            return Err(format!("the sum is {sum} and the answer {answer:?}"));
        }
        seen.versions.insert(words[0].to_owned());
        seen.slowest = seen.slowest.max(began.elapsed());
        seen.answers += 1;
        answers.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}
