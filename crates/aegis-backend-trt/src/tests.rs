//! This side of the interface, against a library of ours that is compiled from the vendor's headers (`tests/mock`).
//!
//! The mock's device is the host: addresses are the process's own, and a run is done when it is enqueued. Without
//! headers at build time, or without a C++ compiler where the tests run, they are skipped and say so.

mod bench;
mod conformance;
mod gate;
mod mock;
mod refusals;
mod serving;
