//! The pool against a model that knows only what is lent, and its classes against every way to choose them.

use std::cell::Cell;

use aegis_memory::{ClassSize, Pool, PoolError, choose_classes};
use aegis_types::{Bytes, Extent};
use proptest::prelude::{prop_assert, prop_assert_eq};

use crate::oracle::check;

const ALIGN: Bytes = Bytes::new(8);

fn total(classes: &[ClassSize]) -> u64 {
    classes.iter().map(|class| class.size.get() * u64::from(class.blocks)).sum()
}

fn pool(classes: &[ClassSize], start: u64) -> Pool {
    let extent = Extent { offset: Bytes::new(start), len: Bytes::new(total(classes)) };
    Pool::new(extent, ALIGN, classes).expect("the classes fit")
}

#[test]
fn what_is_lent_is_apart_large_enough_and_taken_back_once() {
    let asks = proptest::collection::vec(0..200u64, 1..12);
    let steps = proptest::collection::vec((0..260u64, proptest::bool::ANY), 0..80);
    let seen = Cell::new([0u32; 3]);
    let count = |kind: usize| {
        let mut all = seen.get();
        all[kind] += 1;
        seen.set(all);
    };
    check("what_is_lent_is_apart", 600, (asks, 1..5usize, steps), |(asks, most, steps)| {
        let asks: Vec<Bytes> = asks.into_iter().map(Bytes::new).collect();
        let classes = choose_classes(&asks, most, ALIGN);
        let mut pool = pool(&classes, 64);
        let mut lent: Vec<Extent> = Vec::new();
        let mut peak = 0;
        for (number, take) in steps {
            if take {
                let free = |class: &&ClassSize| {
                    let out = lent.iter().filter(|block| block.len == class.size).count();
                    class.size.get() >= number && (out as u64) < u64::from(class.blocks)
                };
                let expected = classes.iter().find(free).map(|class| class.size);
                match (pool.take(Bytes::new(number)), expected) {
                    (Ok(block), Some(size)) => {
                        prop_assert_eq!(block.len, size);
                        prop_assert!(block.offset.get().is_multiple_of(ALIGN.get()));
                        let end = block.offset.get() + block.len.get();
                        prop_assert!(block.offset.get() >= 64 && end <= 64 + total(&classes));
                        let apart = |other: &Extent| {
                            end <= other.offset.get()
                                || other.offset.get() + other.len.get() <= block.offset.get()
                        };
                        prop_assert!(lent.iter().all(apart), "{block:?} among {lent:?}");
                        lent.push(block);
                        count(0);
                    }
                    (Err(PoolError::TooLarge { asked, largest }), None) => {
                        prop_assert!(asked.get() == number && asked > largest);
                        count(1);
                    }
                    (Err(PoolError::Empty { asked, .. }), None) => {
                        prop_assert!(classes.iter().any(|class| class.size >= asked));
                        count(2);
                    }
                    other => prop_assert!(false, "{other:?}"),
                }
            } else if !lent.is_empty() {
                let block = lent.swap_remove(number as usize % lent.len());
                let shifted = Extent { offset: Bytes::new(block.offset.get() + 1), ..block };
                let cut = Extent { len: Bytes::new(block.len.get() - 1), ..block };
                for wrong in [shifted, cut] {
                    prop_assert_eq!(pool.give(wrong), Err(PoolError::NotLent(wrong)));
                }
                prop_assert_eq!(pool.give(block), Ok(()));
                prop_assert_eq!(pool.give(block), Err(PoolError::NotLent(block)));
            }
            let used: u64 = lent.iter().map(|block| block.len.get()).sum();
            peak = peak.max(used);
            prop_assert_eq!((pool.used().get(), pool.high_water().get()), (used, peak));
        }
        Ok(())
    });
    assert!(seen.get().iter().all(|&count| count > 100), "{:?}: hardly a case of one kind", seen.get());
}

#[test]
fn whoever_keeps_to_what_was_asked_is_never_refused() {
    let asks = proptest::collection::vec((0..200u64, 0..1000u64), 0..14);
    check("whoever_keeps_to_what_was_asked", 600, (asks, 1..5usize), |(mut asks, most)| {
        let bytes: Vec<Bytes> =
            asks.iter().map(|&(ask, _)| Bytes::new(ask)).filter(|ask| !ask.is_zero()).collect();
        let mut pool = pool(&choose_classes(&bytes, most, ALIGN), 0);
        // In any order, with blocks going back and forth.
        asks.sort_by_key(|&(_, order)| order);
        for (ask, order) in asks.into_iter().filter(|&(ask, _)| ask > 0) {
            let block = pool.take(Bytes::new(ask));
            prop_assert!(block.is_ok(), "{block:?}");
            if order % 3 == 0 {
                let block = block.expect("it was checked");
                prop_assert_eq!(pool.give(block), Ok(()));
                prop_assert_eq!(
                    pool.take(Bytes::new(ask)),
                    Ok(block),
                    "the last one given is the next one lent"
                );
            }
        }
        Ok(())
    });
}

/// The fewest bytes of at most `most` classes: every choice of sizes, each ask in the smallest that holds it.
fn fewest(asks: &[u64], most: usize) -> u64 {
    let sizes: Vec<u64> = asks.iter().map(|ask| ask.next_multiple_of(ALIGN.get())).collect();
    let choices = 0..1u32 << sizes.len();
    let chosen = choices.filter(|choice| choice.count_ones() as usize <= most);
    let cost = |choice: u32| -> Option<u64> {
        let held = |&size: &u64| {
            let of = (0..sizes.len()).filter(|&at| choice >> at & 1 == 1 && sizes[at] >= size);
            of.map(|at| sizes[at]).min()
        };
        sizes.iter().map(held).sum()
    };
    chosen.filter_map(cost).min().expect("the largest size alone will do")
}

#[test]
fn no_other_classes_take_less() {
    let asks = proptest::collection::vec(1..120u64, 1..9);
    check("no_other_classes_take_less", 300, (asks, 1..5usize), |(asks, most)| {
        let bytes: Vec<Bytes> = asks.iter().map(|&ask| Bytes::new(ask)).collect();
        let classes = choose_classes(&bytes, most, ALIGN);
        prop_assert!(classes.len() <= most);
        prop_assert_eq!(classes.iter().map(|class| class.blocks as usize).sum::<usize>(), asks.len());
        prop_assert_eq!(total(&classes), fewest(&asks, most));
        Ok(())
    });
}

#[test]
fn a_pool_that_makes_no_sense_is_refused() {
    let class = |size, blocks| ClassSize { size: Bytes::new(size), blocks };
    let made = |offset, len, align, classes: &[ClassSize]| {
        let extent = Extent { offset: Bytes::new(offset), len: Bytes::new(len) };
        Pool::new(extent, Bytes::new(align), classes).err()
    };
    assert_eq!(made(0, 64, 8, &[class(8, 8)]), None);
    for (offset, align) in [(0, 0), (0, 3), (4, 8)] {
        assert!(matches!(made(offset, 64, align, &[class(8, 1)]), Some(PoolError::BadAlign { .. })));
    }
    for classes in [[class(0, 1), class(8, 1)], [class(8, 1), class(8, 1)], [class(8, 1), class(12, 1)]] {
        assert!(matches!(made(0, 64, 8, &classes), Some(PoolError::BadClass { .. })), "{classes:?}");
    }
    assert!(matches!(made(0, 63, 8, &[class(8, 8)]), Some(PoolError::TooSmall { .. })));
    let huge = [class(1 << 40, u32::MAX), class(1 << 62, u32::MAX)];
    assert!(matches!(made(0, 64, 8, &huge), Some(PoolError::TooSmall { needs: Bytes::MAX, .. })));
    let empty = Pool::new(Extent { offset: Bytes::ZERO, len: Bytes::ZERO }, ALIGN, &[])
        .map(|mut pool| pool.take(ALIGN));
    assert!(matches!(empty, Ok(Err(PoolError::TooLarge { .. }))));
}
