//! What the crate promises, against oracles that share no code with it. `AEGIS_SEED` chooses other random cases.

mod arena;
mod csv;
mod edges;
mod faults;
mod grant;
mod hard;
mod headroom;
mod ledger;
mod oracle;
mod orchestrator;
mod planner;
mod pool;
mod pressure;
mod search;
mod swap;
mod vectors;
mod verifier;
