//! What the crate promises, against oracles that share no code with it. `AEGIS_SEED` chooses other random cases.

mod arena;
mod grant;
mod ledger;
mod oracle;
mod orchestrator;
mod planner;
mod swap;
mod vectors;
mod verifier;
