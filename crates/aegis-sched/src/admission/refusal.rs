//! Why a set is refused, and what would fit.

use std::fmt;

use aegis_types::{LaneId, Nanos, TaskId};

use super::trial::{Trial, least_fitting};
use crate::analysis::claim::{Cause, Claim, Failure};
use crate::analysis::problem::LaneProblem;
use crate::error::ModelError;
use crate::model::TaskSet;
use crate::policy::SchedulingPolicy;
use crate::referee::Objection;
use crate::referee::certificate::{Term, TermKind};
use crate::sag::Limit;

/// Why a set is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The lane, where one is at fault.
    pub lane: Option<LaneId>,
    /// The task that misses; `None` where the lane as a whole is at fault.
    pub task: Option<TaskId>,
    /// What is wrong.
    pub reason: Reason,
    /// The longest thing that the task waits for.
    pub binding: Option<Term>,
    /// Single changes that would fit, smallest first of each kind; empty where none was found.
    pub changes: Vec<Change>,
    names: Vec<String>,
}

/// What is wrong with a refused set.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// The lane is asked for more than all of its time.
    Utilisation {
        /// What is asked for, in millionths of the lane's time, rounded up.
        ppm: u64,
    },
    /// The lane is asked for exactly all of its time, and release latencies come on top.
    Full,
    /// A job may respond too late.
    Deadline {
        /// Its response time.
        wcrt: Nanos,
        /// Its deadline.
        deadline: Nanos,
        /// When the deadline passes, from the start of the critical busy period.
        instant: Nanos,
    },
    /// Some window holds more work than time.
    Demand {
        /// Length of the window; its end is the first deadline found to be violated.
        instant: Nanos,
        /// Work that must complete inside it.
        demand: Nanos,
    },
    /// Numbers leave the range of the analysis.
    Range,
    /// The analysis did not end within its bounded number of steps.
    Undecided {
        /// The bound.
        steps: u64,
    },
    /// A job may end late in a schedule of the releases from the start on, which a policy that inserts idle time is judged
    /// by.
    Late {
        /// The number of the job.
        number: u64,
        /// When it may end, from the start.
        completion: Nanos,
        /// Its deadline, from the start.
        deadline: Nanos,
    },
    /// The schedules of a policy that inserts idle time were not followed to where they repeat.
    Unexplored {
        /// What ended the exploration.
        limit: Limit,
        /// States that were explored.
        states: u64,
    },
    /// Tasks and platform are no model: overheads leave the range of time, or the platform contradicts itself.
    Model {
        /// The model's own message.
        message: String,
    },
    /// A solver's claim did not pass the referee.
    Refuted {
        /// What it objected to.
        objection: Objection,
    },
}

/// A single change under which the lane would be certified; each was tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// A longer period for one task (its deadline moves along where it equals the period).
    Period {
        /// The task.
        task: TaskId,
        /// The shortest period that fits.
        period: Nanos,
    },
    /// Longer periods for every task of the lane (deadlines that equal periods move along).
    Stretch {
        /// The smallest factor that fits, in millionths.
        ppm: u64,
    },
}

impl Refusal {
    pub(super) fn no_model(set: &TaskSet, error: &ModelError) -> Self {
        let task = match error {
            ModelError::Overflow { task } => set.tasks().iter().find(|known| known.name == *task),
            _ => None,
        };
        let reason = Reason::Model { message: error.to_string() };
        let (lane, id) = (task.map(|task| task.lane), task.map(|task| task.id));
        Self { lane, task: id, reason, binding: None, changes: Vec::new(), names: names(set) }
    }

    /// A refusal of one lane for a reason that no change of a period was looked for.
    pub(super) fn plain(set: &TaskSet, lane: LaneId, task: Option<TaskId>, reason: Reason) -> Self {
        Self { lane: Some(lane), task, reason, binding: None, changes: Vec::new(), names: names(set) }
    }

    pub(super) fn refuted(objection: Objection) -> Self {
        let reason = Reason::Refuted { objection };
        Self { lane: None, task: None, reason, binding: None, changes: Vec::new(), names: Vec::new() }
    }

    /// Explains a solver's failure. `known` are the response times of the lane where they could be had.
    pub(super) fn explain(
        set: &TaskSet,
        policy: &dyn SchedulingPolicy,
        problem: &LaneProblem,
        failure: Failure,
        known: Option<&Claim>,
    ) -> Self {
        let position = failure.position;
        let task = position.and_then(|position| problem.tasks.get(position));
        let deadline = task.map_or(Nanos::ZERO, |task| task.deadline);
        let mut terms = position
            .and_then(|position| known?.tasks.get(position))
            .map(|claimed| claimed.terms.clone())
            .unwrap_or_default();
        let hopeless = matches!(failure.cause, Cause::Undecided { .. } | Cause::Concrete);
        let mut blocked_by = None;
        let reason = match failure.cause {
            Cause::Utilisation { ppm } => Reason::Utilisation { ppm },
            Cause::Full => Reason::Full,
            Cause::Deadline { bound, terms: found, instant } => {
                terms = found;
                Reason::Deadline { wcrt: bound, deadline, instant }
            }
            Cause::Demand { window, demand, blocker } => {
                blocked_by = blocker;
                Reason::Demand { instant: window, demand }
            }
            Cause::Horizon => Reason::Range,
            Cause::Concrete => Reason::Model {
                message:
                    "under a policy that inserts idle time only releases from a known start are analysed"
                        .to_owned(),
            },
            Cause::Undecided { steps } => Reason::Undecided { steps },
        };
        let changes = if hopeless {
            Vec::new()
        } else {
            changes(&mut Trial::new(set, policy, problem.clone()), position)
        };
        let binding = binding(&terms).or_else(|| blocker(problem, blocked_by?));
        let task = task.map(|task| task.id);
        Self { lane: Some(problem.lane), task, reason, binding, changes, names: names(set) }
    }

    fn name(&self, task: TaskId) -> String {
        self.names.get(task.index()).map_or_else(|| task.to_string(), |name| format!("`{name}`"))
    }
}

fn names(set: &TaskSet) -> Vec<String> {
    set.tasks().iter().map(|task| task.name.clone()).collect()
}

/// The longest term that is not the job's own.
fn binding(terms: &[Term]) -> Option<Term> {
    let waits = |term: &&Term| matches!(term.kind, TermKind::Blocking { .. } | TermKind::Interference { .. });
    terms.iter().filter(waits).max_by_key(|term| term.span).cloned()
}

fn blocker(problem: &LaneProblem, by: TaskId) -> Option<Term> {
    let task = problem.tasks.iter().find(|task| task.id == by)?;
    let span = task.segments.iter().copied().max()?;
    Some(Term { kind: TermKind::Blocking { by }, span })
}

/// Single-task changes that are named where the lane as a whole is at fault.
const PERIODS_NAMED: usize = 3;

/// Tasks whose period is tried where the lane as a whole is at fault: a light task's cannot make up for much.
const PERIODS_TRIED: usize = 8;

/// The tasks of a lane that ask for most of its time, heaviest first; ties by position.
fn heaviest(trial: &Trial<'_>) -> Vec<usize> {
    let share = |position: usize| {
        let task = &trial.natural()[position];
        let budget: u128 = task.segments.iter().map(|segment| u128::from(segment.bound.get())).sum();
        (budget << 32) / u128::from(task.period.get().max(1))
    };
    let mut positions: Vec<usize> = (0..trial.natural().len()).collect();
    positions.sort_by_key(|&position| (std::cmp::Reverse(share(position)), position));
    positions.truncate(PERIODS_TRIED);
    positions
}

/// The shortest period of the task at fault (or, where the lane as a whole is, of the tasks that need the smallest
/// stretch, smallest first), and the smallest stretch of the lane, that fit.
fn changes(trial: &mut Trial<'_>, position: Option<usize>) -> Vec<Change> {
    let candidates = position.map_or_else(|| heaviest(trial), |position| vec![position]);
    let mut periods: Vec<(TaskId, Nanos, Nanos)> = Vec::new();
    for position in candidates {
        let (id, natural) = (trial.natural()[position].id, trial.natural()[position].period);
        let period = least_fitting(natural.get(), 1, |period| {
            trial.set_period(position, Nanos::new(period));
            trial.fits()
        });
        trial.set_period(position, natural);
        periods.extend(period.map(|period| (id, natural, Nanos::new(period))));
    }
    // By period / natural, compared crosswise; ties by task.
    periods.sort_by_key(|(id, ..)| *id);
    periods.sort_by(|(_, a, stretched_a), (_, b, stretched_b)| {
        let cross = |x: &Nanos, y: &Nanos| u128::from(x.get()) * u128::from(y.get());
        cross(stretched_a, b).cmp(&cross(stretched_b, a))
    });
    let named = periods.into_iter().take(PERIODS_NAMED);
    let mut found: Vec<Change> = named.map(|(task, _, period)| Change::Period { task, period }).collect();
    let naturals: Vec<Nanos> = trial.natural().iter().map(|task| task.period).collect();
    let ppm = least_fitting(1_000_000, 1, |ppm| {
        for (position, natural) in naturals.iter().enumerate() {
            match natural.scale_ppm_up(ppm) {
                Some(period) => trial.set_period(position, period),
                None => return None,
            }
        }
        trial.fits()
    });
    found.extend(ppm.map(|ppm| Change::Stretch { ppm }));
    found
}

/// Millionths as a factor with two decimals, rounded up.
fn factor(ppm: u64) -> String {
    let hundredths = ppm.div_ceil(10_000);
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(lane) = self.lane {
            write!(f, "{lane}: ")?;
        }
        if let Some(task) = self.task {
            write!(f, "task {}: ", self.name(task))?;
        }
        write!(f, "{}", self.reason)?;
        match &self.binding {
            Some(Term { kind: TermKind::Blocking { by }, span }) => {
                write!(f, "; blocked by {} for up to {span}", self.name(*by))?;
            }
            Some(Term { kind: TermKind::Interference { by, jobs }, span }) => {
                write!(f, "; {jobs} more urgent jobs of {} take {span}", self.name(*by))?;
            }
            _ => {}
        }
        for (index, change) in self.changes.iter().enumerate() {
            f.write_str(if index == 0 { "; would fit with " } else { ", or " })?;
            match change {
                Change::Period { task, period } => {
                    write!(f, "a period of {period} for {}", self.name(*task))?
                }
                Change::Stretch { ppm } => write!(f, "all periods of the lane times {}", factor(*ppm))?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Utilisation { ppm } => write!(f, "utilisation is {}, more than 1", factor(*ppm)),
            Self::Full => f.write_str("utilisation is exactly 1, which leaves no time for jitter or overrun"),
            Self::Deadline { wcrt, deadline, instant } => {
                write!(
                    f,
                    "response up to {wcrt}, deadline {deadline}, violated {instant} into the busy period"
                )
            }
            Self::Demand { instant, demand } => {
                write!(f, "{demand} of work must complete within {instant}")
            }
            Self::Range => f.write_str("numbers leave the 36 years of the analysis"),
            Self::Undecided { steps } => write!(f, "undecided within {steps} steps"),
            Self::Late { number, completion, deadline } => {
                write!(
                    f,
                    "job {number} may end {completion} after the start, with its deadline {deadline} after it"
                )
            }
            Self::Unexplored { limit, states } => write!(
                f,
                "undecided: the schedules were given up at the limit of {} after {states} states; periods that repeat \
                 sooner take fewer",
                limit.as_str()
            ),
            Self::Model { message } => f.write_str(message),
            Self::Refuted { objection } => write!(f, "the referee objects: {objection}"),
        }
    }
}
