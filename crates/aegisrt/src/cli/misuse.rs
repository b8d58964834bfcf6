//! Wrong arguments: what stands there, and what would be legal, in the words of the other errors.

use std::ffi::OsString;
use std::num::{IntErrorKind, ParseIntError};
use std::process::ExitCode;

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::answer::{CliError, Exit};
use super::{complain, deliver};

/// Says help and version, or what is wrong, for programs too if they asked for that.
pub(super) fn told(error: &clap::Error) -> ExitCode {
    let exit = if error.use_stderr() { Exit::BadInput } else { Exit::Done };
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let own = number(error).or_else(|| negative(error, &arguments));
    match &own {
        Some(error) => complain(error),
        None => {
            let _closed = error.print();
        }
    }
    if exit == Exit::BadInput && asked_for_json(&arguments) {
        let said = error.to_string();
        let said = said.trim().strip_prefix("error: ").unwrap_or(said.trim()).to_owned();
        let text = format!("{:#}\n", own.unwrap_or(CliError::Input(said)).json());
        return ExitCode::from(deliver(&text, exit).code());
    }
    ExitCode::from(exit.code())
}

fn asked_for_json(arguments: &[OsString]) -> bool {
    arguments.iter().any(|argument| argument == "--format=json")
        || arguments.windows(2).any(|pair| pair[0] == "--format" && pair[1] == "json")
}

/// What is wrong with a value that is no number, where that is it: the library knows digits only.
fn number(error: &clap::Error) -> Option<CliError> {
    use std::error::Error;
    let source = error.source().filter(|_| error.kind() == ErrorKind::ValueValidation);
    let legal = match source?.downcast_ref::<ParseIntError>()?.kind() {
        IntErrorKind::PosOverflow => "a smaller number",
        _ => "a whole number in digits, not below zero, such as 8",
    };
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::StyledStr(text)) => StyledStr::to_string(text),
        _ => String::new(),
    };
    let (argument, value) = (context(ContextKind::InvalidArg), context(ContextKind::InvalidValue));
    let argument = argument.split(' ').next().unwrap_or_default();
    Some(CliError::Input(format!("{argument}: is `{value}`; legal: {legal}")))
}

/// What is wrong with a value below zero, which the library takes for an option that there is not.
fn negative(error: &clap::Error, arguments: &[OsString]) -> Option<CliError> {
    let is_negative = |value: &OsString| {
        let rest = value.to_str().and_then(|value| value.strip_prefix('-'));
        rest.is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
    };
    let pair = arguments.windows(2).find(|pair| is_negative(&pair[1]))?;
    let (option, value) = (pair[0].to_str()?, pair[1].to_str()?);
    (error.kind() == ErrorKind::UnknownArgument && option.starts_with("--"))
        .then(|| CliError::Input(format!("{option}: is `{value}`; legal: nothing below zero")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_below_zero_is_told_with_its_option() {
        let told = |kind, arguments: &[&str]| {
            let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
            negative(&clap::Error::new(kind), &arguments).map(|error| error.to_string())
        };
        let unknown = ErrorKind::UnknownArgument;
        let said = told(unknown, &["aegis", "run", "--duration", "-1s"]);
        assert_eq!(said.as_deref(), Some("--duration: is `-1s`; legal: nothing below zero"));
        assert_eq!(told(unknown, &["aegis", "run", "--bogus"]), None);
        assert_eq!(told(unknown, &["aegis", "run", "-1"]), None);
        assert_eq!(told(ErrorKind::InvalidSubcommand, &["aegis", "run", "--duration", "-1s"]), None);
    }
}
