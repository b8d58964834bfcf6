//! Where `unsafe` may stand, and what has to stand beside it.

use super::tree::{SourceFile, Tree};
use super::{Finding, Report};

/// Files and folders that may hold unsafe code. Everything else is proved by the compiler.
const ALLOWED: [&str; 6] = [
    "crates/aegis-cuda/src/",
    "crates/aegis-backend-onnx/src/",
    "crates/aegis-backend-trt/src/",
    "crates/aegis-backend-tvm/src/",
    "crates/aegis-backend-tvm/tests/tvm/counting.rs",
    "benches/src/counting.rs",
];

/// A reader checks unsafe code by hand, so there is little of it, in files that are known: each block
/// and each implementation says why it is sound, and a crate without such a file forbids it outright.
pub fn check(tree: &Tree) -> Report {
    let mut findings = Vec::new();
    let mut examined = 0;
    for file in tree.rust() {
        for token in (0..file.tokens().len()).filter(|&token| file.token(token) == "unsafe") {
            examined += 1;
            findings.extend(objection(file, token));
        }
        if is_root(file.path()) && !has_allowed_file(file.crate_folder()) && !forbids(file) {
            let message = "the crate has no file that may hold unsafe code: it needs #![forbid(unsafe_code)]";
            findings.push(Finding::at(file, 1, message));
        }
    }
    Report { examined, unit: "unsafe", findings }
}

fn objection(file: &SourceFile, token: usize) -> Option<Finding> {
    if !ALLOWED.iter().any(|allowed| file.path().starts_with(allowed)) {
        return Some(Finding::at(file, file.line(token), "unsafe code in a file that is not in the list"));
    }
    let next = file.token(token + 1);
    let needs_reason = matches!(next, "{" | "impl" | "(") || next == "extern" && file.token(token + 2) == "{";
    (needs_reason && !has_reason(file, token))
        .then(|| Finding::at(file, file.line(token), "no `// SAFETY:` comment that says why this is sound"))
}

/// The comment stands between the end of the statement before and the keyword.
fn has_reason(file: &SourceFile, token: usize) -> bool {
    let before = (0..token).rev().find(|&index| matches!(file.token(index), ";" | "{" | "}"));
    let start = before.map_or(0, |index| file.offset(index));
    file.text()[start..file.offset(token)].lines().any(|line| line.contains("// SAFETY: "))
}

/// Whether a file is the root of a crate's library or program.
fn is_root(path: &str) -> bool {
    let inside = path.strip_prefix("crates/").unwrap_or(path);
    inside.split_once('/').is_some_and(|(_, rest)| {
        matches!(rest, "src/lib.rs" | "src/main.rs")
            || rest
                .strip_prefix("src/bin/")
                .is_some_and(|name| !name.contains('/') || name.ends_with("/main.rs"))
    })
}

fn has_allowed_file(folder: &str) -> bool {
    ALLOWED.iter().any(|allowed| allowed.starts_with(&format!("{folder}/")))
}

fn forbids(file: &SourceFile) -> bool {
    let wanted = ["#", "!", "[", "forbid", "(", "unsafe_code", ")", "]"];
    (0..file.tokens().len())
        .any(|start| wanted.iter().enumerate().all(|(offset, word)| file.token(start + offset) == *word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lint::places;

    fn found(path: &str, text: &str) -> usize {
        check(&Tree::of(&[(path, text)])).findings.len()
    }

    const LISTED: &str = "benches/src/counting.rs";

    #[test]
    fn it_fires_on_unsafe_code_outside_the_list_whatever_its_comment() {
        let text = "fn f() {\n    // SAFETY: none.\n    unsafe { g() }\n}\n";
        for path in
            ["crates/aegis-trace/src/file.rs", "crates/aegis-types/src/a.rs", "crates/aegisrt/tests/a.rs"]
        {
            let tree = Tree::of(&[(path, text)]);
            assert_eq!(places(&check(&tree)), [format!("{path}:3")]);
        }
    }

    #[test]
    fn it_fires_on_a_block_or_implementation_without_its_reason() {
        for text in [
            "fn f() { unsafe { g() } }",
            "// SAFETY: of another one.\nfn f() {}\nunsafe impl Send for A {}",
            "fn f() {\n    // It is safe.\n    let x = unsafe { g() };\n}",
            "fn f() { let x = \"// SAFETY: \"; unsafe { g() } }",
        ] {
            assert_eq!(found(LISTED, text), 1, "{text}");
        }
    }

    #[test]
    fn it_fires_on_a_crate_that_does_not_forbid_unsafe_code() {
        for path in ["crates/aegis-sched/src/lib.rs", "xtask/src/main.rs", "crates/aegis-types/src/lib.rs"] {
            assert_eq!(found(path, "//! #![forbid(unsafe_code)]\n"), 1, "{path}");
            assert_eq!(found(path, "#![forbid(unsafe_code)]\n"), 0, "{path}");
        }
    }

    #[test]
    fn it_stays_quiet_on_listed_files_with_reasons() {
        let text = "// SAFETY: no thread owns it.\nunsafe impl Send for A {}\n\
            fn f() {\n    // SAFETY: live and aligned;\n    // see `B`.\n    let x = unsafe { g() };\n}\n\
            unsafe fn h() {}\nfn i(a: unsafe extern \"C\" fn()) {}\n";
        assert_eq!(found(LISTED, text), 0);
        assert_eq!(found("crates/aegis-cuda/src/lib.rs", ""), 0);
        assert_eq!(found("crates/aegis-types/src/a.rs", "// unsafe\nconst A: &str = \"unsafe\";"), 0);
    }
}
