//! The verification that everything goes through before it is visible: the client's own.

use std::collections::BTreeMap;

use tuf::{Error, Limits, Next, Role, TrustedState, UnixTime, Update};

/// Runs a whole refresh as a client that holds `state`, over files by their names in the repository; gives what it holds
/// then, and the delegated roles that it leaves out.
///
/// # Errors
/// What the client would refuse.
pub fn as_client(
    state: &TrustedState,
    files: &BTreeMap<String, Vec<u8>>,
    now: UnixTime,
    limits: &Limits,
) -> Result<(TrustedState, Vec<(Role, Error)>), Error> {
    let mut update = Update::start(state.clone(), now, limits.clone()).with_delegations();
    while let Next::Fetch(request) = update.next() {
        match files.get(&request.path) {
            Some(bytes) => update.supply(bytes).map(drop)?,
            None => update.missing()?,
        }
    }
    let lapses = update.problems().to_vec();
    Ok((update.into_state(), lapses))
}
