//! What the programs of all versions do: they differ in nothing but the layout of their state.

use std::error::Error;
use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use durable::Files;
use handoff::{Inherited, Program};
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::oneshot;

use crate::core::{Closed, Why};
use crate::layout::{self, Layout};
use crate::limits;
use crate::server::{Server, ServerError, Settings};

/// Where it listens unless [`LISTEN`] says otherwise: on this machine only, because it knows no passwords.
const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 1883);

/// Environment variable: where to listen, as address and port.
pub const LISTEN: &str = "BROKER_LISTEN";

/// Environment variable: the folder of what it remembers; the agent sets it.
pub const DATA: &str = "DROVER_DATA";

/// Environment variable of the transformation: the version that is wanted.
pub const SCHEMA_TO: &str = "DROVER_SCHEMA_TO";

/// A broker of the version `L`: begins, or takes over from a running one, and serves until it is ended from outside or
/// another one takes over.
pub fn main<L: Layout>() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    ended(
        runtime
            .map_err(Into::into)
            .and_then(|runtime| runtime.block_on(live::<L>())),
    )
}

/// What a program says last, and its code.
fn ended(result: Result<(), Box<dyn Error>>) -> ExitCode {
    let Err(error) = result else {
        return ExitCode::SUCCESS;
    };
    let mut text = format!("broker: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    say(&text);
    ExitCode::FAILURE
}

async fn live<L: Layout>() -> Result<(), Box<dyn Error>> {
    let settings = settings()?;
    let (mut program, inherited) = Program::from_env().await?;
    let mut server = match inherited {
        None => Server::<L>::begin(&settings, address()?)?,
        Some(inherited) => match take_over(&settings, inherited) {
            Ok(server) => server,
            Err(error) => {
                program.failed(&error.to_string()).await;
                return Err(error);
            }
        },
    };
    program.alive().await?;
    say(&format!(
        "broker of version {} listens on {}",
        L::VERSION,
        server.address()?
    ));
    loop {
        let stop = server.stop();
        let mut ended = run(server)?;
        let prepare = tokio::select! {
            prepare = program.asked() => prepare,
            early = &mut ended => return Ok(early?.1?),
        };
        stop.ask();
        let result;
        (server, result) = ended.await?;
        result?;
        let (state, descriptors) = server.still()?;
        if program
            .give(&prepare, L::VERSION.into(), &state, &descriptors)
            .await
            .is_released()
        {
            return Ok(());
        }
    }
}

/// Serves on a thread of its own; gives the server back when it stands still.
fn run<L: Layout>(mut server: Server<L>) -> std::io::Result<oneshot::Receiver<Ended<L>>> {
    let (sender, ended) = oneshot::channel();
    std::thread::Builder::new().name("broker".into()).spawn(move || {
        let result = server.run();
        // Whoever started it waits for it.
        let _ = sender.send((server, result));
    })?;
    Ok(ended)
}

type Ended<L> = (Server<L>, Result<(), ServerError>);

fn take_over<L: Layout>(settings: &Settings, inherited: Inherited) -> Result<Server<L>, Box<dyn Error>> {
    let state = inherited.state()?;
    Ok(Server::resume(settings, &state, inherited.descriptors)?)
}

/// The program of the package that makes one version's state of another's: standard input to standard output.
pub fn transform() -> ExitCode {
    ended(transform_input())
}

fn transform_input() -> Result<(), Box<dyn Error>> {
    let to = std::env::var(SCHEMA_TO).ok().and_then(|text| text.parse().ok());
    let to = to.ok_or_else(|| format!("{SCHEMA_TO} is not set to the version that is wanted"))?;
    let mut state = Vec::new();
    let limit = u64::try_from(limits::STATE_BYTES)?;
    std::io::stdin().lock().take(limit + 1).read_to_end(&mut state)?;
    std::io::stdout()
        .lock()
        .write_all(&layout::transform(&state, to)?)?;
    Ok(())
}

fn settings() -> Result<Settings, String> {
    let data: OsString = std::env::var_os(DATA)
        .filter(|data| !data.is_empty())
        .ok_or_else(|| format!("{DATA} is not set; set it to the folder where the broker is to remember"))?;
    Ok(Settings {
        data: PathBuf::from(data),
        files: Files::real(),
        clock: monotonic_millis,
        log: log_closed,
    })
}

fn address() -> Result<SocketAddr, String> {
    let Some(text) = std::env::var_os(LISTEN) else {
        return Ok(ADDRESS);
    };
    let text = text.to_string_lossy();
    text.parse()
        .map_err(|_| format!("{LISTEN} is {text:?}; set it to an address and a port, as in 127.0.0.1:1883"))
}

/// Milliseconds since the machine's start, the same in every process.
fn monotonic_millis() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let millis = now
        .tv_sec
        .saturating_mul(1_000)
        .saturating_add(now.tv_nsec / 1_000_000);
    u64::try_from(millis).unwrap_or_default()
}

/// Connections that the broker ended, one line each; not those that went by themselves.
fn log_closed(closed: &Closed) {
    if let Some(why) = closed.why.as_ref().filter(|why| !matches!(why, Why::Lost)) {
        say(&format!("connection {} ended: {why}", closed.connection.0));
    }
}

/// A line for whoever looks after it; a closed pipe is no reason to stop.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
