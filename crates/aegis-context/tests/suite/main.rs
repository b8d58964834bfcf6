//! Contexts and lanes on the simulated and the host device, with scripted models.

mod carry;
mod creation;
mod documents;
mod fixture;
mod launch;
mod staged;

#[path = "../late/mod.rs"]
mod late;
