//! A fleet in virtual time: the engine and the driver of production on simulated lanes, with the budgets and overheads
//! of its files; of a fleet that is refused, the schedule that misses.

use std::path::PathBuf;

use aegis_sched::analysis::LaneProblem;
use aegis_sched::enact::enact;
use aegis_sched::policy::{INSERTING, legal_names};
use aegis_sched::witness::{Witness, replay};
use aegis_sched::{AdmissionReport, Certificate, POLICIES, Task};
use aegis_types::Nanos;
use clap::Args;
use serde_json::{Value, json};

use super::super::admit::miss;
use super::super::answer::{Answer, CliError, Exit};
use super::super::figures::{self, span};
use super::super::groups::{self, JudgedGroups};
use super::super::overload::{self, Overload};
use super::super::setup::{FleetArgs, Setup};
use super::super::table::Grid;
use super::super::{Environment, summary, verdict};
use super::changes::{self, Asked};
use crate::config::{Facts, Fleet, prepare_apart};
use crate::groups::observed::served;
use crate::simulate::SimulateError;
use crate::simulate::episode::{Episode, Outcome};
use crate::simulate::faults::FaultPlan;
use crate::simulate::generate::{self, Latency, Scenario};
use crate::simulate::policy::PolicyChoice;
use crate::tally::Tally;

/// Shares of the simulated device, one for each partition.
const PARTITIONS_MAX: usize = 8;
/// Violations that people are shown.
pub(super) const SHOWN: usize = 10;
/// Task sets, or runs of a fleet, where nobody says how many.
const SETS: u64 = 200;
/// Virtual time of a run that is not told how long.
pub(super) const HORIZON: Nanos = Nanos::from_millis(200);

/// A fleet to simulate, where it is not random sets.
#[derive(Clone, Debug, Args)]
pub(super) struct FleetRuns {
    /// Run this fleet instead of random sets; what is refused has the schedule shown that misses.
    fleet: Option<PathBuf>,
    /// What `aegis profile` measured [default: profile.json beside the fleet, where it exists].
    #[arg(long, value_name = "FILE", requires = "fleet")]
    profile: Option<PathBuf>,
    /// What `aegis calibrate` measured, here or elsewhere [default: platform.json beside the fleet].
    #[arg(long, value_name = "FILE", requires = "fleet")]
    platform: Option<PathBuf>,
    /// Serve the fleet once, and ask for the changes of FILE at their times: tables [[change]] with `at`, and `remove` or
    /// `restore` (names of tasks) or `add` (a file of [[task]] tables). Each is accepted at once, accepted for an idle
    /// instant, or refused; a refusal makes the exit code 3, a change that waits still at the end 5. Budgets are those
    /// that hold beside every task of both files; a group keeps its budget of utilisation, and memory is not planned.
    #[arg(long, value_name = "FILE", requires = "fleet")]
    changes: Option<PathBuf>,
    /// Let the clients of a group's sporadic tasks submit so many jobs in every period, of which a contract lets in one;
    /// repeatable.
    #[arg(long, value_name = "GROUP=TIMES", requires = "fleet", conflicts_with = "changes")]
    overload: Vec<Overload>,
}

/// How a fleet is run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Runs {
    /// `None` where nothing was said.
    pub(super) count: Option<u64>,
    pub(super) seed: u64,
    /// `None` where nothing was said.
    pub(super) horizon: Option<Nanos>,
}

impl Runs {
    /// How many runs.
    pub(super) fn count(self) -> u64 {
        self.count.unwrap_or(SETS)
    }

    /// Virtual time of each.
    pub(super) fn horizon(self) -> Nanos {
        self.horizon.unwrap_or(HORIZON)
    }
}

impl FleetRuns {
    /// The answer, if a fleet is named.
    pub(super) fn perform(&self, runs: Runs, environment: &Environment) -> Option<Result<Answer, CliError>> {
        let fleet = self.fleet.clone()?;
        let args = FleetArgs { fleet, profile: self.profile.clone(), platform: self.platform.clone() };
        Some(match &self.changes {
            None => self.simulated(&args, runs, environment),
            Some(_) if runs.count.is_some() => Err(CliError::Input(
                "--sets: a run with --changes is told change by change, and there is one; legal: --seed for another run"
                    .to_owned(),
            )),
            Some(changes) => {
                let asked = Asked { changes, seed: runs.seed, horizon: runs.horizon };
                changes::perform(&args, asked, environment)
            }
        })
    }

    fn simulated(&self, args: &FleetArgs, runs: Runs, environment: &Environment) -> Result<Answer, CliError> {
        let fleet = Fleet::read(&args.fleet)?;
        check_partitions(&fleet)?;
        let setup = Setup::judge(args, fleet, environment)?;
        let report = setup.analyze();
        let mut answer = match report.certificate() {
            Some(certificate) => {
                // Memory is lent by the simulated world, and the fleet's is not planned.
                JudgedGroups::of(&setup, &report)?.check_utilisation()?;
                let (fleet, set) = (setup.system.fleet(), &setup.prepared.set);
                let plan = overload::plan(&self.overload, fleet, set, runs.horizon())?;
                ran(&setup, certificate, &plan, runs)?
            }
            None => refused(&setup, &report)?,
        };
        if let Some(origin) = &setup.origin {
            answer.text = format!("judged for: {origin}\n\n{}", answer.text);
            answer.json["judged_for"] = origin.json();
        }
        Ok(answer)
    }
}

/// The simulated device has room for every partition.
pub(super) fn check_partitions(fleet: &Fleet) -> Result<(), CliError> {
    if fleet.partitions().len() <= PARTITIONS_MAX {
        return Ok(());
    }
    let problem = format!("the simulated device has {PARTITIONS_MAX} shares, one for each partition");
    let legal = format!("at most {PARTITIONS_MAX} partitions");
    Err(fleet.complain_partition(PARTITIONS_MAX, "name", problem, legal).into())
}

/// The verdict, and its witness run again.
fn refused(setup: &Setup, report: &AdmissionReport) -> Result<Answer, CliError> {
    let (set, policy) = (&setup.prepared.set, setup.system.policy().as_ref());
    let shown = miss::of(report, set, policy);
    let mut text = verdict::text(report, set)?;
    let mut json = verdict::json(report, set)?;
    json["witness"] = miss::json(shown.as_ref(), set);
    match shown.as_ref().map(|shown| (&shown.problem, &shown.found)) {
        Some((problem, Ok(found))) => {
            let same = replay(problem, &found.jobs, Some(found.miss.task)) == Some(found.miss);
            let (by_engine, how) = by_engine(problem, found);
            json["replayed"] = same.into();
            json["engine"] = by_engine.into();
            let defect = !same || by_engine == Some(false);
            let said = if defect { "NOT REPLAYED, which is a defect" } else { "replayed" };
            text.push_str(&format!("{said}: {} jobs, {how}\n{}\n", found.jobs.len(), miss::told(found, set)));
        }
        _ => text.push_str(&miss::text(
            shown.as_ref(),
            set,
            &setup.system.fleet().path().display().to_string(),
        )),
    }
    Ok(Answer { text, json, exit: Exit::Refused })
}

/// Whether the engine itself makes the miss of a witness, and that in words; `None` where it was not run.
fn by_engine(problem: &LaneProblem, found: &Witness) -> (Option<bool>, String) {
    match enact(problem, &found.jobs) {
        Err(why) => (None, format!("by the witness's simulator and not by the engine: {why}")),
        Ok(enacted) if enacted.miss(problem, Some(found.miss.task)) == Some(found.miss) => {
            (Some(true), "by the engine".to_owned())
        }
        Ok(_) => (Some(false), "and the engine makes another schedule of them".to_owned()),
    }
}

/// Runs that differ in what everything takes, each within its budget.
fn ran(setup: &Setup, certificate: &Certificate, plan: &FaultPlan, runs: Runs) -> Result<Answer, CliError> {
    let policy = known_policy(setup)?;
    let count = setup.prepared.set.tasks().len();
    let waits = waits(setup)?;
    let tally = Tally::new(&setup.prepared.set, certificate);
    let mut total = Total { longest: vec![Nanos::ZERO; count], found: Vec::new(), jobs: 0, more: 0, tally };
    for seed in (0..runs.count()).map(|index| runs.seed.wrapping_add(index)) {
        let scenario =
            Scenario { waits: waits.clone(), ..scenario(setup, PolicyChoice::Named(policy), seed) };
        let (judged, horizon) = (certificate, runs.horizon());
        let episode = Episode { scenario: &scenario, certificate, judged, plan, horizon, seed };
        let outcome = episode.run(scenario.policy.make(), &mut total.tally).map_err(failed)?;
        total.absorb(seed, &outcome);
    }
    Ok(total.answer(setup, certificate, runs))
}

/// The fleet's policy, by a name that outlives the fleet.
pub(super) fn known_policy(setup: &Setup) -> Result<&'static str, CliError> {
    let name = setup.system.fleet().policy();
    let mut names = POLICIES.iter().chain(INSERTING).copied();
    names.find(|known| *known == name).ok_or_else(|| {
        let legal = legal_names();
        CliError::Input(format!(
            "the fleet's policy `{name}` is one of its own; legal to simulate are: {legal}"
        ))
    })
}

/// By task, what of its budgets is waiting for excluded tasks.
fn waits(setup: &Setup) -> Result<Vec<Nanos>, CliError> {
    let (system, set) = (&setup.system, &setup.prepared.set);
    let lanes: Vec<_> = set.tasks().iter().map(|task| task.lane).collect();
    let facts: Vec<Facts> = system.models().iter().map(|model| Facts::from(&model.description)).collect();
    let apart = prepare_apart(system.fleet(), setup.profile.as_ref(), &setup.calibration, &lanes, &facts)?;
    Ok(generate::waits(set, &apart.set))
}

/// The worst that the theorem allows, the slowest runtime, and drawn spans, in turn.
pub(super) fn scenario(setup: &Setup, policy: PolicyChoice, seed: u64) -> Scenario {
    let set = setup.prepared.set.clone();
    let count = set.tasks().len();
    let (latency, shortest, longest) = match seed % 3 {
        0 => (Latency::Crisp, 1_000_000, 256),
        1 => (Latency::Slowest, 900_000, 200),
        _ => (Latency::Drawn, 300_000, 64),
    };
    Scenario {
        seed,
        set,
        policy,
        latency,
        slowdown: Vec::new(),
        shortest: vec![shortest; count],
        longest_share: vec![longest; count],
        waits: vec![Nanos::ZERO; count],
    }
}

pub(super) fn failed(error: SimulateError) -> CliError {
    CliError::Input(format!("the fleet cannot be simulated: {error}"))
}

/// What came of all runs.
struct Total {
    /// By task.
    longest: Vec<Nanos>,
    found: Vec<String>,
    jobs: u64,
    more: u64,
    /// Of all runs together.
    tally: Tally,
}

impl Total {
    fn absorb(&mut self, seed: u64, outcome: &Outcome) {
        for (known, seen) in self.longest.iter_mut().zip(&outcome.responses) {
            *known = (*known).max(*seen);
        }
        self.jobs = self.jobs.saturating_add(outcome.counts.covered);
        self.found.extend(outcome.violations.iter().map(|violation| format!("seed {seed}: {violation}")));
        self.more += outcome.more;
    }

    fn answer(&self, setup: &Setup, certificate: &Certificate, runs: Runs) -> Answer {
        let (set, fleet) = (&setup.prepared.set, setup.system.fleet());
        let bound = |task: &Task| certificate.task(task.id).map(|(lane, at)| lane.tasks()[at].wcrt);
        let mut grid = Grid::new(1, &["task", "longest response", "WCRT"]);
        for (task, seen) in set.tasks().iter().zip(&self.longest) {
            grid.row([task.name.clone(), span(*seen), figures::maybe(bound(task))]);
        }
        let count = self.found.len() as u64 + self.more;
        let mut text = format!(
            "{} runs of {} in virtual time, seeds {} and on: {} jobs, {count} violations\n{}",
            runs.count(),
            span(runs.horizon()),
            runs.seed,
            self.jobs,
            grid.text()
        );
        let served = served(fleet, &self.tally);
        text.push_str(&groups::served_text(&served));
        for sentence in groups::broken(&served) {
            text.push_str(&format!("{}\n", summary::folded(&sentence)));
        }
        for found in self.found.iter().take(SHOWN) {
            text.push_str(&format!("VIOLATION {}\n", figures::plain(found)));
        }
        let task = |(task, seen): (&Task, &Nanos)| {
            let wcrt = bound(task).map(Nanos::get);
            json!({ "task": task.name, "longest_response_ns": seen.get(), "wcrt_ns": wcrt })
        };
        let tasks: Vec<Value> = set.tasks().iter().zip(&self.longest).map(task).collect();
        let json = json!({
            "runs": runs.count(), "seed": runs.seed, "horizon_ns": runs.horizon().get(), "jobs": self.jobs,
            "tasks": tasks, "violations": count, "found": self.found,
            "groups": groups::served_json(&served),
        });
        let exit = if count == 0 { Exit::Done } else { Exit::Violated };
        Answer { text, json, exit }
    }
}
