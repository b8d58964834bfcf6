//! The search against the optimum, on tight instances, and on fleets.

use std::cell::Cell;

use aegis_memory::verify::check_placement;
use aegis_memory::{
    Buffer, BufferId, Fault, Gap, Goal, Placement, Planner, Portfolio, Problem, Search, Status,
};
use aegis_types::{Bytes, LaneId, MemoryClass};
use proptest::prelude::{Strategy, prop_assert, prop_assert_eq};

use crate::hard::{cut_up, fleet};
use crate::oracle::{buffers, check, is_legal, problem};
use crate::verifier::scratch;

const ROOMY: u64 = 100_000;

/// More decisions than any of the small instances needs.
const PLENTY: u64 = 2_000_000;

fn solved(problem: &Problem, goal: Goal) -> Search {
    let mut search = Search::new(problem, goal, 7);
    assert!(search.step(PLENTY), "not done: {:?} at {}", search.status(), search.peak());
    search
}

fn offsets(placement: &Placement) -> Vec<u64> {
    placement.placed.iter().map(|placed| placed.offset.get()).collect()
}

/// The instants at which a buffer is live.
fn instants(buffer: &Buffer, gaps: &[Gap]) -> Vec<u64> {
    let away =
        |at: &u64| gaps.iter().any(|gap| gap.buffer == buffer.id && (gap.lower..gap.upper).contains(at));
    (buffer.lower..buffer.upper).filter(|at| !away(at)).collect()
}

/// The lowest peak: every order of the buffers is tried, each buffer at its lowest legal offset, below what is known
/// already. Shares no idea with the search but that one.
fn least_peak(buffers: &[Buffer], gaps: &[Gap]) -> u64 {
    let live: Vec<Vec<u64>> = buffers.iter().map(|buffer| instants(buffer, gaps)).collect();
    let apart = |a: usize, b: usize| live[a].iter().all(|at| !live[b].contains(at));
    let clash: Vec<Vec<usize>> = (0..buffers.len())
        .map(|a| (0..buffers.len()).filter(|&b| a != b && !apart(a, b)).collect())
        .collect();
    let mut offsets: Vec<Option<u64>> = buffers.iter().map(|buffer| buffer.fixed.map(Bytes::get)).collect();
    let fixed = buffers.iter().filter_map(|buffer| Some(buffer.fixed?.get() + buffer.size.get()));
    let mut best = u64::MAX;
    deepen(buffers, &clash, &mut offsets, fixed.max().unwrap_or(0), &mut best);
    best
}

fn deepen(buffers: &[Buffer], clash: &[Vec<usize>], offsets: &mut [Option<u64>], peak: u64, best: &mut u64) {
    if peak >= *best {
        return;
    }
    if offsets.iter().all(Option::is_some) {
        *best = peak;
        return;
    }
    for next in 0..buffers.len() {
        if offsets[next].is_some() {
            continue;
        }
        let size = buffers[next].size.get();
        let free = |&at: &u64| {
            clash[next].iter().all(|&other| {
                offsets[other]
                    .is_none_or(|low| at + size <= low || low + buffers[other].size.get() <= at || size == 0)
            })
        };
        let at = (0..).step_by(buffers[next].align.get() as usize).find(free).expect("space is endless");
        offsets[next] = Some(at);
        deepen(buffers, clash, offsets, peak.max(if size == 0 { 0 } else { at + size }), best);
        offsets[next] = None;
    }
}

/// Buffers of one lane, without empty ones: an empty buffer has no peak.
fn one_lane(most: usize) -> impl Strategy<Value = Vec<Buffer>> {
    buffers(1..=most).prop_map(|mut buffers| {
        for buffer in &mut buffers {
            (buffer.lane, buffer.class) = (LaneId::new(0), MemoryClass::Scratch);
            buffer.size = Bytes::new(buffer.size.get().max(1));
        }
        buffers
    })
}

#[test]
fn it_finds_and_proves_the_optimum() {
    check("it_finds_and_proves_the_optimum", 400, one_lane(8), |buffers| {
        let least = least_peak(&buffers, &[]);
        let search = solved(&problem(&buffers, ROOMY), Goal::Least);
        prop_assert_eq!((search.peak().get(), search.status()), (least, Status::Optimal));
        prop_assert!(is_legal(&buffers, &offsets(&search.placement()), ROOMY));
        let exact = problem(&buffers, least);
        prop_assert_eq!(
            check_placement(&exact, &solved(&exact, Goal::Within).placement()),
            Ok(Bytes::new(least))
        );
        let tight = solved(&problem(&buffers, least - 1), Goal::Within).status();
        prop_assert!(matches!(tight, Status::Infeasible { .. }), "{:?} below {}", tight, least);
        Ok(())
    });
}

#[test]
fn what_begins_at_multiples_counts_up_to_the_next() {
    // Three that begin at multiples of 4096 end at 8193 or above; what begins at multiples of 64 fits between.
    let mut buffers: Vec<Buffer> = (0..3).map(|id| scratch(id, 0, 0, 4, 1)).collect();
    buffers.iter_mut().for_each(|buffer| buffer.align = Bytes::new(4096));
    buffers.extend((3..60).map(|id| Buffer { align: Bytes::new(64), ..scratch(id, 0, 1, 3, 37) }));
    let search = solved(&problem(&buffers, ROOMY), Goal::Least);
    assert_eq!((search.bound(), search.status()), (Bytes::new(8193), Status::Optimal));
    // Of equal alignment the highest is the one that need not be filled up: 5 of 64 and one of 61 bytes.
    let equal: Vec<Buffer> =
        (0..6).map(|id| Buffer { align: Bytes::new(64), ..scratch(id, 0, 0, 4, 61) }).collect();
    let search = solved(&problem(&equal, ROOMY), Goal::Least);
    assert_eq!((search.bound(), search.status()), (Bytes::new(5 * 64 + 61), Status::Optimal));
}

#[test]
fn it_finds_and_proves_the_optimum_under_gaps() {
    let gaps = proptest::collection::vec((0..8usize, 0..5u64, 1..4u64), 0..6);
    let used = Cell::new(0);
    check("it_finds_and_proves_the_optimum_under_gaps", 300, (one_lane(7), gaps), |(mut buffers, rows)| {
        let mut gaps: Vec<Gap> = Vec::new();
        for (at, from, width) in rows {
            let Some(buffer) = buffers.get_mut(at) else { continue };
            buffer.upper += 3;
            let (lower, upper) = (buffer.lower + 1 + from, buffer.lower + 1 + from + width);
            if upper < buffer.upper && gaps.iter().all(|gap| gap.buffer != buffer.id) {
                gaps.push(Gap { buffer: buffer.id, lower, upper, window: None });
            }
        }
        used.set(used.get() + gaps.len());
        let least = least_peak(&buffers, &gaps);
        let problem = problem(&buffers, ROOMY).with_gaps(gaps).expect("legal gaps");
        let search = solved(&problem, Goal::Least);
        prop_assert_eq!((search.peak().get(), search.status()), (least, Status::Optimal));
        prop_assert_eq!(check_placement(&problem, &search.placement()), Ok(Bytes::new(least)));
        Ok(())
    });
    assert!(used.get() > 100, "only {} gaps", used.get());
}

#[test]
fn it_finds_and_proves_the_optimum_around_fixed_offsets() {
    let fixed = proptest::collection::vec(proptest::option::weighted(0.4, 0..12u64), 8);
    let cases = Cell::new(0);
    check(
        "it_finds_and_proves_the_optimum_around_fixed_offsets",
        500,
        (one_lane(7), fixed),
        |(mut buffers, fixed)| {
            for (buffer, fixed) in buffers.iter_mut().zip(fixed) {
                buffer.fixed = fixed.map(|steps| Bytes::new(steps * buffer.align.get()));
            }
            let pinned: Vec<Buffer> = buffers.iter().filter(|b| b.fixed.is_some()).copied().collect();
            let at: Vec<u64> = pinned.iter().filter_map(|b| b.fixed.map(Bytes::get)).collect();
            if !is_legal(&pinned, &at, ROOMY) {
                return Ok(());
            }
            cases.set(cases.get() + 1);
            let least = least_peak(&buffers, &[]);
            let problem = problem(&buffers, ROOMY);
            let search = solved(&problem, Goal::Least);
            prop_assert_eq!(check_placement(&problem, &search.placement()), Ok(Bytes::new(least)));
            prop_assert_eq!(search.status(), Status::Optimal);
            Ok(())
        },
    );
    assert!(cases.get() > 100, "only {} cases", cases.get());
}

#[test]
fn on_several_lanes_it_is_legal_and_claims_no_more_than_holds() {
    let optimal = Cell::new(0);
    check("on_several_lanes_it_is_legal_and_claims_no_more_than_holds", 250, buffers(1..=6), |buffers| {
        let problem = problem(&buffers, ROOMY);
        let mut search = Search::new(&problem, Goal::Least, 3);
        search.step(20_000);
        let peak = check_placement(&problem, &search.placement());
        prop_assert_eq!(peak, Ok(search.peak()));
        let (least, _) = crate::oracle::optimum(&buffers);
        prop_assert!(search.bound().get() <= least && least <= search.peak().get());
        optimal.set(optimal.get() + u32::from(search.status() == Status::Optimal));
        Ok(())
    });
    assert!(optimal.get() > 100, "optimal on {}", optimal.get());
}

#[test]
fn a_window_is_used_by_the_verifier_and_kept_clear_by_the_search() {
    let buffers = [crate::verifier::scratch(0, 0, 0, 9, 8), crate::verifier::scratch(1, 0, 3, 6, 5)];
    let gap = Gap { buffer: BufferId(0), lower: 3, upper: 6, window: Some((Bytes::new(5), Bytes::new(8))) };
    let problem = problem(&buffers, 64).with_gaps(vec![gap]).expect("a legal gap");
    assert_eq!(problem.lower_bound(), Bytes::new(8));
    assert_eq!(check_placement(&problem, &crate::oracle::placement(&[0, 0])), Ok(Bytes::new(8)));
    let clash = check_placement(&problem, &crate::oracle::placement(&[0, 1]));
    assert!(matches!(clash, Err(Fault::Overlap { .. })), "{clash:?}");
    let mut search = Search::new(&problem, Goal::Least, 0);
    search.step(1000);
    assert!(check_placement(&problem, &search.placement()).is_ok());
    assert_eq!(search.status(), Status::Feasible { bound: Bytes::new(8) });
}

#[test]
fn tight_instances_are_solved_and_never_called_infeasible() {
    let mut solved = 0;
    for seed in 0..12 {
        let buffers = cut_up(seed, 60, 40, 512, seed % 3 * 4);
        let problem = problem(&buffers, 512);
        let mut search = Search::new(&problem, Goal::Within, seed);
        let mut peak = search.peak();
        let mut done = false;
        for _ in 0..60 {
            done = done || search.step(500);
            assert!(search.peak() <= peak, "seed {seed}: {} after {peak}", search.peak());
            peak = search.peak();
            assert!(!matches!(search.status(), Status::Infeasible { .. }), "seed {seed}");
        }
        if search.peak() <= problem.capacity() {
            assert_eq!(check_placement(&problem, &search.placement()), Ok(peak), "seed {seed}");
            solved += 1;
        }
    }
    assert!(solved >= 10, "{solved} of 12");
}

#[test]
fn cuts_without_any_waste_are_solved() {
    let mut solved = 0;
    for seed in 1000..1006 {
        let buffers = cut_up(seed, 100, 60, 700, 0);
        let problem = problem(&buffers, 700);
        let mut search = Search::new(&problem, Goal::Within, 0);
        search.step(8000);
        assert!(!matches!(search.status(), Status::Infeasible { .. }), "seed {seed}: a placement exists");
        if search.peak() <= problem.capacity() {
            assert_eq!(check_placement(&problem, &search.placement()), Ok(search.peak()), "seed {seed}");
            solved += 1;
        }
    }
    assert!(solved >= 5, "{solved} of 6");
}

#[test]
fn minimising_meets_the_capacities_that_are_met_where_they_are_known() {
    let reach = |problem: &Problem, goal| {
        let mut search = Search::new(problem, goal, 0);
        search.step(12_000);
        search.peak().get()
    };
    let (mut known, mut missed) = (0, Vec::new());
    for (count, time, left_out) in [(60, 40, 0), (60, 40, 8), (90, 60, 4), (120, 70, 0), (120, 50, 12)] {
        for seed in 3000..3008 {
            let buffers = cut_up(seed, count, time, 700, left_out);
            let least = reach(&problem(&buffers, ROOMY), Goal::Least);
            // Of the space that is known to suffice nothing is given away, next to nothing, and some.
            for capacity in [700, 703, 721] {
                if reach(&problem(&buffers, capacity), Goal::Within) <= capacity {
                    known += 1;
                    if least > capacity {
                        missed.push((count, time, left_out, seed, capacity, least));
                    }
                }
            }
        }
    }
    assert!(known >= 108, "{known} of 120 met");
    // Which of two searches is lucky differs: one in a hundred may be missed.
    assert!(missed.len() * 100 <= known, "{known} met, and of these missed by the other: {missed:?}");
}

#[test]
fn fleets_come_close_to_their_bound_and_stay_legal() {
    for (seed, runs, queues) in [(1, 3, 1), (2, 12, 2), (3, 30, 4)] {
        let buffers = fleet(seed, runs, queues);
        let problem = problem(&buffers, u64::MAX / 4);
        let mut search = Search::new(&problem, Goal::Least, 1);
        search.step(20 * buffers.len() as u64);
        assert_eq!(check_placement(&problem, &search.placement()), Ok(search.peak()), "seed {seed}");
        let (peak, bound) = (search.peak().get(), problem.lower_bound().get());
        assert!(peak * 100 <= bound * 102, "seed {seed}, {} buffers: {peak} over {bound}", buffers.len());
    }
}

#[test]
fn equal_steps_give_equal_placements() {
    let problem = problem(&cut_up(5, 90, 60, 700, 2), 700);
    let run = |seed| {
        let mut search = Search::new(&problem, Goal::Least, seed);
        (0..30).for_each(|_| {
            search.step(400);
        });
        (search.placement(), search.nodes())
    };
    assert_eq!(run(4), run(4));
    let planner = Portfolio { seed: 4, nodes: 5000 };
    let capacity =
        aegis_memory::Problem::new(problem.buffers().to_vec(), Bytes::new(ROOMY)).expect("as before");
    assert_eq!(planner.place(&capacity), planner.place(&capacity));
}
