//! What the pure crates may not use: everything that could make equal inputs give unequal outputs.

use std::ops::Range;

use toml::{Table, Value};

use super::syntax::{CodePath, paths, test_modules, test_regions};
use super::tree::{SourceFile, Tree};
use super::{Finding, Report};

/// The crates that are functions of their inputs alone.
const PURE: [&str; 3] = ["aegis-types", "aegis-sched", "aegis-memory"];

/// Files of pure crates that are exempt: the planner's optional parallel search gets a deadline.
const EXEMPT: [&str; 2] = ["crates/aegis-memory/src/parallel.rs", "crates/aegis-memory/src/parallel/"];

/// Paths that bring in a clock, a thread, the environment, I/O, hash order or chance, with the reason.
const BANNED: [(&str, &str); 23] = [
    ("std::time", "a pure crate is told the time"),
    ("core::time", "spans are Nanos, instants are Time"),
    ("SystemTime", "a pure crate is told the time"),
    ("std::thread", "threads live in aegisrt and in the trace writer"),
    ("thread_local", "no hidden globals"),
    ("OnceLock", "no hidden globals"),
    ("OnceCell", "no hidden globals"),
    ("LazyLock", "no hidden globals"),
    ("std::env", "the environment is not an input"),
    ("env", "the environment is not an input"),
    ("option_env", "the environment is not an input"),
    ("std::fs", "files are opened by aegisrt; here they are parsed from &str"),
    ("std::io", "no input or output here"),
    ("std::net", "no input or output here"),
    ("std::process", "no input or output here"),
    ("println", "no input or output here"),
    ("eprintln", "no input or output here"),
    ("HashMap", "its order differs from run to run"),
    ("HashSet", "its order differs from run to run"),
    ("RandomState", "its order differs from run to run"),
    ("rand", "chance enters as a seed, in tests"),
    ("fastrand", "chance enters as a seed, in tests"),
    ("getrandom", "chance enters as a seed, in tests"),
];

/// Parts of the scheduler that decide verdicts: there a rounded number could turn a refusal around.
const VERDICTS: [&str; 2] = ["crates/aegis-sched/src/analysis", "crates/aegis-sched/src/referee"];

/// Replay, referee and simulation rest on this: the same inputs give the same outputs, in the same
/// order, on every machine. So the code of the pure crates that ships has no clock, thread, I/O,
/// environment, hash order, chance or mutable static, and no floating point where verdicts are made.
pub fn check(tree: &Tree) -> Report {
    let tests = test_modules(tree);
    let is_test = |path: &str| {
        tests
            .iter()
            .any(|module| path == module || module.ends_with('/') && path.starts_with(module.as_str()))
    };
    let pure: Vec<&SourceFile> =
        tree.rust().filter(|file| is_pure(file.path()) && !is_test(file.path())).collect();
    let findings = pure.iter().flat_map(|file| objections(file)).collect();
    Report { examined: pure.len(), unit: "files", findings }
}

/// Clippy knows types where the text rule knows names: each pure crate has its own `clippy.toml`
/// that disallows the types whose order or value differs from run to run. That file replaces the
/// one at the root, so it has to repeat what stands there.
pub fn check_configuration(tree: &Tree) -> Report {
    let present: Vec<&str> = PURE
        .into_iter()
        .filter(|name| tree.rust().any(|file| file.crate_folder() == format!("crates/{name}")))
        .collect();
    let root = tree.find(".clippy.toml").map_or(Ok(Table::new()), |file| file.text().parse());
    let findings = match root {
        Ok(root) => present.iter().filter_map(|name| configuration_objection(tree, name, &root)).collect(),
        Err(error) => vec![Finding::about(".clippy.toml", format!("not readable: {error}"))],
    };
    Report { examined: present.len(), unit: "crates", findings }
}

fn is_pure(path: &str) -> bool {
    PURE.iter().any(|name| path.starts_with(&format!("crates/{name}/src/")))
        && !EXEMPT.iter().any(|exempt| path.starts_with(exempt))
}

fn objections(file: &SourceFile) -> Vec<Finding> {
    let tests = test_regions(file);
    let ships = |token: usize| !tests.iter().any(|region: &Range<usize>| region.contains(&token));
    let mut findings = Vec::new();
    for path in paths(file).iter().filter(|path| ships(path.token)) {
        if let Some((banned, reason)) = BANNED.iter().find(|(banned, _)| is_banned(file, path, banned)) {
            findings.push(Finding::at(file, file.line(path.token), format!("`{banned}`: {reason}")));
        }
        let float = path.contains("f32") || path.contains("f64");
        if float && VERDICTS.iter().any(|verdict| file.path().starts_with(verdict)) {
            let message = "a float in the analysis: compare by cross-multiplying in u128";
            findings.push(Finding::at(file, file.line(path.token), message));
        }
    }
    for token in (0..file.tokens().len()).filter(|&token| ships(token)) {
        if file.token(token) == "static" && file.token(token + 1) == "mut" {
            findings.push(Finding::at(file, file.line(token), "a mutable static: no hidden globals"));
        }
    }
    findings
}

/// Macros are banned where they are called; everything else wherever it is named.
fn is_banned(file: &SourceFile, path: &CodePath, banned: &str) -> bool {
    match banned {
        "env" | "option_env" | "println" | "eprintln" | "thread_local" => {
            path.segments.last().is_some_and(|last| last == banned) && file.token(path.token + 1) == "!"
        }
        "rand" | "fastrand" | "getrandom" => path.segments.len() > 1 && path.segments[0] == banned,
        _ => path.contains(banned),
    }
}

fn configuration_objection(tree: &Tree, name: &str, root: &Table) -> Option<Finding> {
    let path = format!("crates/{name}/clippy.toml");
    let Some(file) = tree.find(&path) else {
        return Some(Finding::about(path, "a pure crate needs its own clippy.toml"));
    };
    let own: Table = match file.text().parse() {
        Ok(own) => own,
        Err(error) => return Some(Finding::about(path, format!("not readable: {error}"))),
    };
    if let Some((key, value)) = root.iter().find(|(key, value)| own.get(*key) != Some(value)) {
        return Some(Finding::about(path, format!("must repeat `{key} = {value}`, which it replaces")));
    }
    let listed = own.get("disallowed-types").and_then(Value::as_array);
    let disallowed: Vec<&str> = listed.into_iter().flatten().filter_map(disallowed_path).collect();
    let needed = ["HashMap", "HashSet", "Instant", "SystemTime"];
    let missing =
        needed.iter().find(|needed| !disallowed.iter().any(|path| path.ends_with(&format!("::{needed}"))))?;
    Some(Finding::about(path, format!("disallowed-types must list {missing}")))
}

fn disallowed_path(entry: &Value) -> Option<&str> {
    entry.as_str().or_else(|| entry.get("path").and_then(Value::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<String> {
        check(&Tree::of(&[(path, text)])).findings.into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn it_fires_on_clock_thread_environment_and_order_in_every_spelling() {
        for text in [
            "use std::time::Duration;",
            "use std::{fmt, time::Instant as Clock};",
            "fn f() { std::thread::sleep(x) }",
            "fn f() { std::env::var(x); }",
            "const X: &str = env!(\"X\");",
            "use std::collections::{BTreeMap, HashMap};",
            "fn f(x: std::collections::HashSet<u8>) {}",
            "fn f() { println!(\"x\") }",
            "use std::fs;",
            "use rand::Rng;",
            "static mut X: u8 = 0;",
            "thread_local! { static X: u8 = 0; }",
        ] {
            for name in PURE {
                assert_eq!(found(&format!("crates/{name}/src/a.rs"), text).len(), 1, "{name}: {text}");
            }
        }
    }

    #[test]
    fn it_fires_on_floats_only_where_verdicts_are_made() {
        let text = "fn f(x: u64) -> f64 { x }";
        assert_eq!(found("crates/aegis-sched/src/analysis/np_fp.rs", text).len(), 1);
        assert_eq!(found("crates/aegis-sched/src/referee.rs", text).len(), 1);
        assert!(found("crates/aegis-sched/src/explain.rs", text).is_empty());
    }

    #[test]
    fn it_stays_quiet_on_tests_comments_strings_and_other_crates() {
        let text = "//! std::time\nuse std::fmt;\nconst A: &str = \"HashMap\";\nlet env = x.env;\n\
            #[cfg(test)]\nmod tests { use std::time::Instant; }\n";
        assert!(found("crates/aegis-sched/src/a.rs", text).is_empty());
        let clock = "use std::time::Instant;";
        for path in ["crates/aegis-sched/tests/a.rs", "crates/aegisrt/src/a.rs", EXEMPT[0]] {
            assert!(found(path, clock).is_empty(), "{path}");
        }
        let tree = Tree::of(&[
            ("crates/aegis-sched/src/lib.rs", "#[cfg(test)] mod oracle;"),
            ("crates/aegis-sched/src/oracle.rs", clock),
        ]);
        assert!(check(&tree).findings.is_empty());
    }

    #[test]
    fn the_configuration_rule_fires_on_a_missing_file_key_or_type() {
        let root = (".clippy.toml", "allow-unwrap-in-tests = true\n");
        let code = ("crates/aegis-types/src/lib.rs", "");
        let full = "allow-unwrap-in-tests = true\ndisallowed-types = [\"std::collections::HashMap\", \
            \"std::collections::HashSet\", { path = \"std::time::Instant\" }, \"std::time::SystemTime\"]\n";
        let with = |own: Option<&str>| {
            let mut files = vec![root, code];
            files.extend(own.map(|text| ("crates/aegis-types/clippy.toml", text)));
            check_configuration(&Tree::of(&files)).findings.len()
        };
        assert_eq!(with(None), 1);
        assert_eq!(with(Some("disallowed-types = []")), 1);
        assert_eq!(with(Some(&full.replace("std::time::Instant", "x::Other"))), 1);
        assert_eq!(with(Some("= no toml")), 1);
        assert_eq!(with(Some(full)), 0);
    }
}
