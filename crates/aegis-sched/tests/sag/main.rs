//! Schedule-abstraction graphs against enumeration, simulation and the figures of another tool.
//!
//! Random tests take their first seed from `AEGIS_SEED` (default 1) and print the command that repeats a failure.
//! `AEGIS_SETS` sets how many sets each of them draws. Figures of the other tool come from `AEGIS_VECTORS`.

mod abort;
mod cover;
mod enumerate;
mod exact;
mod generate;
mod global;
mod idle;
mod input;
mod kept;
mod limits;
mod periodic;
mod vectors;
