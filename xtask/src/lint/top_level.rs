//! What stands at the top of the checkout.

use std::collections::BTreeSet;

use super::tree::Tree;
use super::{Finding, Report};

/// Exactly these, and hidden files.
const ENTRIES: [&str; 9] = [
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "benches",
    "crates",
    "docs",
    "rust-toolchain.toml",
    "xtask",
];

/// The first thing a reader sees is the top level: it holds the map and nothing that needs a map.
pub fn check(tree: &Tree) -> Report {
    let first = |path: &'_ str| path.split('/').next().unwrap_or(path).to_owned();
    let present: BTreeSet<String> =
        tree.files().map(|file| first(file.path())).filter(|name| !name.starts_with('.')).collect();
    let wanted: BTreeSet<String> = ENTRIES.map(str::to_owned).into();
    let legal = ENTRIES.join(" ");
    let surplus = present
        .difference(&wanted)
        .map(|name| Finding::about(name, format!("does not belong to the top level, which is: {legal}")));
    let missing = wanted.difference(&present).map(|name| Finding::about(name, "is missing at the top level"));
    Report { examined: present.len(), unit: "entries", findings: surplus.chain(missing).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lint::places;

    const WHOLE: [&str; 10] = [
        ".ci/run",
        "Cargo.lock",
        "Cargo.toml",
        "LICENSE",
        "README.md",
        "benches/Cargo.toml",
        "crates/aegisrt/Cargo.toml",
        "docs/model.md",
        "rust-toolchain.toml",
        "xtask/Cargo.toml",
    ];

    fn with(paths: &[&str]) -> Tree {
        Tree::of(&paths.iter().map(|path| (*path, "")).collect::<Vec<_>>())
    }

    #[test]
    fn it_fires_on_a_surplus_file_or_folder() {
        let tree = with(&[&WHOLE[..], &["CHANGELOG.md", "scripts/run.sh"]].concat());
        assert_eq!(places(&check(&tree)), ["CHANGELOG.md", "scripts"]);
    }

    #[test]
    fn it_fires_on_each_missing_entry() {
        for missing in &WHOLE[1..] {
            let paths: Vec<&str> = WHOLE.iter().copied().filter(|path| path != missing).collect();
            assert_eq!(check(&with(&paths)).findings.len(), 1, "{missing}");
        }
    }

    #[test]
    fn it_stays_quiet_on_the_top_level_as_designed() {
        assert_eq!(check(&with(&WHOLE)).findings, []);
    }
}
