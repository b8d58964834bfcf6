//! Periodic tasks with offsets on one core, explored until the states repeat.
//!
//! From the largest offset on, the jobs repeat with every hyperperiod H, N of them each. When every state with k + N
//! dispatched jobs, moved back by N jobs and H of time, lies within a state with k dispatched jobs, then so do all
//! that follow: a state whose interval lies within another's has no schedule that the other lacks. Every response
//! time has then been seen, for any length of the run. Without such a repetition the answer is undecided.

use std::collections::BTreeMap;

use aegis_types::{Nanos, Time};

use super::idle::{Awaiting, Rule};
use super::job::{HORIZON_MAX, JOBS_MAX, Job, JobKey, SagError};
use super::lane::Lane;
use super::level::{SetRef, contains};
use super::report::{Effort, IdleRule, Limit, Limits, OnMiss, SagVerdict};
use super::search::{Halt, Search};
use super::table::{Table, WORD};

/// A task whose jobs arrive at offset + k period, are released up to `jitter` later, and have their deadline from
/// the arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeriodicTask {
    /// Its number, unique; the tie-break between equal priorities.
    pub task: u64,
    /// The first arrival.
    pub offset: Nanos,
    /// From one arrival to the next.
    pub period: Nanos,
    /// From arrival to the latest release.
    pub jitter: Nanos,
    /// The shortest execution.
    pub cost_min: Nanos,
    /// The longest execution.
    pub cost_max: Nanos,
    /// From arrival to deadline.
    pub deadline: Nanos,
    /// The smaller number goes first, under [`JobPolicy::FixedPriority`].
    pub priority: u64,
}

/// Which job goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobPolicy {
    /// By the task's priority.
    FixedPriority,
    /// By the absolute deadline.
    EarliestDeadline,
}

/// Bounds of a task over an unlimited run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskBounds {
    /// Number of the task.
    pub task: u64,
    /// The shortest time from arrival to completion.
    pub response_min: Nanos,
    /// The longest time from arrival to completion.
    pub response_max: Nanos,
}

/// The answer for periodic tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeriodicReport {
    /// Whether every deadline of an unlimited run is met.
    pub verdict: SagVerdict,
    /// Whether the states repeated, so that `tasks` bound an unlimited run.
    pub complete: bool,
    /// Bounds of the tasks, in the order given; nothing for a task without a completed job.
    pub tasks: Vec<Option<TaskBounds>>,
    /// Whole hyperperiods after the largest offset for which jobs were made.
    pub hyperperiods: u64,
    /// What it took.
    pub effort: Effort,
}

/// The jobs of periodic tasks that arrive before an instant, by arrival, task and number; numbers count from one.
///
/// # Errors
/// [`SagError`] if a task has no meaning, an instant is too late, or the jobs are too many.
pub fn jobs_of(tasks: &[PeriodicTask], policy: JobPolicy, before: Time) -> Result<Vec<Job>, SagError> {
    check(tasks)?;
    let count = count(tasks, before);
    if count > JOBS_MAX as u128 {
        return Err(SagError::TooMany { count, max: JOBS_MAX });
    }
    let mut jobs = Vec::new();
    for task in tasks {
        for number in 0..count_of(task, before) {
            jobs.push(job_of(task, policy, number)?);
        }
    }
    jobs.sort_by_key(|job| (job.release_min, job.key));
    Ok(jobs)
}

/// How many jobs of a task with a legal period arrive before an instant.
fn count_of(task: &PeriodicTask, before: Time) -> u64 {
    before.get().saturating_sub(task.offset.get()).div_ceil(task.period.get())
}

fn count(tasks: &[PeriodicTask], before: Time) -> u128 {
    tasks.iter().map(|task| u128::from(count_of(task, before))).sum()
}

fn job_of(task: &PeriodicTask, policy: JobPolicy, number: u64) -> Result<Job, SagError> {
    let arrival = u128::from(task.offset.get()) + u128::from(number) * u128::from(task.period.get());
    let at = |span: Nanos| {
        let sum = arrival + u128::from(span.get());
        match u64::try_from(sum) {
            Ok(instant) if instant <= HORIZON_MAX.get() => Ok(Time::new(instant)),
            _ => Err(SagError::Overflow { sum }),
        }
    };
    let deadline = at(task.deadline)?;
    Ok(Job {
        key: JobKey { task: task.task, job: number + 1 },
        release_min: at(Nanos::ZERO)?,
        release_max: at(task.jitter)?,
        cost_min: task.cost_min,
        cost_max: task.cost_max,
        deadline,
        priority: match policy {
            JobPolicy::FixedPriority => task.priority,
            JobPolicy::EarliestDeadline => deadline.get(),
        },
    })
}

fn check(tasks: &[PeriodicTask]) -> Result<(), SagError> {
    let mut numbers: Vec<u64> = tasks.iter().map(|task| task.task).collect();
    numbers.sort_unstable();
    if let Some(twice) = numbers.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(SagError::Duplicate { job: JobKey { task: twice[0], job: 1 } });
    }
    for task in tasks {
        let bad = |field, value: Nanos, legal: String| {
            Err(SagError::BadTask { task: task.task, field, value: value.get(), legal })
        };
        if task.period.is_zero() {
            return bad("period", task.period, "above zero".to_owned());
        }
        if task.cost_max < task.cost_min {
            let legal = format!("at least the shortest cost, {}", task.cost_min.get());
            return bad("longest cost", task.cost_max, legal);
        }
    }
    Ok(())
}

/// Explores periodic tasks on one core for an unlimited run.
///
/// # Errors
/// [`SagError`] if a task has no meaning or one hyperperiod cannot be represented.
pub fn explore_periodic(
    tasks: &[PeriodicTask],
    policy: JobPolicy,
    limits: Limits,
    keep_going: &mut dyn FnMut() -> bool,
) -> Result<PeriodicReport, SagError> {
    explore_stream(tasks, policy, None, limits, keep_going).map(|(report, _)| report)
}

/// What was explored, level by level, where it was written down and the states repeated.
#[derive(Debug)]
pub(super) struct Written {
    /// States by the number of jobs dispatched.
    pub(super) levels: Vec<Vec<Kept>>,
    /// The level that the last one repeats.
    pub(super) level: usize,
    /// The end of the jobs that were made.
    pub(super) before: Time,
    /// How many they are.
    pub(super) jobs: usize,
}

/// Explores periodic tasks; with a rule that inserts idle time, jobs are awaited until they are released, and what was
/// explored is written down.
pub(super) fn explore_stream(
    tasks: &[PeriodicTask],
    policy: JobPolicy,
    rule: Option<IdleRule>,
    limits: Limits,
    keep_going: &mut dyn FnMut() -> bool,
) -> Result<(PeriodicReport, Option<Written>), SagError> {
    let jobs_max = usize::try_from(limits.bytes.get() / JOB_BYTES).unwrap_or(JOBS_MAX).min(JOBS_MAX);
    let Some(mut stream) = Stream::new(tasks, policy, jobs_max)? else {
        let verdict = SagVerdict::Undecided { limit: Limit::Memory };
        let (tasks, effort) = (vec![None; tasks.len()], Effort::default());
        return Ok((PeriodicReport { verdict, complete: false, tasks, hyperperiods: 0, effort }, None));
    };
    stream.inserts = rule.map(|rule| Inserts { rule, levels: Vec::new(), room: limits.bytes.get() });
    let table = Table::new(&stream.jobs, &[]);
    let mut search = Search::new(table, limits, OnMiss::Stop, keep_going);
    let end = if stream.jobs.is_empty() { Ok(End::Repeated) } else { stream.follow(&mut search) };
    let halt = match end {
        Ok(End::Repeated) => None,
        Ok(End::Unrepresentable) => Some(Halt::Limit(Limit::Memory)),
        Err(halt) => Some(halt),
    };
    let verdict = search.verdict(halt, &stream.jobs);
    let tasks = stream.bounds(&search);
    let (hyperperiods, effort) = (stream.hyperperiods, search.effort);
    let report = PeriodicReport { verdict, complete: halt.is_none(), tasks, hyperperiods, effort };
    let (before, jobs, cycle) = (stream.made(), stream.jobs.len(), stream.cycle);
    let written = stream.inserts.filter(|_| report.complete && jobs > 0).and_then(|inserts| {
        let level = (inserts.levels.len().checked_sub(1)?).checked_sub(cycle)?;
        Some(Written { levels: inserts.levels, level, before: Time::new(before), jobs })
    });
    Ok((report, written))
}

/// How following the stream ends, if no limit is in the way.
enum End {
    Repeated,
    /// More jobs or time than are represented.
    Unrepresentable,
}

/// A state: the first missing job, the dispatched ones after it, and the interval in which the core becomes free.
pub(super) type Kept = (Vec<usize>, (u64, u64));

/// A rule that inserts idle time, and the states explored under it.
struct Inserts {
    rule: IdleRule,
    levels: Vec<Vec<Kept>>,
    /// Bytes that they may still take.
    room: u64,
}

/// The most states of a level that are kept for the comparison a hyperperiod later.
const KEPT_MAX: usize = 1 << 16;

/// Bytes that a job takes in the list of jobs and in the table, about.
const JOB_BYTES: u64 = 256;

/// Jobs made as far as they are needed.
struct Stream<'a> {
    tasks: &'a [PeriodicTask],
    policy: JobPolicy,
    hyperperiod: u64,
    offset_max: u64,
    jitter_max: u64,
    hyperperiods: u64,
    /// The most jobs that are made.
    jobs_max: usize,
    jobs: Vec<Job>,
    /// Jobs before the largest offset.
    prefix: usize,
    /// Jobs of one hyperperiod.
    cycle: usize,
    /// How long any task goes without a release at most.
    quiet_max: u64,
    /// Where the core stays free although a job is ready.
    inserts: Option<Inserts>,
}

impl<'a> Stream<'a> {
    /// Makes the jobs of one hyperperiod; nothing if those are more than `jobs_max`.
    fn new(tasks: &'a [PeriodicTask], policy: JobPolicy, jobs_max: usize) -> Result<Option<Self>, SagError> {
        check(tasks)?;
        let max = |of: fn(&PeriodicTask) -> Nanos| tasks.iter().map(|task| of(task).get()).max().unwrap_or(0);
        let (offset_max, jitter_max) = (max(|task| task.offset), max(|task| task.jitter));
        let mut hyperperiod = 1u64;
        for task in tasks {
            hyperperiod = lcm(hyperperiod, task.period.get())?;
        }
        let reach = u128::from(offset_max) + u128::from(hyperperiod);
        if reach > u128::from(HORIZON_MAX.get()) {
            return Err(SagError::Overflow { sum: reach });
        }
        let end = Time::new(offset_max + hyperperiod);
        let count = count(tasks, end);
        if count > jobs_max as u128 && count <= JOBS_MAX as u128 {
            return Ok(None);
        }
        let jobs = jobs_of(tasks, policy, end)?;
        let early = |job: &&Job| job.release_min < Time::new(offset_max);
        let prefix = jobs.iter().take_while(early).count();
        let cycle = jobs.len() - prefix;
        let hyperperiods = 1;
        let quiet_max = max(|task| task.period.saturating_add(task.jitter));
        let sum = extent(&jobs, reach + u128::from(jitter_max));
        if sum > u128::from(HORIZON_MAX.get()) {
            return Err(SagError::Overflow { sum });
        }
        Ok(Some(Self {
            tasks,
            policy,
            hyperperiod,
            offset_max,
            jitter_max,
            hyperperiods,
            jobs_max,
            jobs,
            prefix,
            cycle,
            quiet_max,
            inserts: None,
        }))
    }

    /// Makes jobs of more hyperperiods; `false` if not even those of one more are representable. All jobs are made
    /// anew, so that the more there are the more are added.
    fn extend(&mut self, search: &mut Search<'_>) -> bool {
        // Near the end of what is representable half as many are made each time, not one hyperperiod after the other.
        let mut more = 1 + self.hyperperiods / 8;
        while !self.extend_by(search, more) {
            more /= 2;
            if more == 0 {
                return false;
            }
        }
        true
    }

    fn extend_by(&mut self, search: &mut Search<'_>, more: u64) -> bool {
        let span = self.hyperperiod.checked_mul(self.hyperperiods + more);
        let Some(end) = span.and_then(|span| span.checked_add(self.offset_max)) else { return false };
        if count(self.tasks, Time::new(end)) > self.jobs_max as u128 {
            return false;
        }
        let Ok(jobs) = jobs_of(self.tasks, self.policy, Time::new(end)) else { return false };
        if extent(&jobs, u128::from(end) + u128::from(self.jitter_max)) > u128::from(HORIZON_MAX.get()) {
            return false;
        }
        self.hyperperiods += more;
        self.jobs = jobs;
        search.extend(Table::new(&self.jobs, &[]));
        true
    }

    /// Explores level by level until the states repeat.
    fn follow(&mut self, search: &mut Search<'_>) -> Result<End, Halt> {
        let mut lane = Lane::new(self.idle(search), None)?;
        let mut dispatched = 0usize;
        let mut seen: Option<(usize, Vec<Kept>)> = None;
        loop {
            if !self.reach(&mut lane, search)? {
                return Ok(End::Unrepresentable);
            }
            self.write(&lane, search)?;
            if seen.as_ref().is_none_or(|&(level, _)| dispatched == level + self.cycle) {
                let states = self.states(&lane, search);
                if let (Some((_, before)), Some(states)) = (&seen, &states)
                    && self.repeats(states, before)
                {
                    return Ok(End::Repeated);
                }
                seen = states.map(|states| (dispatched, states));
            }
            lane.step(search)?;
            dispatched += 1;
        }
    }

    /// The rule by which the core stays free, for the jobs that are made.
    fn idle(&self, search: &Search<'_>) -> Option<Rule> {
        let inserts = self.inserts.as_ref()?;
        Some(Rule::new(inserts.rule, Awaiting::Release, &self.jobs, &search.table))
    }

    /// Writes a level down, where a rule has to be replayed.
    fn write(&mut self, lane: &Lane, search: &Search<'_>) -> Result<(), Halt> {
        let Some(inserts) = &mut self.inserts else { return Ok(()) };
        let mut level = Vec::new();
        for (missing, set, free) in lane.states() {
            let end = (set.base + set.words.len()) * WORD;
            let ahead = (missing..end).filter(|&position| contains(set.base, set.words, position));
            let jobs: Vec<usize> = std::iter::once(missing).chain(ahead).collect();
            let size = (jobs.len() * size_of::<usize>() + size_of::<Kept>()) as u64;
            let release = search.table.windows[missing].release_min;
            let free = (free.0.max(release), free.1.max(release));
            inserts.room = inserts.room.checked_sub(size).ok_or(Halt::Limit(Limit::Memory))?;
            level.push((jobs, free));
        }
        inserts.levels.push(level);
        Ok(())
    }

    /// The end of the jobs that are made.
    fn made(&self) -> u64 {
        self.offset_max + self.hyperperiods * self.hyperperiod
    }

    /// Makes jobs until no state can look past the last one; `false` if they are not representable.
    ///
    /// Under a rule that inserts idle time nothing may start for long, but once the first missing job is late the
    /// exploration has failed, whatever comes then. Until then the next job of every task is needed.
    fn reach(&mut self, lane: &mut Lane, search: &mut Search<'_>) -> Result<bool, Halt> {
        loop {
            let (made, inserts) = (self.made(), self.inserts.is_some());
            // The first missing job has no predecessors: by its latest release, or when the core is free, something
            // starts, and jobs released later are not looked at.
            let looks_past = |(missing, _, free): (usize, SetRef<'_>, (u64, u64))| {
                let Some(cost) = search.table.costs.get(missing) else { return true };
                let instant = search.table.windows[missing].release_max.max(free.1);
                let look =
                    if inserts { instant.max(cost.deadline).saturating_add(self.quiet_max) } else { instant };
                look >= made
            };
            if !lane.states().any(looks_past) {
                return Ok(true);
            }
            search.ask()?;
            if !self.extend(search) {
                return Ok(false);
            }
            if let Some(rule) = self.idle(search) {
                lane.follow(rule);
            }
        }
    }

    /// The states of a level, sorted; nothing while jobs before the largest offset are missing, or where the level is
    /// too wide to be kept.
    fn states(&self, lane: &Lane, search: &Search<'_>) -> Option<Vec<Kept>> {
        let mut kept = Vec::new();
        for (missing, set, free) in lane.states() {
            if missing < self.prefix || kept.len() >= KEPT_MAX {
                return None;
            }
            let end = (set.base + set.words.len()) * WORD;
            let ahead = (missing..end).filter(|&position| contains(set.base, set.words, position));
            let release = search.table.windows[missing].release_min;
            let jobs = std::iter::once(missing).chain(ahead).collect();
            kept.push((jobs, (free.0.max(release), free.1.max(release))));
        }
        kept.sort_unstable();
        Some(kept)
    }

    /// Whether every state, moved back by a hyperperiod, lies within one of those before.
    fn repeats(&self, states: &[Kept], before: &[Kept]) -> bool {
        states.iter().all(|(jobs, free)| {
            if jobs[0] < self.prefix + self.cycle {
                return false;
            }
            let jobs: Vec<usize> = jobs.iter().map(|position| position - self.cycle).collect();
            let free = (free.0 - self.hyperperiod, free.1 - self.hyperperiod);
            let same = before.partition_point(|(other, _)| *other < jobs);
            let mut same = before[same..].iter().take_while(|(other, _)| *other == jobs);
            same.any(|(_, other)| other.0 <= free.0 && free.1 <= other.1)
        })
    }

    fn bounds(&self, search: &Search<'_>) -> Vec<Option<TaskBounds>> {
        let mut bounds: Vec<Option<TaskBounds>> = vec![None; self.tasks.len()];
        let place: BTreeMap<u64, usize> =
            self.tasks.iter().enumerate().map(|(place, task)| (task.task, place)).collect();
        for (position, &[min, max]) in search.bounds.iter().enumerate().filter(|(_, [min, max])| min <= max) {
            let job = &self.jobs[search.table.origin[position]];
            let arrival = job.release_min.get();
            let (min, max) = (Nanos::new(min - arrival), Nanos::new(max - arrival));
            let bounds = &mut bounds[place[&job.key.task]];
            let known =
                bounds.get_or_insert(TaskBounds { task: job.key.task, response_min: min, response_max: max });
            known.response_min = known.response_min.min(min);
            known.response_max = known.response_max.max(max);
        }
        bounds
    }
}

/// No schedule of the jobs ends later.
fn extent(jobs: &[Job], last: u128) -> u128 {
    last + jobs.iter().map(|job| u128::from(job.cost_max.get())).sum::<u128>()
}

/// The least common multiple of two numbers above zero.
fn lcm(a: u64, b: u64) -> Result<u64, SagError> {
    let (mut x, mut y) = (a, b);
    while y != 0 {
        (x, y) = (y, x % y);
    }
    let sum = u128::from(a / x) * u128::from(b);
    u64::try_from(sum).map_err(|_| SagError::Overflow { sum })
}
