//! How a target's bytes travel: as they are, compressed, or as a difference to a file that the other side holds, in
//! HTTP's own words (RFC 9110 section 8.4, RFC 8878, RFC 9842).
//!
//! The signed bytes are the plain bytes. A coding needs no signature, because what is verified is the decoded target.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tuf::Digest;

/// The request's field that names the file its sender holds (RFC 9842 section 2.2).
pub const AVAILABLE_DICTIONARY: &str = "available-dictionary";
/// `Vary` of an answer that depends on what its reader takes and holds (RFC 9842 section 6.2).
pub const VARY: &str = "accept-encoding, available-dictionary";
/// First bytes of a `dcz` body: a skippable Zstandard frame of 32 bytes (RFC 9842 section 5).
pub const DCZ_MAGIC: [u8; 8] = [0x5e, 0x2a, 0x4d, 0x18, 0x20, 0x00, 0x00, 0x00];
/// Bytes before the Zstandard frame of a `dcz` body: the magic and the dictionary's SHA-256.
pub const DCZ_HEADER: usize = 40;

/// How the bytes of an answer are coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Coding {
    /// As they are.
    Identity,
    /// A Zstandard frame.
    Zstd,
    /// A Zstandard frame that was made with a dictionary, behind [`dcz_header`].
    Dcz,
}

impl Coding {
    /// The word in `Content-Encoding` and `Accept-Encoding`.
    #[must_use]
    pub const fn token(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Zstd => "zstd",
            Self::Dcz => "dcz",
        }
    }

    /// What `Content-Encoding` says; an answer without it is plain. `None` for codings that nobody asked for, also for
    /// several of them.
    #[must_use]
    pub fn of_answer(content_encoding: Option<&str>) -> Option<Self> {
        let Some(text) = content_encoding else {
            return Some(Self::Identity);
        };
        [Self::Identity, Self::Zstd, Self::Dcz]
            .into_iter()
            .find(|coding| text.trim().eq_ignore_ascii_case(coding.token()))
    }

    /// Whether the text of `Accept-Encoding` names this coding with a weight above zero (RFC 9110 section 12.5.3).
    /// `*` is no word for it: who takes `dcz` has to hold a dictionary and says so.
    #[must_use]
    pub fn is_accepted(self, accept_encoding: &str) -> bool {
        accept_encoding.split(',').any(|entry| {
            let mut parts = entry.split(';').map(str::trim);
            let named = parts
                .next()
                .is_some_and(|word| word.eq_ignore_ascii_case(self.token()));
            named && parts.all(is_positive_weight)
        })
    }
}

/// `q=0.5`: a weight above zero; whatever else stands there is not taken for one.
fn is_positive_weight(parameter: &str) -> bool {
    let Some((name, value)) = parameter.split_once('=') else {
        return false;
    };
    name.trim().eq_ignore_ascii_case("q")
        && value
            .trim()
            .parse::<f32>()
            .is_ok_and(|weight| weight > 0.0 && weight <= 1.0)
}

/// What `Available-Dictionary` says for a file of this digest: a Byte Sequence of Structured Fields (RFC 9651
/// section 3.3.5).
#[must_use]
pub fn available(digest: &Digest) -> String {
    format!(":{}:", STANDARD.encode(digest.as_bytes()))
}

/// The digest in the text of `Available-Dictionary`; `None` where it is not exactly one SHA-256.
#[must_use]
pub fn parse_available(text: &str) -> Option<Digest> {
    let inner = text.trim_matches(' ').strip_prefix(':')?.strip_suffix(':')?;
    let bytes: [u8; 32] = STANDARD.decode(inner).ok()?.try_into().ok()?;
    Some(Digest::from_bytes(bytes))
}

/// What a `dcz` body begins with.
#[must_use]
pub fn dcz_header(dictionary: &Digest) -> [u8; DCZ_HEADER] {
    let mut header = [0; DCZ_HEADER];
    let (magic, digest) = header.split_at_mut(DCZ_MAGIC.len());
    magic.copy_from_slice(&DCZ_MAGIC);
    digest.copy_from_slice(dictionary.as_bytes());
    header
}

/// The dictionary that a `dcz` body was made with; `None` where it does not begin as one.
#[must_use]
pub fn dcz_dictionary(header: &[u8; DCZ_HEADER]) -> Option<Digest> {
    let digest: [u8; 32] = header.strip_prefix(&DCZ_MAGIC)?.try_into().ok()?;
    Some(Digest::from_bytes(digest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_standards_own_example_is_read() {
        // RFC 9842 section 2.2.
        let text = ":pZGm1Av0IEBKARczz7exkNYsZb8LzaMrV7J32a2fFG4=:";
        let digest = parse_available(text).unwrap();
        let hex = "a591a6d40bf420404a011733cfb7b190d62c65bf0bcda32b57b277d9ad9f146e";
        assert_eq!(digest.to_string(), hex);
        assert_eq!(available(&digest), text);
    }

    #[test]
    fn what_is_no_single_digest_is_no_dictionary() {
        for bad in [
            "",
            ":",
            "::",
            ":AAAA:",
            "pZGm1Av0IEBKARczz7exkNYsZb8LzaMrV7J32a2fFG4=",
            ":pZGm1Av0IEBKARczz7exkNYsZb8LzaMrV7J32a2fFG4=:;a=1",
            ":pZGm1Av0IEBKARczz7exkNYsZb8LzaMrV7J32a2fFG4=:, :AAAA:",
            ":pZGm1Av0IEBKARczz7exkNYsZb8LzaMrV7J32a2fFG4!:",
        ] {
            assert_eq!(parse_available(bad), None, "{bad:?} was read");
        }
    }

    #[test]
    fn a_coding_is_accepted_only_by_its_name_and_weight() {
        for yes in ["dcz", "zstd, dcz", "zstd;q=0.5,DCZ ; q=1.0", "dcz;q=0.001"] {
            assert!(Coding::Dcz.is_accepted(yes), "{yes:?}");
        }
        for no in [
            "",
            "zstd",
            "*",
            "dcz;q=0",
            "dcz;q=0.000",
            "dczx",
            "dcz;q=x",
            "dcz;q=NaN",
            "dcz;x",
        ] {
            assert!(!Coding::Dcz.is_accepted(no), "{no:?}");
        }
    }

    #[test]
    fn an_answer_has_one_known_coding() {
        assert_eq!(Coding::of_answer(None), Some(Coding::Identity));
        assert_eq!(Coding::of_answer(Some("zstd")), Some(Coding::Zstd));
        assert_eq!(Coding::of_answer(Some("DCZ")), Some(Coding::Dcz));
        for unknown in ["gzip", "", "zstd, dcz", "dcb"] {
            assert_eq!(Coding::of_answer(Some(unknown)), None, "{unknown:?}");
        }
    }

    #[test]
    fn a_body_that_begins_otherwise_is_no_difference() {
        let digest = Digest::of(b"old");
        for at in 0..DCZ_MAGIC.len() {
            let mut header = dcz_header(&digest);
            header[at] ^= 1;
            assert_eq!(dcz_dictionary(&header), None, "byte {at} was not looked at");
        }
    }

    proptest! {
        #[test]
        fn a_digest_survives_both_ways(bytes: [u8; 32]) {
            let digest = Digest::from_bytes(bytes);
            prop_assert_eq!(parse_available(&available(&digest)), Some(digest));
            prop_assert_eq!(dcz_dictionary(&dcz_header(&digest)), Some(digest));
        }

        #[test]
        fn no_text_panics(text in ".*") {
            let _ = parse_available(&text);
            let _ = Coding::Dcz.is_accepted(&text);
            let _ = Coding::of_answer(Some(&text));
        }
    }
}
