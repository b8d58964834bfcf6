//! Admission of policies that insert idle time: every schedule of each lane, from the start until the states repeat.
//!
//! A rule that keeps a lane free looks at what is still to come, so that only tasks are certified whose releases are known:
//! periodic ones, of one segment, whose releases keep their order. Lane by lane the schedules are explored, and the states
//! handed to the referee; an exploration that reaches a limit decides nothing.

use aegis_types::{Nanos, TaskId};

use super::refusal::{Reason, Refusal};
use super::{AdmissionReport, AdmissionRequest, Verdict, reports};
use crate::analysis::claim::{Claim, TaskClaim};
use crate::analysis::problem::{LaneProblem, LaneTask};
use crate::model::TaskSet;
use crate::platform::ChargedTask;
use crate::policy::SchedulingPolicy;
use crate::referee::certificate::{Term, TermKind};
use crate::referee::certify_concrete;
use crate::sag::concrete::{LIMITS, PeriodicCover, TASKS_MAX, explore_inserting, tasks_of};
use crate::sag::{IdleRule, SagVerdict, TaskBounds};

/// How often an exploration may ask whether to go on: each time it has done about a millisecond of work. Counted, so that
/// equal questions get equal answers.
const ASKED_MAX: u32 = 1 << 11;

/// The claim about a lane with the states that it rests on.
type Shown = (Claim, Option<PeriodicCover>);

/// Judges a set under a policy that keeps lanes free by `rule`.
pub(super) fn analyze(
    policy: &dyn SchedulingPolicy,
    rule: IdleRule,
    request: &AdmissionRequest<'_>,
    charged: Vec<ChargedTask>,
) -> AdmissionReport {
    let set = request.set;
    let mut refusal: Option<Refusal> = None;
    let mut shown: Vec<Option<Shown>> = Vec::new();
    for problem in LaneProblem::of_lanes(set, charged, policy) {
        match lane(set, policy, rule, &problem) {
            Ok(lane) => shown.push(Some(lane)),
            Err((task, reason)) => {
                refusal.get_or_insert_with(|| Refusal::plain(set, problem.lane, task, reason));
                shown.push(None);
            }
        }
    }
    let ladder = |shown: &Option<Shown>| shown.iter().map(|(claim, _)| claim.clone()).collect();
    let ladders: Vec<Vec<Claim>> = shown.iter().map(ladder).collect();
    let tasks = reports(set, policy.class(), &ladders);
    let verdict = match refusal {
        Some(refusal) => Verdict::Refused(Box::new(refusal)),
        None => match certify_concrete(set, policy, request.epoch, shown.into_iter().flatten().collect()) {
            Ok(certificate) => Verdict::Admitted(certificate),
            Err(objection) => Verdict::Refused(Box::new(Refusal::refuted(objection))),
        },
    };
    AdmissionReport { verdict, tasks }
}

/// Explores one lane; a reason names the task that it is about, where it is about one.
fn lane(
    set: &TaskSet,
    policy: &dyn SchedulingPolicy,
    rule: IdleRule,
    problem: &LaneProblem,
) -> Result<Shown, (Option<TaskId>, Reason)> {
    let offsets =
        offsets(set, policy, problem).map_err(|(task, message)| (Some(task), Reason::Model { message }))?;
    if problem.tasks.is_empty() {
        return Ok((Claim { overrun: Nanos::ZERO, busy: Vec::new(), tasks: Vec::new() }, None));
    }
    let unlike = |message: String| (None, Reason::Model { message });
    if problem.tasks.len() > TASKS_MAX {
        let (count, name) = (problem.tasks.len(), policy.name());
        return Err(unlike(format!(
            "the lane has {count} tasks; legal under `{name}` are {TASKS_MAX} at most"
        )));
    }
    let tasks = tasks_of(problem, &offsets).ok_or_else(|| unlike("the tasks are not periodic".to_owned()))?;
    let mut asked = 0;
    let mut keep_going = || {
        asked += 1;
        asked <= ASKED_MAX
    };
    let (report, cover) = explore_inserting(&tasks, rule, LIMITS, &mut keep_going)
        .map_err(|error| unlike(format!("the releases from the start on cannot be listed: {error}")))?;
    match report.verdict {
        SagVerdict::Schedulable => {}
        SagVerdict::Miss { job, completion, deadline } => {
            let task =
                problem.tasks.iter().find(|task| u64::from(task.id.get()) == job.task).map(|task| task.id);
            let (completion, deadline) = (Nanos::new(completion.get()), Nanos::new(deadline.get()));
            return Err((task, Reason::Late { number: job.job.saturating_sub(1), completion, deadline }));
        }
        SagVerdict::Undecided { limit } => {
            return Err((None, Reason::Unexplored { limit, states: report.effort.states }));
        }
    }
    let claimed = |(task, bounds): (&LaneTask, &Option<TaskBounds>)| {
        bounds.map(|bounds| claim(task, bounds.response_max))
    };
    let tasks: Option<Vec<TaskClaim>> = problem.tasks.iter().zip(&report.tasks).map(claimed).collect();
    let tasks = tasks.ok_or_else(|| unlike("some task has no job until the releases repeat".to_owned()))?;
    Ok((Claim { overrun: Nanos::ZERO, busy: Vec::new(), tasks }, cover))
}

/// The offset of every task of the lane, or the first task that no rule can look ahead of.
fn offsets(
    set: &TaskSet,
    policy: &dyn SchedulingPolicy,
    problem: &LaneProblem,
) -> Result<Vec<Nanos>, (TaskId, String)> {
    let name = policy.name();
    let offset = |task: &LaneTask| {
        let Some(offset) = set.task(task.id).and_then(|task| task.arrival.offset()) else {
            let what = format!(
                "arrival is sporadic; legal under `{name}` is periodic, because it looks at releases to come"
            );
            return Err((task.id, what));
        };
        if task.segments.len() != 1 {
            let count = task.segments.len();
            return Err((task.id, format!("it has {count} segments; legal under `{name}` is one")));
        }
        if task.jitter >= task.period {
            let (jitter, period) = (task.jitter, task.period);
            let what = format!(
                "jitter is {jitter}, latencies of the runtime included; legal under `{name}` is less than the period of {period}"
            );
            return Err((task.id, what));
        }
        Ok(offset)
    };
    problem.tasks.iter().map(offset).collect()
}

fn claim(task: &LaneTask, bound: Nanos) -> TaskClaim {
    let own = task.segments.iter().fold(Nanos::ZERO, |sum, segment| sum.saturating_add(*segment));
    let parts = [(TermKind::Waiting, bound.saturating_sub(own)), (TermKind::Own, own)];
    let terms = parts.into_iter().filter(|(_, span)| !span.is_zero()).map(|(kind, span)| Term { kind, span });
    TaskClaim { task: task.id, bound, terms: terms.collect(), starts: Vec::new() }
}
