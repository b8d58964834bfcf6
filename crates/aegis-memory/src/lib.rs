//! Memory of one device, planned for all tasks together and lent in pieces.
//!
//! This crate decides offsets and lengths; pointers are made elsewhere. It has no clock, no thread, no I/O and no
//! unsafe code, and nothing allocates on the heap while serving.
//!
//! From demand to grant:
//!
//! 1. [`MemoryOrchestrator::plan`] lowers the [`Demand`] of every task to a [`Problem`], asks a [`Planner`] for a
//!    [`Placement`], and lets [`verify`] judge it. A planner is never trusted.
//! 2. [`PlanReservation::reserve`] enters the [`MemoryPlan`] in the device's [`Ledger`]; dropping undoes it.
//! 3. [`PlanReservation::into_grants`] turns it into one [`TaskGrant`] per task, grouped by lane. Where the blocks of a
//!    task's exchange memory are known, they come out of a [`Pool`].
//!
//! **Invariant.** Two tasks share bytes only if they share a lane and the bytes live inside one segment: the lane has
//! one segment in flight, and that is what makes the sharing sound. Everything else is exclusive.
//!
//! **Deliberately absent.** The orchestrator neither reuses memory across lanes by an enforced order of segments nor
//! places tensors inside a segment: a backend gets an arena. Planner and verifier can do both.
//!
//! | module | what it holds |
//! |---|---|
//! | [`plan`] | [`Demand`], [`MemoryPlan`] and its parts |
//! | [`orchestrator`] | [`MemoryOrchestrator`]: demands to plan |
//! | [`problem`] | [`Problem`], [`Buffer`], [`Placement`]: dynamic storage allocation with lanes |
//! | [`planner`] | [`Planner`]: where a placement comes from |
//! | [`lowest_offset`] | [`LowestOffsetFirst`]: the planner of the house |
//! | [`search`] | [`Search`], [`Portfolio`]: exact where possible, better and better elsewhere |
//! | [`verify`] | the independent verifier |
//! | [`csv`] | instances and solutions in MiniMalloc's text format |
//! | [`shortage`] | [`Shortage`]: why a fleet does not fit, and the smallest change |
//! | [`headroom`] | [`Headroom`]: how far a task may grow; [`LaneCount`]: what lanes cost |
//! | [`pressure`] | [`Pressure`]: how full a device is, and who could make room |
//! | [`ledger`] | [`Ledger`], [`Reservation`] |
//! | [`arena`] | [`Arena`]: sub-allocation of one extent without the heap |
//! | [`pool`] | [`Pool`]: blocks of a few sizes, given and taken in constant time |
//! | [`grant`] | [`TaskGrant`], [`PlanReservation`], [`TaskUsage`] |
//! | [`error`] | [`MemoryError`] |
#![forbid(unsafe_code)]

pub mod arena;
pub mod csv;
pub mod error;
mod exchange;
pub mod grant;
mod happens_before;
pub mod headroom;
pub mod ledger;
pub mod lowest_offset;
pub mod orchestrator;
pub mod plan;
pub mod planner;
pub mod pool;
pub mod pressure;
pub mod problem;
pub mod search;
pub mod shortage;
mod skyline;
pub mod verify;

pub use arena::{Arena, ArenaError};
pub use error::MemoryError;
pub use grant::{LaneGrants, PlanReservation, TaskGrant, TaskUsage, UsageSnapshot};
pub use headroom::{Headroom, LaneCount, lane_counts};
pub use ledger::{Ledger, Reservation};
pub use lowest_offset::LowestOffsetFirst;
pub use orchestrator::{DEFAULT_ALIGN, MemoryOrchestrator};
pub use plan::{Demand, LaneScratch, MemoryPlan, PlanParts, TaskShare};
pub use planner::Planner;
pub use pool::{ClassSize, Pool, PoolError, choose_classes};
pub use pressure::{Pressure, PressureChanged, PressureHolder, SCHEMAS, Thresholds};
pub use problem::{Buffer, BufferId, Conflict, Edge, Gap, Placed, Placement, Problem};
pub use search::{Goal, Portfolio, Search, Status};
pub use shortage::{Change, Shortage};
pub use verify::{Fault, Party};
