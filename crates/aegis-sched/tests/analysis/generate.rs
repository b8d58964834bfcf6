//! Random lanes from a seed.

use aegis_sched::PolicyClass;
use aegis_sched::analysis::{Blocking, LaneProblem, LaneTask};
use aegis_types::{LaneId, Nanos, TaskId};

/// A generator of its own, so that a seed means the same set on every machine and version.
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xD1B5_4A32_D192_ED03)
    }

    /// A number from `low` to `high`, both included.
    pub fn range(&mut self, low: u64, high: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        low + (z ^ (z >> 31)) % (high - low + 1)
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.range(1, n) == 1
    }
}

/// What random lanes look like.
#[derive(Clone, Copy)]
pub struct Shape {
    pub class: PolicyClass,
    pub blocking: Blocking,
    pub tasks: (u64, u64),
    pub period: (u64, u64),
    pub segments: u64,
    /// Largest jitter in multiples of the period; 0 for none.
    pub jitter: u64,
}

impl Shape {
    pub const fn tiny(class: PolicyClass) -> Self {
        Self { class, blocking: Blocking::MinusOne, tasks: (1, 3), period: (3, 12), segments: 1, jitter: 0 }
    }

    pub const fn with_segments(mut self, segments: u64) -> Self {
        self.segments = segments;
        self
    }

    pub const fn with_jitter(mut self, jitter: u64) -> Self {
        self.jitter = jitter;
        self
    }
}

pub fn lane(rng: &mut Rng, shape: Shape) -> LaneProblem {
    let count = rng.range(shape.tasks.0, shape.tasks.1);
    let mut tasks: Vec<LaneTask> = (0..count)
        .map(|index| {
            let period = rng.range(shape.period.0, shape.period.1);
            let mut cost = rng.range(1, (2 * period / (count + 1)).max(1));
            let mut segments = Vec::new();
            for _ in 1..rng.range(1, shape.segments) {
                if cost > 1 {
                    let part = rng.range(1, cost - 1);
                    segments.push(Nanos::new(part));
                    cost -= part;
                }
            }
            segments.push(Nanos::new(cost));
            let deadline = rng.range(period / 2 + 1, period * 2);
            let jitter = if rng.one_in(3) { 0 } else { rng.range(0, shape.jitter * period) };
            LaneTask {
                id: TaskId::new(u16::try_from(index).expect("few tasks")),
                segments,
                period: Nanos::new(period),
                deadline: Nanos::new(deadline),
                jitter: Nanos::new(jitter),
                key: 0,
            }
        })
        .collect();
    for task in &mut tasks {
        task.key = match shape.class {
            PolicyClass::AbsoluteDeadline => task.deadline.get(),
            // Few values, so that equal priorities occur.
            PolicyClass::StaticPriority => rng.range(0, 3),
            PolicyClass::Fair => rng.range(1, 4),
            _ => 0,
        };
    }
    let (class, blocking) = (shape.class, shape.blocking);
    LaneProblem { lane: LaneId::new(0), tasks, class, blocking, overrun: Nanos::ZERO }
}

fn number(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is `{text}`; legal is a whole number")),
        Err(_) => default,
    }
}

/// Runs `check` on `count` seeds (or `AEGIS_SETS`), and names the command that repeats a failure.
pub fn for_seeds(test: &str, count: u64, check: impl Fn(&mut Rng)) {
    let (first, count) = (number("AEGIS_SEED", 1), number("AEGIS_SETS", count));
    for seed in first..first + count {
        let guard = Repeat { test, seed };
        check(&mut Rng::new(seed));
        std::mem::forget(guard);
    }
}

struct Repeat<'a> {
    test: &'a str,
    seed: u64,
}

impl Drop for Repeat<'_> {
    fn drop(&mut self) {
        let Self { test, seed } = self;
        eprintln!(
            "repeat: AEGIS_SEED={seed} AEGIS_SETS=1 cargo test -p aegis-sched --test analysis -- {test}"
        );
    }
}
