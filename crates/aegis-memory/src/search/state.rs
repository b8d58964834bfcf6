//! A partial placement that can be undone: what is placed, how low the others can go, and whether there is still room.
//!
//! Placed buffers form a skyline. For every open buffer two numbers are kept: `floor`, the lowest offset at which it
//! can go next, and `least`, a bound below its offset in every completion. A buffer is *passed* when the search has
//! decided that it does not stay at its floor; then something open must come below it, which raises `least`.
//! In every section the lowest `least` plus all open bytes must stay within the capacity.

use super::strip::{Range, Strip};

/// A section can waste little if it is at most this part of the capacity.
pub(super) const LITTLE: u64 = 256;

/// No item.
pub(super) const NONE: u32 = u32::MAX;

/// Bounds that one propagation raises at most. Passed items push each other up by each other's sizes, which among sizes
/// far apart takes as long as to count to the capacity.
const RAISES: u32 = 1 << 16;

/// What is put back when a decision is undone.
#[derive(Clone, Copy, Debug)]
enum Change {
    Placed(u32),
    Floor(u32, u64),
    Least(u32, u64),
    Passed(u32),
    Unpassed(u32),
    Section(u32, u32, u64),
}

/// The search has no completion below this state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stuck;

#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) capacity: u64,
    words: usize,
    /// For each item the set of items that it overlaps in time.
    near: Vec<u64>,
    /// For each section the set of items that are live in it.
    members: Vec<u64>,
    /// Words of `members` that are not empty in each section.
    extent: Vec<(u32, u32)>,
    open: Vec<u64>,
    passed: Vec<u64>,
    /// Lowest offset of each open item; offset of each placed one.
    pub(super) floor: Vec<u64>,
    least: Vec<u64>,
    /// Open bytes of each section.
    pub(super) rest: Vec<u64>,
    /// The open item with the lowest `least` in each section, and that bound.
    lowest: Vec<(u32, u64)>,
    /// Open items that are live on both sides of the end of each section.
    across: Vec<u32>,
    /// The next item that is its like in everything; twins are placed in order.
    twin_after: Vec<u32>,
    twin_before: Vec<u32>,
    /// How often each section ran out of room: what the order of later tries learns from.
    pub(super) failures: Vec<u64>,
    /// Offsets in the best placement that is known.
    pub(super) known: Vec<u64>,
    /// The first item that starts in each section, and the number of items behind the last.
    starts: Vec<u32>,
    /// All items by their last section, and where those of each section begin.
    ending: Vec<u32>,
    ends: Vec<u32>,
    /// Sections where something changed since the rules for tight sections were applied; none where those rules do not
    /// hold or are not worth their time.
    pub(super) stale: Vec<bool>,
    /// Room for lists, kept from one use to the next.
    pub(super) changed: Vec<u32>,
    pub(super) row: Vec<bool>,
    /// Whether there are no walls and no gaps.
    plain: bool,
    /// Whether most sections can waste little under this capacity, and the rules for them hold.
    pub(super) tight: bool,
    trail: Vec<Change>,
    /// Whether a propagation was given up: nothing is known of the range then.
    endless: bool,
}

impl State {
    pub(super) fn new(strip: &Strip) -> Self {
        let (count, words) = (strip.len(), strip.len().div_ceil(64));
        let mut members = vec![0u64; strip.sections * words];
        for (item, live) in strip.live.iter().enumerate() {
            for section in live.iter().flat_map(|&(from, to)| from as usize..to as usize) {
                members[section * words + item / 64] |= 1 << (item % 64);
            }
        }
        let mut near = vec![0u64; count * words];
        for (item, live) in strip.live.iter().enumerate() {
            let row = &mut near[item * words..][..words];
            for section in live.iter().flat_map(|&(from, to)| from as usize..to as usize) {
                row.iter_mut().zip(&members[section * words..]).for_each(|(row, member)| *row |= member);
            }
            row[item / 64] &= !(1 << (item % 64));
        }
        let extent = (0..strip.sections)
            .map(|section| {
                let row = &members[section * words..][..words];
                let first = row.iter().position(|&word| word != 0).unwrap_or(0);
                let last = row.iter().rposition(|&word| word != 0).map_or(0, |last| last + 1);
                (first as u32, last as u32)
            })
            .collect();
        let (twin_before, twin_after) = twins(strip);
        let mut ending: Vec<u32> = (0..count as u32).collect();
        ending.sort_by_key(|&item| strip.hi[item as usize]);
        let until = |section: u32| ending.partition_point(|&item| strip.hi[item as usize] <= section) as u32;
        let ends = (0..=strip.sections as u32).map(until).collect();
        Self {
            capacity: 0,
            words,
            near,
            members,
            extent,
            open: vec![0; words],
            passed: vec![0; words],
            floor: vec![0; count],
            least: vec![0; count],
            rest: Vec::new(),
            lowest: vec![(NONE, 0); strip.sections],
            across: Vec::new(),
            twin_after,
            twin_before,
            failures: vec![0; strip.sections],
            known: vec![0; count],
            starts: (0..=strip.sections as u32).map(|at| strip.items_of((0, at)).1 as u32).collect(),
            tight: false,
            plain: strip.walls.is_empty() && strip.live.iter().all(|live| live.len() == 1),
            ending,
            ends,
            stale: vec![false; strip.sections],
            changed: Vec::new(),
            row: Vec::new(),
            trail: Vec::new(),
            endless: false,
        }
    }

    /// Back to nothing placed, under a capacity.
    pub(super) fn reset(&mut self, strip: &Strip, capacity: u64) -> Result<(), Stuck> {
        self.capacity = capacity;
        self.trail.clear();
        self.endless = false;
        self.open.fill(0);
        self.passed.fill(0);
        self.rest.clone_from(&strip.load);
        let room = self.rest.iter().zip(&strip.spare);
        let waste = room.map(|(load, spare)| (capacity + spare).saturating_sub(*load));
        let tight = waste.filter(|&waste| waste <= capacity / LITTLE).count();
        self.tight = self.plain && 2 * tight >= strip.sections;
        self.stale.fill(self.tight);
        self.across = vec![0; strip.sections];
        for item in 0..strip.len() {
            self.open[item / 64] |= 1 << (item % 64);
            self.floor[item] = strip.settle(item, 0);
            self.least[item] = self.floor[item];
            for end in strip.lo[item]..strip.hi[item] - 1 {
                self.across[end as usize] += 1;
            }
        }
        let verdict = (0..strip.sections).try_for_each(|section| self.survey(strip, section));
        self.trail.clear();
        verdict
    }

    pub(super) fn is_open(&self, item: usize) -> bool {
        self.open[item / 64] >> (item % 64) & 1 == 1
    }

    pub(super) fn is_passed(&self, item: usize) -> bool {
        self.passed[item / 64] >> (item % 64) & 1 == 1
    }

    /// Whether its elder twin is still open.
    pub(super) fn waits_for_twin(&self, item: usize) -> bool {
        let twin = self.twin_before[item];
        twin != NONE && self.is_open(twin as usize)
    }

    pub(super) fn least(&self, item: usize) -> u64 {
        self.least[item]
    }

    /// The room that a section can still waste.
    pub(super) fn slack(&self, strip: &Strip, section: usize) -> u64 {
        let floor = self.lowest[section].1;
        self.capacity + strip.spare[section] - floor - self.rest[section] - strip.walls_above(section, floor)
    }

    /// The lowest offset at which anything can still come in a section.
    pub(super) fn lowest(&self, section: usize) -> u64 {
        self.lowest[section].1
    }

    /// How many open items lie across the end of a section.
    pub(super) fn across(&self, section: usize) -> u32 {
        self.across[section]
    }

    /// Open items of a section.
    pub(super) fn open_in(&self, section: usize) -> impl Iterator<Item = usize> {
        let (first, last) = self.extent[section];
        let row = section * self.words;
        (first as usize..last as usize)
            .flat_map(move |word| bits(word, self.members[row + word] & self.open[word]))
    }

    /// Open items that start in a section.
    pub(super) fn open_from(&self, section: usize) -> impl Iterator<Item = usize> {
        self.open_between(self.starts[section] as usize, self.starts[section + 1] as usize)
    }

    /// Open items whose last section it is.
    pub(super) fn open_to(&self, section: usize) -> impl Iterator<Item = usize> {
        let (from, to) = (self.ends[section] as usize, self.ends[section + 1] as usize);
        self.ending[from..to].iter().map(|&item| item as usize).filter(|&item| self.is_open(item))
    }

    /// Counts that a section ran out of room.
    pub(super) fn fail(&mut self, section: usize) {
        self.failures[section] += 1;
    }

    /// Learns that an open item comes no lower than this.
    pub(super) fn raise(&mut self, strip: &Strip, item: usize, to: u64) -> Result<(), Stuck> {
        let least = strip.settle(item, to);
        if least <= self.least[item] {
            return Ok(());
        }
        if least + strip.size[item] > self.capacity {
            return Err(Stuck);
        }
        self.trail.push(Change::Least(item as u32, self.least[item]));
        self.least[item] = least;
        self.refresh(strip, (strip.lo[item], strip.hi[item]))
    }

    /// Open items of a range of positions.
    pub(super) fn open_between(&self, first: usize, last: usize) -> impl Iterator<Item = usize> {
        (first / 64..last.div_ceil(64))
            .flat_map(move |word| bits(word, self.open[word] & window(word, first, last)))
    }

    fn passed_between(&self, first: usize, last: usize, word: usize) -> u64 {
        self.open[word] & self.passed[word] & window(word, first, last)
    }

    /// Open items that overlap an item in time.
    pub(super) fn open_near(&self, item: usize) -> impl Iterator<Item = usize> {
        let row = item * self.words;
        (0..self.words).flat_map(move |word| bits(word, self.near[row + word] & self.open[word]))
    }

    /// How much has been changed: undo comes back to it.
    pub(super) fn mark(&self) -> usize {
        self.trail.len()
    }

    /// Places an item at its floor, raises what lies above it, and looks for sections without room.
    pub(super) fn place(&mut self, strip: &Strip, item: usize) -> Result<(), Stuck> {
        let end = self.floor[item] + strip.size[item];
        self.open[item / 64] &= !(1 << (item % 64));
        self.trail.push(Change::Placed(item as u32));
        self.count(strip, item, false);
        let mut span = (strip.lo[item], strip.hi[item]);
        let row = item * self.words;
        let mut above = false;
        for word in 0..self.words {
            for other in bits(word, self.near[row + word] & self.open[word]) {
                if self.floor[other] < end {
                    self.lift(strip, other, end);
                    span = (span.0.min(strip.lo[other]), span.1.max(strip.hi[other]));
                    above |= self.least[other] + strip.size[other] > self.capacity;
                }
            }
        }
        self.refresh(strip, span)?;
        // What a section may spare is its highest item's alone, and no sum of it says which that is.
        if above { Err(Stuck) } else { Ok(()) }
    }

    fn lift(&mut self, strip: &Strip, item: usize, end: u64) {
        let floor = strip.settle(item, end);
        self.trail.push(Change::Floor(item as u32, self.floor[item]));
        self.floor[item] = floor;
        if self.least[item] < floor {
            self.trail.push(Change::Least(item as u32, self.least[item]));
            self.least[item] = floor;
        }
        if self.is_passed(item) {
            self.passed[item / 64] &= !(1 << (item % 64));
            self.trail.push(Change::Unpassed(item as u32));
        }
    }

    /// Decides that an item does not stay at its floor, nor then a younger twin.
    pub(super) fn pass(&mut self, item: usize) {
        let mut next = item;
        loop {
            if self.is_open(next) && !self.is_passed(next) {
                self.passed[next / 64] |= 1 << (next % 64);
                self.trail.push(Change::Passed(next as u32));
            }
            let twin = self.twin_after[next];
            if twin == NONE || self.floor[twin as usize] != self.floor[next] {
                return;
            }
            next = twin as usize;
        }
    }

    /// Whether the last propagation was given up, which is no refutation.
    pub(super) const fn is_endless(&self) -> bool {
        self.endless
    }

    /// Raises the bound of passed items until nothing changes: something open must come below each. Given up where that
    /// takes too long; see [`is_endless`](Self::is_endless).
    pub(super) fn propagate(&mut self, strip: &Strip, range: Range) -> Result<(), Stuck> {
        let (first, last) = strip.items_of(range);
        let mut raises = 0;
        loop {
            let mut changed = false;
            for word in first / 64..last.div_ceil(64) {
                for item in bits(word, self.passed_between(first, last, word)) {
                    let ends = self.open_near(item).map(|other| self.least[other] + strip.size[other]);
                    let Some(pushed) = ends.min() else { return Err(Stuck) };
                    let least = strip.settle(item, pushed);
                    if least + strip.size[item] > self.capacity {
                        return Err(Stuck);
                    }
                    if least > self.least[item] {
                        self.trail.push(Change::Least(item as u32, self.least[item]));
                        self.least[item] = least;
                        self.refresh(strip, (strip.lo[item], strip.hi[item]))?;
                        changed = true;
                        raises += 1;
                        if raises > RAISES {
                            self.endless = true;
                            return Err(Stuck);
                        }
                    }
                }
            }
            if !changed {
                return Ok(());
            }
        }
    }

    /// Surveys every section of a range whose lowest item was placed or raised.
    fn refresh(&mut self, strip: &Strip, (from, to): Range) -> Result<(), Stuck> {
        if self.tight {
            self.stale[from as usize..to as usize].fill(true);
        }
        for section in from as usize..to as usize {
            let (item, least) = self.lowest[section];
            if item != NONE && (!self.is_open(item as usize) || self.least[item as usize] != least) {
                self.survey(strip, section)?;
            }
        }
        Ok(())
    }

    fn survey(&mut self, strip: &Strip, section: usize) -> Result<(), Stuck> {
        let mut lowest = (NONE, u64::MAX);
        for item in self.open_in(section) {
            if self.least[item] < lowest.1 {
                lowest = (item as u32, self.least[item]);
            }
        }
        let (item, least) = self.lowest[section];
        self.trail.push(Change::Section(section as u32, item, least));
        if lowest.0 == NONE {
            self.lowest[section] = (NONE, 0);
            return Ok(());
        }
        self.lowest[section] = lowest;
        let taken = lowest.1 + self.rest[section] + strip.walls_above(section, lowest.1);
        if taken > self.capacity + strip.spare[section] {
            self.failures[section] += 1;
            return Err(Stuck);
        }
        Ok(())
    }

    /// Undoes everything since a mark.
    pub(super) fn undo(&mut self, strip: &Strip, mark: usize) {
        for at in (mark..self.trail.len()).rev() {
            match self.trail[at] {
                Change::Placed(item) => {
                    let item = item as usize;
                    self.open[item / 64] |= 1 << (item % 64);
                    self.count(strip, item, true);
                }
                Change::Floor(item, floor) => self.floor[item as usize] = floor,
                Change::Least(item, least) => self.least[item as usize] = least,
                Change::Passed(item) => self.passed[item as usize / 64] &= !(1 << (item % 64)),
                Change::Unpassed(item) => self.passed[item as usize / 64] |= 1 << (item % 64),
                Change::Section(section, item, least) => self.lowest[section as usize] = (item, least),
            }
        }
        self.trail.truncate(mark);
    }

    /// Counts an item in or out of its sections.
    fn count(&mut self, strip: &Strip, item: usize, opened: bool) {
        let room = strip.room[item];
        for section in strip.live[item].iter().flat_map(|&(from, to)| from as usize..to as usize) {
            let rest = &mut self.rest[section];
            *rest = if opened { *rest + room } else { *rest - room };
        }
        for across in &mut self.across[strip.lo[item] as usize..strip.hi[item] as usize - 1] {
            *across = if opened { *across + 1 } else { *across - 1 };
        }
    }

    /// A fingerprint of everything that decides whether a range can be completed: who is open, how low each can go,
    /// and who was passed. 128 bits: two different states meet with a probability below 2^-80 in 2^40 tries.
    pub(super) fn fingerprint(&self, first: usize, last: usize) -> (u64, u64) {
        const SPREAD: u128 = 0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835;
        let mut sum = (mixed(self.capacity), self.capacity);
        for item in self.open_between(first, last) {
            let passed = u128::from(self.is_passed(item));
            let word = (u128::from(self.floor[item]) * 2 + passed + 1) ^ ((item as u128) << 96);
            let product = word.wrapping_mul(SPREAD) ^ (word >> 61).wrapping_mul(SPREAD << 1 | 1);
            let (high, low) = ((product >> 64) as u64, product as u64);
            sum.0 = sum.0.wrapping_add(mixed(high ^ low.rotate_left(32)));
            sum.1 = sum.1.wrapping_add(mixed(low.wrapping_mul(0xD6E8_FEB8_6659_FD93) ^ high));
        }
        sum
    }
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014).
const fn mixed(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ (word >> 31)
}

/// The positions of the bits that are set.
fn bits(word: usize, mut set: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        (set != 0).then(|| {
            let bit = set.trailing_zeros() as usize;
            set &= set - 1;
            word * 64 + bit
        })
    })
}

/// The bits of a word that belong to a range of positions.
const fn window(word: usize, first: usize, last: usize) -> u64 {
    let start = word * 64;
    let low = if first > start { u64::MAX << (first - start) } else { u64::MAX };
    let high = if last >= start + 64 { u64::MAX } else { (1 << (last - start)) - 1 };
    low & high
}

/// For each item the one before and the one after that is its like.
fn twins(strip: &Strip) -> (Vec<u32>, Vec<u32>) {
    let mut order: Vec<usize> = (0..strip.len()).collect();
    order.sort_by(|&a, &b| {
        let key = |i: usize| (&strip.live[i], strip.size[i], strip.align[i], i);
        key(a).cmp(&key(b))
    });
    let (mut before, mut after) = (vec![NONE; strip.len()], vec![NONE; strip.len()]);
    for pair in order.windows(2) {
        let alike = |a: usize, b: usize| {
            strip.live[a] == strip.live[b]
                && strip.size[a] == strip.size[b]
                && strip.align[a] == strip.align[b]
        };
        if alike(pair[0], pair[1]) {
            after[pair[0]] = pair[1] as u32;
            before[pair[1]] = pair[0] as u32;
        }
    }
    (before, after)
}
