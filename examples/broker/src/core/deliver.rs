//! A message's way to one subscriber. (MQTT 3.1.1, 4.3)

use mqtt_proto::v3::Packet;

use super::Broker;
use crate::journal::Record;
use crate::layout::{Flights as _, Layout, Stage};
use crate::limits;
use crate::message::{Delivery, Qos};
use crate::state::{ConnectionId, SessionId};
use crate::wire;

impl<L: Layout> Broker<L> {
    /// Puts a message on the way to a session. `recorded` says whether the journal has the message already.
    pub(super) fn deliver(&mut self, id: SessionId, delivery: Delivery, recorded: &mut bool) {
        if delivery.qos == Qos::AtMostOnce {
            return self.deliver_unacknowledged(id, &delivery);
        }
        let Some(session) = self.state.sessions.get_mut(&id) else {
            return;
        };
        if session.flights.waiting() >= limits::WAITING {
            self.counters.left_out += 1;
            return;
        }
        let kept = !session.clean;
        let (message, qos, retain) = (delivery.message.clone(), delivery.qos, delivery.retain);
        session.flights.wait(&mut self.state.pool, delivery);
        self.counters.delivered += 1;
        if kept {
            self.record_message(&message, recorded);
            self.record(&Record::Queued {
                session: id,
                message: message.id,
                qos,
                retain,
            });
        }
        self.pump(id);
    }

    fn deliver_unacknowledged(&mut self, id: SessionId, delivery: &Delivery) {
        let Some(place) = self.state.place(id) else {
            return; // Not connected: QoS 0 does not wait. (MQTT 3.1.1, 3.1.2.4)
        };
        if let Some(link) = self.state.links.get_mut(&place) {
            if link.output.len() > limits::OUTPUT_SOFT_BYTES {
                self.counters.left_out += 1;
                return;
            }
            wire::put_publish(&mut link.output, delivery, 0, false);
            self.touched.insert(place);
            self.counters.delivered += 1;
        }
    }

    /// Sends what waits, as far as the window goes.
    pub(super) fn pump(&mut self, id: SessionId) {
        let Some(place) = self.state.place(id) else {
            return;
        };
        let state = &mut self.state;
        let (Some(session), Some(link)) = (state.sessions.get_mut(&id), state.links.get_mut(&place)) else {
            return;
        };
        while session.flights.sent() < limits::WINDOW && session.flights.waiting() > 0 {
            let packet = session.next_packet();
            let Some(delivery) = session.flights.send(&state.pool, packet) else {
                break;
            };
            wire::put_publish(&mut link.output, &delivery, packet, false);
            self.touched.insert(place);
            if !session.clean {
                Record::Sent { session: id, packet }.put(&mut self.records);
            }
        }
    }

    /// PUBREC: the receiver has the message. A packet unknown here is answered too: it may stem from before a power
    /// cut of the receiver, and waits for this.
    pub(super) fn received_by(&mut self, id: ConnectionId, session: SessionId, packet: u16) {
        let state = &mut self.state;
        if let Some(found) = state.sessions.get_mut(&session)
            && matches!(found.flights.stage(packet), Some(Stage::Sent(Qos::ExactlyOnce)))
            && found.flights.release(&mut state.pool, packet)
            && !found.clean
        {
            self.record(&Record::Released { session, packet });
        }
        self.say(id, &Packet::Pubrel(wire::pid(packet)));
    }

    /// PUBACK or PUBCOMP: nothing more is to be said about the packet. One that is not the answer to what was said
    /// last is passed over.
    pub(super) fn acknowledged(&mut self, session: SessionId, packet: u16, answers: Stage) {
        let state = &mut self.state;
        let Some(found) = state.sessions.get_mut(&session) else {
            return;
        };
        if found.flights.stage(packet) == Some(answers) && found.flights.finish(&mut state.pool, packet) {
            if !found.clean {
                self.record(&Record::Done { session, packet });
            }
            self.pump(session);
        }
    }
}
