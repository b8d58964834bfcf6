//! A tampered claim is rejected, or its bounds are bounds all the same. And the tests are monotone.

use std::cell::Cell;

use aegis_sched::analysis::{Claim, LaneProblem, Stop, respond};
use aegis_sched::referee::{Objection, check, check_bounds};
use aegis_sched::{PolicyClass, TermKind};
use aegis_types::{Nanos, TaskId};

use crate::generate::{Rng, Shape, for_seeds, lane};
use crate::safe::adversarial;
use crate::sim::{int, run};

const CLASSES: [PolicyClass; 5] = [
    PolicyClass::StaticPriority,
    PolicyClass::AbsoluteDeadline,
    PolicyClass::ArrivalOrder,
    PolicyClass::WorkConserving,
    PolicyClass::Fair,
];

fn nudge(rng: &mut Rng, value: &mut Nanos) {
    let by = rng.range(1, 3);
    *value = Nanos::new(if rng.one_in(2) { value.get().saturating_sub(by) } else { value.get() + by });
}

/// Changes one thing in a claim. Bounds change together with a term, so that the sum is still right.
fn mutate(rng: &mut Rng, claim: &mut Claim) {
    let task = usize::try_from(rng.range(0, claim.tasks.len() as u64 - 1)).expect("few tasks");
    match rng.range(0, 13) {
        0 => {
            let index = usize::try_from(rng.range(0, claim.busy.len() as u64 - 1)).expect("few");
            nudge(rng, &mut claim.busy[index]);
        }
        1 | 2 => {
            let claimed = &mut claim.tasks[task];
            let by = rng.range(1, 2).min(claimed.bound.get());
            let index = usize::try_from(rng.range(0, claimed.terms.len() as u64 - 1)).expect("few");
            let term = &mut claimed.terms[index].span;
            let less = by.min(term.get());
            *term = Nanos::new(term.get() - less);
            claimed.bound = Nanos::new(claimed.bound.get() - less);
        }
        3 => match claim.tasks[task].starts.len() as u64 {
            0 => claim.tasks[task].starts.push(Nanos::ZERO),
            count => {
                let index = usize::try_from(rng.range(0, count - 1)).expect("few");
                nudge(rng, &mut claim.tasks[task].starts[index]);
            }
        },
        4 => {
            claim.tasks[task].starts.pop();
        }
        5 => nudge(rng, &mut claim.overrun),
        6 => claim.tasks[task].task = TaskId::new(99),
        7 => {
            claim.tasks.pop();
        }
        8 => claim.tasks.reverse(),
        9 => {
            claim.busy.pop();
        }
        10 => {
            let bound = &mut claim.tasks[task].bound;
            nudge(rng, bound);
        }
        11 => {
            let starts = &mut claim.tasks[task].starts;
            starts.reverse();
        }
        _ => {
            // A bound far above or below, its terms in proportion.
            let claimed = &mut claim.tasks[task];
            let (by, part) = (rng.range(0, 8), 4);
            claimed.terms.iter_mut().for_each(|term| term.span = Nanos::new(term.span.get() * by / part));
            claimed.bound = Nanos::new(claimed.terms.iter().map(|term| term.span.get()).sum());
        }
    }
}

/// Runs the lane under random and critical releases, and requires every response to lie within the claim.
fn simulated(rng: &mut Rng, problem: &LaneProblem, claim: &Claim) {
    for _ in 0..3 {
        let (jobs, ties) = adversarial(rng, problem, 60);
        for job in run(problem, &jobs, ties) {
            let bound = claim.tasks[job.task].bound.get();
            assert!(
                job.response <= int(bound),
                "{job:?} exceeds the accepted {bound}: {problem:#?} {jobs:?}"
            );
        }
    }
}

#[test]
fn a_mutated_claim_is_rejected_or_still_sound() {
    for class in CLASSES {
        let rejected = Cell::new(0u32);
        let shape = Shape { tasks: (1, 4), ..Shape::tiny(class).with_segments(2).with_jitter(1) };
        for_seeds("a_mutated_claim_is_rejected_or_still_sound", 1_000, |rng| {
            let problem = lane(rng, shape);
            let Ok(least) = respond(&problem, Stop::Never) else { return };
            for _ in 0..8 {
                let mut claim = least.clone();
                mutate(rng, &mut claim);
                if check_bounds(&problem, &claim).is_err() {
                    rejected.set(rejected.get() + 1);
                    continue;
                }
                simulated(rng, &problem, &claim);
                for (mutated, least) in claim.tasks.iter().zip(&least.tasks) {
                    assert!(
                        mutated.bound >= least.bound,
                        "{mutated:?} accepted below {least:?}: {problem:#?}"
                    );
                }
            }
        });
        assert!(
            std::env::var("AEGIS_SETS").is_ok() || rejected.get() > 1_000,
            "{class}: {rejected:?} rejected"
        );
    }
}

/// The smallest possible cheat on every bound of every class.
#[test]
fn one_nanosecond_less_is_rejected() {
    for class in CLASSES {
        let shape = Shape { tasks: (1, 4), ..Shape::tiny(class).with_segments(2).with_jitter(1) };
        for_seeds("one_nanosecond_less_is_rejected", 500, |rng| {
            let problem = lane(rng, shape);
            let Ok(least) = respond(&problem, Stop::Never) else { return };
            for task in 0..least.tasks.len() {
                let mut claim = least.clone();
                let claimed = &mut claim.tasks[task];
                claimed.bound = Nanos::new(claimed.bound.get() - 1);
                let soft = |kind: TermKind| !matches!(kind, TermKind::Own | TermKind::Overrun);
                match claimed.terms.iter_mut().find(|term| soft(term.kind) && !term.span.is_zero()) {
                    Some(term) => term.span = Nanos::new(term.span.get() - 1),
                    None => continue,
                }
                let objection = check_bounds(&problem, &claim).expect_err("below the least bound");
                let on_bound = matches!(objection, Objection::Bound { .. } | Objection::Demand { .. });
                assert!(on_bound, "{objection} for {problem:#?}");
            }
        });
    }
}

#[test]
fn deadlines_and_sums_are_checked() {
    let problem =
        lane(&mut Rng::new(3), Shape { period: (50, 60), ..Shape::tiny(PolicyClass::ArrivalOrder) });
    let claim = respond(&problem, Stop::Never).expect("light");
    let mut late = problem.clone();
    late.tasks[0].deadline = Nanos::new(claim.tasks[0].bound.get() - 1);
    assert!(matches!(check(&late, &claim), Err(Objection::Deadline { .. })));
    let mut sum = claim;
    sum.tasks[0].terms.pop();
    assert!(matches!(check_bounds(&problem, &sum), Err(Objection::Terms { .. })));
}

fn bounds(problem: &LaneProblem) -> Option<Vec<Nanos>> {
    let claim = respond(problem, Stop::Never).ok()?;
    Some(claim.tasks.iter().map(|task| task.bound).collect())
}

/// Less work, less jitter, less overrun or a longer period never raises a bound. (Keys stay: priorities are given.)
#[test]
fn bounds_are_monotone() {
    for class in CLASSES {
        let shape = Shape { tasks: (1, 4), ..Shape::tiny(class).with_segments(2).with_jitter(1) };
        for_seeds("bounds_are_monotone", 1_000, |rng| {
            let mut problem = lane(rng, shape);
            problem.overrun = Nanos::new(rng.range(0, 3));
            let Some(before) = bounds(&problem) else { return };
            let index = usize::try_from(rng.range(0, problem.tasks.len() as u64 - 1)).expect("few");
            let task = &mut problem.tasks[index];
            match rng.range(0, 3) {
                0 => task.period = Nanos::new(task.period.get() + rng.range(1, 5)),
                1 => task.jitter = Nanos::new(task.jitter.get() / 2),
                2 => task.segments[0] = Nanos::new(task.segments[0].get().div_ceil(2)),
                _ => problem.overrun = Nanos::ZERO,
            }
            let after = bounds(&problem).expect("easier than before");
            for (after, before) in after.iter().zip(&before) {
                assert!(after <= before, "{after} > {before}: {problem:#?}");
            }
        });
    }
}
