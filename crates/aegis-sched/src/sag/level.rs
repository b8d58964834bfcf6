//! States of one level: flat records, an index by the key of their set, and room that is accounted for.
//!
//! A set of dispatched jobs is a count of leading full words and the words after those, as far as any set of the
//! level needs. Every record has the same length:
//!
//! ```text
//! key | leading words, first further state | payload of the first state | words of the set
//! ```
//!
//! Further states of the same set are rare and lie beside, chained.

use super::table::WORD;

const NONE: u32 = u32::MAX;
const KEY: usize = 0;
const META: usize = 1;
const HEAD: usize = 2;

/// A word of a set all of whose jobs are dispatched.
const FULL: u64 = u64::MAX;

/// The limit of memory stands in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OutOfRoom;

/// A set of dispatched jobs outside of a level.
#[derive(Clone, Debug, Default)]
pub(super) struct JobBits {
    pub(super) key: u64,
    /// How many leading words are full, and left out.
    pub(super) base: usize,
    /// The words after those; zero from `used` on.
    pub(super) words: Vec<u64>,
    pub(super) used: usize,
}

impl JobBits {
    /// Whether the job at a position is dispatched.
    pub(super) fn contains(&self, position: usize) -> bool {
        contains(self.base, &self.words, position)
    }

    /// The first job that is not dispatched; one past the last if all are.
    pub(super) fn first_missing(&self) -> usize {
        let word = self.words.first().copied().unwrap_or(0);
        self.base * WORD + word.trailing_ones() as usize
    }

    /// Becomes `other` with one more job.
    pub(super) fn become_child(&mut self, other: SetRef<'_>, position: usize, key: u64) {
        self.key = other.key ^ key;
        self.base = other.base;
        let (word, bit) = (position / WORD - other.base, position % WORD);
        let needed = other.words.len().max(word + 1) + 1;
        if self.words.len() < needed {
            self.words.resize(needed, 0);
        }
        self.words[..other.words.len()].copy_from_slice(other.words);
        self.words[other.words.len()..].fill(0);
        self.words[word] |= 1 << bit;
        if self.words[0] == FULL {
            let full = self.words.iter().take_while(|&&word| word == FULL).count();
            self.base += full;
            let len = self.words.len();
            self.words.copy_within(full.., 0);
            self.words[len - full..].fill(0);
        }
        self.used = self.words.iter().rposition(|&word| word != 0).map_or(0, |last| last + 1);
    }
}

/// Whether the job at a position is in a set.
pub(super) fn contains(base: usize, words: &[u64], position: usize) -> bool {
    let word = position / WORD;
    word < base || words.get(word - base).is_some_and(|bits| bits >> (position % WORD) & 1 == 1)
}

/// A set of dispatched jobs of a level.
#[derive(Clone, Copy, Debug)]
pub(super) struct SetRef<'a> {
    pub(super) key: u64,
    pub(super) base: usize,
    pub(super) words: &'a [u64],
}

/// Where the records of a level are found by the key of their set. Half of a slot is the place of the record, half
/// of it bits of the key, so that a wrong record is seldom looked at.
#[derive(Debug, Default)]
pub(super) struct Index {
    slots: Vec<u64>,
    mask: usize,
}

const SLOTS_MIN: usize = 64;
const TAG: u64 = !(u32::MAX as u64);

impl Index {
    fn reset(&mut self, expected: usize) {
        let wanted = expected.saturating_mul(2).next_power_of_two().max(SLOTS_MIN);
        if self.slots.len() < wanted {
            self.slots.resize(wanted, 0);
        }
        self.slots[..wanted].fill(0);
        self.mask = wanted - 1;
    }

    pub(super) fn bytes(&self) -> usize {
        self.slots.capacity() * size_of::<u64>()
    }
}

/// The states whose sets have one number of jobs.
#[derive(Debug)]
pub(super) struct Level {
    payload: usize,
    words: usize,
    stride: usize,
    records: Vec<u64>,
    spill: Vec<u64>,
    /// What states refer to; of varying length.
    pub(super) notes: Vec<u64>,
    /// How many words some set needs.
    used: usize,
    count: usize,
    /// The most bytes that this level may hold.
    room: usize,
}

/// A set that was asked for: there already, or just added with its first state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Present(usize),
    Added,
}

impl Level {
    /// Without states, whose payload is so many words.
    pub(super) fn new(payload: usize) -> Self {
        Self {
            payload,
            words: 1,
            stride: HEAD + payload + 1,
            records: Vec::new(),
            spill: Vec::new(),
            notes: Vec::new(),
            used: 0,
            count: 0,
            room: usize::MAX,
        }
    }

    /// Empties it for sets like those of `parents`; keeps its memory.
    pub(super) fn reset(&mut self, parents: &Self, index: &mut Index, room: usize) {
        self.records.clear();
        self.spill.clear();
        self.notes.clear();
        self.words = parents.used.max(1);
        self.stride = HEAD + self.payload + self.words;
        self.used = 0;
        self.count = 0;
        self.room = room;
        index.reset(parents.count);
    }

    /// How many sets there are.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        (self.records.capacity() + self.spill.capacity() + self.notes.capacity()) * size_of::<u64>()
    }

    /// The set of a record.
    pub(super) fn set(&self, node: usize) -> SetRef<'_> {
        let at = node * self.stride;
        SetRef {
            key: self.records[at + KEY],
            base: (self.records[at + META] >> 32) as usize,
            words: &self.records[at + HEAD + self.payload..at + self.stride],
        }
    }

    /// The first state of a record.
    pub(super) fn head(&self, node: usize) -> &[u64] {
        let at = node * self.stride + HEAD;
        &self.records[at..at + self.payload]
    }

    /// The first state of a record, to change it.
    pub(super) fn head_mut(&mut self, node: usize) -> &mut [u64] {
        let at = node * self.stride + HEAD;
        &mut self.records[at..at + self.payload]
    }

    /// The place of the first further state of a record.
    pub(super) fn further(&self, node: usize) -> Option<usize> {
        link(self.records[node * self.stride + META])
    }

    /// A further state, and the place of the one after it.
    pub(super) fn spilled(&self, place: usize) -> (&[u64], Option<usize>) {
        let at = place * (self.payload + 1);
        (&self.spill[at..at + self.payload], link(self.spill[at + self.payload]))
    }

    /// All states of a record.
    pub(super) fn states(&self, node: usize) -> impl Iterator<Item = &[u64]> {
        let first = self.further(node).map(|place| self.spilled(place));
        let further = std::iter::successors(first, |(_, after)| after.map(|place| self.spilled(place)));
        std::iter::once(self.head(node)).chain(further.map(|(state, _)| state))
    }

    /// A further state, to change it.
    pub(super) fn spilled_mut(&mut self, place: usize) -> &mut [u64] {
        let at = place * (self.payload + 1);
        &mut self.spill[at..at + self.payload]
    }

    /// Takes the further state at `place` out of the chain of a record; `before` is the further state ahead of it.
    pub(super) fn unlink(&mut self, node: usize, before: Option<usize>, place: usize) {
        let next = self.spill[place * (self.payload + 1) + self.payload];
        match before {
            Some(before) => self.spill[before * (self.payload + 1) + self.payload] = next,
            None => {
                let meta = &mut self.records[node * self.stride + META];
                *meta = *meta & TAG | next & !TAG;
            }
        }
    }

    /// Adds a further state to a record.
    pub(super) fn push_state(&mut self, node: usize, state: &[u64]) -> Result<(), OutOfRoom> {
        let wanted = self.spill.len() + self.payload + 1;
        let place = u32::try_from(self.spill.len() / (self.payload + 1)).map_err(|_| OutOfRoom)?;
        if wanted > self.spill.capacity() {
            let others = self.bytes() - self.spill.capacity() * size_of::<u64>();
            grow(&mut self.spill, wanted, self.room.saturating_sub(others))?;
        }
        let meta = &mut self.records[node * self.stride + META];
        self.spill.extend_from_slice(state);
        self.spill.push(*meta & !TAG);
        *meta = *meta & TAG | u64::from(place);
        Ok(())
    }

    /// Keeps numbers that a state refers to; returns where they begin.
    pub(super) fn note(&mut self, numbers: &[u64]) -> Result<u64, OutOfRoom> {
        let (begin, wanted) = (self.notes.len(), self.notes.len() + numbers.len());
        if wanted > self.notes.capacity() {
            let others = self.bytes() - self.notes.capacity() * size_of::<u64>();
            grow(&mut self.notes, wanted, self.room.saturating_sub(others))?;
        }
        self.notes.extend_from_slice(numbers);
        Ok(begin as u64)
    }

    /// Finds a set, or adds it with one state.
    #[inline]
    pub(super) fn entry(
        &mut self,
        index: &mut Index,
        set: &JobBits,
        state: &[u64],
    ) -> Result<Entry, OutOfRoom> {
        if set.used > self.words {
            self.widen(set.used)?;
        }
        let tag = set.key & TAG;
        let mut slot = set.key as usize & index.mask;
        loop {
            let found = index.slots[slot];
            if found == 0 {
                break;
            }
            if found & TAG == tag {
                let node = (found & !TAG) as usize - 1;
                if self.is(node, set) {
                    return Ok(Entry::Present(node));
                }
            }
            slot = (slot + 1) & index.mask;
        }
        let place = self.count as u64 + 1;
        if place >= u64::from(NONE) {
            return Err(OutOfRoom);
        }
        self.push(set, state)?;
        index.slots[slot] = tag | place;
        if self.count * 2 > index.mask {
            self.rehash(index)?;
        }
        Ok(Entry::Added)
    }

    fn is(&self, node: usize, set: &JobBits) -> bool {
        let found = self.set(node);
        found.key == set.key
            && found.base == set.base
            && found.words.iter().zip(&set.words).all(|(a, b)| a == b)
    }

    fn push(&mut self, set: &JobBits, state: &[u64]) -> Result<(), OutOfRoom> {
        let wanted = self.records.len() + self.stride;
        if wanted > self.records.capacity() {
            let others = self.bytes() - self.records.capacity() * size_of::<u64>();
            grow(&mut self.records, wanted, self.room.saturating_sub(others))?;
        }
        self.records.push(set.key);
        self.records.push((set.base as u64) << 32 | u64::from(NONE));
        self.records.extend_from_slice(state);
        let present = set.words.len().min(self.words);
        self.records.extend_from_slice(&set.words[..present]);
        self.records.resize(wanted, 0);
        self.count += 1;
        self.used = self.used.max(set.used);
        Ok(())
    }

    /// Gives every record more words; sets of one level seldom need it.
    fn widen(&mut self, words: usize) -> Result<(), OutOfRoom> {
        let stride = HEAD + self.payload + words;
        let mut wider = Vec::new();
        let room = self.room.saturating_sub(self.bytes());
        grow(&mut wider, self.count * stride, room)?;
        for record in self.records.chunks_exact(self.stride) {
            wider.extend_from_slice(record);
            wider.resize(wider.len() + words - self.words, 0);
        }
        self.records = wider;
        self.words = words;
        self.stride = stride;
        Ok(())
    }

    fn rehash(&mut self, index: &mut Index) -> Result<(), OutOfRoom> {
        let slots = (index.mask + 1) * 2;
        let added = slots.saturating_sub(index.slots.len()) * size_of::<u64>();
        if self.bytes().saturating_add(added) > self.room {
            return Err(OutOfRoom);
        }
        self.room -= added;
        index.reset(slots / 2);
        for (record, place) in self.records.chunks_exact(self.stride).zip(1u64..) {
            let key = record[KEY];
            let mut slot = key as usize & index.mask;
            while index.slots[slot] != 0 {
                slot = (slot + 1) & index.mask;
            }
            index.slots[slot] = key & TAG | place;
        }
        Ok(())
    }
}

fn link(meta: u64) -> Option<usize> {
    let place = meta as u32;
    (place != NONE).then_some(place as usize)
}

/// Grows by half, or by less where there is less room.
fn grow(list: &mut Vec<u64>, wanted: usize, room: usize) -> Result<(), OutOfRoom> {
    let room = room / size_of::<u64>();
    if wanted > room {
        return Err(OutOfRoom);
    }
    let aim = wanted.max(list.capacity() + list.capacity() / 2).max(SLOTS_MIN).min(room.max(wanted));
    list.reserve_exact(aim - list.len());
    Ok(())
}
