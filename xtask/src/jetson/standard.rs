//! Where the standard library of the target comes from, and the compiler that goes with it.
//!
//! A library works with the very compiler that made it only, so the choice is one of both. Nothing is installed here
//! that the user has not asked for by name.

use std::path::Path;
use std::process::Command;

use super::TARGET;
use super::debian;
use super::toolchain::Toolchain;
use crate::error::Error;
use crate::process;
use crate::workspace::Workspace;

/// A source that a user may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Debian's packages, unpacked into a folder of the checkout; nothing is installed.
    Debian,
    /// A target added to the pinned toolchain.
    Rustup,
}

/// Which way is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// The pinned compiler has the target.
    Installed,
    /// One of the sources.
    From(Source),
}

/// The route: what the user named, else what is there, else Debian's packages on Debian.
///
/// # Errors
/// [`Error::Jetson`] naming both sources, on other systems.
pub fn route(asked: Option<Source>, installed: bool, system: &str) -> Result<Route, Error> {
    match asked {
        Some(source) => Ok(Route::From(source)),
        None if installed => Ok(Route::Installed),
        None if system == "debian" => Ok(Route::From(Source::Debian)),
        None => Err(Error::Jetson(format!(
            "the compiler has no standard library for {TARGET}, and this system ({system}) is not Debian: \
             `--std rustup` adds the target to the pinned toolchain, `--std debian` unpacks Debian's packages \
             below target, where apt can reach them"
        ))),
    }
}

/// The compiler and the library of the route, made ready.
///
/// # Errors
/// Those of the programs that are run, [`Error::Jetson`] where what they bring does not serve.
pub fn toolchain(workspace: &Workspace, asked: Option<Source>) -> Result<Toolchain, Error> {
    let root = workspace.root();
    let route = route(asked, is_installed(root), &system())?;
    match route {
        Route::Installed => println!("standard library for {TARGET}: that of the pinned compiler"),
        Route::From(Source::Rustup) => {
            let mut add = Command::new("rustup");
            process::run(add.args(["target", "add", TARGET]).current_dir(root), None)?;
        }
        Route::From(Source::Debian) => return debian::toolchain(&workspace.jetson_toolchain()),
    }
    Ok(Toolchain::pinned())
}

/// Whether a toolchain is there without a download.
pub fn is_present(workspace: &Workspace) -> bool {
    is_installed(workspace.root()) || debian::is_present(&workspace.jetson_toolchain())
}

/// Whether the pinned compiler has the library of the target.
fn is_installed(root: &Path) -> bool {
    let mut command = Command::new("rustc");
    command.args(["--print", "target-libdir", "--target", TARGET]).current_dir(root);
    let Ok(output) = command.output() else { return false };
    let folder = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let is_library = |entry: std::fs::DirEntry| entry.file_name().to_string_lossy().starts_with("libstd-");
    std::fs::read_dir(folder).is_ok_and(|entries| entries.flatten().any(is_library))
}

/// The identifier of this machine's system, such as `debian`.
pub fn system() -> String {
    let text = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    identifier(&text).unwrap_or_else(|| "unknown".to_owned())
}

fn identifier(release: &str) -> Option<String> {
    let value = release.lines().find_map(|line| line.strip_prefix("ID="))?;
    Some(value.trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_installed_serves_and_rustup_is_never_called_unasked() {
        let cases = [
            (None, true, "debian", Route::Installed),
            (None, true, "fedora", Route::Installed),
            (None, false, "debian", Route::From(Source::Debian)),
            (Some(Source::Debian), false, "ubuntu", Route::From(Source::Debian)),
            (Some(Source::Debian), true, "debian", Route::From(Source::Debian)),
            (Some(Source::Rustup), false, "debian", Route::From(Source::Rustup)),
        ];
        for (asked, installed, system, expected) in cases {
            assert_eq!(route(asked, installed, system).unwrap(), expected, "{asked:?} {installed} {system}");
        }
    }

    #[test]
    fn other_systems_are_told_both_sources() {
        let error = route(None, false, "fedora").unwrap_err().to_string();
        for word in ["fedora", "`--std rustup`", "`--std debian`", TARGET] {
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn a_system_is_known_by_its_identifier() {
        assert_eq!(identifier("NAME=\"Debian GNU/Linux\"\nID=debian\n").as_deref(), Some("debian"));
        assert_eq!(identifier("ID_LIKE=debian\nID=\"ubuntu\"\n").as_deref(), Some("ubuntu"));
        assert_eq!(identifier("NAME=x\n"), None);
    }
}
