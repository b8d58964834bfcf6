//! What runs of the suite found, kept as lines of a file and shown as one table.
//!
//! A table of what each backend supports is written by nobody: every run adds its own lines, on whatever machine has the
//! backend's library and device, and whoever has the lines prints the table.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use super::{Report, Violation};
use crate::device::DeviceKind;

/// The variable that names the file to which every run of [`backend`](super::backend) adds its lines.
pub const RECORD_VARIABLE: &str = "AEGIS_CONFORMANCE_OUT";

/// What a run was about.
pub(super) struct Subject<'a> {
    pub(super) backend: &'a str,
    pub(super) device: DeviceKind,
    pub(super) model: &'a str,
}

/// What came of one check of one model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The backend's word in a fleet.
    pub backend: String,
    /// The device's kind.
    pub device: String,
    /// The model.
    pub model: String,
    /// The check.
    pub check: String,
    /// `passed`, `skipped`, `failed`, or `not reached` behind a failed one.
    pub result: String,
    /// Why, where it did not pass; otherwise empty.
    pub reason: String,
}

/// The fields of a line are apart by tabs.
const FIELDS: usize = 6;

impl Row {
    /// Reads a line that a run added; `None` for any other.
    pub fn parse(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.split('\t').collect();
        let [backend, device, model, check, result, reason]: [&str; FIELDS] = fields.try_into().ok()?;
        Some(Self {
            backend: backend.to_owned(),
            device: device.to_owned(),
            model: model.to_owned(),
            check: check.to_owned(),
            result: result.to_owned(),
            reason: reason.to_owned(),
        })
    }

    fn line(&self) -> String {
        let fields = [&self.backend, &self.device, &self.model, &self.check, &self.result, &self.reason];
        fields.map(|field| field.replace(['\t', '\n', '\r'], " ")).join("\t") + "\n"
    }
}

/// Adds what came of a run to the file that the environment names; without one, nothing is done.
pub(super) fn record(
    subject: &Subject<'_>,
    checks: &[&'static str],
    outcome: &Result<Report, Violation>,
) -> Result<(), Violation> {
    let Some(path) = std::env::var_os(RECORD_VARIABLE).filter(|path| !path.is_empty()) else {
        return Ok(());
    };
    append(Path::new(&path), &rows(subject, checks, outcome)).map_err(|error| Violation {
        check: "what was found is kept",
        detail: format!("{}: {error}", Path::new(&path).display()),
    })
}

/// One write for all lines, so that runs side by side do not mix theirs.
fn append(path: &Path, rows: &[Row]) -> std::io::Result<()> {
    let mut file = std::fs::File::options().create(true).append(true).open(path)?;
    file.write_all(rows.iter().map(Row::line).collect::<String>().as_bytes())
}

fn rows(subject: &Subject<'_>, checks: &[&str], outcome: &Result<Report, Violation>) -> Vec<Row> {
    let failed = outcome.as_ref().err();
    let failed_at = failed.and_then(|violation| checks.iter().position(|check| *check == violation.check));
    let result = |(position, check): (usize, &str)| match (outcome, failed_at) {
        (Err(violation), Some(at)) if position == at => ("failed", violation.detail.clone()),
        (Err(_), Some(at)) if position > at => ("not reached", String::new()),
        (Err(_), _) => ("passed or skipped", String::new()),
        (Ok(report), _) => match report.skipped.iter().find(|(skipped, _)| *skipped == check) {
            Some((_, reason)) => ("skipped", reason.clone()),
            None => ("passed", String::new()),
        },
    };
    let row = |(position, check): (usize, &&str)| {
        let (result, reason) = result((position, check));
        Row {
            backend: subject.backend.to_owned(),
            device: format!("{:?}", subject.device).to_lowercase(),
            model: subject.model.to_owned(),
            check: (*check).to_owned(),
            result: result.to_owned(),
            reason,
        }
    };
    checks.iter().enumerate().map(row).collect()
}

/// The rows as a table in Markdown: a line for each check, a column for each backend on each device, and below it why
/// checks did not pass. Of several runs of one model the last counts.
pub fn markdown(rows: &[Row]) -> String {
    let mut last: BTreeMap<(String, &str, &str), &Row> = BTreeMap::new();
    let (mut checks, mut columns): (Vec<&str>, Vec<String>) = (Vec::new(), Vec::new());
    for row in rows {
        let column = format!("{}, {}", row.backend, row.device);
        if !checks.contains(&row.check.as_str()) {
            checks.push(&row.check);
        }
        if !columns.contains(&column) {
            columns.push(column.clone());
        }
        last.insert((column, &row.check, &row.model), row);
    }
    columns.sort();
    // Writing into a text cannot fail.
    let mut text = String::from("| check |");
    columns.iter().for_each(|column| text.push_str(&format!(" {column} |")));
    let _ok = write!(text, "\n|---|{}\n", "---|".repeat(columns.len()));
    for check in &checks {
        let cells = columns.iter().map(|column| cell(&last, column, check));
        let _ok = writeln!(text, "| {check} | {} |", cells.collect::<Vec<_>>().join(" | "));
    }
    let models = columns.iter().map(|column| models(&last, column).join(", "));
    let _ok = writeln!(text, "| models | {} |", models.collect::<Vec<_>>().join(" | "));
    text + &notes(&last)
}

type Last<'a> = BTreeMap<(String, &'a str, &'a str), &'a Row>;

fn models<'a>(last: &Last<'a>, column: &str) -> Vec<&'a str> {
    let mut models: Vec<&str> =
        last.keys().filter(|key| key.0 == column).map(|(_, _, model)| *model).collect();
    models.sort_unstable();
    models.dedup();
    models
}

/// How many models passed of how many, or one word where they agree.
fn cell(last: &Last<'_>, column: &str, check: &str) -> String {
    let of_cell = last.iter().filter(|((other, named, _), _)| other == column && *named == check);
    let results: Vec<&str> = of_cell.map(|(_, row)| row.result.as_str()).collect();
    let passed = results.iter().filter(|result| **result == "passed").count();
    match results.first() {
        None => "not run".to_owned(),
        Some(_) if passed == results.len() => "yes".to_owned(),
        Some(first) if results.iter().all(|result| result == first) => (*first).to_owned(),
        Some(_) => format!("{passed} of {}", results.len()),
    }
}

/// Why checks did not pass, each reason once with the models that gave it.
fn notes(last: &Last<'_>) -> String {
    let mut reasons: BTreeMap<(&str, &str, &str, &str), Vec<&str>> = BTreeMap::new();
    for ((column, check, model), row) in last.iter().filter(|(_, row)| !row.reason.is_empty()) {
        reasons.entry((column, check, &row.result, &row.reason)).or_default().push(model);
    }
    let mut text = String::new();
    for ((column, check, result, reason), models) in reasons {
        let head = if text.is_empty() { "\n" } else { "" };
        let _ok = writeln!(text, "{head}- {column}, {}: {check}: {result}: {reason}", models.join(", "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHECKS: [&str; 3] = ["first", "second", "third"];

    fn subject(model: &str) -> Subject<'_> {
        Subject { backend: "script", device: DeviceKind::Host, model }
    }

    #[test]
    fn lines_are_read_back_and_others_are_not() {
        let reason = "two\nlines\tand a tab".to_owned();
        let outcome = Ok(Report { passed: vec!["first", "third"], skipped: vec![("second", reason)] });
        let found = rows(&subject("m"), &CHECKS, &outcome);
        let results: Vec<&str> = found.iter().map(|row| row.result.as_str()).collect();
        assert_eq!(results, ["passed", "skipped", "passed"]);
        for row in &found {
            let read = Row::parse(row.line().trim_end_matches('\n')).expect("a line of its own");
            let flat = Row { reason: row.reason.replace(['\n', '\t'], " "), ..row.clone() };
            assert_eq!(read, flat);
        }
        assert_eq!(Row::parse("a\tb\tc"), None);
    }

    #[test]
    fn what_follows_a_failed_check_was_not_reached() {
        let outcome = Err(Violation { check: "second", detail: "no".into() });
        let found = rows(&subject("m"), &CHECKS, &outcome);
        let results: Vec<&str> = found.iter().map(|row| row.result.as_str()).collect();
        assert_eq!(results, ["passed or skipped", "failed", "not reached"]);
        assert_eq!(found[1].reason, "no");
    }

    #[test]
    fn a_table_says_how_many_models_passed_and_why_others_did_not() {
        let passed = Ok(Report { passed: CHECKS.to_vec(), skipped: Vec::new() });
        let skipped = Ok(Report { passed: vec!["first"], skipped: vec![("second", "because".to_owned())] });
        let failed = Err(Violation { check: "third", detail: "worse".into() });
        let mut found = rows(&subject("old"), &CHECKS, &failed);
        found.extend(rows(&subject("old"), &CHECKS, &passed));
        found.extend(rows(&subject("new"), &CHECKS, &skipped));
        found.extend(rows(
            &Subject { backend: "kernel", device: DeviceKind::Cuda, model: "m" },
            &CHECKS,
            &failed,
        ));
        let text = markdown(&found);
        let line = |start: &str| text.lines().find(|line| line.starts_with(start)).unwrap_or("");
        assert_eq!(line("| check |"), "| check | kernel, cuda | script, host |");
        assert_eq!(line("| first |"), "| first | passed or skipped | yes |");
        assert_eq!(line("| second |"), "| second | passed or skipped | 1 of 2 |");
        assert_eq!(line("| third |"), "| third | failed | yes |");
        assert_eq!(line("| models |"), "| models | m | new, old |");
        assert!(text.contains("- script, host, new: second: skipped: because\n"), "{text}");
        assert!(text.contains("- kernel, cuda, m: third: failed: worse\n"), "{text}");
    }

    #[test]
    fn runs_add_their_lines_to_one_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("found.tsv");
        let outcome = Ok(Report { passed: CHECKS.to_vec(), skipped: Vec::new() });
        for model in ["a", "b"] {
            append(&path, &rows(&subject(model), &CHECKS, &outcome)).expect("written");
        }
        let text = std::fs::read_to_string(&path).expect("it is there");
        let read: Vec<Row> = text.lines().filter_map(Row::parse).collect();
        assert_eq!(read.len(), 6);
        assert!(markdown(&read).contains("| models | a, b |"));
        assert!(append(folder.path(), &read).is_err(), "a folder is no file");
    }
}
