//! `cargo xtask bench`: the benchmarks, with arguments passed on.

use crate::error::Error;
use crate::process::{cargo, run as run_command};
use crate::workspace::Workspace;

/// Runs the benchmarks; arguments go to `cargo bench` (those after `--` to the benchmarks).
///
/// # Errors
/// The failure of cargo, with its exit code.
pub fn run(arguments: &[String]) -> Result<(), Error> {
    let workspace = Workspace::current();
    let mut command = cargo(workspace.root());
    command.args(["bench", "-p", "aegis-benches"]).args(arguments);
    run_command(&mut command, None)
}
