//! A gate in front of whatever changes a program's state: open in all of its days, shut while it is handed over.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedRwLockWriteGuard, RwLock, RwLockReadGuard};
use tokio::time::timeout;

/// Each task passes it once per piece of work: that is where it can be made to stand still.
///
/// Take a pass after a socket has become readable and before reading from it: a task that waits holds no byte in its hands.
#[derive(Debug, Clone, Default)]
pub struct Barrier(Arc<RwLock<()>>);

/// A piece of work under way.
#[derive(Debug)]
pub struct Pass<'a>(#[expect(dead_code, reason = "held")] RwLockReadGuard<'a, ()>);

/// Nothing is under way, and nothing begins, until this is dropped.
#[derive(Debug)]
pub struct Still(#[expect(dead_code, reason = "held")] OwnedRwLockWriteGuard<()>);

impl Barrier {
    /// Begins a piece of work; waits while the barrier is closed.
    pub async fn pass(&self) -> Pass<'_> {
        Pass(self.0.read().await)
    }

    /// Lets nothing begin any more, and waits until all that has begun has ended; none: it did not end in time, and
    /// everything goes on.
    pub async fn close(&self, within: Duration) -> Option<Still> {
        timeout(within, Arc::clone(&self.0).write_owned())
            .await
            .ok()
            .map(Still)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn closing_waits_for_work_under_way_and_holds_what_comes_after() {
        let barrier = Barrier::default();
        let pass = barrier.pass().await;
        assert!(
            barrier.close(Duration::from_millis(20)).await.is_none(),
            "work is under way"
        );
        drop(pass);
        let still = barrier.close(Duration::from_secs(1)).await.unwrap();
        let held = timeout(Duration::from_millis(20), barrier.pass()).await;
        assert!(held.is_err(), "nothing begins");
        drop(still);
        barrier.pass().await;
    }
}
