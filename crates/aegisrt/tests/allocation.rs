//! Nothing is allocated on the heap between release and completion: counted, not timed.
//!
//! Two worlds. In virtual time engine, driver, tally and decision ring serve ten thousand jobs with overruns, failures,
//! retries, refusals, drops and stalls: every path that a decider can take. In real time a whole run on the host device
//! is watched from inside, on the driver's thread by a policy and on the carrier's by a backend, which is the only way
//! to see these threads without changing them.

use std::cell::Cell;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aegis_cuda::script::{Durations, ScriptedLoader};
use aegis_cuda::{
    BackendError, BackendLoader, BindingId, Bindings, Device, HostDevice, HostOptions, ModelDescription,
    ModelMemory, ModelRequest, RuntimeBackend, SimOptions, Stream,
};
use aegis_sched::engine::{Answer, Dispatch, Engine, LaneKeptFree};
use aegis_sched::policy::{INSERTING, ReadyJob, by_name};
use aegis_sched::{
    AdmissionController, AdmissionRequest, Arrival, Basis, Certificate, Criticality, OccupancyBudget,
    OnOverrun, Overheads, POLICIES, PartitionModel, Platform, PolicyClass, SchedulingPolicy, Task, TaskSet,
};
use aegis_trace::{RingConsumer, ring};
use aegis_types::records::{Assumption, Control, JobOutcome, Refusal, SegmentOutcome};
use aegis_types::{Bytes, DispatchSeq, LaneId, Nanos, RawRecord, Record, SegmentIndex, Sink, TaskId, Time};
use aegisrt::config::{Calibration, Fleet};
use aegisrt::driver::{Driver, Plant};
use aegisrt::feed::SplitMix;
use aegisrt::inventory::Loaders;
use aegisrt::live::Live;
use aegisrt::plant::ControlRequest;
use aegisrt::run::{RunOptions, run};
use aegisrt::system::Builder;
use aegisrt::tally::{Counted, Tally};
use aegisrt::waiting::Waiting;
use late::LateDevice;

/// The allocator that the benches count with.
#[path = "../../../benches/src/counting.rs"]
mod counting;

/// An asynchronous device with memory of its own.
#[path = "../../aegis-context/tests/late/mod.rs"]
mod late;

use counting::{CountingAllocator, allocations, count};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const JOBS: u64 = 10_000;
const LANES: u16 = 2;
const TASKS: u16 = 12;
const STALL_LIMIT: Nanos = Nanos::from_micros(500);

/// Every second task has clients; one to three segments; one in three keeps its queue when its lane is overrun.
fn set() -> TaskSet {
    let tasks = (0..TASKS).map(|number| Task {
        id: TaskId::new(number),
        name: format!("task_{number}"),
        lane: LaneId::new(number % LANES),
        period: Nanos::from_micros(4_000 + 250 * u64::from(number)),
        deadline: Nanos::from_micros(9_000 + 250 * u64::from(number)),
        jitter: Nanos::from_micros(100),
        arrival: if number % 4 < 2 { Arrival::Sporadic } else { Arrival::Periodic { offset: Nanos::ZERO } },
        segments: (0..1 + number % 3)
            .map(|_| OccupancyBudget { bound: Nanos::from_micros(80), basis: Basis::Declared })
            .collect(),
        priority: Some(number.into()),
        criticality: Criticality::Medium,
        on_overrun: if number % 3 == 0 { OnOverrun::Keep } else { OnOverrun::Skip },
        retries: 1,
        weight: 1 + u32::from(number % 3),
        excludes: Vec::new(),
    });
    let partitions = vec![PartitionModel { name: "all".into(), lanes: LANES }];
    let overheads = Overheads { decision: Nanos::new(500), stall: STALL_LIMIT, ..Overheads::default() };
    let platform = Platform::new(partitions, overheads).expect("two lanes");
    TaskSet::new(tasks.collect(), platform).expect("a legal set")
}

fn certified(set: &TaskSet, policy: Box<dyn SchedulingPolicy>) -> Certificate {
    let report = AdmissionController::new(policy).analyze(&AdmissionRequest::new(set).tight());
    let refusal = report.refusal().map(ToString::to_string);
    report.certificate().unwrap_or_else(|| panic!("{refusal:?}")).clone()
}

/// A lane of the virtual world and what it will say.
#[derive(Clone, Copy, Default)]
struct InFlight {
    dispatch: DispatchSeq,
    ends: Time,
}

/// Lanes and clients in virtual time: late, early, failing and stalling as drawn.
struct World {
    now: Time,
    /// Lanes that were seen to land and are not settled, and whether the time was read since the last look.
    unsettled: Vec<LaneId>,
    stamped: Cell<bool>,
    lanes: [Option<InFlight>; LANES as usize],
    outcomes: [SegmentOutcome; LANES as usize],
    submissions: Vec<Option<Time>>,
    draw: SplitMix,
    tokens: u64,
    /// Told once, at this time.
    command: Option<(Time, Control)>,
    /// Emptied from time to time; a ring that nobody empties is full soon.
    drain: Option<RingConsumer>,
    drained: usize,
}

impl World {
    fn new(set: &TaskSet, drain: Option<RingConsumer>, command: Option<(Time, Control)>) -> Self {
        let sporadic = |task: &Task| (task.arrival == Arrival::Sporadic).then_some(Time::ZERO);
        Self {
            now: Time::ZERO,
            unsettled: Vec::with_capacity(LANES.into()),
            stamped: Cell::new(false),
            lanes: [None; LANES as usize],
            outcomes: [SegmentOutcome::Done; LANES as usize],
            submissions: set.tasks().iter().map(sporadic).collect(),
            draw: SplitMix(7),
            tokens: 0,
            command,
            drain,
            drained: 0,
        }
    }
}

impl Plant for World {
    fn now(&self) -> Time {
        self.stamped.set(true);
        self.now
    }

    fn landed(&mut self, lane: LaneId) -> (DispatchSeq, SegmentOutcome) {
        self.stamped.set(false);
        let outcome = self.outcomes[lane.index()];
        match self.lanes[lane.index()].take_if(|flight| flight.ends <= self.now) {
            Some(flight) => {
                self.unsettled.push(lane);
                (flight.dispatch, outcome)
            }
            None => (DispatchSeq::NONE, outcome),
        }
    }

    fn settle(&mut self, lane: LaneId) {
        assert!(self.stamped.get(), "{lane}: settling delays the stamp of what landed");
        let seen = self.unsettled.len();
        self.unsettled.retain(|unsettled| *unsettled != lane);
        assert_eq!(self.unsettled.len() + 1, seen, "{lane} is settled once after it was seen to land");
    }

    /// Half of the gaps are shorter than the period, so that arrivals come too early.
    fn arrival(&mut self, task: TaskId) -> Option<u64> {
        let next = self.submissions[task.index()].as_mut()?;
        if *next > self.now {
            return None;
        }
        *next = self.now.saturating_add(Nanos::new(1_000_000 + self.draw.below(8_000_000)));
        self.tokens += 1;
        Some(self.tokens)
    }

    fn control(&mut self) -> Option<Control> {
        self.command.take_if(|(at, _)| *at <= self.now).map(|(_, control)| control)
    }

    fn launch(&mut self, command: &Dispatch) {
        let lane = command.lane.index();
        assert!(self.lanes[lane].is_none(), "{command:?} on a lane in flight");
        assert!(self.unsettled.is_empty(), "{command:?} before everything that landed was settled");
        // One segment in 200 takes far more than its budget and more than its lane tolerates.
        let overrun = if self.draw.below(200) == 0 { 20_000_000 } else { 0 };
        let span = Nanos::new(1_000 + self.draw.below(79_000) + overrun);
        self.outcomes[lane] = match self.draw.below(100) {
            0 => SegmentOutcome::Failed,
            1..=3 => SegmentOutcome::NotStarted,
            _ => SegmentOutcome::Done,
        };
        self.lanes[lane] = Some(InFlight { dispatch: command.dispatch, ends: self.now.saturating_add(span) });
    }

    fn answer(&mut self, _: &Answer) {}

    fn wait(&mut self, until: Option<Time>) -> Nanos {
        if let Some(consumer) = &mut self.drain {
            self.drained += consumer.drain(|_| {});
        }
        let ends = self.lanes.iter().flatten().map(|flight| flight.ends);
        let next = ends.chain(self.submissions.iter().flatten().copied()).chain(until).min();
        let Some(next) = next.filter(|next| *next > self.now) else { return Nanos::ZERO };
        let late =
            if self.draw.below(500) == 0 { STALL_LIMIT.saturating_add(Nanos::new(1)) } else { Nanos::ZERO };
        self.now = next.saturating_add(late);
        late
    }
}

/// Serves until `JOBS` jobs and more have been accepted, as a run does. Returns what the driver's thread allocated.
fn serve(
    set: &TaskSet,
    policy: &dyn Fn() -> Box<dyn SchedulingPolicy>,
    world: World,
    tally: &mut Tally,
    ring: &mut impl Sink,
) -> (u64, usize) {
    let certificate = certified(set, policy());
    *tally = Tally::new(set, &certificate);
    let engine = Engine::new(set, certificate, policy(), Time::ZERO).expect("set and certificate agree");
    let sporadic =
        set.tasks().iter().filter(|task| task.arrival == Arrival::Sporadic).map(|task| task.id).collect();
    let mut driver = Driver::new(engine, world, sporadic, STALL_LIMIT);
    let live = Live::default();
    // Two jobs each millisecond and more: the tally says how many.
    let end = Time::new(JOBS * 600_000);
    let ((), allocated) = count(|| {
        let mut counted = Counted { live: &live, tally, next: ring };
        driver.run(end, Nanos::from_millis(1_000), &mut counted);
    });
    assert!(driver.engine().is_idle() && driver.plant_mut().unsettled.is_empty());
    (allocated, driver.plant_mut().drained)
}

/// Any ready job, as the instant says: the class of policies that pick.
#[derive(Clone, Copy, Default)]
struct Whim;

impl SchedulingPolicy for Whim {
    fn name(&self) -> &'static str {
        "whim"
    }

    fn class(&self) -> PolicyClass {
        PolicyClass::WorkConserving
    }

    fn key(&self, _: &Task) -> u64 {
        0
    }

    fn pick(&self, now: Time, ready: &[ReadyJob]) -> usize {
        (now.get() / 1_000) as usize % ready.len()
    }
}

/// That everything happened which is said to allocate nothing.
fn saw_everything(policy: &str, tally: &Tally) {
    let sum =
        |count: &dyn Fn(&aegisrt::tally::TaskTally) -> u64| tally.tasks().iter().map(count).sum::<u64>();
    let outcome = |outcome: JobOutcome| sum(&|task| task.outcomes[outcome as usize]);
    let refused = |refusal: Refusal| sum(&|task| task.refusals[refusal as usize]);
    let counts = [
        ("overruns", sum(&|task| task.broken[Assumption::OccupancyBudget as usize])),
        ("failed jobs", outcome(JobOutcome::Failed)),
        ("dropped jobs", outcome(JobOutcome::Dropped)),
        ("arrivals that came too early", refused(Refusal::TooEarly)),
        ("arrivals at a void lane", refused(Refusal::LaneVoid)),
        ("arrivals at a full queue", refused(Refusal::QueueFull)),
        ("stalls", tally.stalls().0),
    ];
    for (what, count) in counts {
        assert!(count > 0, "{policy}: no {what}: {counts:?}");
    }
    let ended = sum(&|task| task.outcomes.iter().sum());
    assert!(ended > JOBS, "{policy}: {ended} jobs");
}

#[test]
fn engine_and_driver_allocate_nothing_under_any_policy() {
    let set = set();
    let check = |name: &str, policy: &dyn Fn() -> Box<dyn SchedulingPolicy>| {
        let (mut producer, consumer) = ring(0, 4_096).expect("a legal capacity");
        let mut tally = Tally::new(&set, &certified(&set, policy()));
        let (allocated, drained) =
            serve(&set, policy, World::new(&set, Some(consumer), None), &mut tally, &mut producer);
        saw_everything(name, &tally);
        assert!(drained > 100_000 && producer.dropped() == 0, "{name}: {drained} records");
        assert_eq!(allocated, 0, "{name}: allocations between release and completion");
    };
    for name in POLICIES {
        check(name, &|| by_name(name).expect("a listed name"));
    }
    check("whim", &|| Box::new(Whim));
}

/// Periodic tasks of one segment on each lane; the long one has to wait for the short one.
fn set_of_timers() -> TaskSet {
    let numbers = [(0, 4_000, 400), (0, 16_000, 1_000), (3_000, 16_000, 6_000)];
    let mut tasks = set().tasks()[..6].to_vec();
    for (number, task) in tasks.iter_mut().enumerate() {
        let (offset, period, bound) = numbers[number / usize::from(LANES)];
        task.period = Nanos::from_micros(period);
        task.deadline = task.period;
        task.arrival = Arrival::Periodic { offset: Nanos::from_micros(offset) };
        task.segments = vec![OccupancyBudget { bound: Nanos::from_micros(bound), basis: Basis::Declared }];
        task.retries = 0;
    }
    TaskSet::new(tasks, set().platform().clone()).expect("a legal set")
}

#[test]
fn lanes_that_are_kept_free_allocate_nothing_either() {
    let set = set_of_timers();
    for name in INSERTING {
        let policy = || by_name(name).expect("a listed name");
        let (mut producer, _consumer) = ring(0, 4_096).expect("a legal capacity");
        let mut tally = Tally::new(&set, &certified(&set, policy()));
        let (allocated, _) = serve(&set, &policy, World::new(&set, None, None), &mut tally, &mut producer);
        assert_eq!(allocated, 0, "{name}: allocations between release and completion");
        // The same world again, to see that lanes were kept free in it.
        let mut records: Vec<RawRecord> = Vec::new();
        serve(&set, &policy, World::new(&set, None, None), &mut tally, &mut records);
        let kept = records.iter().filter(|record| LaneKeptFree::read(record).is_some()).count();
        assert!(kept > 100, "{name}: kept free {kept} times");
    }
}

#[test]
fn a_full_ring_and_a_stop_allocate_nothing_either() {
    let set = set();
    let edf = || by_name("edf").expect("a listed name");
    let (mut producer, _consumer) = ring(0, 64).expect("a legal capacity");
    let mut tally = Tally::new(&set, &certified(&set, edf()));
    let stop = Some((Time::new(1_000_000_000), Control::Stop));
    let (allocated, _) = serve(&set, &edf, World::new(&set, None, stop), &mut tally, &mut producer);
    let stopped: u64 = tally.tasks().iter().map(|task| task.outcomes[JobOutcome::Stopped as usize]).sum();
    assert!(producer.dropped() > 1_000 && stopped > 0, "{} records, {stopped} jobs", producer.dropped());
    assert_eq!(allocated, 0, "allocations with a full ring");
}

/// The canary: a sink that grows is seen, so that a count of zero means something.
#[test]
fn a_sink_that_allocates_is_seen() {
    let set = set();
    let edf = || by_name("edf").expect("a listed name");
    let mut tally = Tally::new(&set, &certified(&set, edf()));
    let mut grows: Vec<RawRecord> = Vec::new();
    let (allocated, _) = serve(&set, &edf, World::new(&set, None, None), &mut tally, &mut grows);
    assert!(allocated > 10 && grows.len() > 100_000, "{allocated} allocations for {} records", grows.len());
}

/// Looks until a thread counts as warm: the first waits make what the standard library makes once for each thread.
const WARM: u64 = 20;

/// What one thread had allocated at two looks, and how many looks there were.
#[derive(Debug, Default)]
struct Looks {
    count: AtomicU64,
    first: AtomicU64,
    last: AtomicU64,
}

impl Looks {
    /// Called on one thread only.
    fn look(&self) {
        let now = allocations();
        if self.count.fetch_add(1, Ordering::Relaxed) == WARM {
            self.first.store(now, Ordering::Relaxed);
        }
        self.last.store(now, Ordering::Relaxed);
    }

    fn check(&self, thread: &str) {
        let read = |number: &AtomicU64| number.load(Ordering::Relaxed);
        let (looks, allocated) = (read(&self.count), read(&self.last) - read(&self.first));
        assert!(looks > 2 * WARM, "{thread}: only {looks} looks");
        assert_eq!(allocated, 0, "{thread}: allocations in {looks} jobs");
    }
}

/// First come, first served, and a look at the driver's thread at every decision.
struct Looking(Arc<Looks>);

impl SchedulingPolicy for Looking {
    fn name(&self) -> &'static str {
        "looking"
    }

    fn class(&self) -> PolicyClass {
        PolicyClass::WorkConserving
    }

    fn key(&self, _: &Task) -> u64 {
        0
    }

    fn pick(&self, _: Time, _: &[ReadyJob]) -> usize {
        self.0.look();
        0
    }
}

/// Scripts, and a look at the carrier's thread at every launch.
struct LookingLoader(ScriptedLoader, Arc<Looks>);

impl BackendLoader for LookingLoader {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn inspect(&self, request: &ModelRequest<'_>) -> Result<ModelDescription, BackendError> {
        self.0.inspect(request)
    }

    fn load(
        &self,
        request: &ModelRequest<'_>,
        stream: &mut dyn Stream,
        memory: ModelMemory,
    ) -> Result<Box<dyn RuntimeBackend>, BackendError> {
        let model = self.0.load(request, stream, memory)?;
        Ok(Box::new(LookingBackend(model, Arc::clone(&self.1))))
    }
}

struct LookingBackend(Box<dyn RuntimeBackend>, Arc<Looks>);

impl RuntimeBackend for LookingBackend {
    fn describe(&self) -> &ModelDescription {
        self.0.describe()
    }

    fn bind(&mut self, bindings: Bindings) -> Result<BindingId, BackendError> {
        self.0.bind(bindings)
    }

    fn enqueue(
        &mut self,
        stream: &mut dyn Stream,
        segment: SegmentIndex,
        binding: BindingId,
    ) -> Result<(), BackendError> {
        self.1.look();
        self.0.enqueue(stream, segment, binding)
    }
}

/// Two scripted models on one core.
fn fleet(folder: &Path) -> Result<Fleet, Box<dyn Error>> {
    let mut text = String::from(
        "[device]\nkind = \"sim\"\n[[partition]]\nname = \"all\"\nsms = 1\n[policy]\nkind = \"fifo\"\n",
    );
    for (name, period) in [("short", "4ms"), ("long", "10ms")] {
        let script = "script 1\ninput x f32 1x64\noutput y f32 1x8\nweights 4KiB\nscratch 1KiB\nsegment 50us..100us\nend\n";
        std::fs::write(folder.join(format!("{name}.script")), script)?;
        text += &format!(
            "[[task]]\nname = \"{name}\"\nmodel = \"{name}.script\"\nbackend = \"script\"\npartition = \"all\"\n\
             period = \"{period}\"\nbudget = {{ memory = \"64KiB\" }}\n"
        );
    }
    Ok(Fleet::parse(&folder.join("fleet.toml"), &text)?)
}

/// Whether the machine keeps its pace is not asked: overheads are taken as zero, so that every wake-up is a stall.
fn a_run_allocates_nothing_per_job(device: Arc<dyn Device>) -> Result<(), Box<dyn Error>> {
    let (driver, carrier) = (Arc::new(Looks::default()), Arc::new(Looks::default()));
    let folder = tempfile::tempdir()?;
    let loader = LookingLoader(ScriptedLoader::new(Durations::Seeded(1)), Arc::clone(&carrier));
    let system = Builder::new(fleet(folder.path())?)
        .loaders(Loaders::default().with(Arc::new(loader)))
        .device(device)
        .policy(Arc::new(Looking(Arc::clone(&driver))))
        .build(|_| {})?;
    let calibration = Calibration::new(Path::new("platform.json"), Overheads::default());
    let prepared = system.prepare(None, &calibration)?;
    let certificate = certified(&prepared.set, Box::new(Arc::clone(system.policy())));
    let options = RunOptions {
        duration: Nanos::from_millis(1_000),
        trace: None,
        keep_outputs: 4,
        poison: false,
        realtime: false,
        waiting: Waiting::Blocking,
        control: Arc::new(ControlRequest::default()),
        live: Arc::new(Live::default()),
    };
    let report = run(&system, &prepared, certificate, None, &calibration, &options)?;
    for model in report.lanes.iter().flat_map(|lane| &lane.models) {
        assert_eq!(model.failure, None, "a failure says so in a text, which is allocated");
        assert_eq!(model.outputs.len(), 4);
    }
    driver.check("driver");
    carrier.check("carrier");
    Ok(())
}

#[test]
fn a_run_on_the_host_allocates_nothing_per_job() -> Result<(), Box<dyn Error>> {
    a_run_allocates_nothing_per_job(Arc::new(HostDevice::new(HostOptions { memory: Bytes::new(1 << 20) })?))
}

#[test]
fn a_run_on_an_asynchronous_device_allocates_nothing_per_job() -> Result<(), Box<dyn Error>> {
    let options = SimOptions { granularity: 1, ..SimOptions::default() };
    let device = Arc::new(LateDevice::new(false, options));
    a_run_allocates_nothing_per_job(Arc::<LateDevice>::clone(&device))?;
    assert!(!device.operations().is_empty(), "inputs and outputs are copied");
    Ok(())
}
