//! Random sets of jobs from a seed.

use aegis_sched::sag::{Job, JobKey};
use aegis_types::{Nanos, Time};

/// A generator of its own, so that a seed means the same set on every machine and version.
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5a60_51ed)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    /// From `low` to `high`, both included.
    pub fn range(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low + 1)
    }

    pub fn chance(&mut self, of_ten: u64) -> bool {
        self.range(0, 9) < of_ten
    }
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs `check` on `count` seeds (or `AEGIS_SETS`), and names the command that repeats a failure.
pub fn for_seeds(test: &str, count: u64, mut check: impl FnMut(&mut Rng)) {
    let first = variable("AEGIS_SEED").unwrap_or(1);
    for seed in first..first + variable("AEGIS_SETS").unwrap_or(count) {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(&mut Rng::new(seed))));
        if let Err(panic) = outcome {
            eprintln!("repeat: AEGIS_SEED={seed} AEGIS_SETS=1 cargo test -p aegis-sched --test sag {test}");
            std::panic::resume_unwind(panic);
        }
    }
}

/// Whether the counts of a test are its own, so that it may demand that something was seen often enough.
pub fn counts_are_standard() -> bool {
    variable("AEGIS_SETS").is_none() && variable("AEGIS_SEED").is_none()
}

/// A job from plain numbers: task, release, cost, deadline, priority.
pub fn job(task: u64, release: [u64; 2], cost: [u64; 2], deadline: u64, priority: u64) -> Job {
    Job {
        key: JobKey { task, job: task },
        release_min: Time::new(release[0]),
        release_max: Time::new(release[1]),
        cost_min: Nanos::new(cost[0]),
        cost_max: Nanos::new(cost[1]),
        deadline: Time::new(deadline),
        priority,
    }
}

/// A few jobs close together, with few enough schedules to enumerate.
pub fn tiny(rng: &mut Rng, jobs: u64) -> Vec<Job> {
    let span = rng.range(2, 14);
    (1..=jobs)
        .map(|task| {
            let (release, cost) = (rng.range(0, span), rng.range(1, 6));
            let release_max = release + if rng.chance(6) { rng.range(0, 4) } else { 0 };
            let cost_max = cost + if rng.chance(6) { rng.range(0, 3) } else { 0 };
            let deadline = release + cost_max + rng.range(0, 14);
            job(task, [release, release_max], [cost, cost_max], deadline, rng.range(1, 4))
        })
        .collect()
}
