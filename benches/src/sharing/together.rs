//! The models from one plan, on lanes that share their scratch, in random order, all lanes at once.

use std::sync::{Arc, Barrier};

use aegis_context::{ALIGNMENT, Lane};
use aegis_cuda::{Device, DeviceMemory, DeviceSlice, MemorySpace};
use aegis_memory::{
    LaneGrants, LaneScratch, Ledger, LowestOffsetFirst, MemoryOrchestrator, MemoryPlan, PlanReservation,
    TaskGrant,
};
use aegis_types::record::Discard;
use aegis_types::{Bytes, DispatchSeq, Extent, LaneId, MemoryGrant, PartitionId, TaskId, Time};

use super::alone::{Alone, Needs};
use super::error::SharingError;
use super::runner::Runner;
use super::{Bed, CAPACITY, LINES};

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
        let plan = orchestrator.plan(&alone.demands(&dealt), CAPACITY, &LowestOffsetFirst)?;
        let reservation =
            PlanReservation::reserve(plan.clone(), &Ledger::new(CAPACITY), &mut Discard, Time::ZERO)?;
        let region = Bed::device()?.reserve(MemorySpace::Device, plan.peak())?;
        let before = bed.uncharged();
        let stage = Stage { bed, alone, order, plan: &plan, region, loaded: Barrier::new(lanes.into()) };
        let reports = stage.play(reservation.into_grants(LINES), plan.lanes())?;
        let mut report = Self {
            lanes,
            plan,
            needs: vec![Needs::default(); tasks],
            jobs: 0,
            dirtied: 0,
            wrong: Vec::new(),
            uncharged: bed.uncharged() - before,
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
    /// No job runs before every model is loaded, so that jobs of all lanes run at once.
    loaded: Barrier,
}

/// What one lane did.
struct Part {
    jobs: u64,
    dirtied: u64,
    wrong: Vec<Wrong>,
    needs: Vec<(TaskId, Needs)>,
}

impl Stage<'_> {
    fn play(&self, grants: Vec<LaneGrants>, lanes: &[LaneScratch]) -> Result<Vec<Part>, SharingError> {
        std::thread::scope(|scope| {
            let spawn = |(grants, lane): (LaneGrants, &LaneScratch)| {
                let extent = lane.extent;
                scope.spawn(move || self.lane(grants.tasks, extent))
            };
            let threads: Vec<_> = grants.into_iter().zip(lanes).map(spawn).collect();
            threads.into_iter().map(|thread| thread.join().map_err(|_| SharingError::Panicked)?).collect()
        })
    }

    /// The thread of one lane.
    fn lane(&self, grants: Vec<TaskGrant>, scratch: Extent) -> Result<Part, SharingError> {
        let ready = self.load(grants);
        self.loaded.wait();
        let (mut lane, mut runners) = ready?;
        let mut poison = Poison::new(&self.region, scratch)?;
        let mut dispatch = DispatchSeq::new(lane.flag().load().get());
        let mut part = Part { jobs: 0, dirtied: 0, wrong: Vec::new(), needs: Vec::new() };
        for task in self.order {
            let Some((_, runner)) = runners.iter_mut().find(|(own, _)| own == task) else { continue };
            let job = runner.jobs();
            let outputs = runner.run(&mut lane, &mut dispatch, &mut || poison.spread())?;
            let expected = self.alone.outputs(*task, job);
            let differ = (0..expected.len()).filter(|&at| outputs[at] != expected[at]);
            part.wrong.extend(differ.map(|output| Wrong { task: *task, job, output }));
            part.jobs += 1;
            part.dirtied += u64::from(poison.is_dirty()?);
            poison.dirty = self.share(*task).min(scratch.len);
        }
        part.needs = runners.iter().map(|(task, runner)| (*task, runner.needs())).collect();
        Ok(part)
    }

    /// What a task may use of its lane's scratch.
    fn share(&self, task: TaskId) -> Bytes {
        self.plan.task(task).map_or(Bytes::MAX, |share| share.shared)
    }

    fn load(&self, grants: Vec<TaskGrant>) -> Result<(Lane, Vec<(TaskId, Runner<'_>)>), SharingError> {
        let mut lane = Lane::bind(&Bed::device()?, PartitionId::new(0), LaneId::new(0))?;
        let mut runners = Vec::with_capacity(grants.len());
        for grant in grants {
            let task = grant.owner();
            let (model, feed) = (&self.bed.models[task.index()], &self.bed.feeds[task.index()]);
            runners.push((task, Runner::load(&mut lane, model, feed, grant, &self.region)?));
        }
        Ok((lane, runners))
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
