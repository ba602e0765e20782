//! Document 000's benchmark with the example broker: a fixed rate of messages of QoS 2 through it while it is updated,
//! every message accounted for (R-000-25 to R-000-40), beside plain restarts of the same broker and of mosquitto.

mod agent;
mod chart;
mod cost;
mod knee;
mod ledger;
mod load;
mod plain;
mod report;
mod scenario;
mod wire;

pub use agent::{Agent, Fault, Told, Victim, serve as serve_agent};
pub use cost::{cost, more as cost_more};
pub use knee::{Tried, knee};
pub use ledger::{BUCKET_MS, Bucket, Histogram, Record, Total};
pub use load::{Load, Plan};
pub use plain::{Kind, Plain, has_mosquitto};
pub use report::{Report, write as write_report};
pub use scenario::{Course, Under, course, rows, strikes};
