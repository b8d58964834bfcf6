//! A run: plan and reserve memory, start the trace and the carriers, drive, and close everything in order.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aegis_context::Staging;
use aegis_cuda::{DeviceMemory, MemorySpace};
use aegis_memory::{Ledger, MemoryPlan, PlanReservation};
use aegis_sched::engine::{self, Engine};
use aegis_sched::{Arrival, Certificate, TaskSet};
use aegis_trace::{Finished, RingProducer, TraceCollector, TraceMode, TraceOptions, TraceWriter};
use aegis_types::records::TaskAdmitted;
use aegis_types::{Bytes, LaneId, Nanos, Record, Schema, Sink, TaskId, Time};

use crate::carrier::{Crew, CrewOptions, LaneReport, LaneSpec, Work};
use crate::client::{Client, Port};
use crate::config::{Calibration, Prepared, Profile};
use crate::driver::Driver;
use crate::error::RuntimeError;
use crate::live::{Live, Watched};
use crate::models::{LaneModels, ModelSpec, Source};
use crate::plant::{ControlRequest, HostPlant, Waiting};
use crate::realtime::{self, Role};
use crate::system::device::spare_queue;
use crate::system::{SLOTS_PROFILED, System};
use crate::tally::{Counted, Tally};

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
    /// Whether the lane's scratch is overwritten before every job: what survives in it is then nobody's data.
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
    /// The trace.
    pub trace: Finished,
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
        spare_queue(system.device().as_ref(), system.by_lane().len())?;
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
    let region = reserve_region(system, &plan)?;
    let staging = system.reserve_staging(&slots)?;
    let sources = sources(system, set, &slots)?;
    let ports = sources.iter().map(Source::port).collect();
    let rings = carrier_rings(&mut trace, system.by_lane().len(), decision_ring(set) / 4)?;
    let setup = Setup {
        slots: &slots,
        staging: &staging,
        blocks: system.exchange_blocks(&slots),
        keep: options.keep_outputs,
        probe: false,
        poison: options.poison,
    };
    let lanes = lane_specs(system, &plan, reservation, &region, sources, rings, &setup);
    let writer = TraceWriter::start(trace, FLUSH)?;
    let outcome = {
        let _last_words = LastWords(&writer);
        let stage = Stage { system, set, calibration, options, ports };
        stage.serve(certificate, lanes, &mut decisions, ready)
    };
    let trace = writer.stop()?;
    drop(decisions);
    let Served { tally, lanes, realtime, cycles } = match outcome {
        Ok(served) => served,
        Err(error) => {
            // What was traced before the error is closed in order; the error is what the caller hears of.
            let _closed = trace.finish(BTreeMap::new());
            return Err(error);
        }
    };
    let summary = serde_json::to_vec(&tally.summary()).unwrap_or_default();
    let trace = trace.finish(BTreeMap::from([("summary".to_owned(), summary)]))?;
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
    ports: Vec<Option<Arc<Port>>>,
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
        let carriers = CrewOptions { waiting, realtime: options.realtime };
        let crew = Crew::start(system.device(), clock, &driver, carriers, lanes)?;
        options.control.attach(driver);
        let plant = HostPlant::new(clock, crew.ports(), ports.clone(), Arc::clone(&options.control), waiting);
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
        let mut counted = Counted { tally: &mut tally, next: decisions };
        let mut watched = Watched { live: &options.live, next: &mut counted };
        driver.run(start.saturating_add(options.duration), GRACE, &mut watched);
        let cycles = driver.cycles();
        realtime::leave(options.realtime);
        drop(driver);
        let lanes = crew.join(Duration::from_nanos(GRACE.get()));
        for port in ports.iter().flatten() {
            port.close();
        }
        Ok(Served { tally, lanes: lanes?, realtime, cycles })
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

fn reserve_region(system: &System, plan: &MemoryPlan) -> Result<Arc<dyn DeviceMemory>, RuntimeError> {
    let size = plan.peak().get().max(1);
    Ok(system.device().reserve(MemorySpace::Device, Bytes::new(size))?)
}

/// Where the inputs of each task come from.
fn sources(system: &System, set: &TaskSet, slots: &[u32]) -> Result<Vec<Source>, RuntimeError> {
    let source = |model: &crate::inventory::Model| match set.task(model.task).map(|task| task.arrival) {
        Some(Arrival::Sporadic) => {
            let pending = slots[model.task.index()] as usize;
            let (inputs, outputs) = (model.fed_inputs(), &model.description.outputs);
            Ok(Source::Port(Arc::new(Port::new(model.task, pending, &inputs, outputs))))
        }
        _ => Ok(Source::Feed(model.feed()?)),
    };
    system.models().iter().map(source).collect()
}

/// What every lane is set up with.
struct Setup<'a> {
    slots: &'a [u32],
    staging: &'a [Option<Staging>],
    /// Blocks of the exchange memory of each task, where they are known; see [`PlanReservation::into_grants_with`].
    blocks: Vec<Vec<Bytes>>,
    keep: usize,
    /// Whether the outputs of every job are read, as a client would.
    probe: bool,
    poison: bool,
}

/// The carriers to be, by lane.
fn lane_specs(
    system: &System,
    plan: &MemoryPlan,
    reservation: PlanReservation,
    region: &Arc<dyn DeviceMemory>,
    sources: Vec<Source>,
    rings: Vec<RingProducer>,
    setup: &Setup<'_>,
) -> Vec<LaneSpec> {
    let mut sources: Vec<Option<Source>> = sources.into_iter().map(Some).collect();
    let mut models: BTreeMap<LaneId, Vec<ModelSpec>> = BTreeMap::new();
    let blocks = |task: TaskId| setup.blocks.get(task.index()).cloned().unwrap_or_default();
    for grants in reservation.into_grants_with(ARENA_LINES, blocks) {
        for grant in grants.tasks {
            let task = aegis_types::MemoryGrant::owner(&grant);
            let watched = grant.usage();
            let source = sources.get_mut(task.index()).and_then(Option::take);
            let model = system.models()[task.index()].clone();
            let slots = setup.slots[task.index()];
            if let Some(source) = source {
                let grant = Box::new(grant);
                let spec = ModelSpec {
                    model,
                    grant,
                    usage: watched,
                    region: Arc::clone(region),
                    staging: setup.staging.get(task.index()).cloned().flatten(),
                    slots,
                    source,
                    probe: setup.probe,
                    keep: setup.keep,
                };
                models.entry(grants.lane).or_default().push(spec);
            }
        }
    }
    let scratch = |lane: LaneId| plan.lanes().iter().find(|l| l.lane == lane).map(|l| l.extent);
    let specs = system.places().zip(rings).map(|((lane, partition, own_carrier), ring)| {
        let models = models.remove(&lane).unwrap_or_default();
        let poison =
            if setup.poison { scratch(lane).map(|extent| (Arc::clone(region), extent)) } else { None };
        LaneSpec {
            lane,
            partition,
            own_carrier,
            make: Box::new(
                move |lane| Ok(Box::new(LaneModels::load(lane, models, poison)?) as Box<dyn Work>),
            ),
            sink: Box::new(ring),
        }
    });
    specs.collect()
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
    let slots = vec![SLOTS_PROFILED; system.models().len()];
    let demands = system.demands(None, &slots)?;
    let plan = system.plan(&demands, system.device().context().memory)?;
    let ledger = Ledger::new(system.device().context().memory);
    let mut discard = aegis_types::record::Discard;
    let reservation = PlanReservation::reserve(plan.clone(), &ledger, &mut discard, system.clock().now())?;
    let region = reserve_region(system, &plan)?;
    let staging = system.reserve_staging(&slots)?;
    let feed = |model: &crate::inventory::Model| Ok(Source::Feed(model.feed()?));
    let sources = system.models().iter().map(feed).collect::<Result<Vec<_>, RuntimeError>>()?;
    let options = TraceOptions {
        mode: TraceMode::Memory { records: 64 },
        schemas: schemas(),
        epoch: String::new(),
        blobs: BTreeMap::new(),
    };
    let mut trace = TraceCollector::new(options)?;
    let rings = carrier_rings(&mut trace, system.by_lane().len(), 4_096)?;
    // The writer runs as in production, and outputs are read as for a client: both lie inside what is measured.
    let writer = TraceWriter::start(trace, FLUSH)?;
    // While profiling, backends may take what they did not declare.
    let blocks = Vec::new();
    let setup = Setup { slots: &slots, staging: &staging, blocks, keep: 0, probe: true, poison: false };
    let lanes = lane_specs(system, &plan, reservation, &region, sources, rings, &setup);
    let waiting = Waiting::from(system.fleet().wait());
    let clock = system.clock();
    let carriers = CrewOptions { waiting, realtime };
    let crew = Crew::start(system.device(), clock, &std::thread::current(), carriers, lanes)?;
    let _told = realtime::enter(Role::Driver, realtime);
    let ports = system.models().iter().map(|_| None).collect();
    let control = Arc::new(ControlRequest::default());
    let mut plant = HostPlant::new(clock, crew.ports(), ports, control, waiting);
    let result = drive(&mut plant);
    realtime::leave(realtime);
    drop(plant);
    let lanes = crew.join(Duration::from_nanos(GRACE.get()));
    writer.stop()?;
    Ok((result, lanes?))
}
