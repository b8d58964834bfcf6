//! Least fixed points of released work, by moving forward through the releases.
//!
//! Work is counted up to an instant that never moves back. A look at a stream is a few operations without a branch, and
//! while the instant lies before the next release of all streams nothing is looked at. So a sequence of fixed points that
//! rise costs each release once, not once per fixed point.
//!
//! As long as all numbers are short, which is about a second, streams are looked at four side by side.

use std::hint::select_unpredictable;

use super::demand::{HORIZON, Halt, Row, Work};
use super::quad::{Quad, SHORT};

/// Releases of one task as dense as its jitter allows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Releases {
    stream: Stream,
    /// Work of the jobs that can be released at once at the start of a busy period.
    pub burst: u64,
}

/// Releases of one task after those that a front has passed.
#[derive(Clone, Copy, Debug)]
struct Stream {
    /// First instant at which one more job is released.
    next: u64,
    cost: u64,
    period: u64,
}

impl Releases {
    /// Releases after the closed window [0, 0].
    #[inline]
    pub(super) fn new(row: &Row) -> Self {
        let jobs = if row.jitter < row.period { 1 } else { row.jitter / row.period + 1 };
        let next = jobs * row.period - row.jitter;
        let stream = Stream { next, cost: row.cost, period: row.period };
        Self { stream, burst: jobs.saturating_mul(row.cost) }
    }
}

/// Whether a release at the very end of a window counts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Window {
    /// It does: the window of a start time.
    Closed,
    /// It does not: the window of a busy period.
    HalfOpen,
}

/// What a number of tasks release from the start of a busy period up to an instant that only moves forward.
#[derive(Debug)]
pub(super) struct Front {
    /// The streams, while every number of theirs is short and so is every instant that was moved to.
    short: Vec<Quad>,
    /// The streams otherwise.
    long: Vec<Stream>,
    /// How many there are.
    count: usize,
    /// Work of one job of each.
    round: u64,
    /// Work released so far.
    released: u64,
    /// The first instant at which more is, or one before it.
    soonest: u64,
    /// A fixed point beyond it is none.
    limit: u64,
}

impl Front {
    /// A front of no task, with room for `count`.
    #[inline]
    pub(super) fn with_capacity(count: usize) -> Self {
        let short = Vec::with_capacity(Quad::holding(count));
        Self { short, long: Vec::new(), count: 0, round: 0, released: 0, soonest: u64::MAX, limit: HORIZON }
    }

    /// Of how many tasks it is.
    pub(super) const fn len(&self) -> usize {
        self.count
    }

    /// Becomes a front of no task.
    pub(super) fn clear(&mut self) {
        self.short.clear();
        self.long.clear();
        (self.count, self.round, self.released, self.soonest) = (0, 0, 0, u64::MAX);
    }

    /// Becomes equal to `other`, without allocating where there is room.
    pub(super) fn copy(&mut self, other: &Self) {
        self.short.clone_from(&other.short);
        self.long.clone_from(&other.long);
        (self.count, self.round) = (other.count, other.round);
        (self.released, self.soonest, self.limit) = (other.released, other.soonest, other.limit);
    }

    /// Fixed points beyond `limit` are given up from now on, as all are beyond the horizon.
    #[inline]
    pub(super) fn limit(&mut self, limit: u64) {
        self.limit = limit.min(HORIZON);
    }

    /// Whether some w from `from` to `most` has w >= `base` + work released in the half-open window of length w. Passes
    /// no release at or beyond `most`; conditions as for [`Front::least`].
    pub(super) fn reaches(&mut self, base: u64, from: u64, most: u64, work: &mut Work) -> bool {
        let limit = std::mem::replace(&mut self.limit, most.min(HORIZON));
        let found = self.least(base, from, Window::HalfOpen, work);
        self.limit = limit;
        found.is_ok()
    }

    /// Adds the releases of one more task; those that the front has passed count with the next fixed point.
    #[inline(always)]
    pub(super) fn push(&mut self, fresh: &Releases) {
        let Stream { next, cost, period } = fresh.stream;
        self.round = self.round.saturating_add(cost);
        self.released = self.released.saturating_add(fresh.burst);
        self.soonest = self.soonest.min(next);
        if self.long.is_empty() && (next | period | self.round) < SHORT {
            Quad::put(&mut self.short, self.count, next, cost, period);
        } else {
            self.lengthen();
            self.long.push(fresh.stream);
        }
        self.count += 1;
    }

    /// Leaves the room where numbers are short.
    #[cold]
    fn lengthen(&mut self) {
        let streams = self.short.iter().flat_map(Quad::streams).take(self.count);
        self.long.extend(streams.map(|[next, cost, period]| Stream { next, cost, period }));
        self.short.clear();
    }

    /// The least w >= `from` with w >= `base` + work released in the window of length w. `from` lies at or below the
    /// least fixed point, and the front has passed no release beyond it.
    #[inline]
    pub(super) fn least(
        &mut self,
        base: u64,
        from: u64,
        window: Window,
        work: &mut Work,
    ) -> Result<u64, Halt> {
        let open = u64::from(window == Window::HalfOpen);
        let (mut released, mut soonest) = (self.released, self.soonest);
        let mut w = from.max(base.saturating_add(released));
        let found = loop {
            if w > self.limit {
                break Err(Halt::Horizon);
            }
            if w - open < soonest {
                break Ok(w);
            }
            if let Err(halt) = work.spend(self.count) {
                break Err(halt);
            }
            (released, soonest) = self.advance(w - open, released);
            let sum = base.saturating_add(released);
            if sum <= w {
                break Ok(w);
            }
            w = sum;
        };
        (self.released, self.soonest) = (released, soonest);
        found
    }

    /// Passes all releases up to `to`, where so much work was released before: the work released then, and an instant at
    /// or before the next release. Which streams release something cannot be foretold, so one release of each is passed
    /// without a branch; only then is it looked at whether a stream has more.
    #[inline]
    fn advance(&mut self, to: u64, released: u64) -> (u64, u64) {
        if self.long.is_empty() {
            if to < SHORT {
                let (work, soonest) = Quad::pass(&mut self.short, to);
                return (released + work, soonest);
            }
            self.lengthen();
        }
        self.advance_long(to, released)
    }

    #[inline(never)]
    fn advance_long(&mut self, to: u64, mut released: u64) -> (u64, u64) {
        if self.round > HORIZON {
            return self.skip(to, released);
        }
        // What was released lies below the horizon, and so does one job of each: no sum wraps.
        let mut soonest = u64::MAX;
        for stream in &mut self.long {
            let due = stream.next <= to;
            released += select_unpredictable(due, stream.cost, 0);
            stream.next += select_unpredictable(due, stream.period, 0);
            soonest = soonest.min(stream.next);
        }
        if soonest <= to { self.skip(to, released) } else { (released, soonest) }
    }

    /// [`Front::advance`], however many releases there are of one stream.
    fn skip(&mut self, to: u64, mut released: u64) -> (u64, u64) {
        let mut soonest = u64::MAX;
        for stream in &mut self.long {
            if let Some(behind) = to.checked_sub(stream.next) {
                let jobs = behind / stream.period + 1;
                stream.next += jobs * stream.period;
                released = released.saturating_add(jobs.saturating_mul(stream.cost));
            }
            soonest = soonest.min(stream.next);
        }
        (released, soonest)
    }
}

#[cfg(test)]
mod tests {
    use aegis_types::TaskId;

    use super::*;
    use crate::analysis::demand::closed_jobs;

    /// SplitMix64 (Steele, Lea, Flood 2014).
    fn draw(state: &mut u64, low: u64, high: u64) -> u64 {
        *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        low + (z ^ (z >> 31)) % (high - low + 1)
    }

    /// A task that uses a fortieth of the time at most.
    fn row(state: &mut u64, period_max: u64) -> Row {
        let period = draw(state, 40.min(period_max), period_max);
        let cost = draw(state, 1, (period / 40).max(1));
        let jitter = if draw(state, 0, 1) == 0 { 0 } else { draw(state, 0, 3 * period) };
        let (id, deadline) = (TaskId::new(0), period);
        Row { id, count: 1, cost, last: cost, blocks: cost, period, deadline, jitter, key: 0 }
    }

    /// The least fixed point by the formula, from below and one step at a time.
    fn by_formula(rows: &[Row], base: u64, window: Window) -> u64 {
        let open = u64::from(window == Window::HalfOpen);
        let work = |w: u64| rows.iter().map(|row| closed_jobs(row, w - open) * row.cost).sum::<u64>();
        let mut w = base.max(1);
        while base + work(w) > w {
            w = base + work(w);
        }
        w
    }

    /// Fixed points that rise, in windows of both kinds, while tasks join: short numbers, long ones, and both.
    #[test]
    fn a_front_finds_what_the_formula_says() {
        let mut crossed = 0;
        for seed in 0..3_000 {
            let mut state = seed;
            let largest = 1 << draw(&mut state, 4, 36);
            let mut rows: Vec<Row> = Vec::new();
            let (mut front, mut copy) = (Front::with_capacity(4), Front::with_capacity(0));
            let (mut base, mut work) = (1, Work::of(1 << 23));
            for _ in 0..draw(&mut state, 1, 20) {
                if rows.len() < 18 && draw(&mut state, 0, 2) > 0 {
                    rows.push(row(&mut state, largest));
                    front.push(&Releases::new(&rows[rows.len() - 1]));
                }
                base += draw(&mut state, 1, largest);
                let window = if draw(&mut state, 0, 1) == 0 { Window::Closed } else { Window::HalfOpen };
                let expected = by_formula(&rows, base, window);
                let short = front.long.is_empty();
                copy.copy(&front);
                let found = [&mut front, &mut copy].map(|front| front.least(base, 1, window, &mut work).ok());
                assert_eq!(found, [Some(expected); 2], "seed {seed}: {rows:?}");
                crossed += u32::from(short && !front.long.is_empty());
            }
        }
        assert!(crossed > 300, "only {crossed} left the short numbers on the way");
    }
}
