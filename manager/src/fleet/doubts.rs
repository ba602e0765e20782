//! Two machines under one name: what gives them away, and what is asked of them.
//!
//! Nothing is resumed on the device port, so a connection is a proof of the key (TLS 1.3's CertificateVerify, RFC 8446,
//! section 4.4.3). A challenge is therefore a cut: whoever speaks under the name has to show the key anew, and the alarm
//! says from where it was shown. Nobody is kept out by it: a half-open connection and a new address look the same as a
//! thief at first, and which machine is the right one only a person can know.

use std::fmt;
use std::net::IpAddr;

use mtls::serve::Peer;
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
    /// It was started anew more often than a machine can be: boot ids are made up.
    ManyStarts,
    /// Two different reports have this number.
    Contradiction(u64),
    /// A report that was never here has a number below those that are.
    LateReport(u64),
}

impl fmt::Display for Doubt {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BootReturned => write!(out, "one spoke again after another one had taken its place"),
            Self::ManyStarts => write!(
                out,
                "it says that it was started {} times within {} minutes",
                limits::BOOTS_PER_DEVICE,
                limits::BOOTS_SECONDS / 60
            ),
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
    /// Who gave it away.
    from: IpAddr,
    /// Boot id and address.
    shown: Vec<(String, IpAddr)>,
}

impl Challenge {
    pub(super) fn is_open(&self, now: UnixTime) -> bool {
        (0..limits::CHALLENGE_SECONDS).contains(&now.seconds_since(self.at))
    }

    fn text(&self, name: &Name) -> String {
        let mut places: Vec<String> = Vec::new();
        for (_, address) in &self.shown {
            let place = address.to_string();
            if !places.contains(&place) {
                places.push(place);
            }
        }
        let shown = match self.shown.len() {
            0 => "whoever speaks as it is asked for its key again".to_owned(),
            1 => format!("its key was shown from {}", places.join(", ")),
            _ => format!(
                "its key was shown by different machines at {}",
                places.join(" and ")
            ),
        };
        format!(
            "two machines speak as {name}: {} (heard from {}); {shown}. Cut both off (`manager quarantine {name}`) until \
             you know which is the right one, then enrol that one anew with a new code (`manager new-code {name}`)",
            self.doubt, self.from
        )
    }
}

impl Fleet {
    /// Begins a challenge, unless one is open; gives the alarm's text if it has begun.
    pub(crate) fn challenge(&self, name: &Name, doubt: Doubt, from: IpAddr, now: UnixTime) -> Option<String> {
        let mut devices = self.devices();
        let device = devices.get_mut(name)?;
        if device.challenge.as_ref().is_some_and(|open| open.is_open(now)) {
            return None;
        }
        let challenge = Challenge {
            at: now,
            doubt,
            from,
            shown: Vec::new(),
        };
        Some(device.challenge.insert(challenge).text(name))
    }

    /// A machine that has shown the key said hello; gives the alarm's new text if that is news to an open challenge.
    pub(crate) fn shown(&self, name: &Name, boot: &str, address: IpAddr, now: UnixTime) -> Option<String> {
        let mut devices = self.devices();
        let challenge = devices.get_mut(name)?.challenge.as_mut()?;
        let known = challenge.shown.iter().any(|(other, _)| other == boot);
        // Whoever makes boot ids up fills no place that another address needs.
        let here = challenge.shown.iter().filter(|(_, other)| *other == address);
        let known = known || here.count() >= limits::CHALLENGE_SHOWN_AT;
        if known || !challenge.is_open(now) || challenge.shown.len() >= limits::CHALLENGE_SHOWN {
            return None;
        }
        challenge.shown.push((boot.to_owned(), address));
        Some(challenge.text(name))
    }
}

/// Raises the alarm and asks everybody under the name for the key, but for the connection that gave it away, which is
/// busy.
pub(crate) fn raise(gateway: &Gateway, name: &Name, doubt: Doubt, from: &Peer) {
    let address = from.addr.ip();
    if let Some(text) = gateway.fleet.challenge(name, doubt, address, gateway.now()) {
        alarm(gateway, name, &text);
        gateway.cut(name, |peer| peer.id != from.id);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::name;
    use crate::fleet::fixture::fleet;

    #[test]
    fn an_alarm_names_the_right_machines_address_however_many_starts_a_copy_makes_up() {
        let fleet = fleet(&["pump"]);
        let (pump, now) = (name("pump"), UnixTime(9_000));
        let [thief, right] = ["10.0.0.9", "10.0.0.5"].map(|text| text.parse::<IpAddr>().unwrap());
        let begun = fleet
            .challenge(&pump, Doubt::Contradiction(7), thief, now)
            .unwrap();
        assert!(
            begun.contains("number 7 (heard from 10.0.0.9); whoever speaks"),
            "{begun}"
        );
        for number in 0..9 {
            fleet.shown(&pump, &format!("copy {number}"), thief, now);
        }
        let told = fleet.shown(&pump, "right", right, now).unwrap();
        assert!(
            told.contains("by different machines at 10.0.0.9 and 10.0.0.5."),
            "{told}"
        );
        assert!(told.contains("`manager new-code pump`"), "{told}");
    }
}
