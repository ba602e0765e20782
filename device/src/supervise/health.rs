//! The question whose answer says that a program is well.

use std::net::{IpAddr, Ipv4Addr};
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use release::{Health, expand};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::launch::Launch;
use super::output::quote;
use super::process::{Exit, Process};
use crate::limits::{FIRST_PROBE, MAX_HEALTH_BODY, PROBE_TIME, SLOWEST_PROBE};

/// A health check of one program, ready to be asked.
#[derive(Debug, Clone)]
pub enum Check {
    /// `GET` on this machine.
    Http {
        /// Loopback address and port.
        address: (IpAddr, u16),
        /// The address as written, for messages and for the request.
        uri: Uri,
    },
    /// A command that ends with 0.
    Command {
        /// Program and arguments.
        argv: Vec<String>,
        /// The program's environment and folder.
        launch: Box<Launch>,
    },
    /// Still there after this time.
    Alive(Duration),
}

impl Check {
    /// The check of a release, with the values of the program's environment in place of `${NAME}`.
    ///
    /// # Errors
    /// Why it cannot be asked: a variable that is not set, an address that is not on this machine.
    pub fn new(health: &Health, launch: &Launch) -> Result<Self, String> {
        let fill = |text: &str| {
            expand(text, |name| launch.variable(name)).map_err(|e| format!("its health check: {e}"))
        };
        match health {
            Health::Http { url } => http_check(&fill(url)?),
            Health::Command { argv } => {
                let argv = argv.iter().map(|word| fill(word)).collect::<Result<_, _>>()?;
                Ok(Self::Command {
                    argv,
                    launch: Box::new(launch.clone()),
                })
            }
            Health::Alive { seconds } => Ok(Self::Alive(Duration::from_secs(u64::from(*seconds)))),
        }
    }

    /// Asks once; `started`: when the program was started.
    ///
    /// # Errors
    /// Why it is not well, in one sentence.
    pub async fn ask(&self, started: Instant) -> Result<(), String> {
        match self {
            Self::Http { address, uri } => match timeout(PROBE_TIME, get(*address, uri)).await {
                Ok(answer) => answer,
                Err(_) => Err(format!("{uri} does not answer within {} s", PROBE_TIME.as_secs())),
            },
            Self::Command { argv, launch } => run(argv, launch).await,
            Self::Alive(after) if started.elapsed() >= *after => Ok(()),
            Self::Alive(after) => Err(format!("it has not yet run for {} s", after.as_secs())),
        }
    }

    /// How long to wait before the next probe of a program that is starting: the faster the fresher.
    #[must_use]
    pub fn pause(&self, started: Instant) -> Duration {
        let pause = match started.elapsed().as_millis() {
            0..=50 => FIRST_PROBE,
            51..=1000 => FIRST_PROBE * 2,
            1001..=3000 => FIRST_PROBE * 5,
            _ => SLOWEST_PROBE,
        };
        match self {
            Self::Command { .. } => pause.max(FIRST_PROBE * 10),
            _ => pause,
        }
    }
}

fn http_check(url: &str) -> Result<Check, String> {
    let wrong = |why: &str| format!("its health address {url:?} {why}");
    let uri: Uri = url.parse().map_err(|_| wrong("is not an address"))?;
    if uri.scheme_str() != Some("http") {
        return Err(wrong("must begin with http://"));
    }
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let ip: IpAddr = match host {
        "localhost" => Ipv4Addr::LOCALHOST.into(),
        other => other
            .parse()
            .map_err(|_| wrong("must name localhost or a loopback address"))?,
    };
    if !ip.is_loopback() {
        return Err(wrong("is not on this machine"));
    }
    Ok(Check::Http {
        address: (ip, uri.port_u16().unwrap_or(80)),
        uri,
    })
}

async fn get(address: (IpAddr, u16), uri: &Uri) -> Result<(), String> {
    let failed = |e: &dyn std::fmt::Display| format!("{uri} does not answer: {e}");
    let stream = TcpStream::connect(address).await.map_err(|e| failed(&e))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| failed(&e))?;
    let ask = async {
        let host = uri
            .authority()
            .map_or("localhost", |authority| authority.as_str());
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let request = Request::get(path)
            .header(header::HOST, host)
            .header(header::CONNECTION, "close")
            .body(Empty::<Bytes>::new())
            .map_err(|e| failed(&e))?;
        let answer = sender.send_request(request).await.map_err(|e| failed(&e))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        let limit = usize::try_from(MAX_HEALTH_BODY).unwrap_or(usize::MAX);
        let body = match Limited::new(answer.into_body(), limit).collect().await {
            Ok(body) => quote(&body.to_bytes()),
            Err(_) => String::new(),
        };
        Err(format!("{uri} answers {status}: {body}")
            .trim_end_matches([':', ' '])
            .to_owned())
    };
    // Both in this task: a probe that is dropped takes its connection along.
    tokio::pin!(ask);
    tokio::select! {
        answer = &mut ask => answer,
        end = connection => match end {
            Ok(()) => ask.await,
            Err(e) => Err(failed(&e)),
        },
    }
}

async fn run(argv: &[String], launch: &Launch) -> Result<(), String> {
    let name = argv.first().map(String::as_str).unwrap_or_default();
    let mut command = launch.check_command(argv);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let process = Process::spawn(command)
        .await
        .map_err(|e| format!("its health command {name:?} cannot be started: {e}"))?;
    match timeout(PROBE_TIME, process.ended()).await {
        Ok(Exit::Code(0)) => Ok(()),
        Ok(exit) => Err(format!("its health command {name:?} says no: {exit}")),
        Err(_) => {
            process.stop(Duration::ZERO).await;
            Err(format!(
                "its health command {name:?} takes longer than {} s",
                PROBE_TIME.as_secs()
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn server(answer: &'static str) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = [0; 1024];
                assert!(stream.read(&mut head).await.unwrap() > 0);
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        port
    }

    #[tokio::test]
    async fn an_answer_of_200_is_well_and_500_is_quoted() {
        let good = server("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        let bad = server("HTTP/1.1 500 Oops\r\ncontent-length: 12\r\n\r\nsensor\nlost\n").await;
        let check = http_check(&format!("http://127.0.0.1:{good}/health")).unwrap();
        check.ask(Instant::now()).await.unwrap();
        let check = http_check(&format!("http://localhost:{bad}/health")).unwrap();
        let why = check.ask(Instant::now()).await.unwrap_err();
        assert!(why.contains("500") && why.ends_with("sensor | lost"), "{why}");
    }

    #[test]
    fn an_address_elsewhere_is_refused() {
        for url in [
            "http://192.0.2.1/",
            "http://example.org/",
            "https://127.0.0.1/",
            "nonsense",
            "/health",
        ] {
            assert!(http_check(url).is_err(), "{url} was accepted");
        }
        assert!(http_check("http://[::1]:8080/x").is_ok());
    }
}
