//! Looking one target up through the delegations, fetching only the roles on its way.

use crate::schema::TargetFile;
use crate::walk::{Rules, Walk};
use crate::{Accepted, Error, Limits, Next, Role, TrustedState, UnixTime};

/// One lookup after a complete refresh, as a state machine like [`crate::Update`].
///
/// Unlike a refresh with delegations, any role in error on the way ends the lookup: a later role must not
/// answer for an earlier one.
#[derive(Debug, Clone)]
pub struct Search {
    state: TrustedState,
    target: String,
    now: UnixTime,
    limits: Limits,
    walk: Walk,
    over: bool,
}

impl Search {
    /// Begins to look for `target`.
    ///
    /// # Errors
    /// [`Error::NotAskedFor`] when the last refresh did not come to its end, [`Error::Expired`] when what it brought
    /// has expired since, or why a stored role on the way is refused.
    pub fn start(state: TrustedState, target: &str, now: UnixTime, limits: Limits) -> Result<Self, Error> {
        let now = state.not_before().map_or(now, |floor| floor.max(now));
        if !state.is_complete() {
            return Err(Error::NotAskedFor {
                reason: "refresh first",
            });
        }
        if let Some(expires) = state.stale_since(now) {
            return Err(Error::Expired {
                file: "the trusted metadata".to_owned(),
                expires,
                now,
            });
        }
        let walk = Walk::begin(Some(target.to_owned()), &state);
        let mut search = Self {
            state,
            target: target.to_owned(),
            now,
            limits,
            walk,
            over: false,
        };
        search.advance()?;
        Ok(search)
    }

    /// The file needed next.
    #[must_use]
    pub fn next(&self) -> Next {
        let request = if self.over {
            None
        } else {
            self.walk.request(&self.state, &self.limits)
        };
        request.map_or(Next::Done, Next::Fetch)
    }

    /// Takes the bytes of the file asked for.
    ///
    /// # Errors
    /// Why it is refused; the lookup is over then.
    pub fn supply(&mut self, bytes: &[u8]) -> Result<Accepted, Error> {
        let verdict = self.take(bytes);
        self.over |= verdict.is_err();
        verdict
    }

    fn take(&mut self, bytes: &[u8]) -> Result<Accepted, Error> {
        let Next::Fetch(request) = self.next() else {
            return Err(Error::NotAskedFor {
                reason: "the lookup is over",
            });
        };
        request.check_length(bytes)?;
        let rules = Rules {
            now: self.now,
            limits: &self.limits,
        };
        let version = self.walk.take(&request.path, bytes, &mut self.state, rules)?;
        self.advance()?;
        Ok(Accepted {
            file: request.path,
            role: request.role,
            version,
            changed: true,
        })
    }

    /// Says that the repository does not have the file asked for.
    ///
    /// # Errors
    /// [`Error::Missing`]; the lookup is over then.
    pub fn missing(&mut self) -> Result<(), Error> {
        let next = self.next();
        self.over = true;
        match next {
            Next::Fetch(request) => Err(Error::Missing { file: request.path }),
            Next::Done => Err(Error::NotAskedFor {
                reason: "the lookup is over",
            }),
        }
    }

    fn advance(&mut self) -> Result<(), Error> {
        let rules = Rules {
            now: self.now,
            limits: &self.limits,
        };
        self.walk
            .advance(&mut self.state, rules)
            .map_err(|(_, error)| error)
    }

    /// The target and the role that names it, once [`next`](Self::next) says it is over; none when no role does.
    #[must_use]
    pub fn found(&self) -> Option<(&Role, &TargetFile)> {
        let role = self.walk.found.as_ref()?;
        let target = self.state.targets_of(role)?.targets.get(&self.target)?;
        Some((role, target))
    }

    /// The state so far, with the roles that were fetched.
    #[must_use]
    pub fn state(&self) -> &TrustedState {
        &self.state
    }

    /// The state at the end.
    #[must_use]
    pub fn into_state(self) -> TrustedState {
        self.state
    }
}
