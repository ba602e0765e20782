//! Asking the agent that runs, and showing what it says.

use anyhow::ensure;
use control::Client;
use protocol::Event;
use protocol::control::{DevicePlan, DeviceRequest};
use serde::Serialize;

use super::Shown;
use crate::agent::at_rest;
use crate::dry_run::{Subject, dry_run};
use crate::layout::Layout;
use crate::show::event_text;
use crate::world::World;

async fn connect(shown: &Shown) -> anyhow::Result<Client> {
    let layout = Layout::new(&shown.dir.dir)?;
    Ok(Client::connect(&layout.control(), "the device agent").await?)
}

/// Asks the agent; where none runs, looks at what lies there.
pub(super) async fn plan(shown: &Shown, subject: Subject) -> anyhow::Result<DevicePlan> {
    let layout = Layout::new(&shown.dir.dir)?;
    match Client::connect(&layout.control(), "the device agent").await {
        Ok(mut client) => {
            let request = DeviceRequest::Plan {
                component: subject.component,
                version: subject.version,
            };
            Ok(client.call(&request).await?)
        }
        Err(control::Error::NotRunning { .. }) => {
            let (hub, _lock) = at_rest(layout, World::system())?;
            let planned = dry_run(&hub, &subject.component, subject.version.as_ref()).await;
            planned.map_err(|problem| anyhow::anyhow!(problem.message))
        }
        Err(error) => Err(error.into()),
    }
}

pub(super) async fn call<T: serde::de::DeserializeOwned>(
    shown: &Shown,
    request: &DeviceRequest,
) -> anyhow::Result<T> {
    Ok(connect(shown).await?.call(request).await?)
}

pub(super) async fn watch(shown: &Shown) -> anyhow::Result<()> {
    let mut client = connect(shown).await?;
    client.send(&DeviceRequest::Watch).await?;
    while let Some(event) = client.next::<Event>().await? {
        if shown.json {
            println!("{}", serde_json::to_string(&event)?);
        } else {
            print!("{}", event_text(&event));
        }
    }
    Ok(())
}

pub(super) fn print<T: Serialize>(
    shown: &Shown,
    value: &T,
    text: impl FnOnce(&T) -> String,
) -> anyhow::Result<()> {
    if shown.json {
        println!("{}", serde_json::to_string_pretty(value)?);
    } else {
        let text = text(value);
        ensure!(!text.contains('\0'), "the text cannot be shown");
        print!("{text}");
    }
    Ok(())
}
