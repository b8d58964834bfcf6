//! Behaviour of the engine: rule by rule, against a naive scheduler on random sets, and against certified bounds.

mod oracle;
mod rules;
mod theorem;
pub(crate) mod world;
