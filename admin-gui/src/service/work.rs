//! Publish, withdraw, renew, recover: started by a request that is answered at once, gone on with by themselves.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;

use protocol::Secret;
use protocol::control::{JobEnd, JobKind, JobPhase, JobStatus, PublishWhat, RenewWhat};
use protocol::device::Problem;
use release::{Component, Version};

use crate::desk::{Desk, Unlocked};
use crate::draft::{Draft, Options, chain};
use crate::limits::REHEARSAL;
use crate::maintain::{HandedBack, RenewError, Renewal};
use crate::publish::{PublishError, Published};
use crate::rehearse::{Asked, Hears, RehearseError};
use crate::service::check::{fail, name, read, understood, whole};
use crate::service::jobs::Ticket;
use crate::service::key::take;
use crate::service::state::Service;
use crate::service::{snapshot, words};
use protocol::control::Level;

/// What is to be published, found or still to be read.
enum Source {
    Draft(Box<Draft>),
    File(PathBuf, Box<Options>),
}

pub(super) async fn publish(
    service: &Arc<Service>,
    what: PublishWhat,
    passphrase: Option<Secret>,
) -> Result<JobStatus, Problem> {
    let desk = service.desk()?;
    service.jobs.check_free()?;
    let (source, subject) = match what {
        PublishWhat::Draft(id) => {
            let draft = service.draft(id).ok_or_else(|| {
                let message = "this check is too long ago: choose the file again".to_owned();
                words::of("author.draft.unknown", message)
            })?;
            let subject = subject(&draft);
            (Source::Draft(Box::new(draft)), subject)
        }
        PublishWhat::File { path, options } => {
            let (path, options) = (whole(path)?, understood(*options)?);
            let subject = name(&path);
            (Source::File(path, Box::new(options)), subject)
        }
    };
    let unlocked = service.key_for(desk, passphrase).await?;
    start(
        service,
        JobKind::Publish,
        subject,
        true,
        move |ticket| async move {
            let draft = match source {
                Source::Draft(draft) => *draft,
                Source::File(path, options) => read(&unlocked.desk, &ticket, path, *options)
                    .await
                    .map_err(Failure::Problem)?,
            };
            let published = unlocked
                .publish_until(&draft, &ticket.sink(), &ticket.stop)
                .await?;
            Ok(done(&format!("{} is published", subject_of(&draft)), published))
        },
    )
}

fn subject(draft: &Draft) -> String {
    subject_of(draft)
}

/// `heater 1.0.0`, or the file's name while that is not known.
fn subject_of(draft: &Draft) -> String {
    match (&draft.component, &draft.version) {
        (Some(component), Some(version)) => format!("{component} {version}"),
        _ => name(&draft.source),
    }
}

pub(super) async fn withdraw(
    service: &Arc<Service>,
    (component, version): (Component, Version),
    reason: String,
    passphrase: Option<Secret>,
) -> Result<JobStatus, Problem> {
    let desk = service.desk()?;
    service.jobs.check_free()?;
    let characters = reason.chars().count();
    if reason.trim().is_empty() || characters > protocol::limits::MAX_REASON {
        return Err(words::publish(&PublishError::Reason(characters)));
    }
    let unlocked = service.key_for(desk, passphrase).await?;
    let subject = format!("{component} {version}");
    start(
        service,
        JobKind::Withdraw,
        subject.clone(),
        false,
        move |ticket| async move {
            let sink = ticket.sink();
            let published = unlocked.withdraw(&component, &version, &reason, &sink).await?;
            Ok(done(&format!("{subject} is withdrawn"), published))
        },
    )
}

pub(super) async fn renew(
    service: &Arc<Service>,
    what: RenewWhat,
    passphrase: Secret,
) -> Result<JobStatus, Problem> {
    let desk = service.desk()?;
    service.jobs.check_free()?;
    let unlocked: Unlocked = service.key_for(desk, Some(passphrase.clone())).await?;
    let passphrase = take(&passphrase)?;
    let (what, text) = match what {
        RenewWhat::All => (Renewal::All, "root and targets"),
        RenewWhat::Root => (Renewal::Root, "the root"),
        RenewWhat::Targets => (Renewal::Targets, "the targets role"),
    };
    start(
        service,
        JobKind::Renew,
        text.to_owned(),
        false,
        move |_| async move {
            let published = unlocked.renew(what, &passphrase).await?;
            Ok(done(
                &format!("{text}: signed again with a later expiry"),
                published,
            ))
        },
    )
}

pub(super) fn recover(service: &Arc<Service>) -> Result<JobStatus, Problem> {
    let desk = service.desk()?;
    let subject = "the repository".to_owned();
    let again = Arc::clone(service);
    start(
        service,
        JobKind::Recover,
        subject,
        true,
        move |ticket| async move {
            let sink = ticket.sink();
            let recovering = desk.recover(&sink);
            let handed = ticket.stop.or(recovering).await.map_err(PublishError::from)?;
            let handed =
                handed.map_err(|error| Failure::Problem(words::problem("author.recover", &error)))?;
            again.forget_reports();
            Ok(told(&handed))
        },
    )
}

/// Tries an update here; no site and no key are needed.
pub(super) fn rehearse(
    service: &Arc<Service>,
    (path, from): (PathBuf, PathBuf),
) -> Result<JobStatus, Problem> {
    let asked = Asked {
        new: whole(path)?,
        old: whole(from)?,
        device: service.setup.device.clone(),
        data: None,
        env: Vec::new(),
        limit: REHEARSAL,
        keep: false,
    };
    let (subject, senses) = (name(&asked.new), service.setup.senses.clone());
    start(
        service,
        JobKind::Rehearse,
        subject,
        true,
        move |ticket| async move {
            ticket.enter(JobPhase::Rehearsing);
            let told = Arc::clone(&ticket);
            let hears: Hears = Arc::new(move |finding| told.found(finding));
            let found = crate::rehearse::rehearse(&asked, &senses, &hears, &ticket.stop).await;
            let found = found.map_err(|error| {
                let code = match error {
                    RehearseError::Stopped(_) => "author.cancelled",
                    _ => "author.rehearsal",
                };
                Failure::Problem(words::problem(code, &error))
            })?;
            let versions = format!("{} {} to {}", found.component, found.old, found.new);
            if found.is_bad() {
                let message = format!("{versions}: the rehearsal found what must not happen on a device");
                return Err(Failure::Problem(words::of("author.rehearsal.bad", message)));
            }
            Ok(JobEnd::Done {
                text: format!("{versions} is rehearsed: nothing speaks against it"),
                warnings: Vec::new(),
                update: None,
            })
        },
    )
}

fn done(text: &str, published: Published) -> JobEnd {
    JobEnd::Done {
        text: text.to_owned(),
        warnings: published.warnings,
        update: published.update,
    }
}

fn told(handed: &HandedBack) -> JobEnd {
    let mut warnings = Vec::new();
    if !handed.missing.is_empty() {
        let count = handed.missing.len();
        warnings.push(format!(
            "{count} files are still missing there: a gateway's mirror may have them"
        ));
    }
    JobEnd::Done {
        text: format!(
            "the repository serves targets version {} now; {} files were handed back",
            handed.targets,
            handed.files.len()
        ),
        warnings,
        update: None,
    }
}

/// Why a job came to nothing.
enum Failure {
    Problem(Problem),
    Publish(Box<PublishError>),
}

impl From<PublishError> for Failure {
    fn from(error: PublishError) -> Self {
        Self::Publish(Box::new(error))
    }
}

impl From<RenewError> for Failure {
    fn from(error: RenewError) -> Self {
        match error {
            RenewError::Key(error) => Self::Problem(words::key(&error)),
            RenewError::Publish(error) => error.into(),
        }
    }
}

/// Begins a job that goes on by itself.
fn start<F>(
    service: &Arc<Service>,
    kind: JobKind,
    subject: String,
    can_cancel: bool,
    work: impl FnOnce(Arc<Ticket>) -> F,
) -> Result<JobStatus, Problem>
where
    F: Future<Output = Result<JobEnd, Failure>> + Send + 'static,
{
    let ticket = Arc::new(service.begin(kind, subject, can_cancel)?);
    let status = ticket.status().ok_or_else(|| {
        let message = "the job ended before it began: look at the service's log".to_owned();
        words::of("author.internal", message)
    })?;
    let service = Arc::clone(service);
    let work = work(Arc::clone(&ticket));
    tokio::spawn(async move {
        let outcome = work.await;
        service.close(&ticket, outcome).await;
    });
    Ok(status)
}

impl Service {
    async fn close(self: &Arc<Self>, ticket: &Ticket, outcome: Result<JobEnd, Failure>) {
        // What the job has verified itself is shown at once; the repository is asked again right afterwards.
        if let Ok(desk) = self.desk() {
            self.show_remembered(desk).await;
        }
        match outcome {
            Ok(end) => {
                if let JobEnd::Done { text, warnings, .. } = &end {
                    self.say(Level::Info, "author.job.done", text.clone());
                    for warning in warnings {
                        self.say(Level::Warning, "author.job.warning", warning.clone());
                    }
                }
                ticket.enter(JobPhase::Published);
                ticket.end(end);
            }
            Err(Failure::Problem(problem)) => fail(self, ticket, &problem),
            Err(Failure::Publish(error)) => match &*error {
                PublishError::Preflight(found) => {
                    let refusals = snapshot::refusals(found);
                    for refusal in &refusals {
                        self.say(Level::Warning, &refusal.id, refusal.text.clone());
                    }
                    let problem = words::of("author.preflight", chain(&*error));
                    ticket.end(JobEnd::Failed { problem, refusals });
                }
                other => fail(self, ticket, &words::publish(other)),
            },
        }
        self.wake.notify_one();
    }

    async fn show_remembered(self: &Arc<Self>, desk: Desk) {
        if let Ok(view) = desk.remembered() {
            self.take_view(desk, view).await;
        }
    }
}
