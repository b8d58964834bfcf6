//! The text formats of the tool nptest, so that its users can switch: jobs and edges in, response times out.
//!
//! Every file has one line of headings, whose words are not looked at, and then one row a line. Fields are whole
//! numbers between commas; blanks around them mean nothing, and lines without anything are skipped.
//!
//! ```text
//! jobs     Task ID, Job ID, Arrival min, Arrival max, Cost min, Cost max, Deadline, Priority
//! edges    Predecessor TID, Predecessor JID, Successor TID, Successor JID [, Sus_Min, Sus_Max]
//! aborts   Task ID, Job ID, Trigger min, Trigger max, Cleanup min, Cleanup max
//! results  Task ID, Job ID, BCCT, WCCT, BCRT, WCRT
//! ```

use std::fmt::Write;

use aegis_types::{Nanos, Time};

use super::abort::Abort;
use super::job::{Edge, Job, JobKey, JobSet, SagError};
use super::report::JobBounds;

const NUMBER: &str = "a whole number from 0 to 18446744073709551615";
const JOB_COLUMNS: &str =
    "eight fields: task, job, earliest and latest release, shortest and longest cost, deadline, priority";
const EDGE_COLUMNS: &str =
    "four or six fields: task and job before, task and job after, and perhaps shortest and longest delay";
const ABORT_COLUMNS: &str =
    "six fields: task, job, earliest and latest trigger, shortest and longest cleanup";
const HEADINGS: &str = "a first line of headings, which is not a row of numbers";

/// How much of a wrong value an error repeats.
const SHOWN: usize = 40;

/// Jobs from a file.
///
/// # Errors
/// [`SagError::Csv`] with line and column; what the numbers mean is checked by [`JobSet::new`].
pub fn jobs(text: &str) -> Result<Vec<Job>, SagError> {
    let row = |line: usize, fields: &[&str]| match numbers::<8>(line, fields)? {
        Some([task, job, release_min, release_max, cost_min, cost_max, deadline, priority]) => Ok(Job {
            key: JobKey { task, job },
            release_min: Time::new(release_min),
            release_max: Time::new(release_max),
            cost_min: Nanos::new(cost_min),
            cost_max: Nanos::new(cost_max),
            deadline: Time::new(deadline),
            priority,
        }),
        None => Err(columns(line, fields, JOB_COLUMNS)),
    };
    rows(text)?.map(|(line, fields)| row(line, &fields)).collect()
}

/// Edges from a file.
///
/// # Errors
/// [`SagError::Csv`] with line and column.
pub fn edges(text: &str) -> Result<Vec<Edge>, SagError> {
    let edge = |before: [u64; 2], after: [u64; 2], delay: [u64; 2]| Edge {
        from: JobKey { task: before[0], job: before[1] },
        to: JobKey { task: after[0], job: after[1] },
        delay_min: Nanos::new(delay[0]),
        delay_max: Nanos::new(delay[1]),
    };
    let row = |line: usize, fields: &[&str]| {
        if let Some([a, b, c, d]) = numbers::<4>(line, fields)? {
            return Ok(edge([a, b], [c, d], [0, 0]));
        }
        match numbers::<6>(line, fields)? {
            Some([a, b, c, d, min, max]) => Ok(edge([a, b], [c, d], [min, max])),
            None => Err(columns(line, fields, EDGE_COLUMNS)),
        }
    };
    rows(text)?.map(|(line, fields)| row(line, &fields)).collect()
}

/// Aborts from a file.
///
/// # Errors
/// [`SagError::Csv`] with line and column.
pub fn aborts(text: &str) -> Result<Vec<Abort>, SagError> {
    let row = |line: usize, fields: &[&str]| match numbers::<6>(line, fields)? {
        Some([task, job, trigger_min, trigger_max, cleanup_min, cleanup_max]) => Ok(Abort {
            job: JobKey { task, job },
            trigger_min: Time::new(trigger_min),
            trigger_max: Time::new(trigger_max),
            cleanup_min: Nanos::new(cleanup_min),
            cleanup_max: Nanos::new(cleanup_max),
        }),
        None => Err(columns(line, fields, ABORT_COLUMNS)),
    };
    rows(text)?.map(|(line, fields)| row(line, &fields)).collect()
}

/// Jobs as a file of jobs.
pub fn write_jobs(jobs: &[Job]) -> String {
    let mut text =
        String::from("Task ID, Job ID, Arrival min, Arrival max, Cost min, Cost max, Deadline, Priority\n");
    for job in jobs {
        let key = job.key;
        let (release, cost) = ((job.release_min.get(), job.release_max.get()), (job.cost_min, job.cost_max));
        let cost = (cost.0.get(), cost.1.get());
        let _infallible = writeln!(
            text,
            "{}, {}, {}, {}, {}, {}, {}, {}",
            key.task,
            key.job,
            release.0,
            release.1,
            cost.0,
            cost.1,
            job.deadline.get(),
            job.priority,
        );
    }
    text
}

/// Completion and response times of every job that was reached, in the order of the set. Response times count from
/// the earliest release, as the tool's do.
pub fn results(set: &JobSet, bounds: &[Option<JobBounds>]) -> String {
    let mut text = String::from("Task ID, Job ID, BCCT, WCCT, BCRT, WCRT\n");
    for (job, bounds) in set.jobs().iter().zip(bounds) {
        let Some(bounds) = bounds else { continue };
        let (best, worst) = (bounds.completion_min, bounds.completion_max);
        let _infallible = writeln!(
            text,
            "{}, {}, {}, {}, {}, {}",
            job.key.task,
            job.key.job,
            best.get(),
            worst.get(),
            best.since(job.release_min).get(),
            worst.since(job.release_min).get(),
        );
    }
    text
}

/// The rows after the headings, with their line numbers.
fn rows(text: &str) -> Result<impl Iterator<Item = (usize, Vec<&str>)>, SagError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let split = |line: &str| -> bool { line.split(',').any(|field| field.trim().parse::<u64>().is_err()) };
    match lines.next() {
        // A row of numbers in place of the headings would be lost without a word.
        Some((line, headings)) if !split(headings) => {
            Err(SagError::Csv { line: line + 1, column: 1, value: shown(headings), legal: HEADINGS })
        }
        Some(_) => Ok(lines.map(|(line, row)| (line + 1, row.split(',').map(str::trim).collect()))),
        None => Err(SagError::Csv { line: 1, column: 1, value: String::new(), legal: HEADINGS }),
    }
}

/// The fields as numbers, or nothing if they are not `N`.
fn numbers<const N: usize>(line: usize, fields: &[&str]) -> Result<Option<[u64; N]>, SagError> {
    if fields.len() != N {
        return Ok(None);
    }
    let mut values = [0; N];
    for (column, (value, field)) in values.iter_mut().zip(fields).enumerate() {
        *value = field.parse().map_err(|_| SagError::Csv {
            line,
            column: column + 1,
            value: shown(field),
            legal: NUMBER,
        })?;
    }
    Ok(Some(values))
}

fn columns(line: usize, fields: &[&str], legal: &'static str) -> SagError {
    SagError::Csv { line, column: fields.len(), value: shown(&fields.join(", ")), legal }
}

fn shown(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}
