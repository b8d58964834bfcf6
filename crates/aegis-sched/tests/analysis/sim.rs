//! An obvious simulator of one lane in integer time, and the adversary's releases. Shares nothing with the crate but
//! the problem's numbers.

use aegis_sched::PolicyClass;
use aegis_sched::analysis::{LaneProblem, LaneTask};

/// One job as the adversary wants it.
#[derive(Clone, Debug)]
pub struct Job {
    pub task: usize,
    pub arrival: i64,
    pub release: i64,
    pub segments: Vec<i64>,
}

/// What became of it.
#[derive(Clone, Copy, Debug)]
pub struct Finished {
    pub task: usize,
    pub arrival: i64,
    pub response: i64,
    /// Overrun accumulated since the lane's last idle instant, up to the job's end.
    pub overrun: u64,
}

/// Who wins where the class's key is equal, or everywhere for [`PolicyClass::WorkConserving`].
#[derive(Clone, Copy, Debug)]
pub enum Ties {
    /// This task loses all of them.
    Loses(usize),
    /// As this number says, differently at each decision.
    Mixed(u64),
    /// In turns from the first task on, which end with the last pending job.
    InTurn,
}

pub fn int(value: u64) -> i64 {
    i64::try_from(value).expect("small numbers")
}

pub fn costs(task: &LaneTask) -> Vec<i64> {
    task.segments.iter().map(|segment| int(segment.get())).collect()
}

/// Whose turn it is, by the rule of [`PolicyClass::Fair`].
#[derive(Clone, Copy)]
struct Turn {
    task: usize,
    /// Segments that it may still run in this turn.
    left: u64,
    /// Whether an idle lane forgets the turn.
    forgets: bool,
}

impl Turn {
    /// As `ties` says: it loses to all others, or anyone has any part of a turn.
    fn new(problem: &LaneProblem, ties: Ties) -> Self {
        let tasks = problem.tasks.len();
        let (word, task) = match ties {
            Ties::InTurn => return Self { task: tasks - 1, left: 0, forgets: true },
            Ties::Loses(loser) => (loser as u64, loser),
            Ties::Mixed(salt) => (salt, usize::try_from(salt % tasks as u64).expect("few tasks")),
        };
        let left = match ties {
            Ties::Loses(_) | Ties::InTurn => 0,
            Ties::Mixed(_) => word / 7 % (problem.tasks[task].key + 1),
        };
        Self { task, left, forgets: word % 2 == 0 }
    }

    /// The task to run: that whose turn it is, or the next one that has a ready job.
    fn pick(&mut self, problem: &LaneProblem, ready: &[(usize, &Job)]) -> Option<usize> {
        let count = problem.tasks.len();
        let has = |task: usize| ready.iter().any(|(other, _)| *other == task);
        if self.left > 0 && has(self.task) {
            return Some(self.task);
        }
        let next = (1..=count).map(|step| (self.task + step) % count).find(|&task| has(task));
        match next {
            Some(task) => (self.task, self.left) = (task, problem.tasks[task].key),
            None if self.forgets => self.left = 0,
            None => {}
        }
        next
    }
}

/// Runs the jobs; those of one task are given in order. A job with fewer segments than its task is one that failed.
pub fn run(problem: &LaneProblem, jobs: &[Job], ties: Ties) -> Vec<Finished> {
    let tasks = problem.tasks.len();
    let queues: Vec<Vec<&Job>> =
        (0..tasks).map(|task| jobs.iter().filter(|job| job.task == task).collect()).collect();
    let (mut heads, mut segments) = (vec![0usize; tasks], vec![0usize; tasks]);
    let (mut finished, mut overrun, mut decisions) = (Vec::new(), 0u64, 0u64);
    let mut turn = Turn::new(problem, ties);
    let mut now = i64::MIN;
    loop {
        let head = |task: usize, heads: &[usize]| queues[task].get(heads[task]).copied();
        let ready = (0..tasks).filter_map(|task| head(task, &heads).map(|job| (task, job)));
        let ready: Vec<_> = ready.filter(|(_, job)| job.release <= now).collect();
        decisions += 1;
        let urgent = ready.iter().min_by_key(|(task, job)| {
            let tie = match ties {
                Ties::Loses(loser) => u64::from(*task == loser),
                Ties::InTurn => *task as u64,
                Ties::Mixed(salt) => {
                    (salt ^ decisions).wrapping_mul(0x9E37_79B9 + 2 * *task as u64) >> 7 & 0xFFFF
                }
            };
            (key(problem, job), tie)
        });
        let best = match problem.class {
            PolicyClass::Fair => {
                turn.pick(problem, &ready).and_then(|task| ready.iter().find(|(other, _)| *other == task))
            }
            _ => urgent,
        };
        let Some(&(task, job)) = best else {
            overrun = 0;
            let next = (0..tasks).filter_map(|task| head(task, &heads)).map(|job| job.release).min();
            match next {
                Some(release) => now = release,
                None => return finished,
            }
            continue;
        };
        let length = job.segments[segments[task]];
        let budget = int(problem.tasks[task].segments[segments[task]].get());
        overrun += u64::try_from(length - budget).unwrap_or(0);
        now += length;
        segments[task] += 1;
        turn.left = turn.left.saturating_sub(1);
        if segments[task] == job.segments.len() {
            let left_out = problem.tasks[task].segments.len() - job.segments.len();
            turn.left = turn.left.saturating_sub(left_out as u64);
            segments[task] = 0;
            heads[task] += 1;
            // A release at this very instant comes after the end.
            let pending = head(task, &heads).is_some_and(|job| job.release < now);
            if matches!(ties, Ties::InTurn) && !pending {
                turn.left = 0;
            }
            finished.push(Finished { task, arrival: job.arrival, response: now - job.arrival, overrun });
        }
    }
}

fn key(problem: &LaneProblem, job: &Job) -> i64 {
    let task = &problem.tasks[job.task];
    match problem.class {
        PolicyClass::StaticPriority => int(task.key),
        PolicyClass::AbsoluteDeadline => job.arrival + int(task.key),
        PolicyClass::ArrivalOrder => job.release,
        _ => 0,
    }
}

/// Jobs of `task` as dense as its contract allows: nominal arrivals from `first` on, each released as early as
/// possible but not before `from`, up to `end`.
pub fn dense(problem: &LaneProblem, task: usize, first: i64, from: i64, end: i64, jobs: &mut Vec<Job>) {
    let contract = &problem.tasks[task];
    let segments = costs(contract);
    let mut arrival = first;
    while arrival <= end {
        jobs.push(Job { task, arrival, release: arrival.max(from), segments: segments.clone() });
        arrival += int(contract.period.get());
    }
}

/// The critical instant for `task`: the longest segment of `blocker`, if any, starts at 0, all other jobs are
/// released from `from` on with their jitter used up; the jobs of `task` are aligned so that one arrives at `arrival`.
pub fn critical(
    problem: &LaneProblem,
    task: usize,
    blocker: Option<usize>,
    arrival: i64,
    end: i64,
) -> Vec<Job> {
    let from = i64::from(blocker.is_some());
    let mut jobs = Vec::new();
    if let Some(blocker) = blocker {
        let segments = costs(&problem.tasks[blocker]);
        let longest = (0..segments.len()).max_by_key(|&index| segments[index]).expect("a segment");
        let release = -segments[..longest].iter().sum::<i64>();
        jobs.push(Job { task: blocker, arrival: release, release, segments });
    }
    for (other, contract) in problem.tasks.iter().enumerate() {
        let (period, jitter) = (int(contract.period.get()), int(contract.jitter.get()));
        if other == task {
            let aligned = from + arrival;
            let first = aligned - (aligned - (from - jitter)).div_euclid(period) * period;
            dense(problem, other, first, from, end, &mut jobs);
        } else if Some(other) != blocker {
            dense(problem, other, from - jitter, from, end, &mut jobs);
        }
    }
    jobs
}
