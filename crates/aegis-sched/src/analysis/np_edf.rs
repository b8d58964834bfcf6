//! Feasibility and response times under absolute deadlines with limited preemption.
//!
//! k_i is the relative deadline that orders the jobs of task i (its key).
//!
//! ```text
//! L     = least L > 0:  L = X + sum of eta_j(L) C_j
//! h(t)  = sum over t >= k_j - J_j of (floor((t + J_j - k_j) / T_j) + 1) C_j
//! b(t)  = longest segment of a task with k_j - J_j > t
//! feasible (every response <= k_i):   h(t) + b(t) + X <= t   for min(k_j - J_j) <= t < max(L, k_max)
//! ```
//!
//! Jeffay, Stanat, Martel RTSS 1991; George, Rivierre, Spuri RR-2966 (1996). Windows are walked from the longest to
//! the shortest as in QPA (Zhang, Burns, IEEE TC 2009), in pieces on which b is constant, because h + b is not
//! monotone.
//!
//! A blocker needs k_j > t only, because it may arrive just before it starts. But jobs of one task run in order of
//! arrival, and the blocker's deadline lies after the window: while j blocks, j has no job in h. Where
//! `k_j - J_j <= t < k_j`, h counts at least one job of j, which is no shorter than its segment, so the window in
//! which j blocks holds no more than the one in which it does not. Without this step every task would block itself
//! as soon as it has jitter.
//!
//! Response of a job with nominal arrival at `a` in a window that starts at 0, when the last job with a later
//! deadline has begun its segment or the lane was free of jobs with deadlines up to `a + k_i`:
//!
//! ```text
//! w(a) = least w:  w = b(a + k_i) + X + floor((a + J_i) / T_i) C_i + C_i - F_i
//!                      + sum over j of min(etac_j(w), floor((a + k_i + J_j - k_j) / T_j) + 1) C_j
//! R_i  = max over -J_i <= a < max(L, k_max - k_i) of  w(a) + F_i - a
//! ```
//!
//! Spuri RR-2772 (1996) for J = 0, where it is exact. With jitter: a job released inside the window arrived at most
//! J_j before it, which gives both counts, and the same step as above gives b. A window without a blocker is part of
//! a busy period, so `a < L`; one with a blocker needs a task with `k_j > a + k_i`. Feasibility implies R_i <= k_i
//! for this R_i as well, because `w(a) + F_i` is at most `h(t) + b(t) + X` at `t = a + k_i`.

use std::ops::RangeInclusive;

use aegis_types::Nanos;

use super::Stop;
use super::claim::{Cause, Claim, Failure, TaskClaim};
use super::demand::{HORIZON, RESPONSE_STEPS_MAX, Row, Rows, STEPS_MAX, Work, check_utilisation, span};
use super::edf_response::{Search, signed};
use super::problem::LaneProblem;
use super::tally::Tally;

/// The claim that every response is at most its key, where each key is at most its deadline and the lane is
/// feasible. The cheap decision: no response times.
///
/// # Errors
/// [`Failure`] where the lane is not feasible, or where a key exceeds its deadline (then only [`claim`] decides).
pub fn feasible_claim(problem: &LaneProblem) -> Result<Claim, Failure> {
    feasible_claim_within(problem, STEPS_MAX)
}

/// [`feasible_claim`] in at most so many steps.
pub(super) fn feasible_claim_within(problem: &LaneProblem, steps: u64) -> Result<Claim, Failure> {
    let lane = Rows::of(problem)?;
    check_utilisation(&lane)?;
    let mut claim = Claim { overrun: problem.overrun, busy: Vec::new(), tasks: Vec::new() };
    if lane.rows.is_empty() {
        return Ok(claim);
    }
    let mut work = Work::of(steps);
    let busy = busy(&lane, &mut work)?;
    feasible(&lane, busy, &mut work)?;
    claim.busy.push(span(busy));
    for row in &lane.rows {
        let tally = Tally { jitter: row.jitter, own: row.cost, overrun: lane.overrun, ..Tally::default() };
        let terms = tally.terms_with_slackness(row.key);
        claim.tasks.push(TaskClaim { task: row.id, bound: span(row.key), terms, starts: Vec::new() });
    }
    Ok(claim)
}

/// Whether feasibility decides this problem: no key exceeds its deadline.
pub fn keys_within_deadlines(problem: &LaneProblem) -> bool {
    problem.tasks.iter().all(|task| task.key <= task.deadline.get())
}

/// Response times of every task.
///
/// # Errors
/// [`Failure`] for the lane, or (with [`Stop::AtDeadline`]) for the first task, by number, past its deadline.
pub fn claim(problem: &LaneProblem, stop: Stop) -> Result<Claim, Failure> {
    claim_within(problem, stop, RESPONSE_STEPS_MAX)
}

/// [`claim`] in at most so many steps.
pub(super) fn claim_within(problem: &LaneProblem, stop: Stop, steps: u64) -> Result<Claim, Failure> {
    let lane = Rows::of(problem)?;
    check_utilisation(&lane)?;
    let mut claim = Claim { overrun: problem.overrun, busy: Vec::new(), tasks: Vec::new() };
    if lane.rows.is_empty() {
        return Ok(claim);
    }
    let mut work = Work::of(steps);
    let busy = busy(&lane, &mut work)?;
    claim.busy.push(span(busy));
    let mut search = Search::new(&lane, busy, work);
    for (position, row) in lane.rows.iter().enumerate() {
        let fail = |cause| Failure { position: Some(position), cause };
        let worst = search.worst(position, stop).map_err(fail)?;
        let terms = search.terms(position, &worst);
        if stop == Stop::AtDeadline && worst.response > row.deadline {
            let instant = worst.arrival.saturating_add(signed(row.deadline)).max(0).unsigned_abs();
            return Err(fail(Cause::Deadline { bound: span(worst.response), terms, instant: span(instant) }));
        }
        let bound = span(worst.response);
        claim.tasks.push(TaskClaim { task: row.id, bound, terms, starts: Vec::new() });
    }
    Ok(claim)
}

/// The bounds of [`claim`] without evidence.
///
/// # Errors
/// As for [`claim`] with [`Stop::Never`].
pub(super) fn bounds(lane: &Rows) -> Result<Vec<Nanos>, Failure> {
    let mut work = Work::of(RESPONSE_STEPS_MAX);
    let busy = busy(lane, &mut work)?;
    let mut search = Search::new(lane, busy, work);
    let bound = |position| match search.worst(position, Stop::Never) {
        Ok(worst) => Ok(span(worst.response)),
        Err(cause) => Err(Failure { position: Some(position), cause }),
    };
    (0..lane.rows.len()).map(bound).collect()
}

/// By task, the largest overrun on top of the lane's, at most `most`, under which it meets its deadline, keys apart;
/// `None` for a task that has no `most`. Those that have one meet their deadlines without.
///
/// The busy period of the largest overrun serves for all: a longer one adds arrivals `a >= L` only, and none of these
/// responds later than the one at `a - L`. As `etac_j(w + L) <= etac_j(w) + eta_j(L)`, and deadlines likewise,
/// `w(a - L) + L` is a post-fixpoint of the equation for w(a).
pub(super) fn tolerances(lane: &Rows, most: &[Option<u64>]) -> Option<Vec<Option<u64>>> {
    let mut longest = lane.clone();
    longest.overrun = longest.overrun.saturating_add(most.iter().flatten().copied().max()?).min(HORIZON);
    check_utilisation(&longest).ok()?;
    let mut work = Work::of(RESPONSE_STEPS_MAX);
    let busy = busy(&longest, &mut work).ok()?;
    let mut search = Search::new(lane, busy, work);
    let tolerance = |(at, most): (usize, &Option<u64>)| match most {
        Some(most) => search.tolerance(at, *most).ok().map(Some),
        None => Some(None),
    };
    most.iter().enumerate().map(tolerance).collect()
}

/// Whether one task meets its deadline, keys apart.
pub(super) fn row_fits(lane: &Rows, position: usize, steps: u64) -> bool {
    let mut work = Work::of(steps);
    let Ok(busy) = busy(lane, &mut work) else { return false };
    let worst = Search::new(lane, busy, work).worst(position, Stop::AtDeadline);
    worst.is_ok_and(|worst| worst.response <= lane.rows[position].deadline)
}

/// Whether the work of this window fits into it: what [`fit`] asks of every window.
pub(super) fn holds(lane: &Rows, window: u64) -> bool {
    let bend = |row: &Row| row.key.saturating_sub(row.jitter);
    if window > HORIZON || lane.rows.iter().all(|row| bend(row) > window) {
        return true;
    }
    let blocks = lane.rows.iter().filter(|row| bend(row) > window).map(|row| row.blocks).max();
    demand(lane, lane.overrun + blocks.unwrap_or(0), window) <= window
}

/// What a look at all windows of a lane tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// Every response is at most its key.
    Fits,
    /// A window holds too much work, or a number is out of range.
    Overfull,
    /// There are too many windows to look at.
    Endless,
}

/// What looks at earlier lanes tell about the next one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    /// The window that was too full last: the first that is looked at in the next lane, which probably differs little.
    pub overfull: u64,
    /// All longer windows hold, as they did in a lane that was harder to serve in every window. Those that were too long
    /// to look at there are so for the next lane all the more: its busy period is no longer.
    pub proven: Option<u64>,
}

/// Whether every response is at most its key. Leaves in `seen` what it saw; `proven` has to be taken away from there
/// before a lane that is harder to serve.
pub(super) fn fit(lane: &Rows, steps: u64, reach: u64, seen: &mut Seen) -> Fit {
    if lane.rows.is_empty() {
        return Fit::Fits;
    }
    if !holds(lane, seen.overfull) {
        return Fit::Overfull;
    }
    let mut work = Work::of(steps);
    let top = match seen.proven {
        Some(top) => Ok(top),
        None => longest_window(lane, reach)
            .map_or_else(|| busy(lane, &mut work), Ok)
            .map(|longest| top(lane, longest)),
    };
    let mut reached = None;
    let verdict = top.and_then(|top| feasible_below(lane, top, &mut work, &mut reached));
    if verdict.is_err() {
        // A lane that fits may be followed by one that is harder to serve.
        seen.proven = reached.or(seen.proven);
    }
    match verdict {
        Ok(()) => Fit::Fits,
        Err(Failure { cause: Cause::Undecided { .. }, .. }) => Fit::Endless,
        Err(Failure { cause: Cause::Demand { window, .. }, .. }) => {
            seen.overfull = window.get();
            Fit::Overfull
        }
        Err(_) => Fit::Overfull,
    }
}

/// How long a window may be that follows from utilisation and is taken in place of the busy period, in a search whose
/// trials may take so many steps: a walk from there takes a fraction of these, because it leaves about half of one job
/// of every task behind with each step.
pub(super) fn reach(lane: &Rows, steps: u64) -> u64 {
    let costs = lane.rows.iter().fold(0u64, |sum, row| sum.saturating_add(row.cost));
    costs.saturating_mul(steps / (lane.rows.len() as u64 + 1) / 8)
}

/// Whether utilisation alone shows that the windows to look at are not very many.
pub(super) fn ends_soon(lane: &Rows, reach: u64) -> bool {
    longest_window(lane, reach).is_some()
}

/// A length from which on no window is overfull, where one follows from utilisation and is at most `reach` or the
/// largest key:
/// `h(t) <= sum of (t + T_j + J_j - k_j) C_j / T_j`, so `h(t) + X <= t` from the t on at which
/// `t (1 - U) >= X + sum of (T_j + J_j - k_j) C_j / T_j` (Baruah, Rosier, Howell 1990). From the largest key on nothing
/// blocks. Spares the busy period, which has no good bound near full utilisation.
fn longest_window(lane: &Rows, reach: u64) -> Option<u64> {
    let (mut used, mut work) = (0u64, i128::from(lane.overrun) << 32);
    for row in &lane.rows {
        // Fractions of 2^-32, rounded up where they count against the lane and down where they relieve it.
        let cost = if row.cost < 1 << 32 { row.cost << 32 } else { return None };
        let share = cost / row.period;
        used = used.checked_add(share)?.checked_add(1)?;
        let room = signed(row.period) + signed(row.jitter) - i64::try_from(row.key).ok()?;
        let rest = i128::from(room) * i128::from(if room > 0 { share + 1 } else { share });
        // With room for one period at most it is one job at most, which rounding must not make more of.
        work += if room <= signed(row.period) { rest.min(i128::from(cost)) } else { rest };
    }
    let free = (1u64 << 32).checked_sub(used)?;
    let key = lane.rows.iter().map(|row| row.key).max()?;
    if key > HORIZON || free == 0 {
        return None;
    }
    // From the largest key on nothing blocks.
    let longest = u64::try_from(work.max(0) / i128::from(free) + 1).ok()?.max(key);
    (longest <= key.max(reach).min(HORIZON)).then_some(longest)
}

/// Whether every deadline is met, keys apart.
pub(super) fn fits_by_response(lane: &Rows, steps: u64) -> bool {
    let mut work = Work::of(steps);
    let Ok(busy) = busy(lane, &mut work) else { return false };
    let mut search = Search::new(lane, busy, work);
    lane.rows.iter().enumerate().all(|(position, row)| {
        search.worst(position, Stop::AtDeadline).is_ok_and(|worst| worst.response <= row.deadline)
    })
}

fn busy(lane: &Rows, work: &mut Work) -> Result<u64, Failure> {
    let at = lane.rows.iter().position(|row| row.key > HORIZON);
    if at.is_some() {
        return Err(Failure { position: at, cause: Cause::Horizon });
    }
    lane.busy_period(work).map_err(|halt| Failure { position: None, cause: halt.into() })
}

/// The longest window to look at, where no deadline from `longest` and the largest key on is missed.
fn top(lane: &Rows, longest: u64) -> u64 {
    longest.max(lane.rows.iter().map(|row| row.key).max().unwrap_or(0)) - 1
}

/// Checks h(t) + b(t) + X <= t for every window.
fn feasible(lane: &Rows, busy: u64, work: &mut Work) -> Result<(), Failure> {
    feasible_below(lane, top(lane, busy), work, &mut None)
}

/// Checks the windows up to `top`, longest first; all above the one that it has `reached` hold.
fn feasible_below(
    lane: &Rows,
    mut top: u64,
    work: &mut Work,
    reached: &mut Option<u64>,
) -> Result<(), Failure> {
    let rows = &lane.rows;
    // A key below jitter plus cost cannot be kept by a job that waits for nothing.
    if let Some(position) = rows.iter().position(|row| row.key < row.jitter.saturating_add(row.cost)) {
        let row = &rows[position];
        let (window, demand) = (span(row.key), span(row.jitter.saturating_add(row.cost)));
        return Err(Failure {
            position: Some(position),
            cause: Cause::Demand { window, demand, blocker: None },
        });
    }
    let mut by_bend: Vec<(u64, &Row)> = rows.iter().map(|row| (row.key - row.jitter, row)).collect();
    by_bend.sort_unstable_by_key(|&(bend, row)| std::cmp::Reverse((bend, row.id)));
    let mut blocker: Option<&Row> = None;
    for (bend, row) in by_bend {
        if bend <= top {
            walk(lane, bend..=top, blocker, work, reached)?;
            // Below the least bend no job has its deadline inside the window.
            top = bend.saturating_sub(1);
        }
        blocker = blocker.into_iter().chain(Some(row)).max_by_key(|row| row.blocks);
    }
    Ok(())
}

/// Checks the windows of a range, longest first, on which `blocker` blocks. Where the demand of a window is v, all
/// windows from v to it pass, because shorter ones hold no more.
fn walk(
    lane: &Rows,
    windows: RangeInclusive<u64>,
    blocker: Option<&Row>,
    work: &mut Work,
    reached: &mut Option<u64>,
) -> Result<(), Failure> {
    let extra = lane.overrun + blocker.map_or(0, |row| row.blocks);
    let mut t = *windows.end();
    while t >= *windows.start() {
        *reached = Some(t);
        work.spend(lane.rows.len()).map_err(|halt| Failure { position: None, cause: halt.into() })?;
        let demand = demand(lane, extra, t);
        if demand > t {
            return Err(violation(lane, t, demand, blocker));
        }
        match demand.checked_sub(1) {
            Some(below) => t = below,
            None => return Ok(()),
        }
    }
    Ok(())
}

/// h(t), and `extra`.
fn demand(lane: &Rows, extra: u64, t: u64) -> u64 {
    lane.rows.iter().fold(extra, |sum, row| {
        let jobs = match (t + row.jitter).checked_sub(row.key) {
            None => 0,
            Some(since) if since < row.period => 1,
            Some(since) => since / row.period + 1,
        };
        sum.saturating_add(jobs.saturating_mul(row.cost))
    })
}

/// The task whose deadline ends the window, and the window cut to that deadline.
fn violation(lane: &Rows, t: u64, demand: u64, blocker: Option<&Row>) -> Failure {
    let last = |row: &Row| {
        let since = (t + row.jitter).checked_sub(row.key)?;
        Some(since / row.period * row.period + row.key - row.jitter)
    };
    let ends = lane.rows.iter().enumerate().filter_map(|(at, row)| Some((last(row)?, at))).max();
    let (window, position) = ends.map_or((t, None), |(end, at)| (end, Some(at)));
    let cause =
        Cause::Demand { window: span(window), demand: span(demand), blocker: blocker.map(|row| row.id) };
    Failure { position, cause }
}
