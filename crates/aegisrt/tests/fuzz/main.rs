//! Hostile input to the parsers, analyses and planners: an error or a verdict, never a panic, always within limits.
//!
//! Every campaign begins with the files of its corpus as they are, goes on with mutations of them and of whatever
//! answered in a way not seen before, and ends after a fixed number of cases. Environment:
//!
//! | variable | meaning |
//! |---|---|
//! | `AEGIS_SEED` | first seed (default 1) |
//! | `AEGIS_FUZZ_SECONDS` | go on for so long, instead of a number of cases |
//!
//! A case that fails prints its input as text; with that in a file of the corpus, the failure repeats at once.

mod campaign;
mod generate;
mod jobs;
mod memory;
mod mutate;
mod tasks;
