//! The jobs in the order and the layout that exploring wants.

use std::collections::BTreeMap;

use super::abort::Ending;
use super::job::{Job, JobSet, Link};
use super::search::Dispatch;

/// Bits of a word of a set of jobs.
pub(super) const WORD: usize = 64;

/// What deciding looks at for every job that may run next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) release_min: u64,
    pub(super) release_max: u64,
    /// Order of priority, ties included: unique, the smaller goes first.
    pub(super) rank: u32,
    /// How many predecessors.
    pub(super) waits: u32,
}

/// What running a job means.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cost {
    pub(super) min: u64,
    pub(super) max: u64,
    pub(super) deadline: u64,
    /// Its part of the key of a set.
    pub(super) key: u64,
}

/// An edge to a job, from where it starts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Before {
    pub(super) job: usize,
    pub(super) delay_min: u64,
    pub(super) delay_max: u64,
}

/// Jobs by earliest release, so that those that may run next lie together.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    /// By position in the table; ends with entries that are never released, up to a full word of them.
    pub(super) windows: Vec<Window>,
    pub(super) costs: Vec<Cost>,
    /// Predecessors of a position; empty if the set has no edges.
    pub(super) before: Vec<Vec<Before>>,
    /// Successors of a position; empty if the set has no edges.
    pub(super) after: Vec<Vec<usize>>,
    /// What ends a job from outside, by position; empty if nothing ends any.
    endings: Vec<Option<Ending>>,
    /// Position in the set given, for a position in the table.
    pub(super) origin: Vec<usize>,
}

/// Mixes the bits of a number, so that sums without carry of such numbers rarely meet (splitmix64's finaliser).
fn scatter(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Table {
    /// The table of a set.
    pub(super) fn of(set: &JobSet) -> Self {
        let mut table = Self::new(set.jobs(), set.links());
        table.end(set.endings());
        table
    }

    fn end(&mut self, endings: &BTreeMap<usize, Ending>) {
        if !endings.is_empty() {
            self.endings = self.origin.iter().map(|origin| endings.get(origin).copied()).collect();
        }
    }

    /// The earliest and the latest completion of a job that is dispatched.
    #[inline]
    pub(super) fn completions(&self, dispatch: &Dispatch) -> (u64, u64) {
        let cost = &self.costs[dispatch.position];
        match self.endings.get(dispatch.position) {
            Some(Some(ending)) => ending.completions(dispatch, (cost.min, cost.max)),
            _ => (dispatch.start_min + cost.min, dispatch.start_max + cost.max),
        }
    }

    /// Sorts jobs by earliest release, task and job number.
    pub(super) fn new(jobs: &[Job], links: &[Link]) -> Self {
        let mut origin: Vec<usize> = (0..jobs.len()).collect();
        origin.sort_by_key(|&place| (jobs[place].release_min, jobs[place].key));
        let mut ranked: Vec<usize> = (0..jobs.len()).collect();
        ranked.sort_by_key(|&place| (jobs[place].priority, jobs[place].key));
        let mut rank = vec![0; jobs.len()];
        for (number, place) in (0u32..).zip(ranked) {
            rank[place] = number;
        }
        let mut table = Self { origin, ..Self::default() };
        for position in 0..jobs.len() {
            let place = table.origin[position];
            let job = &jobs[place];
            table.windows.push(Window {
                release_min: job.release_min.get(),
                release_max: job.release_max.get(),
                rank: rank[place],
                waits: 0,
            });
            table.costs.push(Cost {
                min: job.cost_min.get(),
                max: job.cost_max.get(),
                deadline: job.deadline.get(),
                key: scatter(position as u64),
            });
        }
        table.connect(links);
        let never = Window { release_min: u64::MAX, release_max: u64::MAX, rank: u32::MAX, waits: 0 };
        table.windows.resize((jobs.len() / WORD + 1) * WORD, never);
        table
    }

    fn connect(&mut self, links: &[Link]) {
        if links.is_empty() {
            return;
        }
        let mut position = vec![0; self.origin.len()];
        for (place, &origin) in self.origin.iter().enumerate() {
            position[origin] = place;
        }
        self.before = vec![Vec::new(); self.origin.len()];
        self.after = vec![Vec::new(); self.origin.len()];
        for link in links {
            let (from, to) = (position[link.from], position[link.to]);
            let (delay_min, delay_max) = (link.delay_min, link.delay_max);
            self.before[to].push(Before { job: from, delay_min, delay_max });
            self.after[from].push(to);
            self.windows[to].waits += 1;
        }
    }

    /// How many jobs there are.
    pub(super) fn len(&self) -> usize {
        self.costs.len()
    }

    /// Bytes of the table, for the memory limit.
    pub(super) fn bytes(&self) -> usize {
        self.windows.capacity() * size_of::<Window>()
            + self.costs.capacity() * size_of::<Cost>()
            + self.origin.capacity() * size_of::<usize>()
            + self.endings.capacity() * size_of::<Option<Ending>>()
    }
}
