//! Requests and their answers.

use std::sync::Arc;

use control::Reply;
use protocol::control::{AuthorEvent, AuthorRequest};
use tokio::sync::{broadcast, mpsc};

use crate::service::state::Service;
use crate::service::{check, looking_back, wizard, work};

/// Answers one request.
pub(super) async fn answer(service: Arc<Service>, request: AuthorRequest) -> Reply {
    service.touch();
    match request {
        AuthorRequest::Status => Reply::of(Ok(service.status())),
        AuthorRequest::Refresh => {
            service.refresh().await;
            Reply::of(Ok(service.status()))
        }
        AuthorRequest::Preflight { path, options } => Reply::of(check::check(&service, path, *options).await),
        AuthorRequest::Rehearse { path, from } => Reply::of(work::rehearse(&service, (path, from))),
        AuthorRequest::Unlock {
            passphrase,
            keep_minutes,
        } => Reply::of(service.unlock(passphrase, keep_minutes).await),
        AuthorRequest::Lock => {
            service.lock_key();
            Reply::of(Ok(()))
        }
        AuthorRequest::Publish { what, passphrase } => {
            Reply::of(work::publish(&service, what, passphrase).await)
        }
        AuthorRequest::Withdraw {
            component,
            version,
            reason,
            passphrase,
        } => Reply::of(work::withdraw(&service, (component, version), reason, passphrase).await),
        AuthorRequest::Renew { what, passphrase } => Reply::of(work::renew(&service, what, passphrase).await),
        AuthorRequest::Recover => Reply::of(work::recover(&service)),
        AuthorRequest::Cancel { job } => Reply::of(Ok(service.cancel(job).await)),
        AuthorRequest::History { last } => Reply::of(looking_back::history(&service, last).await),
        AuthorRequest::Fleet { after, limit } => Reply::of(looking_back::fleet(&service, after, limit).await),
        AuthorRequest::Latencies { releases } => Reply::of(looking_back::latencies(&service, releases).await),
        AuthorRequest::Init { site, passphrase } => {
            Reply::of(wizard::make(&service, *site, passphrase).await)
        }
        AuthorRequest::Watch => Reply::Stream(watch(service)),
    }
}

/// The whole picture, what is kept, then everything as it happens; a watcher that is too slow loses some and gets
/// the whole picture again.
fn watch(service: Arc<Service>) -> mpsc::Receiver<serde_json::Value> {
    let (sender, receiver) = mpsc::channel(64);
    let (kept, mut coming) = service.journal.watch();
    // One who comes after a long time wants news.
    service.wake.notify_one();
    tokio::spawn(async move {
        let begin = picture(&service).into_iter().chain(kept);
        for event in begin {
            if send(&sender, &event).await.is_err() {
                return;
            }
        }
        loop {
            let event = tokio::select! {
                () = sender.closed() => return,
                event = coming.recv() => event,
            };
            let events = match event {
                Ok(event) => vec![event],
                Err(broadcast::error::RecvError::Lagged(_)) => picture(&service),
                Err(broadcast::error::RecvError::Closed) => return,
            };
            for event in events {
                if send(&sender, &event).await.is_err() {
                    return;
                }
            }
        }
    });
    receiver
}

fn picture(service: &Service) -> Vec<AuthorEvent> {
    vec![AuthorEvent::Status(Box::new(service.status()))]
}

async fn send(sender: &mpsc::Sender<serde_json::Value>, event: &AuthorEvent) -> Result<(), ()> {
    let value = serde_json::to_value(event).map_err(drop)?;
    sender.send(value).await.map_err(drop)
}
