//! The ledger's sums under random reservations.

use aegis_memory::{Ledger, MemoryError, Reservation};
use aegis_types::records::{MemoryRefused, MemoryReleased, MemoryReserved};
use aegis_types::{Bytes, RawRecord, Record, Severity, TaskId, Time};
use proptest::prelude::{prop_assert, prop_assert_eq};

use crate::oracle::check;

const NOW: Time = Time::new(7);

#[test]
fn sums_hold_whatever_happens() {
    let step = (0..4u16, 0..60u64, 0..3u8, proptest::num::usize::ANY);
    check("sums_hold_whatever_happens", 1500, proptest::collection::vec(step, 0..60), |steps| {
        let ledger = Ledger::new(Bytes::new(200));
        let mut held: Vec<Reservation> = Vec::new();
        let mut trace: Vec<RawRecord> = Vec::new();
        for (task, bytes, act, pick) in steps {
            let (task, bytes) = (TaskId::new(task), Bytes::new(bytes));
            let before = ledger.holders();
            match act {
                0 if !held.is_empty() => drop(held.swap_remove(pick % held.len())),
                1 if !held.is_empty() => {
                    let reservation = held.swap_remove(pick % held.len());
                    let (task, bytes) = (reservation.task(), reservation.bytes());
                    reservation.release(&mut trace, NOW);
                    let expected = MemoryReleased { task, bytes, reserved: ledger.reserved() };
                    prop_assert_eq!(trace.last().and_then(MemoryReleased::read), Some(expected));
                }
                _ => {
                    let (reserved, fits) = (ledger.reserved(), ledger.available());
                    let capacity = ledger.capacity();
                    match ledger.reserve(task, bytes, &mut trace, NOW) {
                        Ok(reservation) => {
                            prop_assert!(bytes <= fits);
                            held.push(reservation);
                            let reserved = ledger.reserved();
                            let expected = MemoryReserved { task, bytes, reserved, capacity };
                            prop_assert_eq!(trace.last().and_then(MemoryReserved::read), Some(expected));
                        }
                        Err(error) => {
                            prop_assert!(bytes > fits);
                            let asked = bytes;
                            let refused = MemoryError::OverCapacity { task, asked, reserved, capacity, fits };
                            prop_assert_eq!(error, refused);
                            prop_assert_eq!(ledger.holders(), before);
                            let expected = MemoryRefused { task, asked, used: reserved, limit: capacity };
                            prop_assert_eq!(trace.last().and_then(MemoryRefused::read), Some(expected));
                        }
                    }
                }
            }
            let sum = |of: &dyn Fn(&Reservation) -> bool| {
                Bytes::new(held.iter().filter(|r| of(r)).map(|r| r.bytes().get()).sum())
            };
            prop_assert_eq!(ledger.reserved(), sum(&|_| true));
            for task in (0..4).map(TaskId::new) {
                prop_assert_eq!(ledger.held_by(task), sum(&|r| r.task() == task));
            }
            let listed: u64 = ledger.holders().iter().map(|holder| holder.1.get()).sum();
            prop_assert_eq!(listed, ledger.reserved().get());
        }
        drop(held);
        prop_assert_eq!((ledger.reserved(), ledger.holders()), (Bytes::ZERO, vec![]));
        Ok(())
    });
}

#[test]
fn a_refusal_says_what_would_fit() {
    let ledger = Ledger::new(Bytes::new(4096));
    let mut trace = Vec::new();
    let _held = ledger.reserve(TaskId::new(0), Bytes::new(3072), &mut trace, NOW).expect("fits");
    let error = ledger.reserve(TaskId::new(5), Bytes::new(2048), &mut trace, NOW).expect_err("too much");
    let text = error.to_string();
    for part in ["task5", "2KiB", "3KiB", "4KiB", "at most 1KiB"] {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
    assert_eq!(error.severity(), Severity::Transient);
    assert!(ledger.reserve(TaskId::new(5), Bytes::MAX, &mut trace, NOW).is_err(), "no overflow");
}
