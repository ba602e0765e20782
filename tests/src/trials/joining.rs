//! The joining port: names, codes and passwords.

use control::Client;
use futures_util::{StreamExt as _, stream};
use protocol::control::{AddedDevice, ManagerRequest};
use protocol::enroll::{ENROLL, Enroll, EnrollCode};
use protocol::{Name, Role, Secret};
use tuf::Digest;

use super::{Plan, Row, Verdict};
use crate::client::connect;
use crate::draws::Draws;
use crate::site::PASSWORD;
use crate::{Site, SiteOptions};

/// Who is tried here.
const AT: &str = "gateway";
/// Wrong codes at a time: each is answered after a second, and one address has sixteen connections.
const AT_ONCE: usize = 8;
/// Wrong passwords that a code survives; it is void with the next.
const PASSWORDS: usize = 4;

struct Session {
    site: Site,
}

impl Session {
    async fn start() -> Self {
        let site = Site::running(SiteOptions::default()).await;
        Self { site }
    }

    /// Puts a device on the list.
    async fn add(&self, name: &str) -> EnrollCode {
        let request = ManagerRequest::AddDevice {
            name: name.parse().expect("a name"),
            password: Secret::new(PASSWORD.to_owned()),
        };
        self.code(&request).await
    }

    async fn code(&self, request: &ManagerRequest) -> EnrollCode {
        // Anew each time: a client that says nothing for long is let go.
        let socket = self.site.path("manager/control/socket");
        let mut client = Client::connect(&socket, "manager")
            .await
            .expect("the manager runs");
        let added: AddedDevice = client.call(request).await.expect("a code");
        added.code.reveal().parse().expect("a code")
    }

    async fn another_code(&self, name: &str) -> EnrollCode {
        let request = ManagerRequest::NewCode {
            name: name.parse().expect("a name"),
            password: Secret::new(PASSWORD.to_owned()),
        };
        self.code(&request).await
    }
}

/// Asks to join as `device`.
async fn join(site: &Site, device: &str, secret: &str, password: &str, csr: &str) -> Verdict {
    let ask = Enroll {
        device: device.parse::<Name>().expect("a name"),
        secret: Secret::new(secret.to_owned()),
        password: Secret::new(password.to_owned()),
        csr: csr.to_owned(),
    };
    let body = serde_json::to_vec(&ask).expect("a message");
    let ca = site.path("manager/ca.pem");
    let dialled = connect(site.at(7102), &ca, site.name(), Role::Manager, None).await;
    let mut connection = match dialled {
        Ok(connection) => connection,
        Err(refusal) => return Verdict::Refused(refusal.to_string()),
    };
    let json = [("content-type", "application/json")];
    match connection.ask("POST", ENROLL, &json, body).await {
        Ok(answer) if answer.status == 200 => Verdict::Accepted,
        Ok(answer) => Verdict::Refused(format!("{}: {}", answer.status, answer.text())),
        Err(refusal) => Verdict::Refused(refusal.to_string()),
    }
}

fn request() -> String {
    let key = certs::new_key().expect("a key");
    certs::request(&key).expect("a request")
}

fn digest(parts: &[&str]) -> Digest {
    Digest::of(parts.join("\n").as_bytes())
}

pub(super) async fn run(plan: Plan, take: &mut impl FnMut(Row)) {
    let session = Session::start().await;
    let mut draws = Draws(plan.seed ^ 3);

    let mut row = Row::right("6.4", "the right name, code and password", AT);
    for number in 0..plan.trials {
        let name = format!("pump-{number}");
        let code = session.add(&name).await;
        let secret = code.secret.reveal();
        let verdict = join(&session.site, &name, secret, PASSWORD, &request()).await;
        row.note(digest(&[&name, secret]), verdict);
    }
    take(row);

    let code = session.add("north").await;
    let right = code.secret.reveal().to_owned();
    wrong_codes(plan, &session, &right, &mut draws, take).await;
    wrong_passwords(plan, &session, &mut draws, take).await;
}

async fn wrong_codes(
    plan: Plan,
    session: &Session,
    right: &str,
    draws: &mut Draws,
    take: &mut impl FnMut(Row),
) {
    let mut row = Row::wrong(
        "6.4",
        "a wrong code, or a right one for another name",
        AT,
        "stranger",
        &["do not belong together", "too many attempts"],
    );
    let csr = request();
    let tries: Vec<(String, String)> = (0..plan.trials)
        .map(|number| match number % 3 {
            0 => ("north".to_owned(), draws.hex(32)),
            1 => {
                let mut near = right.to_owned();
                let at = number / 3 % 32;
                let digit = draws.hex(1);
                let digit = if near[at..=at] == digit {
                    "g".to_owned()
                } else {
                    digit
                };
                near.replace_range(at..=at, &digit);
                near.push_str(&draws.hex(1 + number / 96));
                ("north".to_owned(), near)
            }
            _ => (format!("south-{number}"), right.to_owned()),
        })
        .collect();
    let mut answers = stream::iter(&tries)
        .map(|(name, secret)| {
            let csr = &csr;
            async move {
                let verdict = join(&session.site, name, secret, PASSWORD, csr).await;
                (digest(&[name, secret]), verdict)
            }
        })
        .buffer_unordered(AT_ONCE);
    while let Some((input, verdict)) = answers.next().await {
        row.note(input, verdict);
    }
    take(row);
}

async fn wrong_passwords(plan: Plan, session: &Session, draws: &mut Draws, take: &mut impl FnMut(Row)) {
    let mut row = Row::wrong(
        "6.4",
        "a right name and code with a wrong password",
        AT,
        "stranger",
        &["do not belong together"],
    );
    let csr = request();
    let mut code = session.another_code("north").await;
    for number in 0..plan.trials {
        if number > 0 && number.is_multiple_of(PASSWORDS) {
            code = session.another_code("north").await;
        }
        let password = match number % 3 {
            0 => draws.hex(16),
            1 => format!("{PASSWORD}{number}"),
            _ => format!("{number}{}", PASSWORD.to_uppercase()),
        };
        let verdict = join(&session.site, "north", code.secret.reveal(), &password, &csr).await;
        row.note(digest(&[&password]), verdict);
    }
    take(row);
    // What was wrong was the password alone.
    let mut row = Row::right("6.4", "the same code with the right password", AT);
    let verdict = join(&session.site, "north", code.secret.reveal(), PASSWORD, &csr).await;
    row.note(digest(&[PASSWORD]), verdict);
    take(row);
}
