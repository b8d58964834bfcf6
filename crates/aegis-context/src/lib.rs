//! Models on lanes: a loaded model with its I/O under a budget, launched one segment at a time.
//!
//! A [`Lane`] owns a stream and the permit to have one segment in flight. An [`ExecutionContext`] owns a loaded model
//! with its input slots, outputs and recurrent state, all taken from a grant and refused when the budget is exceeded.
//! Both are driven by state machines with one door each ([`state`]).
//!
//! Deliberately absent: which segment runs next, threads, clocks, placement of memory. The lane's thread is the
//! caller's and so are the stamps around a launch.
//!
//! | module | what it holds |
//! |---|---|
//! | [`execution`] | [`ExecutionContext`]: creation under a budget, input and output, state reset |
//! | [`lane`] | [`Lane`], [`LaunchReport`]: enqueue, carry state, signal, contain panics |
//! | [`io`] | [`IoPlan`]: slots and state pairs, and the memory behind them |
//! | [`staging`] | [`Staging`]: the host's side of I/O where the device has memory of its own |
//! | `graphs` | segments captured at load time, by the slot whose buffers they use |
//! | `guard` | the one wall against panics of backends |
//! | [`state`] | [`LaneState`], [`ExecutionState`]: what may follow what |
//! | [`watch`] | [`BudgetWatch`]: what was used against what was granted |
//! | [`error`] | [`ContextError`], [`LaunchError`] |
#![forbid(unsafe_code)]

pub mod error;
pub mod execution;
mod graphs;
mod guard;
pub mod io;
pub mod lane;
pub mod staging;
pub mod state;
pub mod watch;

pub use error::{ContextError, LaunchError};
pub use execution::{ExecutionContext, MemoryUse};
pub use io::{ALIGNMENT, IoPlan, Slot};
pub use lane::{Lane, LaunchReport};
pub use staging::Staging;
pub use state::{ExecutionState, Illegal, LaneState, state_machines_markdown};
pub use watch::{Breach, BudgetWatch};
