//! A certified set served by the whole runtime, and what is left of it: counts, breaches, tightness.

use std::collections::BTreeMap;

use aegis_sched::{AdmissionController, AdmissionRequest, Certificate, TaskSet, policy};
use aegis_trace::{Finished, Trace, TraceError};
use aegis_types::records::{AssumptionBroken, SegmentCompleted, SegmentRan};
use aegis_types::{Nanos, Record, Time};
use aegisrt::config::{Calibration, Prepared, Profile};
use aegisrt::live::Live;
use aegisrt::plant::ControlRequest;
use aegisrt::run::{RunOptions, RunReport, run};
use aegisrt::tally::TaskTally;
use serde::{Deserialize, Serialize};

use super::bed::{Bed, REALTIME, WAITING};
use super::error::ExperimentError;

/// Breaches that are listed one by one; all are counted.
const LISTED: usize = 1_000;

/// One broken assumption.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are those of the trace's record, with units in their names")]
pub struct Breach {
    pub at_us: u64,
    pub lane: u16,
    pub task: u16,
    pub job: u64,
    pub assumption: String,
    pub seen_ns: u64,
    pub limit_ns: u64,
    pub consequence: String,
}

/// What was counted of one task.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields say what is counted, with units in their names")]
pub struct ServedTask {
    pub task: String,
    pub lane: u16,
    pub period_ns: u64,
    pub bound_ns: u64,
    pub jobs: u64,
    pub lost: u64,
    pub misses: u64,
    pub certified_misses: u64,
    pub beyond_bound: u64,
    pub covered: u64,
    pub tolerated: u64,
    pub void: u64,
    pub response_max_ns: u64,
    pub covered_max_ns: u64,
    /// Longest single occupancy, dispatch stamp to completion stamp.
    pub occupancy_max_ns: u64,
    /// Longest time from the entry of a launch to its end seen by the launcher: execution under load.
    pub execution_max_ns: u64,
}

/// What was counted of a run, or of several of the same set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields say what is counted, with units in their names")]
pub struct Served {
    pub seconds: f64,
    pub tasks: Vec<ServedTask>,
    /// How often each assumption broke, by `assumption: consequence`.
    pub breaches: BTreeMap<String, u64>,
    pub listed: Vec<Breach>,
    pub stalls: u64,
    pub stall_max_ns: u64,
    pub device_voids: u64,
    /// Broken assumptions by the engine's own count, stalls left out: more than are listed where the trace lost some.
    pub broken: u64,
    /// Decider cycles.
    pub cycles: u64,
    /// Records that the trace lost.
    pub lost_records: u64,
}

/// Sums over the tasks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields say what is counted")]
pub struct ServedTotals {
    pub jobs: u64,
    pub lost: u64,
    pub misses: u64,
    pub certified_misses: u64,
    pub beyond_bound: u64,
    /// Covered jobs over ended ones.
    pub covered: f64,
    /// Worst response over deadline.
    pub response: f64,
    /// Median over the tasks of the longest covered response over the bound.
    pub tightness: f64,
}

impl Served {
    /// What a run counted; nothing of its trace.
    pub fn of_tally(report: &RunReport, seconds: f64) -> Self {
        let (stalls, stall_max) = report.tally.stalls();
        Self {
            seconds,
            tasks: report.tally.tasks().iter().map(ServedTask::of).collect(),
            stalls,
            stall_max_ns: stall_max.get(),
            device_voids: report.tally.device_voids(),
            broken: report.tally.tasks().iter().flat_map(|task| task.broken).sum(),
            cycles: report.cycles,
            ..Self::default()
        }
    }

    /// Adds another run of the same set.
    pub fn merge(&mut self, other: Self) {
        if self.tasks.is_empty() {
            *self = other;
            return;
        }
        for (task, more) in self.tasks.iter_mut().zip(other.tasks) {
            task.merge(&more);
        }
        for (kind, count) in other.breaches {
            *self.breaches.entry(kind).or_default() += count;
        }
        let room = LISTED.saturating_sub(self.listed.len());
        self.listed.extend(other.listed.into_iter().take(room));
        self.seconds += other.seconds;
        self.stalls += other.stalls;
        self.stall_max_ns = self.stall_max_ns.max(other.stall_max_ns);
        self.device_voids += other.device_voids;
        self.broken += other.broken;
        self.cycles += other.cycles;
        self.lost_records += other.lost_records;
    }

    /// Sums over the tasks.
    pub fn totals(&self) -> ServedTotals {
        let sum = |count: fn(&ServedTask) -> u64| self.tasks.iter().map(count).sum::<u64>();
        let ended = sum(|task| task.covered + task.tolerated + task.void);
        let ratio = |one: u64, other: u64| one as f64 / other.max(1) as f64;
        let mut tightness: Vec<f64> =
            self.tasks.iter().filter(|task| task.covered > 0).map(ServedTask::tightness).collect();
        tightness.sort_by(f64::total_cmp);
        ServedTotals {
            jobs: sum(|task| task.jobs),
            lost: sum(|task| task.lost),
            misses: sum(|task| task.misses),
            certified_misses: sum(|task| task.certified_misses),
            beyond_bound: sum(|task| task.beyond_bound),
            covered: ratio(sum(|task| task.covered), ended),
            response: self
                .tasks
                .iter()
                .map(|task| ratio(task.response_max_ns, task.period_ns))
                .fold(0.0, f64::max),
            tightness: tightness.get(tightness.len() / 2).copied().unwrap_or(0.0),
        }
    }
}

impl ServedTask {
    fn of(tally: &TaskTally) -> Self {
        let count = |index: usize| tally.standings.get(index).copied().unwrap_or(0);
        Self {
            task: tally.name.clone(),
            lane: tally.lane.get(),
            period_ns: tally.period.get(),
            bound_ns: tally.wcrt.get(),
            jobs: tally.completed(),
            lost: tally.lost(),
            misses: tally.misses,
            certified_misses: tally.certified_misses,
            beyond_bound: tally.bound_violations,
            covered: tally.covered(),
            tolerated: count(1),
            void: count(2),
            response_max_ns: tally.response_max.get(),
            covered_max_ns: tally.covered_max.get(),
            occupancy_max_ns: 0,
            execution_max_ns: 0,
        }
    }

    fn merge(&mut self, more: &Self) {
        self.jobs += more.jobs;
        self.lost += more.lost;
        self.misses += more.misses;
        self.certified_misses += more.certified_misses;
        self.beyond_bound += more.beyond_bound;
        self.covered += more.covered;
        self.tolerated += more.tolerated;
        self.void += more.void;
        self.response_max_ns = self.response_max_ns.max(more.response_max_ns);
        self.covered_max_ns = self.covered_max_ns.max(more.covered_max_ns);
        self.occupancy_max_ns = self.occupancy_max_ns.max(more.occupancy_max_ns);
        self.execution_max_ns = self.execution_max_ns.max(more.execution_max_ns);
    }

    /// The longest covered response over its bound.
    pub fn tightness(&self) -> f64 {
        self.covered_max_ns as f64 / self.bound_ns.max(1) as f64
    }
}

/// A set with its certificate and what it was measured with.
pub struct Contract<'a> {
    /// The tasks on their lanes.
    pub set: &'a TaskSet,
    /// What the machine costs.
    pub calibration: &'a Calibration,
    /// What the models take of memory; without, all of their budgets.
    pub profile: Option<&'a Profile>,
}

impl Contract<'_> {
    /// The certificate, with response times and tolerated overruns.
    ///
    /// # Errors
    /// [`ExperimentError::Illegal`] with admission's reason if the set is refused.
    pub fn certify(&self) -> Result<Certificate, ExperimentError> {
        let controller = AdmissionController::new(Box::new(policy::EarliestDeadline));
        let report = controller.analyze(&AdmissionRequest::new(self.set).tight());
        report.certificate().cloned().ok_or_else(|| ExperimentError::Illegal {
            what: report.refusal().map_or_else(|| "refused".to_owned(), ToString::to_string),
            legal: "a set that admission certifies".into(),
        })
    }
}

/// Serves a contract on a bed for so long, whose tasks stand on the lanes of the set. The trace goes through a file
/// that is removed again.
///
/// # Errors
/// What admission, plan, device or a model refuse.
pub fn serve(bed: &Bed, contract: &Contract<'_>, duration: Nanos) -> Result<Served, ExperimentError> {
    serve_report(bed, contract, duration).map(|(_, served)| served)
}

/// As [`serve`], with the runtime's own report, whose trace is gone.
///
/// # Errors
/// As [`serve`].
pub fn serve_report(
    bed: &Bed,
    contract: &Contract<'_>,
    duration: Nanos,
) -> Result<(RunReport, Served), ExperimentError> {
    let certificate = contract.certify()?;
    let path = std::env::temp_dir().join(format!("aegis-gpu-{}.trace", std::process::id()));
    let options = options(duration, Some(path.clone()));
    let prepared = Prepared { set: contract.set.clone(), requests: Vec::new(), gaps: Vec::new() };
    let report = run(bed.system(), &prepared, certificate, contract.profile, contract.calibration, &options);
    let trace = report.as_ref().ok().map(|_| Trace::open(&path));
    // A file that cannot be removed costs room and no result.
    let _left = std::fs::remove_file(&path);
    let report = report?;
    let mut served = Served::of_tally(&report, duration.get() as f64 / 1e9);
    // Without its trace a run would look as if nothing had broken.
    let trace = trace.transpose().map_err(aegisrt::RuntimeError::from)?.unwrap_or_default();
    served.lost_records = trace.gaps().iter().map(|gap| gap.lost).sum();
    read_trace(&trace, &mut served);
    Ok((report, served))
}

/// How every experiment runs.
pub fn options(duration: Nanos, trace: Option<std::path::PathBuf>) -> RunOptions {
    RunOptions {
        duration,
        trace,
        keep_outputs: 0,
        poison: false,
        realtime: REALTIME,
        waiting: WAITING,
        control: std::sync::Arc::new(ControlRequest::default()),
        live: std::sync::Arc::new(Live::default()),
    }
}

fn read_trace(trace: &Trace, served: &mut Served) {
    for raw in trace.records() {
        if let Some(ran) = SegmentRan::read(raw) {
            if let Some(task) = served.tasks.get_mut(ran.job.task.index()) {
                task.execution_max_ns = task.execution_max_ns.max(ran.left.since(ran.entered).get());
            }
        } else if let Some(completed) = SegmentCompleted::read(raw) {
            if let Some(task) = served.tasks.get_mut(completed.job.task.index()) {
                task.occupancy_max_ns = task.occupancy_max_ns.max(completed.occupancy.get());
            }
        } else if let Some(broken) = AssumptionBroken::read(raw) {
            let breach = breach(raw.stamp, &broken);
            let kind = format!("{}: {}", breach.assumption, breach.consequence);
            *served.breaches.entry(kind).or_default() += 1;
            if served.listed.len() < LISTED {
                served.listed.push(breach);
            }
        }
    }
}

fn breach(at: Time, broken: &AssumptionBroken) -> Breach {
    Breach {
        at_us: at.get() / 1_000,
        lane: broken.lane.get(),
        task: broken.job.task.get(),
        job: broken.job.number,
        assumption: format!("{:?}", broken.assumption),
        seen_ns: broken.seen.get(),
        limit_ns: broken.limit.get(),
        consequence: format!("{:?}", broken.consequence),
    }
}

/// The trace of a run in memory.
///
/// # Errors
/// What could not be kept or cannot be read.
pub fn trace_of(finished: Result<Finished, TraceError>) -> Result<Trace, ExperimentError> {
    Ok(finished.and_then(Finished::into_trace).map_err(aegisrt::RuntimeError::from)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(jobs: u64, covered_max: u64) -> ServedTask {
        ServedTask {
            task: "t".into(),
            period_ns: 1_000,
            bound_ns: 800,
            jobs,
            covered: jobs - 1,
            void: 1,
            response_max_ns: 900,
            covered_max_ns: covered_max,
            ..ServedTask::default()
        }
    }

    #[test]
    fn runs_of_one_set_add_up() {
        let one = |covered_max| Served {
            seconds: 1.0,
            tasks: vec![task(10, covered_max), task(20, 400)],
            breaches: BTreeMap::from([("a: b".to_owned(), 2)]),
            ..Served::default()
        };
        let mut sum = Served::default();
        sum.merge(one(600));
        sum.merge(one(640));
        let totals = sum.totals();
        assert_eq!((totals.jobs, sum.breaches["a: b"]), (60, 4));
        assert!((totals.covered - 56.0 / 60.0).abs() < 1e-9 && (totals.response - 0.9).abs() < 1e-9);
        assert!((sum.tasks[0].tightness() - 0.8).abs() < 1e-9);
        assert!((totals.tightness - 0.8).abs() < 1e-9, "the upper median of two");
    }
}
