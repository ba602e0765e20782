//! The local control socket: status and backup.

use std::sync::Arc;

use control::Reply;
use protocol::control::RepositoryRequest;
use protocol::device::Problem;

use crate::refusal::chain;
use crate::{Refusal, Repository};

/// Answers one request.
pub(crate) async fn answer(repository: Arc<Repository>, request: RepositoryRequest) -> Reply {
    let done = tokio::task::spawn_blocking(move || match request {
        RepositoryRequest::Status => Reply::of(repository.status().map_err(problem)),
        RepositoryRequest::Backup { path } => Reply::of(repository.backup(&path).map_err(problem)),
    });
    done.await.unwrap_or_else(|_| {
        let message = "the request could not be carried out".to_owned();
        Reply::of::<()>(Err(Problem {
            code: "internal".to_owned(),
            message,
        }))
    })
}

/// Whoever controls the program may know the inner cause.
fn problem(refusal: Refusal) -> Problem {
    let code = refusal.class().0.to_owned();
    let message = match refusal {
        Refusal::Internal(error) => format!("{error:#}"),
        other => chain(&other),
    };
    Problem { code, message }
}
