//! A schedule in which a refused lane misses a deadline: concrete arrivals, releases and durations.
//!
//! What is built is a *legal* run of the lane: arrivals of a task are at least its period apart, every release follows
//! its arrival by at most the jitter, every segment takes its whole occupancy budget C', and ready jobs are ordered as
//! the engine orders them (the class's key, then the task's number). A miss in it is therefore a miss that the contracts
//! allow, whatever the analysis thinks. The patterns that are tried are the critical instants of the analyses: every
//! task at its densest from an instant on, with all of its jitter used up, one tick after the longest segment of another
//! task has started (George, Rivierre, Spuri 1996; Davis, Burns, Bril, Lukkien 2007). In turns, nobody blocks: the task
//! has just had a turn of its own, so that all others come before it.
//!
//! Where none of them misses, the refusal rests on a test that is sufficient and not necessary for this lane, and
//! [`NoWitness`] says why.

use std::collections::VecDeque;

use aegis_types::{Nanos, TaskId, Time};

use crate::analysis::problem::{LaneProblem, LaneTask};
use crate::policy::PolicyClass;

/// Jobs of one pattern: a miss that takes more of them is not shown.
pub const JOBS_MAX: usize = 20_000;

/// Heads of queues looked at in all patterns of a lane together: a lane of thousands of tasks ends the search soon.
const LOOKS_MAX: u64 = 100_000_000;

/// Patterns that are tried: each other task as the one that blocks, and ties won and lost.
const PATTERNS_MAX: usize = 256;

/// One job of a witness. Instants count from the earliest arrival.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WitnessJob {
    /// The task.
    pub task: TaskId,
    /// Its nominal arrival.
    pub arrival: Time,
    /// When it is released: at most the jitter after the arrival.
    pub release: Time,
    /// How long each of its segments occupies the lane.
    pub segments: Vec<Nanos>,
}

/// A job that ends after its deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Miss {
    /// The task.
    pub task: TaskId,
    /// The job's nominal arrival.
    pub arrival: Time,
    /// Its absolute deadline.
    pub deadline: Time,
    /// When its last segment ends.
    pub end: Time,
}

/// A legal run of a lane with a miss.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    /// Every job that is released before the miss ends, by release, ties by task.
    pub jobs: Vec<WitnessJob>,
    /// The task whose segment runs when the others come, if one does.
    pub blocker: Option<TaskId>,
    /// The first miss of the task that is refused, or of any where the lane as a whole is.
    pub miss: Miss,
}

/// Why there is no witness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoWitness {
    /// The order of jobs is the policy's affair, and the bound holds for any order.
    #[error(
        "the policy orders jobs by more than a number of each; the bound holds for every order that it may choose"
    )]
    Free,
    /// The lane stays free while a job is ready, so that no instant is critical.
    #[error(
        "under a policy that inserts idle time no instant is critical; the refusal names the job of the schedule"
    )]
    Inserted,
    /// No pattern of turns misses.
    #[error(
        "no pattern of turns that was tried misses: the bound counts every turn of every other task as full and as one \
         of its longest segments"
    )]
    Turns,
    /// No pattern of critical instants misses.
    #[error(
        "no critical instant that was tried misses: the test is sufficient and not necessary here (blocking counts \
         one tick more than can happen, and ties count as lost)"
    )]
    Sufficient,
    /// A miss needs more jobs than are shown.
    #[error("no miss within {jobs} jobs of a pattern")]
    TooLong {
        /// The limit.
        jobs: usize,
    },
}

/// A run of the lane in which the task at `position` of the problem misses, or any task where it is `None`.
///
/// # Errors
/// [`NoWitness`] where no run is found: the refusal stands, for the reason that it gives.
pub fn witness(problem: &LaneProblem, position: Option<usize>) -> Result<Witness, NoWitness> {
    let mut why = match problem.class {
        PolicyClass::WorkConserving => return Err(NoWitness::Free),
        PolicyClass::Precautious | PolicyClass::CriticalWindow => return Err(NoWitness::Inserted),
        PolicyClass::Fair => NoWitness::Turns,
        _ => NoWitness::Sufficient,
    };
    let mut looks = LOOKS_MAX;
    // A miss of another task is a reason to refuse the lane too, but not the one that was given.
    for target in if position.is_some() { vec![position, None] } else { vec![None] } {
        for pattern in patterns(problem, position) {
            match search(problem, pattern, target, &mut looks) {
                Ok(Some(found)) => return Ok(found),
                Ok(None) => {}
                Err(long) => why = long,
            }
        }
    }
    Err(why)
}

/// The first miss when these jobs run on the lane, of the task of that number or of any.
///
/// The jobs are taken as they are: whether they are legal is for the caller to see.
pub fn replay(problem: &LaneProblem, jobs: &[WitnessJob], task: Option<TaskId>) -> Option<Miss> {
    let position = |id: TaskId| problem.tasks.iter().position(|known| known.id == id);
    let own = |job: &WitnessJob| {
        Some(Job {
            position: position(job.task)?,
            arrival: job.arrival.get().into(),
            release: job.release.get().into(),
            segments: job.segments.clone(),
        })
    };
    let jobs: Vec<Job> = jobs.iter().filter_map(own).collect();
    play(problem, &jobs, task.and_then(position))?.miss(problem, 0)
}

/// Which task blocks, which comes a tick after the others, so that it loses ties of arrival, and which has had a turn of
/// its own before them.
#[derive(Clone, Copy, Default)]
struct Pattern {
    blocker: Option<usize>,
    late: Option<usize>,
    turned: Option<usize>,
}

/// A job with instants of any sign: releases of the pattern begin at zero.
#[derive(Clone)]
struct Job {
    position: usize,
    arrival: i128,
    release: i128,
    segments: Vec<Nanos>,
}

/// The job that ends too late.
#[derive(Clone, Copy)]
struct Ended {
    position: usize,
    arrival: i128,
    end: i128,
}

impl Ended {
    /// `None` where an instant leaves the range of time.
    fn miss(&self, problem: &LaneProblem, base: i128) -> Option<Miss> {
        let task = &problem.tasks[self.position];
        let time = |instant: i128| u64::try_from(instant - base).ok().map(Time::new);
        let deadline = self.arrival + i128::from(task.deadline.get());
        Some(Miss {
            task: task.id,
            arrival: time(self.arrival)?,
            deadline: time(deadline)?,
            end: time(self.end)?,
        })
    }
}

/// Blockers by the length of their longest segment, longest first, then none; in turns, who has had one.
fn patterns(problem: &LaneProblem, position: Option<usize>) -> Vec<Pattern> {
    if problem.class == PolicyClass::Fair {
        let all = position.map_or(0..problem.tasks.len(), |position| position..position + 1);
        let turned = all.map(|turned| Pattern { turned: Some(turned), ..Pattern::default() });
        return turned.chain([Pattern::default()]).take(PATTERNS_MAX).collect();
    }
    let blocks = |other: &usize| match (problem.class, position) {
        (PolicyClass::ArrivalOrder, _) => false,
        (_, Some(position)) if *other == position => false,
        (PolicyClass::StaticPriority, Some(position)) => {
            problem.tasks[*other].key > problem.tasks[position].key
        }
        _ => true,
    };
    let mut blockers: Vec<usize> = (0..problem.tasks.len()).filter(blocks).collect();
    blockers.sort_by_key(|&other| (std::cmp::Reverse(longest(&problem.tasks[other])), other));
    let choices = blockers.into_iter().map(Some).chain([None]);
    let with_ties = |blocker| {
        let alone = Pattern { blocker, ..Pattern::default() };
        let lost = position.map(|position| Pattern { late: Some(position), ..alone });
        [Some(alone), lost].into_iter().flatten()
    };
    choices.flat_map(with_ties).take(PATTERNS_MAX).collect()
}

fn longest(task: &LaneTask) -> Nanos {
    task.segments.iter().copied().max().unwrap_or(Nanos::ZERO)
}

/// Runs a pattern over growing spans of time until it misses or the lane idles.
fn search(
    problem: &LaneProblem,
    pattern: Pattern,
    target: Option<usize>,
    looks: &mut u64,
) -> Result<Option<Witness>, NoWitness> {
    let spans = problem.tasks.iter().map(|task| i128::from(task.deadline.max(task.period).get()));
    let mut end = 2 * spans.max().unwrap_or(1);
    loop {
        let long = || NoWitness::TooLong { jobs: JOBS_MAX };
        let jobs = released(problem, pattern, end).ok_or_else(long)?;
        let segments: usize = jobs.iter().map(|job| job.segments.len()).sum();
        *looks = looks.checked_sub((segments * problem.tasks.len()) as u64).ok_or_else(long)?;
        if let Some(ended) = play(problem, &jobs, target) {
            return Ok(shown(problem, pattern, &jobs, &ended));
        }
        // Beyond the end of all released work lies nothing that the critical instant reaches.
        if completed(&jobs) <= end {
            return Ok(None);
        }
        end = end.saturating_mul(2);
    }
}

/// When the lane first has nothing to do after the critical instant.
fn completed(jobs: &[Job]) -> i128 {
    let mut now = i128::MIN;
    for job in jobs {
        if now >= 0 && job.release > now {
            return now;
        }
        now = now.max(job.release) + work(&job.segments);
    }
    now
}

fn work(segments: &[Nanos]) -> i128 {
    segments.iter().map(|segment| i128::from(segment.get())).sum()
}

/// The jobs of a pattern that are released up to `end`, by release, ties by task; `None` where they are too many.
fn released(problem: &LaneProblem, pattern: Pattern, end: i128) -> Option<Vec<Job>> {
    let mut jobs = Vec::new();
    for (position, task) in problem.tasks.iter().enumerate() {
        if pattern.blocker == Some(position) {
            // Its longest segment starts a tick before the others come: what runs before it runs before that.
            let index = (0..task.segments.len()).max_by_key(|&index| (task.segments[index], index))?;
            let release = -1 - work(&task.segments[..index]);
            jobs.push(Job { position, arrival: release, release, segments: task.segments.clone() });
            continue;
        }
        let from = i128::from(pattern.late == Some(position));
        let mut arrival = from - i128::from(task.jitter.get());
        if pattern.turned == Some(position) {
            // It arrives a period earlier, is released at once, and leaves nothing pending.
            let release = arrival - i128::from(task.period.get());
            jobs.push(Job { position, arrival: release, release, segments: task.segments.clone() });
        }
        while arrival <= end {
            if jobs.len() >= JOBS_MAX {
                return None;
            }
            let release = arrival.max(from);
            jobs.push(Job { position, arrival, release, segments: task.segments.clone() });
            arrival += i128::from(task.period.get().max(1));
        }
    }
    jobs.sort_by_key(|job| (job.release, job.position));
    Some(jobs)
}

/// Runs the jobs, and returns the first that ends after its deadline: one of `target`'s where it is given.
fn play(problem: &LaneProblem, jobs: &[Job], target: Option<usize>) -> Option<Ended> {
    let mut waiting: Vec<VecDeque<(&Job, usize)>> = vec![VecDeque::new(); problem.tasks.len()];
    let mut coming = jobs.iter().peekable();
    let mut now = coming.peek()?.release;
    // As an engine begins: the first task is next.
    let mut turn = Turn { holder: problem.tasks.len().checked_sub(1)?, left: 0 };
    loop {
        while let Some(job) = coming.next_if(|job| job.release <= now) {
            waiting[job.position].push_back((job, 0));
        }
        let heads =
            waiting.iter().enumerate().filter_map(|(position, queue)| Some((position, queue.front()?)));
        let urgent = heads.min_by_key(|(position, (job, _))| (key(problem, job, turn), *position));
        let Some((position, &(job, segment))) = urgent else {
            now = coming.peek()?.release;
            continue;
        };
        now += i128::from(job.segments.get(segment).map_or(0, |segment| segment.get()));
        turn.take(position, problem.tasks[position].key);
        if segment + 1 < job.segments.len() {
            waiting[position][0].1 += 1;
            continue;
        }
        waiting[position].pop_front();
        // What is released at the very end of a segment is released after it.
        while let Some(job) = coming.next_if(|job| job.release < now) {
            waiting[job.position].push_back((job, 0));
        }
        if waiting[position].is_empty() {
            turn.left = 0;
        }
        let late = now > job.arrival + i128::from(problem.tasks[position].deadline.get());
        if late && target.is_none_or(|target| target == position) {
            return Some(Ended { position, arrival: job.arrival, end: now });
        }
    }
}

/// Whose turn it is, and how many segments are left of it.
#[derive(Clone, Copy)]
struct Turn {
    holder: usize,
    left: u64,
}

impl Turn {
    /// How many tasks on a task is: zero where its turn goes on.
    fn distance(self, position: usize, tasks: usize) -> i128 {
        let ahead = (position + tasks - self.holder - 1) % tasks + 1;
        if position == self.holder && self.left > 0 { 0 } else { ahead as i128 }
    }

    fn take(&mut self, position: usize, weight: u64) {
        if position != self.holder || self.left == 0 {
            *self = Self { holder: position, left: weight };
        }
        self.left = self.left.saturating_sub(1);
    }
}

/// What the engine orders ready jobs by.
fn key(problem: &LaneProblem, job: &Job, turn: Turn) -> i128 {
    let key = i128::from(problem.tasks[job.position].key);
    match problem.class {
        PolicyClass::StaticPriority => key,
        PolicyClass::AbsoluteDeadline => job.arrival + key,
        PolicyClass::ArrivalOrder => job.release,
        PolicyClass::Fair => turn.distance(job.position, problem.tasks.len()),
        PolicyClass::WorkConserving | PolicyClass::Precautious | PolicyClass::CriticalWindow => 0,
    }
}

/// The run as a value: instants from zero, nothing after the miss. `None` where they leave the range of time.
fn shown(problem: &LaneProblem, pattern: Pattern, jobs: &[Job], ended: &Ended) -> Option<Witness> {
    let base = jobs.iter().map(|job| job.arrival).min()?.min(0);
    let time = |instant: i128| u64::try_from(instant - base).ok().map(Time::new);
    let before = jobs.iter().filter(|job| job.release < ended.end);
    let jobs = before.map(|job| {
        let (arrival, release) = (time(job.arrival)?, time(job.release)?);
        Some(WitnessJob {
            task: problem.tasks[job.position].id,
            arrival,
            release,
            segments: job.segments.clone(),
        })
    });
    Some(Witness {
        jobs: jobs.collect::<Option<_>>()?,
        blocker: pattern.blocker.map(|position| problem.tasks[position].id),
        miss: ended.miss(problem, base)?,
    })
}
