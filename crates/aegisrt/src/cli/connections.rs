//! Hardware queues of a GPU: asked for through the environment, before anything is started.
//!
//! A CUDA driver reads `CUDA_DEVICE_MAX_CONNECTIONS` once, when it is initialised, and without it gives a process 8
//! queues. Streams beyond the queues share one, and a launch then waits behind a whole segment of a foreign lane. No
//! library may set a variable of its process: other threads could read the environment at the same time. The program
//! can: before it has a second thread it replaces itself by itself with the variable set.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use aegis_cuda::DeviceKind;
use aegis_cuda::discovery::QUEUES;
use clap::ArgMatches;

use super::answer::CliError;
use super::progress::line;
use crate::config::Fleet;

/// The variable that the driver reads.
pub const VARIABLE: &str = "CUDA_DEVICE_MAX_CONNECTIONS";
/// As many as the driver knows.
const MOST: u32 = 32;

/// Starts the program over with the variable set, if the command is about a fleet on a CUDA device and the variable is
/// not set. Returns where there is nothing to do; must be called before any thread is started.
pub fn provide(matches: &ArgMatches) {
    if std::env::var_os(VARIABLE).is_some() || !names_cuda(matches) {
        return;
    }
    let mut arguments = std::env::args_os();
    let name = arguments.next();
    let replaced = std::env::current_exe().map(|program| {
        let mut command = Command::new(program);
        if let Some(name) = name {
            command.arg0(name);
        }
        // Returns only if it failed.
        command.args(arguments).env(VARIABLE, MOST.to_string()).exec()
    });
    let reason = match replaced {
        Ok(error) | Err(error) => error,
    };
    line(&format!("note: {VARIABLE} could not be set ({reason}): {QUEUES} hardware queues"));
}

/// Whether the command is given a fleet that names a CUDA device. A fleet that is wrong is complained about later, and
/// one on a pipe can be read only once, by the command.
fn names_cuda(matches: &ArgMatches) -> bool {
    let Some((_, command)) = matches.subcommand() else { return false };
    let path = command.try_get_one::<PathBuf>("fleet").ok().flatten().filter(|path| path.is_file());
    path.and_then(|path| Fleet::read(path).ok()).is_some_and(|fleet| fleet.device() == DeviceKind::Cuda)
}

/// How many queues the process was given.
///
/// # Errors
/// [`CliError::Input`] if the variable is set to something that no driver understands.
pub fn given(value: Option<&OsStr>) -> Result<u32, CliError> {
    let Some(value) = value else { return Ok(QUEUES) };
    let number = value.to_str().and_then(|text| text.parse().ok());
    number.filter(|number| (1..=MOST).contains(number)).ok_or_else(|| {
        CliError::Input(format!(
            "{VARIABLE}: is {value:?}; legal: a whole number from 1 to {MOST}, or no such variable"
        ))
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn queues_are_what_the_variable_says() {
        assert_eq!(given(None).unwrap(), 8);
        assert_eq!(given(Some(OsStr::new("1"))).unwrap(), 1);
        assert_eq!(given(Some(OsStr::new("32"))).unwrap(), 32);
        for wrong in ["", "0", "33", "-1", "eight", "8.0"] {
            let error = given(Some(OsStr::new(wrong))).unwrap_err().to_string();
            assert!(error.contains(VARIABLE) && error.contains("1 to 32"), "{error}");
        }
    }

    /// Every command that takes a fleet calls it so, and a fleet on the host starts nothing over.
    #[test]
    fn only_a_fleet_on_a_cuda_device_needs_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fleet.toml");
        let text = |kind: &str, units: &str, backend: &str| {
            format!(
                "[device]\nkind = \"{kind}\"\n[[partition]]\nname = \"a\"\n{units}\n[policy]\nkind = \"edf\"\n\
                 [[task]]\nname = \"t\"\nmodel = \"m\"\nbackend = \"{backend}\"\nperiod = \"1ms\"\n\
                 partition = \"a\"\nbudget = {{ memory = \"1MiB\" }}\n"
            )
        };
        let cuda = text("cuda:1", "sms = 8", "kernel");
        let host = text("host", "cores = [0]", "onnx");
        for (text, expected) in [(cuda.as_str(), true), (&host, false), ("no fleet", false)] {
            std::fs::write(&path, text).unwrap();
            for command in ["calibrate", "profile", "admit", "plan", "run"] {
                let arguments = ["aegis".as_ref(), command.as_ref(), path.as_os_str()];
                let matches = Cli::command().try_get_matches_from(arguments).unwrap();
                assert_eq!(names_cuda(&matches), expected, "{command}: {text}");
            }
        }
        let matches = Cli::command().try_get_matches_from(["aegis", "devices"]).unwrap();
        assert!(!names_cuda(&matches));
    }
}
