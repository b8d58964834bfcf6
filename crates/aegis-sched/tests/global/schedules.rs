//! The oracle: every arrival, release and execution time of sporadic tasks under one queue, tick by tick.

use std::collections::BTreeSet;

/// A task in whole ticks.
#[derive(Clone, Copy, Debug)]
pub struct Sporadic {
    pub cost: u8,
    pub period: u8,
    pub deadline: u8,
    pub jitter: u8,
    /// The smaller goes first, under fixed priorities.
    pub priority: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Priority,
    Deadline,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Arrived,
    Ready,
    /// For so many ticks.
    Running(u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Active {
    task: u8,
    /// Ticks since the arrival.
    age: u8,
    phase: Phase,
}

/// Ticks since the last arrival of each task, as far as they matter, and the jobs that are not complete.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct State {
    since: Vec<u8>,
    jobs: Vec<Active>,
}

/// What all schedules together show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Every deadline is met; the longest response of each task.
    Met(Vec<u8>),
    /// Some schedule misses a deadline.
    Missed,
    /// More states than are looked at.
    TooMany,
}

pub struct World<'a> {
    pub tasks: &'a [Sporadic],
    pub servers: usize,
    pub order: Order,
}

const STATES_MAX: usize = 60_000;

impl World<'_> {
    /// Follows every schedule.
    pub fn follow(&self) -> Seen {
        let first = State { since: self.tasks.iter().map(|task| task.period).collect(), jobs: Vec::new() };
        let mut known = BTreeSet::from([first.clone()]);
        let mut open = vec![first];
        let mut longest = vec![0; self.tasks.len()];
        while let Some(state) = open.pop() {
            for next in self.instant(state) {
                let Some(next) = self.tick(next, &mut longest) else { return Seen::Missed };
                for next in next {
                    if known.insert(next.clone()) {
                        open.push(next);
                    }
                }
            }
            if known.len() > STATES_MAX {
                return Seen::TooMany;
            }
        }
        Seen::Met(longest)
    }

    /// Everything that may arrive and be released at this instant, and then the starts.
    fn instant(&self, state: State) -> Vec<State> {
        let mut states = vec![state];
        for (number, task) in (0u8..).zip(self.tasks) {
            let mut more = Vec::new();
            for state in &states {
                if state.since[usize::from(number)] >= task.period {
                    let mut arrived = state.clone();
                    arrived.since[usize::from(number)] = 0;
                    arrived.jobs.push(Active { task: number, age: 0, phase: Phase::Arrived });
                    more.push(arrived);
                }
            }
            states.append(&mut more);
        }
        let mut released = Vec::new();
        for state in states {
            let waiting: Vec<usize> =
                (0..state.jobs.len()).filter(|&job| state.jobs[job].phase == Phase::Arrived).collect();
            for chosen in 0u32..1 << waiting.len() {
                let must = |job: &Active| job.age >= self.tasks[usize::from(job.task)].jitter;
                let take = |bit: usize| chosen >> bit & 1 == 1;
                if waiting.iter().enumerate().any(|(bit, &job)| must(&state.jobs[job]) && !take(bit)) {
                    continue;
                }
                let mut state = state.clone();
                for (bit, &job) in waiting.iter().enumerate() {
                    if take(bit) {
                        state.jobs[job].phase = Phase::Ready;
                    }
                }
                self.start(&mut state);
                released.push(state);
            }
        }
        released
    }

    fn start(&self, state: &mut State) {
        loop {
            let running = state.jobs.iter().filter(|job| matches!(job.phase, Phase::Running(_))).count();
            let rank = |job: &Active| {
                let task = &self.tasks[usize::from(job.task)];
                let urgency = match self.order {
                    Order::Priority => i16::from(task.priority),
                    Order::Deadline => i16::from(task.deadline) - i16::from(job.age),
                };
                (urgency, job.task, std::cmp::Reverse(job.age))
            };
            let ready = state.jobs.iter_mut().filter(|job| job.phase == Phase::Ready);
            match ready.min_by_key(|job| rank(job)) {
                Some(job) if running < self.servers => job.phase = Phase::Running(0),
                _ => return,
            }
        }
    }

    /// One tick passes; running jobs may complete at its end, and at their longest execution must. `None` if a job is
    /// late.
    fn tick(&self, mut state: State, longest: &mut [u8]) -> Option<Vec<State>> {
        for (since, task) in state.since.iter_mut().zip(self.tasks) {
            *since = (*since + 1).min(task.period);
        }
        for job in &mut state.jobs {
            job.age += 1;
            if let Phase::Running(ticks) = &mut job.phase {
                *ticks += 1;
            }
        }
        let mut states = vec![State { since: state.since, jobs: Vec::new() }];
        for job in state.jobs {
            let task = &self.tasks[usize::from(job.task)];
            let mut gone = Vec::new();
            let mut must = false;
            if let Phase::Running(ticks) = job.phase {
                let response = &mut longest[usize::from(job.task)];
                *response = (*response).max(job.age);
                must = ticks == task.cost;
                gone = states.clone();
            }
            if !must {
                if job.age >= task.deadline {
                    return None;
                }
                states.iter_mut().for_each(|state| state.jobs.push(job));
                states.append(&mut gone);
            }
        }
        for state in &mut states {
            state.jobs.sort_unstable();
        }
        Some(states)
    }
}
