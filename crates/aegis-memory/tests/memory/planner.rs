//! The planner against the optimum and under fixed offsets.

use std::cell::Cell;

use aegis_memory::verify::check_placement;
use aegis_memory::{Buffer, LowestOffsetFirst, MemoryError, Planner};
use aegis_types::Bytes;
use proptest::prelude::{Strategy, prop_assert, prop_assert_eq};
use proptest::test_runner::TestCaseError;

use crate::oracle::{buffers, check, is_legal, may_share, optimum, placement, problem};

const ROOMY: u64 = 100_000;

#[test]
fn every_placement_is_legal() {
    check("every_placement_is_legal", 1500, buffers(0..=40), |buffers| {
        let problem = problem(&buffers, ROOMY);
        let placement = LowestOffsetFirst.place(&problem).expect("room for all");
        let peak = check_placement(&problem, &placement);
        prop_assert!(peak.is_ok_and(|peak| peak >= problem.lower_bound()), "{peak:?}");
        let offsets: Vec<u64> = placement.placed.iter().map(|placed| placed.offset.get()).collect();
        prop_assert!(is_legal(&buffers, &offsets, ROOMY));
        prop_assert_eq!(LowestOffsetFirst.place(&problem).expect("as before"), placement);
        Ok(())
    });
}

#[test]
fn bound_optimum_and_planner_are_in_order() {
    let attained = Cell::new(0u32);
    let cases = 400;
    check("bound_optimum_and_planner_are_in_order", cases, buffers(1..=6), |mut buffers| {
        compare(&buffers)?;
        // Plans have one alignment, to which all sizes are rounded; there the planner must be good as well as legal.
        buffers.iter_mut().for_each(|buffer| buffer.align = Bytes::new(1));
        attained.set(attained.get() + u32::from(compare(&buffers)?));
        Ok(())
    });
    assert!(attained.get() * 100 >= cases * 95, "optimal on {} of {cases}: too weak", attained.get());
}

/// Whether the planner attains the optimum.
fn compare(buffers: &[Buffer]) -> Result<bool, TestCaseError> {
    let (least, offsets) = optimum(buffers);
    let exact = problem(buffers, least);
    prop_assert_eq!(check_placement(&exact, &placement(&offsets)), Ok(Bytes::new(least)));
    prop_assert!(exact.lower_bound().get() <= least);
    if least > 0 {
        let tight = LowestOffsetFirst.place(&problem(buffers, least - 1));
        prop_assert!(matches!(tight, Err(MemoryError::NoPlacement { .. })), "below the optimum: {:?}", tight);
    }
    match LowestOffsetFirst.place(&exact) {
        Ok(found) => {
            prop_assert_eq!(check_placement(&exact, &found), Ok(Bytes::new(least)));
            Ok(true)
        }
        Err(MemoryError::NoPlacement { peak, .. }) => {
            prop_assert!(peak.get() > least);
            Ok(false)
        }
        Err(other) => Err(TestCaseError::fail(other.to_string())),
    }
}

#[test]
fn fixed_offsets_are_kept() {
    let fixed = proptest::collection::vec(proptest::option::weighted(0.3, 0..40u64), 12);
    let placed = Cell::new(0u32);
    check("fixed_offsets_are_kept", 1500, (buffers(1..=12), fixed), |(mut buffers, fixed)| {
        for (buffer, fixed) in buffers.iter_mut().zip(fixed) {
            buffer.fixed = fixed.map(|steps| Bytes::new(steps * buffer.align.get()));
        }
        let problem = problem(&buffers, ROOMY);
        let verdict = check_placement(&problem, &LowestOffsetFirst.place(&problem).expect("room for all"));
        placed.set(placed.get() + u32::from(verdict.is_ok()));
        prop_assert_eq!(verdict.is_ok(), compatible(&buffers), "{:?}", verdict);
        Ok(())
    });
    assert!(placed.get() > 150, "only {} problems were solvable", placed.get());
}

fn compatible(buffers: &[Buffer]) -> bool {
    let fixed: Vec<Buffer> = buffers.iter().filter(|b| b.fixed.is_some()).copied().collect();
    let offsets: Vec<u64> = fixed.iter().filter_map(|b| b.fixed.map(Bytes::get)).collect();
    is_legal(&fixed, &offsets, ROOMY)
}

#[test]
fn the_conflict_relation_is_the_rule() {
    check("the_conflict_relation_is_the_rule", 1000, buffers(2..=2).prop_map(|b| (b[0], b[1])), |(a, b)| {
        let empty = a.size.is_zero() || b.size.is_zero();
        prop_assert_eq!(a.conflict(&b).is_none(), empty || may_share(&a, &b));
        prop_assert_eq!(a.conflict(&b), b.conflict(&a));
        Ok(())
    });
}

#[test]
fn bad_problems_are_refused() {
    let plain = |edit: fn(&mut Buffer)| {
        let mut buffer = crate::verifier::scratch(0, 0, 0, 1, 8);
        edit(&mut buffer);
        aegis_memory::Problem::new(vec![buffer], Bytes::new(64)).expect_err("a bad buffer")
    };
    assert!(matches!(plain(|b| b.id.0 = 7), MemoryError::BufferNumber { position: 0, .. }));
    assert!(matches!(plain(|b| b.align = Bytes::new(3)), MemoryError::BadAlign { .. }));
    assert!(matches!(plain(|b| b.upper = b.lower), MemoryError::BadInterval { .. }));
    assert!(matches!(plain(|b| b.size = Bytes::MAX), MemoryError::Overflow { .. }));
    assert!(matches!(plain(|b| b.fixed = Some(Bytes::new(60))), MemoryError::BadFixedOffset { .. }));
    let off = |b: &mut Buffer| (b.align, b.fixed) = (Bytes::new(4), Some(Bytes::new(2)));
    assert!(matches!(plain(off), MemoryError::BadFixedOffset { .. }));
    assert!(matches!(plain(|b| b.fixed = Some(Bytes::MAX)), MemoryError::BadFixedOffset { .. }));
}
