//! Which crate may depend on which: the architecture, as a rule over cargo's own metadata.

use cargo_metadata::{DependencyKind, MetadataCommand, Package};

use super::{Finding, Report};
use crate::error::Error;
use crate::workspace::Workspace;

/// Edges of ordinary and build dependencies that exist, by the shape of the crate's name; a `*` at
/// the end stands for any ending. What is absent here is a promise: the scheduler knows no device,
/// and memory, context and the backends are strangers to each other.
const EDGES: [(&str, &[&str]); 8] = [
    ("aegis-types", &[]),
    ("aegis-trace", &["aegis-types"]),
    ("aegis-cuda", &["aegis-types"]),
    ("aegis-memory", &["aegis-types", "aegis-trace", "aegis-cuda"]),
    ("aegis-context", &["aegis-types", "aegis-trace", "aegis-cuda"]),
    ("aegis-backend-*", &["aegis-types", "aegis-trace", "aegis-cuda"]),
    ("aegis-sched", &["aegis-types", "aegis-trace"]),
    ("aegisrt", &["aegis-*"]),
];

/// The crates that carry no layer: they stand beside the product.
const BESIDE: [&str; 2] = ["xtask", "aegis-benches"];

/// One crate of the workspace, as far as the rule needs it.
struct Member {
    name: String,
    layer: Option<u64>,
    edges: Vec<Edge>,
}

/// One dependency on another crate of the workspace.
struct Edge {
    to: String,
    test_only: bool,
}

/// Replaceability is a line absent from a manifest: a crate depends only on crates of a strictly
/// lower layer, and only along the edges that the architecture names. Tests may use any lower layer.
///
/// # Errors
/// [`Error::Workspace`] where cargo cannot read the manifests.
pub fn check(workspace: &Workspace) -> Result<Report, Error> {
    let members = read(&workspace.root().join("Cargo.toml"))?;
    Ok(Report { examined: members.len(), unit: "crates", findings: findings(&members) })
}

fn read(manifest: &std::path::Path) -> Result<Vec<Member>, Error> {
    let metadata = MetadataCommand::new()
        .manifest_path(manifest)
        .no_deps()
        .exec()
        .map_err(|error| Error::Workspace(error.to_string()))?;
    Ok(metadata.packages.iter().map(member).collect())
}

fn member(package: &Package) -> Member {
    let layer = package.metadata.pointer("/aegis/layer").and_then(|layer| layer.as_u64());
    let edges = package
        .dependencies
        .iter()
        .filter(|dependency| dependency.path.is_some())
        .map(|dependency| Edge {
            to: dependency.name.clone(),
            test_only: dependency.kind == DependencyKind::Development,
        })
        .collect();
    Member { name: package.name.to_string(), layer, edges }
}

fn findings(members: &[Member]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for member in members.iter().filter(|member| !BESIDE.contains(&member.name.as_str())) {
        let Some(layer) = member.layer else {
            let message = "its manifest names no layer ([package.metadata.aegis] layer = N)";
            findings.push(Finding::about(&member.name, message));
            continue;
        };
        let Some(allowed) = allowed(&member.name) else {
            findings.push(Finding::about(&member.name, "the architecture does not know this crate"));
            continue;
        };
        for edge in member.edges.iter().filter(|edge| edge.to != member.name) {
            let target = members.iter().find(|other| other.name == edge.to);
            let target_layer = target.and_then(|target| target.layer);
            if let Some(message) = objection(layer, allowed, edge, target_layer) {
                findings.push(Finding::about(&member.name, message));
            }
        }
    }
    let marked =
        members.iter().filter(|member| BESIDE.contains(&member.name.as_str()) && member.layer.is_some());
    findings.extend(
        marked.map(|member| Finding::about(&member.name, "stands beside the layers and must name none")),
    );
    findings
}

/// Why `edge`, out of a crate of `layer`, may not exist.
fn objection(layer: u64, allowed: &[&str], edge: &Edge, target_layer: Option<u64>) -> Option<String> {
    let to = &edge.to;
    match target_layer {
        None if edge.test_only => None,
        None => Some(format!("depends on {to}, which has no layer")),
        Some(target) if target >= layer => {
            Some(format!("layer {layer} depends on {to} of layer {target}; only lower layers are allowed"))
        }
        Some(_) if edge.test_only || allowed.iter().any(|pattern| matches(pattern, to)) => None,
        Some(_) => {
            let legal = if allowed.is_empty() { "none".to_owned() } else { allowed.join(", ") };
            Some(format!("depends on {to}; the architecture allows {legal}"))
        }
    }
}

fn allowed(name: &str) -> Option<&'static [&'static str]> {
    EDGES.iter().find(|(pattern, _)| matches(pattern, name)).map(|(_, allowed)| *allowed)
}

fn matches(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == name, |prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, layer: Option<u64>, edges: &[(&str, bool)]) -> Member {
        let edge = |&(to, test_only): &(&str, bool)| Edge { to: to.to_owned(), test_only };
        Member { name: name.to_owned(), layer, edges: edges.iter().map(edge).collect() }
    }

    /// The workspace as the architecture draws it, with one more edge.
    fn with(from: &str, to: &str, test_only: bool) -> Vec<Finding> {
        let mut members = vec![
            member("aegis-types", Some(0), &[]),
            member("aegis-trace", Some(1), &[("aegis-types", false)]),
            member("aegis-cuda", Some(1), &[("aegis-types", false)]),
            member("aegis-memory", Some(2), &[("aegis-cuda", false), ("aegis-trace", false)]),
            member("aegis-context", Some(2), &[("aegis-cuda", false)]),
            member("aegis-backend-onnx", Some(2), &[("aegis-cuda", false)]),
            member("aegis-sched", Some(3), &[("aegis-types", false), ("aegis-trace", false)]),
            member("aegisrt", Some(4), &[("aegis-sched", false), ("aegis-backend-onnx", false)]),
            member("aegis-benches", None, &[("aegisrt", false)]),
        ];
        let index = members.iter().position(|member| member.name == from).unwrap();
        members[index].edges.push(Edge { to: to.to_owned(), test_only });
        findings(&members)
    }

    #[test]
    fn it_fires_on_upward_and_sideways_edges() {
        for (from, to) in [
            ("aegis-types", "aegisrt"),
            ("aegis-cuda", "aegis-trace"),
            ("aegis-context", "aegis-memory"),
            ("aegis-backend-onnx", "aegis-memory"),
        ] {
            let found = with(from, to, false);
            assert_eq!(found.len(), 1, "{from} -> {to}");
            assert!(found[0].message.contains("only lower layers"), "{found:?}");
            assert_eq!(with(from, to, true).len(), 1, "tests are bound by layers too: {from} -> {to}");
        }
    }

    #[test]
    fn it_fires_on_a_downward_edge_that_is_not_in_the_list() {
        for to in ["aegis-cuda", "aegis-memory", "aegis-context", "aegis-backend-onnx"] {
            let found = with("aegis-sched", to, false);
            assert_eq!(found.len(), 1, "aegis-sched -> {to}");
            assert!(found[0].message.contains("the architecture allows aegis-types, aegis-trace"));
            assert!(with("aegis-sched", to, true).is_empty(), "tests may use lower layers");
        }
    }

    #[test]
    fn it_fires_on_missing_unknown_and_misplaced_layers() {
        let unknown = [member("aegis-new", Some(2), &[]), member("aegis-types", None, &[])];
        assert_eq!(findings(&unknown).len(), 2);
        assert_eq!(findings(&[member("xtask", Some(4), &[])]).len(), 1);
        assert_eq!(with("aegisrt", "aegis-benches", false).len(), 1);
    }

    #[test]
    fn it_stays_quiet_on_the_architecture_itself() {
        assert_eq!(with("aegisrt", "aegis-types", false), []);
        assert_eq!(with("aegisrt", "aegis-benches", true), []);
        assert_eq!(with("aegis-types", "aegis-types", true), []);
    }

    #[test]
    fn layers_and_edges_are_read_from_manifests() {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("Cargo.toml", "[workspace]\nresolver = \"3\"\nmembers = [\"a\", \"b\"]\n");
        write("a/Cargo.toml", "[package]\nname = \"aegis-types\"\n[package.metadata.aegis]\nlayer = 0\n");
        write("a/src/lib.rs", "");
        write(
            "b/Cargo.toml",
            "[package]\nname = \"aegis-cuda\"\n[package.metadata.aegis]\nlayer = 0\n\
             [dependencies]\naegis-types = { path = \"../a\" }\n",
        );
        write("b/src/lib.rs", "");
        let members = read(&folder.path().join("Cargo.toml")).unwrap();
        assert_eq!(members.len(), 2);
        assert_eq!(findings(&members).len(), 1);
        assert!(read(&folder.path().join("missing.toml")).is_err());
    }
}
