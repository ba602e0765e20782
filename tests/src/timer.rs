//! The manager's timer, made to come now.

use protocol::control::ManagerStatus;

use crate::Site;
use crate::process::eventually;

impl Site {
    /// One check of the manager that comes by its timer and not by hand: what it leaves alone it goes on leaving alone.
    ///
    /// # Panics
    /// If the manager does not check.
    pub async fn check_by_timer(&self) {
        for (command, checked) in [("stop", false), ("start", true)] {
            let _ = self.manager([command], "").await.ok();
            let wanted = |status: &ManagerStatus| status.next_check_seconds.is_some() == checked;
            eventually("a check by the timer", || self.manager_status(), wanted).await;
        }
    }
}
