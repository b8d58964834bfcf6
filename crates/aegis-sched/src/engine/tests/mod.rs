//! Behaviour of the engine: rule by rule, against a naive scheduler on random sets, and against certified bounds.

mod change;
mod hold;
mod oracle;
mod rules;
mod succeed;
mod theorem;
mod turns;
pub(crate) mod world;
