//! Reading fields with their place: every fault is noted with line and column, and reading goes on, so that
//! an author can mend a file in one go.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::Range;
use std::str::FromStr;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Fault;
use crate::limits;
use crate::name::shorten;

/// The faults of a text, in the order in which they were found.
pub(super) struct Faults<'t> {
    text: &'t str,
    found: Vec<(usize, String)>,
}

impl<'t> Faults<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self {
            text,
            found: Vec::new(),
        }
    }

    /// Notes a fault at a byte of the text.
    pub(super) fn add(&mut self, at: usize, message: impl Display) {
        self.found.push((at, message.to_string()));
    }

    /// Notes a fault of a value; gives nothing.
    fn wrong<T>(&mut self, field: &Field<'_>, wrong: impl Display) -> Option<T> {
        self.add(field.at.start, format_args!("`{}`: {wrong}", field.name));
        None
    }

    /// The faults by their place.
    pub(super) fn finish(mut self) -> Vec<Fault> {
        self.found.sort_by_key(|(at, _)| *at);
        let more = self.found.len().saturating_sub(limits::FAULTS);
        self.found.truncate(limits::FAULTS);
        let mut faults: Vec<Fault> = self
            .found
            .into_iter()
            .map(|(at, message)| {
                let (line, column) = place(self.text, at);
                Fault {
                    line,
                    column,
                    message,
                }
            })
            .collect();
        if let (true, Some(last)) = (more > 0, faults.last_mut()) {
            last.message = format!("{} (and {more} more faults)", last.message);
        }
        faults
    }
}

/// Line and column of a byte, both counted from 1, the column in characters.
fn place(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |end| end + 1);
    let column = before.get(start..).unwrap_or_default().chars().count() + 1;
    (line, column)
}

/// A value with its name, as messages call it, and its place.
pub(super) struct Field<'a> {
    name: String,
    at: Range<usize>,
    value: &'a DeValue<'a>,
}

/// A table whose fields are taken one by one; what nobody took is a fault.
pub(super) struct Table<'a> {
    /// As a person writes it: `[run]`, or nothing for the file itself.
    name: String,
    /// Its header, for what is missing.
    at: usize,
    fields: &'a DeTable<'a>,
    known: Vec<&'static str>,
}

impl<'a> Table<'a> {
    pub(super) fn root(fields: &'a DeTable<'a>) -> Self {
        Self {
            name: String::new(),
            at: 0,
            fields,
            known: Vec::new(),
        }
    }

    /// Whether the field is there, whatever it is.
    pub(super) fn has(&self, key: &str) -> bool {
        self.fields.keys().any(|found| found.get_ref() == key)
    }

    /// Whether a table of this name is there with this field in it.
    pub(super) fn has_in(&self, table: &str, key: &str) -> bool {
        let found = self.fields.iter().find(|(found, _)| found.get_ref() == table);
        found.is_some_and(|(_, value)| match value.get_ref() {
            DeValue::Table(fields) => fields.keys().any(|found| found.get_ref() == key),
            _ => false,
        })
    }

    /// A field, if it is there.
    pub(super) fn take(&mut self, key: &'static str) -> Option<Field<'a>> {
        self.known.push(key);
        let (_, value) = self.fields.iter().find(|(found, _)| found.get_ref() == key)?;
        Some(Field {
            name: key.to_owned(),
            at: value.span(),
            value: value.get_ref(),
        })
    }

    /// A field that must be there; `example` says how to write it.
    pub(super) fn need(
        &mut self,
        key: &'static str,
        example: &str,
        faults: &mut Faults<'_>,
    ) -> Option<Field<'a>> {
        let field = self.take(key);
        if field.is_none() {
            let whose = if self.name.is_empty() {
                "the file"
            } else {
                &self.name
            };
            faults.add(
                self.at,
                format_args!("`{key}` is missing in {whose}: add {example}"),
            );
        }
        field
    }

    /// The table below this one, if it is there.
    pub(super) fn table(&mut self, key: &'static str, faults: &mut Faults<'_>) -> Option<Table<'a>> {
        self.known.push(key);
        let (found, value) = self.fields.iter().find(|(found, _)| found.get_ref() == key)?;
        let name = if self.name.is_empty() {
            format!("[{key}]")
        } else {
            format!("{}.{key}]", self.name.trim_end_matches(']'))
        };
        match value.get_ref() {
            DeValue::Table(fields) => Some(Table {
                name,
                at: found.span().start,
                fields,
                known: Vec::new(),
            }),
            other => {
                let is = kind(other);
                faults.add(
                    value.span().start,
                    format_args!("`{key}` is {is}: write it as a table, {name}"),
                );
                None
            }
        }
    }

    /// Every key and value, for tables whose keys are names.
    pub(super) fn entries(
        &self,
    ) -> impl Iterator<Item = (&'a Spanned<std::borrow::Cow<'a, str>>, Field<'a>)> {
        self.fields.iter().map(|(key, value)| {
            let field = Field {
                name: shorten(key.get_ref()),
                at: value.span(),
                value: value.get_ref(),
            };
            (key, field)
        })
    }

    /// Where the table or one of its fields stands.
    pub(super) fn place_of(&self, key: &str) -> usize {
        let found = self.fields.iter().find(|(found, _)| found.get_ref() == key);
        found.map_or(self.at, |(_, value)| value.span().start)
    }

    /// Ends the table: a misspelt field must not be ignored.
    pub(super) fn finish(self, faults: &mut Faults<'_>) {
        for (key, _) in self.fields {
            let (at, key) = (key.span().start, key.get_ref());
            if self.known.iter().any(|known| known == key) {
                continue;
            }
            let whose = if self.name.is_empty() {
                "this file"
            } else {
                &self.name
            };
            let advice = match nearest(key, &self.known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("it knows {}", self.known.join(", ")),
            };
            faults.add(
                at,
                format_args!("`{}` is no field of {whose}: {advice}", shorten(key)),
            );
        }
    }
}

/// The known word that differs in the fewest letters, if it is near enough to be meant.
fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let near = known.iter().map(|known| (distance(word, known), *known));
    let (letters, found) = near.min_by_key(|(letters, _)| *letters)?;
    (letters <= 1 + found.len() / 4).then_some(found)
}

/// Levenshtein's distance; both words are short.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().take(limits::COMPONENT_BYTES).collect();
    let mut row: Vec<usize> = (0..=a.len()).collect();
    for (line, letter) in b.chars().enumerate() {
        let mut corner = line;
        let mut left = line + 1;
        for (at, other) in a.iter().enumerate() {
            let above = row.get(at + 1).copied().unwrap_or_default();
            let changed = corner + usize::from(*other != letter);
            corner = above;
            let best = changed.min(above + 1).min(left + 1);
            if let Some(cell) = row.get_mut(at) {
                *cell = left;
            }
            left = best;
        }
        if let Some(cell) = row.last_mut() {
            *cell = left;
        }
    }
    row.last().copied().unwrap_or_default()
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a point",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

impl<'a> Field<'a> {
    /// A text.
    pub(super) fn text(&self, faults: &mut Faults<'_>) -> Option<&'a str> {
        match self.value {
            DeValue::String(text) => Some(text),
            other => {
                let raw = faults.text.get(self.at.clone()).unwrap_or_default();
                let is = kind(other);
                match other {
                    DeValue::Array(_) | DeValue::Table(_) => {
                        faults.wrong(self, format_args!("it is {is}: write one text in quotes"))
                    }
                    _ => faults.wrong(
                        self,
                        format_args!("it is {is}: put it in quotes, \"{}\"", shorten(raw)),
                    ),
                }
            }
        }
    }

    /// A text that is more than one.
    pub(super) fn parsed<T: FromStr<Err: Display>>(&self, faults: &mut Faults<'_>) -> Option<T> {
        let text = self.text(faults)?;
        match text.parse() {
            Ok(value) => Some(value),
            Err(error) => faults.wrong(self, error),
        }
    }

    /// A text that a rule allows.
    pub(super) fn checked(
        &self,
        check: impl FnOnce(&str) -> Result<(), &'static str>,
        faults: &mut Faults<'_>,
    ) -> Option<String> {
        let text = self.text(faults)?;
        match check(text) {
            Ok(()) => Some(text.to_owned()),
            Err(wrong) => faults.wrong(self, wrong),
        }
    }

    /// One of a few words.
    pub(super) fn one_of<T: Copy>(&self, words: &[(&'static str, T)], faults: &mut Faults<'_>) -> Option<T> {
        let text = self.text(faults)?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let known = known.join("\", \"");
        faults.wrong(
            self,
            format_args!("{:?} is not known: write one of \"{known}\"", shorten(text)),
        )
    }

    /// True or false.
    pub(super) fn truth(&self, faults: &mut Faults<'_>) -> Option<bool> {
        match self.value {
            DeValue::Boolean(truth) => Some(*truth),
            other => {
                let is = kind(other);
                faults.wrong(
                    self,
                    format_args!("it is {is}: write true or false, without quotes"),
                )
            }
        }
    }

    /// A whole number from 0 to `max`.
    pub(super) fn number(&self, max: u64, faults: &mut Faults<'_>) -> Option<u64> {
        let DeValue::Integer(integer) = self.value else {
            let is = kind(self.value);
            return faults.wrong(
                self,
                format_args!("it is {is}: write a whole number, without quotes"),
            );
        };
        let number = u64::from_str_radix(integer.as_str(), integer.radix()).ok();
        match number.filter(|number| *number <= max) {
            Some(number) => Some(number),
            None => faults.wrong(self, format_args!("{integer} is out of range: write 0 to {max}")),
        }
    }

    /// A whole number from 0 to `max` that fits 32 bits.
    pub(super) fn small(&self, max: u32, faults: &mut Faults<'_>) -> Option<u32> {
        let number = self.number(max.into(), faults)?;
        u32::try_from(number).ok()
    }

    /// The values of a list.
    fn list(&self, example: &str, faults: &mut Faults<'_>) -> Option<Vec<Field<'a>>> {
        let DeValue::Array(array) = self.value else {
            let is = kind(self.value);
            return faults.wrong(self, format_args!("it is {is}: write a list, {example}"));
        };
        let values = array.iter().map(|value| Field {
            name: self.name.clone(),
            at: value.span(),
            value: value.get_ref(),
        });
        Some(values.collect())
    }

    /// A list whose values are read one by one; none if one is wrong.
    pub(super) fn list_of<T>(
        &self,
        example: &str,
        faults: &mut Faults<'_>,
        mut read: impl FnMut(&Field<'a>, &mut Faults<'_>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let fields = self.list(example, faults)?;
        // All are read, so that all faults are told.
        let read: Vec<Option<T>> = fields.iter().map(|field| read(field, faults)).collect();
        read.into_iter().collect()
    }

    /// A list of texts that a rule allows.
    pub(super) fn texts(
        &self,
        check: impl FnOnce(&[String]) -> Result<(), &'static str>,
        faults: &mut Faults<'_>,
    ) -> Option<Vec<String>> {
        let texts = self.list_of("[\"one\", \"two\"]", faults, |field, faults| {
            field.text(faults).map(str::to_owned)
        })?;
        match check(&texts) {
            Ok(()) => Some(texts),
            Err(wrong) => faults.wrong(self, wrong),
        }
    }

    /// A table of texts that a rule allows.
    pub(super) fn variables(
        &self,
        check: impl FnOnce(&BTreeMap<String, String>) -> Result<(), String>,
        faults: &mut Faults<'_>,
    ) -> Option<BTreeMap<String, String>> {
        let DeValue::Table(table) = self.value else {
            let is = kind(self.value);
            return faults.wrong(
                self,
                format_args!("it is {is}: write a table, {{ NAME = \"value\" }}"),
            );
        };
        let mut all = Some(BTreeMap::new());
        for (name, value) in table {
            let field = Field {
                name: shorten(name.get_ref()),
                at: value.span(),
                value: value.get_ref(),
            };
            match (field.text(faults), &mut all) {
                (Some(text), Some(all)) => drop(all.insert(name.get_ref().to_string(), text.to_owned())),
                _ => all = None,
            }
        }
        let all = all?;
        match check(&all) {
            Ok(()) => Some(all),
            Err(wrong) => faults.wrong(self, wrong),
        }
    }
}
