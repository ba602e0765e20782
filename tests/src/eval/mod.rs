//! The source document's experiment (R-004-121 to R-004-132) with the real programs: latency types over many releases,
//! their statistics, charts and a report.

mod chart;
mod numbers;
mod over;
mod page;
mod run;

pub use chart::{Boxes, Lines, png};
pub use numbers::{Numbers, Steadiness};
pub use over::{Mark, Over};
pub(crate) use page::{STYLE, escape};
pub use page::{charts, page, write_report};
pub use run::{HAND_OVERS, Sample, Series, Setting, measure, release_package, release_to};

/// What a column takes of a sample, milliseconds.
pub type Taken = fn(&Sample) -> f64;

/// The columns of the document's table and ours: a name, and what of a sample it is.
pub const TYPES: [(&str, Taken); 10] = [
    ("1 Download", |sample| sample.download),
    ("2 Manager verification", |sample| sample.manager_verification),
    ("3 Transmission", |sample| sample.transmission),
    ("4 Device verification", |sample| sample.device_verification),
    ("5 Installation", |sample| sample.installation),
    ("6 Restart", |sample| sample.restart),
    ("Total of 1 to 6", Sample::total),
    ("Between the types", Sample::between),
    ("7 Actual total", |sample| sample.actual_total),
    ("Click to healthy", |sample| sample.click_to_healthy),
];

/// Where the row of a type stands in [`TYPES`].
pub const DOWNLOAD: usize = 0;
/// The sum of types 1 to 6.
pub const TOTAL: usize = 6;
/// Type 7.
pub const ACTUAL: usize = 8;
/// From the click on, signing included.
pub const CLICK: usize = 9;

/// The document's table 6.2: means and standard deviations in milliseconds, in the order of [`TYPES`]; it has no last
/// two columns of ours.
pub const DOCUMENT: [Option<(f64, f64)>; 10] = [
    Some((4500.0, 3209.0)),
    Some((2000.0, 0.0)),
    Some((0.0, 0.0)),
    Some((1667.0, 516.0)),
    Some((4167.0, 408.0)),
    Some((5000.0, 0.0)),
    Some((17333.0, 3077.0)),
    None,
    Some((18000.0, 3521.0)),
    None,
];
