//! Runs other programs: each command line is printed before it starts and its exit code is kept.

use std::io::Write;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use crate::error::Error;

/// How often a child with a time limit is looked at.
const POLL: Duration = Duration::from_millis(50);

/// A `cargo` command that runs in the root of the workspace.
pub fn cargo(root: &Path) -> Command {
    let mut command = Command::new("cargo");
    command.current_dir(root);
    command
}

/// Prints and runs `command`; success is exit code 0.
///
/// # Errors
/// [`Error::Start`], [`Error::TimedOut`], and [`Error::Failed`] with the code that it ended with.
pub fn run(command: &mut Command, limit: Option<Duration>) -> Result<(), Error> {
    match exit_code(command, limit)? {
        0 => Ok(()),
        code => Err(Error::Failed { command: line(command), code }),
    }
}

/// Prints and runs `command` and returns its exit code, whatever it is.
///
/// With a limit the child gets a process group of its own, so that everything it started ends with
/// it; without one it stays in the terminal's group, where Ctrl-C reaches it.
///
/// # Errors
/// [`Error::Start`] where the program cannot be started, [`Error::TimedOut`] at the limit.
pub fn exit_code(command: &mut Command, limit: Option<Duration>) -> Result<i32, Error> {
    println!("$ {}", line(command));
    // A broken pipe shows up in the child's own output; losing the echo alone is no failure.
    let _flushed = std::io::stdout().flush();
    if limit.is_some() {
        command.process_group(0);
    }
    let mut child = command.spawn().map_err(|source| Error::Start { command: line(command), source })?;
    let status = match limit {
        None => child.wait().map_err(|source| Error::Start { command: line(command), source })?,
        Some(limit) => wait_at_most(&mut child, limit, &line(command))?,
    };
    Ok(code_of(status))
}

/// The command line as a shell would take it, with the variables that it is given in front.
pub fn line(command: &Command) -> String {
    let variables = command.get_envs().filter_map(|(key, value)| {
        Some(format!("{}={}", key.to_string_lossy(), quoted(&value?.to_string_lossy())))
    });
    let program = std::iter::once(quoted(&command.get_program().to_string_lossy()));
    let arguments = command.get_args().map(|argument| quoted(&argument.to_string_lossy()));
    variables.chain(program).chain(arguments).collect::<Vec<_>>().join(" ")
}

fn wait_at_most(child: &mut Child, limit: Duration, line: &str) -> Result<ExitStatus, Error> {
    let start = Instant::now();
    loop {
        let status = child.try_wait().map_err(|source| Error::Start { command: line.to_owned(), source })?;
        if let Some(status) = status {
            return Ok(status);
        }
        if start.elapsed() >= limit {
            end_group(child);
            return Err(Error::TimedOut { command: line.to_owned(), limit });
        }
        std::thread::sleep(POLL);
    }
}

/// Ends the child's whole process group: cargo's own children would otherwise go on without it.
fn end_group(child: &mut Child) {
    let group = format!("-{}", child.id());
    // Where `kill` itself is missing, ending the child alone is the best that is left.
    let _group_ended = Command::new("kill").args(["-KILL", "--", &group]).status();
    let _child_ended = child.kill();
    let _reaped = child.wait();
}

/// The exit code of a program that ended; 128 plus the signal's number where a signal ended it.
pub fn code_of(status: ExitStatus) -> i32 {
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1)
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn the_exit_code_of_a_failed_program_is_in_the_error() {
        let error = run(&mut shell("exit 7"), None).unwrap_err();
        assert_eq!(error.exit_code(), 7);
        assert!(error.to_string().contains("exit 7"), "{error}");
    }

    #[test]
    fn a_program_ended_by_a_signal_is_a_failure() {
        assert_eq!(exit_code(&mut shell("kill -TERM $$"), None).unwrap(), 128 + 15);
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = run(&mut Command::new("no-such-program-anywhere"), None).unwrap_err();
        assert!(error.to_string().contains("no-such-program-anywhere"), "{error}");
    }

    #[test]
    fn at_its_limit_a_program_ends_with_everything_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().join("grandchild");
        let script = format!("(sleep 1; touch '{}') & wait", mark.display());
        let error = run(&mut shell(&script), Some(Duration::from_millis(100))).unwrap_err();
        assert!(matches!(error, Error::TimedOut { .. }), "{error}");
        std::thread::sleep(Duration::from_millis(1500));
        assert!(!mark.exists(), "the grandchild went on after the limit");
    }

    #[test]
    fn the_echo_is_a_line_that_a_shell_takes() {
        let mut command = Command::new("cargo");
        command.args(["test", "a b", "it's"]).env("AEGIS_CACHE", "x/y");
        assert_eq!(line(&command), r"AEGIS_CACHE=x/y cargo test 'a b' 'it'\''s'");
    }
}
