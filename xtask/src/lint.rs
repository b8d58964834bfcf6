//! `cargo xtask lint`: formatting, clippy, and what the architecture promises, checked by rules.
//!
//! A rule is a function from the files to findings, with its reason in its doc comment and a test
//! that it fires. Every rule prints one line with what it looked at and how long that took.

mod borders;
mod deny;
mod inventory;
mod layers;
mod lexer;
mod manifests;
mod purity;
mod referee;
mod sizes;
mod syntax;
mod top_level;
mod tree;
mod unsafety;
mod words;

use std::time::Instant;

use crate::error::Error;
use crate::process;
use crate::workspace::Workspace;
use tree::{SourceFile, Tree};

/// One place that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    place: String,
    message: String,
}

impl Finding {
    /// A finding in a line of a file, counted from 1.
    fn at(file: &SourceFile, line: usize, message: impl Into<String>) -> Self {
        Self { place: format!("{}:{line}", file.path()), message: message.into() }
    }

    /// A finding about something that has no line.
    fn about(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self { place: place.into(), message: message.into() }
    }
}

/// What a rule looked at and found.
pub struct Report {
    /// How many things were looked at: a rule that looks at nothing says so.
    examined: usize,
    /// What these things are, in the plural.
    unit: &'static str,
    /// Every place that breaks the rule.
    findings: Vec<Finding>,
}

/// How one check is carried out.
enum Check {
    /// A command of cargo, whose own output holds the findings.
    Cargo(&'static [&'static str]),
    /// A look at the files.
    Files(fn(&Tree) -> Report),
    /// A look at the workspace as cargo sees it.
    Workspace(fn(&Workspace) -> Result<Report, Error>),
}

/// Every check by name, the quick ones first.
const CHECKS: [(&str, Check); 18] = [
    ("layers", Check::Workspace(layers::check)),
    ("manifests", Check::Files(manifests::check)),
    ("purity", Check::Files(purity::check)),
    ("pure-clippy", Check::Files(purity::check_configuration)),
    ("unsafe", Check::Files(unsafety::check)),
    ("inventory", Check::Files(inventory::check)),
    ("interop", Check::Files(borders::check_interop)),
    ("frameworks", Check::Files(borders::check_frameworks)),
    ("sizes", Check::Files(sizes::check)),
    ("referee", Check::Files(referee::check)),
    ("paths", Check::Files(words::check_paths)),
    ("hosts", Check::Files(words::check_hosts)),
    ("names", Check::Files(words::check_names)),
    ("markers", Check::Files(words::check_markers)),
    ("top-level", Check::Files(top_level::check)),
    ("fmt", Check::Cargo(&["fmt", "--all", "--check"])),
    ("clippy", Check::Cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])),
    // Links that lead nowhere are found by nobody else.
    ("rustdoc", Check::Cargo(&["doc", "--workspace", "--no-deps", "--quiet", "--config", DOCUMENTATION])),
];

/// Warnings of the documentation's generator count as errors.
const DOCUMENTATION: &str = "build.rustdocflags=[\"-Dwarnings\"]";

/// The name of the check that needs a program from outside.
const DENY: &str = "deny";

/// Runs every check, or those named in `arguments`.
///
/// # Errors
/// [`Error::Usage`] for an unknown name, [`Error::Lint`] where a check found something, and errors
/// of the programs that the checks need.
pub fn run(arguments: &[String]) -> Result<(), Error> {
    let names: Vec<&str> = CHECKS.iter().map(|(name, _)| *name).chain([DENY]).collect();
    if let Some(unknown) = arguments.iter().find(|argument| !names.contains(&argument.as_str())) {
        let legal = names.join(" ");
        return Err(Error::Usage(format!("there is no rule `{unknown}`; legal are: {legal}")));
    }
    let chosen = |name: &str| arguments.is_empty() || arguments.iter().any(|argument| argument == name);
    let workspace = Workspace::current();
    let tree = Tree::read(workspace.root())?;
    let mut counts = Vec::new();
    for (name, check) in CHECKS.iter().filter(|(name, _)| chosen(name)) {
        counts.push(perform(name, check, &workspace, &tree)?);
    }
    if chosen(DENY) {
        counts.push(timed(DENY, || deny::check(&workspace))?);
    }
    match counts.iter().sum() {
        0 => Ok(()),
        findings => Err(Error::Lint { findings, rules: counts.iter().filter(|&&count| count > 0).count() }),
    }
}

fn perform(name: &str, check: &Check, workspace: &Workspace, tree: &Tree) -> Result<usize, Error> {
    timed(name, || match check {
        Check::Files(rule) => Ok(rule(tree)),
        Check::Workspace(rule) => rule(workspace),
        Check::Cargo(arguments) => cargo(workspace, arguments),
    })
}

/// Prints what `check` found and its line; returns the number of findings.
fn timed(name: &str, check: impl FnOnce() -> Result<Report, Error>) -> Result<usize, Error> {
    let start = Instant::now();
    let Report { examined, unit, findings } = check()?;
    for Finding { place, message } in &findings {
        println!("{place}: [{name}] {message}");
    }
    let count = findings.len();
    let took = start.elapsed().as_millis();
    println!("lint {name:<12} {examined:>5} {unit:<12} {count:>4} findings {took:>7} ms");
    Ok(count)
}

fn cargo(workspace: &Workspace, arguments: &[&str]) -> Result<Report, Error> {
    let mut command = process::cargo(workspace.root());
    command.args(arguments);
    let code = process::exit_code(&mut command, None)?;
    let findings = match code {
        0 => Vec::new(),
        code => vec![Finding::about(process::line(&command), format!("ended with exit code {code}"))],
    };
    Ok(Report { examined: 1, unit: "command", findings })
}

/// What the tests of the rules share: a finding is told by its place and a word of its message.
#[cfg(test)]
fn places(report: &Report) -> Vec<&str> {
    report.findings.iter().map(|finding| finding.place.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_rule_is_answered_with_the_legal_ones() {
        let error = run(&["layer".to_owned()]).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("layers"), "{error}");
    }

    #[test]
    fn findings_are_counted_and_errors_handed_on() {
        let report = || Report { examined: 1, unit: "x", findings: vec![Finding::about("here", "why")] };
        assert_eq!(timed("one", || Ok(report())).unwrap(), 1);
        assert!(timed("two", || Err(Error::Workspace("gone".to_owned()))).is_err());
    }
}
