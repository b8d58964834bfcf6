//! A driver in virtual time, and task sets that are quick to write down.

use std::collections::BTreeMap;

use aegis_types::records::SegmentOutcome;
use aegis_types::{DispatchSeq, JobId, LaneId, Nanos, RawRecord, TaskId, Time};

use crate::engine::{Answer, Dispatch, Engine, Input, JobEnd, Outbox};
use crate::model::{Arrival, Basis, Criticality, OccupancyBudget, OnOverrun, Task, TaskSet};
use crate::platform::{Overheads, PartitionModel, Platform};
use crate::policy::{self, SchedulingPolicy};
use crate::referee::certificate::{Certificate, CertifiedTask, Rung};

/// A task with the fields that tests vary; overheads are zero, so budgets and jitters are charged as written.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    pub(crate) lane: u16,
    pub(crate) period: u64,
    pub(crate) deadline: u64,
    pub(crate) jitter: u64,
    pub(crate) segments: Vec<u64>,
    /// `None` is sporadic.
    pub(crate) offset: Option<u64>,
    pub(crate) criticality: Criticality,
    pub(crate) on_overrun: OnOverrun,
    pub(crate) retries: u32,
    pub(crate) queue: u32,
    pub(crate) weight: u32,
    pub(crate) excludes: Vec<u16>,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            lane: 0,
            period: 100,
            deadline: 100,
            jitter: 0,
            segments: vec![10],
            offset: None,
            criticality: Criticality::Medium,
            on_overrun: OnOverrun::Skip,
            retries: 0,
            queue: 4,
            weight: 1,
            excludes: Vec::new(),
        }
    }
}

/// A set with its certificate; bounds are deadlines, and each lane tolerates `tolerance` of overrun.
pub(crate) struct Fixture {
    pub(crate) set: TaskSet,
    pub(crate) certificate: Certificate,
    pub(crate) policy: &'static str,
}

impl Fixture {
    pub(crate) fn new(policy: &'static str, tolerance: u64, specs: &[Spec]) -> Self {
        let lanes = specs.iter().map(|spec| spec.lane + 1).max().unwrap_or(1);
        let partition = PartitionModel { name: "all".into(), lanes };
        let platform = Platform::new(vec![partition], Overheads::default()).unwrap();
        let tasks = specs.iter().enumerate().map(|(index, spec)| task(index, spec)).collect();
        let set = TaskSet::new(tasks, platform).unwrap();
        let by_name = policy::by_name(policy).unwrap();
        let lanes = (0..lanes)
            .map(|lane| {
                let tasks: Vec<CertifiedTask> = set
                    .on_lane(LaneId::new(lane))
                    .map(|task| certified(task, &specs[task.id.index()], by_name.as_ref()))
                    .collect();
                let bounds: Vec<Nanos> = tasks.iter().map(|task| task.wcrt).collect();
                let rung = |overrun| Rung { overrun: Nanos::new(overrun), bounds: bounds.clone() };
                (LaneId::new(lane), tasks, vec![rung(0), rung(tolerance)])
            })
            .collect();
        let certificate = Certificate::for_tests(by_name.name(), by_name.class(), lanes);
        Self { set, certificate, policy }
    }

    pub(crate) fn policy(&self) -> Box<dyn SchedulingPolicy> {
        policy::by_name(self.policy).unwrap()
    }

    pub(crate) fn engine(&self) -> Engine {
        Engine::new(&self.set, self.certificate.clone(), self.policy(), Time::ZERO).unwrap()
    }

    pub(crate) fn world(&self) -> World {
        World::new(self.engine())
    }
}

fn task(index: usize, spec: &Spec) -> Task {
    let budget = |bound: &u64| OccupancyBudget { bound: Nanos::new(*bound), basis: Basis::Declared };
    Task {
        id: TaskId::new(u16::try_from(index).unwrap()),
        name: format!("model_{index}"),
        lane: LaneId::new(spec.lane),
        period: Nanos::new(spec.period),
        deadline: Nanos::new(spec.deadline),
        jitter: Nanos::new(spec.jitter),
        arrival: spec.offset.map_or(Arrival::Sporadic, |at| Arrival::Periodic { offset: Nanos::new(at) }),
        segments: spec.segments.iter().map(budget).collect(),
        priority: Some(u32::try_from(index).unwrap()),
        criticality: spec.criticality,
        on_overrun: spec.on_overrun,
        retries: spec.retries,
        weight: spec.weight,
        excludes: spec.excludes.iter().copied().map(TaskId::new).collect(),
    }
}

fn certified(task: &Task, spec: &Spec, policy: &dyn SchedulingPolicy) -> CertifiedTask {
    let attempts = u64::from(spec.retries) + 1;
    CertifiedTask {
        task: task.id,
        segments: spec.segments.iter().map(|bound| Nanos::new(bound * attempts)).collect(),
        period: task.period,
        deadline: task.deadline,
        jitter: task.jitter,
        offset: policy.class().inserts().and(task.arrival.offset()),
        key: policy.key(task),
        wcrt: task.deadline,
        terms: Vec::new(),
        queue: spec.queue,
        basis: Basis::Declared,
    }
}

/// What a segment does when it is launched: how long, and how it ends.
pub(crate) type Execution = (u64, SegmentOutcome);

/// Drives an engine as its documentation asks a driver to.
pub(crate) struct World {
    pub(crate) engine: Engine,
    pub(crate) out: Outbox,
    pub(crate) now: u64,
    /// Every record, placed in the sequence of producer 0.
    pub(crate) records: Vec<RawRecord>,
    pub(crate) commands: Vec<(u64, Dispatch)>,
    pub(crate) answers: Vec<(u64, Answer)>,
    pub(crate) ends: Vec<JobEnd>,
    in_flight: BTreeMap<LaneId, (u64, DispatchSeq, SegmentOutcome)>,
    /// Executions that differ from "exactly the first budget": by job, segment and attempt in order.
    pub(crate) script: BTreeMap<(JobId, u16), Vec<Execution>>,
    /// What any other segment takes, by task.
    pub(crate) default_run: BTreeMap<TaskId, u64>,
}

impl World {
    pub(crate) fn new(engine: Engine) -> Self {
        let out = engine.outbox();
        Self {
            engine,
            out,
            now: 0,
            records: Vec::new(),
            commands: Vec::new(),
            answers: Vec::new(),
            ends: Vec::new(),
            in_flight: BTreeMap::new(),
            script: BTreeMap::new(),
            default_run: BTreeMap::new(),
        }
    }

    pub(crate) fn script(&mut self, task: u16, number: u64, segment: u16, runs: &[Execution]) {
        self.script.insert((JobId::new(TaskId::new(task), number), segment), runs.to_vec());
    }

    pub(crate) fn tell(&mut self, now: u64, input: Input) {
        self.now = now;
        self.engine.handle(Time::new(now), input, &mut self.out);
        self.collect();
    }

    fn collect(&mut self) {
        for record in self.out.records() {
            let sequence = u32::try_from(self.records.len()).unwrap();
            self.records.push(record.placed(0, sequence));
        }
        for &command in self.out.commands() {
            self.commands.push((self.now, command));
            let runs = self.script.entry((command.job, command.segment.get())).or_default();
            let default =
                (self.default_run.get(&command.job.task).copied().unwrap_or(10), SegmentOutcome::Done);
            let (span, outcome) = if runs.is_empty() { default } else { runs.remove(0) };
            self.in_flight.insert(command.lane, (self.now + span, command.dispatch, outcome));
        }
        self.answers.extend(self.out.answers().iter().map(|answer| (self.now, *answer)));
        self.ends.extend(self.out.ends());
        self.out.clear();
    }

    /// One decider cycle: due completions, a tick, arrivals of these tasks, a decision.
    pub(crate) fn cycle(&mut self, now: u64, arrivals: &[u16]) {
        let due: Vec<_> =
            self.in_flight.iter().filter(|(_, flight)| flight.0 <= now).map(|(l, f)| (*l, *f)).collect();
        for (lane, (_, dispatch, outcome)) in due {
            self.in_flight.remove(&lane);
            self.tell(now, Input::Completed { lane, dispatch, outcome });
        }
        self.tell(now, Input::Tick);
        for &task in arrivals {
            self.tell(now, Input::Arrival { task: TaskId::new(task), token: now });
        }
        self.tell(now, Input::Decide);
    }

    /// When a completion or a timer is due next.
    pub(crate) fn next_event(&self) -> Option<u64> {
        let flight = self.in_flight.values().map(|flight| flight.0).min();
        let timer = self.engine.wake_at().map(Time::get);
        [flight, timer].into_iter().flatten().min()
    }

    /// Runs until every event up to and including `until` is handled; `arrivals` are (stamp, task), sorted.
    pub(crate) fn run(&mut self, arrivals: &[(u64, u16)], until: u64) {
        let mut left = arrivals;
        loop {
            let submission = left.first().map(|arrival| arrival.0);
            let Some(now) = [self.next_event(), submission].into_iter().flatten().min() else { return };
            if now > until {
                return;
            }
            let count = left.iter().take_while(|arrival| arrival.0 == now).count();
            let tasks: Vec<u16> = left[..count].iter().map(|arrival| arrival.1).collect();
            left = &left[count..];
            self.cycle(now, &tasks);
        }
    }

    /// (stamp, task, job number, segment) of every dispatch.
    pub(crate) fn schedule(&self) -> Vec<(u64, u16, u64, u16)> {
        self.commands.iter().map(|(at, c)| (*at, c.job.task.get(), c.job.number, c.segment.get())).collect()
    }

    /// Every record of one type, with its stamp.
    pub(crate) fn all<R: aegis_types::Record>(&self) -> Vec<(u64, R)> {
        self.records.iter().filter_map(|raw| Some((raw.stamp.get(), R::read(raw)?))).collect()
    }
}

/// A small generator of numbers for seeded tests (splitmix64).
pub(crate) struct Seeded(pub(crate) u64);

impl Seeded {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }

    /// From `low` to `high`, both included.
    pub(crate) fn within(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }
}

/// Runs `check` on seeds; a failing one is printed with the command that runs it alone.
pub(crate) fn for_seeds(test: &str, count: u64, check: impl Fn(u64)) {
    struct Name<'a>(&'a str, u64);
    impl Drop for Name<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("failing seed: AEGIS_SEED={} cargo test -p aegis-sched --lib {}", self.1, self.0);
            }
        }
    }
    let only = std::env::var("AEGIS_SEED").ok().and_then(|seed| seed.parse::<u64>().ok());
    for seed in only.map_or(0..count, |seed| seed..seed + 1) {
        let _name = Name(test, seed);
        check(seed);
    }
}

/// A random fleet with the submissions that its sporadic tasks attempt up to `until`, legal ones and others.
pub(crate) fn random_fleet(random: &mut Seeded, until: u64) -> (Vec<Spec>, Vec<(u64, u16)>) {
    let lanes = random.within(1, 3);
    let count = random.within(1, 6);
    let specs: Vec<Spec> = (0..count)
        .map(|_| {
            let period = random.within(15, 90);
            Spec {
                lane: u16::try_from(random.below(lanes)).unwrap(),
                period,
                deadline: random.within(10, 150),
                jitter: random.below(12),
                segments: (0..random.within(1, 3)).map(|_| random.within(1, 9)).collect(),
                offset: (random.below(2) == 0).then(|| random.below(20)),
                queue: u32::try_from(random.within(1, 3)).unwrap(),
                weight: u32::try_from(random.within(1, 3)).unwrap(),
                ..Spec::default()
            }
        })
        .collect();
    let mut arrivals = Vec::new();
    for (task, spec) in specs.iter().enumerate().filter(|(_, spec)| spec.offset.is_none()) {
        let mut at = random.below(30);
        while at < until {
            arrivals.push((at, u16::try_from(task).unwrap()));
            at += random.within(spec.period / 2, spec.period * 2);
        }
    }
    arrivals.sort_unstable();
    (specs, arrivals)
}

/// Scripts random executions of the first jobs of every task, each within its budget.
pub(crate) fn random_script(random: &mut Seeded, specs: &[Spec], world: &mut World, jobs: u64) {
    for (task, spec) in specs.iter().enumerate() {
        for number in 0..jobs {
            for (segment, &budget) in spec.segments.iter().enumerate() {
                let run = (random.within(1, budget), SegmentOutcome::Done);
                world.script(u16::try_from(task).unwrap(), number, u16::try_from(segment).unwrap(), &[run]);
            }
        }
    }
}
