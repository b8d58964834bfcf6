//! Where a key or a value of a TOML text stands: from an error's span to its key path, and from a key path to its
//! line.
//!
//! Lines are looked up by parsing the text once more when there is something to complain about. The checked types
//! therefore carry no positions, and every later complaint about a task can still name its line.

use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, Place};
use crate::intake;

/// Longest value that is repeated in a message, in characters.
const SHOWN_MAX: usize = 60;

/// A text and the file it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source {
    path: PathBuf,
    text: String,
}

/// One step of a key path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Into a table.
    Key(String),
    /// Into an array.
    Index(usize),
}

impl From<&str> for Step {
    fn from(key: &str) -> Self {
        Self::Key(key.into())
    }
}

impl From<usize> for Step {
    fn from(index: usize) -> Self {
        Self::Index(index)
    }
}

/// Writes a key path: `key!["task", 2, "period"]`.
macro_rules! key {
    ($($step:expr),* $(,)?) => { [$($crate::config::source::Step::from($step)),*] };
}
pub(super) use key;

impl Source {
    pub(super) const fn new(path: PathBuf, text: String) -> Self {
        Self { path, text }
    }

    pub(super) fn read(path: &Path) -> Result<Self, ConfigError> {
        match intake::text(path, intake::TEXT_MAX) {
            Ok(text) => Ok(Self::new(path.into(), text)),
            Err(error) => Err(ConfigError::Unreadable { path: path.into(), reason: error.to_string() }),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The folder that relative paths in the text start from; empty for the working directory.
    pub(super) fn folder(&self) -> &Path {
        self.path.parent().unwrap_or_else(|| Path::new(""))
    }

    /// A complaint about what stands at `path`, or about its absence.
    pub(super) fn complain(&self, path: &[Step], problem: String, legal: String) -> ConfigError {
        let (place, value) = self.find(path);
        ConfigError::Field { place, value, problem, legal }
    }

    /// The place of a key path and the value that is written there. A path that leads nowhere is placed at the
    /// nearest table that exists.
    pub(super) fn find(&self, path: &[Step]) -> (Box<Place>, Option<String>) {
        let Ok(root) = DeTable::parse(&self.text) else {
            return (self.place(0, String::new()), None);
        };
        let (start, value) = match follow(root.get_ref(), path) {
            Ok(value) => (value.span().start, self.written(value)),
            Err(nearest) => (nearest, None),
        };
        (self.place(start, render(root.get_ref(), path)), value)
    }

    /// Turns an error of the TOML reader into one with a place. `legal` gives the legal values of a key path in which
    /// indices are left out, such as `task.period`.
    pub(super) fn explain(&self, error: &toml::de::Error, legal: fn(&str) -> &'static str) -> ConfigError {
        let span = error.span().unwrap_or(0..0);
        let Ok(root) = DeTable::parse(&self.text) else {
            let line = self.shown(&self.line_around(span.start)).unwrap_or_default();
            let reason = format!("{} in `{line}`; legal: TOML", one_line(error.message()));
            return ConfigError::Syntax { place: self.place(span.start, String::new()), reason };
        };
        let mut path = deepest(root.get_ref(), &span);
        let mut value = None;
        let message = one_line(error.message());
        // What the reader expected is a machine type or a list of keys; `legal` says it in words of the fleet.
        let mut problem = message.split(", expected ").next().unwrap_or(&message).to_string();
        if let Some(missing) = missing_field(&message) {
            path.push(Step::from(missing));
            problem = "is missing".into();
        } else if let Ok(found) = follow(root.get_ref(), &path) {
            value = self.written(found);
        }
        let place = self.place(span.start, render(root.get_ref(), &path));
        ConfigError::Field { place, value, problem, legal: legal(&keys_of(&path)).into() }
    }

    fn place(&self, offset: usize, key: String) -> Box<Place> {
        // Spans of the reader lie on character boundaries; one that does not is placed at the start.
        let before = self.text.get(..offset).unwrap_or("");
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |rest| rest.chars().count()) + 1;
        Box::new(Place { file: self.path.clone(), position: Some((line, column)), key })
    }

    /// What is written for a value; nothing for a table or an array of tables under headers of their own, whose span
    /// is their header.
    fn written(&self, value: &Spanned<DeValue<'_>>) -> Option<String> {
        let first = match value.get_ref() {
            DeValue::Array(items) => items.first().unwrap_or(value),
            _ => value,
        };
        let inline = self.text.get(first.span()).is_some_and(|text| text.starts_with('{'));
        if first.get_ref().is_table() && !inline { None } else { self.shown(&value.span()) }
    }

    fn line_around(&self, offset: usize) -> Range<usize> {
        let (before, after) = self.text.split_at_checked(offset).unwrap_or((&self.text, ""));
        let start = before.rfind('\n').map_or(0, |end| end + 1);
        start..before.len() + after.find('\n').unwrap_or(after.len())
    }

    fn shown(&self, span: &Range<usize>) -> Option<String> {
        let line = one_line(self.text.get(span.clone())?);
        match line.char_indices().nth(SHOWN_MAX) {
            Some((end, _)) => Some(format!("{}...", &line[..end])),
            None => (!line.is_empty()).then_some(line),
        }
    }
}

fn one_line(text: &str) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control());
    words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// The reader tells a missing key by its text alone.
fn missing_field(message: &str) -> Option<&str> {
    message.strip_prefix("missing field `")?.strip_suffix('`')
}

/// The value at `path`, or where the nearest table around it starts.
fn follow<'a, 'i>(root: &'a DeTable<'i>, path: &[Step]) -> Result<&'a Spanned<DeValue<'i>>, usize> {
    let Some((Step::Key(first), rest)) = path.split_first() else { return Err(0) };
    let mut value = root.get(first.as_str()).ok_or(0usize)?;
    for step in rest {
        let next = match step {
            Step::Key(key) => value.get_ref().get(key.as_str()),
            Step::Index(index) => value.get_ref().get(*index),
        };
        value = next.ok_or_else(|| value.span().start)?;
    }
    Ok(value)
}

/// The path to the smallest key or value that holds the start of `span`; among equals the one deepest inside.
fn deepest(root: &DeTable<'_>, span: &Range<usize>) -> Vec<Step> {
    let mut search = Search { span, width: usize::MAX, best: Vec::new(), at: Vec::new() };
    search.table(root);
    search.best
}

struct Search<'a> {
    span: &'a Range<usize>,
    width: usize,
    best: Vec<Step>,
    at: Vec<Step>,
}

impl Search<'_> {
    fn table(&mut self, table: &DeTable<'_>) {
        for (key, value) in table {
            self.at.push(Step::from(key.get_ref().as_ref()));
            self.offer(&key.span());
            self.value(value);
            self.at.pop();
        }
    }

    fn value(&mut self, value: &Spanned<DeValue<'_>>) {
        self.offer(&value.span());
        match value.get_ref() {
            DeValue::Table(table) => self.table(table),
            DeValue::Array(array) => {
                for (index, item) in array.iter().enumerate() {
                    self.at.push(Step::from(index));
                    self.value(item);
                    self.at.pop();
                }
            }
            _ => {}
        }
    }

    fn offer(&mut self, found: &Range<usize>) {
        let holds = found.start <= self.span.start && self.span.end <= found.end;
        if holds && !found.is_empty() && found.len() <= self.width {
            self.width = found.len();
            self.best.clone_from(&self.at);
        }
    }
}

/// A key path for people: elements of arrays of tables carry their name beside their number.
fn render(root: &DeTable<'_>, path: &[Step]) -> String {
    let mut text = String::new();
    for (depth, step) in path.iter().enumerate() {
        match step {
            Step::Key(key) if text.is_empty() => text.push_str(key),
            Step::Key(key) => text = format!("{text}.{key}"),
            Step::Index(index) => {
                text = format!("{text}[{index}]");
                if let Some(name) = name_of(root, &path[..=depth]) {
                    text = format!("{text} `{}`", one_line(name));
                }
            }
        }
    }
    text
}

fn name_of<'a>(root: &'a DeTable<'_>, path: &[Step]) -> Option<&'a str> {
    let [Step::Key(table), Step::Index(index)] = path else { return None };
    root.get(table.as_str())?.get_ref().get(*index)?.get_ref().get("name")?.get_ref().as_str()
}

fn keys_of(path: &[Step]) -> String {
    let keys = path.iter().filter_map(|step| match step {
        Step::Key(key) => Some(key.as_str()),
        Step::Index(_) => None,
    });
    keys.collect::<Vec<_>>().join(".")
}
