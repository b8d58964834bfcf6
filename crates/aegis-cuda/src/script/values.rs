//! What a scripted model computes: a digest of all it reads, spread over all it writes.

use aegis_types::{Bytes, ContentHash};

/// Bytes of a tensor that take part, from its start: enough to see any overlap, little enough to simulate quickly.
pub(super) const TENSOR_BYTES: usize = 4096;
/// Bytes of scratch that are written and read back, from its start.
pub(super) const SCRATCH_BYTES: usize = 64;
/// Bytes of weights that take part, from their start.
pub(super) const WEIGHT_BYTES: usize = 64;

/// The generator of Steele, Lea and Flood ("Fast splittable pseudorandom number generators", OOPSLA 2014): tiny,
/// seedable, the same everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SplitMix64 {
    state: u64,
}

impl SplitMix64 {
    /// The generator with this seed.
    pub const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next number.
    pub const fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.state)
    }

    /// The next number of `low ..= high`, by multiplication; the bias is below `high - low` parts in 2^64.
    pub const fn draw_between(&mut self, low: u64, high: u64) -> u64 {
        let span = high.saturating_sub(low) as u128 + 1;
        low + ((self.draw() as u128 * span) >> 64) as u64
    }
}

/// A bijection of words that spreads every bit.
const fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ (word >> 31)
}

/// The digest at the start of a segment.
pub(super) const fn step(digest: u64) -> u64 {
    mix(digest.wrapping_add(1))
}

/// The digest after reading `bytes`; order and length count.
pub(super) fn absorb(digest: u64, bytes: &[u8]) -> u64 {
    let start = mix(digest ^ bytes.len() as u64);
    bytes.chunks(8).fold(start, |digest, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        mix(digest ^ u64::from_le_bytes(word))
    })
}

/// Fills `bytes` with what follows from `digest`.
pub(super) fn emit(digest: u64, bytes: &mut [u8]) {
    let mut generator = SplitMix64::new(digest);
    for chunk in bytes.chunks_mut(8) {
        let word = generator.draw().to_le_bytes();
        chunk.copy_from_slice(&word[..chunk.len()]);
    }
}

/// The part of the weights that takes part.
pub(super) fn weights(hash: &ContentHash, size: Bytes) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(size.get()).unwrap_or(WEIGHT_BYTES).min(WEIGHT_BYTES)];
    emit(hash.to_word(), &mut bytes);
    bytes
}

/// The digest that a job starts with.
pub(super) fn weights_digest(weights: &[u8]) -> u64 {
    absorb(0, weights)
}

/// How much of a segment's scratch takes part.
pub(super) fn scratch_used(scratch: Bytes) -> usize {
    usize::try_from(scratch.get()).unwrap_or(SCRATCH_BYTES).min(SCRATCH_BYTES)
}
