//! Numbers from a seed, with the ends of ranges more often than chance would have them.

/// A generator of its own, so that a seed means the same input on every machine and version.
pub struct Rng(u64);

const ENDS: [u64; 12] =
    [0, 1, 2, 63, 64, 1_000_000, 1 << 32, (1 << 62) - 1, 1 << 62, 1 << 63, u64::MAX - 1, u64::MAX];

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x0f0f_5a5a_c3c3_9696)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Below `count`, which is above zero.
    pub fn below(&mut self, count: usize) -> usize {
        (self.next() >> 16) as usize % count
    }

    /// From `low` to `high`, both included.
    pub fn range(&mut self, low: u64, high: u64) -> u64 {
        low + (self.next() >> 16) % (high - low + 1)
    }

    pub fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    /// An end of some range, or a number of any size.
    pub fn number(&mut self) -> u64 {
        match self.below(4) {
            0 => *self.pick(&ENDS),
            1 => self.pick(&ENDS).wrapping_add(self.range(0, 4)).wrapping_sub(2),
            2 => self.range(0, 100),
            _ => self.next() >> self.below(64),
        }
    }
}
