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
}

impl fmt::Display for PolicyClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::StaticPriority => "static-priority",
            Self::AbsoluteDeadline => "absolute-deadline",
            Self::ArrivalOrder => "arrival-order",
            Self::WorkConserving => "work-conserving",
            Self::Fair => "fair",
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

    /// The task's number: for [`PolicyClass::StaticPriority`] its priority (smaller is more urgent), for
    /// [`PolicyClass::AbsoluteDeadline`] its relative deadline in nanoseconds, for [`PolicyClass::Fair`] its weight;
    /// not used by other classes.
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

/// The policies that the command line knows by name.
pub const POLICIES: &[&str] = &["fifo", "rm", "dm", "fp", "edf", "fair"];

/// Policies that insert idle time: a lane may stand free while a job is ready. Schedule-abstraction graphs explore them
/// (see [`IdleRule`](crate::sag::IdleRule)); nothing here bounds an unlimited run of them, so they are not admitted.
pub const INSERTING: &[&str] = &["p-rm", "cw-edf"];

/// The policy of that name, or `None`; the legal names are [`POLICIES`].
pub fn by_name(name: &str) -> Option<Box<dyn SchedulingPolicy>> {
    Some(match name {
        "fifo" => Box::new(Fifo),
        "rm" => Box::new(RateMonotonic),
        "dm" => Box::new(DeadlineMonotonic),
        "fp" => Box::new(FixedPriority),
        "edf" => Box::new(EarliestDeadline),
        "fair" => Box::new(Fair),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_name_is_a_policy() {
        for name in POLICIES {
            assert_eq!(by_name(name).map(|policy| policy.name()), Some(*name));
        }
        assert!(by_name("lifo").is_none());
        // Nothing certifies these.
        assert!(INSERTING.iter().all(|name| by_name(name).is_none()));
    }
}
