//! Files that a command is about to write: never one that it reads, and never in a folder that is not there.
//!
//! Both are found before the work begins. A measurement of minutes is not lost to a misspelt folder, and a mistyped
//! option does not replace a model or the trace that is being read.

use std::path::{Path, PathBuf};

use super::answer::CliError;
use crate::config::{Fleet, InputSource, whole};

/// Checks that `output`, which `option` names, can be written without replacing one of `inputs`.
///
/// # Errors
/// What is wrong, with the option, the path and what would be legal.
pub fn check(option: &str, output: &Path, inputs: &[PathBuf]) -> Result<(), CliError> {
    let shown = output.display();
    if let Some(input) = inputs.iter().find(|input| same(output, input)) {
        let reads = input.display();
        return Err(CliError::Input(format!(
            "{option}: {shown} would replace {reads}, which this command uses; legal: another file"
        )));
    }
    if output.is_dir() {
        return Err(CliError::Input(format!("{option}: {shown} is a folder; legal: the path of a file")));
    }
    let folder = folder(output);
    if !folder.is_dir() {
        let folder = folder.display();
        return Err(CliError::Input(format!(
            "{option}: {shown} cannot be written: {folder} is no folder; legal: a path in a folder that exists"
        )));
    }
    Ok(())
}

/// Checks that `output` is no device and no pipe, for what is kept in a file beside it.
///
/// # Errors
/// What is wrong, with the option, the path and what would be legal.
pub fn check_file(option: &str, output: &Path) -> Result<(), CliError> {
    if whole::is_file_or_absent(output) {
        return Ok(());
    }
    let shown = output.display();
    Err(CliError::Input(format!(
        "{option}: {shown} is a device or a pipe, and what is known meanwhile is kept beside it; legal: the path of a file"
    )))
}

/// Writes a file as a whole: what stood there still stands where that fails.
///
/// # Errors
/// [`CliError::Unwritable`].
pub fn write(path: &Path, content: impl AsRef<[u8]>) -> Result<(), CliError> {
    whole::write_bytes(path, content)
        .map_err(|error| CliError::Unwritable { path: path.display().to_string(), reason: error.to_string() })
}

/// The files that a fleet consists of: its own, models and recorded inputs.
pub fn files_of(fleet: &Fleet) -> Vec<PathBuf> {
    let recorded = fleet.tasks().iter().filter_map(|task| match &task.inputs {
        InputSource::File(path) => Some(path.clone()),
        InputSource::Seed(_) => None,
    });
    let models = fleet.tasks().iter().map(|task| task.model.clone());
    std::iter::once(fleet.path().to_path_buf()).chain(models).chain(recorded).collect()
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Whether two paths are one file. An output may not exist yet: its folder is resolved then.
fn same(output: &Path, input: &Path) -> bool {
    let resolved = |path: &Path| {
        let whole = path.canonicalize();
        whole.or_else(|_| {
            folder(path).canonicalize().map(|folder| folder.join(path.file_name().unwrap_or_default()))
        })
    };
    match (resolved(output), resolved(input)) {
        // A device, such as standard output, is not replaced by writing to it.
        (Ok(a), Ok(b)) => a == b && (a.is_file() || !a.exists()),
        _ => output == input,
    }
}
