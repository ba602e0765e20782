//! The load: publishers at a fixed rate and subscribers that count, all on one thread.
//!
//! It is open: a message is due at its time whatever the broker does, and its latency counts from then, so that what
//! waits in front of a broker that stands still is seen.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use rustix::event::{Timespec, epoll};
use rustix::time::{ClockId, clock_gettime};

use super::ledger::{Ledger, Record};
use super::wire::{self, Packet};

/// Where all messages go.
const TOPIC: &str = "ward/7/pulse";
/// Messages of one publisher that the broker has not acknowledged in full; further ones wait here.
const WINDOW: usize = 200;
/// Longest wait of the loop, and so the most by which a message is sent late.
const SLACK: Duration = Duration::from_micros(300);
/// Pause before a broken connection is dialled again.
const REDIAL: Duration = Duration::from_millis(2);
/// How long all clients may take to connect.
const CONNECT: Duration = Duration::from_secs(20);
/// Bytes of a payload that say which message it is and when it was due.
const HEAD: usize = 16;

/// What is to be sent.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Clients that publish.
    pub publishers: usize,
    /// Messages of each.
    pub messages: u32,
    /// Bytes of a message's payload.
    pub bytes: usize,
    /// Clients that subscribe.
    pub subscribers: usize,
    /// Messages a second, all publishers together.
    pub rate: f64,
    /// How long after the last message was due they may arrive.
    pub patience: Duration,
}

impl Plan {
    /// The document's: 100 publishers, 128 bytes, ten subscribers.
    #[must_use]
    pub fn document(messages: u32, rate: f64) -> Self {
        Self {
            publishers: 100,
            messages,
            bytes: 128,
            subscribers: 10,
            rate,
            patience: Duration::from_secs(30),
        }
    }

    /// The same for so many seconds.
    #[must_use]
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss
    )] // a plan
    pub fn for_seconds(mut self, seconds: f64) -> Self {
        self.messages = (self.rate * seconds / self.publishers as f64).ceil() as u32;
        self
    }
}

/// A load under way.
#[derive(Debug)]
pub struct Load {
    thread: JoinHandle<Result<Record>>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// [`monotonic_ns`] of the beginning; 0 before it.
    began: AtomicU64,
    delivered: AtomicU64,
    dropped: AtomicU64,
    finish: AtomicBool,
}

impl Load {
    /// Connects all clients and begins; returns when the first message is due.
    ///
    /// # Errors
    /// They cannot connect.
    pub fn begin(plan: &Plan, address: SocketAddr) -> Result<Self> {
        ensure!(plan.bytes >= HEAD, "a message has at least {HEAD} bytes");
        let shared = Arc::<Shared>::default();
        let (plan, own) = (plan.clone(), shared.clone());
        let thread = std::thread::Builder::new()
            .name("load".into())
            .spawn(move || Run::new(plan, address, own)?.run())?;
        let load = Self { thread, shared };
        while load.shared.began.load(Ordering::Acquire) == 0 {
            if load.thread.is_finished() {
                load.end()?;
                bail!("the load ended before it began");
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(load)
    }

    /// Time since the first message was due.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        let began = self.shared.began.load(Ordering::Acquire);
        Duration::from_nanos(monotonic_ns().saturating_sub(began))
    }

    /// Waits for a time since the beginning.
    pub fn wait_until(&self, time: Duration) {
        std::thread::sleep(time.saturating_sub(self.elapsed()));
    }

    /// Deliveries so far.
    #[must_use]
    pub fn delivered(&self) -> u64 {
        self.shared.delivered.load(Ordering::Relaxed)
    }

    /// Connections broken so far.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// No message is due any more; those sent are waited for.
    pub fn finish(&self) {
        self.shared.finish.store(true, Ordering::Release);
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// The load could not be carried out.
    pub fn end(self) -> Result<Record> {
        match self.thread.join() {
            Ok(record) => record,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

/// `CLOCK_MONOTONIC` in nanoseconds, as the programs report it.
pub(super) fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap() * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap()
}

/// One client.
struct Client {
    name: String,
    stream: Option<TcpStream>,
    /// Written to the kernel only in part.
    waits: bool,
    ready: bool,
    input: Vec<u8>,
    output: Vec<u8>,
    role: Role,
    redial: Instant,
}

enum Role {
    Publisher {
        /// Messages whose time has come.
        due: u32,
        /// Messages that were sent the first time.
        sent: u32,
        /// Acknowledged in full.
        done: u32,
        next_packet: u16,
        flights: VecDeque<Flight>,
    },
    Subscriber {
        /// Packets that it has and that are not released, a bit each.
        holding: Vec<u64>,
    },
}

#[derive(Clone, Copy)]
struct Flight {
    packet: u16,
    number: u32,
    released: bool,
    done: bool,
}

struct Run {
    plan: Plan,
    address: SocketAddr,
    shared: Arc<Shared>,
    clients: Vec<Client>,
    epoll: rustix::fd::OwnedFd,
    ledger: Ledger,
    began: u64,
    /// Messages that have come due, all publishers together.
    due: u64,
    payload: Vec<u8>,
    buffer: Vec<u8>,
    last_due: Option<Instant>,
}

impl Run {
    fn new(plan: Plan, address: SocketAddr, shared: Arc<Shared>) -> Result<Self> {
        let now = Instant::now();
        let client = |name: String, role: Role| Client {
            name,
            stream: None,
            waits: false,
            ready: false,
            input: Vec::new(),
            output: Vec::new(),
            role,
            redial: now,
        };
        let subscribers = (0..plan.subscribers).map(|number| {
            let holding = vec![0; 1024];
            client(format!("subscriber-{number}"), Role::Subscriber { holding })
        });
        let publishers = (0..plan.publishers).map(|number| {
            let role = Role::Publisher {
                due: 0,
                sent: 0,
                done: 0,
                next_packet: 1,
                flights: VecDeque::new(),
            };
            client(format!("publisher-{number}"), role)
        });
        Ok(Self {
            clients: subscribers.chain(publishers).collect(),
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            ledger: Ledger::new(plan.subscribers, plan.publishers, plan.messages),
            began: 0,
            due: 0,
            payload: vec![b'.'; plan.bytes],
            buffer: vec![0; 256 * 1024],
            last_due: None,
            plan,
            address,
            shared,
        })
    }

    fn run(mut self) -> Result<Record> {
        // Subscribers first, so that nothing is published to nobody.
        let patience = Instant::now() + CONNECT;
        for count in [self.plan.subscribers, self.clients.len()] {
            while !self.clients[..count].iter().all(|client| client.ready) {
                ensure!(
                    Instant::now() < patience,
                    "not all clients could connect to {}",
                    self.address
                );
                self.redial(count);
                self.turn()?;
            }
        }
        let cpu = clock_gettime(ClockId::ThreadCPUTime);
        self.began = monotonic_ns();
        self.shared.began.store(self.began, Ordering::Release);
        while !self.is_over() {
            self.redial(self.clients.len());
            self.come_due();
            self.turn()?;
            self.shared
                .delivered
                .store(self.ledger.delivered(), Ordering::Relaxed);
        }
        let used = clock_gettime(ClockId::ThreadCPUTime);
        let acknowledged: Vec<u32> = self.clients.iter().filter_map(Client::done).collect();
        let mut record = self.ledger.close(&acknowledged);
        #[allow(clippy::cast_precision_loss)] // seconds of a run
        {
            let seconds = (used.tv_sec - cpu.tv_sec) as f64;
            record.load_cpu_s = seconds + (used.tv_nsec - cpu.tv_nsec) as f64 / 1e9;
            record.seconds = (monotonic_ns() - self.began) as f64 / 1e9;
        }
        Ok(record)
    }

    /// Everything is acknowledged and has arrived, or has had its time.
    fn is_over(&mut self) -> bool {
        let all = self.plan.messages as usize * self.plan.publishers;
        if self.shared.finish.load(Ordering::Acquire) || self.due == all as u64 {
            let last = *self.last_due.get_or_insert_with(Instant::now);
            let done: u64 = self.clients.iter().filter_map(Client::done).map(u64::from).sum();
            let arrived = self.ledger.delivered() >= done * self.plan.subscribers as u64;
            let quiet = self
                .clients
                .iter()
                .all(|client| client.output.is_empty() && client.ready);
            return (done == self.due && arrived && quiet) || last.elapsed() > self.plan.patience;
        }
        false
    }

    /// Messages whose time has come are sent, or wait for their publisher.
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss
    )] // a rate
    fn come_due(&mut self) {
        let all = u64::from(self.plan.messages) * self.plan.publishers as u64;
        if !self.shared.finish.load(Ordering::Acquire) {
            let now = monotonic_ns() - self.began;
            let due = ((now as f64 / 1e9 * self.plan.rate) as u64 + 1).min(all);
            while self.due < due {
                let publisher = (self.due % self.plan.publishers as u64) as usize;
                self.due += 1;
                if let Role::Publisher { due, .. } = &mut self.clients[self.plan.subscribers + publisher].role
                {
                    *due += 1;
                }
                self.publish(self.plan.subscribers + publisher);
            }
        }
    }

    /// When a message is due, nanoseconds since the beginning.
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss
    )] // a rate
    fn due_ns(&self, publisher: usize, number: u32) -> u64 {
        let index = u64::from(number) * self.plan.publishers as u64 + publisher as u64;
        (index as f64 / self.plan.rate * 1e9) as u64
    }

    /// Sends what is due of one publisher, as far as its window goes.
    fn publish(&mut self, index: usize) {
        let Some(publisher) = index.checked_sub(self.plan.subscribers) else {
            return;
        };
        loop {
            let client = &mut self.clients[index];
            let Role::Publisher {
                due,
                sent,
                next_packet,
                flights,
                ..
            } = &mut client.role
            else {
                return;
            };
            if !client.ready || *sent >= *due || flights.len() >= WINDOW {
                break;
            }
            let flight = Flight {
                packet: *next_packet,
                number: *sent,
                released: false,
                done: false,
            };
            *sent += 1;
            // The window is far smaller than the numbers are.
            *next_packet = next_packet.checked_add(1).unwrap_or(1);
            flights.push_back(flight);
            self.put_publish(index, publisher, flight, false);
        }
        self.write(index);
    }

    fn put_publish(&mut self, index: usize, publisher: usize, flight: Flight, again: bool) {
        let due = self.due_ns(publisher, flight.number);
        self.payload[..4].copy_from_slice(&u32::try_from(publisher).unwrap().to_be_bytes());
        self.payload[4..8].copy_from_slice(&flight.number.to_be_bytes());
        self.payload[8..HEAD].copy_from_slice(&due.to_be_bytes());
        let output = &mut self.clients[index].output;
        wire::put_publish(output, TOPIC, flight.packet, &self.payload, again);
    }

    /// Dials for those that are not connected and whose pause is over.
    fn redial(&mut self, count: usize) {
        let now = Instant::now();
        for index in 0..count {
            if self.clients[index].stream.is_some() || self.clients[index].redial > now {
                continue;
            }
            let dialled = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
            let client = &mut self.clients[index];
            client.redial = now + REDIAL;
            let Ok(stream) = dialled else { continue };
            let watched = stream.set_nodelay(true).is_ok()
                && stream.set_nonblocking(true).is_ok()
                && epoll::add(
                    &self.epoll,
                    &stream,
                    epoll::EventData::new_u64(index as u64),
                    epoll::EventFlags::IN,
                )
                .is_ok();
            if watched {
                client.stream = Some(stream);
                wire::put_connect(&mut client.output, &client.name);
                self.write(index);
            }
        }
    }

    fn turn(&mut self) -> Result<()> {
        let timeout = Timespec::try_from(SLACK)?;
        let mut events = Vec::with_capacity(256);
        match epoll::wait(
            &self.epoll,
            rustix::buffer::spare_capacity(&mut events),
            Some(&timeout),
        ) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        for event in events {
            let index = usize::try_from(event.data.u64())?;
            let flags = event.flags;
            if flags.contains(epoll::EventFlags::OUT) {
                self.write(index);
            }
            if flags.intersects(epoll::EventFlags::IN | epoll::EventFlags::HUP | epoll::EventFlags::ERR) {
                self.read(index);
            }
        }
        Ok(())
    }

    fn read(&mut self, index: usize) {
        let Some(stream) = &mut self.clients[index].stream else {
            return;
        };
        let count = match stream.read(&mut self.buffer) {
            Ok(0) => return self.broke(index),
            Ok(count) => count,
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return,
            Err(_) => return self.broke(index),
        };
        let mut input = std::mem::take(&mut self.clients[index].input);
        input.extend_from_slice(&self.buffer[..count]);
        let now = monotonic_ns().saturating_sub(self.began);
        let mut at = 0;
        while let Some((packet, length)) = wire::first(&input[at..]) {
            at += length;
            self.hear(index, &packet, now);
        }
        input.drain(..at);
        self.clients[index].input = input;
        // What was acknowledged makes room for what waits.
        self.publish(index);
        self.write(index);
    }

    fn hear(&mut self, index: usize, packet: &Packet<'_>, now: u64) {
        let client = &mut self.clients[index];
        match (packet, &mut client.role) {
            (Packet::Connack, Role::Subscriber { .. }) => wire::put_subscribe(&mut client.output, TOPIC),
            (Packet::Connack, Role::Publisher { .. }) => {
                client.ready = true;
                self.say_again(index);
            }
            (Packet::Suback, _) => client.ready = true,
            (Packet::Publish { packet, payload }, Role::Subscriber { holding }) => {
                let (word, bit) = (usize::from(*packet / 64), 1 << (*packet % 64));
                wire::put_pubrec(&mut client.output, *packet);
                if holding[word] & bit == 0 {
                    holding[word] |= bit;
                    self.given(index, payload, now);
                }
            }
            (Packet::Pubrel(packet), Role::Subscriber { holding }) => {
                holding[usize::from(*packet / 64)] &= !(1 << (*packet % 64));
                wire::put_pubcomp(&mut client.output, *packet);
            }
            (Packet::Pubrec(packet), Role::Publisher { flights, .. }) => {
                if let Some(flight) = flights.iter_mut().find(|flight| flight.packet == *packet) {
                    flight.released = true;
                }
                wire::put_pubrel(&mut client.output, *packet);
            }
            (Packet::Pubcomp(packet), Role::Publisher { flights, done, .. }) => {
                if let Some(flight) = flights.iter_mut().find(|flight| flight.packet == *packet) {
                    flight.done = true;
                }
                // In order, so that all below `done` are done.
                while flights.front().is_some_and(|flight| flight.done) {
                    flights.pop_front();
                    *done += 1;
                }
            }
            (other, _) => panic!("{}: unexpected {other:?}", client.name),
        }
    }

    fn given(&mut self, subscriber: usize, payload: &[u8], now: u64) {
        let word = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
        let due = u64::from_be_bytes(payload[8..HEAD].try_into().unwrap());
        self.ledger.give(subscriber, word(0) as usize, word(4), due, now);
    }

    /// After a new connection: what was not acknowledged, in order.
    fn say_again(&mut self, index: usize) {
        let Role::Publisher { flights, .. } = &self.clients[index].role else {
            return;
        };
        for flight in flights.clone().into_iter().filter(|flight| !flight.done) {
            if flight.released {
                wire::put_pubrel(&mut self.clients[index].output, flight.packet);
            } else {
                self.put_publish(index, index - self.plan.subscribers, flight, true);
            }
        }
    }

    fn broke(&mut self, index: usize) {
        let client = &mut self.clients[index];
        if client.stream.take().is_some() {
            client.ready = false;
            client.waits = false;
            client.input.clear();
            client.output.clear();
            client.redial = Instant::now() + REDIAL;
            self.ledger.drop_connection();
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn write(&mut self, index: usize) {
        let client = &mut self.clients[index];
        let Some(stream) = &mut client.stream else {
            client.output.clear();
            return;
        };
        let mut written = 0;
        while written < client.output.len() {
            match stream.write(&client.output[written..]) {
                Ok(count) => written += count,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return self.broke(index),
            }
        }
        client.output.drain(..written);
        let waits = !client.output.is_empty();
        if waits != client.waits {
            client.waits = waits;
            let mut wanted = epoll::EventFlags::IN;
            wanted.set(epoll::EventFlags::OUT, waits);
            let data = epoll::EventData::new_u64(index as u64);
            epoll::modify(&self.epoll, stream, data, wanted).ok();
        }
    }
}

impl Client {
    fn done(&self) -> Option<u32> {
        match self.role {
            Role::Publisher { done, .. } => Some(done),
            Role::Subscriber { .. } => None,
        }
    }
}
