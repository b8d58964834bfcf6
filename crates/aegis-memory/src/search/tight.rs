//! What follows where no room is left to waste. The bounds of a section say that there is room for all; here two rules
//! say where in it. Both hold for every completion. They are applied where most sections can waste little: elsewhere they
//! say next to nothing, and cost time.
//!
//! *Seams.* Between two neighbouring sections some open items end, some start, and the others cross. Below the lowest that
//! crosses there are on the left only items that end, and on the right only items that start, but for what may be
//! wasted. So the height of the lowest crossing item is a sum of sizes on both sides.
//!
//! *Floors.* Sections that can waste nothing and whose lowest place is at the same height are covered at that height
//! without a hole by items one beside the other. An item that no such row has is not at that height.

use super::state::{State, Stuck};
use super::strip::{Range, Strip};

/// Items on one side of a seam whose sums are looked at; with more there are sums for everything.
const SIDE_MOST: usize = 5;

/// Sums of the sizes on one side of a seam.
struct Sums {
    sums: [u64; 1 << SIDE_MOST],
    count: usize,
}

impl Sums {
    const fn new() -> Self {
        Self { sums: [0; 1 << SIDE_MOST], count: 1 }
    }

    /// With one more item; `false` where that is too many.
    fn push(&mut self, size: u64) -> bool {
        if self.count == 1 << SIDE_MOST {
            return false;
        }
        for at in 0..self.count {
            self.sums[self.count + at] = self.sums[at] + size;
        }
        self.count *= 2;
        true
    }

    fn of(&self) -> &[u64] {
        &self.sums[..self.count]
    }
}

impl State {
    /// Applies both rules to the sections of a range where something changed since they were last applied. Says whether
    /// anything was raised.
    pub(super) fn tighten(&mut self, strip: &Strip, range: Range) -> Result<bool, Stuck> {
        if !self.tight {
            return Ok(false);
        }
        let mut sections = std::mem::take(&mut self.changed);
        sections.clear();
        for section in range.0..range.1 {
            if std::mem::take(&mut self.stale[section as usize]) {
                sections.push(section);
            }
        }
        let raised = self.mind(strip, range, &sections);
        self.changed = sections;
        raised
    }

    fn mind(&mut self, strip: &Strip, range: Range, sections: &[u32]) -> Result<bool, Stuck> {
        let (mut raised, mut seams, mut rows) = (false, range.0, range.0);
        for &section in sections {
            // The seams on both sides, each once.
            for seam in seams.max(section.saturating_sub(1))..(section + 1).min(range.1 - 1) {
                raised |= self.mind_seam(strip, seam)?;
                seams = seam + 1;
            }
        }
        for &section in sections {
            if section < rows || !self.is_tight(strip, section) {
                continue;
            }
            let low = self.lowest(section as usize);
            let alike = |at: &u32| self.is_tight(strip, *at) && self.lowest(*at as usize) == low;
            let from = (range.0..section).rev().take_while(alike).last().unwrap_or(section);
            let to = (section..range.1).take_while(alike).last().unwrap_or(section) + 1;
            raised |= self.mind_floor(strip, (from, to))?;
            rows = to;
        }
        Ok(raised)
    }

    fn is_tight(&self, strip: &Strip, section: u32) -> bool {
        self.rest[section as usize] > 0 && self.slack(strip, section as usize) == 0
    }

    /// The seam behind a section.
    fn mind_seam(&mut self, strip: &Strip, section: u32) -> Result<bool, Stuck> {
        let (left, right) = (section as usize, section as usize + 1);
        if self.across(left) == 0 {
            return Ok(false);
        }
        let (low, high) = (self.lowest(left), self.lowest(right));
        if low == high {
            return Ok(false);
        }
        let waste = (self.slack(strip, left), self.slack(strip, right));
        // What may be wasted on the lower side lifts it to the other, and nothing follows.
        if low.abs_diff(high) <= if low < high { waste.0 } else { waste.1 } {
            return Ok(false);
        }
        let (mut ends, mut starts) = (Sums::new(), Sums::new());
        let few = self.open_to(left).all(|item| ends.push(strip.room[item]))
            && self.open_from(right).all(|item| starts.push(strip.room[item]));
        if !few {
            return Ok(false);
        }
        let crossers = |state: &Self| {
            let open = state.open_in(left);
            open.filter(|&item| strip.hi[item] as usize != right).map(|item| (state.least(item), item)).min()
        };
        let crossing = crossers(self).map_or(0, |(least, _)| least);
        let least = height((low, waste.0, &ends), (high, waste.1, &starts), crossing);
        let Some(least) = least else {
            self.fail(left);
            return Err(Stuck);
        };
        if least == crossing {
            return Ok(false);
        }
        while let Some((_, item)) = crossers(self).filter(|&(low, _)| low < least) {
            self.raise(strip, item, least)?;
        }
        Ok(true)
    }

    /// The row at the lowest place of sections without slack.
    fn mind_floor(&mut self, strip: &Strip, (from, to): Range) -> Result<bool, Stuck> {
        let low = self.lowest(from as usize);
        let width = (to - from) as usize;
        let mut row = std::mem::take(&mut self.row);
        row.clear();
        row.resize(2 * (width + 1), false);
        let (ahead, back) = row.split_at_mut(width + 1);
        ahead[0] = true;
        let end = |item: usize| (strip.hi[item].min(to) - from) as usize;
        for at in 0..width {
            if ahead[at] {
                self.candidates(from, at, low).for_each(|item| ahead[end(item)] = true);
            }
        }
        back[width] = true;
        let mut out = Vec::new();
        for at in (0..width).rev() {
            for item in self.candidates(from, at, low) {
                if ahead[at] && back[end(item)] {
                    back[at] = true;
                } else {
                    out.push(item);
                }
            }
        }
        let covered = ahead[width];
        self.row = row;
        if !covered {
            self.fail(from as usize);
            return Err(Stuck);
        }
        for &item in &out {
            if self.is_open(item) && !self.is_passed(item) {
                self.pass(item);
            }
            self.raise(strip, item, low + 1)?;
        }
        Ok(!out.is_empty())
    }

    /// Open items that can be at `low` from section `from + at` on; at the first, also those that started before.
    fn candidates(&self, from: u32, at: usize, low: u64) -> impl Iterator<Item = usize> {
        let section = from as usize + at;
        let first = (at == 0).then(|| self.open_in(section)).into_iter().flatten();
        let later = (at > 0).then(|| self.open_from(section)).into_iter().flatten();
        first.chain(later).filter(move |&item| self.least(item) == low)
    }
}

/// The least height, from `from` on, that is reached from both sides: from a lowest place by a sum and what may be wasted.
fn height(left: (u64, u64, &Sums), right: (u64, u64, &Sums), from: u64) -> Option<u64> {
    let mut least = None;
    for end in left.2.of().iter().map(|sum| left.0 + sum) {
        for start in right.2.of().iter().map(|sum| right.0 + sum) {
            let at = end.max(start).max(from);
            if at <= end + left.1 && at <= start + right.1 && least.is_none_or(|least| at < least) {
                least = Some(at);
            }
        }
    }
    least
}

#[cfg(test)]
mod tests {
    use super::super::strip::Item;
    use super::*;

    /// Nothing is placed. Of each item its start, its end and its size; as a strip numbers them.
    fn begin(items: &[(u64, u64, u64)], capacity: u64) -> (Strip, State) {
        let item = |&(lower, upper, size): &(u64, u64, u64)| Item {
            size,
            align: 1,
            live: vec![(lower, upper)],
            fixed: None,
        };
        let strip = Strip::new(&items.iter().map(item).collect::<Vec<_>>());
        let mut state = State::new(&strip);
        state.reset(&strip, capacity).expect("enough room");
        (strip, state)
    }

    #[test]
    fn what_crosses_a_seam_comes_at_a_sum_of_both_sides() {
        // Crossing, then two that end, then one that starts.
        let (strip, mut state) = begin(&[(0, 2, 5), (0, 1, 2), (0, 1, 3), (1, 2, 5)], 10);
        let whole = (0, 2);
        assert_eq!(state.tighten(&strip, whole), Ok(false));
        state.place(&strip, 2).expect("enough room");
        assert_eq!(state.least(0), 3);
        assert_eq!(state.tighten(&strip, whole), Ok(true));
        assert_eq!(state.least(0), 5);
        assert_eq!(state.tighten(&strip, whole), Ok(false));
    }

    #[test]
    fn a_seam_that_cannot_be_filled_below_what_crosses_is_stuck() {
        let items = [(0, 2, 2), (0, 2, 3), (0, 1, 2), (0, 1, 3), (1, 2, 1), (1, 2, 4)];
        let (strip, mut state) = begin(&items, 10);
        state.place(&strip, 4).expect("enough room");
        // Whatever ends on the left reaches to 5, and there would be a hole below 6.
        state.raise(&strip, 0, 6).expect("enough room");
        state.raise(&strip, 1, 6).expect("enough room");
        assert_eq!(state.tighten(&strip, (0, 2)), Err(Stuck));
    }

    #[test]
    fn a_row_leaves_out_what_has_no_neighbour() {
        // 0 reaches from the first section to the second, 1 is in the first, 2 in the second and third, 3 in the third.
        let (strip, mut state) = begin(&[(0, 2, 2), (0, 1, 2), (1, 3, 2), (2, 3, 2)], 4);
        let whole = (0, 3);
        assert_eq!(state.tighten(&strip, whole), Ok(false));
        state.pass(1);
        state.propagate(&strip, whole).expect("it can lie on the other");
        assert!(!state.is_passed(2));
        assert_eq!(state.tighten(&strip, whole), Ok(true));
        assert!(state.is_passed(2), "before it only 1 ends, which is not at the lowest place");
        assert!(!state.is_passed(0) && !state.is_passed(3));
    }
}
