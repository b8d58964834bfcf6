//! The lane test of the search: the verdict of [`decide`], at a fraction of its price where that can be had.
//!
//! A search asks "and with this task?" tens of thousands of times and wants neither bounds nor reasons. For absolute
//! deadlines within the tasks' deadlines feasibility is tested here on plain numbers, without a busy period; a lane that
//! is not feasible so is refused only where every task is ordered by its own deadline:
//!
//! ```text
//! U < 1 and, for min(k_j - J_j) <= t < max(k_j - J_j, t*):   h(t) + b(t) <= t
//! t* = sum of max(0, T_j + J_j - k_j) C_j / T_j  /  (1 - U)
//! ```
//!
//! with h and b of [`np_edf`](crate::analysis::np_edf). From t* on `h(t) <= U t + (1 - U) t* <= t` (Baruah, Rosier,
//! Howell 1990), and nothing blocks from the largest `k_j - J_j` on, so no window beyond fails. Where deadlines equal
//! periods, t* is a little jitter, and only as many windows are left as there are tasks. Whatever does not fit the
//! numbers of this test, or takes it many steps, is left to [`decide`].

use aegis_types::{LaneId, Nanos};

use crate::analysis::problem::{Blocking, LaneProblem, LaneTask};
use crate::analysis::{Cause, decide};
use crate::policy::PolicyClass;

/// Spans up to 18 minutes: products of a share and a span, summed over a lane, stay far below 2^127.
const SPAN_MAX: u64 = 1 << 40;

/// Windows after which the quick test gives up.
const WINDOWS_MAX: u32 = 1 << 12;

/// What [`decide`] costs, in quick tests.
const DECIDED: u64 = 4;

/// What a lane costs on which [`decide`] gives up, in tasks looked at: few of them end a search.
const UNDECIDED: u64 = 1 << 16;

/// The whole of a lane's time, in the unit of [`Row::share`].
const WHOLE: u64 = 1 << 32;

/// A task as plain numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    /// C.
    cost: u64,
    /// Longest segment.
    blocks: u64,
    period: u64,
    /// k - J: the shortest window that holds a job with its ordering deadline.
    bend: u64,
    /// T + J - k, zero where negative.
    excess: u64,
    /// k - J - C is not negative.
    fits_alone: bool,
    /// C / T in fractions of 2^-32, rounded up.
    share: u64,
    /// Whether it is ordered by its deadline: where it is not, a key that does not hold says nothing of the deadline.
    ordered: bool,
}

impl Row {
    /// `None` where the numbers are none for the quick test.
    pub(super) fn of(task: &LaneTask) -> Option<Self> {
        let (mut cost, mut blocks) = (0u64, 0u64);
        for segment in &task.segments {
            cost = cost.checked_add(segment.get())?;
            blocks = blocks.max(segment.get());
        }
        let (period, jitter) = (task.period.get(), task.jitter.get());
        let last = task.segments.last().map_or(0, |segment| segment.get());
        let small = [cost, period, jitter, task.key].iter().all(|&span| span < SPAN_MAX);
        if !small || period == 0 || last == 0 || task.key > task.deadline.get() {
            return None;
        }
        Some(Self {
            cost,
            blocks,
            period,
            bend: task.key.saturating_sub(jitter),
            excess: (period + jitter).saturating_sub(task.key),
            fits_alone: jitter + cost <= task.key,
            share: share(cost, period),
            ordered: task.key == task.deadline.get(),
        })
    }
}

/// `cost / period` in fractions of 2^-32, rounded up; both below 2^40.
fn share(cost: u64, period: u64) -> u64 {
    match cost.checked_mul(WHOLE) {
        Some(scaled) => scaled.div_ceil(period),
        // The quotient of spans below 2^40 fits 72 bits; a share beyond 2^64 is as good as the largest.
        None => u64::try_from((u128::from(cost) << 32).div_ceil(u128::from(period))).unwrap_or(u64::MAX),
    }
}

/// Decides lanes for a search.
#[derive(Debug)]
pub(super) struct LaneTest {
    class: PolicyClass,
    /// The lane in question; kept to allocate once.
    lane: Vec<Row>,
    /// Price of the last verdict, in tasks looked at.
    spent: u64,
}

impl LaneTest {
    pub(super) const fn new(class: PolicyClass) -> Self {
        Self { class, lane: Vec::new(), spent: 0 }
    }

    /// What [`decide`] says of a lane with these members, as positions in `tasks`. `rows` are those of the tasks.
    pub(super) fn fits(&mut self, tasks: &[LaneTask], rows: &[Option<Row>], members: &[usize]) -> bool {
        self.spent = members.len() as u64 + 1;
        if let Some(verdict) = self.quick(rows, members) {
            return verdict;
        }
        self.spent *= DECIDED;
        let members = members.iter().map(|&member| tasks[member].clone()).collect();
        match decide(&problem(members, self.class)) {
            Ok(_) => true,
            Err(failure) => {
                if matches!(failure.cause, Cause::Undecided { .. }) {
                    self.spent += UNDECIDED;
                }
                false
            }
        }
    }

    /// Price of the last verdict, in tasks looked at.
    pub(super) const fn spent(&self) -> u64 {
        self.spent
    }

    /// The verdict, where the quick test has one.
    fn quick(&mut self, rows: &[Option<Row>], members: &[usize]) -> Option<bool> {
        if self.class != PolicyClass::AbsoluteDeadline {
            return None;
        }
        self.lane.clear();
        for &member in members {
            self.lane.push(rows[member]?);
        }
        let used = self.lane.iter().fold(0u64, |sum, row| sum.saturating_add(row.share));
        // Each share was rounded up by less than one.
        if used.saturating_sub(members.len() as u64) > WHOLE {
            return Some(false);
        }
        let free = WHOLE.checked_sub(used).filter(|&free| free > 0)?;
        // Deadlines may hold where keys below them do not: response times know.
        let refused = self.lane.iter().all(|row| row.ordered).then_some(false);
        if self.lane.iter().any(|row| !row.fits_alone) {
            return refused;
        }
        self.lane.sort_unstable_by_key(|row| std::cmp::Reverse(row.bend));
        let excess: u128 = self.lane.iter().map(|row| u128::from(row.excess) * u128::from(row.share)).sum();
        let safe = u64::try_from(excess.div_ceil(u128::from(free))).ok().filter(|&safe| safe < SPAN_MAX)?;
        if windows(&self.lane, safe)? { Some(true) } else { refused }
    }
}

/// Whether every window below `safe` or the largest bend holds no more work than time; rows by bend, longest first.
fn windows(rows: &[Row], safe: u64) -> Option<bool> {
    let mut top = safe;
    let (mut blocking, mut left) = (0u64, WINDOWS_MAX);
    for (position, first) in rows.iter().enumerate() {
        // Every row from here on has its bend at or below t, every row before it blocks.
        let mut t = top;
        while t >= first.bend {
            left = left.checked_sub(1)?;
            let demand = rows[position..]
                .iter()
                .fold(blocking, |sum, row| sum + ((t - row.bend) / row.period + 1) * row.cost);
            if demand > t {
                return Some(false);
            }
            match demand.checked_sub(1) {
                Some(below) => t = below,
                None => break,
            }
        }
        blocking = blocking.max(first.blocks);
        match first.bend.checked_sub(1) {
            Some(below) => top = below,
            None => break,
        }
    }
    Some(true)
}

/// A lane as admission asks for it: blocking attained, no overrun.
pub(super) fn problem(tasks: Vec<LaneTask>, class: PolicyClass) -> LaneProblem {
    LaneProblem { lane: LaneId::default(), tasks, class, blocking: Blocking::Attained, overrun: Nanos::ZERO }
}

#[cfg(test)]
mod tests {
    use aegis_types::TaskId;

    use super::super::order::Draw;
    use super::*;

    /// A lane of up to six tasks near full use; deadlines around periods, jitter in every other task.
    fn random_lane(draw: &mut Draw) -> Vec<LaneTask> {
        let count = 1 + draw.below(6);
        let long = if draw.below(4) == 0 { 1_000_000_000 } else { 40 };
        let task = |index: usize| {
            let period = 4 + draw.below(long) as u64;
            let most = (2 * period / (count as u64 + 1)).max(1);
            let pieces = 1 + draw.below(2);
            let segments =
                (0..pieces).map(|_| Nanos::new(1 + draw.below((most as usize / pieces).max(1)) as u64));
            let segments = segments.collect();
            let deadline =
                if draw.below(2) == 0 { period } else { period / 2 + 1 + draw.below(period as usize) as u64 };
            let jitter = if draw.below(2) == 0 { 0 } else { draw.below(period as usize / 4 + 1) as u64 };
            LaneTask {
                id: TaskId::new(index as u16),
                segments,
                period: Nanos::new(period),
                deadline: Nanos::new(deadline),
                jitter: Nanos::new(jitter),
                key: if draw.below(8) == 0 { deadline.saturating_sub(1) } else { deadline },
            }
        };
        (0..count).map(task).collect()
    }

    #[test]
    fn the_quick_test_says_what_the_decision_says() {
        let (mut fits, mut misses, mut asked) = (0u32, 0u32, 0u32);
        let sets = 20_000;
        for seed in 1..=sets {
            let tasks = random_lane(&mut Draw(seed));
            let rows: Vec<Option<Row>> = tasks.iter().map(Row::of).collect();
            let members: Vec<usize> = (0..tasks.len()).rev().collect();
            let quick = LaneTest::new(PolicyClass::AbsoluteDeadline).quick(&rows, &members);
            let decided = decide(&problem(tasks.clone(), PolicyClass::AbsoluteDeadline)).is_ok();
            asked += u32::from(quick.is_none());
            let Some(quick) = quick else { continue };
            assert_eq!(quick, decided, "seed {seed}: {tasks:?}");
            (fits, misses) = (fits + u32::from(quick), misses + u32::from(!quick));
        }
        assert!(fits > 4_000 && misses > 4_000, "both verdicts are common: {fits}, {misses}");
        // Those with a key below its deadline that does not hold, and few others.
        assert!(asked < 5_000, "{asked} of {sets} were left to the decision");
    }

    #[test]
    fn what_the_quick_test_cannot_hold_is_decided() {
        let task = |cost: u64, period: u64, deadline: u64| LaneTask {
            id: TaskId::new(0),
            segments: vec![Nanos::new(cost)],
            period: Nanos::new(period),
            deadline: Nanos::new(deadline),
            jitter: Nanos::ZERO,
            key: deadline,
        };
        // Years, exactly full use, a budget without meaning, a budget beyond every horizon.
        let cases = [
            (task(1 << 45, 1 << 50, 1 << 50), true),
            (task(7, 7, 7), true),
            (task(0, 7, 7), false),
            (task(u64::MAX, 7, 7), false),
        ];
        for (task, expected) in cases {
            let rows = [Row::of(&task)];
            let mut test = LaneTest::new(PolicyClass::AbsoluteDeadline);
            assert_eq!(test.quick(&rows, &[0]), None, "{task:?}");
            assert_eq!(test.fits(std::slice::from_ref(&task), &rows, &[0]), expected, "{task:?}");
        }
    }
}
