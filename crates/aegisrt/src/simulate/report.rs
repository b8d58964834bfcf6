//! What thousands of sets came to.

use std::fmt;

use aegis_types::Nanos;
use aegis_types::records::JobOutcome;
use serde::Serialize;

use super::episode::Outcome;
use super::set::SetReport;

/// Failures kept: each names a seed to look at.
const KEPT: usize = 32;
/// Classes of tightness, in thousandths.
const CLASSES: usize = 1_001;

/// A set in which something happened that must not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// In which run of the set.
    pub run: &'static str,
    /// What, with the numbers.
    pub what: String,
    /// The command that runs the set again.
    pub again: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {}, {}: {}\n  again: {}", self.seed, self.run, self.what, self.again)
    }
}

/// The command that runs one set again. When faults strike depends on the horizon, so it is part of the command.
pub(super) fn command(seed: u64, horizon: Nanos) -> String {
    format!("aegis simulate --seed {seed} --sets 1 --horizon {}ns", horizon.get())
}

/// Jobs of one kind of run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Jobs {
    /// Runs.
    pub runs: u64,
    /// Jobs that ended.
    pub ended: u64,
    /// In a busy period without a breach.
    pub covered: u64,
    /// Under an overrun that is tolerated.
    pub tolerated: u64,
    /// Of these, longer than the bound without overrun.
    pub beyond_plain: u64,
    /// Without a bound.
    pub void: u64,
    /// Dropped to shed load.
    pub dropped: u64,
    /// Failed.
    pub failed: u64,
    /// Completed after their deadline.
    pub misses: u64,
    /// Arrivals refused, but for those that came while draining.
    pub refused: u64,
    /// Faults that met a launch.
    pub struck: u64,
    /// Broken assumptions that were recorded.
    pub broken: u64,
}

impl Jobs {
    /// Share of ended jobs that were covered; 1 if none ended.
    pub fn covered_fraction(&self) -> f64 {
        if self.ended == 0 { 1.0 } else { self.covered as f64 / self.ended as f64 }
    }

    fn absorb(&mut self, outcome: &Outcome) {
        let counts = &outcome.counts;
        self.runs += 1;
        self.ended += counts.outcomes.iter().sum::<u64>();
        self.covered += counts.covered;
        self.tolerated += counts.tolerated;
        self.beyond_plain += counts.beyond_plain;
        self.void += counts.void;
        self.dropped += counts.outcomes[JobOutcome::Dropped as usize];
        self.failed += counts.outcomes[JobOutcome::Failed as usize];
        self.misses += counts.misses;
        self.refused += counts.refused;
        self.struck += outcome.struck;
        self.broken += counts.broken.iter().sum::<u64>();
    }
}

/// What was found, over all sets.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SimulateReport {
    /// Sets simulated.
    pub sets: u64,
    /// Sets that admission certified; only these were run.
    pub admitted: u64,
    /// Runs as promised.
    pub plain: Jobs,
    /// Runs with one overrun of exactly X.
    pub exact: Jobs,
    /// Runs with faults.
    pub faulty: Jobs,
    /// Canaries let loose.
    pub canaries: u64,
    /// Canaries caught by any checker.
    pub canaries_caught: u64,
    /// Canaries caught by a response above its bound.
    pub canaries_bound: u64,
    /// Sets whose runs were traced three ways.
    pub traced: u64,
    /// Replays made, each equal byte for byte or a failure.
    pub replays: u64,
    /// Records found equal by replays.
    pub replayed: u64,
    /// Jobs explained, each with terms that add up or a failure.
    pub explained: u64,
    /// Records that full rings lost, each of them counted.
    pub lost: u64,
    /// Jobs whose outputs were compared bitwise with those of private memory.
    pub compared: u64,
    /// Failures in all.
    pub failed: u64,
    /// The first failures.
    pub failures: Vec<Failure>,
    /// Tasks by their longest covered response, in thousandths of the bound.
    #[serde(skip)]
    tightness: Vec<u64>,
}

impl SimulateReport {
    /// Whether nothing happened that must not.
    pub const fn is_clean(&self) -> bool {
        self.failed == 0
    }

    /// Half of the tasks came at least so close to their bounds, in thousandths; 0 if none ran.
    pub fn tightness_median(&self) -> usize {
        let total: u64 = self.tightness.iter().sum();
        let mut below = 0;
        self.tightness
            .iter()
            .position(|count| {
                below += count;
                below * 2 >= total && total > 0
            })
            .unwrap_or(0)
    }

    /// Adds one set.
    pub(super) fn absorb(&mut self, set: &SetReport) {
        self.sets += 1;
        self.admitted += u64::from(set.admitted);
        if set.admitted {
            self.plain.absorb(&set.plain);
        }
        set.exact.iter().for_each(|outcome| self.exact.absorb(outcome));
        set.faulty.iter().for_each(|outcome| self.faulty.absorb(outcome));
        if let Some(caught) = set.canary {
            self.canaries += 1;
            self.canaries_caught += u64::from(caught.by_order || caught.by_bound);
            self.canaries_bound += u64::from(caught.by_bound);
        }
        if let Some(traced) = &set.traced {
            self.traced += 1;
            self.replays += traced.replays;
            self.replayed += traced.equal;
            self.explained += traced.explained;
            self.lost += traced.lost;
        }
        self.compared += set.compared;
        self.tightness.resize(CLASSES, 0);
        for (seen, bound) in &set.plain.tightness {
            let class = u128::from(seen.get()) * 1_000 / u128::from(bound.get().max(1));
            self.tightness[usize::try_from(class).unwrap_or(CLASSES).min(CLASSES - 1)] += 1;
        }
        self.failed += set.found.len() as u64;
        for (run, what) in &set.found {
            if self.failures.len() < KEPT {
                self.failures.push(Failure {
                    seed: set.seed,
                    run,
                    what: what.clone(),
                    again: command(set.seed, set.horizon),
                });
            }
        }
    }
}

impl fmt::Display for SimulateReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "sets       {}, {} admitted, {} refused",
            self.sets,
            self.admitted,
            self.sets - self.admitted
        )?;
        for (name, jobs) in [("promised", self.plain), ("overrun X", self.exact), ("faults", self.faulty)] {
            let share = jobs.covered_fraction() * 100.0;
            write!(f, "{name:<10} {} runs, {} jobs: {share:.2} % covered", jobs.runs, jobs.ended)?;
            writeln!(
                f,
                ", {} tolerated ({} beyond R(0)), {} void ({} dropped, {} failed), {} missed, {} refused, {} faults, {} breaches",
                jobs.tolerated,
                jobs.beyond_plain,
                jobs.void,
                jobs.dropped,
                jobs.failed,
                jobs.misses,
                jobs.refused,
                jobs.struck,
                jobs.broken
            )?;
        }
        writeln!(
            f,
            "tightness  longest response {} permille of the bound (median task)",
            self.tightness_median()
        )?;
        writeln!(
            f,
            "canaries   {} of {} caught, {} of them by a bound",
            self.canaries_caught, self.canaries, self.canaries_bound
        )?;
        writeln!(
            f,
            "traces     {} sets, {} replays ({} records equal), {} jobs explained, {} records lost and counted",
            self.traced, self.replays, self.replayed, self.explained, self.lost
        )?;
        writeln!(f, "memory     {} jobs bitwise equal to private memory", self.compared)?;
        write!(f, "failures   {}", self.failed)?;
        self.failures.iter().try_for_each(|failure| write!(f, "\n{failure}"))
    }
}
