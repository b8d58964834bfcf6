//! Solvers and referee against published values, another implementation, and simulation.
//!
//! Random tests take their first seed from `AEGIS_SEED` (default 1) and print the command that repeats a failure.
//! `AEGIS_SETS` sets how many task sets each of them draws.

mod admission;
mod agreement;
mod assignment;
mod bounded;
mod enacted;
mod exact;
mod fair;
mod generate;
mod monotone;
mod mutation;
mod overrun;
mod priority;
mod safe;
mod scale;
mod sim;
mod vectors;
mod verdict;
mod witness;
