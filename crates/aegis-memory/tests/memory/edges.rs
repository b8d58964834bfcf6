//! Sharing across lanes, under edges and without, against every schedule of a few segments.

use std::cell::Cell;

use aegis_memory::verify::check_placement;
use aegis_memory::{Buffer, Conflict, Edge, Fault};
use aegis_types::{Bytes, LaneId};
use proptest::prelude::{Strategy, prop_assert, prop_assert_eq};

use crate::oracle::{check, placement, problem};
use crate::verifier::scratch;

const LANES: usize = 3;
const INSTANTS: usize = 4;

fn at(lane: u64, instant: u64) -> (LaneId, u64) {
    (LaneId::new(lane as u16), instant)
}

/// Whether two uses can be in flight together in some legal run. A run is a walk over how many segments of each lane
/// have ended; segment s of a lane may be in flight when s have ended and every edge into an instant up to s is kept.
fn can_meet(a: &Buffer, b: &Buffer, edges: &[Edge]) -> bool {
    let startable = |ended: &[usize; LANES], lane: usize| {
        edges.iter().all(|edge| {
            let waits = edge.after.0.index() == lane && edge.after.1 <= ended[lane] as u64;
            !waits || ended[edge.before.0.index()] as u64 >= edge.before.1
        })
    };
    let mut seen = vec![[0usize; LANES]];
    let mut next = 0;
    while next < seen.len() {
        let ended = seen[next];
        next += 1;
        let in_flight = |use_: &Buffer| {
            let lane = use_.lane.index();
            let live = (use_.lower..use_.upper).contains(&(ended[lane] as u64));
            // Between two segments of its life a use holds its bytes although nothing runs.
            live && (use_.lower < ended[lane] as u64 || startable(&ended, lane))
        };
        if in_flight(a) && in_flight(b) {
            return true;
        }
        for lane in 0..LANES {
            let mut further = ended;
            further[lane] += 1;
            if ended[lane] < INSTANTS && startable(&ended, lane) && !seen.contains(&further) {
                seen.push(further);
            }
        }
    }
    false
}

fn uses() -> impl Strategy<Value = (Vec<Buffer>, Vec<Edge>)> {
    let lane = 0..LANES as u64;
    let pair = (lane.clone(), 0..3u64, 1..3u64, lane.clone(), 0..3u64, 1..3u64);
    let edges = proptest::collection::vec((lane.clone(), 1..=4u64, lane, 0..4u64), 0..4);
    (pair, edges).prop_map(|((l, a, w, m, b, v), edges)| {
        let (l, m) = (l as u16, if m == l { (m + 1) % 3 } else { m } as u16);
        let edges = edges.into_iter().filter(|edge| edge.0 != edge.2);
        let edges = edges.map(|(from, x, to, y)| Edge { before: at(from, x), after: at(to, y) });
        (vec![scratch(0, l, a, a + w, 8), scratch(1, m, b, b + v, 8)], edges.collect())
    })
}

#[test]
fn sharing_across_lanes_is_legal_exactly_where_no_run_lets_them_meet() {
    let (legal, illegal) = (Cell::new(0), Cell::new(0));
    check(
        "sharing_across_lanes_is_legal_exactly_where_no_run_lets_them_meet",
        6000,
        uses(),
        |(uses, edges)| {
            let problem = problem(&uses, 64).with_order(edges.clone());
            let apart = check_placement(&problem, &placement(&[0, 8]));
            if let Err(Fault::Cycle(_)) = apart {
                return Ok(());
            }
            prop_assert_eq!(apart, Ok(Bytes::new(16)));
            let verdict = check_placement(&problem, &placement(&[0, 4]));
            if can_meet(&uses[0], &uses[1], &edges) {
                illegal.set(illegal.get() + 1);
                prop_assert!(
                    matches!(verdict, Err(Fault::Overlap { why: Conflict::Lanes, .. })),
                    "{verdict:?}"
                );
            } else if verdict.is_ok() {
                legal.set(legal.get() + 1);
            }
            Ok(())
        },
    );
    assert!(legal.get() > 100 && illegal.get() > 1000, "{} legal, {} illegal", legal.get(), illegal.get());
}

#[test]
fn a_missing_edge_a_wrong_lane_and_a_wrong_lifetime_are_found() {
    let uses = [scratch(0, 0, 0, 2, 8), scratch(1, 1, 3, 5, 8), scratch(2, 1, 5, 6, 8)];
    let edge = Edge { before: at(0, 2), after: at(1, 3) };
    let verdict = |edit: fn(&mut Vec<Buffer>), edges: &[Edge]| {
        let mut uses = uses.to_vec();
        edit(&mut uses);
        check_placement(&problem(&uses, 64).with_order(edges.to_vec()), &placement(&[0, 0, 0]))
    };
    assert_eq!(verdict(|_| (), &[edge]), Ok(Bytes::new(8)));
    let overlap = |edit, edges: &[Edge]| match verdict(edit, edges) {
        Err(Fault::Overlap { why, .. }) => why,
        other => panic!("{other:?}"),
    };
    assert_eq!(overlap(|_| (), &[]), Conflict::Lanes, "the edge is missing");
    assert_eq!(
        overlap(|_| (), &[Edge { before: at(0, 1), ..edge }]),
        Conflict::Lanes,
        "the edge comes too early"
    );
    assert_eq!(
        overlap(|uses| uses[0].upper = 3, &[edge]),
        Conflict::Lanes,
        "it lives longer than the edge waits"
    );
    assert_eq!(overlap(|uses| uses[1].lower = 2, &[edge]), Conflict::Lanes, "it begins before the wait");
    assert_eq!(
        overlap(|uses| uses[2].lane = LaneId::new(2), &[edge]),
        Conflict::Lanes,
        "a lane without an edge"
    );
    assert_eq!(
        overlap(|uses| uses[2].lower = 4, &[edge]),
        Conflict::Interval,
        "within a lane, at the same time"
    );
    assert_eq!(
        overlap(|uses| uses[2].class = aegis_types::MemoryClass::Exchange, &[edge]),
        Conflict::Exclusive
    );
    let back = Edge { before: at(1, 4), after: at(0, 1) };
    assert!(matches!(verdict(|_| (), &[edge, back]), Err(Fault::Cycle(_))));
}
