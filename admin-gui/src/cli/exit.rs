//! What the exit code says.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | anything that has no code of its own |
//! | 2 | the words or the settings are not understood |
//! | 3 | refused by a check; nothing was tried |
//! | 4 | passphrase or key |
//! | 5 | the repository was not reached |
//! | 6 | the repository refused, or somebody was faster |
//! | 7 | this machine's disk |
//! | 8 | what the repository shows is not to be trusted |

use std::error::Error;

use crate::ceremony::{ChangeError, DraftError as RootDraftError, RootError};
use crate::cosign::CosignError;
use crate::desk::{DeskError, LookError, UnlockError};
use crate::draft::DraftError;
use crate::forecast::ForecastError;
use crate::init::InitError;
use crate::keyring::{NewKeyError, PublicFileError};
use crate::maintain::{RecoverError, RenewError};
use crate::package::PackFileError;
use crate::passphrase::PassphraseError;
use crate::publish::PublishError;
use crate::rehearse::RehearseError;
use crate::repository::ClientError;
use crate::roles::RolesError;
use crate::signing::KeyError;
use crate::team::TeamError;
use crate::upload::UploadError;
use crate::visible::VisibleError;

const WORDS: u8 = 2;
const CHECK: u8 = 3;
const KEY: u8 = 4;
const UNREACHED: u8 = 5;
const REFUSED: u8 = 6;
const DISK: u8 = 7;
const DISTRUST: u8 = 8;

/// The code for an error.
pub(super) fn code(error: &anyhow::Error) -> u8 {
    error.chain().find_map(of).unwrap_or(1)
}

fn of(cause: &(dyn Error + 'static)) -> Option<u8> {
    None.or_else(|| cause.downcast_ref().map(publish))
        .or_else(|| cause.downcast_ref().map(unlock))
        .or_else(|| cause.downcast_ref().map(desk))
        .or_else(|| cause.downcast_ref().map(look))
        .or_else(|| cause.downcast_ref().map(client))
        .or_else(|| cause.downcast_ref().map(recover))
        .or_else(|| cause.downcast_ref().map(init))
        .or_else(|| match cause.downcast_ref()? {
            RenewError::Key(_) => Some(KEY),
            RenewError::Publish(error) => Some(publish(error)),
        })
        .or_else(|| cause.downcast_ref().map(root))
        .or_else(|| cause.downcast_ref().map(root_draft))
        .or_else(|| cause.downcast_ref().map(cosign))
        .or_else(|| cause.downcast_ref().map(new_key))
        .or_else(|| cause.downcast_ref().map(team))
        .or_else(|| cause.is::<ChangeError>().then_some(CHECK))
        .or_else(|| cause.is::<PublicFileError>().then_some(KEY))
        .or_else(|| cause.is::<super::Trouble>().then_some(UNREACHED))
        .or_else(|| (cause.is::<PassphraseError>() || cause.is::<KeyError>()).then_some(KEY))
        .or_else(|| cause.is::<super::package::Refused>().then_some(CHECK))
        .or_else(|| cause.is::<super::package::Bad>().then_some(CHECK))
        .or_else(|| match cause.downcast_ref()? {
            RehearseError::Unfit { .. } | RehearseError::NotHere | RehearseError::Stopped(_) => Some(CHECK),
            RehearseError::NoDevice => Some(WORDS),
            RehearseError::Draft(_) | RehearseError::Disk(_) => Some(DISK),
            RehearseError::Run { .. } | RehearseError::Silent { .. } | RehearseError::Site(_) => None,
        })
        .or_else(|| match cause.downcast_ref()? {
            PackFileError::Folder(_) => Some(CHECK),
            PackFileError::Write { .. } => Some(DISK),
        })
        .or_else(|| match cause.downcast_ref()? {
            ForecastError::Draft(_) | ForecastError::Read(_) => Some(DISK),
            ForecastError::Unknown(_) | ForecastError::Other { .. } | ForecastError::Facts { .. } => {
                Some(CHECK)
            }
        })
        .or_else(|| cause.is::<DraftError>().then_some(DISK))
        .or_else(|| (cause.is::<durable::Error>() || cause.is::<durable::TrustError>()).then_some(DISK))
}

fn publish(error: &PublishError) -> u8 {
    match error {
        PublishError::Preflight(_)
        | PublishError::Changed(_)
        | PublishError::NoSuchRelease(_)
        | PublishError::AlreadyWithdrawn(_)
        | PublishError::NotOurs(_)
        | PublishError::NoTeam
        | PublishError::Reason(_)
        | PublishError::Stopped(_)
        | PublishError::Describe(_)
        | PublishError::Sign(RolesError::TooFew { .. }) => CHECK,
        PublishError::Look(error) => look(error),
        PublishError::Sign(_) | PublishError::Random(_) => KEY,
        PublishError::Upload(error) => upload(error),
        PublishError::Visible(VisibleError::Conflict(_)) => REFUSED,
        PublishError::Visible(VisibleError::Refused(error) | VisibleError::Unknown(error)) => client(error),
        PublishError::Visible(VisibleError::Receipt(_)) => DISTRUST,
        PublishError::Disk(_) => DISK,
    }
}

fn root(error: &RootError) -> u8 {
    match error {
        RootError::Draft(error) => root_draft(error),
        RootError::NoTargetsKey { .. } => KEY,
        RootError::Publish(error) => publish(error),
    }
}

fn root_draft(error: &RootDraftError) -> u8 {
    match error {
        RootDraftError::Missing(_) | RootDraftError::Order { .. } | RootDraftError::Unfinished { .. } => {
            CHECK
        }
        RootDraftError::File(_) => DISK,
        RootDraftError::NotARoot { .. } => DISTRUST,
        RootDraftError::Foreign { .. } | RootDraftError::Sign(_) => KEY,
    }
}

fn cosign(error: &CosignError) -> u8 {
    match error {
        CosignError::Exists(_)
        | CosignError::Stale { .. }
        | CosignError::Ahead { .. }
        | CosignError::Done(_)
        | CosignError::Strange { .. }
        | CosignError::Unsigned(_)
        | CosignError::Unfinished { .. }
        | CosignError::NoFile { .. }
        | CosignError::OtherFile { .. }
        | CosignError::NeedsNoFile(_) => CHECK,
        CosignError::File { .. } => DISK,
        CosignError::Root(error) => root_draft(error),
        CosignError::NotAList { .. } | CosignError::NotVerified(_) | CosignError::Altered { .. } => DISTRUST,
        CosignError::Foreign { .. } | CosignError::Sign(_) | CosignError::Roles(_) => KEY,
        CosignError::Publish(error) => publish(error),
    }
}

fn new_key(error: &NewKeyError) -> u8 {
    match error {
        NewKeyError::Exists(_) => CHECK,
        NewKeyError::Passphrase(_) | NewKeyError::Key(_) => KEY,
        NewKeyError::Disk(_) => DISK,
    }
}

fn team(error: &TeamError) -> u8 {
    match error {
        TeamError::Exists(_)
        | TeamError::NotATeam { .. }
        | TeamError::Unseen(_)
        | TeamError::NotATeamsDesk
        | TeamError::Taken { .. }
        | TeamError::Used(_)
        | TeamError::Unknown(_)
        | TeamError::NotTheAuthor(_) => CHECK,
        TeamError::NewKey(error) => new_key(error),
        TeamError::Passphrase(_) | TeamError::Key(_) | TeamError::Roles(_) | TeamError::Certificate(_) => KEY,
        TeamError::Trust(_) | TeamError::Disk(_) => DISK,
        TeamError::Toml(_) => WORDS,
        TeamError::Publish(error) => publish(error),
    }
}

fn unlock(error: &UnlockError) -> u8 {
    match error {
        UnlockError::Key(_) | UnlockError::NotTrusted { .. } | UnlockError::NoTeam(_) => KEY,
        UnlockError::Trust(_) => DISK,
    }
}

fn desk(error: &DeskError) -> u8 {
    match error {
        DeskError::Config(_) => WORDS,
        DeskError::Tls(_) => KEY,
        DeskError::Client(error) => client(error),
        DeskError::Trust(_) => DISK,
    }
}

fn look(error: &LookError) -> u8 {
    match error {
        LookError::Client(error) => client(error),
        LookError::Behind { .. } | LookError::Expired(_) | LookError::Refused { .. } => DISTRUST,
        LookError::Trust(_) | LookError::Lock(_) | LookError::Disk(_) => DISK,
    }
}

fn upload(error: &UploadError) -> u8 {
    match error {
        UploadError::Client(error) => client(error),
        UploadError::Read { .. } => DISK,
        UploadError::Different { .. } | UploadError::Stuck { .. } => REFUSED,
    }
}

fn recover(error: &RecoverError) -> u8 {
    match error {
        RecoverError::Nothing => CHECK,
        RecoverError::Client(error) => client(error),
        RecoverError::Upload(error) => upload(error),
        RecoverError::Trust(_) | RecoverError::Disk(_) => DISK,
    }
}

fn init(error: &InitError) -> u8 {
    match error {
        InitError::Exists(_) | InitError::NoName(_) => CHECK,
        InitError::Passphrase(_) | InitError::Key(_) | InitError::Certificate(_) | InitError::Roles(_) => KEY,
        InitError::Trust(_) | InitError::Disk(_) => DISK,
        InitError::Toml(_) => WORDS,
    }
}

fn client(error: &ClientError) -> u8 {
    match error {
        ClientError::Address(_) | ClientError::Setup(_) => WORDS,
        ClientError::Refused { .. } if !error.is_passing() => REFUSED,
        ClientError::TooLarge { .. } | ClientError::Malformed { .. } => DISTRUST,
        _ => UNREACHED,
    }
}
