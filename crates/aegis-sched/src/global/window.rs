//! How much work fits a window, and when a window cannot be full any longer.

use super::Numbers;

/// Work of a task in any window of a length, if each of its jobs executes within `slack + C` of its arrival: the
/// first job as late as that allows, those after it at once (Bertogna, Cirinei, Lipari 2009). Asks for C <= T.
pub(super) fn work(task: &Numbers, slack: u128, length: u128) -> u128 {
    let reach = length + slack;
    let full = reach / task.period;
    full * task.cost + task.cost.min(reach - full * task.period)
}

/// Work of a task's jobs with deadlines of at most D after some instant, done after that instant, if every job
/// completes `spare` before its deadline. Asks for C <= T.
pub(super) fn work_by_deadline(task: &Numbers, spare: u128, deadline: u128) -> u128 {
    let Some(room) = deadline.checked_sub(spare) else { return 0 };
    let full = if room < task.cost { 0 } else { (room - task.cost) / task.period + 1 };
    full * task.cost + task.cost.min(room.saturating_sub(full * task.period))
}

/// Work that cannot run beside itself: of no item more than the length of the window.
#[derive(Debug, Default)]
pub(super) struct Items(Vec<u128>);

impl Items {
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn push(&mut self, work: u128) {
        self.0.push(work);
    }

    /// The least length L with sum of min(item, L) < m L: so many servers cannot be busy with these items all along
    /// a window of it.
    ///
    /// For the k largest items the sum is at most k L + the rest, and for one k it is that: so L is the least that
    /// any k < m gives.
    pub(super) fn outlasted(&mut self, servers: u128) -> u128 {
        self.0.sort_unstable_by(|low, high| high.cmp(low));
        let mut rest: u128 = self.0.iter().sum();
        let mut least = rest / servers + 1;
        for (&largest, fewer) in self.0.iter().zip((1..servers).rev()) {
            rest -= largest;
            least = least.min(rest / fewer + 1);
        }
        least
    }
}

/// The least length found, from one on, that its own items do not fill; nothing above `limit`.
///
/// Items must not shrink with the length, or the length is merely one of those that are not filled, which is as safe.
pub(super) fn unfilled(
    servers: u128,
    limit: u128,
    steps: &mut u64,
    mut fill: impl FnMut(u128, &mut Items) -> u64,
) -> Option<u128> {
    let mut items = Items::default();
    let mut length = 1;
    loop {
        items.clear();
        let taken = fill(length, &mut items);
        *steps = steps.checked_sub(taken + 1)?;
        let needed = items.outlasted(servers);
        if needed <= length {
            return Some(length);
        }
        length = needed;
        if length > limit {
            return None;
        }
    }
}
