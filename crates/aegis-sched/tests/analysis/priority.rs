//! Priorities are found whenever any order of the tasks fits.

use std::cell::Cell;

use aegis_sched::PolicyClass;
use aegis_sched::analysis::priority::optimal_keys;
use aegis_sched::analysis::{LaneProblem, decide, fits};
use aegis_sched::referee::check;

use crate::generate::{Shape, for_seeds, lane};

/// Whether some order of the tasks from `from` on, after those before it, fits.
fn some_order(problem: &mut LaneProblem, order: &mut Vec<usize>, from: usize) -> bool {
    if from == order.len() {
        for (key, &at) in order.iter().enumerate() {
            problem.tasks[at].key = key as u64;
        }
        return fits(problem);
    }
    (from..order.len()).any(|other| {
        order.swap(from, other);
        let found = some_order(problem, order, from + 1);
        order.swap(from, other);
        found
    })
}

#[test]
fn priorities_are_found_whenever_some_order_fits() {
    let counts = Cell::new([0u32; 3]);
    for_seeds("priorities_are_found_whenever_some_order_fits", 1_500, |rng| {
        let shape = Shape { tasks: (2, 5), period: (6, 40), ..Shape::tiny(PolicyClass::StaticPriority) };
        let mut problem = lane(rng, shape.with_segments(2).with_jitter(1));
        let mut order: Vec<usize> = (0..problem.tasks.len()).collect();
        let exists = some_order(&mut problem.clone(), &mut order, 0);
        let mut seen = counts.get();
        seen[usize::from(exists)] += 1;
        let keys = optimal_keys(&problem);
        assert_eq!(keys.is_some(), exists, "{problem:#?}");
        problem.tasks.iter_mut().for_each(|task| task.key = task.deadline.get());
        seen[2] += u32::from(exists && !fits(&problem));
        counts.set(seen);
        if let Some(keys) = keys {
            for (task, key) in problem.tasks.iter_mut().zip(&keys) {
                task.key = *key;
            }
            let claim = decide(&problem).expect("the order that was found fits");
            check(&problem, &claim).expect("the referee accepts it");
            let mut sorted = keys;
            sorted.sort_unstable();
            assert!(sorted.into_iter().eq(0..problem.tasks.len() as u64));
        }
    });
    let seen = counts.get();
    let telling = seen[0] > 100 && seen[1] > 100 && seen[2] > 10;
    assert!(std::env::var("AEGIS_SETS").is_ok() || telling, "too few of a kind: {seen:?}");
}
