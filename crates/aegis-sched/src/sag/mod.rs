//! Schedule-abstraction graphs: every schedule of a concrete set of jobs, as intervals instead of one by one.
//!
//! A job is released somewhere in an interval and runs somewhere in an interval; a job-level fixed priority picks
//! what runs next, without preemption. A state is the set of jobs already dispatched and the interval in which the
//! processor becomes free. Exploring level by level, with one node for each set and its touching intervals merged,
//! sees every schedule (Nasri, Brandenburg, RTSS 2017; on several cores Nasri, Nelissen, Brandenburg, ECRTS 2018
//! and 2019).
//!
//! | module | what it is |
//! |---|---|
//! | [`job`] | jobs, edges between them, and what is refused |
//! | [`abort`] | jobs that are ended from outside |
//! | [`csv`] | the text formats of the tool nptest |
//! | [`report`] | options, limits, verdicts |
//! | [`explore`](mod@explore) | every schedule of a set |
//! | [`cover`](mod@cover) | every state, for the referee to replay |
//! | [`witness`](mod@witness) | one schedule that misses |
//! | [`periodic`] | every schedule of periodic tasks, until the states repeat |
//! | [`concrete`] | the same where the core stays free although a job is ready, with every state |
//! | `lane`, `idle` | one core: exact; with inserted idle time: safe |
//! | `global` | several cores under one queue, or delays between jobs: safe |
//! | `table`, `level`, `search` | jobs, states and limits, laid out for speed |
//!
//! Nothing here makes a certificate; what a runtime may rely on, the referee decides. On one core, without delays and
//! aborts, it can replay the states ([`crate::referee::sag`]); with inserted idle time those of periodic tasks
//! ([`concrete`]), which certify the policies that insert it.

pub mod abort;
pub mod concrete;
pub mod cover;
pub mod csv;
pub mod explore;
mod global;
mod idle;
pub mod job;
mod lane;
mod level;
pub mod periodic;
pub mod report;
mod search;
mod table;
pub mod witness;

pub use abort::Abort;
pub use concrete::{PeriodicCover, explore_inserting};
pub use cover::{Cover, CoverState, cover};
pub use explore::explore;
pub use job::{Edge, Job, JobKey, JobSet, SagError};
pub use periodic::{JobPolicy, PeriodicReport, PeriodicTask, TaskBounds, explore_periodic};
pub use report::{
    Effort, Exactness, IdleRule, JobBounds, Limit, Limits, OnMiss, Options, SagReport, SagVerdict,
};
pub use witness::witness;
