//! As much of an HTTP/1.1 server as two pages need.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::room::Room;

/// Clients at a time; more are turned away.
const CLIENTS: usize = 16;
/// Bytes of a request's head; its body is not read.
const HEAD_BYTES: usize = 8 * 1024;
/// How long a client may take for each read and write.
const PATIENCE: Duration = Duration::from_secs(2);

/// Answers for ever.
pub(crate) fn serve(listener: &TcpListener, room: &Arc<Room>) {
    let clients = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming() {
        let Ok(stream) = stream else {
            thread::sleep(Duration::from_millis(50)); // out of descriptors: do not spin
            continue;
        };
        if clients.load(Ordering::Acquire) >= CLIENTS {
            continue;
        }
        clients.fetch_add(1, Ordering::AcqRel);
        let (room, place) = (room.clone(), Place(clients.clone()));
        // Without a thread the client is turned away and its place is free again.
        let _ = thread::Builder::new().spawn(move || {
            let _ = answer(stream, &room); // a client that goes away is its own business
            drop(place);
        });
    }
}

struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

fn answer(mut stream: TcpStream, room: &Room) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    let head = read_head(&mut stream)?;
    let response = respond(&head, room);
    stream.write_all(response.as_bytes())?;
    stream.flush()
}

/// Up to the empty line.
fn read_head(stream: &mut impl Read) -> io::Result<String> {
    let mut head = Vec::new();
    let mut piece = [0; 1024];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let count = stream.read(&mut piece)?;
        if count == 0 || head.len() + count > HEAD_BYTES {
            break;
        }
        head.extend(piece.iter().take(count));
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

fn respond(head: &str, room: &Room) -> String {
    let mut words = head.lines().next().unwrap_or_default().split(' ');
    let (method, target, version) = (words.next(), words.next(), words.next());
    let (Some(method), Some(target), Some("HTTP/1.1" | "HTTP/1.0")) = (method, target, version) else {
        return response("400 Bad Request", "text/plain", "this is not HTTP/1.1\n", true);
    };
    let with_body = method != "HEAD";
    if method != "GET" && method != "HEAD" {
        return response("405 Method Not Allowed", "text/plain", "only GET\n", with_body);
    }
    match target.split('?').next() {
        Some("/health") => {
            let status = if room.is_well() {
                "200 OK"
            } else {
                "500 Internal Server Error"
            };
            let body = serde_json::to_string(&room.health()).unwrap_or_default();
            response(status, "application/json", &format!("{body}\n"), with_body)
        }
        Some("/") => response("200 OK", "text/plain", &room.page(), with_body),
        _ => response(
            "404 Not Found",
            "text/plain",
            "there is / and /health\n",
            with_body,
        ),
    }
}

fn response(status: &str, kind: &str, body: &str, with_body: bool) -> String {
    let length = body.len();
    let body = if with_body { body } else { "" };
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}; charset=utf-8\r\nContent-Length: {length}\r\n\
         Cache-Control: no-store\r\nConnection: close\r\n\r\n{body}"
    )
}
