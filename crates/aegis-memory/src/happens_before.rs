//! Which use of a lane is over before which use of another begins, as enforced edges say.
//!
//! Used by the verifier alone. Along a lane, instants follow each other. An edge that waits for a lane's instant
//! carries whatever that lane waited for at a *smaller* instant: at an equal one the wait may be put behind the mark.

use std::collections::BTreeMap;

use aegis_types::LaneId;

use crate::problem::Edge;

/// The earliest instant of each lane that comes after something.
type Reach = BTreeMap<LaneId, u64>;

/// The transitive closure of a set of edges.
#[derive(Clone, Debug)]
pub(crate) struct HappensBefore {
    /// For each lane that is waited for: its marks by rising instant, each with what comes after it or a later one.
    marks: BTreeMap<LaneId, Vec<(u64, Reach)>>,
}

impl HappensBefore {
    /// Closes a set of edges.
    ///
    /// # Errors
    /// The first edge of a cycle: its lane would wait for itself.
    pub(crate) fn new(edges: &[Edge]) -> Result<Self, Edge> {
        let mut own: Vec<Reach> = edges.iter().map(|edge| Reach::from([edge.after])).collect();
        // Every round carries the closure over one more edge; there are no more rounds than edges in a chain.
        for _ in 0..=edges.len() {
            let closed = Self::collect(edges, &own);
            let mut changed = false;
            for (edge, reach) in edges.iter().zip(&mut own) {
                let (lane, instant) = edge.after;
                let Some(further) = closed.after(lane, instant.saturating_add(1)) else { continue };
                for (&lane, &instant) in further {
                    let known = reach.entry(lane).or_insert(u64::MAX);
                    changed |= instant < *known;
                    *known = instant.min(*known);
                }
            }
            if let Some((edge, _)) = edges.iter().zip(&own).find(|(edge, reach)| {
                let (lane, instant) = edge.before;
                reach.get(&lane).is_some_and(|&next| next < instant)
            }) {
                return Err(*edge);
            }
            if !changed {
                break;
            }
        }
        Ok(Self::collect(edges, &own))
    }

    fn collect(edges: &[Edge], own: &[Reach]) -> Self {
        let mut marks: BTreeMap<LaneId, Vec<(u64, Reach)>> = BTreeMap::new();
        for (edge, reach) in edges.iter().zip(own) {
            let (lane, instant) = edge.before;
            marks.entry(lane).or_default().push((instant, reach.clone()));
        }
        for marks in marks.values_mut() {
            marks.sort();
            for at in (1..marks.len()).rev() {
                let (head, tail) = marks.split_at_mut(at);
                let Some((_, earlier)) = head.last_mut() else { continue };
                for (&lane, &instant) in &tail[0].1 {
                    let known = earlier.entry(lane).or_insert(u64::MAX);
                    *known = instant.min(*known);
                }
            }
        }
        Self { marks }
    }

    /// What comes after everything on a lane that ends by some instant.
    fn after(&self, lane: LaneId, instant: u64) -> Option<&Reach> {
        let marks = self.marks.get(&lane)?;
        marks.get(marks.partition_point(|mark| mark.0 < instant)).map(|mark| &mark.1)
    }

    /// Whether what ends on one lane at `upper` is over before what starts on another at `lower`.
    pub(crate) fn holds(&self, (before, upper): (LaneId, u64), (after, lower): (LaneId, u64)) -> bool {
        self.after(before, upper).and_then(|reach| reach.get(&after)).is_some_and(|&instant| instant <= lower)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edge(before: (u16, u64), after: (u16, u64)) -> Edge {
        let at = |(lane, instant)| (LaneId::new(lane), instant);
        Edge { before: at(before), after: at(after) }
    }

    fn holds(edges: &[Edge], before: (u16, u64), after: (u16, u64)) -> bool {
        let edge = edge(before, after);
        HappensBefore::new(edges).is_ok_and(|order| order.holds(edge.before, edge.after))
    }

    #[test]
    fn an_edge_orders_what_ends_before_it_and_starts_after_it() {
        let edges = [edge((0, 5), (1, 3))];
        for (upper, lower, expected) in [(5, 3, true), (4, 9, true), (6, 3, false), (5, 2, false)] {
            assert_eq!(holds(&edges, (0, upper), (1, lower)), expected, "{upper} {lower}");
        }
        assert!(!holds(&edges, (1, 1), (0, 9)), "not the other way");
    }

    #[test]
    fn edges_chain_where_the_mark_lies_behind_the_wait() {
        assert!(holds(&[edge((0, 1), (1, 1)), edge((1, 2), (2, 7))], (0, 1), (2, 7)));
        assert!(!holds(&[edge((0, 1), (1, 1)), edge((1, 1), (2, 7))], (0, 1), (2, 7)));
        let long: Vec<Edge> = (0..9).map(|lane| edge((lane, 2), (lane + 1, 1))).collect();
        assert!(holds(&long, (0, 2), (9, 1)));
    }

    #[test]
    fn a_cycle_is_refused() {
        assert!(HappensBefore::new(&[edge((0, 5), (1, 3)), edge((1, 4), (0, 2))]).is_err());
        assert!(HappensBefore::new(&[edge((0, 5), (1, 3)), edge((1, 4), (0, 6))]).is_ok());
        assert!(HappensBefore::new(&[edge((0, 5), (0, 4))]).is_err());
    }
}
