//! Releases of four tasks side by side, in numbers so short that processors handle four at once.
//!
//! Every instant that is passed and every period lies below [`SHORT`], and so does the work of one job of each task of a
//! front. So the next release lies below twice that, and no sum of a pass leaves 31 bits.

/// What short numbers lie below: a good second.
pub(super) const SHORT: u64 = 1 << 30;

const SIDES: usize = 4;

/// Releases of up to four tasks after those that a front has passed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quad {
    /// First instants at which one more job is released.
    next: [i32; SIDES],
    cost: [i32; SIDES],
    period: [i32; SIDES],
}

impl Quad {
    /// No task: its next release is never passed.
    const EMPTY: Self = Self { next: [i32::MAX; SIDES], cost: [0; SIDES], period: [0; SIDES] };

    /// How many hold `count` tasks.
    pub(super) const fn holding(count: usize) -> usize {
        count.div_ceil(SIDES)
    }

    /// Adds a task to the `count` that `quads` hold; the three numbers are short.
    #[inline]
    pub(super) fn put(quads: &mut Vec<Self>, count: usize, next: u64, cost: u64, period: u64) {
        let side = count % SIDES;
        if side == 0 {
            quads.push(Self::EMPTY);
        }
        if let Some(quad) = quads.last_mut() {
            quad.next[side] = next as i32;
            quad.cost[side] = cost as i32;
            quad.period[side] = period as i32;
        }
    }

    /// Next release, cost and period of each.
    pub(super) fn streams(&self) -> impl Iterator<Item = [u64; 3]> {
        (0..SIDES).map(|side| {
            [self.next[side], self.cost[side], self.period[side]].map(|number| number.unsigned_abs().into())
        })
    }

    /// Passes all releases up to `to`, which is short: their work, and an instant at or before the next one.
    #[inline]
    pub(super) fn pass(quads: &mut [Self], to: u64) -> (u64, u64) {
        let (mut work, mut soonest) = ([0; SIDES], [i32::MAX; SIDES]);
        for quad in &mut *quads {
            quad.pass_one_each(to as i32, &mut work, &mut soonest);
        }
        let work = work.into_iter().sum::<i32>() as u64;
        let soonest = soonest.into_iter().fold(i32::MAX, i32::min) as u64;
        if soonest <= to {
            let (more, soonest) = Self::skip(quads, to);
            return (work + more, soonest);
        }
        (work, soonest)
    }

    /// Passes at most one release of each task. Masks in the place of branches let compilers take four steps in one.
    fn pass_one_each(&mut self, to: i32, work: &mut [i32; SIDES], soonest: &mut [i32; SIDES]) {
        for side in 0..SIDES {
            let due = mask(self.next[side] <= to);
            work[side] += self.cost[side] & due;
            self.next[side] += self.period[side] & due;
            let sooner = mask(self.next[side] < soonest[side]);
            soonest[side] = self.next[side] & sooner | soonest[side] & !sooner;
        }
    }

    /// [`Quad::pass`], however many releases there are of one task.
    #[cold]
    fn skip(quads: &mut [Self], to: u64) -> (u64, u64) {
        let (mut work, mut soonest) = (0, u64::MAX);
        for quad in quads {
            for side in 0..SIDES {
                let next = u64::from(quad.next[side].unsigned_abs());
                let jobs = to
                    .checked_sub(next)
                    .map_or(0, |behind| behind / u64::from(quad.period[side].unsigned_abs()) + 1);
                work += jobs * u64::from(quad.cost[side].unsigned_abs());
                let next = next + jobs * u64::from(quad.period[side].unsigned_abs());
                quad.next[side] = next as i32;
                soonest = soonest.min(next);
            }
        }
        (work, soonest)
    }
}

/// All ones or none.
const fn mask(condition: bool) -> i32 {
    -(condition as i32)
}
