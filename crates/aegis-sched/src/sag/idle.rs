//! Inserted idle time on one core: the first ready job waits although the core is free.
//!
//! The ready job of highest priority, J, may start at t only if t <= X - C_J^max, where X is the latest instant by
//! which the core must be free for what is still to come:
//!
//! ```text
//! P-RM     X = d_h - C_h^max, h the next job of the highest priority; such jobs themselves never wait
//! CW-EDF   X = inf; for the next job k of every other task, later deadlines first: X = min(X, d_k) - C_k^max
//! next     the job not dispatched whose latest release is the first after t
//! ```
//!
//! That a job ceases to be the next one at its latest release is how the policies are explored elsewhere, and what files
//! of jobs are explored by. An engine sees releases instead ([`Awaiting::Release`]): a job ceases to be the next one when
//! it is released, at any instant of its window. X then lies between what it is with every possible release made and
//! with none made but the certain ones, because it grows with the deadlines; a job may start by the former, and starts
//! for certain by the latter. A release that would put another job first is not possible while this one is. So under P-RM
//! both are the same: while a job of another priority is first, no job of the
//! highest is released. What is explored that way must be simple to replay, so that it is coarser: as long as some job
//! that can stand first may have to wait, any of those that can may start at any instant. Without jitter nothing is lost,
//! because then one job alone can stand first.
//!
//! Nasri, Kargahi (Real-Time Systems 50, 2014) and Nasri, Fohler (ECRTS 2016); as policies of an exploration Nasri,
//! Brandenburg (RTSS 2017). Waiting is what makes this harder than the plain case: a job that is forbidden to start
//! hides all ready jobs below it, so that certainly released work need not run, and the instants at which a job may
//! start need not be one interval. Here time is cut where anything changes, and for every piece the exploration knows
//! which job can stand first without any having started. That follows every schedule. It is not exact: that a hiding
//! job was released is forgotten with the next dispatch.

use super::job::Job;
use super::lane::is_ready;
use super::level::{SetRef, contains};
use super::report::IdleRule;
use super::search::Dispatch;
use super::table::{Table, WORD, Window};

/// When a job ceases to be the next one of its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Awaiting {
    /// At its latest release.
    LatestRelease,
    /// At its release.
    Release,
}

/// A rule with what it needs to know of the jobs, by position in the table.
#[derive(Debug)]
pub(super) struct Rule {
    rule: IdleRule,
    awaiting: Awaiting,
    /// Whether X depends on releases that are possible and not certain.
    spreads: bool,
    priority: Vec<u64>,
    priority_first: u64,
    task: Vec<usize>,
    /// Positions of every group of jobs whose next one is looked at, by latest release.
    groups: Vec<Vec<usize>>,
}

/// A job that is possibly released.
#[derive(Clone, Copy, Debug)]
struct Active {
    rank: u32,
    position: usize,
    release_max: u64,
    /// The last instant of the piece of time looked at by which it may start.
    may_by: Option<u64>,
    /// The last one by which it starts for certain if it stands first.
    must_by: Option<u64>,
    /// Whether it can stand first at the end of the piece before, with nothing started.
    silent: bool,
}

impl Active {
    const fn may_start(&self, instant: u64) -> bool {
        matches!(self.may_by, Some(last) if instant <= last)
    }

    const fn must_start(&self, instant: u64) -> bool {
        matches!(self.must_by, Some(last) if instant <= last)
    }
}

/// What must still fit behind a start: deadline, cost, group.
type Upcoming = (u64, u64, usize);

/// What must fit behind a start with no release made but the certain ones, and with every possible one made.
struct Spread {
    sure: Vec<Upcoming>,
    /// Rank of the job that each of `sure` stands for.
    ranks: Vec<u32>,
    /// By group.
    hoped: Vec<Option<Upcoming>>,
}

impl Rule {
    /// Prepares a rule for jobs and the table made of them.
    pub(super) fn new(rule: IdleRule, awaiting: Awaiting, jobs: &[Job], table: &Table) -> Self {
        let job = |position: usize| &jobs[table.origin[position]];
        let mut tasks: Vec<u64> = jobs.iter().map(|job| job.key.task).collect();
        tasks.sort_unstable();
        tasks.dedup();
        let task = |position: usize| tasks.partition_point(|&task| task < job(position).key.task);
        let priority_first = jobs.iter().map(|job| job.priority).min().unwrap_or(0);
        let mut ordered: Vec<usize> = (0..table.len()).collect();
        ordered.sort_by_key(|&position| table.windows[position].release_max);
        let mut groups = vec![Vec::new(); if rule == IdleRule::PrecautiousRm { 1 } else { tasks.len() }];
        for position in ordered {
            match rule {
                IdleRule::PrecautiousRm if job(position).priority == priority_first => {
                    groups[0].push(position)
                }
                IdleRule::PrecautiousRm => {}
                IdleRule::CriticalWindowEdf => groups[task(position)].push(position),
            }
        }
        let priority = (0..table.len()).map(|position| job(position).priority).collect();
        let spreads = awaiting == Awaiting::Release && rule == IdleRule::CriticalWindowEdf;
        Self {
            rule,
            awaiting,
            spreads,
            priority,
            priority_first,
            task: (0..table.len()).map(task).collect(),
            groups,
        }
    }

    /// Jobs that the rule keeps room for at an instant, later deadlines first.
    fn upcoming(&self, table: &Table, set: SetRef<'_>, instant: u64) -> Vec<Upcoming> {
        let next = |(group, positions): (usize, &Vec<usize>)| {
            let later = positions.partition_point(|&job| table.windows[job].release_max <= instant);
            let job = positions[later..].iter().find(|&&job| !contains(set.base, set.words, job))?;
            Some((table.costs[*job].deadline, table.costs[*job].max, group))
        };
        let mut upcoming: Vec<Upcoming> = self.groups.iter().enumerate().filter_map(next).collect();
        upcoming.sort_unstable_by_key(|&(deadline, cost, group)| (std::cmp::Reverse(deadline), cost, group));
        upcoming
    }

    /// The latest start of a job; nothing if there is none.
    fn start_by(&self, table: &Table, upcoming: &[Upcoming], position: usize) -> Option<u64> {
        let own = match self.rule {
            IdleRule::PrecautiousRm if self.priority[position] == self.priority_first => {
                return Some(u64::MAX);
            }
            IdleRule::PrecautiousRm => usize::MAX,
            IdleRule::CriticalWindowEdf => self.task[position],
        };
        let mut free_by: Option<u64> = None;
        for &(deadline, cost, _) in upcoming.iter().filter(|&&(_, _, group)| group != own) {
            free_by = Some(free_by.map_or(deadline, |free| free.min(deadline)).checked_sub(cost)?);
        }
        match free_by {
            Some(free) => free.checked_sub(table.costs[position].max),
            None => Some(u64::MAX),
        }
    }

    /// What has to fit behind a start, and what might take its place, at an instant.
    fn spread(&self, table: &Table, set: SetRef<'_>, instant: u64) -> Spread {
        let next = |positions: &Vec<usize>, by: fn(&Window) -> u64| {
            let later = positions.partition_point(|&job| by(&table.windows[job]) <= instant);
            positions[later..].iter().copied().find(|&job| !contains(set.base, set.words, job))
        };
        let upcoming = |group: usize, job: usize| (table.costs[job].deadline, table.costs[job].max, group);
        let mut spread = Spread { sure: Vec::new(), ranks: Vec::new(), hoped: Vec::new() };
        for (group, positions) in self.groups.iter().enumerate() {
            if let Some(job) = next(positions, |job| job.release_max) {
                spread.sure.push(upcoming(group, job));
                spread.ranks.push(table.windows[job].rank);
            }
            spread.hoped.push(next(positions, |job| job.release_min).map(|job| upcoming(group, job)));
        }
        spread
    }

    /// The latest start of a job of this rank and position with every release made that leaves it the first in turn.
    fn may_start_by(&self, table: &Table, spread: &Spread, (rank, position): (u32, usize)) -> Option<u64> {
        let made = |(sure, other): (&Upcoming, &u32)| {
            if *other < rank { Some(*sure) } else { spread.hoped[sure.2] }
        };
        let mut upcoming: Vec<Upcoming> = spread.sure.iter().zip(&spread.ranks).filter_map(made).collect();
        upcoming.sort_unstable_by_key(|&(deadline, cost, group)| (std::cmp::Reverse(deadline), cost, group));
        self.start_by(table, &upcoming, position)
    }

    /// Finds what may run next, and when; returns how much was looked at, or nothing where that is more than
    /// [`STATE_WORK_MAX`].
    pub(super) fn eligible(
        &self,
        table: &Table,
        set: SetRef<'_>,
        (free_min, free_max): (u64, u64),
        dispatches: &mut Vec<Dispatch>,
    ) -> Option<usize> {
        let mut sweep =
            Sweep { table, set, next: set.base * WORD, active: Vec::new(), cuts: Vec::new(), nothing: false };
        let (mut instant, mut work) = (free_min, 0);
        while instant < u64::MAX {
            sweep.admit(instant);
            let upcoming = self.upcoming(table, set, instant);
            let spread = self.spreads.then(|| self.spread(table, set, instant));
            for job in &mut sweep.active {
                job.must_by = self.start_by(table, &upcoming, job.position);
                job.may_by = match &spread {
                    Some(spread) => self.may_start_by(table, spread, (job.rank, job.position)),
                    None => job.must_by,
                };
            }
            let end = sweep.piece_end(instant, free_max);
            // Where releases spread, what is to come is sorted anew for every job.
            let looked = match &spread {
                Some(_) => self.groups.len() * (1 + self.groups.len().checked_ilog2().unwrap_or(0) as usize),
                None => upcoming.len(),
            };
            work += (sweep.active.len() + 1) * (looked + 1);
            if work > STATE_WORK_MAX {
                return None;
            }
            if instant <= free_max {
                sweep.while_possibly_busy(instant, end, free_max, dispatches);
            } else if self.awaiting == Awaiting::Release {
                sweep.while_some_wait(instant, end, dispatches);
            } else {
                sweep.while_silent(instant, end, dispatches);
            }
            if instant >= free_max && sweep.weakest().is_none() {
                break;
            }
            instant = end;
        }
        Some(work)
    }
}

/// The most work that one state may take, in looks at jobs: about a second. Windows of thousands of jobs that overlap make
/// pieces of time by the thousand, with all of these jobs to be looked at in each.
const STATE_WORK_MAX: usize = 1 << 26;

/// Time walked through piece by piece, from the first instant at which the core may be free.
struct Sweep<'a> {
    table: &'a Table,
    set: SetRef<'a>,
    /// The next position not yet looked at.
    next: usize,
    /// By rank.
    active: Vec<Active>,
    /// Latest releases of jobs that wait for others: they start nothing, and still end pieces.
    cuts: Vec<u64>,
    /// Whether nothing can be released at the end of the piece before.
    nothing: bool,
}

impl Sweep<'_> {
    /// Takes up all jobs that are possibly released at an instant.
    fn admit(&mut self, instant: u64) {
        while let Some(job) = self.table.windows.get(self.next)
            && job.release_min <= instant
        {
            let position = self.next;
            self.next += 1;
            if contains(self.set.base, self.set.words, position) {
                continue;
            }
            if job.waits > 0 && !is_ready(self.set, &self.table.before[position]) {
                self.cuts.push(job.release_max);
                continue;
            }
            let place = self.active.partition_point(|other| other.rank < job.rank);
            let (rank, release_max) = (job.rank, job.release_max);
            let (may_by, must_by) = (None, None);
            let active = Active { rank, position, release_max, may_by, must_by, silent: false };
            self.active.insert(place, active);
        }
    }

    /// The first instant after `instant` at which anything changes.
    fn piece_end(&self, instant: u64, free_max: u64) -> u64 {
        let release = self.table.windows.get(self.next).map_or(u64::MAX, |job| job.release_min);
        let mut end = release;
        let mut cut = |at: u64| {
            if at > instant {
                end = end.min(at);
            }
        };
        cut(free_max);
        cut(free_max + 1);
        self.cuts.iter().for_each(|&at| cut(at));
        for job in &self.active {
            cut(job.release_max);
            for last in [job.may_by, job.must_by] {
                cut(last.map_or(0, |last| last.saturating_add(1)));
            }
        }
        end
    }

    /// The first job that is certainly released, by rank.
    fn certain(&self, instant: u64) -> u32 {
        self.active.iter().find(|job| job.release_max <= instant).map_or(u32::MAX, |job| job.rank)
    }

    /// The last by rank of what can stand first without having started; past all ranks if nothing need be released.
    fn weakest(&self) -> Option<u64> {
        if self.nothing {
            return Some(u64::MAX);
        }
        self.active.iter().rev().find(|job| job.silent).map(|job| u64::from(job.rank))
    }

    /// The core becomes free at any instant of the piece, and the first job starts at that instant or waits.
    fn while_possibly_busy(&mut self, instant: u64, end: u64, free_max: u64, out: &mut Vec<Dispatch>) {
        let certain = self.certain(instant);
        for job in self.active.iter_mut().filter(|job| job.rank <= certain) {
            if job.may_start(instant) {
                emit(out, job.position, instant, end.min(free_max + 1) - 1);
            }
            job.silent = instant == free_max && !job.must_start(instant);
        }
        self.nothing = instant == free_max && certain == u32::MAX;
    }

    /// Nothing has started since the core became free: what stood first was forbidden to.
    fn while_silent(&mut self, instant: u64, end: u64, out: &mut Vec<Dispatch>) {
        let certain = self.certain(instant);
        let before = self.weakest();
        for job in &mut self.active {
            let arrives = job.release_max >= instant && before.is_some_and(|rank| rank > u64::from(job.rank));
            let first = job.rank <= certain && (job.silent || arrives);
            if first && job.may_start(instant) {
                emit(out, job.position, instant, instant);
            }
            job.silent = first && !job.must_start(instant);
        }
        self.nothing &= certain == u32::MAX;
        if end - instant == 1 {
            return;
        }
        let before = self.weakest();
        for job in self.active.iter().filter(|job| job.rank <= certain && job.may_start(instant)) {
            if job.release_max > instant && before.is_some_and(|rank| rank > u64::from(job.rank)) {
                emit(out, job.position, instant + 1, end - 1);
            }
        }
    }
}

impl Sweep<'_> {
    /// Nothing has started since the core became free: of all that can stand first some may be forbidden to.
    fn while_some_wait(&mut self, instant: u64, end: u64, out: &mut Vec<Dispatch>) {
        let certain = self.certain(instant);
        for job in &mut self.active {
            job.silent = job.rank <= certain && !job.must_start(instant);
        }
        self.nothing = certain == u32::MAX;
        let last = if self.weakest().is_some() { end - 1 } else { instant };
        for job in self.active.iter().filter(|job| job.rank <= certain && job.may_start(instant)) {
            emit(out, job.position, instant, last);
        }
    }
}

/// Adds instants at which a job may start; those of one job come in order.
fn emit(out: &mut Vec<Dispatch>, position: usize, start_min: u64, start_max: u64) {
    match out.iter_mut().rev().find(|dispatch| dispatch.position == position) {
        Some(last) if last.start_max + 1 == start_min => last.start_max = start_max,
        _ => out.push(Dispatch { position, start_min, start_max }),
    }
}
