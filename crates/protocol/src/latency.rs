//! The document's seven latency types (R-004-121 to R-004-127), computed from steps.

use serde::{Deserialize, Serialize};

use crate::{Event, Name, Role, Step};

/// Latency types of one update on one device, in milliseconds; none where a step is missing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Latencies {
    /// 1 Download: upload successful → manager download successful.
    pub download: Option<f64>,
    /// 2 Manager verification: start → end.
    pub manager_verification: Option<f64>,
    /// 3 Transmission: manager starts to serve the device (its order) → device has received it.
    pub transmission: Option<f64>,
    /// 4 Device verification: start → end.
    pub device_verification: Option<f64>,
    /// 5 Installation: start → staged.
    pub installation: Option<f64>,
    /// 6 Restart: old version told to stop → first healthy answer of the new one.
    pub restart: Option<f64>,
    /// 7 Actual total: upload successful → first healthy answer.
    pub actual_total: Option<f64>,
    /// Ours: click, signing included → first healthy answer.
    pub click_to_healthy: Option<f64>,
}

impl Latencies {
    /// The row "Total" of the document's table: the sum of types 1 to 6.
    #[must_use]
    pub fn total(&self) -> Option<f64> {
        Some(
            self.download?
                + self.manager_verification?
                + self.transmission?
                + self.device_verification?
                + self.installation?
                + self.restart?,
        )
    }
}

/// Computes the types for one device from the steps of one update, in any order.
#[must_use]
pub fn latencies(events: &[Event], device: &Name) -> Latencies {
    let shared = |step: Step| {
        events
            .iter()
            .find(|event| event.step == step && event.actor.role != Role::Device)
    };
    let own = |step: Step| {
        events.iter().find(|event| {
            event.step == step && event.actor.role == Role::Device && event.actor.name == *device
        })
    };
    let offered = events
        .iter()
        .find(|event| event.step == Step::Offered && event.device.as_ref() == Some(device));
    let between = |from: Option<&Event>, to: Option<&Event>| {
        #[allow(clippy::cast_precision_loss)] // nanoseconds of minutes fit a double's 53 bits
        Some(to?.at.since_ns(&from?.at) as f64 / 1e6)
    };
    let published = shared(Step::Published);
    let restarted = own(Step::Stopping).or_else(|| own(Step::Switched));
    Latencies {
        download: between(published, shared(Step::Fetched)),
        manager_verification: between(shared(Step::MirrorVerifyStarted), shared(Step::MirrorVerified)),
        transmission: between(offered, own(Step::Downloaded)),
        device_verification: between(own(Step::VerifyStarted), own(Step::Verified)),
        installation: between(own(Step::InstallStarted), own(Step::Staged)),
        restart: between(restarted, own(Step::Healthy)),
        actual_total: between(published, own(Step::Healthy)),
        click_to_healthy: between(shared(Step::Clicked), own(Step::Healthy)),
    }
}
