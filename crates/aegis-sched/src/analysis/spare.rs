//! Which levels of a static-priority lane need no fixed point when a task joins.
//!
//! Let y = min(D_i, T_i) - J_i. If B_i + C_i + sum over the others in hep(i) of eta_j(y) C_j <= y, then y is a
//! post-fixpoint for the busy period, which has one job of the task because y <= T_i - J_i. So L_i <= y, and
//! R_i <= L_i + J_i <= D_i. What is left of y before B_i is kept for each task: one that joins takes eta(y) C from it, and
//! one that leaves gives it back.

use super::demand::{Row, Rows, closed_jobs};

/// Lanes with more tasks keep nothing: to begin with, each task is held against each.
const TASKS_MAX: usize = 1_000;

/// By position on the lane, y without C_i and the work of the others. Sums wrap, so that what is taken can be given back
/// whatever it was; those of a lane that is not overloaded are far from the ends.
#[derive(Clone, Debug, Default)]
pub(super) struct Spares {
    left: Vec<i128>,
}

/// y.
fn window(row: &Row) -> u64 {
    row.deadline.min(row.period).saturating_sub(row.jitter)
}

/// What jobs of `other` take from the window of `row`, where they are no less urgent.
fn taken(row: &Row, other: &Row) -> i128 {
    match window(row).checked_sub(1) {
        Some(last) if other.key <= row.key => i128::from(closed_jobs(other, last)) * i128::from(other.cost),
        _ => 0,
    }
}

impl Spares {
    pub(super) fn of(lane: &Rows) -> Self {
        if lane.rows.len() > TASKS_MAX {
            return Self::default();
        }
        let rows = || lane.rows.iter().enumerate();
        let left = |(at, row): (usize, &Row)| {
            let others = rows().filter(|(other, _)| *other != at).map(|(_, other)| taken(row, other));
            others.fold(i128::from(window(row)) - i128::from(row.cost), i128::wrapping_sub)
        };
        Self { left: rows().map(left).collect() }
    }

    /// A task joins, and stands at `position` of the lane.
    pub(super) fn insert(&mut self, lane: &Rows, position: usize) {
        if self.left.len() + 1 != lane.rows.len() || self.left.len() >= TASKS_MAX {
            self.left.clear();
            return;
        }
        let added = &lane.rows[position];
        self.left.insert(position, i128::from(window(added)) - i128::from(added.cost));
        for (at, row) in lane.rows.iter().enumerate().filter(|(at, _)| *at != position) {
            self.left[at] = self.left[at].wrapping_sub(taken(row, added));
            self.left[position] = self.left[position].wrapping_sub(taken(added, row));
        }
    }

    /// A task that stood at `position` has left the lane.
    pub(super) fn remove(&mut self, lane: &Rows, position: usize, removed: &Row) {
        if self.left.len() != lane.rows.len() + 1 {
            return;
        }
        self.left.remove(position);
        for (left, row) in self.left.iter_mut().zip(&lane.rows) {
            *left = left.wrapping_add(taken(row, removed));
        }
    }

    /// Whether the task at `position` is in time if its level is held up for so long before it.
    pub(super) fn suffice(&self, position: usize, blocking: u64) -> bool {
        self.left.get(position).is_some_and(|&left| left >= i128::from(blocking))
    }
}
