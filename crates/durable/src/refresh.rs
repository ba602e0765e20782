//! One refresh of a trusted state from wherever the files come from, saved as it goes.

use std::future::Future;

use tuf::{Limits, Next, Role, TrustedState, UnixTime, Update};

use crate::trust::{TrustError, TrustStore};

/// Where metadata files come from.
pub trait Fetch {
    /// What can go wrong there.
    type Error;

    /// The file at `path` below the metadata folder (one percent-encoded segment); `None` if there is no such file.
    /// At most `max` bytes are wanted: the rest need not be read.
    fn metadata(
        &self,
        path: &str,
        max: u64,
    ) -> impl Future<Output = Result<Option<Vec<u8>>, Self::Error>> + Send;
}

/// Where a verified state is kept. A [`TrustStore`] writes it at once; who cannot wait for a disk brings another way
/// to the same store.
pub trait Keep {
    /// As [`TrustStore::save`].
    fn keep(&self, state: &TrustedState) -> impl Future<Output = Result<TrustedState, TrustError>> + Send;
}

impl Keep for TrustStore {
    async fn keep(&self, state: &TrustedState) -> Result<TrustedState, TrustError> {
        self.save(state)
    }
}

/// Why a refresh ended early. What was accepted before is kept.
#[derive(Debug, thiserror::Error)]
pub enum RefreshError<E> {
    /// A file did not verify, or is not there.
    #[error("the metadata does not verify")]
    Verify(#[source] tuf::Error),
    /// A file did not come.
    #[error("the metadata cannot be fetched")]
    Fetch(#[source] E),
    /// The state could not be saved.
    #[error("the verified metadata cannot be kept")]
    Trust(#[source] TrustError),
}

/// Refreshes `state`, saving it through `store` after each new root and at the end, also after an error.
///
/// Gives the newest state in any case, and the files accepted on the way (name in the repository, raw bytes).
/// A mirror that needs them even when the refresh ends early uses [`refresh_with`].
pub async fn refresh<F: Fetch>(
    store: &impl Keep,
    state: TrustedState,
    fetch: &F,
    now: UnixTime,
    limits: Limits,
) -> (
    TrustedState,
    Result<Vec<(String, Vec<u8>)>, RefreshError<F::Error>>,
) {
    let mut accepted = Vec::new();
    let (state, outcome) = refresh_with(store, state, fetch, now, limits, |file, bytes| {
        accepted.push((file.to_owned(), bytes.to_vec()));
    })
    .await;
    (state, outcome.map(|()| accepted))
}

/// [`refresh`] that hands over each accepted file as soon as it is accepted.
pub async fn refresh_with<F: Fetch>(
    store: &impl Keep,
    state: TrustedState,
    fetch: &F,
    now: UnixTime,
    limits: Limits,
    accepted: impl FnMut(&str, &[u8]),
) -> (TrustedState, Result<(), RefreshError<F::Error>>) {
    let update = Update::start(state, now, limits);
    let ((state, _), outcome) = finish(store, update, fetch, accepted).await;
    (state, outcome)
}

/// Runs a refresh to its end and keeps what it brought; the state and the lapses.
async fn finish<F: Fetch>(
    store: &impl Keep,
    mut update: Update,
    fetch: &F,
    accepted: impl FnMut(&str, &[u8]),
) -> ((TrustedState, Vec<Lapse>), Result<(), RefreshError<F::Error>>) {
    let mut outcome = run(store, &mut update, fetch, accepted).await;
    let lapses = update.problems().to_vec();
    let state = update.into_state();
    match store.keep(&state).await {
        Ok(state) => ((state, lapses), outcome),
        Err(error) => {
            if outcome.is_ok() {
                outcome = Err(RefreshError::Trust(error));
            }
            ((state, lapses), outcome)
        }
    }
}

/// [`refresh_with`] that brings in the delegated roles too: those that were left out, and why.
///
/// One team's lapse ends no refresh; its targets are not to be taken as new while its role is among these.
pub async fn refresh_all<F: Fetch>(
    store: &impl Keep,
    state: TrustedState,
    fetch: &F,
    now: UnixTime,
    limits: Limits,
    accepted: impl FnMut(&str, &[u8]),
) -> (TrustedState, Result<Vec<Lapse>, RefreshError<F::Error>>) {
    let update = Update::start(state, now, limits).with_delegations();
    let (update, outcome) = finish(store, update, fetch, accepted).await;
    let outcome = outcome.map(|()| update.1);
    (update.0, outcome)
}

/// A delegated role that was left out of a refresh, and why.
pub type Lapse = (Role, tuf::Error);

/// Ends: the state machine has a bounded number of steps.
async fn run<F: Fetch>(
    store: &impl Keep,
    update: &mut Update,
    fetch: &F,
    mut accepted: impl FnMut(&str, &[u8]),
) -> Result<(), RefreshError<F::Error>> {
    while let Next::Fetch(request) = update.next() {
        let answer = fetch.metadata(&request.path, request.max_length).await;
        match answer.map_err(RefreshError::Fetch)? {
            None => update.missing().map_err(RefreshError::Verify)?,
            Some(bytes) => {
                let file = update.supply(&bytes).map_err(RefreshError::Verify)?;
                // A timestamp held already may come back in other words: those are not the ones held.
                if file.changed {
                    accepted(&file.file, &bytes);
                }
                // A root that was accepted must not be forgotten, whatever follows.
                if request.role == Role::Root {
                    store.keep(update.state()).await.map_err(RefreshError::Trust)?;
                }
            }
        }
    }
    Ok(())
}
