//! What one job costs with the device to itself: measured, or estimated from the network's work.

use std::collections::BTreeMap;

use aegis_types::Nanos;
use aegisrt::config::Profile;

use crate::networks::{Network, Precision};

/// What a fleet runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// A CUDA device.
    Cuda,
    /// Processor cores.
    Host,
}

/// Costs of tasks by name.
#[derive(Clone, Debug, Default)]
pub struct Costs {
    measured: BTreeMap<String, Nanos>,
}

impl Costs {
    /// Costs as a profile says: for each task the median of a job with the device to itself.
    pub fn of(profile: &Profile) -> Self {
        Self { measured: profile.tasks.iter().map(|task| (task.task.clone(), task.alone)).collect() }
    }

    /// The cost of a task that runs `network`, and whether it was measured.
    pub fn of_task(&self, name: &str, network: &Network, kind: Kind, precision: Precision) -> (Nanos, bool) {
        match self.measured.get(name) {
            Some(&cost) if !cost.is_zero() => (cost, true),
            _ => (estimate(network, kind, precision), false),
        }
    }
}

/// An estimate that orders networks by cost: so much for each operator, so much for each multiplication. The figures are
/// round ones of the size of an H100's and of one core's; a fleet that is to have a utilisation is given a profile.
fn estimate(network: &Network, kind: Kind, precision: Precision) -> Nanos {
    let (each, per_micro) = match (kind, precision) {
        (Kind::Cuda, Precision::Fp32) => (6_000, 8_000_000),
        (Kind::Cuda, Precision::Fp16) => (6_000, 16_000_000),
        (Kind::Host, Precision::Fp32) => (2_000, 8_000),
        (Kind::Host, Precision::Fp16) => (2_000, 4_000),
    };
    Nanos::new(network.nodes * each + network.work.saturating_mul(1_000) / per_micro)
}
