//! What the control socket answers: the gateway's windows and command lines are its clients.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use control::Reply;
use protocol::control::{
    AddedDevice, CheckResult, DownloadEntry, ListChange, ListEntry, ManagerEvent, ManagerRequest,
    ManagerStatus, Quarantine, ReleaseRow,
};
use protocol::device::{Activate, Problem, Unmet};
use protocol::limits::MAX_REASON;
use protocol::messages::{self, Message};
use protocol::{Name, Secret};
use release::{Component, Version};
use rusqlite::{OptionalExtension as _, params};
use std::sync::PoisonError;
use tokio::sync::{broadcast, mpsc};

use crate::catalog::Offer;
use crate::fleet::{Enrolment, NoWaiting, Push};
use crate::gateway::Gateway;
use crate::repository::Repository;
use crate::{backup, downloader, enroll, limits};
use protocol::control::Level;

/// Answers one request.
pub(crate) async fn answer(
    gateway: Arc<Gateway>,
    repositories: Arc<Vec<Repository>>,
    request: ManagerRequest,
) -> Reply {
    match request {
        ManagerRequest::Status => Reply::of(Ok(status(&gateway))),
        ManagerRequest::Devices => Reply::of(Ok(gateway.fleet.rows())),
        ManagerRequest::DevicesSince { generation, revision } => {
            Reply::of(Ok(gateway.fleet.since(generation, revision)))
        }
        ManagerRequest::AddDevice { name, password } => Reply::of(add(&gateway, name, password).await),
        ManagerRequest::NewCode { name, password } => Reply::of(code(&gateway, name, password).await),
        ManagerRequest::DeleteDevice { name, password } => Reply::of(delete(&gateway, name, password).await),
        ManagerRequest::Quarantine { name, reason } => Reply::of(quarantine(&gateway, name, reason).await),
        ManagerRequest::Readmit { name } => Reply::of(readmit(&gateway, name).await),
        ManagerRequest::Start => Reply::of(switch(&gateway, true)),
        ManagerRequest::Stop => Reply::of(switch(&gateway, false)),
        ManagerRequest::CheckNow => {
            let checked = downloader::check(&gateway, &repositories).await;
            Reply::of(Ok(match checked {
                Ok(found) => CheckResult {
                    changed: found.changed,
                    message: found.message,
                    failed: found.failed,
                },
                Err(message) => CheckResult {
                    changed: false,
                    message,
                    failed: true,
                },
            }))
        }
        ManagerRequest::Resume { component, version } => {
            Reply::of(resume(&gateway, &component, &version).await)
        }
        ManagerRequest::Activate {
            name,
            component,
            overriding,
        } => Reply::of(activate(&gateway, &name, component, overriding)),
        ManagerRequest::Backup { path, passphrase } => Reply::of(save(&gateway, path, passphrase).await),
        ManagerRequest::History { last } => {
            let entries = gateway.downloads.read::<DownloadEntry>(last.min(limits::HISTORY));
            Reply::of(entries.map_err(|error| internal(&error)))
        }
        ManagerRequest::ListHistory { last } => {
            let entries = gateway.list.read::<ListEntry>(last.min(limits::HISTORY));
            Reply::of(entries.map_err(|error| internal(&error)))
        }
        ManagerRequest::Watch => Reply::Stream(watch(&gateway)),
    }
}

fn said(message: Message) -> Problem {
    Problem {
        code: message.id.to_owned(),
        message: message.text.to_owned(),
    }
}

fn internal(error: &dyn std::error::Error) -> Problem {
    Problem {
        code: "internal".into(),
        message: downloader::chain(error),
    }
}

async fn save(gateway: &Arc<Gateway>, path: PathBuf, passphrase: Secret) -> Result<(), Problem> {
    if !path.is_absolute() {
        return Err(Problem {
            code: "manager.backup.path".into(),
            message: "name the backup's file by its whole path".into(),
        });
    }
    backup::make(gateway.clone(), path.clone(), passphrase)
        .await
        .map_err(|error| Problem {
            code: "manager.backup.failed".into(),
            message: downloader::chain(&error),
        })?;
    let text = format!("a backup has been written to {}", path.display());
    gateway
        .journal
        .message(gateway.now(), Level::Info, "manager.backup", text);
    Ok(())
}

/// Tells a device that what waits there is to be installed, as far as the device's own last word allows it.
fn activate(gateway: &Gateway, name: &Name, component: Component, overriding: bool) -> Result<(), Problem> {
    let refuse = |message: String| {
        Err(Problem {
            code: "manager.activate.refused".into(),
            message,
        })
    };
    let waiting = match gateway.fleet.waiting_on(name, &component) {
        Ok(waiting) => waiting,
        Err(NoWaiting::Unknown) => return Err(said(messages::DEVICE_UNKNOWN)),
        Err(NoWaiting::Nothing) => return refuse(format!("no release of {component} waits on {name}")),
        Err(NoWaiting::Away) => {
            return refuse(format!(
                "{name} holds no event stream open: try again when it is connected, or say it on the device \
                 (`device activate {component}`)"
            ));
        }
    };
    let unmet = waiting.unmet.iter().filter(|unmet| unmet.key != Unmet::PERSON);
    let unmet: Vec<String> = unmet.map(ToString::to_string).collect();
    if overriding && !waiting.gateway_overrides {
        return refuse(format!(
            "{name} lets nobody override from here: say it on the device, or see `gateway_overrides` in its device.toml"
        ));
    }
    if !overriding && !unmet.is_empty() {
        let unmet = unmet.join("; ");
        return refuse(format!(
            "{component} {} is not installed on {name} now: {unmet}",
            waiting.version
        ));
    }
    let over = if overriding {
        ", whatever its conditions"
    } else {
        ""
    };
    let text = format!(
        "{name} was told to install {component} {} now{over}",
        waiting.version
    );
    let told = Activate {
        update: waiting.update,
        component,
        overriding,
    };
    gateway.fleet.push(name, &Push::Activate(Box::new(told)));
    gateway
        .journal
        .message(gateway.now(), Level::Info, "manager.activate", text);
    Ok(())
}

fn switch(gateway: &Gateway, on: bool) -> Result<(), Problem> {
    if gateway.downloader.switch(on) {
        let text = if on {
            "the downloader has been started"
        } else {
            "the downloader has been stopped"
        };
        gateway.journal.message(
            gateway.now(),
            Level::Info,
            "manager.downloader.switched",
            text.to_owned(),
        );
    }
    Ok(())
}

fn status(gateway: &Gateway) -> ManagerStatus {
    let download = gateway.downloader.status();
    let running = gateway.downloader.is_running();
    let addresses = gateway
        .addresses
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    let address = |pick: fn(&crate::config::Addresses) -> std::net::SocketAddr| {
        addresses
            .as_ref()
            .map_or_else(String::new, |all| pick(all).to_string())
    };
    let (waiting, waiting_in_all) = gateway.fleet.waiting(limits::WAITING_SHOWN);
    ManagerStatus {
        waiting,
        waiting_in_all,
        site: gateway.identity.site.clone(),
        name: gateway.identity.name.clone(),
        program: env!("CARGO_PKG_VERSION").to_owned(),
        downloader_running: running,
        downloader: if running {
            downloader::said(gateway)
        } else {
            format!("stopped; before: {}", downloader::said(gateway))
        },
        next_check_seconds: download
            .next_check
            .filter(|_| running)
            .map(|at| at.saturating_duration_since(Instant::now()).as_secs()),
        last_refresh: download.last_refresh,
        stale_since: *gateway.stale_since.lock().unwrap_or_else(PoisonError::into_inner),
        certificate_until: *gateway
            .certificate_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner),
        events_connected: download.events_connected,
        devices_address: address(|all| all.devices),
        enroll_address: address(|all| all.enroll),
        devices: gateway.fleet.count(),
        connected: gateway.fleet.connected(),
        sent_bytes: gateway.sent_bytes.load(Ordering::Relaxed),
        sent_by_second: gateway.pulse.seconds(),
        sending: (gateway.config.downloads).saturating_sub(gateway.sending.available_permits()),
        fetching: download.fetching,
        releases: releases(gateway),
        alarms: gateway.journal.alarms(),
    }
}

/// By component, the newest first, then what new devices get while it is stopped.
fn releases(gateway: &Gateway) -> Vec<ReleaseRow> {
    let (catalog, stopped) = (gateway.catalog(), gateway.fleet.all_stopped());
    let row = |offer: &Offer, fallback| ReleaseRow {
        component: offer.release.component.clone(),
        version: offer.release.version.clone(),
        digest: offer.digest,
        length: offer.length,
        released: offer.release.released,
        mirrored: offer.mirrored,
        stopped: stopped.get(&offer.update).cloned(),
        fallback,
        alarm: gateway.journal.alarm_of(&format!("stopped:{}", offer.update)),
        running: gateway.fleet.running(&offer.digest),
        rolled_back: gateway.fleet.rollback_count(&offer.update),
    };
    let newest = catalog.offers().map(|offer| row(offer, false));
    let fallbacks = catalog.fallbacks(&stopped).map(|offer| row(offer, true));
    let mut rows: Vec<ReleaseRow> = newest.chain(fallbacks).collect();
    rows.sort_by(|a, b| a.component.cmp(&b.component));
    rows
}

fn check_password(password: &Secret) -> Result<(), Problem> {
    let text = password.reveal();
    if text.is_empty() {
        return Err(said(messages::INPUT_EMPTY));
    }
    if text.chars().count() < limits::PASSWORD_MIN_CHARS || text.len() > limits::PASSWORD_BYTES {
        let message = format!(
            "the password must have {} to {} characters",
            limits::PASSWORD_MIN_CHARS,
            limits::PASSWORD_BYTES
        );
        return Err(Problem {
            code: "manager.password.length".into(),
            message,
        });
    }
    Ok(())
}

async fn add(gateway: &Arc<Gateway>, name: Name, password: Secret) -> Result<AddedDevice, Problem> {
    check_password(&password)?;
    if gateway.fleet.contains(&name) {
        return Err(said(messages::DEVICE_EXISTED));
    }
    if gateway.fleet.count() >= limits::DEVICES {
        let message = format!("the list is full: {} devices", limits::DEVICES);
        return Err(Problem {
            code: "manager.list.full".into(),
            message,
        });
    }
    let phc = gateway
        .passwords
        .hash(password)
        .await
        .map_err(|error| internal(&error))?;
    let (device, now) = (name.clone(), gateway.now().0);
    let insert = move |db: &rusqlite::Connection| {
        let sql = "INSERT INTO devices (name, password, added) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
        Ok((db.execute(sql, params![device.as_str(), phc, now])? > 0).then_some(device))
    };
    let own = gateway.clone();
    let put = move |added: Option<Name>| added.map(|name| own.fleet.put(name, Enrolment::default()));
    let added = gateway.database.run_then(insert, put).await;
    if added.map_err(|error| internal(&error))?.is_none() {
        return Err(said(messages::DEVICE_EXISTED));
    }
    gateway.note_list(&name, ListChange::Added, "by the operator");
    gateway.journal.say(
        gateway.now(),
        Level::Info,
        messages::DEVICE_ADDED,
        "",
        name.as_str(),
    );
    new_code(gateway, name).await
}

async fn new_code(gateway: &Gateway, name: Name) -> Result<AddedDevice, Problem> {
    let made = enroll::make_code(gateway, &name).await;
    let (code, code_until) = made.map_err(|error| internal(error.as_ref()))?;
    Ok(AddedDevice {
        name,
        code,
        code_until,
    })
}

/// Key of the alarm about wrong passwords.
const GUESSES: &str = "guesses";

/// The password of a device on the list, checked; the document's words where it is wrong.
async fn verify(gateway: &Gateway, name: &Name, password: Secret) -> Result<(), Problem> {
    let device = name.to_string();
    let phc: Option<String> = gateway
        .database
        .run(move |db| {
            db.query_row("SELECT password FROM devices WHERE name = ?1", [device], |row| {
                row.get(0)
            })
            .optional()
        })
        .await
        .map_err(|error| internal(&error))?;
    let Some(phc) = phc else {
        return Err(said(messages::DEVICE_UNKNOWN));
    };
    if !gateway.quotas.guess() {
        let text =
            format!("too many wrong passwords have been typed at the gateway, the last one for {name}");
        gateway.journal.alarm(gateway.now(), GUESSES, &text);
        return Err(Problem {
            code: "manager.password.slow-down".into(),
            message: "too many wrong passwords: wait a minute, then try again; nothing was changed".into(),
        });
    }
    match gateway.passwords.verify(phc, password).await {
        Ok(true) => {
            gateway.quotas.guessed_right();
            gateway.journal.clear(GUESSES);
            Ok(())
        }
        Ok(false) => Err(said(messages::DEVICE_MISMATCH)),
        Err(error) => Err(internal(&error)),
    }
}

async fn code(gateway: &Gateway, name: Name, password: Secret) -> Result<AddedDevice, Problem> {
    verify(gateway, &name, password).await?;
    gateway.note_list(&name, ListChange::NewCode, "with its password");
    new_code(gateway, name).await
}

async fn delete(gateway: &Arc<Gateway>, name: Name, password: Option<Secret>) -> Result<(), Problem> {
    let authority = password.is_none();
    match password {
        Some(password) => {
            if password.reveal().is_empty() {
                return Err(said(messages::INPUT_EMPTY));
            }
            verify(gateway, &name, password).await?;
        }
        None if !gateway.fleet.contains(&name) => return Err(said(messages::DEVICE_UNKNOWN)),
        None => {}
    }
    let (device, own) = (name.clone(), gateway.clone());
    let delete = move |db: &rusqlite::Connection| {
        db.execute("DELETE FROM devices WHERE name = ?1", [device.as_str()])?;
        Ok(device)
    };
    let remove = move |device: Name| own.fleet.remove(&device);
    let deleted = gateway.database.run_then(delete, remove).await;
    deleted.map_err(|error| internal(&error))?;
    gateway.journal.clear_device(&name);
    let cut = gateway.cut(&name, |_| true);
    let how = if authority {
        "on the operator's authority"
    } else {
        "with its password"
    };
    gateway.note_list(&name, ListChange::Deleted, how);
    let detail = format!("{name}, {how}; {cut} connections closed");
    gateway.journal.say(
        gateway.now(),
        Level::Warning,
        messages::DEVICE_DELETED,
        "",
        &detail,
    );
    Ok(())
}

/// Cuts a device off until it is let in again. Its open code goes too: a new one is the operator's word.
async fn quarantine(gateway: &Arc<Gateway>, name: Name, reason: String) -> Result<(), Problem> {
    let reason: String = reason.chars().take(MAX_REASON).collect();
    let quarantine = Quarantine {
        since: gateway.now(),
        reason: reason.clone(),
    };
    set_quarantine(gateway, &name, Some(quarantine)).await?;
    let cut = gateway.cut(&name, |_| true);
    gateway.note_list(&name, ListChange::Quarantined, &reason);
    let text = format!("{name} is in quarantine; {cut} connections closed: {reason}");
    let id = "manager.device.quarantined";
    gateway.journal.message(gateway.now(), Level::Warning, id, text);
    Ok(())
}

async fn readmit(gateway: &Arc<Gateway>, name: Name) -> Result<(), Problem> {
    let doubt = format!("twice:{name}");
    if let Some(enrolment) = gateway.fleet.enrolment(&name)
        && enrolment.quarantine.is_none()
        // The operator may know without it that there is only one machine.
        && gateway.journal.alarm_of(&doubt).is_none()
    {
        return Err(Problem {
            code: "manager.device.not-quarantined".into(),
            message: format!("{name} is not in quarantine"),
        });
    }
    set_quarantine(gateway, &name, None).await?;
    gateway.journal.clear(&doubt);
    gateway.note_list(&name, ListChange::Readmitted, "by the operator");
    let text = format!("{name} is let in again, by the operator");
    let id = "manager.device.readmitted";
    gateway.journal.message(gateway.now(), Level::Warning, id, text);
    Ok(())
}

async fn set_quarantine(
    gateway: &Arc<Gateway>,
    name: &Name,
    quarantine: Option<Quarantine>,
) -> Result<(), Problem> {
    let (device, own) = (name.clone(), gateway.clone());
    let write = move |db: &rusqlite::Connection| {
        let since = quarantine.as_ref().map(|quarantine| quarantine.since.0);
        let reason = quarantine.as_ref().map(|quarantine| &quarantine.reason);
        let sql = "UPDATE devices SET quarantined = ?2, quarantine_reason = ?3 WHERE name = ?1";
        db.execute(sql, params![device.as_str(), since, reason])?;
        if quarantine.is_some() {
            db.execute("DELETE FROM codes WHERE device = ?1", [device.as_str()])?;
        }
        Ok((device, quarantine))
    };
    let set = move |(device, quarantine): (Name, _)| own.fleet.quarantine(&device, quarantine);
    let set = gateway.database.run_then(write, set).await;
    if set.map_err(|error| internal(&error))? {
        Ok(())
    } else {
        Err(said(messages::DEVICE_UNKNOWN))
    }
}

async fn resume(gateway: &Gateway, component: &Component, version: &Version) -> Result<(), Problem> {
    let catalog = gateway.catalog();
    let offer = catalog
        .offers()
        .find(|offer| offer.release.component == *component && offer.release.version == *version)
        .filter(|offer| gateway.fleet.stopped(&offer.update).is_some());
    let Some(offer) = offer else {
        let message = format!("{component} {version} is not a stopped release: see `manager status`");
        return Err(Problem {
            code: "manager.resume.unknown".into(),
            message,
        });
    };
    let id = offer.update.to_string();
    gateway
        .database
        .run(move |db| {
            db.execute("DELETE FROM rollbacks WHERE update_id = ?1", [&id])?;
            db.execute("DELETE FROM stopped WHERE update_id = ?1", [&id])
        })
        .await
        .map_err(|error| internal(&error))?;
    gateway.fleet.resume(&offer.update);
    gateway.journal.clear(&format!("stopped:{}", offer.update));
    let text = format!("{component} {version} is offered again, by the operator");
    gateway
        .journal
        .message(gateway.now(), Level::Warning, "manager.release.resumed", text);
    downloader::order(gateway);
    Ok(())
}

/// What is kept, then everything as it happens; a watcher that is too slow loses some and is told so.
fn watch(gateway: &Arc<Gateway>) -> mpsc::Receiver<serde_json::Value> {
    let (kept, mut events) = gateway.journal.watch();
    let (sender, receiver) = mpsc::channel(64);
    tokio::spawn(async move {
        for event in kept {
            if send(&sender, &event).await.is_err() {
                return;
            }
        }
        loop {
            match events.recv().await {
                Ok(event) => {
                    if send(&sender, &event).await.is_err() {
                        return;
                    }
                }
                Err(broadcast::error::RecvError::Lagged(lost)) => {
                    tracing::warn!(lost, "a watcher was too slow");
                }
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    });
    receiver
}

async fn send(sender: &mpsc::Sender<serde_json::Value>, event: &ManagerEvent) -> Result<(), ()> {
    let value = serde_json::to_value(event).map_err(drop)?;
    sender.send(value).await.map_err(drop)
}
