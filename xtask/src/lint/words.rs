//! Words that may not stand in a tracked file: places of one machine, hosts, markers, empty names.

use super::syntax::attributes;
use super::tree::{SourceFile, Tree};
use super::{Finding, Report};

/// First parts of absolute paths that exist on somebody's machine only.
const ROOTS: [&str; 6] = ["work", "home", "root", "tmp", "Users", "mnt"];

/// Hosts of package registries, in their parts: the rule would find itself otherwise.
const HOSTS: [&[&str]; 9] = [
    &["crates", "io"],
    &["pypi", "org"],
    &["pythonhosted", "org"],
    &["npmjs", "com"],
    &["npmjs", "org"],
    &["debian", "org"],
    &["ubuntu", "com"],
    &["proxy", "golang", "org"],
    &["anaconda", "org"],
];

/// Names that say nothing about what a module is for.
const EMPTY_NAMES: [&str; 8] = ["utils", "util", "common", "helpers", "helper", "manager", "misc", "stuff"];

/// Notes to oneself, in two halves for the same reason.
const NOTES: [[&str; 2]; 4] = [["TO", "DO"], ["FIX", "ME"], ["XX", "X"], ["HA", "CK"]];

/// A path below somebody's home or work folder works on one machine. Cargo.lock is generated.
pub fn check_paths(tree: &Tree) -> Report {
    by_line(tree, |line| {
        let root = ROOTS.iter().find(|root| names_absolute(line, root))?;
        Some(format!("an absolute path (/{root}): it exists on one machine only"))
    })
}

/// Where packages come from is the business of cargo and pip on each machine, which may use a mirror.
pub fn check_hosts(tree: &Tree) -> Report {
    by_line(tree, |line| {
        let host = HOSTS.iter().map(|parts| parts.join(".")).find(|host| line.contains(host.as_str()))?;
        Some(format!("the host of a registry ({host}): name the registry, not its address"))
    })
}

/// A module's name is its idea; a name that fits anything collects everything.
pub fn check_names(tree: &Tree) -> Report {
    let mut findings = Vec::new();
    let mut examined = 0;
    for file in tree.rust() {
        examined += 1;
        let parts = file.path().trim_end_matches(".rs").split('/');
        if let Some(name) = parts.filter(|part| *part != "crates").find(|part| EMPTY_NAMES.contains(part)) {
            findings
                .push(Finding::about(file.path(), format!("`{name}` does not say what the module is for")));
        }
        for token in (0..file.tokens().len()).filter(|&token| file.token(token) == "mod") {
            let name = file.token(token + 1);
            if EMPTY_NAMES.contains(&name) && file.token(token + 2) == "{" {
                let message = format!("`mod {name}` does not say what the module is for");
                findings.push(Finding::at(file, file.line(token), message));
            }
        }
    }
    Report { examined, unit: "files", findings }
}

/// What is unfinished or switched off has to be visible to the compiler or not be there: a lint is
/// suppressed by `#[expect(lint, reason = "..")]`, which fails once it is no longer needed.
pub fn check_markers(tree: &Tree) -> Report {
    let mut findings = Vec::new();
    let mut examined = 0;
    for file in tree.rust() {
        examined += 1;
        for (number, line) in file.text().lines().enumerate() {
            if let Some(note) = NOTES.iter().map(|halves| halves.concat()).find(|note| has_word(line, note)) {
                findings.push(Finding::at(file, number + 1, format!("{note}: finish it or leave it out")));
            }
        }
        findings.extend(bare_allows(file));
        findings.extend(unfinished(file));
    }
    Report { examined, unit: "files", findings }
}

fn bare_allows(file: &SourceFile) -> Vec<Finding> {
    let mut findings = Vec::new();
    for attribute in attributes(file) {
        for token in attribute.filter(|&token| file.token(token) == "allow" && file.token(token + 1) == "(") {
            let message = "`allow`: use #[expect(lint, reason = \"..\")]";
            findings.push(Finding::at(file, file.line(token), message));
        }
    }
    findings
}

fn unfinished(file: &SourceFile) -> Vec<Finding> {
    (0..file.tokens().len())
        .filter(|&token| {
            matches!(file.token(token), "todo" | "unimplemented") && file.token(token + 1) == "!"
        })
        .map(|token| Finding::at(file, file.line(token), "code that is not there yet"))
        .collect()
}

fn by_line(tree: &Tree, objection: impl Fn(&str) -> Option<String>) -> Report {
    let files: Vec<&SourceFile> = tree.files().filter(|file| file.path() != "Cargo.lock").collect();
    let mut findings = Vec::new();
    for file in &files {
        for (number, line) in file.text().lines().enumerate() {
            findings.extend(objection(line).map(|message| Finding::at(file, number + 1, message)));
        }
    }
    Report { examined: files.len(), unit: "files", findings }
}

/// Whether `line` names the folder `root` at the top of a file system, or something below it.
fn names_absolute(line: &str, root: &str) -> bool {
    let part_of_path = |c: char| c.is_alphanumeric() || "_-.~/}])$*>".contains(c);
    let path = format!("/{root}");
    line.match_indices(&path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + path.len()..].chars().next();
        !before.is_some_and(part_of_path) && !after.is_some_and(|c| c.is_alphanumeric() || "_-.".contains(c))
    })
}

fn has_word(line: &str, word: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        !line[..at].chars().next_back().is_some_and(inside)
            && !line[at + word.len()..].chars().next().is_some_and(inside)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lint::places;

    fn count(rule: fn(&Tree) -> Report, path: &str, text: &str) -> usize {
        rule(&Tree::of(&[(path, text)])).findings.len()
    }

    /// Spelled in parts, so that this file does not break the rule itself.
    fn absolute(root: &str, rest: &str) -> String {
        ["", root].join("/") + rest
    }

    #[test]
    fn absolute_paths_fire_in_code_comments_and_documents() {
        for root in ROOTS {
            for text in [format!("see {}", absolute(root, "/x")), format!("\"{}\"", absolute(root, ""))] {
                for path in ["docs/model.md", "crates/aegisrt/src/a.rs", ".ci/run"] {
                    assert_eq!(count(check_paths, path, &text), 1, "{path}: {text}");
                }
            }
        }
        let tree = Tree::of(&[("a.md", &format!("x\n{}", absolute("home", "/me")))]);
        assert_eq!(places(&check_paths(&tree)), ["a.md:2"]);
    }

    #[test]
    fn relative_paths_and_devices_stay_quiet() {
        for text in
            ["target/tmp/x", "../work/x", "{dir}/home/x", "a/root", "/dev/shm", "/workspace", "~/tmp/x"]
        {
            assert_eq!(count(check_paths, "a.md", text), 0, "{text}");
        }
        assert_eq!(count(check_paths, "Cargo.lock", &absolute("home", "/me")), 0);
    }

    #[test]
    fn hosts_fire_and_registry_names_stay_quiet() {
        for parts in HOSTS {
            let text = format!("from https://{}/x", parts.join("."));
            assert_eq!(count(check_hosts, "README.md", &text), 1, "{text}");
            assert_eq!(count(check_hosts, "Cargo.lock", &text), 0, "{text}");
        }
        assert_eq!(count(check_hosts, "README.md", "PyPI, Debian, creativecommons.org"), 0);
    }

    #[test]
    fn empty_names_fire_as_files_folders_and_modules() {
        assert_eq!(count(check_names, "crates/aegis-types/src/utils.rs", ""), 1);
        assert_eq!(count(check_names, "crates/aegisrt/tests/common/mod.rs", ""), 1);
        assert_eq!(count(check_names, "crates/aegisrt/src/a.rs", "mod helpers { }"), 1);
        assert_eq!(count(check_names, "crates/aegisrt/src/utilisation.rs", "mod commonality { }"), 0);
    }

    #[test]
    fn markers_fire_on_notes_bare_allows_and_unfinished_code() {
        for halves in NOTES {
            assert_eq!(count(check_markers, "a.rs", &format!("// {}: later", halves.concat())), 1);
            assert_eq!(count(check_markers, "a.rs", &format!("// {}S", halves.concat())), 0);
        }
        for text in ["#[allow(dead_code)] fn a() {}", "#![allow(x)]", "#[cfg_attr(test, allow(x))] fn a() {}"]
        {
            assert_eq!(count(check_markers, "a.rs", text), 1, "{text}");
        }
        assert_eq!(count(check_markers, "a.rs", "fn a() { todo!() }"), 1);
        for text in
            ["#[expect(x, reason = \"y\")] fn a() {}", "fn a() { b.allow(c) }", "// todo!()", "let todo = 1;"]
        {
            assert_eq!(count(check_markers, "a.rs", text), 0, "{text}");
        }
    }
}
