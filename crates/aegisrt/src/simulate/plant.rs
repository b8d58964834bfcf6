//! The simulated world as the driver sees it: lanes of the simulated device, clients and a clock in virtual time.
//!
//! The driver is the one of production. What it would spend is paid in virtual time where it would be spent: looking
//! before the stamp, handling and dispatching after it, waking up after an event. No step takes longer than its
//! calibrated maximum, so the assumptions of the theorem hold unless a fault was planned.

use std::sync::Arc;

use aegis_cuda::sim::{Fault, FaultKind, FaultTrigger, LaunchFault};
use aegis_cuda::{
    CompletionFlag, Device, DeviceError, PartitionRequest, SimClock, SimDevice, SimOptions, SimStream,
    Stream, Units,
};
use aegis_sched::engine::{Answer, Dispatch};
use aegis_sched::exclusion::Exclusion;
use aegis_sched::platform::ChargedTask;
use aegis_sched::{Arrival, Overheads, Task, TaskSet, charge};
use aegis_types::records::{Control, SegmentOutcome, SegmentRan};
use aegis_types::{DispatchSeq, JobId, LaneId, Nanos, PartitionId, RawRecord, Record, TaskId, Time};

use super::clients::Clients;
use super::faults::{FaultPlan, PlannedStrike, Strike};
use super::generate::{Latency, Scenario};
use crate::driver::Plant;
use crate::feed::SplitMix;
use crate::online::Changeable;

/// Memory of the simulated device; the light work reserves none of it.
const MEMORY: u64 = 64 << 20;
/// Units of the simulated device: enough for a partition of one for each lane.
const UNITS: u32 = 8;

/// What runs on the lanes of a simulation, and the lanes themselves.
pub trait SimWork {
    /// The completion flag of each lane, by number.
    fn flags(&self) -> Vec<Arc<dyn CompletionFlag>>;

    /// Launches a segment that occupies its lane for `span` before contention, and the store of its flag.
    fn launch(&mut self, command: &Dispatch, span: Nanos) -> SegmentOutcome;

    /// The driver saw the segment's flag.
    fn landed(&mut self, command: &Dispatch, outcome: SegmentOutcome);
}

/// Work without data: spans of virtual time.
pub struct Spans {
    streams: Vec<Box<dyn Stream>>,
}

impl Spans {
    /// Binds every lane of the set.
    ///
    /// # Errors
    /// [`DeviceError`] if a lane cannot be bound.
    pub fn bind(device: &SimDevice, set: &TaskSet) -> Result<Self, DeviceError> {
        let streams = lanes(set)
            .map(|(partition, lane)| device.bind_lane(partition, lane))
            .collect::<Result<_, _>>()?;
        Ok(Self { streams })
    }
}

/// The lanes of a set with their partitions, by number.
pub fn lanes(set: &TaskSet) -> impl Iterator<Item = (PartitionId, LaneId)> {
    let numbered = (0u16..).take(set.platform().lanes()).map(LaneId::new);
    numbered.filter_map(|lane| Some((set.platform().partition_of(lane)?, lane)))
}

impl SimWork for Spans {
    fn flags(&self) -> Vec<Arc<dyn CompletionFlag>> {
        self.streams.iter().map(|stream| stream.flag()).collect()
    }

    fn launch(&mut self, command: &Dispatch, span: Nanos) -> SegmentOutcome {
        let stream = &mut self.streams[command.lane.index()];
        let occupied =
            stream.as_any_mut().downcast_mut::<SimStream>().map(|stream| stream.occupy(span, None));
        let outcome = match occupied {
            Some(Ok(())) => SegmentOutcome::Done,
            Some(Err(LaunchFault::NotStarted)) => SegmentOutcome::NotStarted,
            Some(Err(LaunchFault::Failed | LaunchFault::Lost(_))) | None => SegmentOutcome::Failed,
        };
        match stream.signal(command.dispatch) {
            Ok(()) => outcome,
            Err(_) => SegmentOutcome::Failed,
        }
    }

    fn landed(&mut self, _: &Dispatch, _: SegmentOutcome) {}
}

struct LaneState {
    flag: Arc<dyn CompletionFlag>,
    outcome: SegmentOutcome,
    in_flight: Option<Dispatch>,
    /// When the launch call of the segment was entered.
    entered: Time,
    /// The cycle in which the last segment was seen to end.
    landed: u64,
}

/// How the segments of a task behave.
#[derive(Clone, Debug)]
pub struct Behaviour {
    /// Longest span of each segment before contention.
    pub longest: Vec<Nanos>,
    /// The shortest, as a share of the longest in parts per million.
    pub shortest_ppm: u64,
    /// How many of 256 segments take their longest.
    pub longest_share: u64,
}

/// The simulated world.
pub struct SimPlant<W> {
    /// What runs.
    pub work: W,
    /// Launches on a lane that had a segment in flight; a correct runtime leaves it empty.
    pub collisions: Vec<(Time, LaneId)>,
    /// Launches of a job while one that it excludes was in flight; a correct runtime leaves it empty.
    pub meetings: Vec<(Time, JobId, JobId)>,
    /// Planned strikes that met their launch.
    pub struck: u64,
    /// What carriers would record, for blame.
    pub ran: Vec<RawRecord>,
    clock: SimClock,
    device: Arc<SimDevice>,
    lanes: Vec<LaneState>,
    clients: Clients,
    behaviours: Vec<Behaviour>,
    /// What is charged for execution, without waiting for excluded segments.
    charged: Vec<ChargedTask>,
    exclusion: Exclusion,
    strikes: Vec<PlannedStrike>,
    stalls: Vec<(Time, Nanos)>,
    draw: SplitMix,
    latency: Latency,
    overheads: Overheads,
    timers: u64,
    cycle: u64,
    /// Events seen in this cycle.
    landed: u64,
    arrived: u64,
    /// Time that handling takes and that was not spent yet.
    owed: Nanos,
    /// The largest stretch by contention, in parts per million.
    slowest: u128,
    /// Whether the sources of this cycle were looked at.
    looked: bool,
}

/// The simulated device of a scenario, divided into its partitions.
///
/// # Errors
/// [`DeviceError`] if the scenario does not fit the device.
pub fn device(set: &TaskSet, slowdown: &[u64]) -> Result<Arc<SimDevice>, DeviceError> {
    let lanes = u32::try_from(set.platform().lanes()).unwrap_or(u32::MAX);
    let options = SimOptions {
        units: UNITS,
        granularity: 1,
        memory: aegis_types::Bytes::new(MEMORY),
        lanes,
        slowdown: slowdown.to_vec(),
    };
    let device = SimDevice::new(options, SimClock::new())?;
    let request = |name: &String| PartitionRequest { name: name.clone(), units: Units::Count(1) };
    let requests: Vec<_> =
        set.platform().partitions.iter().map(|partition| request(&partition.name)).collect();
    device.partition(&requests)?;
    Ok(Arc::new(device))
}

impl<W: SimWork> SimPlant<W> {
    /// The world of a scenario, with `work` on its lanes and `plan` going wrong.
    pub fn new(
        scenario: &Scenario,
        charged: &[ChargedTask],
        device: Arc<SimDevice>,
        work: W,
        plan: &FaultPlan,
        seed: u64,
    ) -> Self {
        let (set, latency) = (&scenario.set, scenario.latency);
        let idle = |flag| LaneState {
            flag,
            outcome: SegmentOutcome::Done,
            in_flight: None,
            entered: Time::ZERO,
            landed: 0,
        };
        let lanes = work.flags().into_iter().map(idle).collect();
        let mut draw = SplitMix(seed);
        let clients = Clients::new(scenario, charged, &plan.floods, &mut draw);
        Self {
            work,
            collisions: Vec::new(),
            meetings: Vec::new(),
            struck: 0,
            ran: Vec::new(),
            clock: device.clock().clone(),
            device,
            lanes,
            timers: (set.tasks().len() - scenario.sporadic().count()) as u64,
            clients,
            behaviours: behaviours(scenario, charged),
            charged: executions(scenario, charged),
            exclusion: Exclusion::of(set),
            strikes: plan.strikes.clone(),
            stalls: plan.stalls.clone(),
            draw,
            latency,
            overheads: set.platform().overheads,
            cycle: 0,
            landed: 0,
            arrived: 0,
            owed: Nanos::ZERO,
            slowest: scenario.slowdown.iter().copied().max().unwrap_or(1_000_000).into(),
            looked: true,
        }
    }

    /// Whether some submission was taken and never answered.
    pub fn unanswered(&self) -> Option<String> {
        let counts = self.clients.counts;
        let answered = counts.accepted + counts.refused;
        (answered != counts.taken).then(|| format!("{} submissions, {answered} answers", counts.taken))
    }

    /// A drawn part of a step of the runtime.
    fn part(&mut self, most: Nanos) -> Nanos {
        match self.latency {
            Latency::Crisp => Nanos::ZERO,
            Latency::Drawn => Nanos::new(self.draw.below(most.get() + 1)),
            Latency::Slowest => most,
        }
    }

    fn pass(&self, span: Nanos) {
        self.clock.advance_to(self.clock.now().saturating_add(span));
    }

    fn pay(&mut self) {
        let owed = std::mem::take(&mut self.owed);
        self.pass(owed);
    }

    /// The first look of a cycle: what the last one still had to do is done.
    fn look(&mut self) {
        if self.looked {
            self.pay();
            self.looked = false;
            self.cycle += 1;
            (self.landed, self.arrived) = (0, 0);
        }
    }

    /// Launch-call entry to end of the segment, hand-off and lock included.
    fn span(&mut self, command: &Dispatch) -> Nanos {
        let behaviour = &self.behaviours[command.job.task.index()];
        let longest = behaviour.longest[command.segment.index()];
        if self.draw.below(256) < behaviour.longest_share {
            return longest;
        }
        let shortest = (u128::from(longest.get()) * u128::from(behaviour.shortest_ppm) / 1_000_000) as u64;
        Nanos::new((shortest + self.draw.below(longest.get() - shortest + 1)).max(1))
    }

    fn take_strike(&mut self, lane: LaneId) -> Option<Strike> {
        let now = self.clock.now();
        let opens = self.lanes[lane.index()].landed != self.cycle;
        let meets = |it: &PlannedStrike| it.lane == lane && it.from <= now && (opens || !it.opening);
        let position = self.strikes.iter().position(meets)?;
        self.struck += 1;
        Some(self.strikes.remove(position).strike)
    }

    /// Plans the strike on the device, whose next launch it meets. Returns the span to launch.
    fn inject(&mut self, strike: Strike, command: &Dispatch, span: Nanos) -> Nanos {
        let kind = match strike {
            Strike::Longer(extra) | Strike::Beyond(extra) => FaultKind::Longer(extra),
            Strike::Fails => FaultKind::Fails,
            Strike::NotStarted => FaultKind::NotStarted,
        };
        self.device.inject(Fault { lane: command.lane, trigger: FaultTrigger::From(Time::ZERO), kind });
        match strike {
            // The whole budget: what the driver spends before the launch and after the end comes on top.
            Strike::Beyond(_) => self.charged[command.job.task.index()].segments[command.segment.index()],
            Strike::Longer(_) | Strike::Fails | Strike::NotStarted => span,
        }
    }

    /// The next event, or this instant if one happened after its source was looked at: it would wake the driver at once.
    fn next_event(&self) -> Option<Time> {
        let unseen =
            |lane: &LaneState| lane.in_flight.is_some_and(|command| command.dispatch == lane.flag.load());
        if self.lanes.iter().any(unseen) {
            return Some(self.clock.now());
        }
        [self.device.next_completion(), self.clients.next_visible()].into_iter().flatten().min()
    }
}

/// What is charged for every segment when it need not wait for excluded ones. Each attempt at it may wait anew.
fn executions(scenario: &Scenario, charged: &[ChargedTask]) -> Vec<ChargedTask> {
    let tasks = scenario.set.tasks().iter().zip(&scenario.waits).zip(charged);
    let execution = |((task, wait), charged): ((&Task, &Nanos), &ChargedTask)| {
        let waits = Nanos::new(wait.get() * (u64::from(task.retries) + 1));
        let segments = charged.segments.iter().map(|segment| segment.saturating_sub(waits)).collect();
        ChargedTask { segments, jitter: charged.jitter }
    };
    tasks.map(execution).collect()
}

/// Crisp worlds spend nothing outside segments, so that segments take everything that is charged.
pub fn behaviours(scenario: &Scenario, charged: &[ChargedTask]) -> Vec<Behaviour> {
    let slowest = scenario.slowdown.iter().copied().max().unwrap_or(1_000_000);
    let tasks = scenario.set.tasks().iter().zip(&scenario.waits).zip(executions(scenario, charged));
    tasks
        .zip(scenario.shortest.iter().zip(&scenario.longest_share))
        .map(|(((task, &wait), charged), (&shortest_ppm, &longest_share))| {
            let longest = longest(task, wait, charged, (scenario.latency, slowest));
            Behaviour { longest, shortest_ppm, longest_share }
        })
        .collect()
}

/// Longest spans of a task's segments; `charged` is what is charged when none waits, `slowest` what contention makes of
/// them at most, in parts per million.
fn longest(task: &Task, wait: Nanos, charged: ChargedTask, (latency, slowest): (Latency, u64)) -> Vec<Nanos> {
    let alone = |bound: Nanos| Nanos::new((u128::from(bound.get()) * 1_000_000 / u128::from(slowest)) as u64);
    match latency {
        Latency::Crisp => charged.segments,
        Latency::Drawn | Latency::Slowest => {
            task.segments.iter().map(|it| alone(it.bound.saturating_sub(wait))).collect()
        }
    }
}

/// Tasks that come are as fast and as slow as they may be.
impl<W: SimWork> Changeable for SimPlant<W> {
    fn change(&mut self, set: &TaskSet, numbers: &[Option<TaskId>]) {
        // What is certified could be charged.
        let Ok(charged) = charge(set) else { return };
        let slowest = u64::try_from(self.slowest).unwrap_or(u64::MAX);
        let before = |number: Option<TaskId>| number.and_then(|number| self.behaviours.get(number.index()));
        let tasks = set.tasks().iter().zip(numbers).zip(&charged);
        let behaviours = tasks.map(|((task, &number), charged)| {
            let longest = longest(task, Nanos::ZERO, charged.clone(), (self.latency, slowest));
            let (shortest_ppm, longest_share) =
                before(number).map_or((300_000, 128), |it| (it.shortest_ppm, it.longest_share));
            Behaviour { longest, shortest_ppm, longest_share }
        });
        self.behaviours = behaviours.collect();
        let clients = set.tasks().iter().filter(|task| task.arrival == Arrival::Sporadic).count();
        self.timers = (set.tasks().len() - clients) as u64;
        self.clients.change(set, &charged, numbers, (self.latency, self.clock.now()), &mut self.draw);
        self.charged = charged;
        // Looking, and finding nothing, leaves nothing to handle.
        self.owed = Nanos::ZERO;
        self.overheads = set.platform().overheads;
        self.exclusion = Exclusion::of(set);
    }
}

impl<W: SimWork> Plant for SimPlant<W> {
    fn now(&self) -> Time {
        self.clock.now()
    }

    fn landed(&mut self, lane: LaneId) -> (DispatchSeq, SegmentOutcome) {
        self.look();
        let state = &mut self.lanes[lane.index()];
        let dispatch = state.flag.load();
        if let Some(command) = state.in_flight.take_if(|command| command.dispatch == dispatch) {
            state.landed = self.cycle;
            self.landed += 1;
            let Dispatch { job, lane, segment, dispatch, .. } = command;
            let (entered, left) = (state.entered, self.clock.now());
            self.ran.push(SegmentRan { job, lane, segment, dispatch, entered, left }.at(left));
            self.work.landed(&command, state.outcome);
        }
        (dispatch, state.outcome)
    }

    fn arrival(&mut self, task: TaskId) -> Option<u64> {
        self.look();
        let token = self.clients.take(task, self.clock.now(), &mut self.draw)?;
        self.arrived += 1;
        Some(token)
    }

    /// The last source of a cycle: looking is paid, and what handling will take is known.
    fn control(&mut self) -> Option<Control> {
        self.look();
        let o = self.overheads;
        let poll = self.part(o.poll);
        self.pass(poll);
        let lanes = self.lanes.len() as u64;
        let spans = [
            (o.completion, self.landed),
            (o.arrival, self.arrived),
            (o.release, self.timers),
            (o.decision, lanes),
        ];
        let most = spans.iter().fold(0, |sum, (span, count)| sum + span.get() * count);
        self.owed = self.part(Nanos::new(most));
        self.looked = true;
        None
    }

    fn launch(&mut self, command: &Dispatch) {
        self.pay();
        let dispatching = self.part(self.overheads.dispatch);
        self.pass(dispatching);
        let o = self.overheads;
        let locks = o.launch_lock.get() * (self.lanes.len() as u64 - 1);
        // Contention stretches the whole span, so the hand-off is scaled down like the segment.
        let slowest = self.slowest;
        let before = self.part(Nanos::new(((o.handoff.get() + locks) as u128 * 1_000_000 / slowest) as u64));
        let mut span = self.span(command);
        if let Some(strike) = self.take_strike(command.lane) {
            span = self.inject(strike, command, span);
        }
        let now = self.clock.now();
        let state = &mut self.lanes[command.lane.index()];
        if state.in_flight.is_some() {
            self.collisions.push((now, command.lane));
        }
        state.outcome = self.work.launch(command, span.saturating_add(before));
        let meets = |other: &&Dispatch| self.exclusion.excludes(command.job.task, other.job.task);
        let others = self.lanes.iter().filter_map(|lane| lane.in_flight.as_ref()).filter(meets);
        self.meetings.extend(others.map(|other| (now, command.job, other.job)));
        let state = &mut self.lanes[command.lane.index()];
        state.in_flight = Some(*command);
        state.entered = now.saturating_add(before);
    }

    fn answer(&mut self, answer: &Answer) {
        self.clients.answered(answer);
    }

    fn wait(&mut self, until: Option<Time>) -> Nanos {
        // The driver waits only after a cycle in which nothing happened.
        self.owed = Nanos::ZERO;
        let now = self.clock.now();
        let Some(target) = [until, self.next_event()].into_iter().flatten().min() else { return Nanos::ZERO };
        if target <= now {
            return Nanos::ZERO;
        }
        let mut late = self.part(self.overheads.wakeup);
        if self.stalls.first().is_some_and(|stall| stall.0 <= target) {
            late = late.saturating_add(self.stalls.remove(0).1);
        }
        self.clock.advance_to(target.saturating_add(late));
        late
    }
}
