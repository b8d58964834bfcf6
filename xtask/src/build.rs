//! `cargo xtask build`: the release build that users run and measure.

use crate::error::Error;
use crate::process::{cargo, run as run_command};
use crate::workspace::Workspace;

/// Builds the whole workspace but this program itself; further arguments go to `cargo build`.
///
/// # Errors
/// The failure of cargo, with its exit code.
pub fn run(arguments: &[String]) -> Result<(), Error> {
    let workspace = Workspace::current();
    let mut command = cargo(workspace.root());
    command.args(["build", "--release", "--workspace", "--exclude", "xtask"]).args(arguments);
    run_command(&mut command, None)
}
