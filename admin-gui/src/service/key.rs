//! The key that signs releases, open for a while if a person says so.

use std::sync::Arc;
use std::time::Duration;

use protocol::Secret;
use protocol::control::KeyState;
use protocol::device::Problem;
use tokio::time::Instant;
use tuf::UnixTime;

use crate::desk::{Desk, Unlocked};
use crate::limits::KEY_MINUTES;
use crate::passphrase::Passphrase;
use crate::service::state::{Service, locked};
use crate::service::words;
use protocol::control::Level;

/// An open key and when it is forgotten: by whichever clock says so first, since the one stands still while the
/// machine sleeps and the other can be set.
pub(super) struct Key {
    unlocked: Unlocked,
    until: UnixTime,
    ends: Instant,
}

impl Service {
    pub(super) fn key_state(&self) -> KeyState {
        match &*locked(&self.key) {
            Some(key) => KeyState::Open { until: key.until },
            None => KeyState::Locked,
        }
    }

    /// Forgets the key when its time is over.
    pub(super) fn close_key_in_time(&self) {
        let now = self.now();
        let is_over = locked(&self.key)
            .as_ref()
            .is_some_and(|key| now >= key.until || Instant::now() >= key.ends);
        if is_over {
            self.lock_key();
        }
    }

    /// Forgets the key.
    pub(super) fn lock_key(&self) {
        let was_open = locked(&self.key).take().is_some();
        if was_open {
            self.say(
                Level::Info,
                "author.key.locked",
                "the release key is locked again".to_owned(),
            );
            self.tell_status();
        }
    }

    /// Opens the key for `minutes`.
    pub(super) async fn unlock(
        self: &Arc<Self>,
        passphrase: Secret,
        minutes: u32,
    ) -> Result<KeyState, Problem> {
        if minutes > KEY_MINUTES {
            let message = format!("the key can stay open for {KEY_MINUTES} minutes at most, not {minutes}");
            return Err(words::of("author.key.minutes", message));
        }
        let unlocked = open(self.desk()?, passphrase).await?;
        if minutes > 0 {
            let seconds = u64::from(minutes) * 60;
            let until = self.now().plus_seconds(i64::from(minutes) * 60);
            *locked(&self.key) = Some(Key {
                unlocked,
                until,
                ends: Instant::now() + Duration::from_secs(seconds),
            });
            let text = format!("the release key is open until {until}");
            self.say(Level::Info, "author.key.open", text);
            self.tell_status();
        }
        Ok(self.key_state())
    }

    /// The key for one job: with its passphrase, or the one that is open.
    pub(super) async fn key_for(
        self: &Arc<Self>,
        desk: Desk,
        passphrase: Option<Secret>,
    ) -> Result<Unlocked, Problem> {
        if let Some(passphrase) = passphrase {
            return open(desk, passphrase).await;
        }
        self.close_key_in_time();
        match &*locked(&self.key) {
            // On the desk of now: certificates may have been renewed since.
            Some(key) => Ok(Unlocked {
                desk,
                keys: Arc::clone(&key.unlocked.keys),
            }),
            None => Err(words::of(
                "author.key.locked",
                "the release key is locked: type its passphrase".to_owned(),
            )),
        }
    }
}

/// Opens the key away from the async thread: the passphrase function is meant to be slow.
async fn open(desk: Desk, passphrase: Secret) -> Result<Unlocked, Problem> {
    let passphrase = take(&passphrase)?;
    words::blocking(move || desk.unlock(&passphrase))
        .await?
        .map_err(|error| words::unlock(&error))
}

/// A passphrase as it came from a window.
pub(super) fn take(secret: &Secret) -> Result<Passphrase, Problem> {
    Passphrase::new(secret.reveal()).map_err(|error| words::problem("author.passphrase.unusable", &error))
}
