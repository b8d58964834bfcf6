//! The models from one plan, on lanes that share their scratch, in random order, all lanes at once: on the host a thread
//! for each, on a GPU one thread for all, as the runtime has it.

use std::sync::{Arc, Barrier, Mutex, PoisonError};

use aegis_context::{ALIGNMENT, Lane};
use aegis_cuda::{DeviceMemory, DeviceSlice};
use aegis_memory::{
    LaneGrants, LaneScratch, Ledger, LowestOffsetFirst, MemoryOrchestrator, MemoryPlan, PlanReservation,
    TaskGrant,
};
use aegis_types::record::Discard;
use aegis_types::{Bytes, DispatchSeq, Extent, LaneId, MemoryGrant, TaskId, Time};

use super::alone::{Alone, Needs};
use super::error::SharingError;
use super::runner::Runner;
use super::{Bed, LINES, Taken};

/// What scratch is overwritten with: as a number in any format neither zero nor harmless.
const POISON: u8 = 0xA5;

/// Bytes at the start of a lane's scratch that are looked at after a job. Arenas lend from the start, so that a job that
/// takes any scratch writes there.
const LOOK: usize = 256;

/// An output that was not what the same job gives with private memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// The task.
    pub task: TaskId,
    /// Its job.
    pub job: u64,
    /// The position of the output.
    pub output: usize,
}

/// What came of a run from one plan.
pub struct Together {
    /// How many lanes.
    pub lanes: u16,
    /// The plan.
    pub plan: MemoryPlan,
    /// The most that each task held, by task.
    pub needs: Vec<Needs>,
    /// Jobs that ran.
    pub jobs: u64,
    /// Jobs that left something in the poisoned scratch.
    pub dirtied: u64,
    /// Outputs that differ.
    pub wrong: Vec<Wrong>,
    /// Blocks that no task could be charged with.
    pub uncharged: u64,
    /// What the system says.
    pub taken: Taken,
}

impl Together {
    /// Runs the jobs of `order`, dealt to `lanes` lanes task by task, and compares each with its like in `alone`, which
    /// was made of the same order.
    ///
    /// # Errors
    /// [`SharingError::Lanes`]; what device, library or memory refuse.
    pub fn run(bed: &Bed, alone: &Alone, order: &[TaskId], lanes: u16) -> Result<Self, SharingError> {
        let tasks = bed.models.len();
        if lanes == 0 || usize::from(lanes) > tasks {
            return Err(SharingError::Lanes { lanes, tasks });
        }
        // Fewer tasks than u16 numbers.
        let dealt: Vec<LaneId> = (0..tasks).map(|task| LaneId::new(task as u16 % lanes)).collect();
        let orchestrator = MemoryOrchestrator::with_align(ALIGNMENT)?;
        let capacity = bed.ground.capacity();
        let plan = orchestrator.plan(&alone.demands(&dealt), capacity, &LowestOffsetFirst)?;
        let reservation =
            PlanReservation::reserve(plan.clone(), &Ledger::new(capacity), &mut Discard, Time::ZERO)?;
        let (before, used) = (bed.uncharged(), bed.ground.used()?);
        let region = bed.ground.reserve(plan.peak())?;
        let threads = if bed.is_on_gpu() { 1 } else { usize::from(lanes) };
        let together = Barrier::new(threads + 1);
        let stage = Stage { bed, alone, order, plan: &plan, region, together, loading: Mutex::default() };
        let (reports, [loaded, ran]) = stage.play(reservation.into_grants(LINES), plan.lanes())?;
        let since = |now: Bytes| Bytes::new(now.get().saturating_sub(used.get()));
        let taken = Taken { loaded: since(loaded), ran: since(ran), reserved: plan.peak() };
        let mut report = Self {
            lanes,
            plan,
            needs: vec![Needs::default(); tasks],
            jobs: 0,
            dirtied: 0,
            wrong: Vec::new(),
            uncharged: bed.uncharged() - before,
            taken,
        };
        for part in reports {
            report.jobs += part.jobs;
            report.dirtied += part.dirtied;
            report.wrong.extend(part.wrong);
            for (task, needs) in part.needs {
                report.needs[task.index()] = needs;
            }
        }
        Ok(report)
    }

    /// The most that all tasks together can have held: what each held of its own, and the largest need of each lane.
    pub fn measured(&self) -> Bytes {
        let own = |needs: &Needs| needs.persistent.get() + needs.exchange.get();
        let lane = |lane: &LaneScratch| {
            let tasks = self.plan.tasks().iter().filter(|share| share.lane == lane.lane);
            tasks.map(|share| self.needs[share.task.index()].scratch.get()).max().unwrap_or(0)
        };
        let private: u64 = self.needs.iter().map(own).sum();
        Bytes::new(private + self.plan.lanes().iter().map(lane).sum::<u64>())
    }

    /// What the plan gives beside weights: scratch of every lane, inputs, outputs and recurrent state.
    pub fn without_weights(&self) -> Bytes {
        let exchange: u64 = self.plan.tasks().iter().map(|share| share.exchange.len.get()).sum();
        let scratch: u64 = self.plan.lanes().iter().map(|lane| lane.extent.len.get()).sum();
        Bytes::new(exchange + scratch)
    }

    /// What the tasks would take with scratch of their own.
    pub fn private(&self) -> Bytes {
        let share = |share: &aegis_memory::TaskShare| share.private.get() + share.shared.get();
        Bytes::new(self.plan.tasks().iter().map(share).sum())
    }

    /// Whether every task held in the end exactly what the plan gives it, up to the alignment of sizes.
    pub fn equals_plan(&self) -> bool {
        self.plan.tasks().iter().all(|share| {
            let needs = &self.needs[share.task.index()];
            let up = |bytes: Bytes| bytes.checked_align_up(self.plan.parts().align);
            up(needs.persistent) == Some(share.persistent.len)
                && up(needs.exchange) == Some(share.exchange.len)
                && up(needs.scratch) == Some(share.shared)
        })
    }
}

/// What all lanes have in common.
struct Stage<'a> {
    bed: &'a Bed,
    alone: &'a Alone,
    order: &'a [TaskId],
    plan: &'a MemoryPlan,
    region: Arc<dyn DeviceMemory>,
    /// Where lanes wait for each other and for whoever looks at the memory in use: when every model is loaded, so that
    /// jobs of all lanes run at once, and when all jobs have run.
    together: Barrier,
    /// Models are loaded one at a time, as the runtime loads them.
    loading: Mutex<()>,
}

/// What one lane did.
struct Part {
    jobs: u64,
    dirtied: u64,
    wrong: Vec<Wrong>,
    needs: Vec<(TaskId, Needs)>,
}

impl Stage<'_> {
    /// What the lanes did, and the memory in use when all was loaded and when all jobs had run.
    fn play(
        &self,
        grants: Vec<LaneGrants>,
        lanes: &[LaneScratch],
    ) -> Result<(Vec<Part>, [Bytes; 2]), SharingError> {
        let seats = (0..).zip(grants.into_iter().zip(lanes));
        let mut crews: Vec<Vec<Seat>> = seats
            .map(|(number, (lane, scratch))| {
                vec![Seat { number, grants: lane.tasks, scratch: scratch.extent }]
            })
            .collect();
        if self.bed.is_on_gpu() {
            crews = vec![crews.into_iter().flatten().collect()];
        }
        std::thread::scope(|scope| {
            let spawn = |seats: Vec<Seat>| scope.spawn(move || self.carry(seats));
            let threads: Vec<_> = crews.into_iter().map(spawn).collect();
            let looks = [(); 2].map(|()| {
                self.together.wait();
                let used = self.bed.ground.used();
                self.together.wait();
                used
            });
            let parts =
                threads.into_iter().map(|thread| thread.join().map_err(|_| SharingError::Panicked)?);
            let parts = parts.collect::<Result<Vec<_>, SharingError>>()?;
            let [loaded, ran] = looks;
            Ok((parts.into_iter().flatten().collect(), [loaded?, ran?]))
        })
    }

    /// The thread of some lanes. Whatever becomes of it, the others are not kept waiting.
    fn carry(&self, seats: Vec<Seat>) -> Result<Vec<Part>, SharingError> {
        let ready = seats.into_iter().map(|seat| Carried::load(self, seat)).collect::<Result<Vec<_>, _>>();
        self.together.wait();
        self.together.wait();
        let ended = ready.and_then(|mut lanes| {
            while lanes.iter().any(|lane| lane.next < self.order.len()) {
                lanes.iter_mut().try_for_each(|lane| lane.start(self))?;
                lanes.iter_mut().try_for_each(|lane| lane.finish(self))?;
            }
            Ok(lanes)
        });
        self.together.wait();
        self.together.wait();
        Ok(ended?.into_iter().map(Carried::end).collect())
    }

    /// What a task may use of its lane's scratch.
    fn share(&self, task: TaskId) -> Bytes {
        self.plan.task(task).map_or(Bytes::MAX, |share| share.shared)
    }
}

/// A lane that is to be carried.
struct Seat {
    number: u16,
    grants: Vec<TaskGrant>,
    scratch: Extent,
}

/// A lane on its thread.
struct Carried<'a> {
    /// Dropped before their lane.
    runners: Vec<(TaskId, Runner<'a>)>,
    lane: Lane,
    dispatch: DispatchSeq,
    poison: Poison<'a>,
    /// The place in the order that is looked at next.
    next: usize,
    /// The runner whose job was launched.
    flying: Option<usize>,
    part: Part,
}

impl<'a> Carried<'a> {
    fn load(stage: &'a Stage<'_>, seat: Seat) -> Result<Self, SharingError> {
        let _one_at_a_time = stage.loading.lock().unwrap_or_else(PoisonError::into_inner);
        let ground = &stage.bed.ground;
        let mut lane = ground.lane(seat.number)?;
        let mut runners = Vec::with_capacity(seat.grants.len());
        for grant in seat.grants {
            let task = grant.owner();
            let what = (&stage.bed.models[task.index()], &stage.bed.feeds[task.index()]);
            runners.push((task, Runner::load(ground, &mut lane, what, grant, &stage.region)?));
        }
        let dispatch = DispatchSeq::new(lane.flag().load().get());
        let poison = Poison::new(&stage.region, seat.scratch)?;
        let part = Part { jobs: 0, dirtied: 0, wrong: Vec::new(), needs: Vec::new() };
        Ok(Self { runners, lane, dispatch, poison, next: 0, flying: None, part })
    }

    /// Launches the lane's next job, if there is one.
    fn start(&mut self, stage: &Stage<'_>) -> Result<(), SharingError> {
        while let Some(task) = stage.order.get(self.next) {
            self.next += 1;
            let Some(index) = self.runners.iter().position(|(own, _)| own == task) else { continue };
            let Self { runners, lane, dispatch, poison, .. } = self;
            runners[index].1.start(lane, dispatch, &mut || poison.spread())?;
            self.flying = Some(index);
            return Ok(());
        }
        Ok(())
    }

    /// Ends what was launched, and compares it.
    fn finish(&mut self, stage: &Stage<'_>) -> Result<(), SharingError> {
        let Some(index) = self.flying.take() else { return Ok(()) };
        let Self { runners, lane, poison, part, .. } = self;
        let (task, runner) = &mut runners[index];
        let job = runner.jobs();
        let outputs = runner.finish(lane)?;
        let expected = stage.alone.outputs(*task, job);
        let differ = (0..expected.len()).filter(|&at| outputs[at] != expected[at]);
        part.wrong.extend(differ.map(|output| Wrong { task: *task, job, output }));
        part.jobs += 1;
        part.dirtied += u64::from(poison.is_dirty()?);
        poison.dirty = stage.share(*task).min(poison.extent.len);
        Ok(())
    }

    fn end(mut self) -> Part {
        self.part.needs = self.runners.iter().map(|(task, runner)| (*task, runner.needs())).collect();
        self.part
    }
}

/// Overwrites a lane's scratch, so that whatever survives in it from one job to the next is nobody's data.
struct Poison<'a> {
    region: &'a Arc<dyn DeviceMemory>,
    extent: Extent,
    bytes: Vec<u8>,
    look: Vec<u8>,
    /// Bytes from the start that may not be poison.
    dirty: Bytes,
}

impl<'a> Poison<'a> {
    fn new(region: &'a Arc<dyn DeviceMemory>, extent: Extent) -> Result<Self, SharingError> {
        let length = usize::try_from(extent.len.get()).unwrap_or(0);
        let look = vec![POISON; LOOK.min(length)];
        Ok(Self { region, extent, bytes: vec![POISON; length], look, dirty: extent.len })
    }

    /// Between segments only: a region lends each byte once. Overwrites what the job before may have written, which is
    /// confined to as many bytes from the start as its task has of the lane's scratch; at first all of it.
    fn spread(&mut self) -> Result<(), SharingError> {
        let len = self.dirty;
        let bytes = usize::try_from(len.get()).unwrap_or(0);
        DeviceSlice::lend(self.region, Extent { len, ..self.extent })?.write(&self.bytes[..bytes]);
        Ok(())
    }

    /// Whether something was written since.
    fn is_dirty(&mut self) -> Result<bool, SharingError> {
        DeviceSlice::lend(self.region, self.extent)?.read(&mut self.look);
        Ok(self.look.iter().any(|byte| *byte != POISON))
    }
}
