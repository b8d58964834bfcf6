//! Least fixed points of released work, by moving forward through the releases.
//!
//! Work is counted up to an instant that never moves back. A look at a stream is a few operations without a branch, and
//! while the instant lies before the next release of all streams nothing is looked at. So a sequence of fixed points that
//! rise costs each release once, not once per fixed point.

use std::hint::select_unpredictable;

use super::demand::{HORIZON, Halt, Row, Work};

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
    streams: Vec<Stream>,
    /// Work of one job of each.
    round: u64,
    /// Work released so far.
    released: u64,
    /// The first instant at which more is.
    soonest: u64,
    /// A fixed point beyond it is none.
    limit: u64,
}

impl Front {
    /// A front of no task, with room for `count`.
    pub(super) fn with_capacity(count: usize) -> Self {
        Self { streams: Vec::with_capacity(count), round: 0, released: 0, soonest: u64::MAX, limit: HORIZON }
    }

    /// Of how many tasks it is.
    pub(super) const fn len(&self) -> usize {
        self.streams.len()
    }

    /// Becomes a front of no task.
    pub(super) fn clear(&mut self) {
        self.streams.clear();
        (self.round, self.released, self.soonest) = (0, 0, u64::MAX);
    }

    /// Becomes equal to `other`, without allocating where there is room.
    pub(super) fn copy(&mut self, other: &Self) {
        self.streams.clone_from(&other.streams);
        self.round = other.round;
        (self.released, self.soonest, self.limit) = (other.released, other.soonest, other.limit);
    }

    /// Fixed points beyond `limit` are given up from now on, as all are beyond the horizon.
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
    pub(super) fn push(&mut self, fresh: &Releases) {
        self.streams.push(fresh.stream);
        self.round = self.round.saturating_add(fresh.stream.cost);
        self.released = self.released.saturating_add(fresh.burst);
        self.soonest = self.soonest.min(fresh.stream.next);
    }

    /// The least w >= `from` with w >= `base` + work released in the window of length w. `from` lies at or below the
    /// least fixed point, and the front has passed no release beyond it.
    pub(super) fn least(
        &mut self,
        base: u64,
        from: u64,
        window: Window,
        work: &mut Work,
    ) -> Result<u64, Halt> {
        let open = u64::from(window == Window::HalfOpen);
        let mut w = from.max(base.saturating_add(self.released));
        loop {
            if w > self.limit {
                return Err(Halt::Horizon);
            }
            if w - open < self.soonest {
                return Ok(w);
            }
            work.spend(self.streams.len())?;
            self.advance(w - open);
            let sum = base.saturating_add(self.released);
            if sum <= w {
                return Ok(w);
            }
            w = sum;
        }
    }

    /// Passes all releases up to `to`. Which streams release something cannot be foretold, so one release of each is
    /// passed without a branch; only then is it looked at whether a stream has more.
    fn advance(&mut self, to: u64) {
        if self.round > HORIZON {
            return self.skip(to);
        }
        // What was released lies below the horizon, and so does one job of each: no sum wraps.
        let (mut released, mut soonest) = (self.released, u64::MAX);
        for stream in &mut self.streams {
            let due = stream.next <= to;
            released += select_unpredictable(due, stream.cost, 0);
            stream.next += select_unpredictable(due, stream.period, 0);
            soonest = soonest.min(stream.next);
        }
        (self.released, self.soonest) = (released, soonest);
        if soonest <= to {
            self.skip(to);
        }
    }

    /// Passes all releases up to `to`, however many there are of one stream.
    fn skip(&mut self, to: u64) {
        self.soonest = u64::MAX;
        for stream in &mut self.streams {
            if let Some(behind) = to.checked_sub(stream.next) {
                let jobs = behind / stream.period + 1;
                stream.next += jobs * stream.period;
                self.released = self.released.saturating_add(jobs.saturating_mul(stream.cost));
            }
            self.soonest = self.soonest.min(stream.next);
        }
    }
}
