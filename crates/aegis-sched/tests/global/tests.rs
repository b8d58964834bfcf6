//! No set is certified that can miss, no bound is exceeded, and the tests certify something.

use aegis_sched::analysis::LaneTask;
use aegis_sched::global::{Outcome, SharedQueue, SharedTest, carry_in, response};
use aegis_sched::policy::PolicyClass;
use aegis_types::{Nanos, TaskId};

use super::schedules::{Order, Seen, Sporadic, World};

/// A generator of its own, so that a seed means the same set on every machine and version.
struct Rng(u64);

impl Rng {
    fn range(&mut self, low: u8, high: u8) -> u8 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let drawn = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16;
        low + (drawn % u64::from(high - low + 1)) as u8
    }
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn for_seeds(test: &str, count: u64, mut check: impl FnMut(&mut Rng)) {
    let first = variable("AEGIS_SEED").unwrap_or(1);
    for seed in first..first + variable("AEGIS_SETS").unwrap_or(count) {
        let mut rng = Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x7161);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(&mut rng)));
        if let Err(panic) = outcome {
            eprintln!(
                "repeat: AEGIS_SEED={seed} AEGIS_SETS=1 cargo test -p aegis-sched --test global {test}"
            );
            std::panic::resume_unwind(panic);
        }
    }
}

fn counts_are_standard() -> bool {
    variable("AEGIS_SETS").is_none() && variable("AEGIS_SEED").is_none()
}

fn nanos(ticks: u8) -> Nanos {
    Nanos::new(u64::from(ticks))
}

fn queue(tasks: &[Sporadic], servers: usize, order: Order) -> SharedQueue {
    let task = |(number, task): (u16, &Sporadic)| LaneTask {
        id: TaskId::new(number),
        segments: vec![nanos(task.cost)],
        period: nanos(task.period),
        deadline: nanos(task.deadline),
        jitter: nanos(task.jitter),
        key: u64::from(if order == Order::Priority { task.priority } else { task.deadline }),
    };
    let class =
        if order == Order::Priority { PolicyClass::StaticPriority } else { PolicyClass::AbsoluteDeadline };
    SharedQueue { servers: servers as u32, class, tasks: (0..).zip(tasks).map(task).collect() }
}

/// What is counted over many sets.
#[derive(Debug, Default)]
struct Tally {
    sets: u32,
    met: u32,
    certified: [u32; 4],
}

fn check(tasks: &[Sporadic], servers: usize, order: Order, tally: &mut Tally) {
    let seen = World { tasks, servers, order }.follow();
    if seen == Seen::TooMany {
        return;
    }
    tally.sets += 1;
    tally.met += u32::from(seen != Seen::Missed);
    let queue = queue(tasks, servers, order);
    for (test, certified) in SharedTest::ALL.into_iter().zip(&mut tally.certified) {
        if test.run(&queue) == Outcome::Certified {
            *certified += 1;
            assert_ne!(seen, Seen::Missed, "{test} certifies {tasks:?} on {servers}, {order:?}");
        }
    }
    for bounds in [response::bounds(&queue), carry_in::bounds(&queue)].into_iter().flatten() {
        let Seen::Met(longest) = &seen else { panic!("bounds for {tasks:?}, which can miss") };
        for (bound, &longest) in bounds.iter().zip(longest) {
            assert!(
                *bound >= nanos(longest),
                "{bounds:?} for {longest:?}: {tasks:?} on {servers}, {order:?}"
            );
        }
    }
}

/// Tasks with deadlines of at most a period, or also later ones.
fn draw(rng: &mut Rng, late: bool) -> Vec<Sporadic> {
    let count = rng.range(2, 4);
    let period_max = if count == 4 { 6 } else { 8 };
    let longest = rng.range(1, 4);
    (0..count)
        .map(|_| {
            let period = rng.range(2, period_max);
            let cost = rng.range(1, longest.min(period));
            let jitter = if rng.range(0, 3) == 0 { rng.range(0, 2) } else { 0 };
            let least = cost + jitter;
            let deadline = if late {
                rng.range(least, least.max(period + 4))
            } else {
                rng.range(least.min(period), period)
            };
            Sporadic { cost, period, deadline, jitter, priority: rng.range(0, 3) }
        })
        .collect()
}

#[test]
fn fixed_priorities_are_never_certified_wrongly() {
    let mut tally = Tally::default();
    for_seeds("fixed_priorities", 400, |rng| {
        let tasks = draw(rng, false);
        check(&tasks, usize::from(rng.range(1, 3)), Order::Priority, &mut tally);
    });
    if counts_are_standard() {
        let [.., response, carry_in] = tally.certified;
        // A test that certifies nothing would be safe as well.
        assert!(tally.sets > 250 && tally.sets > tally.met + 50, "{tally:?}");
        assert!(response * 3 > tally.met && carry_in * 3 > tally.met, "{tally:?}");
    }
}

#[test]
fn deadline_order_is_never_certified_wrongly() {
    let mut tally = Tally::default();
    for_seeds("deadline_order", 400, |rng| {
        let tasks = draw(rng, false);
        check(&tasks, usize::from(rng.range(1, 3)), Order::Deadline, &mut tally);
    });
    if counts_are_standard() {
        let [common, own, response, carry_in] = tally.certified;
        assert!(tally.sets > 250 && tally.sets > tally.met + 50, "{tally:?}");
        assert!(0 < common && common < own && own * 20 > tally.met, "{tally:?}");
        assert!(response * 3 > tally.met && carry_in == 0, "{tally:?}");
    }
}

#[test]
fn late_deadlines_are_never_certified_wrongly_by_density() {
    let mut tally = Tally::default();
    for_seeds("late_deadlines", 200, |rng| {
        let tasks = draw(rng, true);
        check(&tasks, usize::from(rng.range(1, 3)), Order::Deadline, &mut tally);
    });
    if counts_are_standard() {
        assert!(tally.sets > 60 && tally.certified[1] > 10, "{tally:?}");
    }
}

/// An oracle that never sees a miss would let every test pass.
#[test]
fn schedules_show_the_miss_that_a_server_too_few_makes() {
    let task = |cost, period, deadline, priority| Sporadic { cost, period, deadline, jitter: 0, priority };
    let tasks = [task(2, 4, 2, 0), task(2, 4, 2, 1), task(3, 8, 7, 2)];
    let follow = |servers| World { tasks: &tasks, servers, order: Order::Priority }.follow();
    // The last task can be in the way of either of the others, unless there is a server for each.
    assert_eq!((follow(1), follow(2), follow(3)), (Seen::Missed, Seen::Missed, Seen::Met(vec![2, 2, 3])));
}

#[test]
fn a_test_never_certifies_with_fewer_servers_only() {
    for_seeds("fewer_servers", 2_000, |rng| {
        let tasks = draw(rng, true);
        for order in [Order::Priority, Order::Deadline] {
            for test in [SharedTest::Response, SharedTest::OwnBlocking, SharedTest::CommonBlocking] {
                let outcomes: Vec<_> =
                    (1..5).map(|servers| test.run(&queue(&tasks, servers, order))).collect();
                let first = outcomes.iter().position(|&outcome| outcome == Outcome::Certified);
                let after = &outcomes[first.unwrap_or(outcomes.len())..];
                assert!(after.iter().all(|&outcome| outcome == Outcome::Certified), "{test} {tasks:?}");
            }
        }
    });
}
