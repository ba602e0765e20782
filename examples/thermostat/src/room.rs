//! A simulated room and what this version makes of it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use serde::Serialize;

use crate::memory::Memory;
use crate::release::Release;

/// Hotter than any room: what a sensor without calibration says.
const IMPOSSIBLE_CELSIUS: f64 = 85.0;

/// The room, as this run of the program sees it.
#[derive(Debug)]
pub(crate) struct Room {
    release: Release,
    started: Instant,
    starts: u64,
    setpoint_celsius: f64,
    readings: AtomicU64,
}

/// The body of `/health`.
#[derive(Debug, Serialize)]
pub(crate) struct Health {
    name: &'static str,
    version: String,
    /// `ok` or `failing`.
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    uptime_seconds: u64,
    starts: u64,
    readings: Readings,
}

/// What is measured.
#[derive(Debug, Serialize)]
struct Readings {
    count: u64,
    setpoint_celsius: f64,
    celsius: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    fahrenheit: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    humidity_percent: Option<f64>,
}

impl Room {
    pub(crate) fn new(release: Release, memory: &Memory) -> Self {
        Self {
            release,
            started: Instant::now(),
            starts: memory.starts(),
            setpoint_celsius: memory.setpoint_celsius(),
            readings: AtomicU64::new(memory.readings()),
        }
    }

    pub(crate) fn release(&self) -> &Release {
        &self.release
    }

    pub(crate) fn uptime_seconds(&self) -> u64 {
        self.started.elapsed().as_secs()
    }

    /// One more reading; says how many there are.
    pub(crate) fn measure(&self) -> u64 {
        self.readings.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn is_well(&self) -> bool {
        self.release
            .fails_after_seconds
            .is_none_or(|seconds| self.uptime_seconds() < seconds)
    }

    pub(crate) fn health(&self) -> Health {
        let well = self.is_well();
        let readings = self.readings(well);
        let reason = (!well).then(|| {
            format!(
                "the sensor says {} °C, which no room has: its calibration is lost",
                readings.celsius
            )
        });
        Health {
            name: "thermostat",
            version: self.release.version.clone(),
            status: if well { "ok" } else { "failing" },
            reason,
            uptime_seconds: self.uptime_seconds(),
            starts: self.starts,
            readings,
        }
    }

    fn readings(&self, well: bool) -> Readings {
        let count = self.readings.load(Ordering::Relaxed);
        // The heating swings by half a degree around the setpoint, with a period of twenty readings.
        let swing =
            f64::from(u8::try_from(count.wrapping_add(5) % 20).unwrap_or(0).abs_diff(10)) / 10.0 - 0.5;
        let celsius = if well {
            self.setpoint_celsius + swing
        } else {
            IMPOSSIBLE_CELSIUS
        };
        Readings {
            count,
            setpoint_celsius: self.setpoint_celsius,
            celsius: tenth(celsius),
            fahrenheit: self.release.fahrenheit.then(|| tenth(celsius * 1.8 + 32.0)),
            humidity_percent: self.release.humidity.then(|| tenth(45.0 - swing * 6.0)),
        }
    }

    /// The page for people.
    pub(crate) fn page(&self) -> String {
        let Health {
            version,
            status,
            reason,
            uptime_seconds,
            starts,
            readings,
            ..
        } = self.health();
        let mut page = format!(
            "Thermostat {version}\n\n  status       {status}\n  temperature  {:.1} °C (set to {:.1} °C)\n",
            readings.celsius, readings.setpoint_celsius
        );
        if let Some(fahrenheit) = readings.fahrenheit {
            page += &format!("               {fahrenheit:.1} °F\n");
        }
        if let Some(humidity) = readings.humidity_percent {
            page += &format!("  humidity     {humidity:.0} %\n");
        }
        page += &format!(
            "  readings     {}, over {starts} starts\n  running      {uptime_seconds} s\n",
            readings.count
        );
        if let Some(reason) = reason {
            page += &format!("\n{reason}\n");
        }
        page
    }
}

/// To one digit after the point.
fn tenth(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}
