//! A bounded ring between one producer and one consumer, because whoever decides must never wait for a file.
//!
//! A slot is eight atomic words, so the ring needs no unsafe code: words travel with relaxed loads and stores, and the
//! two counters order them. `tail` counts records written: the producer stores it with release after the words of a
//! slot, the consumer loads it with acquire before it reads them. `head` counts records read, the other way round, so
//! a slot is never overwritten before it was read. Each side keeps the last value it saw of the other's counter and
//! looks again only when that value says full or empty: an ordinary push touches no line that the consumer writes.

#[cfg(loom)]
use loom::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
#[cfg(not(loom))]
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use aegis_types::{RawRecord, Sink};
use crossbeam::utils::CachePadded;

use crate::error::TraceError;

/// The largest number of records in a ring or in the memory of one producer (1 GiB).
pub const RECORDS_MAX: usize = 1 << 24;

/// The writing end of a ring. Its [`Sink::emit`] never blocks, never allocates and never fails: when the ring is full
/// the record is dropped and its sequence number is spent, so that the reader sees how many are missing and where.
#[derive(Debug)]
pub struct RingProducer {
    ring: Arc<Ring>,
    /// Records written; what `Ring::tail` holds.
    tail: u64,
    /// The consumer's counter as last seen; never ahead of the truth.
    head_seen: u64,
    dropped: u64,
    sequence: u32,
    id: u16,
}

/// The reading end of a ring.
#[derive(Debug)]
pub struct RingConsumer {
    ring: Arc<Ring>,
    /// Records read; what `Ring::head` holds.
    head: u64,
}

#[derive(Debug)]
struct Ring {
    head: CachePadded<AtomicU64>,
    tail: CachePadded<AtomicU64>,
    /// Records that found the ring full; written by the producer alone.
    dropped: CachePadded<AtomicU64>,
    /// A power of two of them.
    slots: Box<[Slot]>,
}

/// One record; aligned so that a push writes one cache line.
#[derive(Debug)]
#[repr(align(64))]
struct Slot([AtomicU64; 8]);

/// A ring of at least `capacity` records (the next power of two) for the producer numbered `id`. All memory is
/// allocated and touched here.
///
/// # Errors
/// [`TraceError::Capacity`] if `capacity` is zero or above [`RECORDS_MAX`].
pub fn ring(id: u16, capacity: usize) -> Result<(RingProducer, RingConsumer), TraceError> {
    if capacity == 0 || capacity > RECORDS_MAX {
        let place = format!("ring of producer {id}");
        return Err(TraceError::Capacity { place, asked: capacity, limit: RECORDS_MAX });
    }
    let slot = |_| Slot(std::array::from_fn(|_| AtomicU64::new(0)));
    let ring = Arc::new(Ring {
        head: CachePadded::new(AtomicU64::new(0)),
        tail: CachePadded::new(AtomicU64::new(0)),
        dropped: CachePadded::new(AtomicU64::new(0)),
        slots: (0..capacity.next_power_of_two()).map(slot).collect(),
    });
    let consumer = RingConsumer { ring: Arc::clone(&ring), head: 0 };
    Ok((RingProducer { ring, tail: 0, head_seen: 0, dropped: 0, sequence: 0, id }, consumer))
}

impl RingProducer {
    /// The number of the producer in the heads of its records.
    pub const fn id(&self) -> u16 {
        self.id
    }

    /// Records that found the ring full.
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Whether a slot is free, looking at the consumer's counter only if the last look does not tell.
    fn has_room(&mut self) -> bool {
        let capacity = self.ring.slots.len() as u64;
        if self.tail - self.head_seen < capacity {
            return true;
        }
        self.head_seen = self.ring.head.load(Ordering::Acquire);
        self.tail - self.head_seen < capacity
    }

    #[cold]
    fn count_drop(&mut self) {
        self.dropped += 1;
        self.ring.dropped.store(self.dropped, Ordering::Release);
    }
}

impl Sink for RingProducer {
    fn emit(&mut self, record: RawRecord) {
        let placed = record.placed(self.id, self.sequence);
        self.sequence = self.sequence.wrapping_add(1);
        if !self.has_room() {
            self.count_drop();
            return;
        }
        for (word, value) in self.ring.slot(self.tail).iter().zip(placed.to_words()) {
            word.store(value, Ordering::Relaxed);
        }
        self.tail += 1;
        self.ring.tail.store(self.tail, Ordering::Release);
    }
}

impl RingConsumer {
    /// Hands every record that was in the ring at the call to `take`, in order, and frees their slots. Returns how
    /// many. Records pushed meanwhile wait for the next call, so the call ends even if the producer never pauses.
    pub fn drain(&mut self, mut take: impl FnMut(RawRecord)) -> usize {
        let tail = self.ring.tail.load(Ordering::Acquire);
        for position in self.head..tail {
            let slot = self.ring.slot(position);
            take(RawRecord::from_words(std::array::from_fn(|i| slot[i].load(Ordering::Relaxed))));
        }
        let count = tail - self.head;
        self.head = tail;
        self.ring.head.store(tail, Ordering::Release);
        count as usize
    }

    /// Records that the ring can hold.
    pub fn capacity(&self) -> usize {
        self.ring.slots.len()
    }

    /// Records that found the ring full. Exact once the producer has stopped.
    pub fn dropped(&self) -> u64 {
        self.ring.dropped.load(Ordering::Acquire)
    }

    /// Records that the producer emitted, dropped ones included. Exact once the producer has stopped.
    pub fn emitted(&self) -> u64 {
        self.ring.tail.load(Ordering::Acquire) + self.dropped()
    }
}

impl Ring {
    fn slot(&self, position: u64) -> &[AtomicU64; 8] {
        // The number of slots is a power of two, so the mask keeps the index inside.
        &self.slots[position as usize & (self.slots.len() - 1)].0
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use aegis_types::Time;

    fn record(n: u64) -> RawRecord {
        RawRecord::new(Time::new(n), 9, [n; 6])
    }

    #[test]
    fn a_full_ring_drops_and_counts() {
        let (mut producer, mut consumer) = ring(3, 3).unwrap();
        assert_eq!(consumer.capacity(), 4);
        (0..10).for_each(|n| producer.emit(record(n)));
        let mut seen = Vec::new();
        assert_eq!(consumer.drain(|r| seen.push((r.producer(), r.sequence(), r.payload[5]))), 4);
        producer.emit(record(10));
        consumer.drain(|r| seen.push((r.producer(), r.sequence(), r.payload[5])));
        assert_eq!(seen, [(3, 0, 0), (3, 1, 1), (3, 2, 2), (3, 3, 3), (3, 10, 10)]);
        assert_eq!((producer.dropped(), consumer.dropped(), consumer.emitted()), (6, 6, 11));
    }

    #[test]
    fn the_sequence_wraps_without_a_gap() {
        let (mut producer, mut consumer) = ring(0, 2).unwrap();
        producer.sequence = u32::MAX;
        producer.emit(record(1));
        producer.emit(record(2));
        let mut seen = Vec::new();
        consumer.drain(|r| seen.push(r.sequence()));
        assert_eq!(seen, [u32::MAX, 0]);
    }

    #[test]
    fn an_impossible_capacity_is_refused() {
        for capacity in [0, RECORDS_MAX + 1, usize::MAX] {
            assert!(
                matches!(ring(0, capacity), Err(TraceError::Capacity { asked, .. }) if asked == capacity)
            );
        }
    }
}
