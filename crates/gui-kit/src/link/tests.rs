use super::*;
use control::{Reply, Server};
use protocol::device::Problem;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc as std_mpsc;

struct Counter;

#[derive(Debug, Clone, Copy, Serialize, serde::Deserialize)]
enum Ask {
    Value,
    Add(u32),
    Refuse,
    Watch,
}

impl Service for Counter {
    type Snapshot = u32;
    type Event = u32;
    type Request = Ask;

    fn program(&self) -> &'static str {
        "counter"
    }

    fn read<'a>(&'a self, client: &'a mut Client) -> Reading<'a, u32> {
        Box::pin(client.call(&Ask::Value))
    }

    fn watch(&self) -> Ask {
        Ask::Watch
    }
}

/// A service on a thread of its own, with a switch that ends it.
struct Running {
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Running {
    fn start(path: &Path, first: u32) -> Self {
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (ready, is_ready) = std_mpsc::channel();
        let path = path.to_owned();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let value = Arc::new(AtomicU32::new(first));
                let (told, _) = tokio::sync::broadcast::channel(16);
                let server = Server::open(&path).await.unwrap();
                ready.send(()).unwrap();
                let serve = server.run(move |ask: Ask| {
                    let (value, told) = (Arc::clone(&value), told.clone());
                    async move {
                        match ask {
                            Ask::Value => Reply::of(Ok(value.load(Ordering::SeqCst))),
                            Ask::Add(more) => {
                                let now = value.fetch_add(more, Ordering::SeqCst) + more;
                                let _ = told.send(now);
                                Reply::of(Ok(now))
                            }
                            Ask::Refuse => Reply::of::<()>(Err(Problem {
                                code: "no".into(),
                                message: "not today".into(),
                            })),
                            Ask::Watch => {
                                let (values, stream) = mpsc::channel(16);
                                let mut coming = told.subscribe();
                                tokio::spawn(async move {
                                    while let Ok(now) = coming.recv().await {
                                        let _ = values.send(now.into()).await;
                                    }
                                });
                                Reply::Stream(stream)
                            }
                        }
                    }
                });
                tokio::select! { () = serve => {}, _ = stopped => {} }
            });
        });
        is_ready.recv().unwrap();
        Self {
            stop: Some(stop),
            thread: Some(thread),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.stop.take().unwrap().send(());
        self.thread.take().unwrap().join().unwrap();
    }
}

struct Woken {
    link: Link<Counter>,
    rung: std_mpsc::Receiver<()>,
    events: Vec<u32>,
    answers: Vec<Answer>,
}

impl Woken {
    fn open(path: &Path) -> Self {
        let (ring, rung) = std_mpsc::channel();
        let wake: Wake = Arc::new(move || {
            let _ = ring.send(());
        });
        Self {
            link: Link::open(Counter, path, None, wake).unwrap(),
            rung,
            events: Vec::new(),
            answers: Vec::new(),
        }
    }

    fn until(&mut self, what: &str, seen: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !seen(self) {
            assert!(Instant::now() < deadline, "never: {what}");
            let _ = self.rung.recv_timeout(Duration::from_millis(200));
            let news = self.link.news();
            self.events.extend(news.events);
            self.answers.extend(news.answers);
        }
    }
}

#[test]
fn snapshots_events_and_answers_arrive() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control/socket");
    let _service = Running::start(&path, 7);
    let mut window = Woken::open(&path);
    window.until("the first snapshot", |window| {
        window.link.view().snapshot.as_deref() == Some(&7)
    });
    let add = window.link.send(Ask::Add(3)).unwrap();
    let refuse = window.link.send(Ask::Refuse).unwrap();
    window.until("both answers", |window| window.answers.len() == 2);
    window.until("the event", |window| window.events == [10]);
    window.until("the new snapshot", |window| {
        window.link.view().snapshot.as_deref() == Some(&10)
    });
    for answer in std::mem::take(&mut window.answers) {
        match answer.ticket {
            ticket if ticket == add => assert_eq!(answer.into::<u32>().unwrap(), 10),
            ticket => {
                assert_eq!(ticket, refuse);
                assert!(
                    answer
                        .into::<u32>()
                        .unwrap_err()
                        .to_string()
                        .contains("not today")
                );
            }
        }
    }
}

#[test]
fn a_service_that_ends_is_told_and_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control/socket");
    let service = Running::start(&path, 1);
    let mut window = Woken::open(&path);
    window.until("the first snapshot", |window| {
        window.link.view().snapshot.is_some()
    });
    drop(service);
    window.until("the loss", |window| {
        matches!(window.link.view().connection, Connection::Lost { .. })
    });
    assert_eq!(
        window.link.view().snapshot.as_deref(),
        Some(&1),
        "what was known stays on the window"
    );
    let lost = window.link.send(Ask::Add(1)).unwrap();
    window.until("the refusal", |window| {
        window.answers.iter().any(|answer| answer.ticket == lost)
    });
    let _again = Running::start(&path, 5);
    window.link.try_now();
    window.until("the new snapshot", |window| {
        window.link.view().snapshot.as_deref() == Some(&5)
    });
    assert_eq!(window.link.view().connection, Connection::Connected);
}

#[test]
fn nothing_wakes_the_window_where_nothing_changes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control/socket");
    let _service = Running::start(&path, 1);
    let mut window = Woken::open(&path);
    window.until("the first snapshot", |window| {
        window.link.view().snapshot.is_some()
    });
    while window.rung.try_recv().is_ok() {}
    let first = window.link.view().read_at;
    let deadline = Instant::now() + Duration::from_secs(20);
    while window.link.view().read_at == first {
        assert!(Instant::now() < deadline, "read again within a second");
        std::thread::yield_now();
    }
    assert!(window.rung.try_recv().is_err(), "the same snapshot rings no bell");
}

#[test]
fn a_program_that_ends_at_once_leaves_its_last_word() {
    let dir = tempfile::tempdir().unwrap();
    let launch = Launch {
        program: "/bin/sh".into(),
        arguments: ["-c", "echo the disk is on fire >&2; exit 3"]
            .map(Into::into)
            .to_vec(),
        log: dir.path().join("log"),
    };
    let (ring, rung) = std_mpsc::channel();
    let wake: Wake = Arc::new(move || {
        let _ = ring.send(());
    });
    let link = Link::open(Counter, &dir.path().join("control/socket"), Some(launch), wake).unwrap();
    loop {
        rung.recv_timeout(Duration::from_secs(20)).unwrap();
        if let Connection::Lost { reason } = link.view().connection {
            assert!(reason.contains("the disk is on fire"), "{reason}");
            return;
        }
    }
}
