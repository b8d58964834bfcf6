//! Where things lie: the root of the checkout, the target folder and what is cached below it.

use std::path::{Path, PathBuf};

/// The folders that the commands read and write.
#[derive(Debug, Clone)]
pub struct Workspace {
    root: PathBuf,
    target: PathBuf,
}

impl Workspace {
    /// The workspace that this program was started in through `cargo xtask`.
    pub fn current() -> Self {
        let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = manifest.parent().map_or_else(|| manifest.clone(), Path::to_path_buf);
        let target = std::env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| root.join("target"), |folder| root.join(folder));
        Self { root, target }
    }

    /// The folder of the root manifest.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Downloads of models and libraries, shared by `test` and `demo`.
    pub fn cache(&self) -> PathBuf {
        self.target.join("aegis-cache")
    }

    /// Programs that the lint needs and that cargo does not bring.
    pub fn tools(&self) -> PathBuf {
        self.target.join("tools")
    }

    /// What the demo writes: fleet files, profiles, traces.
    pub fn demo(&self) -> PathBuf {
        self.target.join("aegis-demo")
    }

    /// Programs and files of the demo that fetches nothing.
    pub fn offline(&self) -> PathBuf {
        self.target.join("aegis-offline")
    }

    /// Folders that run on other machines.
    pub fn bundles(&self) -> PathBuf {
        self.target.join("bundle")
    }

    /// Builds for the board.
    pub fn jetson(&self) -> PathBuf {
        self.target.join("jetson")
    }

    /// The compiler for the board, where it was unpacked here.
    pub fn jetson_toolchain(&self) -> PathBuf {
        self.target.join("jetson-toolchain")
    }

    /// What running the board's programs here leaves: logs, fleets, traces.
    pub fn jetson_trial(&self) -> PathBuf {
        self.target.join("jetson-trial")
    }

    /// Checks of every combination of features.
    pub fn matrix(&self) -> PathBuf {
        self.target.join("matrix")
    }

    /// The build of the command line `aegis` that the tests use.
    pub fn debug_aegis(&self) -> PathBuf {
        self.target.join("debug").join("aegis")
    }

    /// The release build of the command line `aegis`.
    pub fn aegis(&self) -> PathBuf {
        self.target.join("release").join("aegis")
    }
}

/// Whether this runs under continuous integration, by the usual variable.
pub fn in_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false" && value != "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_licence_is_the_legal_code_that_the_manifests_name() {
        let root = Workspace::current().root().to_owned();
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let manifest = std::fs::read_to_string(root.join("Cargo.toml")).unwrap();
        assert!(manifest.contains("license = \"CC-BY-NC-SA-4.0\""));
        let legal = spdx::license_id("CC-BY-NC-SA-4.0").unwrap().text();
        assert_eq!(words(&std::fs::read_to_string(root.join("LICENSE")).unwrap()), words(legal));
    }
}
