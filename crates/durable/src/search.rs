//! One lookup through the delegations, from wherever the files come from, saved at its end.

use tuf::{Limits, Next, Role, Search, TargetFile, TrustedState, UnixTime};

use crate::refresh::{Fetch, RefreshError};
use crate::trust::TrustStore;

/// What a lookup found: the target and the role that names it; none when no role does.
pub type Found = Option<(Role, TargetFile)>;

/// Looks `target` up after a complete refresh, fetching the delegated roles on its way that are not at hand.
///
/// Gives the newest state in any case: roles that were accepted before an error are kept, as in
/// [`refresh_with`](crate::refresh_with).
pub async fn look_up<F: Fetch>(
    store: &TrustStore,
    state: TrustedState,
    fetch: &F,
    target: &str,
    now: UnixTime,
    limits: Limits,
) -> (TrustedState, Result<Found, RefreshError<F::Error>>) {
    let mut search = match Search::start(state.clone(), target, now, limits) {
        Ok(search) => search,
        Err(error) => return (state, Err(RefreshError::Verify(error))),
    };
    let outcome = run(&mut search, fetch).await;
    let found = search
        .found()
        .map(|(role, target)| (role.clone(), target.clone()));
    let state = search.into_state();
    match store.save(&state) {
        Ok(state) => (state, outcome.map(|()| found)),
        Err(error) => (state, outcome.and(Err(RefreshError::Trust(error)))),
    }
}

/// Ends: the walk visits a bounded number of roles.
async fn run<F: Fetch>(search: &mut Search, fetch: &F) -> Result<(), RefreshError<F::Error>> {
    while let Next::Fetch(request) = search.next() {
        let answer = fetch.metadata(&request.path, request.max_length).await;
        match answer.map_err(RefreshError::Fetch)? {
            None => search.missing().map_err(RefreshError::Verify)?,
            Some(bytes) => search.supply(&bytes).map(drop).map_err(RefreshError::Verify)?,
        }
    }
    Ok(())
}
