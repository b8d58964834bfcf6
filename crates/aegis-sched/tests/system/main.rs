//! What a fleet adds to its lanes: chains, contention, exclusion, changes of mode and probabilities, against
//! simulators that share nothing with the crate, and against published values.
//!
//! Random tests take their first seed from `AEGIS_SEED` (default 1) and print the command that repeats a failure.
//! `AEGIS_SETS` sets how many systems each of them draws.

mod chain;
mod contention;
mod exclusion;
mod fleet;
mod mode;
mod probability;
mod seeds;
mod sim;
