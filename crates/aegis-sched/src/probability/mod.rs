//! How likely a deadline is missed, where execution times have given laws. No verdict rests on this.
//!
//! | module | what it holds |
//! |---|---|
//! | [`Law`] | the law of one execution time, with exact weights |
//! | [`convolution`] | the law of a sum; exact up to a size, then rounded against ourselves |
//! | [`chernoff`] | a quick bound on the tail of a sum |
//! | [`failure`](mod@failure) | the probability that a job on a lane is late |
//!
//! Probabilities are floating point, and every one that is returned is an upper bound: whatever is rounded, in value or
//! in mass, is rounded up. Admission, referee and engine use none of it.
//!
//! **What must hold of the laws.** Execution times are independent of each other and of the arrivals, or each law
//! dominates its execution time whatever the others did (a "probabilistic worst case" in the sense of Davis and
//! Cucu-Grosjean, LITES 2019). A law that was fitted to measurements is a hypothesis; the result is no better.

pub mod chernoff;
pub mod convolution;
pub mod failure;
mod law;
mod upward;

use aegis_types::TaskId;

pub use failure::{FailureBound, LateJobs, Method, TaskLaws, failure};
pub use law::Law;

/// Why there is no probability.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LawError {
    /// A law without weight.
    #[error("a law has no value with a weight above zero; it needs at least one")]
    Empty,
    /// Weights whose sum does not fit.
    #[error("the weights of a law add up to more than {max}; legal is a sum up to that")]
    Weights {
        /// The limit.
        max: u64,
    },
    /// Not laws for every segment of every task of the lane.
    #[error("{place}: {found} laws; legal is {needed}, one for each")]
    Count {
        /// What has the laws.
        place: String,
        /// Laws found.
        found: usize,
        /// Laws needed.
        needed: usize,
    },
    /// A task that the lane does not have.
    #[error("position {position} is no task of the lane; legal is below {tasks}")]
    Position {
        /// The position.
        position: usize,
        /// Tasks of the lane.
        tasks: usize,
    },
    /// A task without a minimum time between arrivals.
    #[error("{task} has a period of zero; legal is a span above zero")]
    Period {
        /// The task.
        task: TaskId,
    },
    /// Values or counts leave the range of time.
    #[error("a sum of execution times exceeds the range of time")]
    Range,
    /// Too many jobs to add up.
    #[error("{jobs} jobs in one window; at most {max} are added up")]
    TooMany {
        /// Jobs of one task.
        jobs: u64,
        /// The limit.
        max: u64,
    },
}
