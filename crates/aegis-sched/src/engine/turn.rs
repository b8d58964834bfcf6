//! Turns: weighted round robin over the tasks of a lane.
//!
//! Tasks come in the order of their numbers, around and around; one without a ready job is passed over. A task whose
//! turn it is runs as many segments as its weight says. Its turn ends with the last of them, or as soon as it has no
//! pending job, so that whoever comes back finds a whole turn before it. What a failed job leaves undone counts as run:
//! the schedule is then one in which those segments took no time, which every bound allows; and segments of one turn
//! follow each other as they do in the model, so that a failure never lengthens a turn.

/// Whose turn it is on a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    /// Place on the lane of the task that has or last had the turn.
    holder: usize,
    /// Segments that it may still run.
    left: u64,
}

impl Turn {
    /// Before the first turn, of a lane with so many tasks: the first of them is next.
    pub(super) const fn before_first(tasks: usize) -> Self {
        Self { holder: tasks.saturating_sub(1), left: 0 }
    }

    /// The place that has or last had the turn, and the segments left of it.
    pub(super) const fn state(self) -> (usize, u64) {
        (self.holder, self.left)
    }

    /// The turn of the task at `place`, with so many segments left.
    pub(super) const fn resumed(place: usize, left: u64) -> Self {
        Self { holder: place, left }
    }

    /// How many places on the task at `place` is, of `tasks`: zero where its turn goes on, else 1 to `tasks`.
    pub(super) const fn distance(self, place: usize, tasks: usize) -> u64 {
        if place == self.holder && self.left > 0 {
            return 0;
        }
        let ahead = if place > self.holder { place - self.holder } else { place + tasks - self.holder };
        ahead as u64
    }

    /// The task at `place` runs a segment.
    pub(super) const fn take(&mut self, place: usize, weight: u64) {
        if place != self.holder || self.left == 0 {
            *self = Self { holder: place, left: weight };
        }
        self.left = self.left.saturating_sub(1);
    }

    /// The task at `place` leaves segments undone.
    pub(super) const fn forgo(&mut self, place: usize, segments: u64) {
        if place == self.holder {
            self.left = self.left.saturating_sub(segments);
        }
    }

    /// The task at `place` has no pending job.
    pub(super) const fn end(&mut self, place: usize) {
        if place == self.holder {
            self.left = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(turn: Turn, ready: &[usize]) -> usize {
        ready.iter().copied().min_by_key(|&place| turn.distance(place, 3)).expect("some are ready")
    }

    #[test]
    fn tasks_take_turns_of_their_weights() {
        let weights = [2, 1, 3];
        let mut turn = Turn::before_first(3);
        let mut order = Vec::new();
        for _ in 0..12 {
            let place = next(turn, &[0, 1, 2]);
            turn.take(place, weights[place]);
            order.push(place);
        }
        assert_eq!(order, [0, 0, 1, 2, 2, 2, 0, 0, 1, 2, 2, 2]);
    }

    #[test]
    fn whoever_is_not_ready_is_passed_over_and_a_turn_ends_early() {
        let mut turn = Turn::before_first(3);
        turn.take(0, 3);
        assert_eq!((next(turn, &[0, 1, 2]), next(turn, &[1, 2]), next(turn, &[2])), (0, 1, 2));
        // Of others nothing is taken.
        turn.end(1);
        turn.forgo(2, 9);
        assert_eq!(next(turn, &[0, 1, 2]), 0);
        turn.forgo(0, 1);
        assert_eq!(next(turn, &[0, 1, 2]), 0);
        turn.forgo(0, 1);
        assert_eq!((next(turn, &[0, 1, 2]), next(turn, &[0])), (1, 0));
        turn.take(0, 3);
        turn.end(0);
        assert_eq!(next(turn, &[0, 2]), 2);
    }
}
