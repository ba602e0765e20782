//! Errors as a window gets them: a stable word, and a sentence that says what is wrong, where, and what to do.

use std::error::Error;
use std::path::Path;

use protocol::device::Problem;

use crate::desk::{LookError, UnlockError};
use crate::draft::{DraftError, chain};
use crate::publish::PublishError;
use crate::repository::ClientError;
use crate::roles::RolesError;
use crate::signing::KeyError;
use crate::upload::UploadError;
use crate::visible::VisibleError;

pub(super) fn of(code: &str, message: String) -> Problem {
    Problem {
        code: code.to_owned(),
        message,
    }
}

pub(super) fn problem(code: &str, error: &dyn Error) -> Problem {
    of(code, chain(error))
}

pub(super) fn no_site(dir: &Path) -> Problem {
    let message = format!("there is no site in {} yet: make one first", dir.display());
    of("author.no-site", message)
}

pub(super) fn no_trust(path: &Path) -> Problem {
    let message = format!(
        "what this desk has verified so far, in {}, cannot be read: bring the folder back from its backup",
        path.display()
    );
    of("author.trust", message)
}

/// Runs what may block or take long away from the async thread.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Problem> {
    tokio::task::spawn_blocking(work).await.map_err(|_| {
        let message = "the desk's service failed inside: try again, and look at its log".to_owned();
        of("author.internal", message)
    })
}

pub(super) fn unlock(error: &UnlockError) -> Problem {
    let code = match error {
        UnlockError::Key(error) => return key(error),
        UnlockError::NotTrusted { .. } | UnlockError::NoTeam(_) => "author.key.not-trusted",
        UnlockError::Trust(_) => "author.trust",
    };
    problem(code, error)
}

pub(super) fn key(error: &KeyError) -> Problem {
    let code = match error {
        KeyError::WrongPassphrase(_) => "author.passphrase.wrong",
        KeyError::Missing(_) => "author.key.missing",
        _ => "author.key.unusable",
    };
    problem(code, error)
}

pub(super) fn draft(error: &DraftError) -> Problem {
    let code = match error {
        DraftError::Read { .. } => "author.file.unreadable",
        DraftError::Kind(_) => "author.file.kind",
        DraftError::Changed(_) => "author.file.changed",
        DraftError::Store(_) | DraftError::Disk(_) => "author.disk",
        DraftError::Stopped(_) => "author.cancelled",
    };
    let mut problem = problem(code, error);
    if let DraftError::Read { source, .. } = error {
        let advice = match source.kind() {
            std::io::ErrorKind::NotFound => "is it still there? choose it again",
            std::io::ErrorKind::PermissionDenied => "allow yourself to read it, or choose another",
            _ => "choose it again, or another",
        };
        problem.message = format!("{}: {advice}", problem.message);
    }
    problem
}

pub(super) fn publish(error: &PublishError) -> Problem {
    let code = match error {
        PublishError::Preflight(_) => "author.preflight",
        PublishError::Changed(_) => "author.file.changed",
        PublishError::NotOurs(_) | PublishError::NoTeam => "author.team",
        PublishError::Look(error) => look_code(error),
        PublishError::Sign(RolesError::TooFew { .. }) => "author.signatures",
        PublishError::Sign(_) | PublishError::Random(_) => "author.sign",
        PublishError::Describe(_) => "author.describe",
        PublishError::Upload(error) => match error {
            UploadError::Read { .. } => "author.file.unreadable",
            UploadError::Client(error) => client_code(error),
            UploadError::Different { .. } => "author.file.changed",
            UploadError::Stuck { .. } => "author.upload.stuck",
        },
        PublishError::Visible(VisibleError::Conflict(_)) => "author.conflict",
        PublishError::Visible(VisibleError::Refused(error)) => client_code(error),
        PublishError::Visible(VisibleError::Unknown(_)) => "author.unknown",
        PublishError::Visible(VisibleError::Receipt(_)) => "author.receipt",
        PublishError::NoSuchRelease(_) => "author.release.unknown",
        PublishError::AlreadyWithdrawn(_) => "author.release.withdrawn",
        PublishError::Reason(_) => "author.reason",
        PublishError::Disk(_) => "author.disk",
        PublishError::Stopped(_) => "author.cancelled",
    };
    problem(code, error)
}

pub(super) fn look_code(error: &LookError) -> &'static str {
    match error {
        LookError::Client(error) => client_code(error),
        LookError::Behind { .. } => "author.repository.behind",
        LookError::Expired(_) => "author.repository.expired",
        LookError::Refused { .. } => "author.repository.distrusted",
        LookError::Trust(_) | LookError::Lock(_) | LookError::Disk(_) => "author.trust",
    }
}

pub(super) fn client_code(error: &ClientError) -> &'static str {
    match error {
        ClientError::Address(_) | ClientError::Setup(_) => "author.repository.address",
        ClientError::Untrusted { .. } => "author.repository.certificate",
        ClientError::TooLarge { .. } | ClientError::Malformed { .. } => "author.repository.distrusted",
        ClientError::Refused { .. } if error.is_full() => "author.repository.full",
        ClientError::Refused { .. } => "author.repository.refused",
        ClientError::Unreachable { .. } | ClientError::Broken { .. } | ClientError::Silent { .. } => {
            "author.repository.unreachable"
        }
    }
}
