//! Policies: what runs next. A policy supplies numbers; the engine orders by them.
//!
//! A policy declares its class. The engine orders ready jobs by the class's own key, so that any policy of a class is
//! certified by the class's analysis; only [`PolicyClass::WorkConserving`] picks freely, and is certified by the
//! policy-free bound. A policy of one's own implements [`SchedulingPolicy`] and enters through the builder.

use std::fmt;
use std::sync::Arc;

use aegis_types::{JobId, Nanos, Time};
use serde::{Deserialize, Serialize};

use crate::model::Task;
use crate::sag::IdleRule;

/// How ready jobs of a lane are ordered, and thereby which analysis certifies them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PolicyClass {
    /// By a number of the task; smaller is more urgent.
    StaticPriority,
    /// By nominal arrival plus a relative deadline of the task.
    AbsoluteDeadline,
    /// By release stamp.
    ArrivalOrder,
    /// By whatever the policy picks, as long as a lane never idles while a job is ready.
    WorkConserving,
    /// In turns: weighted round robin over the tasks, whose number is the weight: how many segments a task may run in
    /// one turn, at least one. A turn also ends at a decision that finds no ready job of the task; the segments that a
    /// failed job leaves out count as run.
    Fair,
    /// As [`StaticPriority`](Self::StaticPriority), and a lane stays free while the job that is first in turn would be in
    /// the way of the next job of the smallest number ([`IdleRule::PrecautiousRm`]).
    Precautious,
    /// As [`AbsoluteDeadline`](Self::AbsoluteDeadline), and a lane stays free while the job that is first in turn would be
    /// in the way of the next jobs of the other tasks ([`IdleRule::CriticalWindowEdf`]).
    CriticalWindow,
}

impl PolicyClass {
    /// The rule by which a lane stays free although a job is ready; `None` for classes that never leave it so. Only
    /// concrete releases are analysed under a rule: periodic tasks from a known start ([`crate::sag::concrete`]).
    pub const fn inserts(self) -> Option<IdleRule> {
        match self {
            Self::Precautious => Some(IdleRule::PrecautiousRm),
            Self::CriticalWindow => Some(IdleRule::CriticalWindowEdf),
            Self::StaticPriority
            | Self::AbsoluteDeadline
            | Self::ArrivalOrder
            | Self::WorkConserving
            | Self::Fair => None,
        }
    }
}

/// A job that is not released yet, for which a lane is kept free.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Awaited {
    /// Its absolute deadline.
    pub deadline: Time,
    /// The longest that it occupies the lane.
    pub cost: Nanos,
    /// The job.
    pub job: JobId,
    /// Its nominal arrival.
    pub arrival: Time,
}

/// X of [`crate::sag::IdleRule`] in nanoseconds: the latest instant at which the lane must be free so that the awaited
/// jobs, run one after the other by deadline, all meet theirs; and the one whose deadline says so. May lie before time
/// begins. `None` where nothing is awaited. Sorts what it is given.
pub fn free_by(awaited: &mut [Awaited]) -> Option<(i128, Awaited)> {
    awaited.sort_unstable_by(|a, b| b.cmp(a));
    awaited.iter().fold(None, |free: Option<(i128, Awaited)>, job| {
        let deadline = i128::from(job.deadline.get());
        let (by, binding) = free.filter(|(by, _)| *by <= deadline).unwrap_or((deadline, *job));
        Some((by - i128::from(job.cost.get()), binding))
    })
}

impl fmt::Display for PolicyClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::StaticPriority => "static-priority",
            Self::AbsoluteDeadline => "absolute-deadline",
            Self::ArrivalOrder => "arrival-order",
            Self::WorkConserving => "work-conserving",
            Self::Fair => "fair",
            Self::Precautious => "precautious",
            Self::CriticalWindow => "critical-window",
        })
    }
}

/// A ready job, as a policy sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadyJob {
    /// The job.
    pub job: JobId,
    /// Its nominal arrival.
    pub arrival: Time,
    /// Its absolute deadline.
    pub deadline: Time,
    /// When it was released.
    pub released: Time,
}

/// Decides what runs next. Must be a function of its arguments alone: a replay calls it again.
pub trait SchedulingPolicy: Send + Sync {
    /// The word for it in a fleet and in reports.
    fn name(&self) -> &'static str;

    /// The class, which binds the analysis.
    fn class(&self) -> PolicyClass;

    /// The task's number: for [`PolicyClass::StaticPriority`] and [`PolicyClass::Precautious`] its priority (smaller is
    /// more urgent), for [`PolicyClass::AbsoluteDeadline`] and [`PolicyClass::CriticalWindow`] its relative deadline in
    /// nanoseconds, for [`PolicyClass::Fair`] its weight; not used by other classes.
    fn key(&self, task: &Task) -> u64;

    /// For [`PolicyClass::WorkConserving`]: the position in `ready` (never empty) of the job to run. A position
    /// outside counts as the last.
    fn pick(&self, _now: Time, _ready: &[ReadyJob]) -> usize {
        0
    }
}

/// A policy may be shared: admission, engine and replay ask the same one.
impl<P: SchedulingPolicy + ?Sized> SchedulingPolicy for Arc<P> {
    fn name(&self) -> &'static str {
        (**self).name()
    }

    fn class(&self) -> PolicyClass {
        (**self).class()
    }

    fn key(&self, task: &Task) -> u64 {
        (**self).key(task)
    }

    fn pick(&self, now: Time, ready: &[ReadyJob]) -> usize {
        (**self).pick(now, ready)
    }
}

/// First in, first out, by release stamp.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fifo;

/// Rate monotonic: the shorter the period, the more urgent.
#[derive(Clone, Copy, Debug, Default)]
pub struct RateMonotonic;

/// Deadline monotonic: the shorter the relative deadline, the more urgent.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeadlineMonotonic;

/// Explicit fixed priorities; a task without one is less urgent than all that have one.
#[derive(Clone, Copy, Debug, Default)]
pub struct FixedPriority;

/// Earliest deadline first.
#[derive(Clone, Copy, Debug, Default)]
pub struct EarliestDeadline;

/// Weighted round robin: the tasks of a lane take turns of as many segments as their weights say.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fair;

/// Precautious RM: rate monotonic, and a lane is kept free for the next job of the shortest period (Nasri, Kargahi
/// 2014).
#[derive(Clone, Copy, Debug, Default)]
pub struct PrecautiousRateMonotonic;

/// Critical-window EDF: earliest deadline first, and a lane is kept free for the next jobs of the other tasks (Nasri,
/// Fohler 2016).
#[derive(Clone, Copy, Debug, Default)]
pub struct CriticalWindowDeadline;

macro_rules! policy {
    ($type:ident, $name:literal, $class:ident, $key:expr) => {
        impl SchedulingPolicy for $type {
            fn name(&self) -> &'static str {
                $name
            }
            fn class(&self) -> PolicyClass {
                PolicyClass::$class
            }
            fn key(&self, task: &Task) -> u64 {
                let key: fn(&Task) -> u64 = $key;
                key(task)
            }
        }
    };
}

policy!(Fifo, "fifo", ArrivalOrder, |_| 0);
policy!(RateMonotonic, "rm", StaticPriority, |task| Nanos::get(task.period));
policy!(DeadlineMonotonic, "dm", StaticPriority, |task| Nanos::get(task.deadline));
policy!(FixedPriority, "fp", StaticPriority, |task| task.priority.map_or(u64::MAX, u64::from));
policy!(EarliestDeadline, "edf", AbsoluteDeadline, |task| Nanos::get(task.deadline));
policy!(Fair, "fair", Fair, |task| u64::from(task.weight));
policy!(PrecautiousRateMonotonic, "p-rm", Precautious, |task| Nanos::get(task.period));
policy!(CriticalWindowDeadline, "cw-edf", CriticalWindow, |task| Nanos::get(task.deadline));

/// Policies that never leave a lane free while a job is ready, by name: they certify sporadic tasks.
pub const POLICIES: &[&str] = &["fifo", "rm", "dm", "fp", "edf", "fair"];

/// Policies that insert idle time, by name: a lane may stay free while a job is ready. They certify periodic tasks of one
/// segment only (see [`PolicyClass::inserts`]).
pub const INSERTING: &[&str] = &["p-rm", "cw-edf"];

/// Every name that [`by_name`] knows, separated by commas.
pub fn legal_names() -> String {
    [POLICIES, INSERTING].concat().join(", ")
}

/// The policy of that name, or `None`; the legal names are [`POLICIES`] and [`INSERTING`].
pub fn by_name(name: &str) -> Option<Box<dyn SchedulingPolicy>> {
    Some(match name {
        "fifo" => Box::new(Fifo),
        "rm" => Box::new(RateMonotonic),
        "dm" => Box::new(DeadlineMonotonic),
        "fp" => Box::new(FixedPriority),
        "edf" => Box::new(EarliestDeadline),
        "fair" => Box::new(Fair),
        "p-rm" => Box::new(PrecautiousRateMonotonic),
        "cw-edf" => Box::new(CriticalWindowDeadline),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use aegis_types::TaskId;

    use super::*;

    #[test]
    fn every_listed_name_is_a_policy() {
        for (names, inserts) in [(POLICIES, false), (INSERTING, true)] {
            for name in names {
                let policy = by_name(name).expect("it is listed");
                assert_eq!(policy.name(), *name);
                assert_eq!(policy.class().inserts().is_some(), inserts, "{name}");
                assert!(legal_names().contains(name));
            }
        }
        assert!(by_name("lifo").is_none());
    }

    #[test]
    fn a_lane_must_be_free_for_all_that_are_awaited_in_the_order_of_their_deadlines() {
        let awaited = |task, deadline, cost| Awaited {
            deadline: Time::new(deadline),
            cost: Nanos::new(cost),
            job: JobId::new(TaskId::new(task), 0),
            arrival: Time::ZERO,
        };
        let by = |jobs: &mut [Awaited]| free_by(jobs).map(|(by, binding)| (by, binding.job.task.get()));
        assert_eq!(by(&mut []), None);
        assert_eq!(by(&mut [awaited(1, 20, 4)]), Some((16, 1)));
        // The later deadline leaves the earlier one's alone, or pushes it forward.
        assert_eq!(by(&mut [awaited(1, 20, 4), awaited(2, 40, 5)]), Some((16, 1)));
        assert_eq!(by(&mut [awaited(1, 20, 4), awaited(2, 22, 5)]), Some((13, 2)));
        assert_eq!(by(&mut [awaited(1, 3, 4)]), Some((-1, 1)));
    }
}
