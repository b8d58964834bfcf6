//! Cause-effect chains: how late an output can answer an input, and how old the input behind an output can be.
//!
//! The tasks of a chain hand over through registers: a job reads what was written last when it starts, and writes when
//! it ends. Nothing here depends on lanes: a hop is known by its largest gap between arrivals and its response bound
//! from arrival, whatever ran beside it. Chains whose tasks are triggered by their predecessor are none of these.
//!
//! ```text
//! reaction <= T_1 + R_n + sum over i < n of max(R_i, T_(i+1) + x_i R_i)
//! age      <= R_n + sum over i < n of (T_i + x_i R_i)
//! held age <= T_n + age
//! ```
//!
//! with T the *largest* gap between arrivals. Duerr, von der Brueggen, Chen, Chen, CASES 2019 (theorems 5.4 and 5.10).
//! x_i = 0 needs that no job of the consumer starts between the arrival of a producer's job and that job's end. Static
//! priorities give this to a less urgent consumer on the same lane, but only without release jitter: a producer that
//! has arrived and is not yet released does not hold the lane. Every task has jitter here, so [`Link::Racing`]
//! (x_i = 1) is what certificates use. All links racing, the first line is the sum of T_i + R_i, the bound of Davare et al., DAC 2007, which holds for any scheduler.
//!
//! End points: the *reaction* is from an input that just misses the first task's read to the end of the last job; the
//! *age* is from the first task's read to the end of the last job; the *held age* lasts until the next output replaces
//! it. A job that fails or is refused is a skip: `s` of them in a row make the gap `s + 1` times as long.

mod logical;

use aegis_types::{Nanos, TaskId};

pub use logical::{LogicalTask, logical_bounds};

use crate::model::{Arrival, TaskSet};
use crate::referee::certificate::Certificate;

/// What is asked of one task of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The task.
    pub task: TaskId,
    /// T^max: longest time between consecutive arrivals. `None` takes the period of a task that the timer releases;
    /// a task that clients release has no such time unless it is given.
    pub gap: Option<Nanos>,
    /// How many consecutive jobs may be refused, dropped or failed.
    pub skips: u32,
}

/// One task of a chain, as the bounds see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// The task.
    pub task: TaskId,
    /// Longest time between arrivals of jobs that deliver, skips included.
    pub gap: Nanos,
    /// R: response bound, from the nominal arrival.
    pub response: Nanos,
}

/// How the data of one task reach the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// The consumer may start while a job of the producer has arrived and not ended (x = 1): across lanes, under any
    /// policy, and wherever releases have jitter.
    Racing,
    /// A job of the producer that has arrived ends before the consumer starts (x = 0): static priorities with a less
    /// urgent consumer on the same processor, and no release jitter. No lane of this runtime is that.
    Settled,
}

/// A cause-effect chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    hops: Vec<Hop>,
    links: Vec<Link>,
}

/// Bounds on what the ends of a chain see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainBounds {
    /// From an input that just misses the first task's read to the end of the last job that answers it.
    pub reaction: Nanos,
    /// From the first task's read to the end of the last job that rests on it.
    pub age: Nanos,
    /// From the first task's read to the output being replaced by the next one.
    pub held_age: Nanos,
}

/// Why a chain has no bounds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// No task.
    #[error("the chain is empty; it needs at least one task")]
    Empty,
    /// Not one link between each two hops.
    #[error("{links} links for {hops} tasks; legal is one less than tasks")]
    Links {
        /// Links found.
        links: usize,
        /// Tasks of the chain.
        hops: usize,
    },
    /// The task is not certified.
    #[error("{task} is not in the certificate; a chain is made of certified tasks")]
    Unknown {
        /// The task.
        task: TaskId,
    },
    /// Without a largest gap between arrivals, data may grow arbitrarily old.
    #[error(
        "{task} is released by clients and has no largest gap between arrivals; legal is {period} or more"
    )]
    NoGap {
        /// The task.
        task: TaskId,
        /// Its minimum gap.
        period: Nanos,
    },
    /// The largest gap between arrivals is below the smallest.
    #[error("{task}: the largest gap between arrivals is {gap}; legal is {period} or more")]
    Gap {
        /// The task.
        task: TaskId,
        /// The gap given.
        gap: Nanos,
        /// Its minimum gap.
        period: Nanos,
    },
    /// A period or a deadline of zero.
    #[error("position {position} of the chain: {field} is zero; legal is a span above zero")]
    Zero {
        /// Position in the chain.
        position: usize,
        /// The field.
        field: &'static str,
    },
    /// A bound leaves the range of time.
    #[error("a bound of the chain exceeds the range of time")]
    Range,
    /// The pattern of the periods takes too long to enumerate.
    #[error("the chain repeats after {jobs} jobs of one of its tasks; at most {max} are enumerated")]
    TooLong {
        /// Jobs of the task that is enumerated in one hyperperiod; `u64::MAX` where it does not fit.
        jobs: u64,
        /// The limit.
        max: u64,
    },
}

impl Chain {
    /// A chain whose links are all [`Link::Racing`]: what holds on lanes, in one and across several.
    ///
    /// # Errors
    /// [`ChainError::Empty`].
    pub fn new(hops: Vec<Hop>) -> Result<Self, ChainError> {
        let links = vec![Link::Racing; hops.len().saturating_sub(1)];
        Self::with_links(hops, links)
    }

    /// A chain with given links, for processors that are not lanes of this runtime.
    ///
    /// # Errors
    /// [`ChainError::Empty`] and [`ChainError::Links`].
    pub fn with_links(hops: Vec<Hop>, links: Vec<Link>) -> Result<Self, ChainError> {
        if hops.is_empty() {
            return Err(ChainError::Empty);
        }
        if links.len() + 1 != hops.len() {
            return Err(ChainError::Links { links: links.len(), hops: hops.len() });
        }
        Ok(Self { hops, links })
    }

    /// A chain of certified tasks, with the bounds of their certificate. These hold while no budget is overrun; a
    /// chain under an overrun is made of the bounds of a higher rung, with [`Chain::new`].
    ///
    /// # Errors
    /// [`ChainError`] naming the task that is unknown or has no (legal) largest gap between arrivals.
    pub fn certified(set: &TaskSet, certificate: &Certificate, steps: &[Step]) -> Result<Self, ChainError> {
        Self::new(steps.iter().map(|step| hop(set, certificate, step)).collect::<Result<_, _>>()?)
    }

    /// The tasks, from the input's to the output's.
    pub fn hops(&self) -> &[Hop] {
        &self.hops
    }

    /// Bounds on reaction time and data age.
    ///
    /// # Errors
    /// [`ChainError::Range`].
    pub fn bounds(&self) -> Result<ChainBounds, ChainError> {
        let found = || {
            let reaction = self.reaction()?;
            let age = self.age()?;
            let held_age = age.checked_add(self.hops.last()?.gap)?;
            Some(ChainBounds { reaction, age, held_age })
        };
        found().ok_or(ChainError::Range)
    }

    /// Theorem 5.4 of Duerr et al. 2019.
    fn reaction(&self) -> Option<Nanos> {
        let ends = self.hops.first()?.gap.checked_add(self.hops.last()?.response)?;
        self.links.iter().zip(self.hops.iter().zip(&self.hops[1..])).try_fold(
            ends,
            |sum, (link, (from, to))| {
                let waits = to.gap.checked_add(link.share(from.response))?;
                sum.checked_add(from.response.max(waits))
            },
        )
    }

    /// Theorem 5.10 of Duerr et al. 2019.
    fn age(&self) -> Option<Nanos> {
        self.links.iter().zip(&self.hops).try_fold(self.hops.last()?.response, |sum, (link, from)| {
            sum.checked_add(from.gap)?.checked_add(link.share(from.response))
        })
    }

    /// The sum of T_i + R_i: the reaction bound of Davare et al. 2007, for any links. A check of [`Chain::bounds`],
    /// which never exceeds it.
    ///
    /// # Errors
    /// [`ChainError::Range`].
    pub fn davare(&self) -> Result<Nanos, ChainError> {
        let sum = self
            .hops
            .iter()
            .try_fold(Nanos::ZERO, |sum, hop| sum.checked_add(hop.gap)?.checked_add(hop.response));
        sum.ok_or(ChainError::Range)
    }
}

impl Link {
    /// x_i R_i.
    const fn share(self, response: Nanos) -> Nanos {
        match self {
            Self::Racing => response,
            Self::Settled => Nanos::ZERO,
        }
    }
}

fn hop(set: &TaskSet, certificate: &Certificate, step: &Step) -> Result<Hop, ChainError> {
    let id = step.task;
    let certified = certificate.lanes().iter().flat_map(|lane| lane.tasks()).find(|task| task.task == id);
    let (Some(task), Some(certified)) = (set.task(id), certified) else {
        return Err(ChainError::Unknown { task: id });
    };
    let period = task.period;
    let gap = match (step.gap, task.arrival) {
        (Some(gap), _) if gap < period => return Err(ChainError::Gap { task: id, gap, period }),
        (Some(gap), _) => gap,
        (None, Arrival::Periodic { .. }) => period,
        (None, Arrival::Sporadic) => return Err(ChainError::NoGap { task: id, period }),
    };
    let gap = gap.checked_mul(u64::from(step.skips) + 1).ok_or(ChainError::Range)?;
    Ok(Hop { task: id, gap, response: certified.wcrt })
}
