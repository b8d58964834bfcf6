//! Names that may be spoken on one side of a border only: raw handles and frameworks.

use super::syntax::paths;
use super::tree::{SourceFile, Tree};
use super::{Finding, Report};

/// Crates that may name the module of raw handles: the one that holds it and the backends.
const INTEROP: [&str; 2] = ["crates/aegis-cuda", "crates/aegis-backend-"];

/// Roots of paths that belong to a framework, by how they begin.
const FRAMEWORKS: [&str; 7] = ["ort", "ort_sys", "tvm", "tvm_ffi", "tensorrt", "tensorrt_sys", "trtx"];

/// A raw handle is lent to a closure, and only a backend may borrow one: whoever else could name it
/// could keep it longer than its owner lives.
pub fn check_interop(tree: &Tree) -> Report {
    let outside = |file: &&SourceFile| !INTEROP.iter().any(|inside| file.crate_folder().starts_with(inside));
    report(tree, outside, |path| {
        path.iter().any(|segment| segment == "interop").then(|| {
            "`interop` lends raw handles; only aegis-cuda and aegis-backend-* may name it".to_owned()
        })
    })
}

/// Replacing a framework has to touch one crate, so its names occur in that crate alone.
pub fn check_frameworks(tree: &Tree) -> Report {
    let outside = |file: &&SourceFile| !file.path().starts_with("crates/aegis-backend-");
    report(tree, outside, |path| {
        let root = path.first().filter(|_| path.len() > 1)?;
        FRAMEWORKS
            .contains(&root.as_str())
            .then(|| format!("`{root}` is a framework; only a crate aegis-backend-* may name it"))
    })
}

fn report(
    tree: &Tree,
    outside: impl Fn(&&SourceFile) -> bool,
    objection: impl Fn(&[String]) -> Option<String>,
) -> Report {
    let files: Vec<&SourceFile> = tree.rust().filter(outside).collect();
    let mut findings = Vec::new();
    for file in &files {
        for path in paths(file) {
            if let Some(message) = objection(&path.segments) {
                findings.push(Finding::at(file, file.line(path.token), message));
            }
        }
    }
    Report { examined: files.len(), unit: "files", findings }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(rule: fn(&Tree) -> Report, path: &str, text: &str) -> usize {
        rule(&Tree::of(&[(path, text)])).findings.len()
    }

    #[test]
    fn interop_fires_everywhere_but_in_backends_and_its_own_crate() {
        for text in [
            "use aegis_cuda::interop;",
            "use aegis_cuda::{a, interop::with_raw};",
            "fn f() { aegis_cuda::interop::g() }",
        ] {
            for path in ["crates/aegis-context/src/a.rs", "crates/aegisrt/src/a.rs", "benches/src/a.rs"] {
                assert_eq!(count(check_interop, path, text), 1, "{path}: {text}");
            }
            for path in ["crates/aegis-cuda/src/a.rs", "crates/aegis-backend-onnx/src/a.rs"] {
                assert_eq!(count(check_interop, path, text), 0, "{path}: {text}");
            }
        }
        assert_eq!(
            count(check_interop, "crates/aegisrt/src/a.rs", "// interop\nconst A: &str = \"interop\";"),
            0
        );
    }

    #[test]
    fn frameworks_fire_everywhere_but_in_backends() {
        for text in ["use ort::Session;", "fn f() { ort_sys::x() }", "use tvm_ffi::{a};", "use tensorrt::x;"]
        {
            assert_eq!(count(check_frameworks, "crates/aegisrt/src/a.rs", text), 1, "{text}");
            assert_eq!(count(check_frameworks, "crates/aegis-backend-onnx/src/a.rs", text), 0, "{text}");
        }
        for text in
            ["use aegis_backend_onnx::A;", "enum A { Tvm, Ort }", "// ort::Session", "fn short(ort: u8) {}"]
        {
            assert_eq!(count(check_frameworks, "crates/aegisrt/src/a.rs", text), 0, "{text}");
        }
    }
}
