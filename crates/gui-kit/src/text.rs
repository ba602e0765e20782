//! Texts of a window from one file, so that a translation is a file.
//!
//! A window's texts are a struct ([`texts!`](crate::texts)) whose fields are the keys of a flat TOML file (`en.toml`,
//! compiled in). A
//! translation is the same file with other words: keys that it lacks stay English, keys that nobody knows are
//! an error that names them.

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::limits::MAX_TEXTS;

/// Why a file of texts cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    /// It cannot be read.
    #[error("cannot read the texts in {path}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is too large.
    #[error("the texts in {0} are larger than {MAX_TEXTS} bytes")]
    Large(String),
    /// It is not a file of texts.
    #[error("the texts in {path} cannot be used")]
    Malformed {
        /// The file.
        path: String,
        /// Where and why.
        #[source]
        source: toml::de::Error,
    },
}

/// Declares a window's texts: a struct with one `String` a key, read from a TOML file beside the source. A key that
/// the file lacks, or has too much, is an error that the struct's own test finds.
#[macro_export]
macro_rules! texts {
    ($(#[$doc:meta])* $name:ident { $($key:ident),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        #[allow(missing_docs, reason = "each key is explained by its words in the file")]
        pub struct $name { $(pub $key: String),* }
    };
}

texts! {
    /// The texts of this crate's own widgets.
    Kit {
        cancel, close, copy, copied, show, hide, details, all_levels, only_warnings, only_errors, filter, no_events,
        events_shown, info, warning, error, seconds_left, minutes_left, hours_left, done, just_now, seconds_ago,
        minutes_ago, hours_ago, days_ago, never, service_starting, service_connecting, service_lost,
        service_lost_detail, try_now, choose_file, choose_path, choose_up, choose_recent, choose_drop, choose_open,
        choose_empty, choose_unreadable, choose_missing, choose_too_many, choose_folder,
        choose_reading, choose_no_match, theme_light, theme_dark, theme_system, sort_by,
        sorted_up, sorted_down,
    }
}

impl Kit {
    /// English.
    #[must_use]
    pub fn english() -> Self {
        #[allow(clippy::expect_used, reason = "compiled in; a test reads it")]
        toml::from_str(include_str!("en.toml")).expect("the compiled-in texts are complete")
    }

    /// The texts that [`Texts::install`] put into this context; English where none were.
    #[must_use]
    pub fn of(ctx: &egui::Context) -> Arc<Self> {
        let id = egui::Id::unique("gui-kit texts");
        if let Some(kit) = ctx.data(|data| data.get_temp::<Arc<Self>>(id)) {
            return kit;
        }
        let kit = Arc::new(Self::english());
        ctx.data_mut(|data| data.insert_temp(id, Arc::clone(&kit)));
        kit
    }
}

/// A window's texts and those of the widgets it is made of.
#[derive(Debug, Clone)]
pub struct Texts<T> {
    /// The window's own.
    pub own: Arc<T>,
    /// The widgets'.
    pub kit: Arc<Kit>,
}

impl<T: DeserializeOwned> Texts<T> {
    /// The texts compiled in, and over them those of the file `translation` where one is given. The translation
    /// of the widgets' texts is in its table `[kit]`.
    ///
    /// # Errors
    /// [`TextError`] names the file and the line.
    pub fn load(english: &str, translation: Option<&Path>) -> Result<Self, TextError> {
        let malformed = |path: &str| {
            let path = path.to_owned();
            move |source| TextError::Malformed { path, source }
        };
        let mut own: toml::Table = toml::from_str(english).map_err(malformed("this program"))?;
        let mut kit: toml::Table =
            toml::from_str(include_str!("en.toml")).map_err(malformed("this program"))?;
        let mut name = "this program".to_owned();
        if let Some(path) = translation {
            name = path.display().to_string();
            let mut other: toml::Table = toml::from_str(&read(path, &name)?).map_err(malformed(&name))?;
            if let Some(toml::Value::Table(words)) = other.remove("kit") {
                kit.extend(words);
            }
            own.extend(other);
        }
        Ok(Self {
            own: Arc::new(own.try_into().map_err(malformed(&name))?),
            kit: Arc::new(kit.try_into().map_err(malformed(&name))?),
        })
    }

    /// Gives the widgets their texts.
    pub fn install(&self, ctx: &egui::Context) {
        let id = egui::Id::unique("gui-kit texts");
        ctx.data_mut(|data| data.insert_temp(id, Arc::clone(&self.kit)));
    }
}

fn read(path: &Path, name: &str) -> Result<String, TextError> {
    let mut words = String::new();
    let read = std::fs::File::open(path)
        .and_then(|file| file.take(MAX_TEXTS + 1).read_to_string(&mut words))
        .map_err(|source| TextError::Read {
            path: name.to_owned(),
            source,
        })?;
    if read as u64 > MAX_TEXTS {
        return Err(TextError::Large(name.to_owned()));
    }
    Ok(words)
}

/// `text` with `facts` in its gaps `{}`, in order.
#[must_use]
pub fn fill(text: &str, facts: &[&dyn std::fmt::Display]) -> String {
    let mut parts = text.split("{}");
    let mut filled = parts.next().unwrap_or_default().to_owned();
    let mut facts = facts.iter();
    for part in parts {
        if let Some(fact) = facts.next() {
            filled.push_str(&fact.to_string());
        }
        filled.push_str(part);
    }
    filled
}

#[cfg(test)]
mod tests {
    use super::*;

    texts! {
        #[allow(unreachable_pub)]
        Words { greeting }
    }

    #[test]
    fn the_widgets_texts_are_complete() {
        assert!(!Kit::english().cancel.is_empty());
    }

    #[test]
    fn a_translation_replaces_what_it_has_and_unknown_keys_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("de.toml");
        std::fs::write(&file, "greeting = \"Hallo\"\n[kit]\ncancel = \"Abbrechen\"\n").unwrap();
        let texts = Texts::<Words>::load("greeting = \"hello\"", Some(&file)).unwrap();
        assert_eq!(
            (texts.own.greeting.as_str(), texts.kit.cancel.as_str()),
            ("Hallo", "Abbrechen")
        );
        assert_eq!(texts.kit.close, Kit::english().close);
        std::fs::write(&file, "greting = \"Hallo\"\n").unwrap();
        let error = Texts::<Words>::load("greeting = \"hello\"", Some(&file)).unwrap_err();
        assert!(
            std::error::Error::source(&error)
                .unwrap()
                .to_string()
                .contains("greting"),
            "{error:?}"
        );
    }

    #[test]
    fn gaps_are_filled_in_order() {
        assert_eq!(fill("{} of {}", &[&1, &"two"]), "1 of two");
        assert_eq!(fill("{} and {}", &[&1]), "1 and ");
    }
}
