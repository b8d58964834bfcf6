//! What makes a lane harder never turns no into yes, and what leaves the range of numbers is "no".

use std::cell::Cell;

use aegis_sched::PolicyClass;
use aegis_sched::analysis::{Blocking, LaneProblem, decide, fits};
use aegis_sched::referee::check;
use aegis_types::Nanos;

use crate::generate::{Rng, Shape, for_seeds, lane};

const CLASSES: [PolicyClass; 5] = [
    PolicyClass::StaticPriority,
    PolicyClass::AbsoluteDeadline,
    PolicyClass::ArrivalOrder,
    PolicyClass::WorkConserving,
    PolicyClass::Fair,
];

fn problem(rng: &mut Rng, class: PolicyClass) -> LaneProblem {
    let period = if rng.one_in(2) { (3, 16) } else { (10, 300) };
    let shape = Shape { tasks: (1, 5), period, ..Shape::tiny(class).with_segments(3) };
    let jitter = rng.range(0, 2);
    let mut problem = lane(rng, shape.with_jitter(jitter));
    if rng.one_in(3) {
        // Keys that are no deadlines, as policies of one's own may have them.
        problem.tasks.iter_mut().for_each(|task| task.key = rng.range(1, task.deadline.get() + 9));
    }
    if rng.one_in(2) {
        problem
            .tasks
            .iter_mut()
            .for_each(|task| task.deadline = task.deadline.saturating_add(Nanos::new(rng.range(0, 60))));
    }
    problem
}

/// Makes the lane harder in one thing, keys and weights held fixed, and names it.
fn harden(rng: &mut Rng, problem: &mut LaneProblem) -> &'static str {
    let at = usize::try_from(rng.range(0, problem.tasks.len() as u64 - 1)).expect("few tasks");
    let task = &mut problem.tasks[at];
    let by = if rng.one_in(2) { 1 } else { rng.range(1, 12) };
    let less = |value: Nanos| Nanos::new(value.get().saturating_sub(by).max(1));
    match rng.range(0, 4) {
        0 => {
            let count = task.segments.len() as u64;
            let index = usize::try_from(rng.range(0, count - 1)).expect("few segments");
            task.segments[index] = task.segments[index].saturating_add(Nanos::new(by));
            "cost"
        }
        1 => {
            task.jitter = task.jitter.saturating_add(Nanos::new(by));
            "jitter"
        }
        2 => {
            task.period = less(task.period);
            "period"
        }
        3 => {
            task.deadline = less(task.deadline);
            "deadline"
        }
        _ => {
            problem.overrun = problem.overrun.saturating_add(Nanos::new(by));
            "overrun"
        }
    }
}

#[test]
fn harder_is_never_easier() {
    for class in CLASSES {
        let turned = Cell::new([0u32; 2]);
        for_seeds("harder_is_never_easier", 4_000, |rng| {
            let easy = problem(rng, class);
            let mut hard = easy.clone();
            let moved = harden(rng, &mut hard);
            let (before, after) = (decide(&easy).is_ok(), decide(&hard).is_ok());
            assert!(before || !after, "{class}: more or less {moved} turns no into yes: {easy:#?} {hard:#?}");
            let mut counts = turned.get();
            counts[0] += u32::from(before && !after);
            counts[1] += u32::from(before && after);
            turned.set(counts);
        });
        let both = turned.get().iter().all(|&count| count > 50);
        assert!(std::env::var("AEGIS_SETS").is_ok() || both, "{class}: one-sided: {turned:?}");
    }
}

fn times(problem: &LaneProblem, factor: u64) -> LaneProblem {
    let mut problem = problem.clone();
    let scale = |value: &mut Nanos| *value = Nanos::new(value.get().saturating_mul(factor));
    for task in &mut problem.tasks {
        for value in [&mut task.period, &mut task.deadline, &mut task.jitter] {
            scale(value);
        }
        task.segments.iter_mut().for_each(scale);
        if problem.class == PolicyClass::AbsoluteDeadline {
            task.key = task.key.saturating_mul(factor);
        }
    }
    scale(&mut problem.overrun);
    problem
}

/// A unit of time does not matter to a verdict, as long as numbers stay in range; beyond it the answer is no.
#[test]
fn an_overflow_is_not_schedulable() {
    for class in CLASSES {
        let seen = Cell::new([0u32; 3]);
        for_seeds("an_overflow_is_not_schedulable", 1_500, |rng| {
            let mut small = problem(rng, class);
            small.blocking = Blocking::Attained;
            let verdict = fits(&small);
            let factor = 1u64 << rng.range(1, 63);
            let large = times(&small, factor);
            let claim = decide(&large);
            assert!(verdict || claim.is_err(), "{factor} turns no into yes: {small:#?}");
            if factor <= 1 << 40 {
                assert_eq!(verdict, claim.is_ok(), "{factor} turns yes into no: {small:#?}");
            }
            if let Ok(claim) = &claim {
                check(&large, claim).expect("the referee's numbers do not overflow before the solver's");
            }
            let horizon = large.tasks.iter().any(|task| task.period.get() > 1 << 60);
            assert!(!horizon || claim.is_err(), "beyond the horizon: {large:#?}");
            let mut counts = seen.get();
            counts[0] += u32::from(verdict && claim.is_ok());
            counts[1] += u32::from(verdict && claim.is_err());
            counts[2] += u32::from(!verdict);
            seen.set(counts);
        });
        let all = seen.get().iter().all(|&count| count > 50);
        assert!(std::env::var("AEGIS_SETS").is_ok() || all, "{class}: one-sided: {seen:?}");
    }
}
