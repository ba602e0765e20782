//! The side of the program that is updated.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, timeout_at};

use crate::limits::{DESCRIPTORS, PACKET_DESCRIPTORS, PATIENCE, RECONNECT_BASE, RECONNECT_CAP};
use crate::message::{brief, monotonic_ns};
use crate::{
    Channel, Decision, Directives, Error, Message, PROTOCOL, Packet, ROLE, SOCKET, SUCCESSOR, State, TOKEN,
    Verdict,
};

/// A program's standing with its agent. Without an agent it works all the same and is never asked for anything.
#[derive(Debug)]
pub struct Program {
    agent: Option<(PathBuf, String)>,
    link: Option<Link>,
    /// What it has taken and not yet been told to serve with.
    taken: Option<Taken>,
}

/// What the version before gave.
#[derive(Debug)]
pub struct Inherited {
    state: State,
    /// Its descriptors, in the order in which it gave them.
    pub descriptors: Vec<OwnedFd>,
}

/// Stand still and give what you have.
#[derive(Debug)]
pub struct Prepare {
    /// What the update's author and the agent want.
    pub directives: Directives,
    verdict: Verdict,
    deadline: Instant,
}

/// What becomes of a program that gave everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// The next version serves: end without touching anything.
    Released,
    /// Nothing came of it: go on. What was given are duplicates, everything is still here.
    Resume(String),
}

#[derive(Debug)]
struct Taken {
    update: String,
    verdict: Verdict,
    hold: Duration,
}

#[derive(Debug)]
struct Link {
    /// The socket, watched by tokio, which does not know its kind: only [`Link::ready`] uses it.
    watched: UnixStream,
    channel: Channel,
}

impl Inherited {
    /// Version of the state's format.
    #[must_use]
    pub fn schema(&self) -> u32 {
        self.state.schema()
    }

    /// The state's bytes.
    ///
    /// # Errors
    /// It does not fit in memory.
    pub fn state(&self) -> Result<Vec<u8>, Error> {
        self.state.bytes()
    }

    /// What [`Program::give_all`] gave, sockets included.
    ///
    /// # Errors
    /// It is not what is expected.
    pub fn all<T: DeserializeOwned>(self) -> Result<T, Error> {
        crate::socket::read(&self.state()?, self.descriptors)
    }
}

impl Prepare {
    /// What is left of the time to stand still.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

impl Fate {
    /// Whether the program is to end.
    #[must_use]
    pub fn is_released(&self) -> bool {
        *self == Self::Released
    }
}

impl Program {
    /// Finds the agent by the environment and, in a program that was started to take over, waits for what it inherits.
    ///
    /// # Errors
    /// A program that is to take over cannot: it must end. One that serves at once never fails here.
    pub async fn from_env() -> Result<(Self, Option<Inherited>), Error> {
        let agent = std::env::var_os(SOCKET)
            .map(PathBuf::from)
            .zip(std::env::var(TOKEN).ok());
        let successor = std::env::var_os(ROLE).is_some_and(|role| role == SUCCESSOR);
        match (agent, successor) {
            (Some((path, token)), true) => {
                let (program, inherited) = Self::take_over(path, token).await?;
                Ok((program, Some(inherited)))
            }
            (None, true) => Err(Error::Environment { variable: SOCKET }),
            (agent, false) => Ok((Self::first(agent), None)),
        }
    }

    /// All of a program's beginning: what [`Program::give_all`] gave, or, if nobody did, what `fresh` makes. On return it serves.
    ///
    /// # Errors
    /// Those of `fresh`; what was inherited is not understood, or not wanted any more. The program must end.
    pub async fn begin<T, E, Fresh>(fresh: impl FnOnce() -> Fresh) -> Result<(Self, T), E>
    where
        T: DeserializeOwned,
        E: From<Error>,
        Fresh: Future<Output = Result<T, E>>,
    {
        let (mut program, inherited) = Self::from_env().await?;
        let all = match inherited {
            Some(inherited) => match inherited.all() {
                Ok(all) => all,
                Err(error) => {
                    program.failed(&error.to_string()).await;
                    return Err(error.into());
                }
            },
            None => fresh().await?,
        };
        program.alive().await?;
        Ok((program, all))
    }

    /// A program that serves at once; `agent`: the socket's path and the token, if there is an agent.
    #[must_use]
    pub fn first(agent: Option<(PathBuf, String)>) -> Self {
        Self {
            agent,
            link: None,
            taken: None,
        }
    }

    /// A program that is to take over: reports, and waits for what it inherits.
    ///
    /// # Errors
    /// There is no agent, it hangs up, or what it gives cannot be taken.
    pub async fn take_over(path: PathBuf, token: String) -> Result<(Self, Inherited), Error> {
        let link = Link::dial(&path, &token, false).await?;
        let mut descriptors = Vec::new();
        loop {
            let Packet {
                message,
                descriptors: mut arrived,
            } = link.recv().await?;
            match message {
                Message::Descriptors { .. } if descriptors.len() + arrived.len() <= DESCRIPTORS => {
                    descriptors.append(&mut arrived);
                }
                Message::Take {
                    update,
                    schema,
                    length,
                    descriptors: count,
                    hold_ms,
                } => {
                    if u64::try_from(descriptors.len()) != Ok(count) || arrived.len() != 2 {
                        return Err(Error::Protocol("not all descriptors have arrived".into()));
                    }
                    let verdict = arrived.pop().map(Verdict::received).transpose()?;
                    let state = arrived
                        .pop()
                        .map(|fd| State::received(schema, length, fd))
                        .transpose()?;
                    let (Some(verdict), Some(state)) = (verdict, state) else {
                        return Err(Error::Protocol("no state has arrived".into()));
                    };
                    let taken = Taken {
                        update,
                        verdict,
                        hold: Duration::from_millis(hold_ms).min(PATIENCE),
                    };
                    let program = Self {
                        agent: Some((path, token)),
                        link: Some(link),
                        taken: Some(taken),
                    };
                    return Ok((program, Inherited { state, descriptors }));
                }
                Message::Unknown => {}
                other => return Err(misplaced(&other)),
            }
        }
    }

    /// Says that it could serve, and waits until it is to: on return it serves, and nobody else does. Nothing inherited may
    /// be touched before. In a program that took nothing over, returns at once.
    ///
    /// # Errors
    /// [`Error::NotWanted`]: the version before goes on; this program must end.
    pub async fn alive(&mut self) -> Result<(), Error> {
        let Some(taken) = self.taken.take() else {
            return Ok(());
        };
        let update = taken.update.clone();
        if let Some(link) = &self.link {
            // Whatever comes of it: the verdict tells.
            link.send(&Message::Alive { update }, &[]).await.ok();
        }
        let told = match &self.link {
            Some(link) => link.told(Instant::now() + taken.hold, |message| {
                matches!(message, Message::Serve { .. } | Message::Resume { .. })
            }),
            None => return Err(Error::Gone),
        }
        .await;
        // Whatever was said, or not: what holds is the verdict, and nobody is kept waiting for it.
        if taken.verdict.decide(Decision::Resume)? == Decision::Resume {
            return Err(Error::NotWanted(told.unwrap_or_else(|error| error.to_string())));
        }
        if let Some(link) = &self.link {
            let update = taken.update;
            let began_ns = monotonic_ns();
            link.send(&Message::Serving { update, began_ns }, &[]).await.ok();
        }
        Ok(())
    }

    /// Says that it cannot serve with what it inherited; then it ends.
    pub async fn failed(mut self, reason: &str) {
        let Some(taken) = self.taken.take() else { return };
        taken.verdict.decide(Decision::Resume).ok();
        if let Some(link) = &self.link {
            let (update, reason) = (taken.update, brief(reason));
            link.send(&Message::Failed { update, reason }, &[]).await.ok();
        }
    }

    /// Waits to be asked to prepare; keeps in touch with the agent meanwhile. Can be dropped and called again.
    pub async fn asked(&mut self) -> Prepare {
        let mut pause = RECONNECT_BASE;
        loop {
            let Some((path, token)) = &self.agent else {
                return std::future::pending().await;
            };
            let link = match self.link.take() {
                Some(link) => link,
                None => match Link::dial(path, token, true).await {
                    Ok(link) => link,
                    Err(_) => {
                        sleep(pause).await;
                        pause = (pause * 2).min(RECONNECT_CAP);
                        continue;
                    }
                },
            };
            // Back in its place before anything is awaited: this future may be dropped.
            let link = self.link.insert(link);
            match link.recv().await {
                Ok(Packet {
                    message: Message::Prepare(directives),
                    mut descriptors,
                }) => {
                    if let Some(Ok(verdict)) = descriptors.pop().map(Verdict::received) {
                        let deadline = Instant::now() + directives.ready_within();
                        return Prepare {
                            directives,
                            verdict,
                            deadline,
                        };
                    }
                    self.link = None;
                }
                // An update that ended before this program looked.
                Ok(_) => pause = RECONNECT_BASE,
                Err(_) => {
                    self.link = None;
                    sleep(pause).await;
                    pause = (pause * 2).min(RECONNECT_CAP);
                }
            }
        }
    }

    /// Refuses an update for now, and goes on.
    pub async fn refuse(&mut self, prepare: Prepare, reason: &str, again: Option<Duration>) {
        if let Some(link) = &self.link {
            let message = Message::Refuse {
                update: prepare.directives.update,
                reason: brief(reason),
                again_ms: again.map(crate::message::millis),
            };
            if link.send(&message, &[]).await.is_err() {
                self.link = None;
            }
        }
    }

    /// Gives the state, in the format `schema`, and duplicates of the descriptors, and waits for what becomes of this
    /// program. It must stand still from before the state was taken until this returns.
    pub async fn give(
        &mut self,
        prepare: &Prepare,
        schema: u32,
        state: &[u8],
        descriptors: &[BorrowedFd<'_>],
    ) -> Fate {
        let stopped_ns = monotonic_ns();
        let told = match self.link.as_ref() {
            Some(link) => match link.give(prepare, schema, state, descriptors, stopped_ns).await {
                Ok(()) => {
                    let until = Instant::now() + prepare.directives.hold_for();
                    link.fate(until).await
                }
                Err(error) => Err(error),
            },
            None => Err(Error::Gone),
        };
        let (released, reason) = match told {
            // The agent knows that whoever was to take over is dead and has not served.
            Ok(Fate::Resume(reason)) => return Fate::Resume(reason),
            Ok(Fate::Released) => (true, "it was released before anything was decided".to_owned()),
            Err(error) => (false, error.to_string()),
        };
        // Whatever was said, or not: what holds is the verdict.
        match prepare.verdict.decide(Decision::Resume) {
            Ok(Decision::Resume) => Fate::Resume(reason),
            _ if released => Fate::Released,
            _ => self.wait_for_end().await,
        }
    }

    /// Gives all that `state` holds as JSON, and the sockets of its fields that are marked so (see [`crate::socket`]).
    /// Otherwise as [`Program::give`].
    pub async fn give_all(&mut self, prepare: &Prepare, schema: u32, state: &impl Serialize) -> Fate {
        match crate::socket::write(state) {
            Ok((text, sockets)) => {
                let sockets: Vec<BorrowedFd<'_>> = sockets.iter().map(AsFd::as_fd).collect();
                self.give(prepare, schema, &text, &sockets).await
            }
            Err(error) => {
                prepare.verdict.decide(Decision::Resume).ok();
                let update = prepare.directives.update.clone();
                let reason = brief(&error.to_string());
                let message = Message::Refuse {
                    update,
                    reason: reason.clone(),
                    again_ms: None,
                };
                if let Some(link) = &self.link {
                    link.send(&message, &[]).await.ok();
                }
                Fate::Resume(reason)
            }
        }
    }

    /// It is decided that the next version serves. Only the agent, who may have seen it die before it did, knows better.
    async fn wait_for_end(&mut self) -> Fate {
        let fate = match &self.link {
            Some(link) => link.fate(Instant::now() + PATIENCE).await,
            None => Err(Error::Gone),
        };
        fate.unwrap_or(Fate::Released)
    }
}

impl Link {
    async fn dial(path: &std::path::Path, token: &str, serving: bool) -> Result<Self, Error> {
        let channel = Channel::dial(path)?;
        let watch = Error::io("watch the agent's socket");
        let copy = channel.as_fd().try_clone_to_owned();
        let watched = copy
            .and_then(|copy| UnixStream::from_std(copy.into()))
            .map_err(watch)?;
        let link = Self { watched, channel };
        let hello = Message::Hello {
            protocol: PROTOCOL,
            token: token.to_owned(),
            serving,
        };
        link.send(&hello, &[]).await?;
        Ok(link)
    }

    async fn send(&self, message: &Message, descriptors: &[BorrowedFd<'_>]) -> Result<(), Error> {
        self.ready(Interest::WRITABLE, |channel| {
            channel.try_send(message, descriptors)
        })
        .await
    }

    async fn recv(&self) -> Result<Packet, Error> {
        self.ready(Interest::READABLE, Channel::try_recv).await
    }

    async fn ready<T>(
        &self,
        interest: Interest,
        mut attempt: impl FnMut(&Channel) -> Result<T, Error>,
    ) -> Result<T, Error> {
        loop {
            let ready = self.watched.ready(interest).await;
            ready.map_err(Error::io("watch the agent's socket"))?;
            let mut result = None;
            let waits = self.watched.try_io(interest, || match attempt(&self.channel) {
                // So that tokio waits anew.
                Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::WouldBlock => Err(source),
                other => {
                    result = Some(other);
                    Ok(())
                }
            });
            match (result, waits) {
                (Some(result), _) => return result,
                (None, Err(error)) if error.kind() != io::ErrorKind::WouldBlock => {
                    return Err(Error::io("watch the agent's socket")(error));
                }
                (None, _) => {}
            }
        }
    }

    async fn give(
        &self,
        prepare: &Prepare,
        schema: u32,
        state: &[u8],
        descriptors: &[BorrowedFd<'_>],
        stopped_ns: u64,
    ) -> Result<(), Error> {
        let count = u64::try_from(descriptors.len()).unwrap_or(u64::MAX);
        if descriptors.len() > DESCRIPTORS {
            return Err(Error::TooMuch {
                what: "the number of descriptors",
                found: count,
                limit: u64::try_from(DESCRIPTORS).unwrap_or(u64::MAX),
            });
        }
        let state = State::new(schema, state)?;
        let update = &prepare.directives.update;
        let sending = async {
            for chunk in descriptors.chunks(PACKET_DESCRIPTORS) {
                let update = update.clone();
                self.send(&Message::Descriptors { update }, chunk).await?;
            }
            let ready = Message::Ready {
                update: update.clone(),
                schema,
                length: state.length(),
                descriptors: count,
                stopped_ns,
            };
            self.send(&ready, &[state.as_fd()]).await
        };
        // An agent that does not even read is not waited for longer than one that does not answer.
        timeout_at(Instant::now() + prepare.directives.hold_for(), sending)
            .await
            .map_err(|_| Error::Late)?
    }

    async fn fate(&self, until: Instant) -> Result<Fate, Error> {
        let reason = std::cell::RefCell::new(None);
        self.told(until, |message| match message {
            Message::Released { .. } => true,
            Message::Resume { reason: why, .. } => {
                *reason.borrow_mut() = Some(why.clone());
                true
            }
            _ => false,
        })
        .await?;
        Ok(reason.into_inner().map_or(Fate::Released, Fate::Resume))
    }

    /// Waits for a message of interest; what it says, for people.
    async fn told(&self, until: Instant, mut is_it: impl FnMut(&Message) -> bool) -> Result<String, Error> {
        let listening = async {
            loop {
                let packet = self.recv().await?;
                if is_it(&packet.message) {
                    return Ok(match packet.message {
                        Message::Resume { reason, .. } => reason,
                        _ => "the agent has said so".to_owned(),
                    });
                }
            }
        };
        timeout_at(until, listening).await.unwrap_or(Err(Error::Late))
    }
}

fn misplaced(message: &Message) -> Error {
    let text = serde_json::to_string(message).unwrap_or_default();
    Error::Protocol(format!(
        "this has no place before the state is taken: {}",
        brief(&text)
    ))
}
