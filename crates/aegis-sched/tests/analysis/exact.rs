//! Where the analyses are exact, the worst simulated response of the critical instants equals the bound.

use aegis_sched::PolicyClass;
use aegis_sched::analysis::{LaneProblem, Stop, respond};
use aegis_sched::referee::check_bounds;

use crate::generate::{Rng, Shape, for_seeds, lane};
use crate::sim::{Ties, critical, int, run};

/// The worst response of `task` over the critical instants of its class.
fn worst(problem: &LaneProblem, task: usize, busy: i64) -> i64 {
    let me = &problem.tasks[task];
    let key_max = problem.tasks.iter().map(|other| int(other.key)).max().expect("a task");
    let last = match problem.class {
        PolicyClass::AbsoluteDeadline => busy.max(key_max - int(me.key)),
        _ => -int(me.jitter.get()),
    };
    let mut worst = 0;
    for arrival in -int(me.jitter.get())..=last {
        let blocks = |other: usize| {
            let other = &problem.tasks[other];
            match problem.class {
                PolicyClass::StaticPriority => other.key > me.key,
                PolicyClass::AbsoluteDeadline => int(other.key) > arrival + int(me.key),
                _ => false,
            }
        };
        let blockers = (0..problem.tasks.len()).filter(|&other| other != task && blocks(other)).map(Some);
        for blocker in std::iter::once(None).chain(blockers) {
            let jobs = critical(problem, task, blocker, arrival, busy + 40);
            for job in run(problem, &jobs, Ties::Loses(task)) {
                let inside = job.arrival <= busy + 2;
                if job.task == task && inside {
                    worst = worst.max(job.response);
                }
            }
        }
    }
    worst
}

fn check_exact(rng: &mut Rng, shape: Shape) {
    let problem = lane(rng, shape);
    let Ok(claim) = respond(&problem, Stop::Never) else { return };
    check_bounds(&problem, &claim).expect("the referee accepts what the solver claims");
    let busy = claim.busy.iter().map(|busy| int(busy.get())).max().expect("a task");
    if busy > 200 {
        return;
    }
    for (task, claimed) in claim.tasks.iter().enumerate() {
        let seen = worst(&problem, task, busy);
        assert_eq!(int(claimed.bound.get()), seen, "task {task} of {problem:#?}");
    }
}

#[test]
fn static_priority_is_exact() {
    let shape = Shape::tiny(PolicyClass::StaticPriority);
    for_seeds("static_priority_is_exact", 1_500, |rng| check_exact(rng, shape));
}

#[test]
fn static_priority_with_segments_and_jitter_is_exact() {
    let shape = Shape::tiny(PolicyClass::StaticPriority).with_segments(3).with_jitter(2);
    for_seeds("static_priority_with_segments_and_jitter_is_exact", 1_500, |rng| check_exact(rng, shape));
}

#[test]
fn arrival_order_is_exact() {
    let shape = Shape::tiny(PolicyClass::ArrivalOrder).with_segments(3);
    for_seeds("arrival_order_is_exact", 1_500, |rng| check_exact(rng, shape));
}

#[test]
fn absolute_deadline_without_jitter_is_exact() {
    let shape = Shape::tiny(PolicyClass::AbsoluteDeadline);
    for_seeds("absolute_deadline_without_jitter_is_exact", 600, |rng| check_exact(rng, shape));
}

#[test]
fn the_smallest_lanes_exhaustively() {
    let shape = Shape::tiny(PolicyClass::StaticPriority);
    let mut seen = 0;
    let mut problem = lane(&mut Rng::new(1), Shape { tasks: (2, 2), ..shape });
    for class in [PolicyClass::StaticPriority, PolicyClass::AbsoluteDeadline] {
        problem.class = class;
        for code in 0..4 * 4 * 3 * 3 * 3u64 {
            let (periods, costs) = (2 + code % 4, 2 + code / 4 % 4);
            let (first, second, shift) = (1 + code / 16 % 3, 1 + code / 48 % 3, code / 144 % 3);
            for (index, (period, cost)) in [(periods, first), (costs, second)].into_iter().enumerate() {
                let task = &mut problem.tasks[index];
                task.period = aegis_types::Nanos::new(period);
                task.deadline = aegis_types::Nanos::new(period + shift * index as u64);
                task.segments = vec![aegis_types::Nanos::new(cost)];
                task.key = task.deadline.get();
            }
            let Ok(claim) = respond(&problem, Stop::Never) else { continue };
            let busy = int(claim.busy.iter().map(|busy| busy.get()).max().expect("a task"));
            for (task, claimed) in claim.tasks.iter().enumerate() {
                assert_eq!(
                    int(claimed.bound.get()),
                    worst(&problem, task, busy),
                    "task {task} of {problem:#?}"
                );
            }
            seen += 1;
        }
    }
    assert!(seen > 100, "only {seen} lanes had bounds");
}
