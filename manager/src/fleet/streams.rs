//! What a device holds open: event streams, and downloads under way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use protocol::Name;
use protocol::device::{Activate, Order, Refresh};
use tokio::sync::mpsc;

use super::{Device, Fleet};
use crate::limits;

/// What goes down an event stream.
#[derive(Debug, Clone)]
pub(crate) enum Push {
    Order(Box<Order>),
    Refresh(Refresh),
    Activate(Box<Activate>),
}

/// Why a device gets no event stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoStream {
    /// It is not on the list.
    Unknown,
    /// It has its share of them: a further one displaces nobody, and half-open ones end by themselves.
    TooMany,
}

/// An event stream, as long as its device holds it open.
#[derive(Debug)]
pub(super) struct Stream {
    number: u64,
    /// Boot id of the machine that opened it, if it has said.
    boot: Option<String>,
    sender: mpsc::Sender<Push>,
}

/// A download that is under way.
#[derive(Debug)]
pub(crate) struct Download(Arc<AtomicUsize>);

impl Drop for Download {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Fleet {
    /// A place for one more download of this device; none if it has its share. Given back when dropped.
    pub(crate) fn download(&self, name: &Name) -> Option<Download> {
        let count = self.devices().get(name)?.downloads.clone();
        let place = Download(count);
        (place.0.fetch_add(1, Ordering::AcqRel) < limits::DOWNLOADS_PER_DEVICE).then_some(place)
    }

    /// Opens an event stream of the machine that was started as `boot`, if it says; the number closes it again.
    pub(crate) fn open_stream(
        &self,
        name: &Name,
        boot: Option<&str>,
    ) -> Result<(u64, mpsc::Receiver<Push>), NoStream> {
        let mut devices = self.devices();
        let device = devices.get_mut(name).ok_or(NoStream::Unknown)?;
        if device.streams.len() >= limits::STREAMS_PER_DEVICE {
            return Err(NoStream::TooMany);
        }
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = mpsc::channel(limits::STREAM_BACKLOG);
        device.streams.push(Stream {
            number,
            boot: boot.map(str::to_owned),
            sender,
        });
        device.touch(&self.revision);
        Ok((number, receiver))
    }

    pub(crate) fn close_stream(&self, name: &Name, number: u64) {
        if let Some(device) = self.devices().get_mut(name) {
            device.streams.retain(|stream| stream.number != number);
            device.touch(&self.revision);
        }
    }

    /// Sends something to one device, if it is connected.
    pub(crate) fn push(&self, name: &Name, push: &Push) {
        if let Some(device) = self.devices().get_mut(name) {
            device.push(push, &self.revision);
        }
    }

    /// Tells every connected device that there is newer metadata.
    pub(crate) fn refresh_all(&self, refresh: Refresh) {
        for device in self.devices().values_mut() {
            device.push(&Push::Refresh(refresh), &self.revision);
        }
    }

    pub(crate) fn connected(&self) -> usize {
        self.devices()
            .values()
            .filter(|device| !device.streams.is_empty())
            .count()
    }
}

impl Device {
    /// Ends the streams that were opened before the machine was started as `boot`. They are half open, all of them; or
    /// there is another machine, which then speaks up.
    pub(super) fn end_streams_before(&mut self, boot: &str) {
        let other = |stream: &Stream| stream.boot.as_ref().is_some_and(|own| own != boot);
        self.streams.retain(|stream| !other(stream));
    }

    /// A stream that does not take what is sent is closed; its device connects anew and is brought up to date.
    pub(super) fn push(&mut self, push: &Push, revision: &AtomicU64) {
        let before = self.streams.len();
        self.streams
            .retain(|stream| stream.sender.try_send(push.clone()).is_ok());
        if self.streams.len() < before {
            self.touch(revision);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::name;
    use crate::fleet::fixture::fleet;

    #[test]
    fn a_further_stream_displaces_nobody() {
        let fleet = fleet(&["pump"]);
        let pump = name("pump");
        let mut open: Vec<_> = (0..limits::STREAMS_PER_DEVICE)
            .map(|_| fleet.open_stream(&pump, None).unwrap())
            .collect();
        assert_eq!(fleet.open_stream(&pump, None).unwrap_err(), NoStream::TooMany);
        fleet.refresh_all(Refresh { timestamp: 1 });
        assert!(open.iter_mut().all(|(_, stream)| stream.try_recv().is_ok()));
        fleet.close_stream(&pump, open[3].0);
        assert!(fleet.open_stream(&pump, None).is_ok());
        assert_eq!(
            fleet.open_stream(&name("x"), None).unwrap_err(),
            NoStream::Unknown
        );
    }
}
