//! Packets in and out of byte buffers, over the codec of the crate `mqtt-proto`.

use std::io::Write;

use bytes::{BufMut, BytesMut};
use mqtt_proto::v3::{
    Connack, Connect, ConnectReturnCode, Header, Packet, PacketType, Publish, Subscribe, Unsubscribe,
};
use mqtt_proto::{Encodable, Error, Pid, QosPid};

use crate::limits;
use crate::message::{Delivery, Qos};

/// Why the bytes of a client are no packet.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// The length field is longer than four bytes. (MQTT 3.1.1, 2.2.3)
    #[error("the length of a packet takes more than four bytes")]
    Length,
    /// A packet beyond [`limits::PACKET_BYTES`].
    #[error("a packet of {0} bytes; at most {max} are taken", max = limits::PACKET_BYTES)]
    TooLong(usize),
    /// The codec found it wrong.
    #[error("a malformed packet")]
    Packet(#[source] Error),
    /// There are bytes behind the packet's last field.
    #[error("{0} bytes too many in a packet")]
    Rest(usize),
    /// A packet that only a broker sends.
    #[error("a packet that only a broker sends")]
    Direction,
}

/// The first whole packet of `buffer` and its length; `None` while it is not whole.
///
/// # Errors
/// [`Malformed`]: the connection is to be closed. (MQTT 3.1.1, 4.8)
pub fn first(buffer: &[u8]) -> Result<Option<(Packet, usize)>, Malformed> {
    let Some((&control, rest)) = buffer.split_first() else {
        return Ok(None);
    };
    let Some((length, digits)) = length(rest)? else {
        return Ok(None);
    };
    let remaining = u32::try_from(length).map_err(|_| Malformed::Length)?;
    let header = Header::new_with(control, remaining, 0).map_err(Malformed::Packet)?;
    let begin = 1 + digits;
    let end = begin + length;
    if end > limits::PACKET_BYTES {
        return Err(Malformed::TooLong(end));
    }
    let Some(body) = buffer.get(begin..end) else {
        return Ok(None);
    };
    decode(header, body).map(|packet| Some((packet, end)))
}

/// The length field and how many bytes it takes. (MQTT 3.1.1, 2.2.3)
fn length(bytes: &[u8]) -> Result<Option<(usize, usize)>, Malformed> {
    let mut length = 0;
    for (place, byte) in bytes.iter().take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Ok(Some((length, place + 1)));
        }
    }
    if bytes.len() < 4 {
        Ok(None)
    } else {
        Err(Malformed::Length)
    }
}

fn decode(header: Header, body: &[u8]) -> Result<Packet, Malformed> {
    let mut at = 0;
    let packet = match header.typ {
        PacketType::Connect => Connect::decode(body, &mut at).map(Packet::Connect),
        PacketType::Publish => Publish::decode(body, &mut at, header).map(Packet::Publish),
        PacketType::Puback => packet_id(body, &mut at).map(Packet::Puback),
        PacketType::Pubrec => packet_id(body, &mut at).map(Packet::Pubrec),
        PacketType::Pubrel => packet_id(body, &mut at).map(Packet::Pubrel),
        PacketType::Pubcomp => packet_id(body, &mut at).map(Packet::Pubcomp),
        PacketType::Subscribe => Subscribe::decode(body, &mut at, header).map(Packet::Subscribe),
        PacketType::Unsubscribe => Unsubscribe::decode(body, &mut at, header).map(Packet::Unsubscribe),
        PacketType::Pingreq => Ok(Packet::Pingreq),
        PacketType::Disconnect => Ok(Packet::Disconnect),
        PacketType::Connack | PacketType::Suback | PacketType::Unsuback | PacketType::Pingresp => {
            return Err(Malformed::Direction);
        }
    }
    .map_err(Malformed::Packet)?;
    match body.len().checked_sub(at) {
        Some(0) => Ok(packet),
        rest => Err(Malformed::Rest(rest.unwrap_or(0))),
    }
}

fn packet_id(body: &[u8], at: &mut usize) -> Result<Pid, Error> {
    let bytes: [u8; 2] = body.try_into().map_err(|_| Error::InvalidRemainingLength)?;
    *at += bytes.len();
    Pid::try_from(u16::from_be_bytes(bytes))
}

/// A packet id as a type; 0, which is none, becomes 1.
pub(crate) fn pid(id: u16) -> Pid {
    Pid::try_from(id).unwrap_or_default()
}

/// Adds the packet to `output`. What the broker makes itself can always be encoded.
pub(crate) fn put(output: &mut BytesMut, packet: &Packet) {
    if let Ok(bytes) = packet.encode() {
        output.extend_from_slice(bytes.as_ref());
    }
}

/// Adds a PUBLISH to `output`.
pub(crate) fn put_publish(output: &mut BytesMut, delivery: &Delivery, packet: u16, again: bool) {
    let qos_pid = match delivery.qos {
        Qos::AtMostOnce => QosPid::Level0,
        Qos::AtLeastOnce => QosPid::Level1(pid(packet)),
        Qos::ExactlyOnce => QosPid::Level2(pid(packet)),
    };
    let publish = Publish {
        dup: again,
        retain: delivery.retain,
        qos_pid,
        topic_name: delivery.message.topic.clone(),
        payload: delivery.message.payload.clone(),
    };
    let control = 0x30 | u8::from(again) << 3 | (delivery.qos as u8) << 1 | u8::from(delivery.retain);
    put_body(output, control, &publish);
}

/// As [`Packet::encode`], without a buffer between.
fn put_body(output: &mut BytesMut, control: u8, body: &impl Encodable) {
    let length = body.encode_len();
    output.reserve(length + 5);
    output.put_u8(control);
    put_length(output, length);
    let mut writer = output.writer();
    let done = body.encode(&mut writer).is_ok() && writer.flush().is_ok();
    debug_assert!(done, "a buffer takes all bytes");
}

/// The length field of a packet. (MQTT 3.1.1, 2.2.3)
fn put_length(output: &mut BytesMut, mut left: usize) {
    loop {
        let digit = u8::try_from(left % 128).unwrap_or_default();
        left /= 128;
        output.put_u8(if left > 0 { digit | 0x80 } else { digit });
        if left == 0 {
            break;
        }
    }
}

/// Adds a SUBACK to `output`: the highest QoS granted to each filter, or none. (MQTT 3.1.1, 3.9.3) By hand, because the
/// codec's version 0.4.0 writes 0x03 where the standard wants 0x80 for a failure.
pub(crate) fn put_suback(output: &mut BytesMut, packet: Pid, granted: &[Option<Qos>]) {
    output.put_u8(0x90);
    put_length(output, 2 + granted.len());
    output.put_u16(packet.value());
    output.extend(granted.iter().map(|qos| qos.map_or(0x80, |qos| qos as u8)));
}

/// A CONNACK.
pub(crate) fn connack(session_present: bool, code: ConnectReturnCode) -> Packet {
    Packet::Connack(Connack {
        session_present,
        code,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_taken_only_when_it_is_whole() {
        let bytes = [0x62, 0x02, 0x00, 0x07, 0xc0];
        for end in 0..4 {
            assert!(first(&bytes[..end]).unwrap().is_none(), "{end} bytes");
        }
        let (packet, length) = first(&bytes).unwrap().unwrap();
        assert_eq!((packet, length), (Packet::Pubrel(pid(7)), 4));
    }

    #[test]
    fn malformed_packets_are_told_apart() {
        assert!(matches!(
            first(&[0x30, 0xff, 0xff, 0xff, 0xff]),
            Err(Malformed::Length)
        ));
        assert!(matches!(
            first(&[0x30, 0xff, 0xff, 0xff, 0x7f]),
            Err(Malformed::TooLong(_))
        ));
        assert!(matches!(first(&[0xc0, 0x01, 0x00]), Err(Malformed::Rest(1))));
        assert!(matches!(first(&[0xd0, 0x00]), Err(Malformed::Direction)));
        assert!(matches!(
            first(&[0x62, 0x03, 0x00, 0x07, 0x00]),
            Err(Malformed::Packet(_))
        ));
        // A topic that reaches beyond its packet into the next one.
        assert!(matches!(
            first(&[0x30, 0x03, 0x00, 0x04, b'a', b'b', b'c']),
            Err(Malformed::Packet(_))
        ));
    }
}
