//! The first start: a site in a folder that has none, from words as they were typed.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use certs::Host;
use protocol::control::{InitRequest, JobEnd, JobKind, SigningKeyKind, SiteMade};
use protocol::device::Problem;
use protocol::{Name, NameError, Secret};

use crate::address::{host, host_port};
use crate::init::{InitError, Made, Plan, REPOSITORY_PORT, init};
use crate::service::check::fail;
use crate::service::key::take;
use crate::service::state::Service;
use crate::service::words;
use crate::signing::KeyType;
use protocol::control::Level;

/// Makes the site; with `dry_run` every word is checked and nothing made.
pub(super) async fn make(
    service: &Arc<Service>,
    request: InitRequest,
    passphrase: Secret,
) -> Result<SiteMade, Problem> {
    if let Ok(desk) = service.desk() {
        let message = format!("there is a site already: {}", desk.folder.dir.display());
        return Err(words::of("author.init.exists", message));
    }
    let plan = plan(service, &request)?;
    let passphrase = take(&passphrase)?;
    passphrase
        .check_new()
        .map_err(|error| words::problem("author.init.passphrase", &error))?;
    if request.dry_run {
        return Ok(made(&plan, None, service));
    }
    let ticket = service.begin(JobKind::Init, format!("the site {}", plan.site), false)?;
    let service = Arc::clone(service);
    let task = tokio::spawn(async move {
        let now = service.now();
        let (planned, done) = words::blocking(move || {
            let done = init(&plan, &passphrase, now);
            (plan, done)
        })
        .await?;
        match done {
            Ok(done) => {
                let made = made(&planned, Some(&done), &service);
                service.reopen();
                let text = format!("the site {} is made in {}", planned.site, made.dir.display());
                service.say(Level::Info, "author.site.made", text.clone());
                ticket.end(JobEnd::Done {
                    text,
                    warnings: Vec::new(),
                    update: None,
                });
                service.wake.notify_one();
                Ok(made)
            }
            Err(error) => {
                let problem = words::problem(code(&error), &error);
                fail(&service, &ticket, &problem);
                Err(problem)
            }
        }
    });
    task.await.unwrap_or_else(|_| {
        let message = "making the site broke off inside the service: look at its log".to_owned();
        Err(words::of("author.internal", message))
    })
}

fn code(error: &InitError) -> &'static str {
    match error {
        InitError::Exists(_) => "author.init.exists",
        InitError::NoName(_) => "author.init.folder",
        InitError::Passphrase(_) => "author.init.passphrase",
        InitError::Disk(_) | InitError::Trust(_) => "author.disk",
        InitError::Key(_) | InitError::Certificate(_) | InitError::Roles(_) | InitError::Toml(_) => {
            "author.init.failed"
        }
    }
}

fn plan(service: &Service, request: &InitRequest) -> Result<Plan, Problem> {
    let site = name("site", &request.site)?;
    let mut plan = Plan::local(&service.dir, site).map_err(|error| misnamed("site", &error))?;
    if !request.author.trim().is_empty() {
        plan.author = name("author", &request.author)?;
    }
    let refused = |field: &str, why: String| words::of(&format!("author.init.{field}"), why);
    let here = Host::Address(IpAddr::V4(Ipv4Addr::LOCALHOST));
    (plan.repository_host, plan.repository_port) = match request.repository_address.trim() {
        "" => (here.clone(), REPOSITORY_PORT),
        typed => host_port(typed).map_err(|why| refused("repository", why))?,
    };
    plan.manager_host = match request.manager_address.trim() {
        "" => here,
        typed => host(typed).map_err(|error| refused("manager", error.to_string()))?,
    };
    plan.targets_key = match request.targets_key {
        SigningKeyKind::Rsa => KeyType::Rsa,
        SigningKeyKind::Ed25519 => KeyType::Ed25519,
    };
    Ok(plan)
}

fn name(field: &str, typed: &str) -> Result<Name, Problem> {
    typed.parse().map_err(|error| misnamed(field, &error))
}

fn misnamed(field: &str, error: &NameError) -> Problem {
    words::problem(&format!("author.init.{field}"), error)
}

fn made(plan: &Plan, done: Option<&Made>, service: &Service) -> SiteMade {
    let nothing = tuf::Digest::of(b"");
    SiteMade {
        dir: plan.dir.clone(),
        author: plan.dir.join("author"),
        repository: plan.dir.join("repository"),
        manager: plan.dir.join("manager"),
        root_fingerprint: done.map_or(nothing, |done| done.root_fingerprint),
        ca_fingerprint: done.map_or(nothing, |done| done.ca_fingerprint),
        root_expires: done.map_or(service.now(), |done| done.root_expires),
    }
}
