//! `cargo xtask test`: everything that has to hold, in stages, with the minutes that each took.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::process::{cargo, run as run_command};
use crate::workspace::{Workspace, in_ci};
use crate::{bindgen, features, fetch, jetson, lint, ptx, table};

/// Above this the tests are too slow to be run before every change.
const CI_LIMIT: Duration = Duration::from_secs(60 * 60);

/// The most that the board's tests may take: an emulator is slow, and the rest matters more.
const BOARD_LIMIT: Duration = Duration::from_secs(10 * 60);

/// Simulated task sets of the release-profile stage.
const SIMULATED_SETS: &str = "10000";

/// One stage: either a step of this program or a command of cargo.
enum Work {
    Fetch,
    Lint,
    Ptx,
    Bindgen,
    Features,
    Board(Workspace),
    Command(Command),
}

/// What came of one stage.
struct Outcome {
    stage: &'static str,
    took: Duration,
    result: Result<Ending, Error>,
}

/// How a stage that did not fail ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Passed,
    /// Its time was up before its end: slowness is no fault of what is tested, and what did run passed.
    Cut,
    /// This machine lacks what it needs.
    NotHere,
}

/// Runs all stages, prints their times and fails with the first failure.
///
/// # Errors
/// [`Error::Usage`] where arguments are given, the first stage's failure, and under continuous
/// integration [`Error::TooSlow`] or [`Error::TimedOut`] where the stages need more than an hour.
pub fn run(arguments: &[String]) -> Result<(), Error> {
    if let Some(first) = arguments.first() {
        return Err(Error::Usage(format!("`cargo xtask test` takes no arguments, got `{first}`")));
    }
    let workspace = Workspace::current();
    let limit = in_ci().then_some(CI_LIMIT);
    let outcomes = run_stages(stages(&workspace), limit);
    print!("\n{}", closing_table(&outcomes));
    verdict(outcomes, limit)
}

fn stages(workspace: &Workspace) -> Vec<(&'static str, Work)> {
    let cache = workspace.cache();
    let root = workspace.root();
    let tests = test_command(root, &cache, &["--workspace", "--lib", "--bins", "--tests", "--examples"]);
    let documentation = test_command(root, &cache, &["--workspace", "--doc"]);
    let mut simulation = test_command(root, &cache, &["--release", "-p", "aegisrt", "--test", "simulation"]);
    simulation.env("AEGIS_SIM_SETS", SIMULATED_SETS);
    // The model checker replaces the atomics of the ring, so it has a build of its own.
    let mut loom = test_command(root, &cache, &["--release", "-p", "aegis-trace", "--test", "loom"]);
    loom.arg("--target-dir").arg(root.join("target").join("loom")).env("RUSTFLAGS", "--cfg loom");
    vec![
        ("fetch", Work::Fetch),
        ("lint", Work::Lint),
        ("ptx", Work::Ptx),
        ("bindings", Work::Bindgen),
        ("tests", Work::Command(tests)),
        ("doc tests", Work::Command(documentation)),
        ("loom", Work::Command(loom)),
        ("simulation", Work::Command(simulation)),
        // Before the combinations of features, which are checked for the board, too, once its compiler is there.
        ("board", Work::Board(workspace.clone())),
        ("features", Work::Features),
    ]
}

fn test_command(root: &Path, cache: &Path, selection: &[&str]) -> Command {
    let mut command = cargo(root);
    command.arg("test").args(selection).env("AEGIS_CACHE", cache);
    command
}

/// A later stage runs even when an earlier one failed, so that one run shows every failure; only
/// without the downloads the rest would fail for no reason of its own.
fn run_stages(stages: Vec<(&'static str, Work)>, limit: Option<Duration>) -> Vec<Outcome> {
    let start = Instant::now();
    let mut outcomes = Vec::new();
    for (stage, work) in stages {
        println!("\n== {stage}");
        let needed_by_the_rest = matches!(work, Work::Fetch);
        let begun = Instant::now();
        let left = limit.map(|limit| limit.saturating_sub(start.elapsed()));
        let result = perform(work, left);
        if let Err(error) = &result {
            eprintln!("{stage}: {error}");
        }
        let took = begun.elapsed();
        println!("== {stage}: {}", table::spelled(took));
        let stop = needed_by_the_rest && result.is_err();
        outcomes.push(Outcome { stage, took, result });
        if stop {
            break;
        }
    }
    outcomes
}

fn perform(work: Work, left: Option<Duration>) -> Result<Ending, Error> {
    match work {
        Work::Fetch => fetch::run(&[]),
        Work::Lint => lint::run(&[]),
        Work::Ptx => ptx::run(&["--check".to_owned()]),
        Work::Bindgen => bindgen::run(&["--check".to_owned()]),
        Work::Features => features::within(left),
        Work::Board(workspace) => return board(&workspace, left),
        Work::Command(mut command) => run_command(&mut command, left),
    }
    .map(|()| Ending::Passed)
}

/// The tests for the board under emulation, where this machine can run them; elsewhere what is missing, in words.
///
/// They are a program of their own, because only so can all of it be ended at the limit.
fn board(workspace: &Workspace, left: Option<Duration>) -> Result<Ending, Error> {
    match jetson::readiness(workspace) {
        jetson::Readiness::Ready => {
            let mut command = cargo(workspace.root());
            command.args(["xtask", "jetson", "--test"]);
            capped(&mut command, BOARD_LIMIT, left)
        }
        jetson::Readiness::Missing(missing) => {
            println!("not run here; missing: {}", missing.join("; "));
            println!("`cargo xtask jetson --test` runs it, and installs what it can");
            Ok(Ending::NotHere)
        }
    }
}

/// Runs a command that may be cut at `cap`, or fails at what is left of the time for everything if that is sooner.
fn capped(command: &mut Command, cap: Duration, left: Option<Duration>) -> Result<Ending, Error> {
    let allowed = left.map_or(cap, |left| left.min(cap));
    match run_command(command, Some(allowed)) {
        Err(Error::TimedOut { .. }) if allowed == cap => {
            println!("cut after {}; what ran until then passed", table::spelled(cap));
            Ok(Ending::Cut)
        }
        result => result.map(|()| Ending::Passed),
    }
}

fn closing_table(outcomes: &[Outcome]) -> String {
    let total = outcomes.iter().map(|outcome| outcome.took).sum();
    let mut rows: Vec<[String; 3]> = outcomes
        .iter()
        .map(|outcome| {
            let result = match outcome.result {
                Ok(Ending::Passed) => "ok",
                Ok(Ending::Cut) => "cut at its limit",
                Ok(Ending::NotHere) => "not run here",
                Err(_) => "FAILED",
            };
            [outcome.stage.to_owned(), table::spelled(outcome.took), result.to_owned()]
        })
        .collect();
    rows.push(["total".to_owned(), table::spelled(total), String::new()]);
    table::aligned(["stage", "time", "result"], &rows)
}

fn verdict(outcomes: Vec<Outcome>, limit: Option<Duration>) -> Result<(), Error> {
    let took: Duration = outcomes.iter().map(|outcome| outcome.took).sum();
    if let Some(error) = outcomes.into_iter().find_map(|outcome| outcome.result.err()) {
        return Err(error);
    }
    match limit {
        Some(limit) if took > limit => Err(Error::TooSlow { took, limit }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Work {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Work::Command(command)
    }

    fn done(took: Duration) -> Vec<Outcome> {
        vec![Outcome { stage: "tests", took, result: Ok(Ending::Passed) }]
    }

    #[test]
    fn every_stage_runs_and_the_first_failure_is_the_verdict() {
        let stages = vec![("one", shell("exit 4")), ("two", shell("exit 5")), ("three", shell("true"))];
        let outcomes = run_stages(stages, None);
        let table = closing_table(&outcomes);
        assert_eq!(table.matches("FAILED").count(), 2, "{table}");
        assert!(table.lines().any(|line| line.starts_with("three") && line.ends_with("ok")), "{table}");
        assert_eq!(verdict(outcomes, None).unwrap_err().exit_code(), 4);
    }

    #[test]
    fn under_a_limit_slow_stages_fail_and_without_one_they_do_not() {
        let hour = Duration::from_secs(3600);
        assert!(verdict(done(hour), Some(hour)).is_ok());
        assert!(verdict(done(hour + Duration::from_secs(1)), None).is_ok());
        let error = verdict(done(hour + Duration::from_secs(1)), Some(hour)).unwrap_err();
        assert!(matches!(error, Error::TooSlow { .. }), "{error}");
    }

    #[test]
    fn a_stage_that_hangs_is_ended_when_the_limit_is_reached() {
        let outcomes = run_stages(vec![("hangs", shell("sleep 60"))], Some(Duration::from_millis(50)));
        assert!(matches!(outcomes[0].result, Err(Error::TimedOut { .. })));
    }

    #[test]
    fn a_capped_command_is_cut_at_its_cap_and_fails_at_the_limit_of_all() {
        let run = |script: &str, cap, left| {
            let mut command = Command::new("sh");
            capped(command.args(["-c", script]), cap, left)
        };
        let (short, long) = (Duration::from_millis(50), Duration::from_secs(60));
        assert!(matches!(run("sleep 60", short, None), Ok(Ending::Cut)));
        assert!(matches!(run("sleep 60", short, Some(long)), Ok(Ending::Cut)));
        assert!(matches!(run("sleep 60", long, Some(short)), Err(Error::TimedOut { .. })));
        assert!(matches!(run("true", long, None), Ok(Ending::Passed)));
        assert!(run("exit 3", long, None).is_err());
    }

    #[test]
    fn tests_are_told_where_the_downloads_are() {
        let workspace = Workspace::current();
        let commands: Vec<String> = stages(&workspace)
            .into_iter()
            .filter_map(|(_, work)| match work {
                Work::Command(command) => Some(crate::process::line(&command)),
                Work::Fetch | Work::Lint | Work::Ptx | Work::Bindgen | Work::Features | Work::Board(_) => {
                    None
                }
            })
            .collect();
        assert_eq!(commands.len(), 4);
        assert!(commands.iter().all(|line| line.contains("AEGIS_CACHE=")), "{commands:?}");
        assert!(commands[3].contains("AEGIS_SIM_SETS=10000") && commands[3].contains("--release"));
    }
}
