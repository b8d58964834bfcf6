//! The witness of a refusal: a schedule that misses, or why none can be shown.

use aegis_sched::admission::{Reason, Refusal};
use aegis_sched::analysis::LaneProblem;
use aegis_sched::witness::{NoWitness, Witness, WitnessJob, witness};
use aegis_sched::{AdmissionReport, SchedulingPolicy, TaskSet, charge};
use aegis_types::{LaneId, Nanos};
use serde_json::{Value, json};

use crate::cli::figures::{instant, span};
use crate::cli::table::Grid;
use crate::cli::verdict;

/// Jobs that people are shown.
const SHOWN: usize = 10;

/// What a refusal can be shown with: a lane, and a run of it that misses.
pub(in crate::cli) struct Shown {
    pub(in crate::cli) problem: LaneProblem,
    pub(in crate::cli) found: Result<Witness, NoWitness>,
}

/// The witness of a refusal in time; `None` where nothing is refused, or for a reason that no schedule shows.
pub(in crate::cli) fn of(
    report: &AdmissionReport,
    set: &TaskSet,
    policy: &dyn SchedulingPolicy,
) -> Option<Shown> {
    let refusal = report.refusal()?;
    let shows = |refusal: &Refusal| match refusal.reason {
        Reason::Utilisation { .. } | Reason::Full | Reason::Deadline { .. } | Reason::Demand { .. } => true,
        // Nothing is known of a lane that was not decided, and numbers beyond the analysis are beyond a run too.
        _ => false,
    };
    let lane: LaneId = refusal.lane.filter(|_| shows(refusal))?;
    let problem = LaneProblem::of_lane(set, &charge(set).ok()?, policy, lane);
    let position = refusal.task.and_then(|id| problem.tasks.iter().position(|task| task.id == id));
    let found = witness(&problem, position);
    Some(Shown { problem, found })
}

/// For people; nothing where there is nothing to show. `fleet` is the file, for the command that replays it.
pub(in crate::cli) fn text(shown: Option<&Shown>, set: &TaskSet, fleet: &str) -> String {
    let found = match shown.map(|shown| &shown.found) {
        None => return String::new(),
        Some(Err(why)) => return format!("witness: none: {why}\n"),
        Some(Ok(found)) => found,
    };
    let mut grid = Grid::new(1, &["job of", "arrives", "released", "runs for"]);
    for job in found.jobs.iter().take(SHOWN) {
        let runs = job.segments.iter().fold(Nanos::ZERO, |sum, span| sum.saturating_add(*span));
        let name = verdict::name(job.task, set);
        grid.row([name, instant(job.arrival), instant(job.release), span(runs)]);
    }
    let more = match found.jobs.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!("and {more} more jobs\n"),
    };
    format!(
        "witness: contracts allow this schedule (`aegis simulate {fleet}` replays it):\n{}{more}{}\n",
        grid.text(),
        told(found, set)
    )
}

/// The miss in words.
pub(in crate::cli) fn told(found: &Witness, set: &TaskSet) -> String {
    let miss = found.miss;
    let late = miss.end.since(miss.deadline);
    let blocked = found.blocker.map(|by| {
        format!("`{}` has just started its longest segment when the others come;\n", verdict::name(by, set))
    });
    format!(
        "{}the job of `{}` that arrives at {} ends at {}, {} after its deadline",
        blocked.unwrap_or_default(),
        verdict::name(miss.task, set),
        instant(miss.arrival),
        instant(miss.end),
        span(late)
    )
}

/// For programs.
pub(in crate::cli) fn json(shown: Option<&Shown>, set: &TaskSet) -> Value {
    let found = match shown.map(|shown| &shown.found) {
        None => return Value::Null,
        Some(Err(why)) => return json!({ "found": false, "reason": why.to_string() }),
        Some(Ok(found)) => found,
    };
    let job = |job: &WitnessJob| {
        json!({
            "task": verdict::name(job.task, set), "arrival_ns": job.arrival.get(),
            "release_ns": job.release.get(),
            "segments_ns": job.segments.iter().map(|span| span.get()).collect::<Vec<_>>(),
        })
    };
    json!({
        "found": true,
        "blocker": found.blocker.map(|by| verdict::name(by, set)),
        "jobs": found.jobs.iter().map(job).collect::<Vec<_>>(),
        "miss": {
            "task": verdict::name(found.miss.task, set), "arrival_ns": found.miss.arrival.get(),
            "deadline_ns": found.miss.deadline.get(), "end_ns": found.miss.end.get(),
        },
    })
}
