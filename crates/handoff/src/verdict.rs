//! The decision of an update: a register in the kernel that can be written once.
//!
//! It is a memfd whose seals are what counts (fcntl(2), `F_ADD_SEALS`). Seals are added under one lock and never taken away,
//! and `F_SEAL_SEAL` forbids all further ones: whoever adds `F_SEAL_SEAL` first has decided, everyone with the descriptor
//! can read how, and it outlives any of the processes. So the death or the silence of one of them leaves no doubt.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, memfd_create};
use rustix::io::Errno;

use crate::Error;

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The new programs serve: `F_SEAL_GROW`.
    Commit,
    /// The old programs go on: `F_SEAL_SHRINK`.
    Resume,
}

impl Decision {
    fn seals(self) -> SealFlags {
        SealFlags::SEAL
            | match self {
                Self::Commit => SealFlags::GROW,
                Self::Resume => SealFlags::SHRINK,
            }
    }
}

/// One update's decision, shared by its agent and all its programs.
#[derive(Debug)]
pub struct Verdict(OwnedFd);

impl Verdict {
    /// A new one, not yet decided.
    ///
    /// # Errors
    /// The kernel has no memory or descriptor left.
    pub fn new() -> Result<Self, Error> {
        memfd_create("handoff-verdict", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)
            .map(Self)
            .map_err(Error::os("make the verdict"))
    }

    /// One that came with a message.
    ///
    /// # Errors
    /// It is not a memfd.
    pub fn received(fd: OwnedFd) -> Result<Self, Error> {
        fcntl_get_seals(&fd).map_err(Error::os("read the verdict"))?;
        Ok(Self(fd))
    }

    /// What was decided; none: nothing yet.
    ///
    /// # Errors
    /// The descriptor is not a verdict's.
    pub fn read(&self) -> Result<Option<Decision>, Error> {
        let seals = fcntl_get_seals(&self.0).map_err(Error::os("read the verdict"))?;
        Ok(match seals {
            seals if !seals.contains(SealFlags::SEAL) => None,
            seals if seals.contains(SealFlags::GROW) => Some(Decision::Commit),
            _ => Some(Decision::Resume),
        })
    }

    /// Decides, unless somebody has; what holds from now on. Only an agent may decide to commit.
    ///
    /// # Errors
    /// The descriptor is not a verdict's.
    pub fn decide(&self, decision: Decision) -> Result<Decision, Error> {
        match fcntl_add_seals(&self.0, decision.seals()) {
            Ok(()) => Ok(decision),
            // Decided before: no more seals.
            Err(Errno::PERM) => Ok(self.read()?.unwrap_or(Decision::Resume)),
            Err(errno) => Err(Error::os("write the verdict")(errno)),
        }
    }
}

impl AsFd for Verdict {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_who_decide_at_once_one_prevails_and_all_know_it() {
        for _ in 0..50 {
            let verdict = Verdict::new().unwrap();
            assert_eq!(verdict.read().unwrap(), None);
            let held: Vec<Decision> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..8)
                    .map(|number| {
                        let own = Verdict::received(verdict.0.try_clone().unwrap()).unwrap();
                        let wanted = if number % 2 == 0 {
                            Decision::Commit
                        } else {
                            Decision::Resume
                        };
                        scope.spawn(move || own.decide(wanted).unwrap())
                    })
                    .collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            assert!(
                held.iter()
                    .all(|decision| Some(*decision) == verdict.read().unwrap())
            );
        }
    }
}
