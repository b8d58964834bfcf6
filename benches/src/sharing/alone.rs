//! Every model by itself, with memory of its own: what it takes, and what its jobs give.

use aegis_context::{ALIGNMENT, Lane};
use aegis_cuda::{Device, MemorySpace};
use aegis_memory::{Demand, Ledger, LowestOffsetFirst, MemoryOrchestrator, PlanReservation, TaskGrant};
use aegis_types::record::Discard;
use aegis_types::{Bytes, DispatchSeq, LaneId, MemoryGrant, PartitionId, TaskId, Time};
use aegisrt::feed::SAMPLES;

use super::error::SharingError;
use super::runner::Runner;
use super::{Bed, CAPACITY, LINES};

/// What a task may take of each kind while nobody knows what it needs.
const ROOM: Bytes = Bytes::new(64 << 20);

/// What a model took, by how long the bytes live: marks of the arenas that served it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// What stays while the model is loaded, at its most.
    pub persistent: Bytes,
    /// Inputs, outputs and recurrent state.
    pub exchange: Bytes,
    /// The most that one segment took and gave back.
    pub scratch: Bytes,
}

/// The models with memory of their own.
pub struct Alone {
    /// By task.
    pub needs: Vec<Needs>,
    /// By task, job and output.
    outputs: Vec<Vec<Vec<Vec<u8>>>>,
    /// Blocks that no task could be charged with.
    pub uncharged: u64,
}

impl Alone {
    /// Runs the jobs of every task of `order`, task after task, and two at least. A model without recurrent state is run
    /// once for each of its inputs, of which later jobs repeat the first [`SAMPLES`].
    ///
    /// # Errors
    /// What device, library or memory refuse.
    pub fn run(bed: &Bed, order: &[TaskId]) -> Result<Self, SharingError> {
        let device = Bed::device()?;
        let mut lane = Lane::bind(&device, PartitionId::new(0), LaneId::new(0))?;
        let before = bed.uncharged();
        let (mut needs, mut outputs) = (Vec::new(), Vec::new());
        for (model, feed) in bed.models.iter().zip(&bed.feeds) {
            let jobs = order.iter().filter(|task| **task == model.task).count();
            let jobs = if model.config.state.is_empty() { jobs.min(SAMPLES) } else { jobs }.max(2);
            let grant = private_grant(model.task)?;
            let region = device.reserve(MemorySpace::Device, Bytes::new(3 * ROOM.get()))?;
            let mut runner = Runner::load(&mut lane, model, feed, grant, &region)?;
            let mut dispatch = DispatchSeq::new(lane.flag().load().get());
            let mut kept = Vec::with_capacity(jobs);
            for _ in 0..jobs {
                kept.push(runner.run(&mut lane, &mut dispatch, &mut || Ok(()))?.to_vec());
            }
            needs.push(runner.needs());
            outputs.push(kept);
        }
        Ok(Self { needs, outputs, uncharged: bed.uncharged() - before })
    }

    /// What job `number` of a task gave, by output.
    pub fn outputs(&self, task: TaskId, number: u64) -> &[Vec<u8>] {
        let kept = &self.outputs[task.index()];
        // A recurrent model's jobs are all kept, any other's repeat.
        &kept[number as usize % kept.len()]
    }

    /// The demands of a plan with these tasks on these lanes.
    pub fn demands(&self, lanes: &[LaneId]) -> Vec<Demand> {
        let tasks = (0..).map(TaskId::new).zip(&self.needs).zip(lanes);
        tasks
            .map(|((task, needs), &lane)| Demand {
                task,
                lane,
                persistent: needs.persistent,
                exchange: needs.exchange,
                scratch: vec![needs.scratch],
            })
            .collect()
    }
}

/// Memory for one task alone, more than any model here takes.
fn private_grant(task: TaskId) -> Result<TaskGrant, SharingError> {
    let demand = Demand { task, lane: LaneId::new(0), persistent: ROOM, exchange: ROOM, scratch: vec![ROOM] };
    let orchestrator = MemoryOrchestrator::with_align(ALIGNMENT)?;
    let plan = orchestrator.plan(&[demand], CAPACITY, &LowestOffsetFirst)?;
    let reservation = PlanReservation::reserve(plan, &Ledger::new(CAPACITY), &mut Discard, Time::ZERO)?;
    let grants = reservation.into_grants(LINES).into_iter().flat_map(|lane| lane.tasks);
    let mut own = grants.filter(|grant| grant.owner() == task);
    Ok(own.next().expect("the plan was made of this task's demand"))
}
