//! Admission and scheduling of AegisRT, without a GPU, a thread, a clock or memory.
//!
//! | module | what it answers |
//! |---|---|
//! | [`model`], [`platform`] | what is promised, and what the runtime itself costs |
//! | [`policy`] | what runs next |
//! | [`analysis`] | which bounds to claim; not trusted |
//! | [`admission`] | whether a set fits, why not, and what would |
//! | [`assign`] | which lane a task belongs to, and which platform a fleet |
//! | [`whatif`] | which single change would admit a refused set |
//! | [`witness`](mod@witness) | a schedule in which a refused lane misses |
//! | [`enact`](mod@enact) | that schedule, run by the engine itself |
//! | [`chain`] | how late an output answers its input through several tasks, and how old it is |
//! | [`contention`] | which budgets hold beside the rest of a set |
//! | [`exclusion`] | what it costs to keep tasks from running at once |
//! | [`mode`] | how to get from one certified set to another while jobs are pending |
//! | [`probability`] | how likely a deadline is missed under given laws; no verdict rests on it |
//! | [`engine`] | the state machine that releases, decides and watches every assumption |
//! | [`explain`] | where the time of a job went |
//! | [`replay`](mod@replay) | whether a trace's decisions are made again, byte for byte |
//! | [`counterfactual`](mod@counterfactual) | what another policy would have decided |
//! | [`sag`] | when jobs of a concrete set complete, in every schedule that intervals allow |
//! | [`global`] | what one queue over several lanes could certify; nothing rests on it |
//! | [`referee`] | whether a claimed bound is one: the only place that makes a [`Certificate`] |
#![forbid(unsafe_code)]

pub mod admission;
pub mod analysis;
pub mod assign;
pub mod chain;
pub mod contention;
pub mod counterfactual;
pub mod enact;
pub mod engine;
pub mod error;
pub mod exclusion;
pub mod explain;
pub mod global;
pub mod mode;
pub mod model;
pub mod platform;
pub mod policy;
pub mod probability;
pub mod referee;
pub mod replay;
pub mod sag;
pub mod whatif;
pub mod witness;

mod objection;

/// The README's program, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

pub use admission::{AdmissionController, AdmissionReport, AdmissionRequest, Confidence, Verdict};
pub use counterfactual::{Counterfactual, counterfactual};
pub use engine::{Engine, Input, Outbox};
pub use error::ModelError;
pub use explain::{Blame, BlameKind, BlameTerm, Explainer, Explanation};
pub use model::{Arrival, Basis, Criticality, OccupancyBudget, OnOverrun, Task, TaskSet};
pub use platform::{Overheads, PartitionModel, Platform, charge};
pub use policy::{POLICIES, PolicyClass, SchedulingPolicy};
pub use referee::certificate::{Certificate, CertifiedTask, LaneCertificate, Rung, Term, TermKind};
pub use replay::{Replay, ReplayEnd, replay, replay_changes};
