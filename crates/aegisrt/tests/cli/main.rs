//! The command line as its users meet it: processes, files, exit codes.
//!
//! Tests that need models take them from the folder in `AEGIS_CACHE` and print that they are skipped where it is not
//! set.

mod arguments;
mod bench;
mod campaign;
mod fleets;
mod gather;
mod gpu;
mod made;
mod models;
mod runs;
mod targets;
mod traces;
