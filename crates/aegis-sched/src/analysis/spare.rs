//! Which levels of a static-priority lane need no fixed point when a task joins.
//!
//! Let z be at most min(D_i - J_i - F_i, T_i), and
//!
//! ```text
//! max(B_i, F_i) + C_i - F_i + sum over the others in hep(i) of etac_j(z) C_j <= z
//! ```
//!
//! Then z is a post-fixpoint of the equation for w_0, so w_0 <= z and R(0) <= D_i. The same equation with max(B_i, F_i)
//! in the place of B_i has a solution y <= z, with `C_i + sum of ceil(y / T_j) C_j <= y <= T_i`, so no later job is worse
//! than the first (`np_fp`). For each task such a z is kept with what it leaves before max(B_i, F_i): a task that joins
//! takes etac(z) C from it, and one that leaves gives it back. Any z is safe; the one that leaves most says most.

use super::demand::{Row, Rows, closed_jobs};

/// Lanes with more tasks keep nothing: to begin with, each task is held against each.
const TASKS_MAX: usize = 1_000;

/// How many parts of the longest window are tried, from half of it up.
const PARTS: u64 = 8;

/// By position on the lane.
#[derive(Clone, Debug, Default)]
pub(super) struct Spares {
    kept: Vec<Spare>,
}

#[derive(Clone, Copy, Debug)]
struct Spare {
    /// z.
    window: u64,
    /// What of it is left before max(B, F). Sums wrap, so that what is taken can be given back whatever it was; those of a
    /// lane that is not overloaded are far from the ends, because it asks for at most the window, one job of each task and
    /// its jitter.
    left: i64,
}

impl Spare {
    /// z, as yet without the work of others.
    fn new(row: &Row, window: u64) -> Self {
        Self { window, left: (window as i64).wrapping_sub((row.cost - row.last) as i64) }
    }

    /// What jobs of `other` take from it, where they are no less urgent than `row`, whose it is.
    #[inline]
    fn taken(&self, row: &Row, other: &Row) -> i64 {
        let counts = other.key <= row.key;
        if counts { closed_jobs(other, self.window).wrapping_mul(other.cost) as i64 } else { 0 }
    }

    fn of(lane: &Rows, at: usize, window: u64) -> Self {
        let (row, mut spare) = (&lane.rows[at], Self::new(&lane.rows[at], window));
        for (_, other) in lane.rows.iter().enumerate().filter(|(other, _)| *other != at) {
            spare.left = spare.left.wrapping_sub(spare.taken(row, other));
        }
        spare
    }
}

/// The longest z.
fn longest(row: &Row) -> u64 {
    row.deadline.saturating_sub(row.jitter).saturating_sub(row.last).min(row.period)
}

impl Spares {
    pub(super) fn of(lane: &Rows) -> Self {
        if lane.rows.len() > TASKS_MAX {
            return Self::default();
        }
        let best = |(at, row): (usize, &Row)| {
            let windows = (PARTS..=2 * PARTS).map(|part| longest(row) / (2 * PARTS) * part);
            let spares = windows.chain([longest(row)]).map(|window| Spare::of(lane, at, window));
            spares.max_by_key(|spare| spare.left)
        };
        Self { kept: lane.rows.iter().enumerate().filter_map(best).collect() }
    }

    /// A task joins, and stands at `position` of the lane.
    pub(super) fn insert(&mut self, lane: &Rows, position: usize) {
        if self.kept.len() + 1 != lane.rows.len() || self.kept.len() >= TASKS_MAX {
            self.kept.clear();
            return;
        }
        let added = &lane.rows[position];
        self.kept.insert(position, Spare::of(lane, position, longest(added)));
        for (at, (spare, row)) in self.kept.iter_mut().zip(&lane.rows).enumerate() {
            let taken = if at == position { 0 } else { spare.taken(row, added) };
            spare.left = spare.left.wrapping_sub(taken);
        }
    }

    /// A task that stood at `position` has left the lane.
    pub(super) fn remove(&mut self, lane: &Rows, position: usize, removed: &Row) {
        if self.kept.len() != lane.rows.len() + 1 {
            return;
        }
        self.kept.remove(position);
        for (spare, row) in self.kept.iter_mut().zip(&lane.rows) {
            spare.left = spare.left.wrapping_add(spare.taken(row, removed));
        }
    }

    /// Whether the task at `position` of a lane that is not overloaded is in time if its level is held up for so long.
    #[inline]
    pub(super) fn suffice(&self, lane: &Rows, position: usize, blocking: u64) -> bool {
        let held = blocking.max(lane.rows[position].last) as i64;
        self.kept.get(position).is_some_and(|spare| spare.left >= held)
    }
}
