//! PUBLISH and its answers, from the publisher's side. (MQTT 3.1.1, 3.3, 4.3)

use std::sync::Arc;

use bytes::Bytes;
use mqtt_proto::v3::{Packet, Publish};
use mqtt_proto::{QosPid, TopicName};

use super::{Broker, End};
use crate::journal::Record;
use crate::layout::Layout;
use crate::limits;
use crate::message::{Delivery, Message, Qos};
use crate::state::{ConnectionId, Retained, SessionId, Will};
use crate::{topic, wire};

impl<L: Layout> Broker<L> {
    pub(super) fn published(
        &mut self,
        id: ConnectionId,
        session: SessionId,
        publish: Publish,
    ) -> Result<(), End> {
        if !topic::within_limits(&publish.topic_name) {
            return Err(End::protocol("a topic of too many levels"));
        }
        let qos = Qos::from(publish.qos_pid.qos());
        match publish.qos_pid {
            QosPid::Level0 => self.publish(publish.topic_name, publish.payload, qos, publish.retain),
            QosPid::Level1(pid) => {
                self.publish(publish.topic_name, publish.payload, qos, publish.retain);
                self.say(id, &Packet::Puback(pid));
            }
            QosPid::Level2(pid) => {
                if self.take(session, pid.value())? {
                    self.publish(publish.topic_name, publish.payload, qos, publish.retain);
                }
                self.say(id, &Packet::Pubrec(pid));
            }
        }
        Ok(())
    }

    /// Notes a packet of QoS 2; `false` if the session has sent it before and not released it.
    fn take(&mut self, id: SessionId, packet: u16) -> Result<bool, End> {
        let Some(session) = self.state.sessions.get_mut(&id) else {
            return Ok(false);
        };
        if session.taken.contains(&packet) {
            return Ok(false);
        }
        if session.taken.len() >= limits::TAKEN {
            return Err(End::protocol("too many packets of QoS 2 not released"));
        }
        session.taken.insert(packet);
        if self.is_kept(id) {
            self.record(&Record::Taken { session: id, packet });
        }
        Ok(true)
    }

    /// PUBREL: the publisher will not send this packet again.
    pub(super) fn released_by(&mut self, id: ConnectionId, session: SessionId, packet: u16) {
        let freed = self
            .state
            .sessions
            .get_mut(&session)
            .is_some_and(|s| s.taken.remove(&packet));
        if freed && self.is_kept(session) {
            self.record(&Record::Freed { session, packet });
        }
        self.say(id, &Packet::Pubcomp(wire::pid(packet)));
    }

    pub(super) fn publish_will(&mut self, will: Will) {
        self.publish(will.topic, will.payload, will.qos, will.retain);
    }

    /// Puts a message on the way to everyone who subscribes to its topic.
    fn publish(&mut self, topic: TopicName, payload: Bytes, qos: Qos, retain: bool) {
        self.counters.published += 1;
        let message = self.state.message(topic, payload);
        let mut recorded = false;
        if retain {
            self.retain(&message, qos, &mut recorded);
        }
        let mut matching = std::mem::take(&mut self.matching);
        self.topics.matching(&message.topic, &mut matching);
        for (session, wanted) in &matching {
            let delivery = Delivery {
                message: message.clone(),
                qos: qos.min(*wanted),
                retain: false,
            };
            self.deliver(*session, delivery, &mut recorded);
        }
        self.matching = matching;
    }

    /// Keeps a message for those who subscribe later; an empty one only takes away the one before. (MQTT 3.1.1, 3.3.1.3)
    fn retain(&mut self, message: &Arc<Message>, qos: Qos, recorded: &mut bool) {
        let topic: &str = &message.topic;
        if message.payload.is_empty() {
            if self.state.retained.remove(topic).is_some() {
                self.record(&Record::Cleared { topic });
            }
            return;
        }
        if self.state.retained.len() >= limits::RETAINED && !self.state.retained.contains_key(topic) {
            self.counters.left_out += 1;
            return;
        }
        self.record_message(message, recorded);
        self.record(&Record::Retained {
            message: message.id,
            qos,
        });
        let retained = Retained {
            message: message.clone(),
            qos,
        };
        self.state.retained.insert(topic.into(), retained);
    }

    /// Puts the message into the journal before the first record that refers to it.
    pub(super) fn record_message(&mut self, message: &Message, recorded: &mut bool) {
        if !std::mem::replace(recorded, true) {
            self.record(&Record::Message {
                message: message.id,
                topic: &message.topic,
                payload: &message.payload,
            });
        }
    }
}
