//! How long a file and a function may be.

use super::syntax::functions;
use super::tree::{SourceFile, Tree};
use super::{Finding, Report};

/// Lines of a Rust file.
const FILE_LINES: usize = 600;

/// Lines of a function, from `fn` to its closing brace.
const FUNCTION_LINES: usize = 70;

/// The map of the project, which is read from start to end.
const MAP: (&str, usize) = ("docs/ARCHITECTURE.md", 400);

/// A senior engineer has to hold the whole in two hours: what does not fit on a few screens is two
/// ideas in one place.
pub fn check(tree: &Tree) -> Report {
    let mut findings = Vec::new();
    let mut examined = 0;
    for file in tree.rust() {
        examined += 1;
        findings.extend(too_long(file, FILE_LINES));
        for function in functions(file).iter().filter(|function| function.lines > FUNCTION_LINES) {
            let message =
                format!("fn {} has {} lines, at most {FUNCTION_LINES}", function.name, function.lines);
            findings.push(Finding::at(file, function.line, message));
        }
    }
    findings.extend(tree.find(MAP.0).and_then(|file| too_long(file, MAP.1)));
    Report { examined, unit: "files", findings }
}

fn too_long(file: &SourceFile, limit: usize) -> Option<Finding> {
    let lines = file.text().lines().count();
    (lines > limit).then(|| Finding::about(file.path(), format!("{lines} lines, at most {limit}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(path: &str, text: &str) -> Vec<String> {
        check(&Tree::of(&[(path, text)])).findings.into_iter().map(|finding| finding.message).collect()
    }

    fn function(lines: usize) -> String {
        format!("fn long() {{\n{}}}\n", "    x();\n".repeat(lines - 2))
    }

    #[test]
    fn it_fires_one_line_above_the_limit_of_a_file_and_not_at_it() {
        assert!(messages("a.rs", &"// x\n".repeat(600)).is_empty());
        assert_eq!(messages("a.rs", &"// x\n".repeat(601)), ["601 lines, at most 600"]);
        assert_eq!(messages(MAP.0, &"x\n".repeat(401)).len(), 1);
        assert!(messages("docs/long.md", &"x\n".repeat(2000)).is_empty());
    }

    #[test]
    fn it_fires_one_line_above_the_limit_of_a_function_and_not_at_it() {
        assert!(messages("a.rs", &function(70)).is_empty());
        assert_eq!(messages("a.rs", &function(71)), ["fn long has 71 lines, at most 70"]);
        let method = format!("impl A {{\n    pub {}}}\n", function(71).replace('\n', "\n    "));
        assert_eq!(messages("a.rs", &method).len(), 1);
    }

    #[test]
    fn braces_in_strings_and_comments_do_not_stretch_a_function() {
        let text = format!("fn a() {{ let x = \"{{\"; // {{\n}}\n{}", "// y\n".repeat(100));
        assert!(messages("a.rs", &text).is_empty());
    }
}
