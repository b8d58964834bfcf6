//! `cargo xtask features`: the product compiles with no backend, with each one alone and with all, for both processors.
//!
//! The backends are read from the manifest, so that one more of them is checked without a word here. All checks share one
//! target folder: what two combinations have in common is compiled once for each processor.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use cargo_metadata::MetadataCommand;

use crate::error::Error;
use crate::workspace::Workspace;
use crate::{jetson, process, table};

/// The crate whose features choose the backends.
const PRODUCT: &str = "aegisrt";
/// Its features that no combination names.
const NO_BACKEND: [&str; 1] = ["default"];
/// Backends of so many crates that a check of their own would take longer than all others together.
const ONLY_WITH_ALL: [&str; 1] = ["tract"];
/// What a check compiles in full are build scripts and macros, which run for moments: optimising them, as the workspace
/// does for what its tests spend their time in, takes longer than all the rest.
const UNOPTIMISED: [&str; 2] = ["--config", "profile.dev.package.\"*\".opt-level=0"];
/// The processor of servers.
const SERVER: &str = "x86_64-unknown-linux-gnu";

/// One combination of features.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Combination {
    name: String,
    arguments: Vec<String>,
}

/// Checks every combination on its own.
///
/// # Errors
/// [`Error::Usage`] where arguments are given, else those of [`within`].
pub fn run(arguments: &[String]) -> Result<(), Error> {
    match arguments.first() {
        Some(first) => Err(Error::Usage(format!("`cargo xtask features` takes no arguments, got `{first}`"))),
        None => within(None),
    }
}

/// Checks every combination, in at most `limit`.
///
/// # Errors
/// The first combination that does not compile, [`Error::TimedOut`], and what keeps the manifest from being read.
pub fn within(limit: Option<Duration>) -> Result<(), Error> {
    let workspace = Workspace::current();
    let begun = Instant::now();
    let combinations = combinations(&declared(workspace.root())?);
    let mut rows = Vec::new();
    let mut targets = vec![(SERVER, Vec::new())];
    match jetson::present(&workspace) {
        Some(variables) => targets.push((jetson::TARGET, variables)),
        None => println!(
            "{}: not checked, for want of its compiler: `cargo xtask jetson` brings one",
            jetson::TARGET
        ),
    }
    for (target, variables) in targets {
        for combination in &combinations {
            let start = Instant::now();
            let left = limit.map(|limit| limit.saturating_sub(begun.elapsed()));
            process::run(&mut check(&workspace, target, &variables, combination), left)?;
            rows.push([target.to_owned(), combination.name.clone(), table::spelled(start.elapsed())]);
        }
    }
    print!("\n{}", table::aligned(["processor", "features", "time"], &rows));
    Ok(())
}

fn check(
    workspace: &Workspace,
    target: &str,
    variables: &[(String, OsString)],
    combination: &Combination,
) -> Command {
    let mut command = process::cargo(workspace.root());
    command.args(["check", "--quiet", "-p", PRODUCT, "--target", target]).args(UNOPTIMISED);
    command.args(&combination.arguments);
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    // After the others: they name a folder for builds, which this is none of.
    command.env("CARGO_TARGET_DIR", workspace.matrix());
    command
}

/// The features that the product's manifest declares.
fn declared(root: &Path) -> Result<Vec<String>, Error> {
    let metadata = MetadataCommand::new()
        .manifest_path(root.join("Cargo.toml"))
        .no_deps()
        .exec()
        .map_err(|error| Error::Workspace(error.to_string()))?;
    let package = metadata.packages.iter().find(|package| *package.name == PRODUCT);
    let package = package.ok_or_else(|| Error::Workspace(format!("there is no crate {PRODUCT}")))?;
    Ok(package.features.keys().cloned().collect())
}

/// None, each and all of the features.
fn combinations(features: &[String]) -> Vec<Combination> {
    let combination = |name: &str, arguments: &[&str]| Combination {
        name: name.to_owned(),
        arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
    };
    let mut all = vec![combination("none", &["--no-default-features"])];
    for feature in features {
        let name = feature.as_str();
        if !NO_BACKEND.contains(&name) && !ONLY_WITH_ALL.contains(&name) {
            all.push(combination(name, &["--no-default-features", "--features", name]));
        }
    }
    all.push(combination("all", &["--all-features"]));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn none_each_and_all_are_checked_and_the_heavy_one_with_all_only() {
        let features = ["default", "one", "tract", "two"].map(str::to_owned);
        let names: Vec<String> = combinations(&features).into_iter().map(|one| one.name).collect();
        assert_eq!(names, ["none", "one", "two", "all"]);
    }

    #[test]
    fn the_features_are_those_of_the_manifest_and_share_a_folder() {
        let workspace = Workspace::current();
        let all = combinations(&declared(workspace.root()).unwrap());
        assert!(all.len() >= 2, "{all:?}");
        let variables = [("CARGO_TARGET_DIR".to_owned(), OsString::from("elsewhere"))];
        let line = process::line(&check(&workspace, SERVER, &variables, &all[0]));
        assert!(line.contains("--no-default-features") && line.contains(SERVER), "{line}");
        let folder = workspace.matrix().display().to_string();
        assert!(line.contains(&folder) && !line.contains("elsewhere"), "{line}");
    }
}
