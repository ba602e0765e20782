//! A client of MQTT 3.1.1 as the standard wants it, without I/O: bytes in, bytes out.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use mqtt_proto::v3::{Connect, LastWill, Packet, Publish, Subscribe};
use mqtt_proto::{Pid, QoS, QosPid, TopicFilter, TopicName};

/// How a client introduces itself.
#[derive(Debug, Clone)]
pub(crate) struct Who {
    pub(crate) name: String,
    pub(crate) clean: bool,
    pub(crate) will: Option<(&'static str, &'static str)>,
}

/// One client and everything that it must remember between two connections.
#[derive(Debug)]
pub(crate) struct Client {
    who: Who,
    /// For the broker.
    pub(crate) output: Vec<u8>,
    input: Vec<u8>,
    next: u16,
    /// What it published and is not done with, in order.
    sending: BTreeMap<u64, (u16, Sending)>,
    sent: u64,
    /// Packets of QoS 2 that it has and that the broker has not released.
    holding: BTreeSet<u16>,
    /// The payloads it was given, in order; one of QoS 2 counts when it comes the first time.
    pub(crate) got: Vec<(String, String)>,
    /// Payloads that the broker has promised to deliver.
    pub(crate) promised: Vec<String>,
    /// Packets of other kinds.
    pub(crate) heard: Vec<Packet>,
    pub(crate) connected: bool,
}

#[derive(Debug, Clone)]
enum Sending {
    Publish(Publish),
    Release,
}

impl Client {
    pub(crate) fn new(who: Who) -> Self {
        Self {
            who,
            output: Vec::new(),
            input: Vec::new(),
            next: 0,
            sending: BTreeMap::new(),
            sent: 0,
            holding: BTreeSet::new(),
            got: Vec::new(),
            promised: Vec::new(),
            heard: Vec::new(),
            connected: false,
        }
    }

    /// A new connection: introduces itself and, as the standard wants, says again what was not acknowledged.
    pub(crate) fn connect(&mut self) {
        self.output.clear();
        self.input.clear();
        let mut connect = Connect::new(self.who.name.as_str().into(), 30);
        connect.clean_session = self.who.clean;
        connect.last_will = self.who.will.map(|(topic, message)| LastWill {
            qos: QoS::Level1,
            retain: false,
            topic_name: TopicName::try_from(topic).unwrap(),
            message: Bytes::from_static(message.as_bytes()),
        });
        self.put(&Packet::Connect(connect));
        if self.who.clean {
            self.sending.clear();
            self.holding.clear();
        }
        for (packet, sending) in self.sending.clone().into_values() {
            match sending {
                Sending::Publish(mut publish) => {
                    publish.dup = true;
                    self.put(&Packet::Publish(publish));
                }
                Sending::Release => self.put(&Packet::Pubrel(pid(packet))),
            }
        }
    }

    pub(crate) fn subscribe(&mut self, filter: &str, qos: QoS) {
        let filter = TopicFilter::try_from(filter).unwrap();
        let packet = self.packet();
        self.put(&Packet::Subscribe(Subscribe::new(packet, vec![(filter, qos)])));
    }

    /// Publishes, connected or not: what is not acknowledged is said again.
    pub(crate) fn publish(&mut self, topic: &str, payload: &str, qos: QoS, retain: bool) {
        let packet = self.packet();
        let qos_pid = match qos {
            QoS::Level0 => QosPid::Level0,
            QoS::Level1 => QosPid::Level1(packet),
            QoS::Level2 => QosPid::Level2(packet),
        };
        let mut publish = Publish::new(
            qos_pid,
            TopicName::try_from(topic).unwrap(),
            Bytes::copy_from_slice(payload.as_bytes()),
        );
        publish.retain = retain;
        if qos != QoS::Level0 {
            self.sending
                .insert(self.sent, (packet.value(), Sending::Publish(publish.clone())));
            self.sent += 1;
        }
        self.put(&Packet::Publish(publish));
    }

    pub(crate) fn say(&mut self, packet: &Packet) {
        self.put(packet);
    }

    /// Takes bytes of the broker and answers them.
    pub(crate) fn take(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        while let Some((packet, length)) = first(&self.input) {
            self.input.drain(..length);
            self.hear(packet);
        }
    }

    /// Whether it is done with everything that it published.
    pub(crate) fn is_done(&self) -> bool {
        self.sending.is_empty()
    }

    fn hear(&mut self, packet: Packet) {
        match packet {
            Packet::Connack(connack) => {
                if !connack.session_present {
                    self.holding.clear();
                }
                self.connected = true;
                self.heard.push(packet);
            }
            Packet::Publish(publish) => self.given(&publish),
            Packet::Pubrel(packet) => {
                self.holding.remove(&packet.value());
                self.put(&Packet::Pubcomp(packet));
            }
            Packet::Puback(packet) => self.finish(packet, false),
            Packet::Pubcomp(packet) => self.finish(packet, true),
            Packet::Pubrec(packet) => self.release(packet),
            other => self.heard.push(other),
        }
    }

    fn given(&mut self, publish: &Publish) {
        let payload = String::from_utf8(publish.payload.to_vec()).unwrap();
        let topic = publish.topic_name.to_string();
        match publish.qos_pid {
            QosPid::Level0 => self.got.push((topic, payload)),
            QosPid::Level1(packet) => {
                self.got.push((topic, payload));
                self.put(&Packet::Puback(packet));
            }
            QosPid::Level2(packet) => {
                if self.holding.insert(packet.value()) {
                    self.got.push((topic, payload));
                }
                self.put(&Packet::Pubrec(packet));
            }
        }
    }

    /// PUBREC: the broker has promised.
    fn release(&mut self, packet: Pid) {
        let found = self
            .sending
            .values_mut()
            .find(|(number, _)| *number == packet.value());
        if let Some((_, sending)) = found
            && let Sending::Publish(publish) = sending
        {
            let payload = String::from_utf8(publish.payload.to_vec()).unwrap();
            self.promised.push(payload);
            *sending = Sending::Release;
        }
        self.put(&Packet::Pubrel(packet));
    }

    fn finish(&mut self, packet: Pid, released: bool) {
        let found = self.sending.iter().find(|(_, (number, sending))| {
            *number == packet.value() && matches!(sending, Sending::Release) == released
        });
        if let Some(at) = found.map(|(at, _)| *at)
            && let Some((_, Sending::Publish(publish))) = self.sending.remove(&at)
        {
            self.promised
                .push(String::from_utf8(publish.payload.to_vec()).unwrap());
        }
    }

    fn packet(&mut self) -> Pid {
        loop {
            self.next = self.next.checked_add(1).unwrap_or(1);
            if self.sending.values().all(|(number, _)| *number != self.next) {
                return pid(self.next);
            }
        }
    }

    fn put(&mut self, packet: &Packet) {
        self.output.extend_from_slice(packet.encode().unwrap().as_ref());
    }
}

fn pid(number: u16) -> Pid {
    Pid::try_from(number).unwrap()
}

/// The first whole packet of what a broker sent.
pub(crate) fn first(bytes: &[u8]) -> Option<(Packet, usize)> {
    let packet = Packet::decode(bytes).unwrap()?;
    let length = packet.encode_len().unwrap();
    Some((packet, length))
}
