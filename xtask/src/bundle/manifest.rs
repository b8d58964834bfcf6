//! What a bundle is and needs, checked against what it promises and written for who receives it.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::elf::{self, Facts, Need};
use super::folder::{Entry, Folder};
use super::platform::Platform;
use crate::error::Error;

/// The name of the manifest in the bundle.
pub const MANIFEST: &str = "manifest.json";

/// The state of the sources that a bundle was built from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// The commit, in full.
    pub id: String,
    /// Whether tracked files differ from it.
    pub changed: bool,
}

/// What all programs and libraries of a bundle need together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needs {
    /// The newest version of the C library, with the file that wants it.
    pub glibc: Option<(Need, String)>,
    /// Libraries that have to be on the machine, by name.
    pub libraries: BTreeSet<String>,
}

/// Examines every program and library below `root`.
///
/// # Errors
/// [`Error::Io`]; [`Error::Bundle`] where one cannot be read, is for another processor than `target`
/// says, or wants a newer C library than that of `platform`.
pub fn needs(root: &Path, entries: &[Entry], target: &str, platform: &Platform) -> Result<Needs, Error> {
    let mut examined = Vec::new();
    for entry in entries {
        let path = root.join(&entry.path);
        let bytes = std::fs::read(&path).map_err(Error::io("read", &path))?;
        if elf::is_elf(&bytes) {
            let facts = elf::examine(&bytes)
                .map_err(|error| Error::Bundle(format!("{} is no readable program: {error}", entry.path)))?;
            examined.push((entry.path.clone(), facts));
        }
    }
    judged(&examined, target, platform)
}

fn judged(examined: &[(String, Facts)], target: &str, platform: &Platform) -> Result<Needs, Error> {
    let mut refusals = Vec::new();
    let mut needs = Needs { glibc: None, libraries: BTreeSet::new() };
    for (path, facts) in examined {
        let processor = elf::processor(facts.machine);
        if !target.starts_with(&processor) {
            refusals.push(format!("{path} is for {processor}, the bundle is for {target}"));
        }
        // What lies beside a library is loaded before it, by its path.
        let is_beside = |name: &&String| {
            let place = Path::new(path).with_file_name(name);
            examined.iter().any(|(other, _)| Path::new(other) == place)
        };
        needs.libraries.extend(facts.libraries.iter().filter(|name| !is_beside(name)).cloned());
        let Some(need) = &facts.need else { continue };
        if need.glibc > platform.glibc {
            let (Need { glibc, symbol }, Platform { name, glibc: floor, .. }) = (need, platform);
            refusals.push(format!(
                "{path} wants {symbol}, so glibc {glibc}; a bundle has to run with {floor}, that of {name}: \
                 build it against glibc {floor} or older"
            ));
        }
        if needs.glibc.as_ref().is_none_or(|(newest, _)| newest.glibc < need.glibc) {
            needs.glibc = Some((need.clone(), path.clone()));
        }
    }
    if refusals.is_empty() { Ok(needs) } else { Err(Error::Bundle(refusals.join("\n"))) }
}

/// Writes the manifest.
///
/// # Errors
/// [`Error::Io`].
pub fn write(bundle: &Folder, identity: &Identity, needs: &Needs, entries: &[Entry]) -> Result<(), Error> {
    let mut text = format!("{:#}", manifest(identity, needs, entries));
    text.push('\n');
    bundle.text(MANIFEST, &text)
}

/// What a bundle calls itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The name of its folder.
    pub name: String,
    /// The version of the project.
    pub version: String,
    /// The target triple.
    pub target: String,
    /// Its sources; `None` where they are under no version control.
    pub commit: Option<Commit>,
    /// The system that it promises to run on.
    pub platform: Platform,
}

fn manifest(identity: &Identity, needs: &Needs, entries: &[Entry]) -> Value {
    let Identity { name, version, target, commit, platform } = identity;
    let glibc = needs.glibc.as_ref().map(|(need, file)| {
        json!({
            "needed": need.glibc.to_string(),
            "symbol": need.symbol,
            "file": file,
            "promised": platform.glibc.to_string(),
        })
    });
    let commit = commit.as_ref().map(|commit| json!({ "id": commit.id, "changed": commit.changed }));
    let files: Vec<Value> = entries
        .iter()
        .map(|entry| json!({ "path": entry.path, "bytes": entry.bytes, "sha256": entry.sha256 }))
        .collect();
    json!({
        "name": name,
        "version": version,
        "target": target,
        "commit": commit,
        "glibc": glibc,
        "libraries": needs.libraries,
        "platform": platform.name,
        "cuda": platform.cuda,
        "files": files,
    })
}

/// The commit that `root` stands at; `None` without `git` or outside of its care.
pub fn commit(root: &Path) -> Option<Commit> {
    let said = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).current_dir(root).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    let id = said(&["rev-parse", "HEAD"])?;
    let changed = !said(&["status", "--porcelain", "--untracked-files=no"])?.is_empty();
    Some(Commit { id, changed })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::elf::Glibc;
    use crate::bundle::platform::{DEBIAN_12, JETPACK_6};

    fn facts(machine: u16, minor: u32) -> Facts {
        let need = Need { glibc: Glibc { major: 2, minor }, symbol: format!("open@GLIBC_2.{minor}") };
        Facts { machine, need: Some(need), libraries: vec!["libc.so.6".to_owned()] }
    }

    fn judge(machine: u16, minor: u32) -> Result<Needs, Error> {
        let examined =
            [("bin/old".to_owned(), facts(62, 17)), ("bin/aegis".to_owned(), facts(machine, minor))];
        judged(&examined, "x86_64-unknown-linux-gnu", &DEBIAN_12)
    }

    #[test]
    fn the_newest_need_counts_and_what_the_floor_offers_is_allowed() {
        let (need, file) = judge(62, 36).unwrap().glibc.unwrap();
        assert_eq!((need.glibc, file.as_str()), (DEBIAN_12.glibc, "bin/aegis"));
        assert_eq!(judge(62, 4).unwrap().glibc.unwrap().1, "bin/old");
    }

    #[test]
    fn a_newer_library_is_refused_with_symbol_and_program() {
        let error = judge(62, 38).unwrap_err().to_string();
        for word in ["bin/aegis", "open@GLIBC_2.38", "2.36"] {
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn a_board_promises_an_older_library_than_a_server() {
        let examined = [("bin/aegis".to_owned(), facts(183, 36))];
        let error = judged(&examined, "aarch64-unknown-linux-gnu", &JETPACK_6).unwrap_err().to_string();
        assert!(error.contains("2.35") && error.contains("JetPack 6"), "{error}");
        let examined = [("bin/aegis".to_owned(), facts(183, 35))];
        assert!(judged(&examined, "aarch64-unknown-linux-gnu", &JETPACK_6).is_ok());
    }

    #[test]
    fn a_program_for_another_processor_is_refused() {
        let error = judge(183, 17).unwrap_err().to_string();
        assert!(error.contains("bin/aegis is for aarch64"), "{error}");
    }

    #[test]
    fn what_lies_beside_a_library_is_not_wanted_of_the_machine() {
        let wanting =
            Facts { libraries: vec!["libx.so".to_owned(), "libc.so.6".to_owned()], ..facts(62, 17) };
        let examined =
            |place: &str| [("lib/y.so".to_owned(), wanting.clone()), (place.to_owned(), facts(62, 17))];
        let libraries = |place: &str| {
            let needs = judged(&examined(place), "x86_64-unknown-linux-gnu", &DEBIAN_12).unwrap();
            needs.libraries.into_iter().collect::<Vec<_>>()
        };
        assert_eq!(libraries("lib/libx.so"), ["libc.so.6"]);
        assert_eq!(libraries("other/libx.so"), ["libc.so.6", "libx.so"]);
    }

    #[test]
    fn the_manifest_says_what_was_packed() {
        let identity = Identity {
            name: "n".to_owned(),
            version: "1.2.3".to_owned(),
            target: "t".to_owned(),
            commit: Some(Commit { id: "c0ffee".to_owned(), changed: true }),
            platform: DEBIAN_12,
        };
        let entries = [Entry { path: "a".to_owned(), bytes: 3, sha256: "5f".to_owned() }];
        let value = manifest(&identity, &judge(62, 34).unwrap(), &entries);
        assert_eq!(value["glibc"]["needed"], "2.34");
        assert_eq!(value["glibc"]["promised"], "2.36");
        assert_eq!(value["commit"]["changed"], true);
        assert_eq!(value["files"][0]["sha256"], "5f");
        assert_eq!(value["libraries"][0], "libc.so.6");
    }
}
