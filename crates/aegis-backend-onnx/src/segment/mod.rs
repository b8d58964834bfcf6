//! Models cut into segments: pieces that run to completion one after the other as one job.
//!
//! A cut lies between two nodes of a model's graph; the tensors that nodes before it make and nodes behind it read
//! cross it and lie in memory of the task's own meanwhile. Where a model is cut is written in the model file itself,
//! which any other program still runs whole; the loader splits such a file into one model for each piece.
//!
//! - [`Cutter`]: where a model may be cut, its pieces as model files, and a file with cuts.
//! - [`fewest_cuts`]: which cuts to make, by measured times that the caller brings.
//! - [`Lifetimes`]: when the tensors inside a model are alive, for a plan that would place each of them.
//!
//! Pieces together compute what the whole computes, but not bit for bit: the library fuses nodes, and does so only
//! inside a piece. With [`OnnxRuntime::unoptimized`](crate::OnnxRuntime::unoptimized) they do.

mod anatomy;
mod chain;
mod cuts;
mod cutter;
mod lifetimes;
mod model;
mod piece;
mod search;
mod split;
mod tensors;

pub use cutter::{Candidate, Cutter};
pub use lifetimes::{Lifetime, Lifetimes};
pub use search::{Found, NoCuts, fewest_cuts};

pub(crate) use chain::Chain;
pub(crate) use model::SegmentedModel;
pub(crate) use split::Split;
