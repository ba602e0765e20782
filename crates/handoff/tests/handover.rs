//! An agent and its programs in one process: what is given arrives, and one of old and new serves.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::semicolon_if_nothing_returned,
    clippy::let_underscore_future,
    missing_docs
)]

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use handoff::{
    Desk, Ended, Error, Journal, Outcome, Phase, Process, Program, Starter, Successor, Terms, Unit, Update,
};

const LONG: Duration = Duration::from_secs(10);

fn terms() -> Terms {
    Terms {
        update: "u-1".into(),
        to: "2.0.0".into(),
        nature: "unit".into(),
        stillness: "unit".into(),
        start: LONG,
        ready: LONG,
        still: LONG,
        serve: LONG,
    }
}

/// What the journal was told, in order.
#[derive(Default)]
struct Lines(Vec<String>, bool);

impl Journal for Lines {
    fn intend(&mut self, update: &str, units: &[String]) -> Result<(), String> {
        self.0.push(format!("intend {update} {}", units.join(" ")));
        Ok(())
    }
    fn decide(&mut self, update: &str) -> Result<(), String> {
        self.0.push(format!("decide {update}"));
        if self.1 {
            Err("the disk is full".into())
        } else {
            Ok(())
        }
    }
    fn end(&mut self, update: &str, outcome: &Outcome) {
        self.0
            .push(format!("end {update} {}", matches!(outcome, Outcome::Committed)));
    }
}

/// A program that is a thread here: its end cannot be forced, and need not be.
struct Thread;

impl Process for Thread {
    fn end(&mut self) {}
}

/// Starts threads instead of programs.
struct Threads<'a> {
    desk: &'a Desk,
    new: fn(&Path, &str) -> JoinHandle<()>,
}

impl Starter for Threads<'_> {
    fn start(&mut self, unit: &str, until: Instant) -> Result<Successor, String> {
        let token = format!("new-{unit}");
        self.desk.expect(&token);
        let _running = (self.new)(self.desk.path(), &token);
        let guest = self.desk.take(&token, until).ok_or("it does not report")?;
        assert!(!guest.serving);
        Ok(Successor {
            guest,
            process: Box::new(Thread),
        })
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

/// An old program that counts bytes of one connection, gives it and its count away, and says how it ended.
fn old_program(path: &Path, token: &str, listener: TcpListener, connection: TcpStream) -> JoinHandle<String> {
    let (path, token) = (path.to_owned(), token.to_owned());
    std::thread::spawn(move || {
        block_on(async {
            let mut program = Program::first(Some((path, token)));
            let prepare = program.asked().await;
            assert_eq!(prepare.directives.to, "2.0.0");
            let descriptors = [listener.as_fd(), connection.as_fd()];
            let fate = program.give(&prepare, 1, b"seven", &descriptors).await;
            if !fate.is_released() {
                (&connection).write_all(b"old").unwrap();
            }
            format!("{fate:?}")
        })
    })
}

fn new_program(path: &Path, token: &str) -> JoinHandle<()> {
    let (path, token) = (path.to_owned(), token.to_owned());
    std::thread::spawn(move || {
        block_on(async {
            let (mut program, inherited) = Program::take_over(path, token).await.unwrap();
            assert_eq!(
                (inherited.schema(), inherited.state().unwrap()),
                (1, b"seven".to_vec())
            );
            let mut given = inherited.descriptors.into_iter();
            let listener = TcpListener::from(given.next().unwrap());
            let connection = TcpStream::from(given.next().unwrap());
            if program.alive().await.is_ok() {
                (&connection).write_all(b"new").unwrap();
                (&listener.accept().unwrap().0).write_all(b"new").unwrap();
            }
        })
    })
}

fn failing_program(path: &Path, token: &str) -> JoinHandle<()> {
    let (path, token) = (path.to_owned(), token.to_owned());
    std::thread::spawn(move || {
        block_on(async {
            let (program, _) = Program::take_over(path, token).await.unwrap();
            program.failed("I do not understand schema 1").await;
        })
    })
}

/// Ends without a word as soon as it has taken everything.
fn dying_program(path: &Path, token: &str) -> JoinHandle<()> {
    let (path, token) = (path.to_owned(), token.to_owned());
    std::thread::spawn(move || drop(block_on(Program::take_over(path, token))))
}

struct Seen {
    outcome: Outcome,
    ended: Vec<Ended>,
    old: String,
    answer: String,
    lines: Vec<String>,
    phases: Vec<Phase>,
    second: Option<String>,
}

fn hand_over(new: fn(&Path, &str) -> JoinHandle<()>, disk_is_full: bool) -> Seen {
    let folder = tempfile::tempdir().unwrap();
    let desk = Desk::open(&folder.path().join("desk")).unwrap();
    desk.expect("old");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut client = TcpStream::connect(address).unwrap();
    let connection = listener.accept().unwrap().0;
    let old = old_program(desk.path(), "old", listener, connection);
    let unit = Unit {
        name: "counter".into(),
        old: desk.take("old", Instant::now() + LONG).unwrap(),
        transform: None,
    };
    let mut lines = Lines(vec![], disk_is_full);
    let mut phases = vec![];
    let mut starter = Threads { desk: &desk, new };
    let (outcome, ended) = Update::run(terms(), vec![unit], &mut lines, &mut starter, &mut |phase, _| {
        phases.push(phase);
    });
    let mut answer = [0; 3];
    client.read_exact(&mut answer).unwrap();
    let old = old.join().unwrap();
    let second = (outcome == Outcome::Committed).then(|| {
        let mut second = String::new();
        TcpStream::connect(address)
            .unwrap()
            .read_to_string(&mut second)
            .unwrap();
        second
    });
    let answer = String::from_utf8(answer.to_vec()).unwrap();
    Seen {
        outcome,
        ended,
        old,
        answer,
        lines: lines.0,
        phases,
        second,
    }
}

#[test]
fn the_new_program_goes_on_with_the_state_the_connection_and_the_listener() {
    let seen = hand_over(new_program, false);
    assert_eq!(seen.outcome, Outcome::Committed);
    assert_eq!((seen.old.as_str(), seen.answer.as_str()), ("Released", "new"));
    assert_eq!(seen.second.as_deref(), Some("new"));
    assert_eq!(seen.lines, ["intend u-1 counter", "decide u-1", "end u-1 true"]);
    assert_eq!(seen.phases, Phase::ALL);
    assert!(seen.ended[0].new.is_some());
    assert!(seen.ended[0].pause.unwrap() < LONG);
}

#[test]
fn the_old_program_goes_on_when_the_new_one_cannot_take_over() {
    let seen = hand_over(failing_program, false);
    let Outcome::Resumed { reason, .. } = &seen.outcome else {
        panic!("{:?}", seen.outcome)
    };
    assert_eq!(reason, "counter cannot take over: I do not understand schema 1");
    assert_eq!(
        (seen.old, seen.answer.as_str()),
        (format!("Resume({reason:?})"), "old")
    );
    assert!(seen.ended[0].new.is_none() && seen.ended[0].old.is_some());
}

#[test]
fn the_old_program_goes_on_when_the_new_one_dies_or_the_decision_cannot_be_written() {
    for (new, full) in [
        (dying_program as fn(&Path, &str) -> _, false),
        (new_program, true),
    ] {
        let seen = hand_over(new, full);
        assert!(
            matches!(seen.outcome, Outcome::Resumed { .. }),
            "{:?}",
            seen.outcome
        );
        assert_eq!(seen.answer, "old");
        assert_eq!(seen.lines.last().map(String::as_str), Some("end u-1 false"));
    }
}

#[test]
fn an_old_program_refuses_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let desk = Desk::open(&folder.path().join("desk")).unwrap();
    desk.expect("old");
    let path = desk.path().to_owned();
    let old = std::thread::spawn(move || {
        block_on(async {
            let mut program = Program::first(Some((path, "old".into())));
            let prepare = program.asked().await;
            program
                .refuse(prepare, "a patient is being monitored", Some(LONG))
                .await;
            drop(tokio::time::timeout(Duration::from_millis(50), program.asked()).await);
        });
    });
    let unit = Unit {
        name: "counter".into(),
        old: desk.take("old", Instant::now() + LONG).unwrap(),
        transform: None,
    };
    let mut starter = Threads {
        desk: &desk,
        new: dying_program_that_waits,
    };
    let (outcome, _) = Update::run(
        terms(),
        vec![unit],
        &mut Lines::default(),
        &mut starter,
        &mut |_, _| (),
    );
    let refused = Outcome::Refused {
        unit: "counter".into(),
        reason: "a patient is being monitored".into(),
        again: Some(LONG),
    };
    assert_eq!(outcome, refused);
    old.join().unwrap();
}

/// Stands by until it is hung up on.
fn dying_program_that_waits(path: &Path, token: &str) -> JoinHandle<()> {
    let (path, token) = (path.to_owned(), token.to_owned());
    std::thread::spawn(move || {
        let taken = block_on(Program::take_over(path, token));
        assert!(matches!(taken, Err(Error::Gone)));
    })
}

/// What an old program of several does when it is asked.
#[derive(Clone, Copy, PartialEq)]
enum Does {
    Gives,
    Refuses,
    Dies,
}

/// Hands two programs over at once; the outcome, what became of each, and how many new ones serve.
fn hand_two_over(does: [Does; 2], new: fn(&Path, &str) -> JoinHandle<()>) -> (Outcome, [String; 2], usize) {
    let folder = tempfile::tempdir().unwrap();
    let desk = Desk::open(&folder.path().join("desk")).unwrap();
    let olds = [("a", does[0]), ("b", does[1])].map(|(name, does)| {
        desk.expect(name);
        let path = desk.path().to_owned();
        std::thread::spawn(move || {
            block_on(async {
                let mut program = Program::first(Some((path, name.to_owned())));
                let prepare = program.asked().await;
                match does {
                    Does::Gives => format!("{:?}", program.give(&prepare, 1, b"seven", &[]).await),
                    Does::Refuses => {
                        program.refuse(prepare, "not now", None).await;
                        "refused".to_owned()
                    }
                    Does::Dies => "dead".to_owned(),
                }
            })
        })
    });
    let units = ["a", "b"].map(|name| Unit {
        name: name.to_owned(),
        old: desk.take(name, Instant::now() + LONG).unwrap(),
        transform: None,
    });
    let mut starter = Threads { desk: &desk, new };
    let mut lines = Lines::default();
    let (outcome, ended) = Update::run(terms(), units.into(), &mut lines, &mut starter, &mut |_, _| ());
    let serving = ended.iter().filter(|unit| unit.new.is_some()).count();
    (outcome, olds.map(|old| old.join().unwrap()), serving)
}

/// Takes over and serves, without looking at what it was given.
fn any_program(path: &Path, token: &str) -> JoinHandle<()> {
    let (path, token) = (path.to_owned(), token.to_owned());
    std::thread::spawn(move || {
        block_on(async {
            let Ok((mut program, _)) = Program::take_over(path, token).await else {
                return;
            };
            program.alive().await.ok();
        });
    })
}

/// The one of unit `b` ends as soon as it has everything.
fn one_of_two_dies(path: &Path, token: &str) -> JoinHandle<()> {
    if token.ends_with('b') {
        dying_program(path, token)
    } else {
        any_program(path, token)
    }
}

#[test]
fn several_units_change_all_or_none() {
    let (outcome, olds, serving) = hand_two_over([Does::Gives, Does::Gives], any_program);
    assert_eq!((outcome, serving), (Outcome::Committed, 2));
    assert_eq!(olds, ["Released", "Released"]);
    for (does, new) in [
        ([Does::Gives, Does::Refuses], any_program as fn(&Path, &str) -> _),
        ([Does::Gives, Does::Dies], any_program),
        ([Does::Gives, Does::Gives], one_of_two_dies),
    ] {
        let (outcome, olds, serving) = hand_two_over(does, new);
        assert_ne!(outcome, Outcome::Committed);
        assert_eq!(serving, 0, "{outcome:?}");
        assert!(olds[0].starts_with("Resume("), "{olds:?}");
        assert!(
            does[1] != Does::Gives || olds[1].starts_with("Resume("),
            "{olds:?}"
        );
    }
}
