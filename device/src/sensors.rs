//! What conditions look at outside of the agent: local time, load, batteries, interlocks, a program's word that it is busy.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs::{self, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;
use tuf::UnixTime;

use crate::conditions::{Interlock, Power};
use crate::limits::{MAX_HOLDER, MAX_INTERLOCKS, MAX_SENSOR};

/// Where the machine's own figures come from.
pub trait Sensors: Send + Sync + Debug {
    /// Seconds that local time is ahead of UTC at `at`.
    fn offset_seconds(&self, at: UnixTime) -> i32;
    /// The load of the last minute, in percent of all processors; none: it cannot be read.
    fn load_percent(&self) -> Option<u32>;
    /// What feeds the device.
    fn power(&self) -> Power;
}

/// The machine as it is: its time zone (`TZ`, `/etc/localtime`), `/proc/loadavg`, `/sys/class/power_supply`.
#[derive(Debug, Clone, Copy)]
pub struct Machine;

impl Sensors for Machine {
    fn offset_seconds(&self, at: UnixTime) -> i32 {
        let zone = jiff::tz::TimeZone::system();
        jiff::Timestamp::from_second(at.0).map_or(0, |at| zone.to_offset(at).seconds())
    }

    fn load_percent(&self) -> Option<u32> {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        load_of(&text(Path::new("/proc/loadavg"))?, processors)
    }

    fn power(&self) -> Power {
        power_in(Path::new("/sys/class/power_supply"))
    }
}

/// The first figure of `/proc/loadavg`, such as `0.52`, is in hundredths the load in percent of one processor.
fn load_of(loadavg: &str, processors: usize) -> Option<u32> {
    let (whole, hundredths) = loadavg.split_whitespace().next()?.split_once('.')?;
    let percent = whole
        .parse::<u32>()
        .ok()?
        .checked_mul(100)?
        .checked_add(hundredths.get(..2)?.parse().ok()?)?;
    Some(percent / u32::try_from(processors).ok()?.max(1))
}

/// The emptiest battery of the device itself: those of a mouse or a pen have the scope `Device`.
fn power_in(folder: &Path) -> Power {
    let Ok(supplies) = fs::read_dir(folder) else {
        return Power::Mains;
    };
    let mut power = Power::Mains;
    for supply in supplies.flatten().take(MAX_INTERLOCKS) {
        let is = |name: &str, value: &str| text(&supply.path().join(name)).is_some_and(|text| text == value);
        if !is("type", "Battery") || is("scope", "Device") || is("present", "0") {
            continue;
        }
        let holds = text(&supply.path().join("capacity")).and_then(|text| text.parse::<u8>().ok());
        power = match (power, holds) {
            (Power::Unknown, _) | (_, None) => Power::Unknown,
            (Power::Battery(other), Some(holds)) => Power::Battery(other.min(holds)),
            (Power::Mains, Some(holds)) => Power::Battery(holds),
        };
    }
    power
}

/// The interlocks that are set: each file of the folder is one. None: the folder cannot be read, or holds too many.
#[must_use]
pub fn interlocks(folder: &Path) -> Option<BTreeMap<String, Interlock>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Some(BTreeMap::new()),
        Err(_) => return None,
    };
    let mut set = BTreeMap::new();
    for entry in entries {
        let entry = entry.ok()?;
        if set.len() >= MAX_INTERLOCKS {
            return None;
        }
        let name = entry.file_name().to_string_lossy().into_owned();
        set.insert(name, interlock(&entry));
    }
    Some(set)
}

/// Its first line says who holds it; without one, its owner does.
fn interlock(entry: &fs::DirEntry) -> Interlock {
    let Ok(about) = entry.metadata() else {
        // Gone meanwhile, or not ours to look at: it counts as set until the next look.
        return Interlock {
            holder: "somebody".into(),
            since: None,
        };
    };
    let words = about.is_file().then(|| text(&entry.path())).flatten();
    let words = words.map(|words| {
        words
            .chars()
            .filter(|c| !c.is_control())
            .take(MAX_HOLDER)
            .collect()
    });
    let owner = || format!("user {}", about.uid());
    Interlock {
        holder: words
            .filter(|words: &String| !words.is_empty())
            .unwrap_or_else(owner),
        since: Some(UnixTime(about.mtime())),
    }
}

/// Whether a component's program says that it is busy. What cannot be looked at may be there.
#[must_use]
pub fn is_busy(data: &Path) -> bool {
    match data.join("busy").symlink_metadata() {
        Ok(_) => true,
        Err(error) => error.kind() != std::io::ErrorKind::NotFound,
    }
}

/// The first line of a small file. Who may set an interlock may put anything there at any moment: a link is not followed,
/// a pipe not waited for.
fn text(path: &Path) -> Option<String> {
    let mut text = String::new();
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
        .ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    file.take(MAX_SENSOR).read_to_string(&mut text).ok()?;
    Some(text.lines().next().unwrap_or_default().trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_load_is_a_share_of_all_processors() {
        assert_eq!(load_of("0.52 0.58 0.59 1/467 2383", 1), Some(52));
        assert_eq!(load_of("3.00 0.58 0.59 1/467 2383", 4), Some(75));
        assert_eq!(load_of("", 4), None);
        assert_eq!(load_of("3", 4), None);
        assert!(Machine.load_percent().is_some());
    }

    #[test]
    fn the_emptiest_battery_counts_and_mains_need_none() {
        let folder = tempfile::tempdir().unwrap();
        let supply = |name: &str, files: &[(&str, &str)]| {
            let supply = folder.path().join(name);
            fs::create_dir(&supply).unwrap();
            for (file, value) in files {
                fs::write(supply.join(file), format!("{value}\n")).unwrap();
            }
        };
        supply("AC", &[("type", "Mains"), ("online", "1")]);
        supply(
            "mouse",
            &[("type", "Battery"), ("scope", "Device"), ("capacity", "3")],
        );
        supply("BAT2", &[("type", "Battery"), ("present", "0")]);
        assert_eq!(power_in(folder.path()), Power::Mains);
        supply(
            "BAT0",
            &[("type", "Battery"), ("present", "1"), ("capacity", "80")],
        );
        supply("BAT1", &[("type", "Battery"), ("capacity", "35")]);
        assert_eq!(power_in(folder.path()), Power::Battery(35));
        supply("BAT3", &[("type", "Battery")]);
        assert_eq!(power_in(folder.path()), Power::Unknown);
        assert_eq!(power_in(&folder.path().join("none")), Power::Mains);
    }

    #[test]
    fn an_interlock_is_a_file_and_its_first_line_says_who_holds_it() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(interlocks(&folder.path().join("none")).unwrap().len(), 0);
        fs::write(folder.path().join("door"), "night shift\u{1b}[2J\nmore").unwrap();
        fs::write(folder.path().join("motor"), "").unwrap();
        fs::create_dir(folder.path().join("folder")).unwrap();
        let set = interlocks(folder.path()).unwrap();
        assert_eq!(set["door"].holder, "night shift[2J");
        assert!(set["motor"].holder.starts_with("user ") && set["motor"].since.is_some());
        assert!(set.contains_key("folder"));
        std::os::unix::fs::symlink(folder.path().join("door"), folder.path().join("link")).unwrap();
        assert_eq!(text(&folder.path().join("link")), None, "a link leads anywhere");
        let pipe = folder.path().join("pipe");
        let made = rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        );
        made.unwrap();
        assert_eq!(text(&pipe), None);
        for number in 0..MAX_INTERLOCKS {
            fs::write(folder.path().join(number.to_string()), "").unwrap();
        }
        assert_eq!(interlocks(folder.path()), None, "too many are not half looked at");
    }
}
