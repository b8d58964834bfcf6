//! What is worse to leave out, and a seeded order where anything goes.

use super::state::{State, Terrain};
use crate::model::Criticality;

/// What an assignment leaves out. Less is better, the most critical first: one task of high criticality outweighs any
/// number of others, then the number of tasks counts, then their load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Loss {
    high: usize,
    medium: usize,
    low: usize,
    /// Work of those left out per time, with the budgets of the set, in fractions of 2^-32.
    load: u128,
}

impl Loss {
    pub(super) fn of(terrain: &Terrain<'_>, lanes: &[Option<aegis_types::LaneId>]) -> Self {
        let mut loss = Self::default();
        for (task, _) in lanes.iter().enumerate().filter(|(_, lane)| lane.is_none()) {
            match terrain.criticality[task] {
                Criticality::High => loss.high += 1,
                Criticality::Medium => loss.medium += 1,
                Criticality::Low => loss.low += 1,
            }
            loss.load = loss.load.saturating_add(terrain.share(task));
        }
        loss
    }

    pub(super) fn of_state(state: &State<'_>) -> Self {
        Self::of(state.terrain, &state.lanes)
    }

    /// Nobody is left out.
    pub(super) const fn is_none(&self) -> bool {
        self.high + self.medium + self.low == 0
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): a sequence that depends on nothing but its seed.
#[derive(Clone, Debug)]
pub(super) struct Draw(pub u64);

impl Draw {
    /// A number below `count`; zero where there is none.
    pub(super) fn below(&mut self, count: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let word = u128::from(z ^ (z >> 31));
        // The product of a word and a count, cut to its upper half, lies below the count.
        usize::try_from((word * count as u128) >> 64).unwrap_or(0)
    }
}
