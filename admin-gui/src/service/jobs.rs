//! Work that takes a while, one at a time: its progress for everybody who watches, and its end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use protocol::Step;
use protocol::control::{AuthorEvent, CancelResult, Finding, JobEnd, JobKind, JobPhase, JobStatus};
use protocol::device::Problem;
use protocol::messages;
use tokio::sync::watch;

use crate::limits::{CANCEL, PROGRESS};
use crate::progress::{Progress, Sink};
use crate::service::state::{Service, locked};
use crate::service::words;
use crate::stop::Stop;
use protocol::control::Level;

/// The job that runs and the one that ran last.
pub(super) struct Jobs {
    inner: Mutex<Inner>,
    /// The number of the job that ended last.
    ended: watch::Sender<u64>,
}

impl Default for Jobs {
    fn default() -> Self {
        Self {
            inner: Mutex::default(),
            ended: watch::Sender::new(0),
        }
    }
}

#[derive(Default)]
struct Inner {
    count: u64,
    running: Option<Running>,
    last: Option<JobStatus>,
}

struct Running {
    status: JobStatus,
    stop: Stop,
    told: Instant,
}

impl Running {
    fn snapshot(&self) -> JobStatus {
        let mut status = self.status.clone();
        status.can_cancel =
            self.stop.is_open() && !matches!(status.phase, JobPhase::Publishing | JobPhase::Published);
        status
    }
}

impl Jobs {
    /// What runs, and what ran last.
    pub(super) fn both(&self) -> (Option<JobStatus>, Option<JobStatus>) {
        let inner = locked(&self.inner);
        (inner.running.as_ref().map(Running::snapshot), inner.last.clone())
    }

    pub(super) fn is_running(&self) -> bool {
        locked(&self.inner).running.is_some()
    }

    /// Nothing runs.
    pub(super) fn check_free(&self) -> Result<(), Problem> {
        match &locked(&self.inner).running {
            Some(running) => Err(busy(&running.status)),
            None => Ok(()),
        }
    }
}

fn busy(running: &JobStatus) -> Problem {
    let what = match running.kind {
        JobKind::Check => "is being checked",
        JobKind::Publish => "is being published",
        JobKind::Withdraw => "is being withdrawn",
        JobKind::Renew => "are being renewed",
        JobKind::Recover => "is being helped",
        JobKind::Init => "is being made",
        JobKind::Rehearse => "is being rehearsed",
    };
    let message = format!("{} {what}: wait for its end, or cancel it", running.subject);
    words::of("author.busy", message)
}

/// The right to work; without an end by its holder the job has failed.
pub(super) struct Ticket {
    service: Arc<Service>,
    id: u64,
    pub(super) stop: Stop,
    is_over: AtomicBool,
}

impl Service {
    /// Begins a job; `can_cancel`: whether a person may end it at all.
    pub(super) fn begin(
        self: &Arc<Self>,
        kind: JobKind,
        subject: String,
        can_cancel: bool,
    ) -> Result<Ticket, Problem> {
        let stop = Stop::default();
        if !can_cancel {
            // A new handle is open: this cannot fail.
            let _ = stop.last();
        }
        let mut inner = locked(&self.jobs.inner);
        if let Some(running) = &inner.running {
            return Err(busy(&running.status));
        }
        inner.count += 1;
        let id = inner.count;
        let running = Running {
            status: JobStatus {
                id,
                kind,
                subject,
                phase: JobPhase::Starting,
                done: 0,
                total: 0,
                started: self.now(),
                trouble: None,
                can_cancel,
                end: None,
                findings: Vec::new(),
            },
            stop: stop.clone(),
            told: Instant::now(),
        };
        let status = running.snapshot();
        inner.running = Some(running);
        drop(inner);
        self.journal.tell(AuthorEvent::Job(status));
        Ok(Ticket {
            service: Arc::clone(self),
            id,
            stop,
            is_over: AtomicBool::new(false),
        })
    }

    /// Changes the job; told at once when it is in a new phase or `is_news`, else not too often.
    fn move_job(&self, id: u64, is_news: bool, change: impl FnOnce(&mut JobStatus)) {
        let mut inner = locked(&self.jobs.inner);
        let Some(running) = inner.running.as_mut().filter(|running| running.status.id == id) else {
            return;
        };
        let before = running.status.phase;
        change(&mut running.status);
        let is_new = running.status.phase != before;
        if is_new || is_news || running.told.elapsed() >= PROGRESS {
            running.told = Instant::now();
            let status = running.snapshot();
            // Under the lock, so that nobody sees a job go backwards.
            self.journal.tell(AuthorEvent::Job(status));
        }
    }

    fn end_job(&self, id: u64, end: JobEnd) {
        let mut inner = locked(&self.jobs.inner);
        let Some(running) = inner.running.take_if(|running| running.status.id == id) else {
            return;
        };
        let mut status = running.snapshot();
        status.phase = JobPhase::Ended;
        status.can_cancel = false;
        status.trouble = None;
        status.end = Some(end);
        inner.last = Some(status.clone());
        self.journal.tell(AuthorEvent::Job(status));
        drop(inner);
        self.jobs.ended.send_replace(id);
        self.tell_status();
    }

    fn hear(&self, id: u64, news: &Progress) {
        match news {
            Progress::Reading { done, total } => self.bytes(id, JobPhase::Reading, *done, *total),
            Progress::Uploading { done, total } => self.bytes(id, JobPhase::Uploading, *done, *total),
            Progress::Step(event) => {
                self.journal.tell(AuthorEvent::Step((**event).clone()));
                if let Some(phase) = after(event.step) {
                    self.enter(id, phase);
                }
            }
            Progress::Message { id, text } => {
                let is_bad = [messages::SIGN_FAILED.id, messages::UPLOAD_FAILED.id].contains(id);
                let level = if is_bad { Level::Error } else { Level::Info };
                self.say(level, id, text.clone());
            }
            Progress::Trouble(text) => {
                self.say(Level::Warning, "author.trouble", text.clone());
                self.move_job(id, true, |job| job.trouble = Some(text.clone()));
            }
        }
    }

    fn bytes(&self, id: u64, phase: JobPhase, done: u64, total: u64) {
        self.move_job(id, done == total, |job| {
            if done > job.done {
                job.trouble = None;
            }
            (job.phase, job.done, job.total) = (phase, done, total);
        });
    }

    fn enter(&self, id: u64, phase: JobPhase) {
        self.move_job(id, false, |job| {
            (job.phase, job.done, job.total) = (phase, 0, 0);
        });
    }

    /// Ends a job if it can still be ended, and waits a while for its end.
    pub(super) async fn cancel(&self, job: Option<u64>) -> CancelResult {
        let found = {
            let inner = locked(&self.jobs.inner);
            let running = inner.running.as_ref();
            running
                .filter(|running| job.is_none_or(|job| job == running.status.id))
                .map(|running| (running.status.id, running.stop.stop()))
        };
        let Some((id, _)) = found else {
            return CancelResult {
                ended: false,
                text: "nothing is running any more: see its end".to_owned(),
            };
        };
        self.ended(id, CANCEL).await;
        let (running, last) = self.jobs.both();
        let end = last.filter(|last| last.id == id).and_then(|last| last.end);
        let text = match (&end, running) {
            (Some(JobEnd::Cancelled), _) => {
                "ended; nothing of it is visible. Bytes that have arrived wait at the repository for the next try"
            }
            (Some(JobEnd::Done { .. }), _) => {
                "too late: it is done. A release that must not run can be withdrawn"
            }
            (Some(JobEnd::Failed { .. }), _) => "it had failed already: nothing of it is visible",
            (None, _) => {
                "too late: its last request is out, the end shows in a moment. A release that must not run can be \
                 withdrawn then"
            }
        };
        CancelResult {
            ended: end == Some(JobEnd::Cancelled),
            text: text.to_owned(),
        }
    }

    async fn ended(&self, id: u64, patience: Duration) {
        let mut ended = self.jobs.ended.subscribe();
        // Whether it ended in time shows in what is known of it.
        let _ = tokio::time::timeout(patience, ended.wait_for(|last| *last >= id)).await;
    }

    /// For the end of the service: what can be undone is ended, what cannot is waited for.
    pub(super) async fn end_jobs(&self, patience: Duration) {
        let running = {
            let inner = locked(&self.jobs.inner);
            let running = inner.running.as_ref();
            running.map(|running| (running.status.id, running.stop.stop()))
        };
        if let Some((id, _)) = running {
            self.ended(id, patience).await;
        }
    }
}

/// The phase that begins with a step.
fn after(step: Step) -> Option<JobPhase> {
    Some(match step {
        Step::Clicked => JobPhase::Checking,
        Step::Preflighted => JobPhase::Signing,
        Step::Signed => JobPhase::Uploading,
        Step::Uploaded | Step::Withdrawn => JobPhase::Publishing,
        Step::Published => JobPhase::Published,
        _ => return None,
    })
}

impl Ticket {
    /// Who is told how far it is.
    pub(super) fn sink(&self) -> Sink {
        let (service, id) = (Arc::clone(&self.service), self.id);
        Arc::new(move |news| service.hear(id, news))
    }

    /// The job as it is now.
    pub(super) fn status(&self) -> Option<JobStatus> {
        let (running, last) = self.service.jobs.both();
        running.or(last).filter(|job| job.id == self.id)
    }

    pub(super) fn enter(&self, phase: JobPhase) {
        self.service.enter(self.id, phase);
    }

    /// A rehearsal has found something.
    pub(super) fn found(&self, finding: &Finding) {
        let change = |job: &mut JobStatus| job.findings.push(finding.clone());
        self.service.move_job(self.id, true, change);
    }

    /// The first end counts.
    pub(super) fn end(&self, end: JobEnd) {
        if self.is_over.swap(true, Ordering::AcqRel) {
            return;
        }
        self.service.end_job(self.id, end);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !*self.is_over.get_mut() {
            let message = "it broke off inside the service: look at its log".to_owned();
            let problem = words::of("author.internal", message);
            let refusals = Vec::new();
            self.service
                .end_job(self.id, JobEnd::Failed { problem, refusals });
        }
    }
}
