//! Whether the inventory of unsafe code is the one that the code has.
//!
//! A reader who audits goes by `docs/unsafe.md`. A list that is kept by hand is true on the day on which it is written, so
//! every row is counted again.

use std::collections::BTreeMap;

use super::tree::{SourceFile, Tree};
use super::{Finding, Report};

/// Where the inventory stands.
const PAGE: &str = "docs/unsafe.md";

/// Blocks, implementations, and functions that are declared unsafe.
type Counts = [usize; 3];

/// Compares the page's rows with what the files hold.
pub fn check(tree: &Tree) -> Report {
    let held: BTreeMap<&str, Counts> = tree.rust().map(|file| (file.path(), counts(file))).collect();
    let mut held: BTreeMap<&str, Counts> =
        held.into_iter().filter(|(_, counts)| counts.iter().sum::<usize>() > 0).collect();
    let (examined, mut findings) = (held.len(), Vec::new());
    let mut sum = [0; 3];
    held.values().for_each(|counts| (0..3).for_each(|at| sum[at] += counts[at]));
    if let Some(page) = tree.find(PAGE) {
        for (number, (name, told)) in rows(page.text()) {
            let found = if name == "sum" { Some(sum) } else { held.remove(name) };
            let message = match found {
                Some(found) if found == told => continue,
                Some([blocks, impls, fns]) => format!("{name} holds {blocks}, {impls} and {fns} by now"),
                None => format!("{name} holds no unsafe code"),
            };
            findings.push(Finding::at(page, number, message));
        }
    }
    let missing = held.into_iter().map(|(path, [blocks, impls, fns])| {
        Finding::about(path, format!("{PAGE} does not list its {blocks} blocks, {impls} impls, {fns} fns"))
    });
    findings.extend(missing);
    Report { examined, unit: "files", findings }
}

/// Rows with their line, counted from 1: what is in the first column, and the numbers behind it.
fn rows(page: &str) -> impl Iterator<Item = (usize, (&str, Counts))> {
    (1..).zip(page.lines()).filter_map(|(number, line)| {
        let mut cells = line.strip_prefix('|')?.split('|').map(|cell| cell.trim().trim_matches('`'));
        let name = cells.next()?;
        let mut next = || cells.next()?.parse().ok();
        Some((number, (name, [next()?, next()?, next()?])))
    })
}

fn counts(file: &SourceFile) -> Counts {
    let mut counts = [0; 3];
    for token in (0..file.tokens().len()).filter(|&token| file.token(token) == "unsafe") {
        match file.token(token + 1) {
            "{" => counts[0] += 1,
            "impl" => counts[1] += 1,
            _ if declares(file, token + 1) => counts[2] += 1,
            _ => {}
        }
    }
    counts
}

/// Whether a function with a name follows, not a type of functions.
fn declares(file: &SourceFile, start: usize) -> bool {
    // `extern` and its text come before `fn`, and only they.
    let keyword = (start..start + 3).find(|&index| file.token(index) == "fn");
    keyword.is_some_and(|index| file.token(index + 1) != "(")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lint::places;

    const CODE: &str = "fn f() { unsafe { g() } }\nunsafe impl Send for A {}\nunsafe fn h() {}\n\
        unsafe extern \"C\" fn i() {}\ntype T = unsafe extern \"C\" fn(u8);\n// unsafe {\n";

    fn found(page: &str) -> Vec<String> {
        let tree = Tree::of(&[("crates/a/src/b.rs", CODE), (PAGE, page)]);
        places(&check(&tree)).into_iter().map(str::to_owned).collect()
    }

    #[test]
    fn it_stays_quiet_where_page_and_code_agree() {
        let page = "| file | blocks | impls | fns | why |\n|---|--:|--:|--:|---|\n\
            | `crates/a/src/b.rs` | 1 | 1 | 2 | g |\n| sum | 1 | 1 | 2 | |\n";
        assert_eq!(found(page), Vec::<String>::new());
    }

    #[test]
    fn it_fires_on_wrong_missing_and_superfluous_rows() {
        assert_eq!(found("| `crates/a/src/b.rs` | 2 | 1 | 2 | g |\n"), [format!("{PAGE}:1")]);
        assert_eq!(found("| sum | 1 | 1 | 1 | |\n"), [format!("{PAGE}:1"), "crates/a/src/b.rs".to_owned()]);
        let gone = "| `crates/a/src/b.rs` | 1 | 1 | 2 | g |\n| `crates/a/src/c.rs` | 1 | 0 | 0 | g |\n";
        assert_eq!(found(gone), [format!("{PAGE}:2")]);
    }
}
