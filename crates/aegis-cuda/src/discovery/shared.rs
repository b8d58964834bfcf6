//! Memory that a GPU shares with the system, and how much of it a fleet may have.
//!
//! A discrete GPU's memory is free or taken. Where the GPU has none of its own, what a fleet reserves is missing in the
//! system, and what the system's programs take is missing for the fleet; a reservation is pinned, so nothing of it can
//! be given back under pressure. Hence a floor below which the system is never pushed, and a headroom that is watched.

use aegis_types::Bytes;

/// The part of all memory that stays with the system, as a divisor.
const FLOOR_DIVISOR: u64 = 16;
/// The least that stays with the system: what it needs to come up and to log in by.
const FLOOR_LEAST: Bytes = Bytes::new(256 << 20);

/// The state of shared memory at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedMemory {
    /// All of it.
    pub total: Bytes,
    /// What the system says that programs can still have without swapping: what the system, its caches that cannot be
    /// dropped, and all other programs use is subtracted already.
    pub available: Bytes,
}

impl SharedMemory {
    /// What stays with the system: a sixteenth of everything, at least 256 MiB.
    pub fn floor(self) -> Bytes {
        Bytes::new(self.total.get() / FLOOR_DIVISOR).max(FLOOR_LEAST)
    }

    /// What may still be taken: what is available above the floor, zero if nothing is.
    pub fn headroom(self) -> Bytes {
        self.available.checked_sub(self.floor()).unwrap_or(Bytes::ZERO)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_floor_stays_with_the_system_and_the_rest_may_be_taken() {
        let mebibytes = |count: u64| Bytes::new(count << 20);
        // Total, available, floor and headroom in MiB.
        for (total, available, floor, headroom) in [
            (30_720, 20_480, 1_920, 18_560),
            (7_680, 4_096, 480, 3_616),
            (2_048, 1_024, 256, 768),
            (7_680, 480, 480, 0),
            (7_680, 100, 480, 0),
            (0, 0, 256, 0),
        ] {
            let memory = SharedMemory { total: mebibytes(total), available: mebibytes(available) };
            assert_eq!(
                (memory.floor(), memory.headroom()),
                (mebibytes(floor), mebibytes(headroom)),
                "{memory:?}"
            );
        }
    }
}
