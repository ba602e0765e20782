//! Words for an error.

/// An error and what lies behind it, in one line, outermost first. Words that an error already quotes from its cause
/// are not said twice.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{words}")]
    struct Link {
        words: &'static str,
        #[source]
        cause: Option<Box<Link>>,
    }

    fn link(words: &'static str, cause: Option<Link>) -> Link {
        let cause = cause.map(Box::new);
        Link { words, cause }
    }

    #[test]
    fn causes_follow_and_nothing_is_said_twice() {
        let disk = || Some(link("disk full", None));
        assert_eq!(chain(&link("a", Some(link("b", disk())))), "a: b: disk full");
        assert_eq!(chain(&link("a: disk full", disk())), "a: disk full");
        assert_eq!(chain(&link("alone", None)), "alone");
    }
}
