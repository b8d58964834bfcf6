//! A second way to run the same files: `tract`, a library in Rust that is linked in and not loaded at run time.
//!
//! For machines that have nothing but cargo, and as an independent opinion on what a model computes. It runs on the host
//! device alone, on the caller's thread.
//!
//! Memory is counted and not enforced. The library takes what it needs from the process's heap, each job anew, and has
//! no hook for another allocator. What can be known of it is reserved from the task's grant all the same, so that plans
//! and budgets count it: constants as the optimised model holds them, and while a job runs the largest sum of values
//! that are alive at one of its nodes. Packed copies of operands and the unrolled patches of convolutions come on top of
//! that; no figure for them exists before a run.
//!
//! Deliberately absent: threads, files, quantised or recurrent state that outlives a job.
#![forbid(unsafe_code)]

mod compile;
mod held;
mod loader;
mod model;
mod reference;

pub use loader::TractLoader;
pub use model::TractModel;
pub use reference::TractReference;

/// The word for this backend in a fleet.
pub(crate) const NAME: &str = "tract";
