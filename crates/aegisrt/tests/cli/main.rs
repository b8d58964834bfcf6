//! The command line as its users meet it: processes, files, exit codes.
//!
//! Tests that need models take them from the folder in `AEGIS_CACHE` and print that they are skipped where it is not
//! set.

mod apart;
mod arguments;
mod assign;
mod bench;
mod campaign;
mod carriers;
mod chains;
mod changes;
mod clients;
mod elsewhere;
mod fleets;
mod gather;
mod gpu;
mod groups;
mod inputs;
mod inserted;
mod instances;
mod judged;
mod made;
mod models;
mod outside;
mod runs;
mod sag;
mod segments;
mod space;
mod targets;
mod traces;
mod verdicts;
