//! A compiler with a standard library for the target, and how cargo is told to use it.
//!
//! Cargo itself stays the pinned one. The programs that it makes go into a target folder of their own, so that a build
//! for this machine and one for the board never undo each other's work.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The C compiler of the target, which links.
pub const LINKER: &str = "aarch64-linux-gnu-gcc";

/// A compiler for the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Toolchain {
    /// The folder of `rustc` and `rustdoc`; `None` for the pinned ones.
    programs: Option<PathBuf>,
}

impl Toolchain {
    /// The pinned compiler, which has the target.
    pub const fn pinned() -> Self {
        Self { programs: None }
    }

    /// The compiler whose programs lie in `folder`.
    pub const fn in_folder(folder: PathBuf) -> Self {
        Self { programs: Some(folder) }
    }

    /// What cargo is given to build with it into `target`.
    pub fn variables(&self, target: &Path) -> Vec<(String, OsString)> {
        let mut variables = vec![
            ("CARGO_TARGET_DIR".to_owned(), target.as_os_str().to_owned()),
            ("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER".to_owned(), LINKER.into()),
        ];
        if let Some(folder) = &self.programs {
            variables.push(("RUSTC".to_owned(), folder.join("rustc").into_os_string()));
            variables.push(("RUSTDOC".to_owned(), folder.join("rustdoc").into_os_string()));
        }
        variables
    }

    /// As [`variables`](Self::variables), for programs that are tried and thrown away: an emulator wins little by what
    /// optimisation costs, and sums that overflow are found.
    pub fn variables_of_a_trial(&self, target: &Path) -> Vec<(String, OsString)> {
        let profile = [
            ("OPT_LEVEL", "0"),
            ("DEBUG", "none"),
            ("DEBUG_ASSERTIONS", "true"),
            ("OVERFLOW_CHECKS", "true"),
        ];
        let mut variables = self.variables(target);
        variables
            .extend(profile.map(|(name, value)| (format!("CARGO_PROFILE_RELEASE_{name}"), value.into())));
        variables
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_compiler_of_its_own_is_named_to_cargo() {
        let names = |toolchain: Toolchain| -> Vec<String> {
            toolchain.variables(Path::new("t")).into_iter().map(|(name, _)| name).collect()
        };
        let linker = "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER";
        assert_eq!(names(Toolchain::pinned()), ["CARGO_TARGET_DIR", linker]);
        let own = names(Toolchain::in_folder(PathBuf::from("f")));
        assert_eq!(own, ["CARGO_TARGET_DIR", linker, "RUSTC", "RUSTDOC"]);
        let trial = Toolchain::pinned().variables_of_a_trial(Path::new("t"));
        assert!(trial.contains(&("CARGO_PROFILE_RELEASE_OPT_LEVEL".to_owned(), "0".into())), "{trial:?}");
    }
}
