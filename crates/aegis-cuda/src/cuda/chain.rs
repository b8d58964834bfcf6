//! One order for the operations of a graph.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A dependence: the first operation ends before the second begins. Operations are counted from zero.
pub(super) type Edge = (usize, usize);

/// An order of `nodes` operations in which each comes behind whatever it depends on; among those that may come next, the
/// one that was recorded first. `None` if there is no such order.
pub(super) fn order(nodes: usize, edges: &[Edge]) -> Option<Vec<usize>> {
    let mut waiting = vec![0_usize; nodes];
    let mut behind = vec![Vec::new(); nodes];
    for &(from, to) in edges {
        *waiting.get_mut(to)? += 1;
        behind.get_mut(from)?.push(to);
    }
    let mut open: BinaryHeap<Reverse<usize>> =
        (0..nodes).filter(|node| waiting[*node] == 0).map(Reverse).collect();
    let mut found = Vec::with_capacity(nodes);
    while let Some(Reverse(node)) = open.pop() {
        found.push(node);
        for &next in &behind[node] {
            waiting[next] -= 1;
            if waiting[next] == 0 {
                open.push(Reverse(next));
            }
        }
    }
    (found.len() == nodes).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_recorded_of_those_that_may_come_next_comes_next() {
        let check = |nodes, edges: &[Edge], expected: Option<&[usize]>| {
            assert_eq!(order(nodes, edges).as_deref(), expected, "{nodes} nodes, {edges:?}");
        };
        check(0, &[], Some(&[]));
        check(1, &[], Some(&[0]));
        check(2, &[], Some(&[0, 1]));
        check(3, &[(1, 2), (2, 0)], Some(&[1, 2, 0]));
        check(4, &[(0, 1), (0, 2), (1, 3), (2, 3)], Some(&[0, 1, 2, 3]));
        check(5, &[(0, 3), (3, 4), (0, 1), (1, 2), (2, 4)], Some(&[0, 1, 2, 3, 4]));
        check(4, &[(3, 0), (2, 0)], Some(&[1, 2, 3, 0]));
        check(2, &[(0, 1), (1, 0)], None);
        check(2, &[(0, 2)], None);
    }

    /// Every graph of five operations whose edges point forward in some numbering.
    #[test]
    fn every_dependence_is_kept_in_every_small_graph() {
        let pairs: Vec<Edge> = (0..5).flat_map(|from| (from + 1..5).map(move |to| (from, to))).collect();
        let names = [3, 1, 4, 0, 2];
        for set in 0..1_u32 << pairs.len() {
            let chosen = pairs.iter().enumerate().filter(|(bit, _)| set >> bit & 1 == 1);
            let edges: Vec<Edge> = chosen.map(|(_, &(from, to))| (names[from], names[to])).collect();
            let found = order(5, &edges).expect("it has no circle");
            let place = |node| found.iter().position(|known| *known == node).expect("every one is there");
            assert!(edges.iter().all(|&(from, to)| place(from) < place(to)), "{edges:?}: {found:?}");
        }
    }
}
