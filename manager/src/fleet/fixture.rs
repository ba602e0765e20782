//! Devices and offers for the tests of the fleet.

use protocol::UpdateId;
use protocol::device::Hello;
use release::{Arch, Form, How, Manifest, Run};
use tuf::{Digest, UnixTime};

use super::{Enrolment, Fleet};
use crate::catalog::Offer;
use crate::fixture::name;

pub(crate) fn hello(boot: &str, counter: u64) -> Hello {
    Hello {
        agent: "0.1.0".into(),
        arch: Arch::X86_64,
        hardware: vec!["board-1".into()],
        boot_id: boot.into(),
        report_counter: counter,
        time_known: true,
        trouble: None,
        components: Vec::new(),
    }
}

pub(crate) fn fleet(names: &[&str]) -> Fleet {
    let fleet = Fleet::default();
    for text in names {
        fleet.put(name(text), Enrolment::default());
        fleet.hello(&name(text), hello(text, 0), UnixTime(0));
    }
    fleet
}

pub(crate) fn offer(version: &str, change: impl FnOnce(&mut release::Release)) -> Offer {
    let run = Run::plain(How::Exec, "run".parse().unwrap());
    let manifest = Manifest::new("app".parse().unwrap(), version.parse().unwrap(), run);
    let update = UpdateId::from_random([7; 16]);
    let mut release = manifest.release(
        update.to_string(),
        1,
        Form::Package,
        "app.tar".into(),
        UnixTime(0),
    );
    change(&mut release);
    Offer {
        update,
        target: release.target_path().unwrap(),
        digest: Digest::of(version.as_bytes()),
        length: 1,
        release,
        mirrored: true,
    }
}
