//! Static priorities under which a lane fits, whenever there are some.
//!
//! Audsley, "On priority assignment in fixed priority scheduling", Information Processing Letters 79 (2001): the
//! lowest level goes to any task that meets its deadline there, and so on upwards. Neither the shortest period nor the
//! shortest deadline first is optimal for tasks that are not preempted. This is, because a bound of [`np_fp`]
//! depends on which tasks are more and which are less urgent but not on their order: a task that meets its deadline at
//! the lowest level lets every order of the others keep what it had, and with a shorter set above and a longer one below
//! no bound rises.

use super::demand::{Rows, STEPS_MAX, check_utilisation};
use super::np_fp::{self, Ranks};
use super::problem::LaneProblem;

/// Keys for the tasks, in the order of the problem, 0 the most urgent and all different, under which every deadline of
/// the lane is met with static priorities; `None` if there are none. Takes one test per task and level at most. Of
/// several tasks that can have a level, that with the longest deadline gets it, ties by position.
pub fn optimal_keys(problem: &LaneProblem) -> Option<Vec<u64>> {
    let mut lane = Rows::of(problem).ok()?;
    check_utilisation(&lane).ok()?;
    let mut open: Vec<usize> = (0..lane.rows.len()).collect();
    open.sort_by_key(|&at| std::cmp::Reverse((lane.rows[at].deadline, at)));
    // Whoever has no level yet is more urgent than who is tried, and who has one is less.
    lane.rows.iter_mut().for_each(|row| row.key = 0);
    let mut keys = vec![0; open.len()];
    while let Some(level) = open.len().checked_sub(1) {
        let found = open.iter().position(|&at| {
            lane.rows[at].key = 1;
            let fits = np_fp::row_fits(&lane, &Ranks::of(&lane), at, STEPS_MAX);
            lane.rows[at].key = 0;
            fits
        });
        let at = open.remove(found?);
        lane.rows[at].key = 2;
        keys[at] = level as u64;
    }
    Some(keys)
}
