//! Server-sent events, as far as the manager uses them: `event`, `data`, comments.

use crate::limits::MAX_EVENT_LINE;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Its type; `message` if the stream names none.
    pub event: String,
    /// Its data.
    pub data: String,
}

/// The stream's line or event is longer than the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the event stream has a line of more than {MAX_EVENT_LINE} bytes")]
pub struct TooLong;

/// Takes bytes as they arrive, gives events as they are complete.
#[derive(Debug, Default)]
pub struct Parser {
    line: Vec<u8>,
    event: String,
    data: String,
    has_data: bool,
}

impl Parser {
    /// Takes the next bytes; gives the events that they complete.
    ///
    /// # Errors
    /// [`TooLong`]; the stream is to be closed then.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Vec<Item>, TooLong> {
        let mut items = Vec::new();
        for byte in bytes {
            match byte {
                b'\n' => {
                    let line = std::mem::take(&mut self.line);
                    items.extend(self.take_line(&String::from_utf8_lossy(&line))?);
                }
                b'\r' => {}
                _ if self.line.len() >= MAX_EVENT_LINE => return Err(TooLong),
                other => self.line.push(*other),
            }
        }
        Ok(items)
    }

    fn take_line(&mut self, line: &str) -> Result<Option<Item>, TooLong> {
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            let data = std::mem::take(&mut self.data);
            if !std::mem::take(&mut self.has_data) {
                return Ok(None);
            }
            let event = if event.is_empty() {
                "message".to_owned()
            } else {
                event
            };
            return Ok(Some(Item { event, data }));
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.event),
            "data" => {
                if self.data.len() + value.len() > MAX_EVENT_LINE {
                    return Err(TooLong);
                }
                if std::mem::replace(&mut self.has_data, true) {
                    self.data.push('\n');
                }
                self.data.push_str(value);
            }
            _ => {}
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_found_however_the_bytes_are_cut() {
        let text = b": hi\r\n\r\nevent: order\ndata: {\"a\":1}\n\n:\ndata:x\ndata: y\n\nevent: lost\n\n";
        let expected = [
            Item {
                event: "order".into(),
                data: "{\"a\":1}".into(),
            },
            Item {
                event: "message".into(),
                data: "x\ny".into(),
            },
        ];
        for size in 1..text.len() {
            let mut parser = Parser::default();
            let items: Vec<Item> = text
                .chunks(size)
                .flat_map(|piece| parser.feed(piece).unwrap())
                .collect();
            assert_eq!(items, expected, "in pieces of {size}");
        }
    }

    #[test]
    fn an_endless_line_is_refused() {
        let mut parser = Parser::default();
        assert_eq!(parser.feed(&vec![b'x'; MAX_EVENT_LINE + 1]), Err(TooLong));
    }
}
