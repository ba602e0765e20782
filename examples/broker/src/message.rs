//! A message on its way through the broker.

use std::sync::Arc;

use bytes::Bytes;
use mqtt_proto::TopicName;
use serde::{Deserialize, Serialize};

/// How surely a message is to arrive. (MQTT 3.1.1, 4.3)
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Qos {
    /// 0: sent once and forgotten.
    AtMostOnce,
    /// 1: repeated until acknowledged.
    AtLeastOnce,
    /// 2: in two steps, so that it is neither lost nor doubled.
    ExactlyOnce,
}

impl From<mqtt_proto::QoS> for Qos {
    fn from(qos: mqtt_proto::QoS) -> Self {
        match qos {
            mqtt_proto::QoS::Level0 => Self::AtMostOnce,
            mqtt_proto::QoS::Level1 => Self::AtLeastOnce,
            mqtt_proto::QoS::Level2 => Self::ExactlyOnce,
        }
    }
}

/// What a publisher said, once.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Counted by the broker; two messages never share one.
    pub id: u64,
    /// Where it was published.
    #[serde(with = "topic_name")]
    pub topic: TopicName,
    /// What it says.
    pub payload: Bytes,
}

/// A message for one receiver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// The message.
    pub message: Arc<Message>,
    /// The lower of what the publisher and the subscription ask for.
    pub qos: Qos,
    /// It was retained when the receiver subscribed. (MQTT 3.1.1, 3.3.1.3)
    pub retain: bool,
}

/// A topic as text.
pub(crate) mod topic_name {
    use mqtt_proto::TopicName;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn serialize<S: Serializer>(topic: &TopicName, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(topic)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<TopicName, D::Error> {
        let text = <&str>::deserialize(from)?;
        TopicName::try_from(text).map_err(D::Error::custom)
    }
}
