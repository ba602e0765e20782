//! SUBSCRIBE and UNSUBSCRIBE. (MQTT 3.1.1, 3.8 to 3.11)

use mqtt_proto::TopicFilter;
use mqtt_proto::v3::{Packet, Subscribe, Unsubscribe};

use super::Broker;
use crate::journal::Record;
use crate::layout::{Layout, Subscription as _};
use crate::limits;
use crate::message::{Delivery, Qos};
use crate::state::{ConnectionId, SessionId};
use crate::{topic, wire};

impl<L: Layout> Broker<L> {
    pub(super) fn subscribe(&mut self, id: ConnectionId, session: SessionId, subscribe: &Subscribe) {
        let granted = subscribe.topics.iter().map(|(filter, qos)| {
            let qos = Qos::from(*qos);
            self.add_subscription(session, filter, qos).then_some(qos)
        });
        let granted = granted.collect::<Vec<_>>();
        if let Some(link) = self.state.links.get_mut(&id) {
            wire::put_suback(&mut link.output, subscribe.pid, &granted);
            self.touched.insert(id);
        }
        for ((filter, _), granted) in subscribe.topics.iter().zip(granted) {
            if let Some(qos) = granted {
                self.deliver_retained(session, filter, qos);
            }
        }
    }

    pub(super) fn unsubscribe(&mut self, id: ConnectionId, session: SessionId, unsubscribe: &Unsubscribe) {
        for filter in &unsubscribe.topics {
            self.remove_subscription(session, filter);
        }
        self.say(id, &Packet::Unsuback(unsubscribe.pid));
    }

    /// Adds a subscription or replaces the one with the same filter; `false` if it cannot be had.
    fn add_subscription(&mut self, id: SessionId, filter: &TopicFilter, qos: Qos) -> bool {
        // Shared subscriptions are of MQTT 5.
        if filter.is_shared() || !topic::within_limits(filter) {
            return false;
        }
        let Some(session) = self.state.sessions.get_mut(&id) else {
            return false;
        };
        session.subscriptions.retain(|old| old.filter() != &**filter);
        if session.subscriptions.len() >= limits::SUBSCRIPTIONS {
            return false;
        }
        session.subscriptions.push(L::Subscription::new(filter, qos));
        let kept = !session.clean;
        self.topics.insert(filter, id, qos);
        if kept {
            self.record(&Record::Subscribed {
                session: id,
                filter,
                qos,
            });
        }
        true
    }

    fn remove_subscription(&mut self, id: SessionId, filter: &TopicFilter) {
        let Some(session) = self.state.sessions.get_mut(&id) else {
            return;
        };
        let before = session.subscriptions.len();
        session.subscriptions.retain(|old| old.filter() != &**filter);
        let kept = !session.clean;
        if session.subscriptions.len() < before {
            self.topics.remove(filter, id);
            if kept {
                self.record(&Record::Unsubscribed { session: id, filter });
            }
        }
    }

    /// What was retained before somebody subscribed, in the order of the topics.
    fn deliver_retained(&mut self, session: SessionId, filter: &str, qos: Qos) {
        let retained = self
            .state
            .retained
            .iter()
            .filter(|(topic, _)| topic::matches(filter, topic));
        let deliveries = retained.map(|(_, retained)| Delivery {
            message: retained.message.clone(),
            qos: qos.min(retained.qos),
            retain: true,
        });
        for delivery in deliveries.collect::<Vec<_>>() {
            let mut recorded = false;
            self.deliver(session, delivery, &mut recorded);
        }
    }
}
