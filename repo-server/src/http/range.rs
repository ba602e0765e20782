//! `Range`, `If-Range` and `If-None-Match` (RFC 9110), as far as downloads need them.

use std::ops::Range;

use axum::http::HeaderMap;
use axum::http::header::{IF_NONE_MATCH, IF_RANGE, RANGE};

use crate::Refusal;

/// What is to be sent of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    /// All of it, status 200.
    Whole,
    /// These bytes, status 206.
    Bytes(Range<u64>),
}

/// The part that a request asks for. A header that is not one plain byte range is ignored, as the standard
/// allows (section 14.2).
pub(crate) fn part(headers: &HeaderMap, length: u64, etag: &str) -> Result<Part, Refusal> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(range) = text(RANGE).and_then(|range| range.trim().strip_prefix("bytes=")) else {
        return Ok(Part::Whole);
    };
    // A date cannot vouch for a file that is named by its hash.
    if text(IF_RANGE).is_some_and(|condition| condition != etag) {
        return Ok(Part::Whole);
    }
    let Some((first, last)) = range.split_once('-').filter(|_| !range.contains(',')) else {
        return Ok(Part::Whole);
    };
    let bytes = match (first.trim(), last.trim()) {
        ("", "") => return Ok(Part::Whole),
        ("", count) => match count.parse::<u64>() {
            Ok(count) => length.saturating_sub(count)..length,
            Err(_) => return Ok(Part::Whole),
        },
        (first, last) => {
            let end = if last.is_empty() {
                Ok(u64::MAX)
            } else {
                last.parse::<u64>()
            };
            match (first.parse::<u64>(), end) {
                (Ok(first), Ok(last)) if first <= last => first..last.saturating_add(1).min(length),
                _ => return Ok(Part::Whole),
            }
        }
    };
    if bytes.start >= bytes.end {
        return Err(Refusal::Range { length });
    }
    Ok(Part::Bytes(bytes))
}

/// Whether the client has the file already.
pub(crate) fn is_held(headers: &HeaderMap, etag: &str) -> bool {
    let Some(held) = headers.get(IF_NONE_MATCH).and_then(|value| value.to_str().ok()) else {
        return false;
    };
    held.split(',')
        .map(str::trim)
        .any(|one| one == "*" || one.strip_prefix("W/").unwrap_or(one) == etag)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn of(range: &str) -> Result<Part, Refusal> {
        let mut headers = HeaderMap::new();
        headers.insert(RANGE, HeaderValue::from_str(range).unwrap());
        part(&headers, 100, "\"x\"")
    }

    #[test]
    fn ranges_are_read_as_the_standard_says() {
        for (text, expected) in [
            ("bytes=0-9", 0..10),
            ("bytes=90-", 90..100),
            ("bytes=90-1000", 90..100),
            ("bytes=-10", 90..100),
            ("bytes=-1000", 0..100),
            ("bytes=99-99", 99..100),
        ] {
            assert_eq!(of(text).unwrap(), Part::Bytes(expected), "{text}");
        }
        for whole in [
            "bytes=0-1,5-6",
            "bytes=",
            "bytes=-",
            "bytes=9-1",
            "bytes=a-b",
            "lines=1-2",
            "bytes=1",
        ] {
            assert_eq!(of(whole).unwrap(), Part::Whole, "{whole}");
        }
        for outside in ["bytes=100-", "bytes=-0", "bytes=500-600"] {
            assert!(
                matches!(of(outside), Err(Refusal::Range { length: 100 })),
                "{outside}"
            );
        }
    }

    #[test]
    fn a_range_of_another_file_is_not_continued() {
        let mut headers = HeaderMap::new();
        headers.insert(RANGE, HeaderValue::from_static("bytes=5-"));
        headers.insert(IF_RANGE, HeaderValue::from_static("\"other\""));
        assert_eq!(part(&headers, 100, "\"x\"").unwrap(), Part::Whole);
        headers.insert(IF_RANGE, HeaderValue::from_static("\"x\""));
        assert_eq!(part(&headers, 100, "\"x\"").unwrap(), Part::Bytes(5..100));
    }

    #[test]
    fn a_held_file_is_recognised_in_any_spelling() {
        for (value, held) in [
            ("\"x\"", true),
            ("\"a\", W/\"x\"", true),
            ("*", true),
            ("\"y\"", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(IF_NONE_MATCH, HeaderValue::from_str(value).unwrap());
            assert_eq!(is_held(&headers, "\"x\""), held, "{value}");
        }
    }
}
