//! The size of everything that travels, each with its reason.

/// Characters in a [`Name`](crate::Name): fits a file name and a certificate field with room to spare.
pub const MAX_NAME: usize = 64;
/// Bytes of a signed report's text: a long update has about 40 steps of 400 bytes.
pub const MAX_REPORT: usize = 256 << 10;
/// Steps in one report: an update has about 20, a rolled back one 25; progress is thinned out.
pub const MAX_REPORT_EVENTS: usize = 200;
/// Reports in one request: a device that was away for long sends several requests.
pub const MAX_REPORTS: usize = 64;
/// Bytes of any JSON body from a device: reports are the largest.
pub const MAX_DEVICE_BODY: usize = 4 << 20;
/// Bytes of a publish request: targets metadata (its cap in `tuf::Limits`) and a few roots.
pub const MAX_PUBLISH_BODY: usize = 24 << 20;
/// Bytes of one target file: 8 GiB, far above a firmware image of the devices in question.
pub const MAX_TARGET: u64 = 8 << 30;
/// Bytes in one upload request; a larger file is sent in pieces, so that progress survives a broken link.
pub const MAX_UPLOAD_PIECE: u64 = 64 << 20;
/// Components of one device: an agent, a few applications, firmware.
pub const MAX_COMPONENTS: usize = 64;
/// Bytes of one line on a control socket.
pub const MAX_CONTROL_LINE: usize = 4 << 20;
/// Characters of a reason given by a person or a device.
pub const MAX_REASON: usize = 500;
/// Seconds between two lines on an idle event stream; a stream silent for three of them is dead.
pub const KEEP_ALIVE_SECONDS: u64 = 15;
