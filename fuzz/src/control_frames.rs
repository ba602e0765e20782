//! Bytes on a control socket, from a client to a program and from a program to its client.

use std::path::PathBuf;

use control::{Client, Reply, Server};
use protocol::control::{Answer, ManagerEvent, ManagerRequest};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Runtime;

pub fn seeds() -> Vec<Vec<u8>> {
    let requests = [
        r#"{"do":"status"}"#,
        r#"{"do":"history","last":3}"#,
        r#"{"do":"watch"}"#,
        r#"{"do":"delete-device","name":"pump-7","password":null}"#,
        r#"{"do":"nothing"}"#,
    ];
    let answers = [
        r#"{"Ok":{"step":"clicked"}}"#,
        r#"{"Err":{"code":"zero","message":"why"}}"#,
        r#"{"Ok":null}"#,
        "[]",
    ];
    let mut all: Vec<_> = requests.map(|line| format!("\0{line}\n").into_bytes()).into();
    all.extend(answers.map(|line| format!("\x01{line}\n{line}\n").into_bytes()));
    all.push(format!("\0{}\n", requests.join("\n")).into_bytes());
    all
}

/// A program that runs, and a socket on which one is played.
struct Sockets {
    runtime: Runtime,
    program: PathBuf,
    played: UnixListener,
    path: PathBuf,
    _folder: tempfile::TempDir,
}

impl Sockets {
    fn open() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let folder = crate::package::folder();
        let program = folder.path().join("control/socket");
        let path = folder.path().join("control/played");
        let played = runtime.block_on(async {
            let server = Server::open(&program).await.expect("a socket");
            tokio::spawn(async move { server.run(answer).await });
            UnixListener::bind(&path).expect("a socket")
        });
        Self {
            runtime,
            program,
            played,
            path,
            _folder: folder,
        }
    }

    /// Every line that comes back is an answer.
    async fn ask(&self, bytes: &[u8]) {
        let (mut read, mut write) = UnixStream::connect(&self.program)
            .await
            .expect("connected")
            .into_split();
        let send = async move {
            // A program that has heard enough hangs up.
            let _ = write.write_all(bytes).await;
            let _ = write.shutdown().await;
        };
        let mut back = Vec::new();
        let (_, _) = tokio::join!(send, read.read_to_end(&mut back));
        for line in back.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
            let answer = serde_json::from_slice::<Answer<Value>>(line);
            assert!(answer.is_ok(), "no answer: {line:?}");
        }
    }

    async fn tell(&self, bytes: &[u8]) {
        let play = async {
            let (mut stream, _) = self.played.accept().await.expect("accepted");
            let _ = stream.write_all(bytes).await;
        };
        let listen = async {
            let mut client = Client::connect(&self.path, "played").await.expect("connected");
            let mut events = 0;
            while let Ok(Some(_)) = client.next::<ManagerEvent>().await {
                events += 1;
            }
            assert!(events <= bytes.len());
        };
        tokio::join!(play, listen);
    }
}

async fn answer(request: ManagerRequest) -> Reply {
    match request {
        ManagerRequest::Watch => {
            let (sender, receiver) = tokio::sync::mpsc::channel(2);
            for number in 0..2 {
                sender.send(Value::from(number)).await.expect("room");
            }
            Reply::Stream(receiver)
        }
        other => Reply::of(Ok(other)),
    }
}

/// The first byte says in which direction the others go.
pub fn run(data: &[u8]) {
    thread_local! {
        static SOCKETS: Sockets = Sockets::open();
    }
    let Some((first, bytes)) = data.split_first() else {
        return;
    };
    SOCKETS.with(|sockets| {
        sockets.runtime.block_on(async {
            if first.is_multiple_of(2) {
                sockets.ask(bytes).await;
            } else {
                sockets.tell(bytes).await;
            }
        });
    });
}
