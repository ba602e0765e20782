//! Two machines under one name: what gives them away, and what is asked of them.
//!
//! Nothing is resumed on the device port, so a connection is a proof of the key (TLS 1.3's CertificateVerify, RFC 8446,
//! section 4.4.3). A challenge is therefore a cut: whoever speaks under the name has to show the key anew, and the alarm
//! says from where it was shown. Nobody is kept out by it: a half-open connection and a new address look the same as a
//! thief at first, and which machine is the right one only a person can know.

use std::fmt;
use std::net::IpAddr;

use protocol::Name;
use tuf::UnixTime;

use super::Fleet;
use crate::gateway::Gateway;
use crate::limits;

/// What no honest machine does, however often it connects anew, from wherever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doubt {
    /// A boot id came back after another one: a machine that reboots never speaks under an old one again.
    BootReturned,
    /// A machine that has started anew has made fewer reports than before: a copy, or a disk that was put back.
    CounterFell {
        /// What it had made.
        from: u64,
        /// What it says now.
        to: u64,
    },
    /// Two different reports have this number.
    Contradiction(u64),
    /// A report that was never here has a number below those that are.
    LateReport(u64),
}

impl fmt::Display for Doubt {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BootReturned => write!(out, "one that had been followed by another one spoke again"),
            Self::CounterFell { from, to } => {
                write!(
                    out,
                    "after {from} reports it counts {to}: a copy, or a disk that was put back"
                )
            }
            Self::Contradiction(counter) => write!(out, "two different reports have the number {counter}"),
            Self::LateReport(counter) => {
                write!(
                    out,
                    "an unknown report has the number {counter}, below those that are here"
                )
            }
        }
    }
}

/// The doubt about a device, and who has shown its key since.
#[derive(Debug, Clone)]
pub(super) struct Challenge {
    at: UnixTime,
    doubt: Doubt,
    /// Boot id and address.
    shown: Vec<(String, IpAddr)>,
}

impl Challenge {
    pub(super) fn is_open(&self, now: UnixTime) -> bool {
        (0..limits::CHALLENGE_SECONDS).contains(&now.seconds_since(self.at))
    }

    fn text(&self, name: &Name) -> String {
        let places: Vec<String> = self
            .shown
            .iter()
            .map(|(_, address)| address.to_string())
            .collect();
        let shown = match self.shown.len() {
            0 => "whoever speaks as it is asked for its key again".to_owned(),
            1 => format!("its key was shown from {}", places.join(", ")),
            _ => format!(
                "its key was shown by different machines at {}",
                places.join(" and ")
            ),
        };
        format!(
            "two machines speak as {name}: {}; {shown}. Put it in quarantine until you know which is the right one, and \
             enrol that one anew with a new code",
            self.doubt
        )
    }
}

impl Fleet {
    /// Begins a challenge, unless one is open; gives the alarm's text if it has begun.
    pub(crate) fn challenge(&self, name: &Name, doubt: Doubt, now: UnixTime) -> Option<String> {
        let mut devices = self.devices();
        let device = devices.get_mut(name)?;
        if device.challenge.as_ref().is_some_and(|open| open.is_open(now)) {
            return None;
        }
        let challenge = Challenge {
            at: now,
            doubt,
            shown: Vec::new(),
        };
        Some(device.challenge.insert(challenge).text(name))
    }

    /// A machine that has shown the key said hello; gives the alarm's new text if that is news to an open challenge.
    pub(crate) fn shown(&self, name: &Name, boot: &str, address: IpAddr, now: UnixTime) -> Option<String> {
        let mut devices = self.devices();
        let challenge = devices.get_mut(name)?.challenge.as_mut()?;
        let known = challenge.shown.iter().any(|(other, _)| other == boot);
        if known || !challenge.is_open(now) || challenge.shown.len() >= limits::CHALLENGE_SHOWN {
            return None;
        }
        challenge.shown.push((boot.to_owned(), address));
        Some(challenge.text(name))
    }
}

/// Raises the alarm and asks everybody under the name for the key, but for the connection `spare`, which is busy.
pub(crate) fn raise(gateway: &Gateway, name: &Name, doubt: Doubt, spare: u64) {
    if let Some(text) = gateway.fleet.challenge(name, doubt, gateway.now()) {
        alarm(gateway, name, &text);
        gateway.cut(name, |peer| peer.id != spare);
    }
}

/// A hello: who has shown the key is part of an open alarm.
pub(crate) fn hello(gateway: &Gateway, name: &Name, boot: &str, address: IpAddr) {
    if let Some(text) = gateway.fleet.shown(name, boot, address, gateway.now()) {
        alarm(gateway, name, &text);
    }
}

fn alarm(gateway: &Gateway, name: &Name, text: &str) {
    gateway
        .journal
        .alarm(gateway.now(), &format!("twice:{name}"), text);
}
