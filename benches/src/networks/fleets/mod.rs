//! Fleets of generated networks: who runs what how often, in files for `aegis`.
//!
//! Rates relative to each other are those of the application; how fast all of them are is scaled to a utilisation, the
//! sum over all tasks of execution alone over period, so that one fleet serves machines of every size.

mod cost;
mod roles;
mod scale;
mod write;

pub use cost::{Costs, Kind};
pub use roles::{Chain, FLEETS, FleetPlan, Group, Role};
pub use scale::{Period, ScaleError, Utilisation, periods};
pub use write::{Place, WriteError, write};
