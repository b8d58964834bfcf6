//! The policies of the simulation: those of the house, one that picks freely, and a canary that lies.

use aegis_sched::policy::{ReadyJob, by_name};
use aegis_sched::{PolicyClass, SchedulingPolicy, Task};
use aegis_types::Time;

/// A policy of the simulation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyChoice {
    /// One that the command line knows by name.
    Named(&'static str),
    /// [`Whim`].
    Whim,
}

impl PolicyChoice {
    /// Every one.
    pub const ALL: &'static [Self] = &[
        Self::Named("fifo"),
        Self::Named("rm"),
        Self::Named("dm"),
        Self::Named("fp"),
        Self::Named("edf"),
        Self::Named("fair"),
        Self::Whim,
    ];

    /// The policy itself.
    pub fn make(self) -> Box<dyn SchedulingPolicy> {
        match self {
            Self::Named(name) => by_name(name).expect("every name in `ALL` is one that `by_name` knows"),
            Self::Whim => Box::new(Whim),
        }
    }

    /// Its class.
    pub fn class(self) -> PolicyClass {
        self.make().class()
    }
}

/// A policy of one's own: any ready job, as a hash of the instant says. Certified by the policy-free bound.
#[derive(Clone, Copy, Debug, Default)]
pub struct Whim;

impl SchedulingPolicy for Whim {
    fn name(&self) -> &'static str {
        "whim"
    }

    fn class(&self) -> PolicyClass {
        PolicyClass::WorkConserving
    }

    fn key(&self, _task: &Task) -> u64 {
        0
    }

    fn pick(&self, now: Time, ready: &[ReadyJob]) -> usize {
        let word = now.get().wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        word as usize % ready.len().max(1)
    }
}

/// The order that a policy claims to keep, turned around: of all ready jobs it runs the least urgent. It can only
/// enter as a work-conserving policy, because the engine orders the other classes itself.
pub struct Inverted {
    /// By task, the number of the policy that it claims to be.
    keys: Vec<u64>,
    class: PolicyClass,
}

impl Inverted {
    /// The inversion of `policy` for these tasks.
    pub fn of(policy: &dyn SchedulingPolicy, tasks: &[Task]) -> Self {
        Self { keys: tasks.iter().map(|task| policy.key(task)).collect(), class: policy.class() }
    }

    fn urgency(&self, job: &ReadyJob) -> u64 {
        let key = self.keys.get(job.job.task.index()).copied().unwrap_or(0);
        match self.class {
            PolicyClass::StaticPriority | PolicyClass::Precautious => key,
            PolicyClass::AbsoluteDeadline | PolicyClass::CriticalWindow => {
                job.arrival.get().saturating_add(key)
            }
            PolicyClass::ArrivalOrder | PolicyClass::WorkConserving | PolicyClass::Fair => job.released.get(),
        }
    }
}

impl SchedulingPolicy for Inverted {
    fn name(&self) -> &'static str {
        "inverted"
    }

    fn class(&self) -> PolicyClass {
        PolicyClass::WorkConserving
    }

    fn key(&self, _task: &Task) -> u64 {
        0
    }

    fn pick(&self, _now: Time, ready: &[ReadyJob]) -> usize {
        let least = ready.iter().enumerate().max_by_key(|(_, job)| self.urgency(job));
        least.map_or(0, |(position, _)| position)
    }
}
