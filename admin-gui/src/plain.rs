//! Text that others wrote, before a person reads it in a terminal.

use std::fmt::Write as _;

/// The text with every character that a terminal would act upon, or that shows nothing or something else than it is
/// (control characters, marks that turn the direction, marks without a width), as in JSON: `\\u202e`.
#[must_use]
pub(crate) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        let shows =
            c == '\n' || (c.is_ascii() && !c.is_control()) || (!c.is_ascii() && c.escape_debug().len() == 1);
        if shows {
            plain.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            // Into a text: this cannot fail.
            let _ = write!(plain, "\\u{unit:04x}");
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_stays_and_what_deceives_is_shown() {
        for text in [
            "plain",
            "gr\u{fc}n, \u{20ac} \u{65e5}\u{672c}",
            "two\nlines",
            "a \"quoted\" \\ word",
        ] {
            assert_eq!(plain(text), text);
        }
        for (text, shown) in [
            ("\u{1b}[2J\r\t", r"\u001b[2J\u000d\u0009"),
            ("\u{7f}\u{9b}2J", r"\u007f\u009b2J"),
            ("\u{202e}\u{2066}\u{200b}\u{feff}", r"\u202e\u2066\u200b\ufeff"),
            ("\u{e0041}", r"\udb40\udc41"),
        ] {
            assert_eq!(plain(text), shown, "{text:?}");
        }
    }
}
