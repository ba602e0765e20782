//! A client's packets of MQTT 3.1.1, as few as the load needs; written anew here, so that the broker is not judged by
//! its own code.

/// A packet of a broker.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Packet<'a> {
    Connack,
    Suback,
    Publish {
        packet: u16,
        payload: &'a [u8],
    },
    Pubrec(u16),
    Pubrel(u16),
    Pubcomp(u16),
    /// Anything else.
    Other(u8),
}

/// The first whole packet of `bytes` and its length.
pub(super) fn first(bytes: &[u8]) -> Option<(Packet<'_>, usize)> {
    let control = *bytes.first()?;
    let mut length = 0;
    let mut begin = 1;
    loop {
        let byte = *bytes.get(begin)?;
        length |= usize::from(byte & 0x7f) << (7 * (begin - 1));
        begin += 1;
        if byte & 0x80 == 0 {
            break;
        }
        assert!(begin < 5, "a length of more than four bytes");
    }
    let body = bytes.get(begin..begin + length)?;
    let packet = match control >> 4 {
        2 => {
            assert_eq!(body.get(1), Some(&0), "the broker refuses");
            Packet::Connack
        }
        3 => {
            let topic = usize::from(number(body)) + 2;
            assert_eq!(control & 0x06, 4, "a message of QoS 2");
            Packet::Publish {
                packet: number(&body[topic..]),
                payload: &body[topic + 2..],
            }
        }
        5 => Packet::Pubrec(number(body)),
        6 => Packet::Pubrel(number(body)),
        7 => Packet::Pubcomp(number(body)),
        9 => Packet::Suback,
        other => Packet::Other(other),
    };
    Some((packet, begin + length))
}

fn number(bytes: &[u8]) -> u16 {
    u16::from_be_bytes([bytes[0], bytes[1]])
}

pub(super) fn put_connect(out: &mut Vec<u8>, name: &str) {
    let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 4, 0, 0, 0];
    put_text(&mut body, name);
    put(out, 0x10, &[&body]);
}

pub(super) fn put_subscribe(out: &mut Vec<u8>, topic: &str) {
    let mut body = vec![0, 1];
    put_text(&mut body, topic);
    body.push(2);
    put(out, 0x82, &[&body]);
}

pub(super) fn put_publish(out: &mut Vec<u8>, topic: &str, packet: u16, payload: &[u8], again: bool) {
    let length = u16::try_from(topic.len()).unwrap();
    let parts: [&[u8]; 4] = [
        &length.to_be_bytes(),
        topic.as_bytes(),
        &packet.to_be_bytes(),
        payload,
    ];
    put(out, if again { 0x3c } else { 0x34 }, &parts);
}

pub(super) fn put_pubrec(out: &mut Vec<u8>, packet: u16) {
    put(out, 0x50, &[&packet.to_be_bytes()]);
}

pub(super) fn put_pubrel(out: &mut Vec<u8>, packet: u16) {
    put(out, 0x62, &[&packet.to_be_bytes()]);
}

pub(super) fn put_pubcomp(out: &mut Vec<u8>, packet: u16) {
    put(out, 0x70, &[&packet.to_be_bytes()]);
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&u16::try_from(text.len()).unwrap().to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn put(out: &mut Vec<u8>, control: u8, parts: &[&[u8]]) {
    out.push(control);
    let mut left: usize = parts.iter().map(|part| part.len()).sum();
    loop {
        let digit = u8::try_from(left % 128).unwrap();
        left /= 128;
        out.push(if left > 0 { digit | 0x80 } else { digit });
        if left == 0 {
            break;
        }
    }
    for part in parts {
        out.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_is_found_again_when_it_is_whole() {
        let mut out = Vec::new();
        put_publish(&mut out, "t", 7, &[9; 200], false);
        for end in 0..out.len() {
            assert_eq!(first(&out[..end]), None, "{end}");
        }
        let payload = [9; 200];
        let expected = Packet::Publish {
            packet: 7,
            payload: &payload,
        };
        assert_eq!(first(&out), Some((expected, out.len())));
    }
}
