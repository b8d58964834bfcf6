//! How far a bound can be trusted: the theorem is proven, its inputs may only be measured.

use std::sync::Arc;

use aegis_types::LaneId;

use crate::model::{Basis, TaskSet};
use crate::referee::certify::{assumptions, weakest_basis};

/// What a bound rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Confidence {
    /// The bound follows from these assumptions; no measured number entered.
    Proven {
        /// What must hold.
        assumptions: Arc<[String]>,
    },
    /// The bound follows from budgets of which at least one was measured; these are the weakest figures among them.
    Measured {
        /// Fewest confirm samples of a budget on the lane.
        samples: u64,
        /// Smallest margin of a budget on the lane, in millionths.
        margin_ppm: u64,
    },
}

impl Confidence {
    /// The weakest of the budgets of the tasks on `lane`: each of them enters the bound of every task there.
    pub fn of_lane(set: &TaskSet, lane: LaneId) -> Self {
        match weakest_basis(set, lane) {
            Basis::Declared => Self::Proven { assumptions: assumptions(set).into() },
            Basis::Measured { samples, margin_ppm, .. } => Self::Measured { samples, margin_ppm },
        }
    }
}
