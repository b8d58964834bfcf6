//! A run: plan and reserve memory, start the trace and the carriers, drive, and close everything in order.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aegis_cuda::{DeviceMemory, MemorySpace};
use aegis_memory::{Ledger, MemoryPlan, PlanReservation};
use aegis_sched::engine::{self, Engine};
use aegis_sched::{Arrival, Certificate, TaskSet};
use aegis_trace::{Finished, RingProducer, TraceCollector, TraceError, TraceMode, TraceOptions, TraceWriter};
use aegis_types::record::Discard;
use aegis_types::records::TaskAdmitted;
use aegis_types::{
    Bytes, Extent, LaneId, MemoryGrant, Nanos, PartitionId, Record, Schema, Sink, TaskId, Time,
};

use crate::carrier::{Crew, CrewOptions, LaneReport, LaneSpec, Work};
use crate::client::{Client, Port};
use crate::config::{Calibration, Prepared, Profile};
use crate::driver::Driver;
use crate::error::RuntimeError;
use crate::inventory::Model;
use crate::live::Live;
use crate::models::{LaneModels, ModelSpec, Source};
use crate::plant::{ControlRequest, HostPlant};
use crate::realtime::{self, Role};
use crate::system::device::spare_queue;
use crate::system::{SLOTS_PROFILED, System};
use crate::tally::{Counted, Tally};
use crate::waiting::Waiting;

/// How often the rings are emptied.
const FLUSH: Nanos = Nanos::from_millis(50);

/// Records that one job leaves in the decision ring at most, with a margin for inputs and refusals.
const RECORDS_PER_JOB: u64 = 16;

/// Entries of an arena's table: how many blocks one model may hold at once.
const ARENA_LINES: usize = 8_192;

/// How a run ends when the queues do not empty: jobs of a hung lane are not waited for longer than this.
const GRACE: Nanos = Nanos::from_millis(10_000);

/// How to run.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// How long jobs are released.
    pub duration: Nanos,
    /// Where the trace goes; in memory without.
    pub trace: Option<PathBuf>,
    /// Outputs of how many jobs of each task are kept, from the first.
    pub keep_outputs: usize,
    /// Whether the lane's scratch is overwritten before every segment: what survives in it is then nobody's data.
    pub poison: bool,
    /// Whether the system's real-time class is asked for.
    pub realtime: bool,
    /// How driver and carriers wait.
    pub waiting: Waiting,
    /// The operator's requests.
    pub control: Arc<ControlRequest>,
    /// Counters for live lines.
    pub live: Arc<Live>,
}

/// What a run left.
#[derive(Debug)]
pub struct RunReport {
    /// What was counted.
    pub tally: Tally,
    /// What the carriers learned, by lane.
    pub lanes: Vec<LaneReport>,
    /// The memory plan.
    pub plan: MemoryPlan,
    /// The trace, or what kept it from being written whole.
    pub trace: Result<Finished, TraceError>,
    /// What became of the wish for the real-time class, for people.
    pub realtime: String,
    /// Whether the operator ended the run early.
    pub interrupted: bool,
    /// Cycles of the decider in which something happened.
    pub cycles: u64,
}

/// Runs a certified fleet. The calling thread becomes the driver until the end. Sporadic tasks have no clients; see
/// [`run_with`].
///
/// # Errors
/// What plan, budgets of groups, reservation, trace, device or a model refuse before the first release; nothing is left
/// behind then.
pub fn run(
    system: &System,
    prepared: &Prepared,
    certificate: Certificate,
    profile: Option<&Profile>,
    calibration: &Calibration,
    options: &RunOptions,
) -> Result<RunReport, RuntimeError> {
    run_with(system, prepared, certificate, profile, calibration, options, |_| {})
}

/// As [`run`], and hands the clients of the sporadic tasks, in the order of the tasks, to `ready` just before the
/// first release. What `ready` starts with them must end by itself: the run does not wait for it.
///
/// # Errors
/// As [`run`].
pub fn run_with(
    system: &System,
    prepared: &Prepared,
    certificate: Certificate,
    profile: Option<&Profile>,
    calibration: &Calibration,
    options: &RunOptions,
    ready: impl FnOnce(Vec<Client>),
) -> Result<RunReport, RuntimeError> {
    if options.poison {
        spare_queue(system.device().as_ref(), system.lane_count())?;
    }
    let set = &prepared.set;
    let slots = certified_slots(set, &certificate);
    let plan = system.plan(&system.demands(profile, &slots)?, system.room(profile))?;
    system.check_groups(set, profile, &slots)?;
    let mut trace = start_trace(system, set, options)?;
    let mut decisions = trace.producer("decisions", decision_ring(set))?;
    let thresholds = system.fleet().pressure();
    let ledger = Ledger::with_thresholds(system.room(profile), thresholds.clone());
    let now = system.clock().now();
    let reservation = PlanReservation::reserve(plan.clone(), &ledger, &mut decisions, now)?;
    plan.record_holders(&thresholds, &mut decisions, now);
    let ports = ports(system, set, &slots);
    let (blocks, keep) = (system.exchange_blocks(&slots), options.keep_outputs);
    let setup = Setup { slots: &slots, ports: &ports, blocks, keep, probe: false };
    let berths = Berths::new(system, reservation, setup)?;
    let rings = carrier_rings(&mut trace, system.lane_count(), decision_ring(set) / 4)?;
    let poisoned = plan.lanes().iter().filter(|_| options.poison);
    let scratch = poisoned.map(|lane| (lane.lane, lane.extent)).collect();
    let lanes = lane_specs(system, berths, rings, &scratch);
    let writer = TraceWriter::start(trace, FLUSH)?;
    let outcome = {
        let _last_words = LastWords(&writer);
        let stage = Stage { system, set, calibration, options, ports: &ports };
        stage.serve(certificate, lanes, &mut decisions, ready)
    };
    // Also after an error: clients that `ready` started wait for what they submitted.
    ports.iter().flatten().for_each(|port| port.close());
    let trace = writer.stop();
    drop(decisions);
    let Served { tally, lanes, realtime, cycles } = match outcome {
        Ok(served) => served,
        Err(error) => {
            // What was traced before the error is closed in order; the error is what the caller hears of.
            let _closed = trace.and_then(|trace| trace.finish(BTreeMap::new()));
            return Err(error);
        }
    };
    let summary = serde_json::to_vec(&tally.summary()).unwrap_or_default();
    let trace = trace.and_then(|trace| trace.finish(BTreeMap::from([("summary".to_owned(), summary)])));
    let interrupted = options.control.is_asked();
    Ok(RunReport { tally, lanes, plan, trace, realtime, interrupted, cycles })
}

/// What the served part of a run leaves.
struct Served {
    tally: Tally,
    lanes: Vec<LaneReport>,
    realtime: String,
    cycles: u64,
}

/// Flushes the trace if the driver panics, and ends the process: a decider that is wrong must not go on.
struct LastWords<'a>(&'a TraceWriter);

impl Drop for LastWords<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // There is nobody left to tell that even the trace is lost.
            let _lost = self.0.flush();
            std::process::abort();
        }
    }
}

/// What a run is served with.
struct Stage<'a> {
    system: &'a System,
    set: &'a TaskSet,
    calibration: &'a Calibration,
    options: &'a RunOptions,
    ports: &'a [Option<Arc<Port>>],
}

impl Stage<'_> {
    fn serve(
        self,
        certificate: Certificate,
        lanes: Vec<LaneSpec>,
        decisions: &mut RingProducer,
        ready: impl FnOnce(Vec<Client>),
    ) -> Result<Served, RuntimeError> {
        let Self { system, set, calibration, options, ports } = self;
        let clock = system.clock();
        let (driver, waiting) = (std::thread::current(), options.waiting);
        let carriers = CrewOptions { waiting, realtime: options.realtime, launch: system.fleet().launch() };
        let crew = Crew::start(system.device(), clock, &driver, carriers, lanes)?;
        options.control.attach(driver);
        let plant = HostPlant::new(clock, &crew, ports.to_vec(), Arc::clone(&options.control), waiting);
        let mut tally = Tally::new(set, &certificate);
        let now = clock.now();
        admitted(set, &certificate, now, decisions);
        let client = |port: &Arc<Port>| Client::new(Arc::clone(port), std::thread::current());
        ready(ports.iter().flatten().map(client).collect());
        // After `ready`, because threads inherit the class of who starts them.
        let realtime = realtime::enter(Role::Driver, options.realtime);
        // The first releases lie a moment ahead, so that none is late because the engine was still being made.
        let start = clock.now().saturating_add(Nanos::from_millis(20));
        let engine = Engine::new(set, certificate, Box::new(Arc::clone(system.policy())), start)?;
        let sporadic = ports.iter().flatten().map(|port| port.task()).collect();
        let mut driver = Driver::new(engine, plant, sporadic, calibration.overheads.stall);
        let mut counted = Counted { live: &options.live, tally: &mut tally, next: decisions };
        driver.run(start.saturating_add(options.duration), GRACE, &mut counted);
        let cycles = driver.cycles();
        realtime::leave(options.realtime);
        drop(driver);
        let lanes = crew.join(Duration::from_nanos(GRACE.get()))?;
        Ok(Served { tally, lanes, realtime, cycles })
    }
}

/// Input slots of each task: as many as its certificate lets be pending.
fn certified_slots(set: &TaskSet, certificate: &Certificate) -> Vec<u32> {
    let queue = |id: TaskId| certificate.task(id).map_or(1, |(lane, position)| lane.tasks()[position].queue);
    set.tasks().iter().map(|task| queue(task.id).max(1)).collect()
}

fn admitted(set: &TaskSet, certificate: &Certificate, now: Time, sink: &mut dyn Sink) {
    for task in set.tasks() {
        if let Some((lane, position)) = certificate.task(task.id) {
            let certified = &lane.tasks()[position];
            let record = TaskAdmitted {
                task: task.id,
                lane: lane.lane(),
                wcrt: certified.wcrt,
                deadline: certified.deadline,
                tolerance: lane.tolerance(),
                queue: certified.queue.into(),
            };
            sink.emit(record.at(now));
        }
    }
}

/// Room for twice the certified rate of records between two flushes.
fn decision_ring(set: &TaskSet) -> usize {
    let per_flush = |task: &aegis_sched::Task| FLUSH.get().div_ceil(task.period.get().max(1)) + 1;
    let jobs: u64 = set.tasks().iter().map(per_flush).sum();
    let records = jobs.saturating_mul(RECORDS_PER_JOB * 2).clamp(4_096, 1 << 20);
    usize::try_from(records).unwrap_or(1 << 20)
}

fn carrier_rings(
    trace: &mut TraceCollector,
    lanes: usize,
    capacity: usize,
) -> Result<Vec<RingProducer>, RuntimeError> {
    (0..lanes).map(|lane| Ok(trace.producer(&format!("carrier-{lane}"), capacity)?)).collect()
}

/// The trace with everything in its head that a replay needs: fleet, tasks, policy, certified numbers.
fn start_trace(system: &System, set: &TaskSet, options: &RunOptions) -> Result<TraceCollector, RuntimeError> {
    let names: Vec<&str> = set.tasks().iter().map(|task| task.name.as_str()).collect();
    let json = |value: serde_json::Result<Vec<u8>>| value.unwrap_or_default();
    let blobs = BTreeMap::from([
        (aegis_trace::read::TASKS_BLOB.to_owned(), json(serde_json::to_vec(&names))),
        ("fleet".to_owned(), system.fleet().to_toml().into_bytes()),
        ("taskset".to_owned(), json(serde_json::to_vec(set))),
        ("policy".to_owned(), system.policy().name().as_bytes().to_vec()),
    ]);
    let mode = match &options.trace {
        Some(path) => TraceMode::File(path.clone()),
        None => TraceMode::Memory { records: 1 << 18 },
    };
    let schemas = schemas();
    let epoch = crate::machine::wall_clock();
    Ok(TraceCollector::new(TraceOptions { mode, schemas, epoch, blobs })?)
}

/// What every record means that a run emits.
fn schemas() -> Vec<Schema> {
    [aegis_types::records::SCHEMAS, engine::SCHEMAS, aegis_memory::SCHEMAS, aegis_context::watch::SCHEMAS]
        .concat()
}

/// For each task with clients where they submit to, with as many packets as its input slots ask for.
fn ports(system: &System, set: &TaskSet, slots: &[u32]) -> Vec<Option<Arc<Port>>> {
    let port = |model: &Model| {
        let sporadic = set.task(model.task).is_some_and(|task| task.arrival == Arrival::Sporadic);
        let pending = slots[model.task.index()] as usize;
        let (inputs, outputs) = (model.fed_inputs(), &model.description.outputs);
        sporadic.then(|| Arc::new(Port::new(model.task, pending, &inputs, outputs)))
    };
    system.models().iter().map(port).collect()
}

/// What the models of a plan are loaded with.
struct Setup<'a> {
    /// Input slots of each task.
    slots: &'a [u32],
    /// Where clients submit to, by task; tasks without clients have prepared inputs.
    ports: &'a [Option<Arc<Port>>],
    /// Blocks of the exchange memory of each task, where they are known; see [`PlanReservation::into_grants_with`].
    blocks: Vec<Vec<Bytes>>,
    keep: usize,
    /// Whether the outputs of every job are read, as a client would.
    probe: bool,
}

/// The models to be loaded, by lane, and the region that their memory is in.
pub(crate) struct Berths {
    models: BTreeMap<LaneId, Vec<ModelSpec>>,
    region: Arc<dyn DeviceMemory>,
}

impl Berths {
    fn new(system: &System, reservation: PlanReservation, setup: Setup<'_>) -> Result<Self, RuntimeError> {
        let size = reservation.plan().peak().max(Bytes::new(1));
        let region = system.device().reserve(MemorySpace::Device, size)?;
        let mut staging = system.reserve_staging(setup.slots)?;
        let mut models: BTreeMap<LaneId, Vec<ModelSpec>> = BTreeMap::new();
        let blocks = |task: TaskId| setup.blocks.get(task.index()).cloned().unwrap_or_default();
        for grants in reservation.into_grants_with(ARENA_LINES, blocks) {
            for grant in grants.tasks {
                let task = grant.owner();
                let model = system.models()[task.index()].clone();
                let source = match setup.ports.get(task.index()) {
                    Some(Some(port)) => Source::Port(Arc::clone(port)),
                    _ => Source::Feed(model.feed()?),
                };
                models.entry(grants.lane).or_default().push(ModelSpec {
                    model,
                    grant: Box::new(grant),
                    region: Arc::clone(&region),
                    staging: staging.get_mut(task.index()).and_then(Option::take),
                    slots: setup.slots[task.index()],
                    source,
                    probe: setup.probe,
                    keep: setup.keep,
                });
            }
        }
        Ok(Self { models, region })
    }

    /// Models that are measured: every budget is granted in full, because nothing is known yet. Outputs are read as for a
    /// client, so that this is in what is measured, and backends may take what they did not declare.
    pub(crate) fn unmeasured(system: &System) -> Result<Self, RuntimeError> {
        let slots = vec![SLOTS_PROFILED; system.models().len()];
        let capacity = system.device().context().memory;
        let plan = system.plan(&system.demands(None, &slots)?, capacity)?;
        let ledger = Ledger::new(capacity);
        let reservation = PlanReservation::reserve(plan, &ledger, &mut Discard, system.clock().now())?;
        let setup = Setup { slots: &slots, ports: &[], blocks: Vec::new(), keep: 0, probe: true };
        Self::new(system, reservation, setup)
    }

    /// The models of a lane, each lane's once.
    pub(crate) fn take(&mut self, lane: LaneId) -> Vec<ModelSpec> {
        self.models.remove(&lane).unwrap_or_default()
    }
}

/// The carriers to be, by lane. Where `scratch` has a lane's place, it is overwritten before every segment.
fn lane_specs(
    system: &System,
    mut berths: Berths,
    rings: Vec<RingProducer>,
    scratch: &BTreeMap<LaneId, Extent>,
) -> Vec<LaneSpec> {
    let spec = |((lane, partition, own_carrier), ring): ((LaneId, PartitionId, bool), RingProducer)| {
        let models = berths.take(lane);
        let poison = scratch.get(&lane).map(|extent| (Arc::clone(&berths.region), *extent));
        let make = move |lane| Ok(Box::new(LaneModels::load(lane, models, poison)?) as Box<dyn Work>);
        LaneSpec { lane, partition, own_carrier, make: Box::new(make), sink: Box::new(ring) }
    };
    system.places().zip(rings).map(spec).collect()
}

/// Starts the carriers of a fleet for profiling: every budget is granted in full, because nothing is known yet. The
/// calling thread drives. Everybody waits as the fleet says.
///
/// # Errors
/// As [`run`].
pub fn with_crew<R>(
    system: &System,
    realtime: bool,
    drive: impl FnOnce(&mut HostPlant) -> R,
) -> Result<(R, Vec<LaneReport>), RuntimeError> {
    let berths = Berths::unmeasured(system)?;
    let options = TraceOptions {
        mode: TraceMode::Memory { records: 64 },
        schemas: schemas(),
        epoch: String::new(),
        blobs: BTreeMap::new(),
    };
    let mut trace = TraceCollector::new(options)?;
    let rings = carrier_rings(&mut trace, system.lane_count(), 4_096)?;
    // The writer runs as in production, so that it lies inside what is measured.
    let writer = TraceWriter::start(trace, FLUSH)?;
    let lanes = lane_specs(system, berths, rings, &BTreeMap::new());
    let waiting = Waiting::from(system.fleet().wait());
    let clock = system.clock();
    let carriers = CrewOptions { waiting, realtime, launch: system.fleet().launch() };
    let crew = Crew::start(system.device(), clock, &std::thread::current(), carriers, lanes)?;
    let _told = realtime::enter(Role::Driver, realtime);
    let control = Arc::new(ControlRequest::default());
    let mut plant = HostPlant::new(clock, &crew, Vec::new(), control, waiting);
    let result = drive(&mut plant);
    realtime::leave(realtime);
    drop(plant);
    let lanes = crew.join(Duration::from_nanos(GRACE.get()));
    writer.stop()?;
    Ok((result, lanes?))
}
