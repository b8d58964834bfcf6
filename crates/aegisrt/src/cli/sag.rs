//! `aegis sag`: every schedule of a file of jobs, in the formats of the tool nptest.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aegis_sched::referee::sag::{CoverObjection, check};
use aegis_sched::sag::{
    self, Exactness, IdleRule, JobSet, Limits, OnMiss, Options, SagError, SagReport, SagVerdict, csv,
};
use aegis_types::Bytes;
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::answer::{Answer, CliError, Exit};
use super::figures::size;
use super::target;
use crate::intake;

/// The largest file that is read.
const FILE_MAX: Bytes = Bytes::new(1 << 30);

/// Explore every schedule of a file of jobs, and say whether each deadline is always met.
#[derive(Debug, Args)]
pub struct Sag {
    /// A line of headings, then one job a line: task, job, earliest and latest release, shortest and longest cost,
    /// deadline, priority (the smaller number first), in whole numbers of any one unit of time.
    jobs: PathBuf,
    /// A line of headings, then one edge a line: task and job before, task and job after, and perhaps the shortest
    /// and longest delay between them.
    #[arg(long, value_name = "FILE")]
    precedence: Option<PathBuf>,
    /// A line of headings, then one abort a line: task and job, earliest and latest trigger, shortest and longest
    /// cleanup. A job that runs is ended by its trigger; one that would start later is skipped.
    #[arg(short = 'a', long, value_name = "FILE")]
    aborts: Option<PathBuf>,
    /// Identical cores under one queue; with more than one the answer is safe, not exact.
    #[arg(short = 'm', long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    cores: u32,
    /// Which of several ready jobs goes first.
    #[arg(long, value_enum, default_value_t = Policy::Priority)]
    policy: Policy,
    /// Idle time that the policy inserts; one core only.
    #[arg(long, value_enum, value_name = "RULE")]
    iip: Option<Inserted>,
    /// Give up, undecided, after so many states [default: no limit].
    #[arg(long, value_name = "N")]
    states: Option<u64>,
    /// Give up, undecided, before states take more memory.
    #[arg(long, value_name = "SIZE", default_value = "4GiB")]
    memory: Bytes,
    /// Give up, undecided, after so many seconds [default: no limit].
    #[arg(long, value_name = "S")]
    seconds: Option<u64>,
    /// Write best and worst completion and response time of every job; a missed deadline then ends nothing.
    #[arg(long, value_name = "FILE")]
    rta: Option<PathBuf>,
    /// If a deadline can be missed, write one schedule that does: the same jobs, each with one release and one cost.
    /// One core without delays, without --aborts and without --iip.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["iip", "aborts"])]
    witness: Option<PathBuf>,
    /// Keep every state, and have them replayed by code that shares none with the exploration; takes more memory.
    /// One core without delays, without --aborts and without --iip.
    #[arg(long, conflicts_with_all = ["iip", "aborts"])]
    replay: bool,
}

/// Which of several ready jobs goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Policy {
    /// The smaller number in the file's column of priorities.
    Priority,
    /// The earlier deadline.
    Edf,
}

/// A rule by which the core idles although a job is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Inserted {
    /// Precautious RM: room is kept for the next job of the highest priority.
    Prm,
    /// Critical-window EDF: room is kept for the next job of every other task.
    Cw,
}

impl Sag {
    pub(super) fn perform(&self) -> Result<Answer, CliError> {
        self.check_targets()?;
        let set = self.set()?;
        let start = Instant::now();
        let until = self.seconds.and_then(|seconds| start.checked_add(Duration::from_secs(seconds)));
        let mut in_time = || until.is_none_or(|until| Instant::now() < until);
        let options = self.options();
        let report =
            sag::explore(&set, &options, &mut in_time).map_err(|error| CliError::Input(error.to_string()))?;
        let mut shown =
            Shown { set: &set, report: &report, rta: None, witness: None, replayed: None, notes: Vec::new() };
        if let Some(path) = &self.rta {
            if report.complete {
                target::write(path, csv::results(&set, &report.bounds))?;
                shown.rta = Some(path);
            } else {
                shown.notes.push("no bounds are written: the exploration did not come to its end");
            }
        }
        if let (Some(path), SagVerdict::Miss { .. }) = (&self.witness, report.verdict) {
            let schedule = if report.exactness == Exactness::Exact {
                sag::witness(&set, options.limits, &mut in_time)
            } else {
                None
            };
            match schedule {
                Some(jobs) => {
                    target::write(path, csv::write_jobs(&jobs))?;
                    shown.witness = Some(path);
                }
                None => {
                    shown.notes.push("no schedule is written: limits, several cores or delays prevent it")
                }
            }
        }
        let exit = match report.verdict {
            SagVerdict::Schedulable => Exit::Done,
            SagVerdict::Miss { .. } => Exit::Refused,
            SagVerdict::Undecided { .. } => Exit::Undecided,
        };
        if self.replay && report.verdict == SagVerdict::Schedulable {
            match replayed(&set, &report, options.limits, &mut in_time) {
                Some(Ok(states)) => shown.replayed = Some(states),
                Some(Err(objection)) => return Ok(disputed(&objection)),
                None => shown.notes.push("nothing is replayed: limits, several cores or delays prevent it"),
            }
        }
        Ok(Answer { text: shown.text(), json: shown.json(), exit })
    }

    /// Checks, before the work, that nothing written replaces what is read or written besides.
    fn check_targets(&self) -> Result<(), CliError> {
        let mut used: Vec<PathBuf> =
            std::iter::once(&self.jobs).chain(&self.precedence).chain(&self.aborts).cloned().collect();
        for (option, path) in [("--rta", &self.rta), ("--witness", &self.witness)] {
            if let Some(path) = path {
                target::check(option, path, &used)?;
                used.push(path.clone());
            }
        }
        Ok(())
    }

    fn options(&self) -> Options {
        Options {
            cores: self.cores,
            idle: self.iip.map(|rule| match rule {
                Inserted::Prm => IdleRule::PrecautiousRm,
                Inserted::Cw => IdleRule::CriticalWindowEdf,
            }),
            on_miss: if self.rta.is_some() { OnMiss::Explore } else { OnMiss::Stop },
            limits: Limits { states: self.states.unwrap_or(u64::MAX), bytes: self.memory },
        }
    }

    fn set(&self) -> Result<JobSet, CliError> {
        let jobs = parsed(&self.jobs, csv::jobs)?;
        let edges = self.precedence.as_deref().map(|path| parsed(path, csv::edges)).transpose()?;
        let set = JobSet::new(jobs, &edges.unwrap_or_default()).map_err(|error| {
            let wrong = match (&error, &self.precedence) {
                (SagError::BadEdge { .. } | SagError::Cycle { .. }, Some(path)) => path,
                _ => &self.jobs,
            };
            at(wrong, &error)
        })?;
        let set = match &self.aborts {
            Some(path) => set.with_aborts(&parsed(path, csv::aborts)?).map_err(|error| at(path, &error))?,
            None => set,
        };
        Ok(if self.policy == Policy::Edf { set.by_deadline() } else { set })
    }
}

/// How many states the referee replayed and found complete; nothing where it has none to replay.
fn replayed(
    set: &JobSet,
    report: &SagReport,
    limits: Limits,
    in_time: &mut dyn FnMut() -> bool,
) -> Option<Result<usize, CoverObjection>> {
    if report.exactness != Exactness::Exact {
        return None;
    }
    let cover = sag::cover(set, limits, in_time)?;
    Some(check(set, &cover).map(|proof| proof.states()))
}

/// The exploration is wrong, so its verdict is not worth showing.
fn disputed(objection: &CoverObjection) -> Answer {
    let text = format!("the referee does not accept the states: {objection}\n");
    Answer {
        text,
        json: json!({ "verdict": "disputed", "why": objection.to_string() }),
        exit: Exit::Violated,
    }
}

fn parsed<T>(path: &Path, parse: fn(&str) -> Result<T, SagError>) -> Result<T, CliError> {
    let unreadable =
        |reason: String| CliError::Input(format!("{}: cannot be read: {reason}", path.display()));
    let text = intake::text(path, FILE_MAX).map_err(|error| unreadable(error.to_string()))?;
    parse(&text).map_err(|error| at(path, &error))
}

fn at(path: &Path, error: &SagError) -> CliError {
    CliError::Input(format!("{}: {error}", path.display()))
}

/// What is shown of an exploration.
struct Shown<'a> {
    set: &'a JobSet,
    report: &'a SagReport,
    /// The file of bounds, if it was written.
    rta: Option<&'a Path>,
    /// The file of a schedule that misses, if it was written.
    witness: Option<&'a Path>,
    /// States that were replayed.
    replayed: Option<usize>,
    notes: Vec<&'static str>,
}

impl Shown<'_> {
    fn verdict(&self) -> String {
        let exact = self.report.exactness == Exactness::Exact;
        match self.report.verdict {
            SagVerdict::Schedulable => {
                "schedulable: every job meets its deadline in every schedule".to_owned()
            }
            SagVerdict::Miss { job, completion, deadline } => format!(
                "{}: {job} {} at {}, after its deadline {}",
                if exact { "not schedulable" } else { "not shown schedulable" },
                if exact { "can complete" } else { "may perhaps complete" },
                completion.get(),
                deadline.get(),
            ),
            SagVerdict::Undecided { limit } => {
                format!("undecided: the limit of {} was reached before a verdict", limit.as_str())
            }
        }
    }

    fn text(&self) -> String {
        let effort = &self.report.effort;
        let exact = self.report.exactness == Exactness::Exact;
        let mut text = format!(
            "{}\nbounds       {}\njobs         {}\nstates       {}, at most {} sets of jobs in one level\n\
             edges        {}\nmemory       {}\n",
            self.verdict(),
            if exact { "exact" } else { "safe, not exact" },
            self.set.jobs().len(),
            effort.states,
            effort.width,
            effort.edges,
            size(Bytes::new(effort.bytes_peak)),
        );
        if let Some(states) = self.replayed {
            text.push_str(&format!("replayed     {states} states, none is missing\n"));
        }
        for path in [self.rta, self.witness].into_iter().flatten() {
            text.push_str(&format!("wrote {}\n", path.display()));
        }
        for note in &self.notes {
            text.push_str(&format!("note: {note}\n"));
        }
        text
    }

    fn json(&self) -> Value {
        let Self { report, .. } = self;
        let (verdict, why) = match report.verdict {
            SagVerdict::Schedulable => ("schedulable", Value::Null),
            SagVerdict::Miss { job, completion, deadline } => (
                "refused",
                json!({
                    "task": job.task, "job": job.job,
                    "completion": completion.get(), "deadline": deadline.get(),
                }),
            ),
            SagVerdict::Undecided { limit } => ("undecided", json!({ "limit": limit.as_str() })),
        };
        let effort = &report.effort;
        json!({
            "verdict": verdict, "why": why, "exact": report.exactness == Exactness::Exact,
            "complete": report.complete, "jobs": self.set.jobs().len(), "states": effort.states,
            "nodes": effort.nodes, "edges": effort.edges, "width": effort.width,
            "memory_bytes": effort.bytes_peak, "rta": self.rta, "witness": self.witness,
            "replayed": self.replayed, "notes": self.notes,
        })
    }
}
