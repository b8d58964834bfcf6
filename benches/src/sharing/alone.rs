//! Every model by itself, with memory of its own: what it takes, and what its jobs give.

use aegis_context::ALIGNMENT;
use aegis_memory::{Demand, Ledger, LowestOffsetFirst, MemoryOrchestrator, PlanReservation, TaskGrant};
use aegis_types::record::Discard;
use aegis_types::{Bytes, DispatchSeq, LaneId, MemoryGrant, TaskId, Time};
use aegisrt::feed::SAMPLES;

use super::error::SharingError;
use super::runner::Runner;
use super::{Bed, LINES};

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
        let ground = &bed.ground;
        let mut lane = ground.lane(0)?;
        let before = bed.uncharged();
        let (mut needs, mut outputs) = (Vec::new(), Vec::new());
        for (model, feed) in bed.models.iter().zip(&bed.feeds) {
            let jobs = order.iter().filter(|task| **task == model.task).count();
            let jobs = if model.config.state.is_empty() { jobs.min(SAMPLES) } else { jobs }.max(2);
            let (grant, size) = private_grant(model.task, &ground.room(), ground.capacity())?;
            let region = ground.reserve(size)?;
            let mut runner = Runner::load(ground, &mut lane, (model, feed), grant, &region)?;
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

    /// How many jobs of a task were kept.
    pub(super) fn jobs(&self, task: TaskId) -> u64 {
        self.outputs[task.index()].len() as u64
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

/// A plan for one task alone: its grant, and how large the region is that it counts from.
pub(super) fn private_grant(
    task: TaskId,
    needs: &Needs,
    capacity: Bytes,
) -> Result<(TaskGrant, Bytes), SharingError> {
    let Needs { persistent, exchange, scratch } = *needs;
    let demand = Demand { task, lane: LaneId::new(0), persistent, exchange, scratch: vec![scratch] };
    let orchestrator = MemoryOrchestrator::with_align(ALIGNMENT)?;
    let plan = orchestrator.plan(&[demand], capacity, &LowestOffsetFirst)?;
    let size = plan.peak();
    let reservation = PlanReservation::reserve(plan, &Ledger::new(capacity), &mut Discard, Time::ZERO)?;
    let grants = reservation.into_grants(LINES).into_iter().flat_map(|lane| lane.tasks);
    let mut own = grants.filter(|grant| grant.owner() == task);
    Ok((own.next().expect("the plan was made of this task's demand"), size))
}
