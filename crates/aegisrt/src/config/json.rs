//! Measured files: JSON that is read whole or refused, and written whole or not at all.

use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::{ConfigError, Place};
use super::source::Source;
use super::whole;

/// Parses the text of `path`, a file that `tool` writes.
pub(super) fn parse<T: DeserializeOwned>(path: &Path, text: &str, tool: &str) -> Result<T, ConfigError> {
    serde_json::from_str(text).map_err(|error| explain(path, text, tool, &error))
}

/// Reads and parses a file that `tool` writes.
pub(super) fn read<T: DeserializeOwned>(path: &Path, tool: &str) -> Result<T, ConfigError> {
    parse(path, Source::read(path)?.text(), tool)
}

/// Writes a file as a whole.
pub(super) fn write<T: Serialize>(path: &Path, value: &T) -> Result<(), ConfigError> {
    let failed = |reason: String| ConfigError::Unwritable { path: path.into(), reason };
    let mut text = serde_json::to_string_pretty(value).map_err(|error| failed(error.to_string()))?;
    text.push('\n');
    whole::write_bytes(path, text).map_err(|error| failed(error.to_string()))
}

/// A complaint about a key of a measured file.
pub(super) fn bad(
    path: &Path,
    key: String,
    value: String,
    problem: &str,
    legal: impl Into<String>,
) -> ConfigError {
    let place = Box::new(Place { file: path.into(), position: None, key });
    ConfigError::Field { place, value: Some(value), problem: problem.into(), legal: legal.into() }
}

fn explain(path: &Path, text: &str, tool: &str, error: &serde_json::Error) -> ConfigError {
    let (line, column) = (error.line(), error.column());
    // An empty text ends before its first column.
    let position = Some((line.max(1), column.max(1)));
    let place = Box::new(Place { file: path.into(), position, key: String::new() });
    let message = error.to_string();
    let reason = message.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&message);
    let written = line.checked_sub(1).and_then(|line| text.lines().nth(line)).unwrap_or("");
    let value = excerpt(written, column);
    if error.is_data() {
        ConfigError::Field {
            place,
            value: (!value.is_empty()).then_some(value),
            problem: reason.into(),
            legal: format!("a file as `{tool}` writes it"),
        }
    } else {
        ConfigError::Syntax {
            place,
            reason: format!("{reason}; legal: a whole JSON file as `{tool}` writes it"),
        }
    }
}

/// What stands at a place of a line: the line where it is short, and else the last of it up to the column, which is
/// where reading stopped. A file without line breaks would otherwise show its beginning wherever the mistake is.
fn excerpt(line: &str, column: usize) -> String {
    const SHOWN: usize = 60;
    let plain = |text: &str| text.trim().trim_end_matches(',').chars().filter(|c| !c.is_control()).collect();
    if line.chars().count() <= SHOWN {
        return plain(line);
    }
    // Columns count bytes here, and may point into a character.
    let read = String::from_utf8_lossy(line.as_bytes().get(..column).unwrap_or(line.as_bytes())).into_owned();
    let skipped = read.chars().count().saturating_sub(SHOWN);
    plain(&read.chars().skip(skipped).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_is_shown_where_reading_stopped() {
        let line = format!("{{{}\"margin_ppm\": -5, \"rest\": 1}}", "\"key\": 1, ".repeat(20));
        let column = line.find("-5").expect("it is there") + 2;
        let shown = excerpt(&line, column);
        assert!(shown.ends_with("\"margin_ppm\": -5"), "{shown}");
        assert!(shown.chars().count() <= 60, "{shown}");
        assert_eq!(excerpt("  \"poll\": -1,", 12), "\"poll\": -1");
        assert!(!excerpt(&"ä".repeat(100), 31).is_empty(), "a column inside a character");
    }
}
