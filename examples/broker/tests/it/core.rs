//! The core against clients that do what the standard says, whatever happens to wires, broker and versions.

use mqtt_proto::QoS;
use mqtt_proto::v3::{ConnectReturnCode, Packet, SubscribeReturnCode};
use proptest::prelude::*;

use crate::client::Who;
use crate::world::World;

fn who(name: &str) -> Who {
    Who {
        name: name.to_owned(),
        clean: false,
        will: None,
    }
}

fn clean(name: &str) -> Who {
    Who {
        clean: true,
        ..who(name)
    }
}

fn payloads(world: &mut World, seat: usize) -> Vec<String> {
    world
        .client(seat)
        .got
        .iter()
        .map(|(_, payload)| payload.clone())
        .collect()
}

#[derive(Debug, Clone)]
enum Step {
    Publish(usize, u8),
    Inward(usize, usize),
    Outward(usize, usize),
    Cut(usize),
    Connect(usize),
    Crash(u16),
    DieWhile(usize, usize),
    Update(u16),
}

const PUBLISHERS: usize = 2;
const CLIENTS: usize = 4;

fn step() -> impl Strategy<Value = Step> {
    let bytes = prop_oneof![1_usize..12, Just(usize::MAX)];
    prop_oneof![
        6 => (0..PUBLISHERS, 1_u8..3).prop_map(|(client, qos)| Step::Publish(client, qos)),
        8 => (0..CLIENTS, bytes.clone()).prop_map(|(client, count)| Step::Inward(client, count)),
        8 => (0..CLIENTS, bytes.clone()).prop_map(|(client, count)| Step::Outward(client, count)),
        1 => (0..CLIENTS).prop_map(Step::Cut),
        2 => (0..CLIENTS).prop_map(Step::Connect),
        1 => (1_u16..=3).prop_map(Step::Crash),
        1 => (0..CLIENTS, bytes).prop_map(|(client, count)| Step::DieWhile(client, count)),
        2 => (1_u16..=3).prop_map(Step::Update),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Two publishers, two subscribers that are remembered, and everything that can happen.
    #[test]
    fn what_was_promised_arrives_once_whatever_happens(steps in prop::collection::vec(step(), 0..120)) {
        let mut world = World::new(1, ["p0", "p1", "s0", "s1"].map(who));
        for seat in PUBLISHERS..CLIENTS {
            world.connect(seat);
            world.client(seat).subscribe("t/+", QoS::Level2);
        }
        world.settle();
        let mut published = vec![Vec::new(); PUBLISHERS];
        for step in steps {
            match step {
                Step::Publish(seat, qos) => {
                    let number = published[seat].len();
                    let payload = format!("{seat}/{qos}/{number}");
                    let qos = if qos == 1 { QoS::Level1 } else { QoS::Level2 };
                    world.client(seat).publish("t/x", &payload, qos, false);
                    published[seat].push((qos, payload));
                }
                Step::Inward(seat, count) => world.inward(seat, count, false),
                Step::Outward(seat, count) => world.outward(seat, count),
                Step::Cut(seat) => world.cut(seat),
                Step::Connect(seat) => world.connect(seat),
                Step::Crash(version) => world.crash(version),
                Step::DieWhile(seat, count) => world.inward(seat, count, true),
                Step::Update(version) => world.update(version),
            }
        }
        // Clients say again what they said while they were not connected.
        for seat in 0..CLIENTS {
            world.cut(seat);
            world.connect(seat);
        }
        world.settle();
        for seat in 0..PUBLISHERS {
            prop_assert!(world.client(seat).is_done());
        }
        prop_assert_eq!(world.broker.on_their_way(), 0);
        for seat in PUBLISHERS..CLIENTS {
            let got = payloads(&mut world, seat);
            for (publisher, published) in published.iter().enumerate() {
                let own = format!("{publisher}/");
                for (qos, payload) in published {
                    let count = got.iter().filter(|got| *got == payload).count();
                    if *qos == QoS::Level2 {
                        prop_assert_eq!(count, 1, "{} at {}", payload, seat);
                    } else {
                        prop_assert!(count >= 1, "{} at {}", payload, seat);
                    }
                }
                // In the order in which they were published. (MQTT 3.1.1, 4.6)
                let twice = |text: &str| text.starts_with(&format!("{own}2/"));
                let order: Vec<_> = got.iter().filter(|text| twice(text)).collect();
                let expected: Vec<_> = published.iter().map(|(_, text)| text).filter(|text| twice(text)).collect();
                prop_assert_eq!(order, expected);
            }
        }
    }
}

/// The same with the world's whole state compared, while a window is full and much waits.
#[test]
fn a_full_window_moves_through_all_versions() {
    let mut world = World::new(1, [who("p"), who("s"), clean("c")]);
    for seat in 0..3 {
        world.connect(seat);
    }
    world.client(1).subscribe("#", QoS::Level2);
    world.client(2).subscribe("t", QoS::Level1);
    world.settle();
    let count = broker::limits::WINDOW + 100;
    for number in 0..count {
        world
            .client(0)
            .publish("t", &number.to_string(), QoS::Level2, number == 0);
    }
    world.inward(0, usize::MAX, false);
    world.outward(1, 3_000); // some are with the receiver, one half so
    for version in [2, 3, 2, 1, 3, 1] {
        world.update(version);
        world.inward(1, 40, false);
        world.outward(1, 700);
    }
    world.settle();
    let expected: Vec<_> = (0..count).map(|number| number.to_string()).collect();
    assert_eq!(payloads(&mut world, 1), expected);
    assert_eq!(payloads(&mut world, 2), expected);
    assert_eq!(world.broker.on_their_way(), 0);
}

#[test]
fn a_damaged_state_or_one_of_another_version_is_refused() {
    use broker::layout::{BlobError, TransformError, V1, V2, decode, transform};
    let mut world = World::new(1, [who("p")]);
    world.connect(0);
    world.settle();
    let good = world.broker.state();
    assert!(decode::<V1>(&good).is_ok());
    assert!(matches!(
        decode::<V2>(&good),
        Err(BlobError::Version { found: 1, wanted: 2 })
    ));
    assert!(matches!(
        transform(&good, 4),
        Err(TransformError::NoWay { from: 1, to: 4 })
    ));
    for place in 0..good.len() {
        let mut bad = good.clone();
        bad[place] ^= 0x20;
        assert!(decode::<V1>(&bad).is_err(), "byte {place}");
    }
    for end in 0..good.len() {
        assert!(decode::<V1>(&good[..end]).is_err(), "cut at {end}");
    }
}

#[test]
fn a_retained_message_greets_who_comes_later_and_an_empty_one_takes_it_away() {
    let mut world = World::new(1, [who("p"), clean("a"), clean("b"), clean("c")]);
    world.connect(0);
    world.client(0).publish("t/x", "old", QoS::Level1, true);
    world.client(0).publish("t/x", "kept", QoS::Level1, true);
    world.client(0).publish("u", "other", QoS::Level1, true);
    world.settle();
    world.connect(1);
    world.client(1).subscribe("t/#", QoS::Level2);
    world.settle();
    assert_eq!(payloads(&mut world, 1), ["kept"]);
    world.crash(3);
    world.connect(2);
    world.client(2).subscribe("+/x", QoS::Level0);
    world.settle();
    assert_eq!(payloads(&mut world, 2), ["kept"], "after a power cut");
    world.connect(0);
    world.client(0).publish("t/x", "", QoS::Level1, true);
    world.settle();
    world.connect(3);
    world.client(3).subscribe("t/x", QoS::Level0);
    world.settle();
    assert_eq!(payloads(&mut world, 3), [""; 0]);
    assert_eq!(payloads(&mut world, 2), ["kept", ""], "whoever listens is told");
}

#[test]
fn a_will_is_read_out_unless_its_owner_said_goodbye() {
    let mut mortal = clean("mortal");
    mortal.will = Some(("wills", "gone"));
    let mut world = World::new(1, [mortal, who("heir")]);
    world.connect(1);
    world.client(1).subscribe("wills", QoS::Level2);
    world.connect(0);
    world.settle();
    world.client(0).say(&Packet::Disconnect);
    world.settle();
    assert_eq!(payloads(&mut world, 1), [""; 0], "a goodbye");
    world.connect(0);
    world.settle();
    world.update(3);
    world.cut(0);
    world.settle();
    assert_eq!(payloads(&mut world, 1), ["gone"], "a cut, after an update");
    world.connect(0);
    world.settle();
    world.now += 40_000; // less than one and a half times 30 s
    world.broker.tick(world.now);
    world.turn_ends();
    assert!(world.client(0).connected);
    world.client(1).say(&Packet::Pingreq);
    world.settle();
    world.now += 6_000;
    world.broker.tick(world.now);
    world.turn_ends();
    world.settle();
    assert_eq!(payloads(&mut world, 1), ["gone", "gone"], "silence");
}

#[test]
fn the_same_name_takes_over_and_a_clean_session_leaves_nothing() {
    let mut world = World::new(1, [who("same"), who("same"), who("p")]);
    world.connect(0);
    world.client(0).subscribe("t", QoS::Level1);
    world.settle();
    world.connect(1);
    world.settle();
    assert!(!world.client(0).connected && world.client(1).connected);
    world.connect(2);
    world.client(2).publish("t", "for the second", QoS::Level1, false);
    world.settle();
    assert_eq!(payloads(&mut world, 1), ["for the second"]);
    assert_eq!(payloads(&mut world, 0), [""; 0]);

    let mut world = World::new(2, [clean("brief"), who("p")]);
    world.connect(0);
    world.client(0).subscribe("t", QoS::Level2);
    world.settle();
    world.cut(0);
    world.connect(1);
    world.client(1).publish("t", "to nobody", QoS::Level2, false);
    world.settle();
    assert_eq!(world.broker.on_their_way(), 0);
    world.connect(0);
    world.settle();
    assert_eq!(payloads(&mut world, 0), [""; 0]);
}

#[test]
fn clients_of_other_kinds_are_refused_in_their_own_words() {
    // MQTT 5 is told which version is spoken here.
    let mut world = World::new(1, [who("x")]);
    let five = [0x10, 0x0d, 0, 4, b'M', b'Q', b'T', b'T', 5, 2, 0, 60, 0, 0, 0];
    let id = world.broker.accept(0);
    world.broker.received(id, &five, 0);
    let closed = world.broker.take_closed();
    let (answer, _) = crate::client::first(&closed[0].output).unwrap();
    let Packet::Connack(connack) = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(connack.code, ConnectReturnCode::UnacceptableProtocolVersion);
    // What is not MQTT hears nothing.
    let id = world.broker.accept(0);
    world.broker.received(id, b"GET / HTTP/1.1\r\n\r\n", 0);
    assert!(world.broker.take_closed()[0].output.is_empty());
    // A nameless client cannot be remembered.
    let mut world = World::new(1, [who(""), clean("")]);
    world.connect(0);
    world.connect(1);
    world.settle();
    let Some(Packet::Connack(connack)) = world.client(0).heard.last().cloned() else {
        panic!("no CONNACK");
    };
    assert_eq!(connack.code, ConnectReturnCode::IdentifierRejected);
    assert!(!world.client(0).connected);
    assert!(world.client(1).connected);
    // Shared subscriptions are of MQTT 5.
    world.client(1).subscribe("$share/g/t", QoS::Level1);
    world.settle();
    let Some(Packet::Suback(suback)) = world.client(1).heard.last().cloned() else {
        panic!("no SUBACK");
    };
    assert_eq!(suback.topics, [SubscribeReturnCode::Failure]);
}

#[test]
fn a_stranger_who_says_nothing_is_shown_out() {
    let mut world = World::new(1, []);
    let id = world.broker.accept(0);
    world.broker.tick(broker::limits::CONNECT_MILLIS);
    assert!(world.broker.link(id).is_some());
    world.broker.tick(broker::limits::CONNECT_MILLIS + 1);
    assert!(world.broker.link(id).is_none());
}

proptest! {
    #[test]
    fn no_bytes_bring_it_down(bytes in prop::collection::vec(any::<u8>(), 0..200), connected: bool) {
        let mut world = World::new(3, [clean("x")]);
        if connected {
            world.connect(0);
            world.settle();
            world.client(0).output = bytes;
            world.inward(0, usize::MAX, false);
        } else {
            let id = world.broker.accept(0);
            world.broker.received(id, &bytes, 0);
        }
    }
}
