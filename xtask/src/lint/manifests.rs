//! What every manifest has to say, and what only some may.

use toml::{Table, Value};

use super::tree::{SourceFile, Tree};
use super::{Finding, Report};

/// Keys of `[package]` that stand once, at the root.
const INHERITED: [&str; 5] = ["version", "edition", "rust-version", "license", "publish"];

/// Third-party crates that bind a framework, by how their names begin.
const FRAMEWORKS: [&str; 6] = ["ort", "tvm", "tensorrt", "trtx", "onnxruntime", "tract"];

/// Versions, licence and lints stand once, at the root: a crate that names its own would drift from
/// what was checked. A framework may stand only in the manifest of a backend, so that replacing it
/// touches one crate.
pub fn check(tree: &Tree) -> Report {
    let manifests: Vec<&SourceFile> = tree
        .files()
        .filter(|file| file.path().ends_with("/Cargo.toml") && !file.path().contains("/fuzz/"))
        .collect();
    let findings = manifests.iter().flat_map(|file| objections(file)).collect();
    Report { examined: manifests.len(), unit: "manifests", findings }
}

fn objections(file: &SourceFile) -> Vec<Finding> {
    let manifest: Table = match file.text().parse() {
        Ok(manifest) => manifest,
        Err(error) => return vec![Finding::about(file.path(), format!("not readable: {error}"))],
    };
    let mut messages = Vec::new();
    for key in INHERITED {
        if !inherits(manifest.get("package").and_then(|package| package.get(key))) {
            messages.push(format!("[package] must say `{key}.workspace = true`"));
        }
    }
    if !inherits(manifest.get("lints")) {
        messages.push("must say `[lints] workspace = true`".to_owned());
    }
    let targets = manifest.get("target").and_then(Value::as_table).into_iter().flatten();
    let per_target = targets.filter_map(|(_, value)| value.as_table());
    for table in std::iter::once(&manifest).chain(per_target) {
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            messages.extend(dependencies(file, section, table.get(section)));
        }
    }
    messages.into_iter().map(|message| Finding::about(file.path(), message)).collect()
}

fn dependencies(file: &SourceFile, section: &str, table: Option<&Value>) -> Vec<String> {
    let mut messages = Vec::new();
    for (name, value) in table.and_then(Value::as_table).into_iter().flatten() {
        if !inherits(Some(value)) {
            messages.push(format!("[{section}] {name}: its version belongs into the root manifest"));
        }
        let framework =
            FRAMEWORKS.iter().any(|prefix| *name == *prefix || name.starts_with(&format!("{prefix}-")));
        if framework && section == "dependencies" && !file.path().starts_with("crates/aegis-backend-") {
            messages.push(format!("[{section}] {name}: only a crate aegis-backend-* may bind a framework"));
        }
    }
    messages
}

/// Whether the value is a table that says `workspace = true`.
fn inherits(value: Option<&Value>) -> bool {
    value.and_then(|value| value.get("workspace")).and_then(Value::as_bool) == Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "[package]\nname = \"x\"\nversion.workspace = true\nedition.workspace = true\n\
        rust-version.workspace = true\nlicense.workspace = true\npublish.workspace = true\n\
        [lints]\nworkspace = true\n";

    fn messages(path: &str, text: &str) -> Vec<String> {
        check(&Tree::of(&[(path, text)])).findings.into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn it_fires_on_a_licence_or_a_version_of_its_own() {
        let own = GOOD.replace("license.workspace = true", "license = \"MIT\"");
        assert_eq!(messages("xtask/Cargo.toml", &own).len(), 1);
        let version = format!("{GOOD}[dependencies]\nserde = \"1\"\n");
        assert!(messages("xtask/Cargo.toml", &version)[0].contains("serde"));
        let target = format!("{GOOD}[target.'cfg(loom)'.dependencies]\nloom = \"0.7\"\n");
        assert!(messages("xtask/Cargo.toml", &target)[0].contains("loom"));
        assert_eq!(messages("xtask/Cargo.toml", "[package]\nname = \"x\"").len(), 6);
        assert_eq!(messages("xtask/Cargo.toml", "[package").len(), 1);
    }

    #[test]
    fn it_fires_on_a_framework_outside_the_backends() {
        for name in ["ort", "ort-sys", "tvm-ffi"] {
            let text = format!("{GOOD}[dependencies]\n{name}.workspace = true\n");
            assert_eq!(messages("crates/aegisrt/Cargo.toml", &text).len(), 1, "{name}");
            assert!(messages("crates/aegis-backend-onnx/Cargo.toml", &text).is_empty(), "{name}");
        }
    }

    #[test]
    fn it_stays_quiet_on_manifests_that_inherit() {
        let text = format!("{GOOD}[dependencies]\nserde = {{ workspace = true, features = [\"rc\"] }}\n");
        assert!(messages("crates/aegis-types/Cargo.toml", &text).is_empty());
        assert_eq!(check(&Tree::of(&[("Cargo.toml", "[workspace]")])).examined, 0);
    }
}
