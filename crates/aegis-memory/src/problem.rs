//! Dynamic storage allocation with lanes: the question that a planner answers.
//!
//! Logical time is counted per lane: an interval says when a buffer is live in the sequence of segments of its lane,
//! so intervals of different lanes are not comparable, and buffers of different lanes always conflict.

use std::collections::BTreeMap;
use std::fmt;

use aegis_types::{Bytes, LaneId, MemoryClass, TaskId};
use serde::{Deserialize, Serialize};

use crate::error::MemoryError;

/// The position of a buffer in its problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BufferId(pub u32);

impl BufferId {
    /// The position for looking up a slot of a table.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for BufferId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "buffer{}", self.0)
    }
}

/// Bytes that want a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Buffer {
    /// Its position in the problem.
    pub id: BufferId,
    /// Its size; a buffer of no bytes conflicts with nothing.
    pub size: Bytes,
    /// The offset is a multiple of this power of two.
    pub align: Bytes,
    /// First logical instant of the lane at which it is live.
    pub lower: u64,
    /// First logical instant of the lane at which it is no longer live; greater than `lower`.
    pub upper: u64,
    /// The task that it is charged to.
    pub owner: TaskId,
    /// The lane of the owner.
    pub lane: LaneId,
    /// Only scratch may be shared.
    pub class: MemoryClass,
    /// The offset that it must have, if it must.
    pub fixed: Option<Bytes>,
}

impl Buffer {
    /// Why the two must not share a byte, or `None` if they may. The first reason of exclusive class, lanes, interval
    /// counts.
    ///
    /// ```
    /// # use aegis_memory::{Buffer, BufferId, Conflict};
    /// # use aegis_types::{Bytes, LaneId, MemoryClass, TaskId};
    /// let a = Buffer {
    ///     id: BufferId(0), size: Bytes::new(8), align: Bytes::new(1), lower: 0, upper: 1,
    ///     owner: TaskId::new(0), lane: LaneId::new(0), class: MemoryClass::Scratch, fixed: None,
    /// };
    /// let later = Buffer { id: BufferId(1), lower: 1, upper: 2, owner: TaskId::new(1), ..a };
    /// assert_eq!(a.conflict(&later), None);
    /// assert_eq!(a.conflict(&Buffer { lane: LaneId::new(1), ..later }), Some(Conflict::Lanes));
    /// ```
    pub const fn conflict(&self, other: &Self) -> Option<Conflict> {
        if self.size.is_zero() || other.size.is_zero() {
            None
        } else if !matches!((self.class, other.class), (MemoryClass::Scratch, MemoryClass::Scratch)) {
            Some(Conflict::Exclusive)
        } else if self.lane.get() != other.lane.get() {
            Some(Conflict::Lanes)
        } else if self.lower < other.upper && other.lower < self.upper {
            Some(Conflict::Interval)
        } else {
            None
        }
    }
}

/// Why two buffers must not share a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Conflict {
    /// One of them is exclusive: persistent or exchange.
    Exclusive,
    /// Their lanes run at the same time.
    Lanes,
    /// They are live at the same time.
    Interval,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exclusive => "persistent and exchange bytes are exclusive",
            Self::Lanes => "lanes run at the same time and never share",
            Self::Interval => "they are live at the same time",
        })
    }
}

/// The most buffers of a problem: far above any fleet, far below what would take minutes.
pub const MOST_BUFFERS: usize = 1 << 18;

/// A time within its interval at which a buffer is not live, or only a part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gap {
    /// The buffer.
    pub buffer: BufferId,
    /// First logical instant of the gap.
    pub lower: u64,
    /// First logical instant behind it.
    pub upper: u64,
    /// The bytes that stay live meanwhile, from the buffer's start: first, and first behind. `None`: no byte does.
    pub window: Option<(Bytes, Bytes)>,
}

/// An order that is enforced at run time: everything on the lane of `before` that ends by its instant is over before
/// anything on the lane of `after` that starts at its instant or later begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Edge {
    /// A lane, and the logical instant of it that is waited for.
    pub before: (LaneId, u64),
    /// The lane that waits, and the first logical instant of it that comes after.
    pub after: (LaneId, u64),
}

/// Buffers to be placed within a capacity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    buffers: Vec<Buffer>,
    capacity: Bytes,
    /// By buffer, then by time.
    gaps: Vec<Gap>,
    order: Vec<Edge>,
}

impl Problem {
    /// Checks and freezes a problem.
    ///
    /// # Errors
    /// [`MemoryError`] for more than [`MOST_BUFFERS`], a buffer whose number is not its position, an alignment that is no power of two, an empty
    /// interval, a fixed offset outside the capacity or off its alignment, or sizes beyond 64 bits. Whether the fixed
    /// offsets are compatible is left to the verifier.
    pub fn new(buffers: Vec<Buffer>, capacity: Bytes) -> Result<Self, MemoryError> {
        if buffers.len() > MOST_BUFFERS {
            return Err(MemoryError::TooManyBuffers { found: buffers.len(), most: MOST_BUFFERS });
        }
        // With this sum in range, no sequence of "align up, then add" over all buffers can overflow, wherever a fixed
        // buffer below the capacity makes it start.
        let mut total = if buffers.iter().any(|buffer| buffer.fixed.is_some()) { capacity.get() } else { 0 };
        for (position, buffer) in buffers.iter().enumerate() {
            check_buffer(position, buffer, capacity)?;
            total = total
                .checked_add(buffer.size.get())
                .and_then(|sum| sum.checked_add(buffer.align.get()))
                .ok_or_else(|| MemoryError::Overflow { place: buffer.id.to_string() })?;
        }
        Ok(Self { buffers, capacity, gaps: Vec::new(), order: Vec::new() })
    }

    /// The same problem with gaps in the life of some buffers.
    ///
    /// # Errors
    /// [`MemoryError::BadGap`] for a gap of no buffer, an empty one, one outside its buffer's interval, one that
    /// overlaps another of the buffer, or a window that is empty or larger than the buffer.
    pub fn with_gaps(mut self, mut gaps: Vec<Gap>) -> Result<Self, MemoryError> {
        gaps.sort_unstable();
        for (at, gap) in gaps.iter().enumerate() {
            let bad = |legal: &str| Err(MemoryError::BadGap { gap: *gap, legal: legal.to_owned() });
            let Some(buffer) = self.buffers.get(gap.buffer.index()) else {
                return bad("a buffer of the problem");
            };
            if gap.lower >= gap.upper || gap.lower < buffer.lower || gap.upper > buffer.upper {
                return bad(&format!(
                    "an interval that is not empty, within [{}, {})",
                    buffer.lower, buffer.upper
                ));
            }
            let last = at.checked_sub(1).map(|last| gaps[last]);
            if last.is_some_and(|last| last.buffer == gap.buffer && last.upper > gap.lower) {
                return bad("gaps of a buffer that do not overlap");
            }
            if gap.window.is_some_and(|(first, behind)| first >= behind || behind > buffer.size) {
                return bad(&format!("a window that is not empty, within [0, {})", buffer.size.get()));
            }
        }
        self.gaps = gaps;
        Ok(self)
    }

    /// The same problem with orders between lanes that the runtime enforces. Scratch of two lanes may then share
    /// bytes where one use is over before the other begins. Whether the orders contradict each other is left to the
    /// verifier.
    #[must_use]
    pub fn with_order(mut self, order: Vec<Edge>) -> Self {
        self.order = order;
        self
    }

    /// Gaps, by buffer and time.
    pub fn gaps(&self) -> &[Gap] {
        &self.gaps
    }

    /// Orders between lanes.
    pub fn order(&self) -> &[Edge] {
        &self.order
    }

    /// Whether some buffer keeps a part of its bytes in a gap.
    pub fn has_windows(&self) -> bool {
        self.gaps.iter().any(|gap| gap.window.is_some())
    }

    /// When a buffer is live: rising intervals that do not overlap. A gap with a window does not interrupt it.
    pub fn live(&self, buffer: &Buffer) -> Vec<(u64, u64)> {
        let mut live = Vec::new();
        let mut from = buffer.lower;
        for gap in self.gaps_of(buffer.id).iter().filter(|gap| gap.window.is_none()) {
            live.extend((from < gap.lower).then_some((from, gap.lower)));
            from = gap.upper;
        }
        live.extend((from < buffer.upper).then_some((from, buffer.upper)));
        live
    }

    /// Gaps of one buffer, by time.
    pub(crate) fn gaps_of(&self, buffer: BufferId) -> &[Gap] {
        let first = self.gaps.partition_point(|gap| gap.buffer < buffer);
        let last = self.gaps.partition_point(|gap| gap.buffer <= buffer);
        &self.gaps[first..last]
    }

    /// The buffers, by [`BufferId`].
    pub fn buffers(&self) -> &[Buffer] {
        &self.buffers
    }

    /// The offset that no buffer may pass.
    pub const fn capacity(&self) -> Bytes {
        self.capacity
    }

    /// A peak that no placement can beat: exclusive bytes, plus for each lane the most scratch that is live at once.
    /// Where lanes are ordered they may share, and only the lane with the most counts.
    pub fn lower_bound(&self) -> Bytes {
        let mut exclusive = 0u64;
        let mut fixed_end = 0u64;
        // Ends sort before starts of the same instant: intervals are half open.
        let mut steps: BTreeMap<LaneId, Vec<(u64, bool, u64)>> = BTreeMap::new();
        for buffer in &self.buffers {
            let size = buffer.size.get();
            // One without bytes is nowhere.
            if let Some(offset) = buffer.fixed.filter(|_| size > 0) {
                fixed_end = fixed_end.max(offset.get() + size);
            }
            if buffer.class == MemoryClass::Scratch {
                let lane = steps.entry(buffer.lane).or_default();
                lane.extend([(buffer.lower, true, size), (buffer.upper, false, size)]);
                for gap in self.gaps_of(buffer.id) {
                    let gone = size - gap.window.map_or(0, |(first, behind)| behind.get() - first.get());
                    lane.extend([(gap.lower, false, gone), (gap.upper, true, gone)]);
                }
            } else {
                exclusive += size;
            }
        }
        let lanes = steps.into_values().map(most_live);
        let scratch: u64 = if self.order.is_empty() { lanes.sum() } else { lanes.max().unwrap_or(0) };
        Bytes::new((exclusive + scratch).max(fixed_end))
    }
}

fn check_buffer(position: usize, buffer: &Buffer, capacity: Bytes) -> Result<(), MemoryError> {
    if buffer.id.index() != position {
        return Err(MemoryError::BufferNumber { position, found: buffer.id });
    }
    if !buffer.align.get().is_power_of_two() {
        return Err(MemoryError::BadAlign { place: buffer.id.to_string(), align: buffer.align });
    }
    if buffer.lower >= buffer.upper {
        return Err(MemoryError::BadInterval { buffer: buffer.id, lower: buffer.lower, upper: buffer.upper });
    }
    let Some(offset) = buffer.fixed else { return Ok(()) };
    let inside = offset.checked_add(buffer.size).is_some_and(|end| end <= capacity);
    if inside && offset.get().is_multiple_of(buffer.align.get()) {
        return Ok(());
    }
    let (align, size) = (buffer.align, buffer.size);
    Err(MemoryError::BadFixedOffset { buffer: buffer.id, offset, align, size, capacity })
}

fn most_live(mut steps: Vec<(u64, bool, u64)>) -> u64 {
    steps.sort_unstable();
    // Signed: a gap at the start of an interval ends bytes before the start of the same instant is seen.
    let (mut live, mut most) = (0i128, 0);
    for (_, starts, size) in steps {
        live += if starts { i128::from(size) } else { -i128::from(size) };
        most = most.max(live);
    }
    u64::try_from(most).unwrap_or(u64::MAX)
}

/// Where one buffer was put.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Placed {
    /// The buffer.
    pub buffer: BufferId,
    /// Its offset from the start of the reservation.
    pub offset: Bytes,
}

/// A planner's answer, in any order. It claims nothing until the verifier has seen it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Placement {
    /// One entry for each buffer.
    pub placed: Vec<Placed>,
}
