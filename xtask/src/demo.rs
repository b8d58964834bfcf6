//! `cargo xtask demo`: sets up what the main job needs and runs it, step by step.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::process::{self, cargo};
use crate::workspace::Workspace;
use crate::{fetch, fleet, table};

mod offline;

/// Exit code of `aegis admit` for a fleet that does not fit.
const REFUSED: i32 = 3;

/// Exit code of `aegis run` where every miss is explained by a broken assumption.
const EXPLAINED: i32 = 4;

/// One command of the demo.
pub struct Step {
    /// What it shows.
    heading: &'static str,
    /// The program and its arguments.
    command: Command,
    /// Exit codes that are a success of this step.
    success: &'static [i32],
}

/// What came of one step.
struct Outcome {
    heading: &'static str,
    took: Duration,
    code: i32,
    succeeded: bool,
}

/// Builds `aegis`, fetches runtime and models, then runs the steps; with `--offline` nothing is fetched.
///
/// # Errors
/// [`Error::Usage`] where other arguments are given, failures of build and downloads, and the first step
/// that ended with a code that is no success for it.
pub fn run(arguments: &[String]) -> Result<(), Error> {
    match arguments {
        [] => with_trained_models(),
        [only] if only == "--offline" => offline::run(),
        [first, ..] => Err(Error::Usage(format!(
            "`cargo xtask demo` takes no arguments or `--offline` alone, got `{first}`"
        ))),
    }
}

fn with_trained_models() -> Result<(), Error> {
    let workspace = Workspace::current();
    let mut build = cargo(workspace.root());
    process::run(build.args(["build", "--release", "-p", "aegisrt", "--bin", "aegis"]), None)?;
    fetch::into(&workspace.cache())?;
    let folder = workspace.demo();
    std::fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
    let cache = workspace.cache();
    write(&folder.join("natural.toml"), &fleet::natural(&cache, fleet::two_cores()))?;
    write(&folder.join("one_more.toml"), &fleet::one_more(&cache))?;
    perform(steps(&workspace, &workspace.cache()))
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    std::fs::write(path, text).map_err(Error::io("write", path))
}

/// The main job: what is here, what it costs, whether it fits, the run, and why it went as it did.
pub fn steps(workspace: &Workspace, cache: &Path) -> Vec<Step> {
    let aegis = Aegis { program: workspace.aegis(), folder: workspace.demo(), cache: Some(cache.to_owned()) };
    let fleet = "fleet.toml";
    let real = "--realtime";
    vec![
        aegis.step("what this machine offers", &["devices"]),
        aegis.step(
            "what the runtime itself costs here, every lane busy",
            &["calibrate", "natural.toml", real],
        ),
        aegis.step(
            "what each model costs here, alone and beside the others",
            &["profile", "natural.toml", "--seconds", "3s", "--margin", "30%", real],
        ),
        aegis.step(
            "does the fleet fit, and at which periods?",
            &["admit", "natural.toml", "--fit", "1ms", "--slack", "10%", "--write", fleet],
        ),
        aegis
            .step(
                "what if one more classifier came, 50 times a second?",
                &["admit", fleet, "--what-if", "one_more.toml"],
            )
            .ending_with(&[REFUSED]),
        aegis.step("one memory plan for all models", &["plan", fleet]),
        aegis
            .step(
                "ten seconds of the real thing, outputs compared with plain runs",
                &["run", fleet, "--duration", "10s", "--trace", "run.aegis", "--check-outputs", real],
            )
            .ending_with(&[0, EXPLAINED]),
        aegis.step(
            "where the time of the detector's worst job went",
            &["explain", "run.aegis", "--task", "ocr_det"],
        ),
        aegis.step("the same decisions again", &["replay", "run.aegis"]),
    ]
}

/// The command line under demonstration and where it works.
struct Aegis {
    program: PathBuf,
    folder: PathBuf,
    /// Where vendor libraries lie; `None` where none is needed.
    cache: Option<PathBuf>,
}

impl Aegis {
    fn step(&self, heading: &'static str, arguments: &[&str]) -> Step {
        let mut command = Command::new(&self.program);
        command.args(arguments).current_dir(&self.folder);
        if let Some(cache) = &self.cache {
            command.env("AEGIS_CACHE", cache);
        }
        Step { heading, command, success: &[0] }
    }
}

impl Step {
    fn ending_with(self, success: &'static [i32]) -> Self {
        Self { success, ..self }
    }
}

/// Runs the steps in order and stops at the first that fails: each builds on what the one before left.
fn perform(steps: Vec<Step>) -> Result<(), Error> {
    let mut outcomes = Vec::new();
    let mut verdict = Ok(());
    let count = steps.len();
    for (index, mut step) in steps.into_iter().enumerate() {
        println!("\n== step {} of {count}: {}", index + 1, step.heading);
        let start = Instant::now();
        let code = process::exit_code(&mut step.command, None)?;
        let succeeded = step.success.contains(&code);
        outcomes.push(Outcome { heading: step.heading, took: start.elapsed(), code, succeeded });
        if !succeeded {
            verdict = Err(Error::Failed { command: process::line(&step.command), code });
            break;
        }
    }
    print!("\n{}", closing_table(&outcomes));
    verdict
}

fn closing_table(outcomes: &[Outcome]) -> String {
    let rows: Vec<[String; 4]> = outcomes
        .iter()
        .map(|outcome| {
            let result = match (outcome.succeeded, outcome.code) {
                (true, REFUSED) => "ok, refused as it should be",
                (true, EXPLAINED) => "ok, with misses explained by broken assumptions",
                (true, _) => "ok",
                (false, _) => "FAILED",
            };
            let took = table::spelled(outcome.took);
            [outcome.heading.to_owned(), took, outcome.code.to_string(), result.to_owned()]
        })
        .collect();
    table::aligned(["step", "time", "exit", "result"], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(script: &str, success: &'static [i32]) -> Step {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Step { heading: "a step", command, success }
    }

    #[test]
    fn a_step_succeeds_on_its_own_codes_only() {
        assert!(perform(vec![step("exit 3", &[REFUSED]), step("exit 4", &[0, EXPLAINED])]).is_ok());
        assert_eq!(perform(vec![step("exit 0", &[REFUSED])]).unwrap_err().exit_code(), 1);
        assert_eq!(perform(vec![step("exit 70", &[0, EXPLAINED])]).unwrap_err().exit_code(), 70);
    }

    #[test]
    fn nothing_runs_after_a_step_that_failed() {
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().join("ran");
        let touch = format!("touch '{}'", mark.display());
        assert!(perform(vec![step("exit 1", &[0]), step(&touch, &[0])]).is_err());
        assert!(!mark.exists());
        assert!(perform(vec![step("exit 0", &[0]), step(&touch, &[0])]).is_ok());
        assert!(mark.exists());
    }

    #[test]
    fn the_table_says_what_an_unusual_success_means() {
        let outcome = |code| Outcome { heading: "run", took: Duration::ZERO, code, succeeded: true };
        assert!(closing_table(&[outcome(EXPLAINED)]).contains("broken assumptions"));
        assert!(closing_table(&[outcome(REFUSED)]).contains("refused"));
    }
}
