//! Assignment and what-if against exhaustive enumeration.
//!
//! Random tests take their first seed from `AEGIS_SEED` (default 1) and print the command that repeats a failure.
//! `AEGIS_SETS` sets how many task sets each of them draws.

mod contended;
mod draw;
mod exhaustive;
mod offers;
mod search;
mod whatif;
