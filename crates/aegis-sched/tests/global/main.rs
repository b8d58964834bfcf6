//! Tests for one queue over several servers against every schedule of small sets.
//!
//! Random tests take their first seed from `AEGIS_SEED` (default 1) and print the command that repeats a failure.
//! `AEGIS_SETS` sets how many sets each of them draws.

mod lanes;
mod schedules;
mod tests;
