//! Measured files: JSON that is read whole or refused, and written whole or not at all.

use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::{ConfigError, Place};
use super::source::Source;
use super::whole;

/// Parses the text of `path`, a file that `tool` writes: an object.
pub(super) fn parse<T: DeserializeOwned>(path: &Path, text: &str, tool: &str) -> Result<T, ConfigError> {
    // The reader takes a list for an object without keys, and complains about its length.
    if let Some(start) = text.find(|c: char| !c.is_whitespace()).filter(|at| text[*at..].starts_with('[')) {
        let before = &text[..start];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |rest| rest.chars().count()) + 1;
        let place = Box::new(Place { file: path.into(), position: Some((line, column)), key: String::new() });
        let (value, problem) = (Some("[".into()), "is a list, where an object belongs".into());
        let legal = format!("a file as `{tool}` writes it");
        return Err(ConfigError::Field { place, value, problem, legal });
    }
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
            problem: plain(reason),
            legal: format!("a file as `{tool}` writes it"),
        }
    } else {
        ConfigError::Syntax {
            place,
            reason: format!("{reason}; legal: a whole JSON file as `{tool}` writes it"),
        }
    }
}

/// The reader's complaint about a value without names of machine types and of this program's own. What such a type itself
/// says of what it expects stays.
fn plain(reason: &str) -> String {
    let found = reason.strip_prefix("invalid type: ").or(reason.strip_prefix("invalid value: "));
    if let Some((found, expected)) = found.and_then(|found| found.split_once(", expected ")) {
        return format!("is {}, where {} belongs", named(found), named(expected));
    }
    match (reason.strip_prefix("invalid length "), reason.strip_prefix("missing field ")) {
        (Some(length), _) if length.contains("struct") => "is a list, where an object belongs".into(),
        (Some(_), _) => "is a list of the wrong length".into(),
        (_, Some(field)) => format!("{field} is missing"),
        _ => reason.to_owned(),
    }
}

/// What the reader means by a type.
fn named(kind: &str) -> &str {
    let bare = kind.strip_prefix("a ").or(kind.strip_prefix("an ")).unwrap_or(kind);
    match bare.split(' ').next().unwrap_or("") {
        "map" | "struct" => "an object",
        "sequence" | "tuple" => "a list",
        "string" | "str" | "borrowed" | "variant" => "a text",
        "boolean" | "bool" => "true or false",
        "integer" | "i64" | "i32" => "a whole number",
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number of zero or above",
        "floating" | "f32" | "f64" => "a number",
        "null" | "unit" => "null",
        _ => kind,
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

    #[test]
    fn complaints_name_no_type_of_the_program() {
        #[derive(Debug, serde::Deserialize)]
        struct Inner {
            #[serde(rename = "count")]
            _count: u64,
        }
        #[derive(Debug, serde::Deserialize)]
        struct Outer {
            #[serde(rename = "inner")]
            _inner: Inner,
        }
        let cases = [
            ("[]", "t.json:1:1 = [: is a list, where an object belongs; legal: a file as `a tool` writes it"),
            ("\n  [[", "t.json:2:3 = [: is a list, where an object belongs"),
            ("7", "is a whole number, where an object belongs"),
            ("{}", "`inner` is missing"),
            ("{\"inner\": []}", "is a list, where an object belongs"),
            (
                "{\"inner\": {\"count\": -1}}",
                "is a whole number, where a whole number of zero or above belongs",
            ),
            ("{\"inner\": {\"count\": 1.5}}", "is a number, where a whole number of zero or above belongs"),
            ("{\"inner\": {\"count\": \"x\"}}", "is a text, where a whole number of zero or above belongs"),
        ];
        for (text, says) in cases {
            let error =
                parse::<Outer>(Path::new("t.json"), text, "a tool").expect_err("is refused").to_string();
            assert!(error.contains(says), "{text}: {error}");
            let words = ["struct", "sequence", "u64", "Inner", "Outer", "invalid"];
            assert!(words.iter().all(|word| !error.contains(word)), "{text}: {error}");
        }
    }
}
