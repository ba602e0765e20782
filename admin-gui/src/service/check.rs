//! Preflight: reads what a person chose, away from the async thread, and says what it is. Nothing is signed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use protocol::control::{JobEnd, JobKind, JobPhase, PreflightReport, PublishOptions};
use protocol::device::Problem;

use crate::desk::Desk;
use crate::draft::{Draft, Options, chain};
use crate::preflight::Preflight;
use crate::service::jobs::Ticket;
use crate::service::state::Service;
use crate::service::{snapshot, words};
use protocol::control::Level;

/// Reads and checks; a client that hangs up meanwhile stops nothing.
pub(super) async fn check(
    service: &Arc<Service>,
    path: PathBuf,
    options: PublishOptions,
) -> Result<PreflightReport, Problem> {
    let desk = service.desk()?;
    let path = whole(path)?;
    let options = understood(options)?;
    let ticket = service.begin(JobKind::Check, name(&path), true)?;
    let service = Arc::clone(service);
    let task = tokio::spawn(async move {
        match checked(&service, &ticket, desk, path, options).await {
            Ok(report) => {
                let text = if report.passes() {
                    format!("{} may be published", report.file_name)
                } else {
                    format!("{} is not to be published like this", report.source.display())
                };
                for refusal in &report.refusals {
                    service.say(Level::Warning, &refusal.id, refusal.text.clone());
                }
                ticket.end(JobEnd::Done {
                    text,
                    warnings: report.unsure.iter().cloned().collect(),
                    update: None,
                });
                Ok(report)
            }
            Err(problem) => {
                fail(&service, &ticket, &problem);
                Err(problem)
            }
        }
    });
    task.await.unwrap_or_else(|_| {
        let message = "the check broke off inside the service: look at its log".to_owned();
        Err(words::of("author.internal", message))
    })
}

/// The end of a job that came to nothing.
pub(super) fn fail(service: &Service, ticket: &Ticket, problem: &Problem) {
    if problem.code == "author.cancelled" {
        service.say(Level::Info, &problem.code, problem.message.clone());
        ticket.end(JobEnd::Cancelled);
    } else {
        service.say(Level::Error, &problem.code, problem.message.clone());
        ticket.end(JobEnd::Failed {
            problem: problem.clone(),
            refusals: Vec::new(),
        });
    }
}

async fn checked(
    service: &Arc<Service>,
    ticket: &Ticket,
    desk: Desk,
    path: PathBuf,
    options: Options,
) -> Result<PreflightReport, Problem> {
    let draft = read(&desk, ticket, path, options).await?;
    ticket.enter(JobPhase::Checking);
    let (found, unsure) = judge(&desk, ticket, &draft).await?;
    let id = service.keep_draft(draft.clone());
    Ok(snapshot::report(id, &draft, &found, unsure))
}

/// Reads to the end.
pub(super) async fn read(
    desk: &Desk,
    ticket: &Ticket,
    path: PathBuf,
    options: Options,
) -> Result<Draft, Problem> {
    ticket.enter(JobPhase::Reading);
    let (desk, sink, stop) = (desk.clone(), ticket.sink(), ticket.stop.clone());
    words::blocking(move || desk.draft_until(&path, &options, &sink, &stop))
        .await?
        .map_err(|error| words::draft(&error))
}

/// Against the repository of now; where it cannot be asked, against what was verified last, and says so.
async fn judge(desk: &Desk, ticket: &Ticket, draft: &Draft) -> Result<(Preflight, Option<String>), Problem> {
    let looked = ticket.stop.or(desk.look()).await;
    let looked = looked.map_err(|error| words::problem("author.cancelled", &error))?;
    match looked {
        Ok(view) => Ok((desk.judged(draft, &view), None)),
        Err(error) => {
            let view = desk
                .remembered()
                .map_err(|error| words::problem("author.trust", &error))?;
            let unsure = format!("checked against what was verified last only: {}", chain(&error));
            Ok((desk.judged(draft, &view), Some(unsure)))
        }
    }
}

/// A path that means the same to this process as to the window.
pub(super) fn whole(path: PathBuf) -> Result<PathBuf, Problem> {
    if path.is_absolute() {
        return Ok(path);
    }
    let message = format!(
        "{:?} is not a whole path: begin with /",
        path.display().to_string()
    );
    Err(words::of("author.file.path", message))
}

/// The file's or folder's own name, for a person.
pub(super) fn name(path: &Path) -> String {
    path.file_name().map_or_else(
        || path.display().to_string(),
        |name| name.to_string_lossy().into_owned(),
    )
}

/// The options, with the words that were typed read.
pub(super) fn understood(options: PublishOptions) -> Result<Options, Problem> {
    let typed = |text: Option<String>| {
        text.map(|text| text.trim().to_owned())
            .filter(|text| !text.is_empty())
    };
    let component = typed(options.component).map(|text| text.parse()).transpose();
    let version = typed(options.version).map(|text| text.parse()).transpose();
    Ok(Options {
        component: component
            .map_err(|error: release::NameError| words::problem("author.option.component", &error))?,
        version: version
            .map_err(|error: release::VersionError| words::problem("author.option.version", &error))?,
        arch: options.arch,
        how: options.how,
        args: options.args,
        health: options.health,
        start_seconds: options.start_seconds,
        probation_seconds: options.probation_seconds,
        description: typed(options.description),
        vendor: typed(options.vendor),
        developer: typed(options.developer),
        license: typed(options.license),
    })
}
