//! The file of `--changes`: when which tasks come and go, checked against the fleet as a whole before anything runs.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};

use aegis_types::{Nanos, Time};
use serde::Deserialize;
use toml::Spanned;

use super::super::answer::CliError;
use crate::config::{ConfigError, Fleet, Place};
use crate::intake;
use crate::simulate::changes::Wish;

/// The longest run: everything that is recorded is kept, to be checked and decided again at the end.
pub(super) const RUN_MAX: Nanos = Nanos::from_millis(60_000);
/// Longest value that is repeated in a message, in characters.
const SHOWN_MAX: usize = 60;
/// What a file of changes holds.
const LEGAL: &str = "tables [[change]] with `at`, a span such as \"200ms\", and at least one of `remove` and `restore`, \
                     names of tasks, and `add`, a file of [[task]] tables";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangesFile {
    change: Vec<ChangeFile>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangeFile {
    at: Spanned<Nanos>,
    #[serde(default)]
    remove: Vec<Spanned<String>>,
    #[serde(default)]
    restore: Vec<Spanned<String>>,
    add: Option<Spanned<String>>,
}

/// What is asked for, and the fleet with every task that ever comes.
#[derive(Debug)]
pub(super) struct Wishes {
    pub(super) fleet: Fleet,
    pub(super) wishes: Vec<Wish>,
}

impl Wishes {
    /// Reads and checks a file of changes to a fleet that is served until `horizon`, or at most [`RUN_MAX`].
    ///
    /// # Errors
    /// File, line, key, value and what is legal.
    pub(super) fn read(path: &Path, fleet: Fleet, horizon: Option<Nanos>) -> Result<Self, CliError> {
        let reason =
            |error: std::io::Error| ConfigError::Unreadable { path: path.into(), reason: error.to_string() };
        let text = intake::text(path, intake::TEXT_MAX).map_err(reason)?;
        let source = Text { path, text: &text };
        let written: ChangesFile = toml::from_str(&text).map_err(|error| source.syntax(&error))?;
        if written.change.is_empty() {
            return Err(source.complain(0..0, "change", "there is none", LEGAL));
        }
        let served = fleet.tasks().iter().map(|task| task.name.clone()).collect();
        let end = Time::new(horizon.unwrap_or(RUN_MAX).get());
        let mut reader =
            Reader { source, end, fleet, last: None, served, gone: BTreeSet::new(), named: BTreeSet::new() };
        let read = |(index, change)| reader.change(index, change);
        let wishes = written.change.iter().enumerate().map(read).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { fleet: reader.fleet, wishes })
    }
}

/// The text and where it came from.
#[derive(Clone, Copy)]
struct Text<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Text<'_> {
    fn complain(self, span: Range<usize>, key: &str, problem: &str, legal: impl Into<String>) -> CliError {
        let before = self.text.get(..span.start).unwrap_or("");
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |rest| rest.chars().count()) + 1;
        let place = Place { file: self.path.into(), position: Some((line, column)), key: key.to_owned() };
        let value = self.text.get(span).map(shown).filter(|value| !value.is_empty());
        let (problem, legal) = (problem.to_owned(), legal.into());
        ConfigError::Field { place: Box::new(place), value, problem, legal }.into()
    }

    fn syntax(self, error: &toml::de::Error) -> CliError {
        let span = error.span().unwrap_or(0..0);
        // A table as a whole is not repeated: its line says where it is.
        let whole = self.text.get(span.clone()).is_some_and(|text| text.starts_with('['));
        let span = if whole { span.start..span.start } else { span };
        self.complain(span, "", &shown(error.message()), LEGAL)
    }
}

/// One line of a text, not longer than people read, without what a terminal would obey.
fn shown(text: &str) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control());
    let line = words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}

/// Goes through the changes as if each were accepted.
struct Reader<'a> {
    source: Text<'a>,
    end: Time,
    fleet: Fleet,
    last: Option<Time>,
    served: BTreeSet<String>,
    gone: BTreeSet<String>,
    /// Names in the change at hand.
    named: BTreeSet<String>,
}

impl Reader<'_> {
    fn change(&mut self, index: usize, change: &ChangeFile) -> Result<Wish, CliError> {
        let at = self.at(index, &change.at)?;
        if change.remove.is_empty() && change.restore.is_empty() && change.add.is_none() {
            let (span, key) = (change.at.span(), format!("change[{index}].at"));
            return Err(self.source.complain(span, &key, "the change asks for nothing", LEGAL));
        }
        self.named.clear();
        for (place, name) in change.remove.iter().enumerate() {
            self.leaves(&format!("change[{index}].remove[{place}]"), name)?;
        }
        let mut add = Vec::new();
        for (place, name) in change.restore.iter().enumerate() {
            self.returns(&format!("change[{index}].restore[{place}]"), name)?;
            add.push(name.get_ref().clone());
        }
        if let Some(file) = &change.add {
            add.extend(self.comes(&format!("change[{index}].add"), file)?);
        }
        let remove: Vec<String> = change.remove.iter().map(|name| name.get_ref().clone()).collect();
        self.gone.extend(remove.iter().cloned());
        self.served.extend(add.iter().cloned());
        Ok(Wish { at, remove, add })
    }

    fn at(&mut self, index: usize, written: &Spanned<Nanos>) -> Result<Time, CliError> {
        let at = Time::new(written.get_ref().get());
        let key = format!("change[{index}].at");
        let complain =
            |problem: &str, legal: String| Err(self.source.complain(written.span(), &key, problem, legal));
        if let Some(last) = self.last.filter(|last| at <= *last) {
            let legal = format!("a span above {last}, where the change before is asked for");
            return complain("the times of changes must rise", legal);
        }
        if at >= self.end {
            return complain(
                "the run has ended by then",
                format!("a span below {}, or a longer --horizon", self.end),
            );
        }
        self.last = Some(at);
        Ok(at)
    }

    /// A task that goes is served, and no chain needs it.
    fn leaves(&mut self, key: &str, name: &Spanned<String>) -> Result<(), CliError> {
        let complain =
            |problem: &str, legal: String| Err(self.source.complain(name.span(), key, problem, legal));
        let among: Vec<&str> = self.served.iter().map(String::as_str).collect();
        if self.named.contains(name.get_ref()) {
            return complain("is named twice in this change", "each task once".to_owned());
        }
        if !self.served.contains(name.get_ref()) {
            return complain("no such task is served then", listed(&among));
        }
        let number = self.fleet.task(name.get_ref()).map(|(id, _)| id);
        let needs =
            |chain: &&crate::config::ChainConfig| chain.steps.iter().any(|step| Some(step.task) == number);
        if let Some(chain) = self.fleet.chains().iter().find(needs) {
            let problem =
                format!("chain `{}` runs through it, and would have no bounds without it", chain.name);
            return complain(&problem, "a task of no chain".to_owned());
        }
        self.served.remove(name.get_ref());
        self.named.insert(name.get_ref().clone());
        Ok(())
    }

    /// A task that comes back went before.
    fn returns(&mut self, key: &str, name: &Spanned<String>) -> Result<(), CliError> {
        if !self.gone.remove(name.get_ref()) {
            let among: Vec<&str> = self.gone.iter().map(String::as_str).collect();
            let problem = "no change before has removed such a task";
            return Err(self.source.complain(name.span(), key, problem, listed(&among)));
        }
        Ok(())
    }

    /// The names of the tasks of a file, which join the fleet.
    fn comes(&mut self, key: &str, file: &Spanned<String>) -> Result<Vec<String>, CliError> {
        let folder = self.source.path.parent().unwrap_or(Path::new(""));
        let path: PathBuf = folder.join(file.get_ref());
        let text = intake::text(&path, intake::TEXT_MAX).map_err(|error| {
            let problem = format!("cannot be read: {error}");
            self.source.complain(file.span(), key, &problem, "the path of a readable file of [[task]] tables")
        })?;
        let known = self.fleet.tasks().len();
        self.fleet = self.fleet.with_tasks(&path, &text)?;
        Ok(self.fleet.tasks()[known..].iter().map(|task| task.name.clone()).collect())
    }
}

fn listed(names: &[&str]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
