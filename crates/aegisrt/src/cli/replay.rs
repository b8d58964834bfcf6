//! `aegis replay`: the same decisions byte for byte, or what another policy would have decided.

use std::path::PathBuf;

use aegis_sched::counterfactual::counterfactual;
use aegis_sched::replay::{Replay, ReplayEnd, replay};
use aegis_sched::{Counterfactual, TaskSet};
use aegis_types::records::{JobFinished, JobOutcome};
use aegis_types::{Nanos, RawRecord, TaskId};
use clap::Args;
use serde_json::{Value, json};

use super::answer::{Answer, CliError, Exit};
use super::figures::{counted, instant, span};
use super::stored::{StoredRun, analyze, by_name, damages_json};
use super::table::Grid;
use super::verdict;

/// Make the decisions of a run again.
#[derive(Debug, Args)]
pub struct ReplayCommand {
    /// The trace of a run.
    run: PathBuf,
    /// Show what this policy would have decided instead: fifo, rm, dm, fp or edf.
    #[arg(long, value_name = "POLICY")]
    policy: Option<String>,
}

impl ReplayCommand {
    pub(super) fn perform(&self) -> Result<Answer, CliError> {
        let run = StoredRun::open(&self.run)?;
        let mut answer = match &self.policy {
            None => again(&run)?,
            Some(policy) => otherwise(&run, policy)?,
        };
        let notes: String = run.notes().iter().map(|note| format!("note: {note}\n")).collect();
        answer.text.insert_str(0, &notes);
        answer.json["trace"] = damages_json(&run.trace);
        Ok(answer)
    }
}

fn again(run: &StoredRun) -> Result<Answer, CliError> {
    let replayed = replay(run.trace.records(), &run.set, &run.certificate, by_name(&run.policy)?)?;
    // A file that was cut is bad input; records that are missing from a whole file are a fault of the run.
    let incomplete = if run.is_damaged() { Exit::BadInput } else { Exit::Violated };
    let (end, exit) = match &replayed.end {
        ReplayEnd::Identical if run.is_damaged() => (
            "equal as far as the damaged trace goes; what it lost cannot be compared".to_owned(),
            Exit::BadInput,
        ),
        ReplayEnd::Identical => {
            ("identical: every decision was made again, byte for byte".to_owned(), Exit::Done)
        }
        ReplayEnd::Truncated { missing } => (
            format!(
                "equal as far as the trace goes; it lacks the last {}",
                counted(*missing as u64, "record")
            ),
            incomplete,
        ),
        ReplayEnd::Gap { gap, .. } => {
            let (lost, from, to) = (counted(gap.lost.into(), "record"), instant(gap.from), instant(gap.to));
            (format!("equal up to a gap: {lost} missing between {from} and {to}"), incomplete)
        }
        ReplayEnd::Diverged { position, recorded, replayed } => (
            format!(
                "DIVERGED at record {position}, {}: recorded {}, replayed {}",
                instant(recorded.stamp),
                record(run, recorded),
                replayed.as_ref().map_or_else(|| "nothing".to_owned(), |raw| record(run, raw))
            ),
            Exit::Violated,
        ),
        ReplayEnd::Illegal { position, misuse } => {
            (format!("ILLEGAL at record {position}: {misuse}"), Exit::Violated)
        }
        ReplayEnd::NoStart => ("the trace holds no decisions".to_owned(), Exit::BadInput),
        other => (format!("{other:?}"), Exit::Violated),
    };
    let Replay { inputs, equal, .. } = replayed;
    let text = format!(
        "{} fed, {} equal under {}\n{end}\n",
        counted(inputs, "input"),
        counted(equal, "record"),
        run.policy
    );
    let identical = exit == Exit::Done;
    let json =
        json!({ "policy": run.policy, "inputs": inputs, "equal": equal, "identical": identical, "end": end });
    Ok(Answer { text, json, exit })
}

fn record(run: &StoredRun, raw: &RawRecord) -> String {
    let name = run.trace.schema(raw.kind()).map_or("unknown", |schema| schema.name.as_str());
    let words: Vec<String> = raw.payload.iter().map(u64::to_string).collect();
    format!("{name} [{}]", words.join(" "))
}

/// Jobs of one task under one policy.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    jobs: u64,
    misses: u64,
    max: Nanos,
}

impl Counts {
    fn add(&mut self, outcome: JobOutcome, response: Nanos, deadline: Nanos) {
        if outcome == JobOutcome::Completed {
            self.jobs += 1;
            self.misses += u64::from(response > deadline);
            self.max = self.max.max(response);
        }
    }
}

fn otherwise(run: &StoredRun, policy: &str) -> Result<Answer, CliError> {
    let report = analyze(&run.set, by_name(policy)?);
    let Some(certificate) = report.certificate() else {
        let verdict = verdict::text(&report, &run.set)?;
        let text = format!("Under {policy} the fleet would not have been admitted:\n\n{verdict}");
        return Ok(Answer { text, json: verdict::json(&report, &run.set)?, exit: Exit::Refused });
    };
    let would = counterfactual(run.trace.records(), &run.set, certificate, by_name(policy)?)?;
    let (seen, other) = (recorded(run), simulated(&would, &run.set));
    let mut grid = Grid::new(1, &["task", "D", "jobs", "misses", "max", "jobs", "misses", "max", "WCRT"]);
    grid.row(["", "", &run.policy, "", "", policy, "", "", policy]);
    let mut rows: Vec<Value> = Vec::new();
    for task in run.set.tasks() {
        let (a, b) = (seen[task.id.index()], other[task.id.index()]);
        let wcrt = report.tasks.get(task.id.index()).and_then(|report| report.wcrt);
        let counts = |c: Counts| [c.jobs.to_string(), c.misses.to_string(), span(c.max)];
        let row = [vec![task.name.clone(), span(task.deadline)], counts(a).into(), counts(b).into()].concat();
        grid.row(row.into_iter().chain([super::figures::maybe(wcrt)]));
        let value = |c: Counts| json!({ "jobs": c.jobs, "misses": c.misses, "max_ns": c.max.get() });
        rows.push(json!({ "task": task.name, "recorded": value(a), "counterfactual": value(b) }));
    }
    let mut text = format!(
        "What {policy} would have decided for the same submissions and execution times, in virtual time:\n\n{}",
        grid.text()
    );
    if would.estimated > 0 {
        text.push_str(&format!(
            "\n{} not in the trace; the longest that was seen stands there\n",
            counted(would.estimated, "segment")
        ));
    }
    if let Some(gap) = would.gap {
        text.push_str(&format!(
            "\nthe inputs end at {}: {} missing\n",
            instant(gap.from),
            counted(gap.lost.into(), "record")
        ));
    }
    let json = json!({
        "recorded_policy": run.policy, "policy": policy, "estimated_segments": would.estimated, "tasks": rows,
    });
    Ok(Answer::done(text, json))
}

fn recorded(run: &StoredRun) -> Vec<Counts> {
    let mut counts = vec![Counts::default(); run.set.tasks().len()];
    for (_, finished) in run.trace.all::<JobFinished>() {
        count(&mut counts, &run.set, finished.job.task, finished.outcome, finished.response);
    }
    counts
}

fn simulated(would: &Counterfactual, set: &TaskSet) -> Vec<Counts> {
    let mut counts = vec![Counts::default(); set.tasks().len()];
    for end in &would.ends {
        count(&mut counts, set, end.job.task, end.outcome, end.response());
    }
    counts
}

fn count(counts: &mut [Counts], set: &TaskSet, task: TaskId, outcome: JobOutcome, response: Nanos) {
    if let (Some(task), Some(counts)) = (set.task(task), counts.get_mut(task.index())) {
        counts.add(outcome, response, task.deadline);
    }
}
