//! The end of the gateway's own certificate: seen in time, because nobody talks to the gateway after it.

use std::sync::{Arc, PoisonError};

use mtls::Credentials;
use tuf::UnixTime;

use crate::gateway::Gateway;
use crate::limits;

/// Key of the alarm.
const ALARM: &str = "certificate";

/// Looks now and then, for ever: time passes, and somebody may bring a new certificate.
pub(crate) async fn run(gateway: Arc<Gateway>) {
    let mut tick = tokio::time::interval(limits::CERTIFICATE_LOOK);
    loop {
        tick.tick().await;
        let own = gateway.clone();
        if let Err(error) = tokio::task::spawn_blocking(move || look(&own)).await {
            tracing::warn!(%error, "the gateway's certificate could not be looked at");
        }
    }
}

/// Notes when the certificate ends, raises the alarm or ends it.
///
/// The one in the folder and the one in use are the same, but for a moment, or where the new one cannot be used: the
/// earlier end counts.
pub(crate) fn look(gateway: &Gateway) {
    let end = |credentials: &Credentials| Some(credentials.validity().ok()?.not_after);
    let used = end(&gateway.own().credentials);
    // What cannot be read is not used either: the listeners go on with what they had.
    let shown = Credentials::load(&gateway.paths.tls(), &gateway.paths.tls_key())
        .ok()
        .as_ref()
        .and_then(end);
    let until = used.into_iter().chain(shown).min();
    *gateway
        .certificate_until
        .lock()
        .unwrap_or_else(PoisonError::into_inner) = until;
    let now = gateway.now();
    let soon = |until: &UnixTime| until.seconds_since(now) < limits::CERTIFICATE_WARNING_SECONDS;
    let text = match (shown.or(used).filter(soon), used.filter(soon)) {
        (Some(until), _) => Some(ends(gateway, until)),
        (None, Some(until)) => Some(not_taken(until)),
        (None, None) => None,
    };
    if let Some(text) = text {
        gateway.journal.alarm(now, ALARM, &text);
    } else {
        gateway.journal.clear(ALARM);
    }
}

fn ends(gateway: &Gateway, until: UnixTime) -> String {
    format!(
        "the gateway's certificate ends at {until}, and nobody will talk to it then: `certs issue manager {} --ca author \
         --out NEW --host ADDRESS --replace` on the author's desk makes a new one; carry its tls.pem and tls-key.pem to \
         this machine",
        gateway.identity.name
    )
}

fn not_taken(until: UnixTime) -> String {
    format!(
        "the certificate in the gateway's folder is not in use: the gateway goes on with the one that ends at {until}, and \
         its events say why"
    )
}

#[cfg(test)]
mod tests {
    use certs::life;

    use super::*;
    use crate::fixture::{Fixture, now};

    const DAY: i64 = 86_400;

    /// The alarms and how many days are left, in whole ones.
    fn seen(fixture: &Fixture) -> (Vec<String>, i64) {
        let gateway = &fixture.gateway;
        look(gateway);
        let until = gateway.certificate_until.lock().unwrap().unwrap();
        (
            gateway.journal.alarms(),
            (until.seconds_since(now()) + DAY / 2).div_euclid(DAY),
        )
    }

    #[test]
    fn a_certificate_that_ends_is_told_thirty_days_ahead_until_a_new_one_is_there() {
        let fixture = Fixture::new(life::LEAF);
        assert_eq!(seen(&fixture), (Vec::new(), 365));
        fixture.certify(31 * DAY);
        assert_eq!(seen(&fixture), (Vec::new(), 31));
        for days in [29, -1] {
            fixture.certify(days * DAY);
            let (alarms, left) = seen(&fixture);
            assert_eq!((alarms.len(), left), (1, days), "{alarms:?}");
            assert!(
                alarms[0].contains("`certs issue manager gateway --ca author"),
                "{alarms:?}"
            );
        }
        fixture.certify(life::LEAF);
        assert_eq!(seen(&fixture), (Vec::new(), 365));
    }

    #[test]
    fn a_new_certificate_that_is_not_in_use_is_told() {
        let fixture = Fixture::new(20 * DAY);
        fixture.certify(life::LEAF);
        let (alarms, left) = seen(&fixture);
        assert_eq!(left, 20);
        assert!(alarms[0].contains("is not in use"), "{alarms:?}");
    }
}
