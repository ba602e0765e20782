//! Speaks to a running window through eframe's inspection (`egui_inspection` 0.37): its AccessKit tree, a picture of
//! it, and text that no keyboard map here has.
//!
//! The bodies are MessagePack; the tree is taken as generic values, so that no crate of the windows is compiled a
//! second time with other features for the tests' sake.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// What a peer says first: its magic and the version of the protocol.
const GREETING: [u8; 8] = *b"eins\0\0\0\x01";
/// Largest answer that is taken: a picture of a large screen, uncompressed.
const MAX_ANSWER: u32 = 64 << 20;

/// What is asked of a window. The names are the protocol's.
#[derive(Debug, Serialize)]
enum Request {
    GetTree,
    GetScreenshot { pixels_per_point: Option<f32> },
    ApplyEvents { events: Vec<Input> },
    Resize { width: u32, height: u32 },
}

/// An input event, as egui names it.
#[derive(Debug, Serialize)]
enum Input {
    Text(String),
}

/// A picture, as the protocol has it: width and height in pixels, PNG.
#[derive(Debug, Deserialize)]
struct Picture(
    #[allow(dead_code)] [u32; 2],
    #[serde(with = "serde_bytes_vec")] Vec<u8>,
);

#[derive(Debug, Deserialize)]
enum PictureAnswer {
    Screenshot(Picture),
    Error(String),
}

/// An AccessKit node as it is written: role, actions, its children's actions, flags, properties.
#[derive(Debug, Deserialize)]
struct Raw(String, IgnoredAny, IgnoredAny, u32, BTreeMap<String, Value>);

/// An AccessKit tree update: identities with a node each, then what is not needed here.
#[derive(Debug, Deserialize)]
struct Update(Vec<(u64, Raw)>, IgnoredAny, IgnoredAny, IgnoredAny);

/// Frame, pixels for a point, and the tree if there is one.
#[derive(Debug, Deserialize)]
enum TreeAnswer {
    Tree(IgnoredAny, IgnoredAny, Option<Update>),
    Error(String),
}

/// MessagePack's byte strings as a `Vec`, without a crate for it.
mod serde_bytes_vec {
    use serde::de::{Deserializer, Error, Visitor};

    struct Bytes;

    impl Visitor<'_> for Bytes {
        type Value = Vec<u8>;

        fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            out.write_str("bytes")
        }

        fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
            Ok(bytes.to_vec())
        }

        fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
            Ok(bytes)
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        from.deserialize_byte_buf(Bytes)
    }
}

/// One thing in a window: what a screen reader is told of it, and where it lies, in points from the window's corner.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub(crate) role: String,
    /// Its name; that of what labels it where it has none itself.
    pub(crate) label: String,
    pub(crate) value: String,
    pub(crate) disabled: bool,
    /// Left, top, right, bottom.
    pub(crate) bounds: [f64; 4],
}

impl Node {
    pub(crate) fn says(&self, text: &str) -> bool {
        self.label.contains(text) || self.value.contains(text)
    }

    pub(crate) fn middle(&self) -> (f64, f64) {
        let [left, top, right, bottom] = self.bounds;
        (f64::midpoint(left, right), f64::midpoint(top, bottom))
    }
}

/// A connection to a window.
#[derive(Debug)]
pub(crate) struct Inspector {
    stream: TcpStream,
}

impl Inspector {
    /// Connects as soon as the window is there.
    pub(crate) async fn connect(at: SocketAddr, patience: Duration) -> Result<Self, String> {
        let deadline = tokio::time::Instant::now() + patience;
        loop {
            // The peer listens when its first frame is drawn; nothing announces it.
            let error = match TcpStream::connect(at).await {
                Ok(mut stream) => {
                    let mut greeting = [0; 8];
                    match stream.read_exact(&mut greeting).await {
                        Ok(_) if greeting == GREETING => return Ok(Self { stream }),
                        Ok(_) => return Err(format!("another protocol: {greeting:?}")),
                        Err(error) => error,
                    }
                }
                Err(error) => error,
            };
            if tokio::time::Instant::now() >= deadline {
                return Err(format!("no window at {at} after {patience:?}: {error}"));
            }
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
    }

    async fn ask(&mut self, request: &Request) -> Vec<u8> {
        let body = rmp_serde::to_vec(request).unwrap();
        self.stream
            .write_u32(u32::try_from(body.len()).unwrap())
            .await
            .unwrap();
        self.stream.write_all(&body).await.unwrap();
        let length = self.stream.read_u32().await.expect("the window answers");
        assert!(length <= MAX_ANSWER, "{length} bytes");
        let mut answer = vec![0; length as usize];
        self.stream.read_exact(&mut answer).await.unwrap();
        answer
    }

    /// All that the window shows now.
    pub(crate) async fn tree(&mut self) -> Vec<Node> {
        let answer = self.ask(&Request::GetTree).await;
        match rmp_serde::from_slice(&answer).unwrap() {
            TreeAnswer::Tree(_, _, update) => update.map(|update| nodes(&update.0)).unwrap_or_default(),
            TreeAnswer::Error(message) => panic!("no tree: {message}"),
        }
    }

    /// A picture of the window as PNG.
    pub(crate) async fn picture(&mut self) -> Vec<u8> {
        let request = Request::GetScreenshot {
            pixels_per_point: None,
        };
        match rmp_serde::from_slice(&self.ask(&request).await).unwrap() {
            PictureAnswer::Screenshot(Picture(_, png)) => png,
            PictureAnswer::Error(message) => panic!("no picture: {message}"),
        }
    }

    /// Types where the keyboard is: what is not on a plain keyboard.
    pub(crate) async fn text(&mut self, text: &str) {
        let events = vec![Input::Text(text.into())];
        self.ask(&Request::ApplyEvents { events }).await;
    }

    /// Makes the window so large, in points.
    pub(crate) async fn resize(&mut self, width: u32, height: u32) {
        self.ask(&Request::Resize { width, height }).await;
    }
}

/// The nodes of an AccessKit tree update.
fn nodes(listed: &[(u64, Raw)]) -> Vec<Node> {
    /// The place of accesskit's `Disabled` among its flags.
    const DISABLED: u32 = 1 << 9;
    let text = |node: &Raw, key: &str| {
        let value = node.4.get(key).and_then(Value::as_str);
        value.unwrap_or_default().to_owned()
    };
    listed
        .iter()
        .map(|(_, node)| {
            let mut label = text(node, "label");
            let namer = node.4.get("labelledBy").and_then(|ids| ids[0].as_u64());
            if label.is_empty()
                && let Some((_, namer)) = listed.iter().find(|(id, _)| Some(*id) == namer)
            {
                label = [text(namer, "label"), text(namer, "value")].concat();
            }
            let edge = |edge: usize| node.4.get("bounds").and_then(|bounds| bounds[edge].as_f64());
            Node {
                role: node.0.clone(),
                label,
                value: text(node, "value"),
                disabled: node.3 & DISABLED != 0,
                bounds: std::array::from_fn(|place| edge(place).unwrap_or_default()),
            }
        })
        .collect()
}
