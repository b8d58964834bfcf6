//! The licences of the crates that a program is linked from: most of them ask to be handed on.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use cargo_metadata::{DependencyKind, Metadata, Package, PackageId};

use crate::error::Error;

/// How names of files with a licence begin.
const NAMES: [&str; 5] = ["LICENSE", "LICENCE", "COPYING", "NOTICE", "UNLICENSE"];

/// The crates from elsewhere that the members of the workspace called `roots` are linked from, with
/// what only their tests need where `tests` is set: a list, then every text once.
///
/// # Errors
/// [`Error::Io`] where a crate's folder cannot be read.
pub fn text(metadata: &Metadata, roots: &[String], tests: bool) -> Result<String, Error> {
    let mut list = String::from("Crates that the programs of this folder are linked from.\n\n");
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for package in linked(metadata, roots, tests) {
        let name = format!("{} {}", package.name, package.version);
        let licence = package.license.as_deref().unwrap_or("see its text");
        let origin = package.repository.as_deref().unwrap_or("");
        // Writing into a `String` cannot fail.
        let _ = writeln!(list, "{}", format!("{name}: {licence} {origin}").trim_end());
        let folder = package.manifest_path.parent();
        for text in folder.map_or_else(|| Ok(Vec::new()), |folder| texts_in(folder.as_std_path()))? {
            texts.entry(text).or_default().push(name.clone());
        }
    }
    for (text, names) in texts {
        let _ = write!(list, "\n==== {}\n\n{}\n", names.join(", "), text.trim_end());
    }
    Ok(list)
}

/// Packages that are reached from the roots and come from elsewhere, sorted by name and version.
fn linked<'m>(metadata: &'m Metadata, roots: &[String], tests: bool) -> Vec<&'m Package> {
    let members: BTreeSet<&PackageId> = metadata.workspace_members.iter().collect();
    let mut open: Vec<&PackageId> = metadata
        .workspace_packages()
        .into_iter()
        .filter(|package| roots.iter().any(|root| **root == *package.name))
        .map(|package| &package.id)
        .collect();
    let mut seen: BTreeSet<&PackageId> = open.iter().copied().collect();
    while let Some(id) = open.pop() {
        let node =
            metadata.resolve.as_ref().and_then(|resolve| resolve.nodes.iter().find(|node| node.id == *id));
        for edge in node.into_iter().flat_map(|node| &node.deps) {
            let follows = edge.dep_kinds.iter().any(|kind| {
                kind.kind == DependencyKind::Normal
                    || (tests && kind.kind == DependencyKind::Development && members.contains(id))
            });
            if follows && seen.insert(&edge.pkg) {
                open.push(&edge.pkg);
            }
        }
    }
    let foreign = |package: &&Package| seen.contains(&package.id) && !members.contains(&package.id);
    let mut packages: Vec<&Package> = metadata.packages.iter().filter(foreign).collect();
    packages.sort_by_key(|package| (package.name.to_string(), package.version.to_string()));
    packages
}

/// The licence texts that lie in the folder of a crate, sorted by file name.
fn texts_in(folder: &Path) -> Result<Vec<String>, Error> {
    let entries = std::fs::read_dir(folder).map_err(Error::io("read", folder))?;
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    let is_licence = |path: &&std::path::PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().to_uppercase()).unwrap_or_default();
        path.is_file() && NAMES.iter().any(|start| name.starts_with(start))
    };
    files
        .iter()
        .filter(is_licence)
        .map(|file| {
            let bytes = std::fs::read(file).map_err(Error::io("read", file))?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_linked_crate_is_listed_and_crates_for_tests_only_on_demand() {
        let root = crate::workspace::Workspace::current().root().join("Cargo.toml");
        let metadata = cargo_metadata::MetadataCommand::new().manifest_path(root).exec().unwrap();
        let roots = ["aegisrt".to_owned()];
        let without = text(&metadata, &roots, false).unwrap();
        let with = text(&metadata, &roots, true).unwrap();
        assert!(without.contains("\nthiserror 2.") && without.contains("\nclap "), "{without}");
        assert!(!without.contains("\nproptest ") && with.contains("\nproptest "));
        assert!(!without.contains("\naegis-types "), "our own crates are under the licence of the project");
        assert!(without.contains("Permission is hereby granted"), "no text of a licence was found");
    }
}
