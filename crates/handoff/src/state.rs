//! A program's state on its way: a versioned blob in a sealed memfd, which nobody can change any more.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, memfd_create};

use crate::{Error, limits};

const SEALED: SealFlags = SealFlags::WRITE
    .union(SealFlags::GROW)
    .union(SealFlags::SHRINK)
    .union(SealFlags::SEAL);

/// What a program knows, in the format that its schema names.
#[derive(Debug)]
pub struct State {
    schema: u32,
    length: u64,
    file: File,
}

impl State {
    /// Copies the bytes of a state.
    ///
    /// # Errors
    /// It is longer than [`limits::STATE`]; there is no memory.
    pub fn new(schema: u32, bytes: &[u8]) -> Result<Self, Error> {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        check(length)?;
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let mut file =
            File::from(memfd_create("handoff-state", flags).map_err(Error::os("make room for the state"))?);
        file.write_all(bytes).map_err(Error::io("write the state"))?;
        fcntl_add_seals(&file, SEALED).map_err(Error::os("seal the state"))?;
        Ok(Self { schema, length, file })
    }

    /// One that came with a message.
    ///
    /// # Errors
    /// It can still be changed, is not as long as it was said to be, or is too long.
    pub fn received(schema: u32, length: u64, fd: OwnedFd) -> Result<Self, Error> {
        check(length)?;
        let seals = fcntl_get_seals(&fd).map_err(Error::os("read the state's seals"))?;
        if !seals.contains(SEALED) {
            return Err(Error::Protocol("the state is not sealed against changes".into()));
        }
        let file = File::from(fd);
        let found = file.metadata().map_err(Error::io("look at the state"))?.len();
        if found != length {
            let told = format!("the state has {found} bytes and was said to have {length}");
            return Err(Error::Protocol(told));
        }
        Ok(Self { schema, length, file })
    }

    /// Version of its format.
    #[must_use]
    pub fn schema(&self) -> u32 {
        self.schema
    }

    /// Bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// A copy of its bytes.
    ///
    /// # Errors
    /// It does not fit in memory.
    pub fn bytes(&self) -> Result<Vec<u8>, Error> {
        let length = usize::try_from(self.length).map_err(|_| Error::TooMuch {
            what: "the state's length in bytes",
            found: self.length,
            limit: limits::STATE,
        })?;
        let mut bytes = vec![0; length];
        // At an offset of its own: the descriptor's is shared with whoever else holds it.
        self.file
            .read_exact_at(&mut bytes, 0)
            .map_err(Error::io("read the state"))?;
        Ok(bytes)
    }
}

impl AsFd for State {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn check(length: u64) -> Result<(), Error> {
    if length > limits::STATE {
        return Err(Error::TooMuch {
            what: "the state's length in bytes",
            found: length,
            limit: limits::STATE,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_comes_out_as_it_went_in_and_cannot_be_changed() {
        let state = State::new(3, b"twelve bytes").unwrap();
        let fd = state.file.try_clone().unwrap();
        assert!(fd.write_at(b"x", 0).is_err());
        let received = State::received(3, 12, fd.into()).unwrap();
        assert_eq!(
            (received.schema(), received.bytes().unwrap()),
            (3, b"twelve bytes".to_vec())
        );
    }

    #[test]
    fn a_state_that_can_still_change_or_has_another_length_is_not_taken() {
        let open = memfd_create("open", MemfdFlags::ALLOW_SEALING).unwrap();
        assert!(matches!(State::received(1, 0, open), Err(Error::Protocol(_))));
        let state = State::new(1, b"abc").unwrap();
        assert!(matches!(
            State::received(1, 4, state.file.into()),
            Err(Error::Protocol(_))
        ));
    }
}
