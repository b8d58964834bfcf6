//! What of the system a build for the board needs: a C compiler, its library, and an emulator for the tests.
//!
//! Packages are installed only where the system's administrator runs the command, and each line is printed first.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::toolchain::LINKER;
use crate::error::Error;
use crate::process;

/// The emulator.
pub const EMULATOR: &str = "qemu-aarch64";
/// Where Debian and its kin put the libraries of the target.
pub const LIBRARIES: &str = "/usr/aarch64-linux-gnu/lib";

/// Something that has to be there, and the package that brings it.
struct Need {
    thing: &'static str,
    package: &'static str,
    only_to_test: bool,
}

const NEEDS: [Need; 5] = [
    need(LINKER, "gcc-aarch64-linux-gnu"),
    need("aarch64-linux-gnu-g++", "g++-aarch64-linux-gnu"),
    need("/usr/aarch64-linux-gnu/include/stdio.h", "libc6-dev-arm64-cross"),
    to_test("/usr/aarch64-linux-gnu/lib/libstdc++.so.6", "libstdc++6-arm64-cross"),
    to_test(EMULATOR, "qemu-user"),
];

const fn need(thing: &'static str, package: &'static str) -> Need {
    Need { thing, package, only_to_test: false }
}

const fn to_test(thing: &'static str, package: &'static str) -> Need {
    Need { thing, package, only_to_test: true }
}

/// What is missing, each with the package that brings it.
pub fn missing(testing: bool) -> Vec<(&'static str, &'static str)> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    missing_in(&folders, testing)
}

fn missing_in(folders: &[PathBuf], testing: bool) -> Vec<(&'static str, &'static str)> {
    let is_there = |thing: &str| {
        if thing.starts_with('/') {
            Path::new(thing).exists()
        } else {
            folders.iter().any(|folder| folder.join(thing).is_file())
        }
    };
    let wanted = NEEDS.iter().filter(|need| testing || !need.only_to_test);
    wanted.filter(|need| !is_there(need.thing)).map(|need| (need.thing, need.package)).collect()
}

/// Whether this process could install packages: apt is there and the user is the administrator.
pub fn can_be_installed() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    Path::new("/usr/bin/apt-get").exists() && is_administrator(&status)
}

/// Makes everything be there, installing what is missing.
///
/// # Errors
/// [`Error::Jetson`] with the line that an administrator has to run, where this user is none; failures of apt.
pub fn ensure(testing: bool) -> Result<(), Error> {
    let missing = missing(testing);
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().map(|(_, package)| *package).collect();
    let mut install = Command::new("apt-get");
    install.args(["install", "--yes", "--no-install-recommends"]).args(&packages);
    install.env("DEBIAN_FRONTEND", "noninteractive");
    if !can_be_installed() {
        let things: Vec<&str> = missing.iter().map(|(thing, _)| *thing).collect();
        return Err(Error::Jetson(format!(
            "missing: {}; on Debian and Ubuntu an administrator gets them by `{}`",
            things.join(", "),
            process::line(&install)
        )));
    }
    process::run(Command::new("apt-get").arg("update"), None)?;
    process::run(&mut install, None)
}

/// Whether the effective user of a process is the administrator, by the system's own words on the process.
fn is_administrator(status: &str) -> bool {
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    line.and_then(|line| line.split_whitespace().nth(1)) == Some("0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_told_with_the_package_that_brings_it() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(LINKER), "").unwrap();
        let folders = [folder.path().to_owned()];
        let missing = missing_in(&folders, true);
        assert!(!missing.iter().any(|(thing, _)| *thing == LINKER), "{missing:?}");
        assert!(missing.contains(&(EMULATOR, "qemu-user")), "{missing:?}");
        assert!(missing.contains(&("aarch64-linux-gnu-g++", "g++-aarch64-linux-gnu")), "{missing:?}");
        assert!(!missing_in(&folders, false).iter().any(|(thing, _)| *thing == EMULATOR));
    }

    #[test]
    fn the_administrator_is_known_by_the_effective_user() {
        assert!(is_administrator("Name:\tx\nUid:\t1000\t0\t0\t0\n"));
        assert!(!is_administrator("Uid:\t0\t1000\t0\t0\n"));
        assert!(!is_administrator(""));
    }
}
