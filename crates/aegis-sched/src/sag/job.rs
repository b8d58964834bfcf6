//! Jobs with intervals for release and cost, what may follow what, and why a set of them is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use aegis_types::{Nanos, Severity, Time};

use super::abort::{self, Abort, Ending};

/// The latest instant that a schedule may reach: two more bits than any sum of two such instants needs.
pub const HORIZON_MAX: Time = Time::new(1 << 62);

/// The most jobs of one set: an index and a count of words fit 32 bits with room to spare.
pub const JOBS_MAX: usize = 1 << 24;

/// Which job of which task, by the numbers that the input gives them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobKey {
    /// Number of the task.
    pub task: u64,
    /// Number of the job.
    pub job: u64,
}

impl fmt::Display for JobKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "task {} job {}", self.task, self.job)
    }
}

/// A job of a concrete set: it is released once, runs once without preemption, and has an absolute deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    /// Its numbers; unique in a set, and the tie-break between equal priorities.
    pub key: JobKey,
    /// The earliest release.
    pub release_min: Time,
    /// The latest release.
    pub release_max: Time,
    /// The shortest execution.
    pub cost_min: Nanos,
    /// The longest execution.
    pub cost_max: Nanos,
    /// The absolute deadline.
    pub deadline: Time,
    /// The smaller number goes first.
    pub priority: u64,
}

/// A job that starts only after another one has completed, and a delay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edge {
    /// What completes first.
    pub from: JobKey,
    /// What waits for it.
    pub to: JobKey,
    /// The shortest delay between the two.
    pub delay_min: Nanos,
    /// The longest delay between the two.
    pub delay_max: Nanos,
}

/// An [`Edge`] by positions in the set.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) delay_min: u64,
    pub(super) delay_max: u64,
}

/// Why jobs are no set that can be explored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SagError {
    /// A field of a job has a value without meaning.
    #[error("{job}: {field} is {value}; legal is {legal}")]
    BadJob {
        /// The job.
        job: JobKey,
        /// The field.
        field: &'static str,
        /// Its value.
        value: u64,
        /// What would be legal.
        legal: String,
    },
    /// Two jobs have the same numbers.
    #[error("{job} is given twice; task and job number together are unique")]
    Duplicate {
        /// The numbers.
        job: JobKey,
    },
    /// An edge that means nothing.
    #[error("edge from {from} to {to}: {reason}")]
    BadEdge {
        /// Where it starts.
        from: JobKey,
        /// Where it ends.
        to: JobKey,
        /// What is wrong, and what would be legal.
        reason: String,
    },
    /// Jobs that wait for each other.
    #[error("{job} waits, through its predecessors, for itself; legal are edges without a cycle")]
    Cycle {
        /// One job of the cycle.
        job: JobKey,
    },
    /// An abort that means nothing.
    #[error("abort of {job}: {reason}")]
    BadAbort {
        /// Of which job.
        job: JobKey,
        /// What is wrong, and what would be legal.
        reason: String,
    },
    /// A schedule could pass the end of representable time.
    #[error("the last release and all costs together reach {sum}; legal is at most {}", HORIZON_MAX.get())]
    Overflow {
        /// The latest release plus every cost and delay.
        sum: u128,
    },
    /// More jobs than are represented.
    #[error("{count} jobs; at most {max}")]
    TooMany {
        /// How many there are.
        count: u128,
        /// The limit.
        max: usize,
    },
    /// A periodic task with a field without meaning.
    #[error("task {task}: {field} is {value}; legal is {legal}")]
    BadTask {
        /// Number of the task.
        task: u64,
        /// The field.
        field: &'static str,
        /// Its value.
        value: u64,
        /// What would be legal.
        legal: String,
    },
    /// A line of a file that is not what the format wants.
    #[error("line {line}, column {column}: `{value}`; legal is {legal}")]
    Csv {
        /// The line, from one.
        line: usize,
        /// The field of the line, from one.
        column: usize,
        /// What stands there.
        value: String,
        /// What would be legal.
        legal: &'static str,
    },
    /// Things that are legal alone and not together.
    #[error("{what}; legal is {legal}")]
    Unsupported {
        /// What was asked.
        what: String,
        /// What would be legal.
        legal: &'static str,
    },
}

impl SagError {
    /// Input that is wrong stays wrong.
    pub const fn severity(&self) -> Severity {
        Severity::Permanent
    }
}

/// Jobs that were checked: unique, in range, with edges that name jobs and form no cycle.
#[derive(Clone, Debug)]
pub struct JobSet {
    jobs: Vec<Job>,
    links: Vec<Link>,
    /// By position.
    endings: BTreeMap<usize, Ending>,
}

impl JobSet {
    /// Checks jobs and edges. The order of the jobs is kept.
    ///
    /// # Errors
    /// [`SagError`] for the first thing that is wrong.
    pub fn new(jobs: Vec<Job>, edges: &[Edge]) -> Result<Self, SagError> {
        if jobs.len() > JOBS_MAX {
            return Err(SagError::TooMany { count: jobs.len() as u128, max: JOBS_MAX });
        }
        jobs.iter().try_for_each(check_job)?;
        let mut places = BTreeMap::new();
        for (place, job) in jobs.iter().enumerate() {
            if places.insert(job.key, place).is_some() {
                return Err(SagError::Duplicate { job: job.key });
            }
        }
        let links = edges.iter().map(|edge| link(edge, &places)).collect::<Result<Vec<_>, _>>()?;
        check_twice(edges)?;
        check_range(&jobs, &links)?;
        check_cycles(&jobs, &links)?;
        Ok(Self { jobs, links, endings: BTreeMap::new() })
    }

    /// The same jobs, some of which are ended from outside; any that were before no longer are.
    ///
    /// # Errors
    /// [`SagError::BadAbort`] for the first abort that is wrong.
    pub fn with_aborts(mut self, aborts: &[Abort]) -> Result<Self, SagError> {
        let places = self.jobs.iter().enumerate().map(|(place, job)| (job.key, place)).collect();
        self.endings = abort::endings(aborts, &places)?;
        Ok(self)
    }

    /// The jobs, in the order given.
    pub fn jobs(&self) -> &[Job] {
        &self.jobs
    }

    /// The edges, each as the positions of its two jobs and the longest delay between them.
    pub fn edges(&self) -> impl Iterator<Item = (usize, usize, Nanos)> {
        self.links.iter().map(|link| (link.from, link.to, Nanos::new(link.delay_max)))
    }

    /// The same jobs, earlier deadlines first, whatever their numbers said.
    #[must_use]
    pub fn by_deadline(mut self) -> Self {
        for job in &mut self.jobs {
            job.priority = job.deadline.get();
        }
        self
    }

    pub(super) fn links(&self) -> &[Link] {
        &self.links
    }

    pub(super) const fn endings(&self) -> &BTreeMap<usize, Ending> {
        &self.endings
    }

    /// Whether some job is ended from outside.
    pub fn has_aborts(&self) -> bool {
        !self.endings.is_empty()
    }

    /// Whether some job waits longer than for the completion of another.
    pub(super) fn has_delays(&self) -> bool {
        self.links.iter().any(|link| link.delay_max > 0)
    }
}

fn check_job(job: &Job) -> Result<(), SagError> {
    let bad = |field, value, legal| Err(SagError::BadJob { job: job.key, field, value, legal });
    if job.release_max < job.release_min {
        let legal = format!("at least the earliest release, {}", job.release_min.get());
        return bad("latest release", job.release_max.get(), legal);
    }
    if job.cost_max < job.cost_min {
        let legal = format!("at least the shortest cost, {}", job.cost_min.get());
        return bad("longest cost", job.cost_max.get(), legal);
    }
    Ok(())
}

fn link(edge: &Edge, places: &BTreeMap<JobKey, usize>) -> Result<Link, SagError> {
    let bad = |reason: String| SagError::BadEdge { from: edge.from, to: edge.to, reason };
    let place = |key: JobKey| {
        places.get(&key).copied().ok_or_else(|| bad(format!("there is no {key} among the jobs")))
    };
    let (from, to) = (place(edge.from)?, place(edge.to)?);
    if from == to {
        return Err(bad("a job cannot wait for itself; legal are two different jobs".to_owned()));
    }
    if edge.delay_max < edge.delay_min {
        let (min, max) = (edge.delay_min.get(), edge.delay_max.get());
        return Err(bad(format!("longest delay is {max}; legal is at least the shortest, {min}")));
    }
    Ok(Link { from, to, delay_min: edge.delay_min.get(), delay_max: edge.delay_max.get() })
}

fn check_twice(edges: &[Edge]) -> Result<(), SagError> {
    let mut seen = BTreeSet::new();
    for edge in edges {
        if !seen.insert((edge.from, edge.to)) {
            let reason = "is given twice; legal is one edge between two jobs".to_owned();
            return Err(SagError::BadEdge { from: edge.from, to: edge.to, reason });
        }
    }
    Ok(())
}

/// No schedule ends later than the last release, all costs and all delays one after the other, so that sums below
/// the horizon need no check of their own.
fn check_range(jobs: &[Job], links: &[Link]) -> Result<(), SagError> {
    let last = jobs.iter().map(|job| u128::from(job.release_max.get())).max().unwrap_or(0);
    let costs: u128 = jobs.iter().map(|job| u128::from(job.cost_max.get())).sum();
    let delays: u128 = links.iter().map(|link| u128::from(link.delay_max)).sum();
    let sum = last + costs + delays;
    if sum > u128::from(HORIZON_MAX.get()) { Err(SagError::Overflow { sum }) } else { Ok(()) }
}

/// Removes jobs without predecessors until none is left; what stays is on or behind a cycle.
fn check_cycles(jobs: &[Job], links: &[Link]) -> Result<(), SagError> {
    let mut waits = vec![0usize; jobs.len()];
    let mut behind: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for link in links {
        waits[link.to] += 1;
        behind.entry(link.from).or_default().push(link.to);
    }
    let mut free: Vec<usize> = (0..jobs.len()).filter(|&job| waits[job] == 0).collect();
    while let Some(job) = free.pop() {
        for &next in behind.get(&job).map_or(&[][..], Vec::as_slice) {
            waits[next] -= 1;
            if waits[next] == 0 {
                free.push(next);
            }
        }
    }
    // Walking backwards over jobs that still wait must come round, and where it does is on a cycle.
    let Some(mut job) = waits.iter().position(|&count| count > 0) else { return Ok(()) };
    let mut before = BTreeMap::new();
    for link in links.iter().filter(|link| waits[link.from] > 0) {
        before.insert(link.to, link.from);
    }
    let mut seen = BTreeSet::new();
    while seen.insert(job) {
        match before.get(&job) {
            Some(&earlier) => job = earlier,
            None => break,
        }
    }
    Err(SagError::Cycle { job: jobs[job].key })
}
