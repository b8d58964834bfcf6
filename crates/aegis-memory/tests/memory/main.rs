//! What the crate promises, against oracles that share no code with it. `AEGIS_SEED` chooses other random cases.

mod arena;
mod csv;
mod edges;
mod grant;
mod hard;
mod ledger;
mod oracle;
mod orchestrator;
mod planner;
mod search;
mod swap;
mod vectors;
mod verifier;
