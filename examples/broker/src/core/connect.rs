//! CONNECT: who is it, and what is remembered of it. (MQTT 3.1.1, 3.1)

use std::sync::Arc;

use mqtt_proto::v3::{Connect, ConnectReturnCode, LastWill, Packet};
use mqtt_proto::{Error, Protocol};

use super::{Broker, End, Why};
use crate::journal::Record;
use crate::layout::{Flights as _, Layout};
use crate::limits;
use crate::message::Qos;
use crate::state::{ConnectionId, Session, SessionId, Will};
use crate::wire::{self, Malformed};

impl<L: Layout> Broker<L> {
    pub(super) fn connect(&mut self, id: ConnectionId, connect: &Connect) -> Result<(), End> {
        let client = self.client_name(id, connect)?;
        let will = connect.last_will.as_ref().map(will).transpose()?;
        let (session, present) = self.session_for(id, &client, connect.clean_session)?;
        if let Some(link) = self.state.links.get_mut(&id) {
            link.session = Some(session);
            // One and a half times what it promised. (MQTT 3.1.1, 3.1.2.10)
            link.patience = u64::from(connect.keep_alive) * 1_500;
            link.will = will;
        }
        self.state.set_place(session, Some(id));
        self.say(id, &wire::connack(present, ConnectReturnCode::Accepted));
        self.send_again(id, session);
        self.pump(session);
        Ok(())
    }

    /// Says to a client of another protocol version which one is spoken here, as far as it can understand that.
    pub(super) fn refuse_version(&mut self, id: ConnectionId, malformed: &Malformed) {
        let connected = self
            .state
            .links
            .get(&id)
            .is_some_and(|link| link.session.is_some());
        if let Malformed::Packet(Error::UnexpectedProtocol(_) | Error::InvalidProtocol(..)) = malformed
            && !connected
        {
            self.say(
                id,
                &wire::connack(false, ConnectReturnCode::UnacceptableProtocolVersion),
            );
        }
    }

    fn client_name(&mut self, id: ConnectionId, connect: &Connect) -> Result<Arc<str>, End> {
        debug_assert!(matches!(connect.protocol, Protocol::V310 | Protocol::V311));
        let name = &connect.client_id;
        if name.len() > limits::CLIENT_BYTES {
            return Err(self.refuse(id, "its name is too long"));
        }
        if !name.is_empty() {
            return Ok(name.clone());
        }
        if connect.clean_session {
            // One that no other client has, nor will have. (MQTT 3.1.1, 3.1.3-6)
            return Ok(format!("connection/{}", id.0).into());
        }
        Err(self.refuse(id, "it wants to be remembered and has no name"))
    }

    fn refuse(&mut self, id: ConnectionId, why: &'static str) -> End {
        self.say(id, &wire::connack(false, ConnectReturnCode::IdentifierRejected));
        End::Bad(Why::Refused(why))
    }

    /// The client's session, and whether it was there before.
    fn session_for(
        &mut self,
        id: ConnectionId,
        client: &Arc<str>,
        clean: bool,
    ) -> Result<(SessionId, bool), End> {
        if let Some(old) = self.clients.get(client).copied()
            && let Some(place) = self.state.place(old)
        {
            self.close(place, Some(Why::TakenOver)); // ends the session too if it was clean
        }
        match self.clients.get(client).copied() {
            Some(old) if !clean => return Ok((old, true)),
            Some(old) => self.end_session(old),
            None => {}
        }
        if self.state.sessions.len() >= limits::SESSIONS {
            self.say(id, &wire::connack(false, ConnectReturnCode::ServerUnavailable));
            return Err(End::Bad(Why::Refused("too many sessions")));
        }
        let session = SessionId(self.state.next_session);
        self.state.next_session += 1;
        self.state
            .sessions
            .insert(session, Session::new(client.clone(), clean));
        self.clients.insert(client.clone(), session);
        if !clean {
            self.record(&Record::Session { session, client });
        }
        Ok((session, false))
    }

    /// Says again what was said before the client's connection broke, in the same order. (MQTT 3.1.1, 4.4, 4.6)
    fn send_again(&mut self, id: ConnectionId, session: SessionId) {
        let state = &mut self.state;
        let (Some(session), Some(link)) = (state.sessions.get(&session), state.links.get_mut(&id)) else {
            return;
        };
        session
            .flights
            .each(&state.pool, &mut |packet, delivery| match (packet, delivery) {
                (Some(packet), Some(delivery)) => wire::put_publish(&mut link.output, delivery, packet, true),
                (Some(packet), None) => wire::put(&mut link.output, &Packet::Pubrel(wire::pid(packet))),
                (None, _) => {}
            });
    }
}

fn will(will: &LastWill) -> Result<Will, End> {
    if !crate::topic::within_limits(&will.topic_name) {
        return Err(End::protocol("the topic of its will has too many levels"));
    }
    Ok(Will {
        topic: will.topic_name.clone(),
        payload: will.message.clone(),
        qos: Qos::from(will.qos),
        retain: will.retain,
    })
}
