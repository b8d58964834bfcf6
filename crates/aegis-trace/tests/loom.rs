//! Every interleaving of a small ring, by the model checker:
//! `RUSTFLAGS="--cfg loom" cargo test -p aegis-trace --test loom --release --target-dir target/loom`.
//!
//! The checker never lets a load see a store that comes later in its exploration. It therefore proves the order on
//! `tail` (weaken either side and these tests fail) but not the one on `head`, which the head of `ring.rs` argues.
#![cfg(loom)]

#[cfg(test)]
mod interleavings {
    use aegis_trace::ring;
    use aegis_types::{RawRecord, Sink, Time};

    /// Emits `count` records into a ring of `capacity` beside a consumer that drains twice, then drains the rest: what
    /// is read is whole and in order, and what is missing was counted.
    fn check(capacity: usize, count: u64) {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(5);
        model.check(move || {
            let (mut producer, mut consumer) = ring(7, capacity).unwrap();
            let thread = loom::thread::spawn(move || {
                for n in 0..count {
                    producer.emit(RawRecord::new(Time::new(n), 1, [n + 1; 6]));
                }
            });
            let mut seen = Vec::new();
            consumer.drain(|record| seen.push(record));
            consumer.drain(|record| seen.push(record));
            thread.join().unwrap();
            consumer.drain(|record| seen.push(record));
            for record in &seen {
                let n = u64::from(record.sequence());
                assert_eq!((record.stamp, record.payload), (Time::new(n), [n + 1; 6]));
            }
            assert!(seen.is_sorted_by(|a, b| a.sequence() < b.sequence()));
            assert_eq!(seen.len() as u64 + consumer.dropped(), count);
            assert_eq!(consumer.emitted(), count);
        });
    }

    #[test]
    fn one_slot_is_reused_only_after_it_was_read() {
        check(1, 3);
    }

    #[test]
    fn two_slots_wrap() {
        check(2, 4);
    }
}
