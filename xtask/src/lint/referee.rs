//! How much code has to be trusted: the referee stays small enough to be read in one sitting.

use super::syntax::test_regions;
use super::tree::{SourceFile, Tree};
use super::{Finding, Report};

/// What checks claims and makes certificates.
const FOLDER: &str = "crates/aegis-sched/src/referee/";

/// Lines of code of one of its files.
const FILE_LINES: usize = 200;

/// Lines of code of all of them together.
const ALL_LINES: usize = 999;

/// Solvers are not trusted because the referee is, and that is worth as much as it is easy to read. Counted are lines
/// with code on them: no comments, no blank lines, no tests.
pub fn check(tree: &Tree) -> Report {
    let mut findings = Vec::new();
    let (mut examined, mut all) = (0, 0);
    for file in tree.rust().filter(|file| file.path().starts_with(FOLDER)) {
        examined += 1;
        let lines = code_lines(file);
        all += lines;
        if lines > FILE_LINES {
            let message = format!("{lines} lines of code, at most {FILE_LINES}");
            findings.push(Finding::about(file.path(), message));
        }
    }
    if all > ALL_LINES {
        findings.push(Finding::about(FOLDER, format!("{all} lines of code, at most {ALL_LINES}")));
    }
    Report { examined, unit: "files", findings }
}

/// Lines on which a token outside of tests stands, or a string goes on.
fn code_lines(file: &SourceFile) -> usize {
    let tests = test_regions(file);
    let code = (0..file.tokens().len()).filter(|index| !tests.iter().any(|region| region.contains(index)));
    let mut lines: Vec<usize> = code.map(|index| file.line(index)).collect();
    lines.dedup();
    lines.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(files: &[(&str, &str)]) -> Vec<String> {
        check(&Tree::of(files)).findings.into_iter().map(|finding| finding.message).collect()
    }

    fn code(lines: usize) -> String {
        "const A: u8 = 1;\n".repeat(lines)
    }

    #[test]
    fn it_fires_one_line_above_the_limit_of_a_file_and_not_at_it() {
        let path = "crates/aegis-sched/src/referee/fifo.rs";
        assert!(messages(&[(path, &code(200))]).is_empty());
        assert_eq!(messages(&[(path, &code(201))]), ["201 lines of code, at most 200"]);
        assert!(messages(&[("crates/aegis-sched/src/analysis/fifo.rs", &code(500))]).is_empty());
    }

    #[test]
    fn it_fires_where_all_files_together_are_too_long() {
        let paths: Vec<String> = (0..6).map(|index| format!("{FOLDER}{index}.rs")).collect();
        let (full, short) = (code(199), code(4));
        let mut files: Vec<(&str, &str)> =
            paths[..5].iter().map(|path| (path.as_str(), full.as_str())).collect();
        files.push((&paths[5], &short));
        assert!(messages(&files).is_empty());
        let longer = code(5);
        files[5].1 = &longer;
        assert_eq!(messages(&files), ["1000 lines of code, at most 999"]);
    }

    #[test]
    fn comments_blank_lines_and_tests_do_not_count() {
        let rest = "\n// why\n/* why\n   not */\n".repeat(100);
        let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", code(300));
        let text = format!("{}{rest}{tests}", code(199));
        assert!(messages(&[("crates/aegis-sched/src/referee/mod.rs", &text)]).is_empty());
    }
}
