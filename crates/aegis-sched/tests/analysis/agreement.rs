//! Agreement with the crate `response-time-analysis` on random lanes, where both answer the same question: blocking
//! less one tick, FP and FIFO with jitter, EDF without.

use aegis_sched::PolicyClass;
use aegis_sched::analysis::{Claim, LaneProblem, LaneTask, Stop, respond};
use response_time_analysis::arrival::Sporadic;
use response_time_analysis::demand::{RBF, Slice};
use response_time_analysis::time::{Duration, Service};
use response_time_analysis::wcet::Scalar;
use response_time_analysis::{edf, fifo, fixed_priority};

use crate::generate::{Shape, for_seeds, lane};

/// Beyond it the other implementation gives up; so far out no comparison is made.
const LIMIT: u64 = 100_000;

/// Bounds of a lane whose busy periods end early enough for the other implementation.
fn ours(problem: &LaneProblem) -> Option<Claim> {
    let claim = respond(problem, Stop::Never).ok()?;
    claim.busy.iter().all(|busy| busy.get() < LIMIT).then_some(claim)
}

fn arrivals(task: &LaneTask) -> Sporadic {
    Sporadic {
        min_inter_arrival: Duration::from(task.period.get()),
        jitter: Duration::from(task.jitter.get()),
    }
}

fn cost(task: &LaneTask) -> u64 {
    task.segments.iter().map(|segment| segment.get()).sum()
}

fn wcet(task: &LaneTask) -> Scalar {
    Scalar::from(Service::from(cost(task)))
}

fn longest(task: &LaneTask) -> u64 {
    task.segments.iter().map(|segment| segment.get()).max().expect("a segment")
}

fn rbf(task: &LaneTask) -> RBF<Sporadic, Scalar> {
    RBF::new(arrivals(task), wcet(task))
}

fn theirs_fp(problem: &LaneProblem, position: usize) -> Option<u64> {
    let me = &problem.tasks[position];
    let others = || problem.tasks.iter().filter(|other| other.id != me.id);
    let urgent: Vec<_> = others().filter(|other| other.key <= me.key).map(rbf).collect();
    let blocking = others().filter(|other| other.key > me.key).map(longest).max().unwrap_or(1) - 1;
    let task = fixed_priority::limited_preemptive::TaskUnderAnalysis {
        wcet: wcet(me),
        arrivals: &arrivals(me),
        last_np_segment: Service::from(me.segments.last().expect("a segment").get()),
        blocking_bound: Service::from(blocking),
    };
    let bound =
        fixed_priority::limited_preemptive::dedicated_uniproc_rta(&task, &urgent, Duration::from(LIMIT));
    bound.ok().map(u64::from)
}

fn theirs_edf(problem: &LaneProblem, position: usize) -> Option<u64> {
    let me = &problem.tasks[position];
    let arrivals: Vec<Sporadic> = problem.tasks.iter().map(arrivals).collect();
    let task = |position: usize| edf::fully_nonpreemptive::Task {
        wcet: wcet(&problem.tasks[position]),
        arrivals: &arrivals[position],
        deadline: Duration::from(problem.tasks[position].deadline.get()),
    };
    let others: Vec<_> =
        (0..problem.tasks.len()).filter(|other| problem.tasks[*other].id != me.id).map(task).collect();
    let bound =
        edf::fully_nonpreemptive::dedicated_uniproc_rta(&task(position), &others, Duration::from(LIMIT));
    bound.ok().map(u64::from)
}

fn theirs_fifo(problem: &LaneProblem) -> Option<u64> {
    let all: Vec<_> = problem.tasks.iter().map(rbf).collect();
    fifo::dedicated_uniproc_rta(&Slice::of(&all), Duration::from(LIMIT)).ok().map(u64::from)
}

const SHAPE: Shape = Shape { tasks: (1, 8), period: (10, 120), ..Shape::tiny(PolicyClass::StaticPriority) };

#[test]
fn static_priority() {
    for_seeds("agreement::static_priority", 600, |rng| {
        let problem = lane(rng, SHAPE.with_segments(3).with_jitter(2));
        let Some(claim) = ours(&problem) else { return };
        for (position, (task, claimed)) in problem.tasks.iter().zip(&claim.tasks).enumerate() {
            // The other implementation counts from release and looks at the last of the jobs released at once.
            let last = task.segments.last().expect("a segment").get();
            let released = |q: u64| (q * task.period.get()).saturating_sub(task.jitter.get());
            let ours =
                claimed.starts.iter().zip(0..).map(|(start, q)| start.get() + last - released(q)).max();
            assert_eq!(theirs_fp(&problem, position), ours, "task {position} of {problem:#?}");
        }
    });
}

#[test]
fn absolute_deadline() {
    for_seeds("agreement::absolute_deadline", 600, |rng| {
        let problem = lane(rng, Shape { class: PolicyClass::AbsoluteDeadline, ..SHAPE });
        let Some(claim) = ours(&problem) else { return };
        for (position, claimed) in claim.tasks.iter().enumerate() {
            let theirs = theirs_edf(&problem, position);
            assert_eq!(theirs, Some(claimed.bound.get()), "task {position} of {problem:#?}");
        }
    });
}

#[test]
fn arrival_order() {
    for_seeds("agreement::arrival_order", 600, |rng| {
        let problem = lane(rng, Shape { class: PolicyClass::ArrivalOrder, ..SHAPE }.with_jitter(2));
        let Some(claim) = ours(&problem) else { return };
        for (task, claimed) in problem.tasks.iter().zip(&claim.tasks) {
            assert_eq!(theirs_fifo(&problem), Some(claimed.bound.get() - task.jitter.get()), "{problem:#?}");
        }
    });
}
