//! `aegis simulate`: seeded task sets, or a fleet, in virtual time under every checker.

mod changes;
mod fleet;
mod wishes;

use std::sync::Mutex;
use std::time::{Duration, Instant};

use aegis_types::Nanos;
use clap::Args;
use indicatif::ProgressBar;

use self::fleet::{FleetRuns, Runs};
use super::Environment;
use super::answer::{Answer, CliError, Exit};
use super::progress::{self, line};
use crate::simulate::{SimulateOptions, simulate};

/// Where progress is piped, a line after so long.
const LINES: Duration = Duration::from_secs(5);

/// More would take days.
const SETS_MAX: u64 = 100_000_000;

/// Run seeded task sets, or a fleet, in virtual time under every checker.
#[derive(Debug, Args)]
pub struct Simulate {
    #[command(flatten)]
    fleet: FleetRuns,
    /// How many task sets, or runs of the fleet [default: 200].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=SETS_MAX))]
    sets: Option<u64>,
    /// The seed of the first set; the others follow.
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    seed: u64,
    /// Virtual time of each run [default: 200ms, with --changes after the last one].
    #[arg(long, value_name = "SPAN")]
    horizon: Option<Nanos>,
    /// Threads; the report does not depend on them [default: one for each core].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

impl Simulate {
    pub(super) fn perform(&self, environment: &Environment) -> Result<Answer, CliError> {
        if self.horizon.is_some_and(Nanos::is_zero) {
            return Err(CliError::Input(
                "--horizon: is 0ns; legal: a span above zero, for example 200ms".to_owned(),
            ));
        }
        let runs = Runs { count: self.sets, seed: self.seed, horizon: self.horizon };
        if let Some(answer) = self.fleet.perform(runs, environment) {
            return answer;
        }
        let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let threads = self.threads.map_or_else(cores, usize::from);
        let (sets, horizon) = (runs.count(), runs.horizon());
        let options = SimulateOptions { horizon, threads, ..SimulateOptions::new(sets, self.seed) };
        let shown = Shown::new(sets);
        let report = simulate(&options, &|done| shown.tell(done));
        shown.finish();
        let exit = if report.is_clean() { Exit::Done } else { Exit::Violated };
        let text = format!("{}\n", report.to_string().trim_end());
        let json = serde_json::to_value(&report).map_err(|error| {
            CliError::Input(format!("the report of the simulation cannot be written as JSON: {error}"))
        })?;
        Ok(Answer { text, json, exit })
    }
}

/// Progress that several threads tell.
struct Shown {
    sets: u64,
    bar: Option<ProgressBar>,
    told: Mutex<Instant>,
}

impl Shown {
    fn new(sets: u64) -> Self {
        let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
        Self { sets, bar: terminal.then(|| progress::bar(sets)), told: Mutex::new(Instant::now()) }
    }

    fn tell(&self, done: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            return;
        }
        // Whoever finds the lock taken leaves the telling to the one who holds it.
        if let Ok(mut told) = self.told.try_lock()
            && told.elapsed() >= LINES
        {
            *told = Instant::now();
            line(&format!("{done} of {} sets", self.sets));
        }
    }

    fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}
