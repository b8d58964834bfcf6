//! The checkers: a second, plain account of every run, kept from its records alone.
//!
//! Nothing here asks the engine what it thinks: jobs, lanes, accumulated overrun and standings are worked out anew from
//! what was recorded, and compared with what the certificate promised and with what the engine said.
//!
//! | number | what must hold | where |
//! |---|---|---|
//! | 1 | responses within R(X) wherever no assumption broke; the covered share is reported | `jobs` |
//! | 2 | one segment in flight per lane, none beside one that it excludes | `lanes`, `apart`, [`SimPlant`](super::plant::SimPlant) |
//! | 3 | bytes in use within reservations within capacity, and no task meets the bytes of another | `memory`, `loaded` |
//! | 4 | every accepted job reaches exactly one terminal state | `jobs` |
//! | 5 | nothing illegal happens: arrivals, queues, order of segments, who is dropped, who runs | `jobs`, `lanes`, `kept` |
//! | 6 | sequences of records without a gap that was not counted | `traced` |
//! | 7 | a replay decides the same | `traced` |
//! | 8 | blame adds up | `traced` |
//! | 9 | a fault leaves standing what it must | `aftermath` |
//! | 10 | a policy that inverts its order is caught | `canary` |

mod apart;
mod change;
mod jobs;
mod kept;
mod lanes;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::vec::IntoIter;

use aegis_sched::engine::{LaneKeptFree, OverrunRunning, SegmentHeld, SegmentLaunched};
use aegis_sched::exclusion::Exclusion;
use aegis_sched::{Certificate, PolicyClass, TaskSet};
use aegis_types::records::{
    AssumptionBroken, CompletionHandled, ControlHandled, DecideHandled, Decided, EngineStarted, JobFinished,
    JobRefused, JobReleased, LaneIdled, SegmentCompleted, SegmentDispatched, SegmentOutcome, StallHandled,
    TickHandled,
};
use aegis_types::{DispatchSeq, JobId, LaneId, Nanos, RawRecord, Record, Sink, Time};

pub use change::Successor;

use self::change::Former;

/// Violations kept of one run: the first ones tell the story.
const KEPT: usize = 16;

/// Something that must not happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The number of the checker.
    pub checker: u8,
    /// When.
    pub at: Time,
    /// What, with the numbers.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "checker {} at {}: {}", self.checker, self.at, self.what)
    }
}

/// What was counted of one run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Jobs accepted.
    pub released: u64,
    /// Arrivals refused, but for those that came while draining.
    pub refused: u64,
    /// Jobs that ended, by outcome.
    pub outcomes: [u64; 4],
    /// Jobs that ended in a busy period without a breach.
    pub covered: u64,
    /// Jobs that ended under an overrun that is tolerated.
    pub tolerated: u64,
    /// Of these, jobs that took longer than the bound without overrun: where R(X) is needed.
    pub beyond_plain: u64,
    /// Other jobs.
    pub void: u64,
    /// Completed jobs that missed their deadline.
    pub misses: u64,
    /// Broken assumptions, by number.
    pub broken: [u64; 6],
    /// Breaches on two lanes with a common cause.
    pub device_voids: u64,
}

/// What was counted of one lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneCounts {
    /// Jobs for which a bound holds that needs R(X) with X above zero.
    pub tolerated: u64,
    /// Jobs for which no bound is claimed.
    pub void: u64,
    /// Completed jobs that missed their deadline.
    pub misses: u64,
    /// Jobs that were dropped.
    pub dropped: u64,
}

/// The certified numbers of one task, and its pending jobs.
#[derive(Debug)]
struct TaskShadow {
    lane: usize,
    position: usize,
    period: Nanos,
    deadline: Nanos,
    jitter: Nanos,
    /// When the first job arrives; `None` where clients say so.
    offset: Option<Nanos>,
    key: u64,
    queue: usize,
    budgets: Vec<Nanos>,
    retries: u32,
    sheds: bool,
    pending: VecDeque<JobShadow>,
    accepted: u64,
    last_arrival: Option<Time>,
    covered_max: Nanos,
    /// Whether it gets no jobs any more.
    retired: bool,
}

#[derive(Clone, Copy, Debug)]
struct JobShadow {
    id: JobId,
    arrival: Time,
    released: Time,
    segment: usize,
    attempts: u32,
    started: bool,
    void: bool,
    /// What must be recorded next of it.
    due: Option<aegis_types::records::JobOutcome>,
}

#[derive(Clone, Copy, Debug)]
struct RunShadow {
    task: usize,
    dispatch: DispatchSeq,
    since: Time,
    first: Time,
    /// Whether it was told of while it ran beyond its budget.
    told: bool,
}

#[derive(Debug)]
struct LaneShadow {
    id: LaneId,
    tasks: Vec<usize>,
    tolerance: Nanos,
    running: Option<RunShadow>,
    /// Whether what runs was decided and waits to be launched.
    held: bool,
    /// Whether it was told that it stays free although a job is ready.
    kept: bool,
    /// The task that last had a turn, and the segments left of it.
    turn: Option<(usize, u64)>,
    /// The segment that must be launched again at this stamp.
    retry: Option<RunShadow>,
    reported: Option<SegmentOutcome>,
    last_dispatch: DispatchSeq,
    pending: usize,
    ended: u64,
    busy_since: Time,
    /// Since when it is free while a job is ready.
    ready_since: Option<Time>,
    overrun: Nanos,
    void: bool,
    shedding: bool,
    last_breach: Option<Time>,
    counts: LaneCounts,
}

/// What the checks know of the certificate that a run is judged by.
#[derive(Debug)]
pub struct Checks<'a> {
    certificate: &'a Certificate,
    class: PolicyClass,
    /// Whether the engine itself ran under this certificate, so that its own words are judged as well.
    own: bool,
    /// Whether anything is planned to go wrong.
    calm: bool,
    tasks: Vec<TaskShadow>,
    lanes: Vec<LaneShadow>,
    /// By lane, bounds of the certificate before the one in force that its jobs keep.
    former: Vec<Option<Former<'a>>>,
    /// What takes over at the next starts of an engine.
    successors: IntoIter<Successor<'a>>,
    /// Tasks that must not run at once, the lower number first.
    excluded: BTreeSet<(usize, usize)>,
    largest: Nanos,
    /// How long the driver may be kept from looking without a word: a declared stall, and the wake-up before it.
    unseen: Nanos,
    decided: Option<Time>,
    cycle: u64,
    stalled: Option<Time>,
    draining: bool,
    /// Breaches soon after one on another lane.
    common_causes: u64,
    started: bool,
    now: Time,
    counts: Counts,
    violations: Vec<Violation>,
    /// Violations that were not kept.
    more: u64,
}

impl<'a> Checks<'a> {
    /// Checks of a run of `set` judged by `certificate`. With `own`, the engine ran under that certificate; with
    /// `calm`, nothing is planned to go wrong and every job must be covered.
    pub fn new(set: &TaskSet, certificate: &'a Certificate, own: bool, calm: bool) -> Self {
        let tasks: Vec<TaskShadow> =
            set.tasks().iter().filter_map(|task| shadow(task, certificate)).collect();
        let lanes = (0u16..).take(set.platform().lanes()).map(LaneId::new);
        Self {
            class: certificate.class(),
            lanes: lanes.map(|lane| lane_shadow(lane, set, certificate)).collect(),
            former: (0..set.platform().lanes()).map(|_| None).collect(),
            successors: Vec::new().into_iter(),
            certificate,
            own,
            calm,
            largest: largest(&tasks),
            tasks,
            excluded: excluded(set),
            unseen: unseen(set),
            decided: None,
            cycle: 0,
            stalled: None,
            draining: false,
            common_causes: 0,
            started: false,
            now: Time::ZERO,
            counts: Counts::default(),
            violations: Vec::new(),
            more: 0,
        }
    }

    /// What was counted so far.
    pub const fn counts(&self) -> &Counts {
        &self.counts
    }

    /// What was counted of each lane, by number.
    pub fn lanes(&self) -> impl Iterator<Item = (LaneId, LaneCounts)> {
        self.lanes.iter().map(|lane| (lane.id, lane.counts))
    }

    /// For each task with a covered job: the longest covered response and the bound.
    pub fn tightness(&self) -> impl Iterator<Item = (Nanos, Nanos)> {
        let bound = |task: &TaskShadow| self.certificate.lanes()[task.lane].bound(task.position, Nanos::ZERO);
        let seen = self.tasks.iter().filter(|task| !task.covered_max.is_zero());
        seen.filter_map(move |task| Some((task.covered_max, bound(task)?)))
    }

    /// For each task its longest covered response; zero where no job was covered.
    pub fn responses(&self) -> impl Iterator<Item = Nanos> {
        self.tasks.iter().map(|task| task.covered_max)
    }

    /// Ends the run: every accepted job must have ended. Returns what was violated, and how much more was not kept.
    pub fn finish(mut self) -> (Counts, Vec<Violation>, u64) {
        self.settle_decision();
        self.settle_apart();
        let (seen, told) = (self.common_causes, self.counts.device_voids);
        let agrees = !self.own || seen == told;
        self.expect(agrees, 9, || format!("{seen} breaches had a common cause, {told} were told"));
        let left: Vec<JobId> =
            self.tasks.iter().flat_map(|task| task.pending.iter().map(|job| job.id)).collect();
        if let Some(job) = left.first() {
            self.report(4, format!("{} accepted jobs never ended, the first is {job}", left.len()));
        }
        (self.counts, self.violations, self.more)
    }

    /// Notes a violation that was seen elsewhere.
    pub fn report(&mut self, checker: u8, what: String) {
        if self.violations.len() < KEPT {
            self.violations.push(Violation { checker, at: self.now, what });
        } else {
            self.more += 1;
        }
    }

    fn expect(&mut self, holds: bool, checker: u8, what: impl FnOnce() -> String) {
        if !holds {
            self.report(checker, what());
        }
    }

    /// E2: a free lane with a ready job has decided at the stamp of the decision.
    fn settle_decision(&mut self) {
        let Some(at) = self.decided.take() else { return };
        for index in 0..self.lanes.len() {
            let lane = &self.lanes[index];
            let late = lane.running.is_none() && lane.pending > 0 && !lane.kept;
            let id = lane.id;
            self.expect(!late, 5, || format!("{id} stands free with ready jobs after the decision at {at}"));
            self.check_kept(index, at);
        }
        self.settle_held();
    }

    fn input(&mut self, raw: &RawRecord) {
        self.settle_decision();
        self.settle_apart();
        if let Some(record) = CompletionHandled::read(raw) {
            if let Some(lane) = self.lanes.get_mut(record.lane.index()) {
                lane.reported = Some(record.outcome);
            }
        } else if let Some(record) = TickHandled::read(raw) {
            let cycle = self.cycle;
            self.expect(record.cycle == cycle, 6, || {
                format!("tick of cycle {}, expected {cycle}", record.cycle)
            });
        } else if let Some(record) = DecideHandled::read(raw) {
            let cycle = self.cycle;
            self.expect(record.cycle == cycle, 6, || format!("decision {}, expected {cycle}", record.cycle));
            self.cycle += 1;
            self.decided = Some(raw.stamp);
        } else if StallHandled::read(raw).is_some() {
            self.stalled = Some(raw.stamp);
        } else if ControlHandled::read(raw).is_some() {
            self.draining = true;
        }
    }
}

impl Sink for Checks<'_> {
    fn emit(&mut self, raw: RawRecord) {
        let forward = raw.stamp >= self.now;
        self.expect(forward, 6, || format!("a record is stamped {}, before the one ahead of it", raw.stamp));
        self.now = raw.stamp;
        if raw.kind() == EngineStarted::SCHEMA.kind {
            if std::mem::replace(&mut self.started, true) {
                self.succeeded();
            }
        } else if (TickHandled::SCHEMA.kind..=StallHandled::SCHEMA.kind).contains(&raw.kind()) {
            self.input(&raw);
        } else if let Some(record) = JobReleased::read(&raw) {
            self.released(&record);
        } else if let Some(record) = SegmentDispatched::read(&raw) {
            self.dispatched(&record);
        } else if let Some(record) = SegmentCompleted::read(&raw) {
            self.completed(&record);
        } else if let Some(record) = JobFinished::read(&raw) {
            self.finished(&record);
        } else if let Some(record) = AssumptionBroken::read(&raw) {
            self.broken(&record);
        } else if let Some(record) = JobRefused::read(&raw) {
            self.refused(&record);
        } else if let Some(record) = LaneIdled::read(&raw) {
            self.idled(&record);
        } else if let Some(record) = OverrunRunning::read(&raw) {
            self.running_over(&record);
        } else if let Some(record) = SegmentHeld::read(&raw) {
            self.held(&record);
        } else if let Some(record) = SegmentLaunched::read(&raw) {
            self.launched(&record);
        } else if let Some(record) = LaneKeptFree::read(&raw) {
            self.kept_free(&record);
        } else if let Some(record) = Decided::read(&raw) {
            let other = record.job != record.runner_up && record.ready > 1;
            self.expect(other, 5, || format!("{} was decided against itself", record.job));
        } else {
            self.report(6, format!("a record of kind {} cannot be read", raw.kind()));
        }
    }
}

/// Pairs of tasks on different lanes that must not run at once, the lower number first.
fn excluded(set: &TaskSet) -> BTreeSet<(usize, usize)> {
    let exclusion = Exclusion::of(set);
    let on = |task| set.task(task).map(|task| task.lane);
    let pairs = exclusion.pairs().filter(|(a, b)| on(*a) != on(*b));
    pairs.map(|(a, b)| (a.index(), b.index())).collect()
}

/// The longest budget of a segment.
fn largest(tasks: &[TaskShadow]) -> Nanos {
    tasks.iter().flat_map(|task| task.budgets.iter().copied()).max().unwrap_or(Nanos::ZERO)
}

/// A declared stall, and the wake-up before it.
fn unseen(set: &TaskSet) -> Nanos {
    set.platform().overheads.stall.saturating_add(set.platform().overheads.wakeup)
}

fn shadow(task: &aegis_sched::Task, certificate: &Certificate) -> Option<TaskShadow> {
    let (lane, position) = certificate.task(task.id)?;
    let certified = &lane.tasks()[position];
    Some(TaskShadow {
        lane: lane.lane().index(),
        position,
        period: certified.period,
        deadline: certified.deadline,
        jitter: certified.jitter,
        offset: match task.arrival {
            aegis_sched::Arrival::Periodic { offset } => Some(offset),
            aegis_sched::Arrival::Sporadic => None,
        },
        key: certified.key,
        queue: certified.queue as usize,
        budgets: certified.segments.clone(),
        retries: task.retries,
        sheds: super::faults::sheds(task),
        pending: VecDeque::new(),
        accepted: 0,
        last_arrival: None,
        covered_max: Nanos::ZERO,
        retired: false,
    })
}

fn lane_shadow(id: LaneId, set: &TaskSet, certificate: &Certificate) -> LaneShadow {
    let certified = certificate.lanes().iter().find(|lane| lane.lane() == id);
    LaneShadow {
        id,
        tasks: set.on_lane(id).map(|task| task.id.index()).collect(),
        tolerance: certified.map_or(Nanos::ZERO, aegis_sched::LaneCertificate::tolerance),
        running: None,
        held: false,
        kept: false,
        turn: None,
        retry: None,
        reported: None,
        last_dispatch: DispatchSeq::NONE,
        pending: 0,
        ended: 0,
        busy_since: Time::ZERO,
        ready_since: None,
        overrun: Nanos::ZERO,
        void: false,
        shedding: false,
        last_breach: None,
        counts: LaneCounts::default(),
    }
}
