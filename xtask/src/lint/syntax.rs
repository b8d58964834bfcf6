//! What the rules need to know of a file's structure: paths, attributes, functions and test code.

use std::ops::Range;

use super::tree::{SourceFile, Tree};

/// A path in the code, with use trees spelled out: `use a::{b, c::d}` gives `a`, `a::b`, `a::c::d`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodePath {
    /// Index of its last token.
    pub token: usize,
    /// Its segments.
    pub segments: Vec<String>,
}

impl CodePath {
    /// Whether the segments of `banned` follow each other somewhere in the path.
    pub fn contains(&self, banned: &str) -> bool {
        let banned: Vec<&str> = banned.split("::").collect();
        self.segments.windows(banned.len()).any(|window| window.iter().zip(&banned).all(|(a, b)| a == b))
    }
}

/// One function with a body.
pub struct Function {
    /// Its name.
    pub name: String,
    /// Line of its `fn`, counted from 1.
    pub line: usize,
    /// Lines from its `fn` to its closing brace.
    pub lines: usize,
}

/// Every path of the file, outside and inside `use`.
pub fn paths(file: &SourceFile) -> Vec<CodePath> {
    let mut paths = Vec::new();
    let mut index = 0;
    while index < file.tokens().len() {
        if file.token(index) == "use" && file.token(index + 1) != "<" {
            index = use_tree(file, index + 1, &[], &mut paths);
        } else if is_name(file.token(index)) {
            index = plain_path(file, index, &mut paths);
        } else {
            index += 1;
        }
    }
    paths
}

/// Token ranges of every attribute, from its `[` to its `]`.
pub fn attributes(file: &SourceFile) -> Vec<Range<usize>> {
    let mut attributes = Vec::new();
    for index in 0..file.tokens().len() {
        let open = index + 1 + usize::from(file.token(index + 1) == "!");
        if file.token(index) == "#" && file.token(open) == "[" {
            attributes.push(open..file.closing(open) + 1);
        }
    }
    attributes
}

/// Every function that has a body, nested ones and methods too.
pub fn functions(file: &SourceFile) -> Vec<Function> {
    let mut functions = Vec::new();
    for index in 0..file.tokens().len() {
        if file.token(index) != "fn" || !is_name(file.token(index + 1)) {
            continue;
        }
        let end = item_end(file, index);
        if file.token(end) == "}" {
            let line = file.line(index);
            let lines = file.line(end) - line + 1;
            functions.push(Function { name: file.token(index + 1).to_owned(), line, lines });
        }
    }
    functions
}

/// Token ranges that are compiled for tests only, by `#[cfg(test)]` or `#[cfg(all(test, ..))]`.
pub fn test_regions(file: &SourceFile) -> Vec<Range<usize>> {
    let mut regions = Vec::new();
    for attribute in attributes(file) {
        if !is_test_only(file, &attribute) {
            continue;
        }
        if file.token(attribute.start - 1) == "!" {
            return Vec::from([Range { start: 0, end: file.tokens().len() }]);
        }
        regions.push(attribute.start - 1..item_end(file, attribute.end) + 1);
    }
    regions
}

/// Paths of files and folders that hold a module declared with `#[cfg(test)] mod name;`.
pub fn test_modules(tree: &Tree) -> Vec<String> {
    let mut modules = Vec::new();
    for file in tree.rust() {
        let (folder, name) = file.path().rsplit_once('/').unwrap_or(("", file.path()));
        let stem = name.trim_end_matches(".rs");
        let beside = matches!(stem, "lib" | "main" | "mod");
        let base = if beside { folder.to_owned() } else { format!("{folder}/{stem}") };
        for region in test_regions(file) {
            let last = region.end.saturating_sub(1);
            if last >= 2 && file.token(last) == ";" && file.token(last - 2) == "mod" {
                let module = file.token(last - 1);
                modules.extend([format!("{base}/{module}.rs"), format!("{base}/{module}/")]);
            }
        }
    }
    modules
}

/// Whether the word can be a segment of a path.
fn is_name(word: &str) -> bool {
    word.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

fn plain_path(file: &SourceFile, start: usize, paths: &mut Vec<CodePath>) -> usize {
    let mut segments = vec![file.token(start).to_owned()];
    let mut last = start;
    while file.token(last + 1) == "::" && is_name(file.token(last + 2)) {
        last += 2;
        segments.push(file.token(last).to_owned());
    }
    paths.push(CodePath { token: last, segments });
    last + 1
}

/// Spells out one use tree; returns the index of the token after it.
fn use_tree(file: &SourceFile, start: usize, prefix: &[String], paths: &mut Vec<CodePath>) -> usize {
    let mut segments = prefix.to_vec();
    let mut index = start;
    while index < file.tokens().len() {
        match file.token(index) {
            "{" => {
                let end = file.closing(index);
                index += 1;
                while index < end {
                    index = use_tree(file, index, &segments, paths).min(end);
                    index += usize::from(file.token(index) == ",");
                }
                return end + 1;
            }
            "as" => {
                index += 2;
                continue;
            }
            "," | ";" | "}" => break,
            word if is_name(word) => segments.push(word.to_owned()),
            _ => {}
        }
        index += 1;
    }
    paths.push(CodePath { token: index.saturating_sub(1), segments });
    // Never `start` itself: code that is no use tree at all must not stop the walk.
    index.max(start + 1)
}

fn is_test_only(file: &SourceFile, attribute: &Range<usize>) -> bool {
    let word = |offset: usize| file.token(attribute.start + offset);
    if word(1) != "cfg" {
        return false;
    }
    let plain = word(3) == "test" && word(4) == ")";
    let conjunction = word(3) == "all" && word(5) == "test" && matches!(word(6), "," | ")");
    plain || conjunction
}

/// Index of the last token of the item, field or statement that starts at `start`.
fn item_end(file: &SourceFile, start: usize) -> usize {
    let mut index = start;
    while file.token(index) == "#" {
        index = file.closing(index + 1) + 1;
    }
    let is_item = matches!(
        file.token(index),
        "pub"
            | "fn"
            | "mod"
            | "impl"
            | "struct"
            | "enum"
            | "trait"
            | "use"
            | "const"
            | "static"
            | "type"
            | "unsafe"
            | "async"
            | "extern"
            | "let"
            | "macro_rules"
    );
    while index < file.tokens().len() {
        match file.token(index) {
            "{" => return file.closing(index),
            ";" => return index,
            "," if !is_item => return index,
            "(" | "[" => index = file.closing(index),
            ")" | "]" | "}" => return index - 1,
            _ => {}
        }
        index += 1;
    }
    file.tokens().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(text: &str) -> Tree {
        Tree::of(&[("crates/x/src/lib.rs", text)])
    }

    fn spelled(text: &str) -> Vec<String> {
        let tree = with(text);
        let file = tree.files().next().unwrap();
        paths(file).iter().map(|path| path.segments.join("::")).collect()
    }

    fn hidden(text: &str) -> String {
        let tree = with(text);
        let file = tree.files().next().unwrap();
        let regions = test_regions(file);
        let inside = |index| regions.iter().any(|region: &Range<usize>| region.contains(&index));
        (0..file.tokens().len()).filter(|&index| !inside(index)).map(|index| file.token(index)).collect()
    }

    #[test]
    fn use_trees_are_spelled_out() {
        assert_eq!(spelled("use a::b;"), ["a::b"]);
        assert_eq!(
            spelled("use a::{b, c::{d, e as f}, g::*}; h"),
            ["a::b", "a::c::d", "a::c::e", "a::g", "h"]
        );
        assert_eq!(spelled("pub use ::a::{self}; x::y(z)"), ["pub", "a::self", "x::y", "z"]);
    }

    #[test]
    fn a_banned_path_is_found_wherever_it_stands_in_a_path() {
        let path = CodePath { token: 0, segments: ["std", "time", "Instant"].map(str::to_owned).to_vec() };
        assert!(path.contains("std::time") && path.contains("Instant") && path.contains("time"));
        assert!(!path.contains("std::Instant") && !path.contains("stdtime"));
    }

    #[test]
    fn test_only_items_are_found_whatever_they_are() {
        assert_eq!(hidden("fn a() {} #[cfg(test)] mod tests { fn b() {} } fn c() {}"), "fna(){}fnc(){}");
        assert_eq!(hidden("#[cfg(test)] #[derive(X)] pub struct A; fn b() {}"), "fnb(){}");
        assert_eq!(hidden("#[cfg(all(test, loom))] fn f<A, B>(a: [u8; 2]) {} x"), "x");
        assert_eq!(hidden("struct S { #[cfg(test)] a: A, b: B }"), "structS{b:B}");
        assert_eq!(hidden("#![cfg(test)] fn a() {}"), "");
    }

    #[test]
    fn code_that_also_ships_is_not_test_code() {
        for text in ["#[cfg(not(test))] fn a() {}", "#[cfg(any(test, unix))] fn a() {}", "#[test] fn a() {}"]
        {
            assert!(hidden(text).contains("fna(){}"), "{text}");
        }
    }

    #[test]
    fn test_modules_in_files_of_their_own_are_found() {
        let tree = Tree::of(&[
            ("crates/x/src/lib.rs", "#[cfg(test)] mod oracle; mod real;"),
            ("crates/x/src/real.rs", "#[cfg(test)]\npub mod cases;"),
        ]);
        let modules = test_modules(&tree);
        assert_eq!(modules[0], "crates/x/src/oracle.rs");
        assert_eq!(modules[2], "crates/x/src/real/cases.rs");
        assert_eq!(modules.len(), 4);
    }

    #[test]
    fn functions_are_counted_from_fn_to_brace() {
        let tree = with("fn a(x: fn(u8) -> u8, y: [u8; 2])\n{\n  if x { }\n}\ntrait T { fn b(); }\n");
        let found = functions(tree.files().next().unwrap());
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].name.as_str(), found[0].line, found[0].lines), ("a", 1, 4));
    }
}
