//! The height that placed buffers reach at each logical instant.
//!
//! A segment tree without propagation: both operations cost O(log n), where a table of conflicting pairs would need
//! quadratic memory for buffers that are all live together.

/// Heights over a row of columns; heights only grow.
#[derive(Clone, Debug)]
pub(crate) struct Skyline {
    leaves: usize,
    /// The highest column below each node.
    top: Vec<u64>,
    /// The height to which every column below a node was raised at once.
    raised: Vec<u64>,
}

impl Skyline {
    /// A flat row of `columns` columns.
    pub(crate) fn new(columns: usize) -> Self {
        let leaves = columns.max(1).next_power_of_two();
        Self { leaves, top: vec![0; 2 * leaves], raised: vec![0; 2 * leaves] }
    }

    /// Raises every column of `[from, to)` to at least `height`.
    pub(crate) fn raise(&mut self, from: usize, to: usize, height: u64) {
        let (mut left, mut right) = (from + self.leaves, to + self.leaves);
        while left < right {
            if left & 1 == 1 {
                self.raise_node(left, height);
                left += 1;
            }
            if right & 1 == 1 {
                right -= 1;
                self.raise_node(right, height);
            }
            (left, right) = (left / 2, right / 2);
        }
        self.refresh(from + self.leaves);
        self.refresh(to - 1 + self.leaves);
    }

    /// The highest column of `[from, to)`.
    pub(crate) fn highest(&self, from: usize, to: usize) -> u64 {
        let (mut left, mut right) = (from + self.leaves, to + self.leaves);
        let mut highest = 0;
        while left < right {
            if left & 1 == 1 {
                highest = highest.max(self.top[left]);
                left += 1;
            }
            if right & 1 == 1 {
                right -= 1;
                highest = highest.max(self.top[right]);
            }
            (left, right) = (left / 2, right / 2);
        }
        // Every ancestor of a visited node reaches over one end of the range, so it is an ancestor of an end leaf.
        highest.max(self.raised_above(from + self.leaves)).max(self.raised_above(to - 1 + self.leaves))
    }

    fn raise_node(&mut self, node: usize, height: u64) {
        self.top[node] = self.top[node].max(height);
        self.raised[node] = self.raised[node].max(height);
    }

    fn refresh(&mut self, leaf: usize) {
        let mut node = leaf / 2;
        while node > 0 {
            self.top[node] = self.top[2 * node].max(self.top[2 * node + 1]).max(self.raised[node]);
            node /= 2;
        }
    }

    fn raised_above(&self, leaf: usize) -> u64 {
        let mut node = leaf;
        let mut highest = 0;
        while node > 0 {
            highest = highest.max(self.raised[node]);
            node /= 2;
        }
        highest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_equals_a_plain_row() {
        // A linear congruence spreads the ranges; every range of the row is compared after every step.
        for columns in [1usize, 2, 5, 8, 13] {
            let mut sky = Skyline::new(columns);
            let mut row = vec![0u64; columns];
            let mut word = 12_345u64;
            for _ in 0..60 {
                word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let from = (word >> 33) as usize % columns;
                let to = from + 1 + (word >> 45) as usize % (columns - from);
                let height = (word >> 20) % 50;
                sky.raise(from, to, height);
                row[from..to].iter_mut().for_each(|h| *h = height.max(*h));
                for a in 0..columns {
                    for b in a + 1..=columns {
                        let expected = row[a..b].iter().copied().max().unwrap();
                        assert_eq!(sky.highest(a, b), expected, "[{a}, {b}) of {row:?}");
                    }
                }
            }
        }
    }
}
