//! Networks that the project makes itself, as ONNX files with seeded weights, and fleets of them.
//!
//! Trained models cannot be carried along, and what a deadline needs is not their knowledge but their work: operators,
//! shapes and sizes as published networks have them. Every axis is fixed and no operator depends on data, so that a
//! network is captured into a graph wherever its backend can.
//!
//! | module | what it holds |
//! |---|---|
//! | [`draft`] | a network under construction, and its file |
//! | `layers`, `blocks` | single operators, and the arrangements of them that papers describe |
//! | `classify`, `vision`, `sequence` | whole networks |
//! | [`catalogue`] | every network by name and size |
//! | [`fleets`] | who runs which network how often, written as files |

mod blocks;
pub mod catalogue;
mod classify;
pub mod draft;
pub mod fleets;
mod layers;
mod proto;
mod sequence;
mod vision;

pub use catalogue::{DESIGNS, Design, Size};
pub use draft::{Network, Precision};
