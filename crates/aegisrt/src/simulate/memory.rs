//! Memory beside the schedule: every set is planned, reserved and lent from as in production, byte for byte but without
//! the bytes.

use std::sync::Arc;

use aegis_cuda::{CompletionFlag, SimDevice};
use aegis_memory::{
    Demand, Ledger, LowestOffsetFirst, MemoryError, MemoryOrchestrator, MemoryPlan, PlanReservation,
    TaskGrant,
};
use aegis_sched::TaskSet;
use aegis_sched::engine::Dispatch;
use aegis_types::record::Discard;
use aegis_types::records::SegmentOutcome;
use aegis_types::{Bytes, Extent, LaneId, MemoryClass, MemoryGrant, Nanos, Time};

use super::SimulateError;
use super::plant::{SimWork, Spans};
use crate::feed::SplitMix;

/// Alignment of scratch.
const ALIGN: Bytes = Bytes::new(64);
/// Lines of an arena: one block at a time is lent from each.
const LINES: usize = 8;
/// Messages kept of one run.
const KEPT: usize = 4;

/// [`Spans`] whose segments hold scratch of their lane while they run.
pub struct Lodged {
    spans: Spans,
    ledger: Ledger,
    /// By task.
    grants: Vec<TaskGrant>,
    scratch: Vec<Bytes>,
    /// By lane.
    held: Vec<Option<Extent>>,
    /// What checker 3 found.
    pub found: Vec<String>,
}

impl Lodged {
    /// Plans and reserves the memory of a set, as its seed draws it.
    ///
    /// # Errors
    /// [`SimulateError`] if a lane cannot be bound or the memory is refused, which is more than drawn sets need.
    pub fn new(device: &SimDevice, set: &TaskSet, seed: u64) -> Result<Self, SimulateError> {
        let demands = demands(set, seed);
        let scratch: Vec<Bytes> = demands.iter().map(Demand::scratch_max).collect();
        let needed = demands.iter().map(total).sum::<u64>();
        // Just enough without any sharing, so that a plan that wastes would be refused.
        let ledger = Ledger::new(Bytes::new(needed));
        let plan = MemoryOrchestrator::new().plan(&demands, ledger.capacity(), &LowestOffsetFirst)?;
        let grants = grants(plan, &ledger, LINES)?;
        let held = vec![None; set.platform().lanes()];
        let spans = Spans::bind(device, set)?;
        Ok(Self { spans, ledger, grants, scratch, held, found: Vec::new() })
    }

    fn found(&mut self, what: String) {
        if self.found.len() < KEPT {
            self.found.push(what);
        }
    }

    /// Bytes in use within reservations within capacity, and no byte lent to two lanes.
    fn check(&mut self, lane: LaneId) {
        let (reserved, capacity) = (self.ledger.reserved(), self.ledger.capacity());
        if reserved > capacity {
            self.found(format!("{reserved} are reserved of {capacity}"));
        }
        let held: u64 = self.held.iter().flatten().map(|extent| extent.len.get()).sum();
        if held > reserved.get() {
            self.found(format!("{held} bytes are in use of {reserved} reserved"));
        }
        let mine = self.held[lane.index()];
        let others = self.held.iter().enumerate().filter(|(other, _)| *other != lane.index());
        let shared =
            others.filter_map(|(_, extent)| *extent).any(|it| mine.is_some_and(|mine| mine.overlaps(&it)));
        if shared {
            self.found(format!("scratch of {lane} is in use by another lane"));
        }
    }
}

fn total(demand: &Demand) -> u64 {
    demand.persistent.get() + demand.exchange.get() + demand.scratch_max().get() + 3 * ALIGN.get()
}

fn demands(set: &TaskSet, seed: u64) -> Vec<Demand> {
    let mut draw = SplitMix(seed ^ 0x4D45_4D4F_5259_0001);
    set.tasks()
        .iter()
        .map(|task| Demand {
            task: task.id,
            lane: task.lane,
            persistent: Bytes::new(draw.below(65_536)),
            exchange: Bytes::new(1 + draw.below(4_096)),
            scratch: task.segments.iter().map(|_| Bytes::new(1 + draw.below(32_768))).collect(),
        })
        .collect()
}

/// The grants of a plan, by task, each arena with so many lines.
pub(super) fn grants(plan: MemoryPlan, ledger: &Ledger, lines: usize) -> Result<Vec<TaskGrant>, MemoryError> {
    let reservation = PlanReservation::reserve(plan, ledger, &mut Discard, Time::ZERO)?;
    let lanes = reservation.into_grants(lines);
    let mut grants: Vec<TaskGrant> = lanes.into_iter().flat_map(|lane| lane.tasks).collect();
    grants.sort_by_key(MemoryGrant::owner);
    Ok(grants)
}

impl SimWork for Lodged {
    fn flags(&self) -> Vec<Arc<dyn CompletionFlag>> {
        self.spans.flags()
    }

    fn launch(&mut self, command: &Dispatch, span: Nanos) -> SegmentOutcome {
        let task = command.job.task.index();
        let (grant, lane) = (&self.grants[task], command.lane);
        match grant.allocate(MemoryClass::Scratch, self.scratch[task], ALIGN) {
            Ok(extent) => {
                let (used, limit) = (grant.used(MemoryClass::Scratch), grant.limit(MemoryClass::Scratch));
                if used > limit {
                    self.found(format!("{} uses {used} of {limit}", command.job));
                }
                self.held[lane.index()] = Some(extent);
            }
            Err(refused) => self.found(refused.to_string()),
        }
        self.check(lane);
        self.spans.launch(command, span)
    }

    fn landed(&mut self, command: &Dispatch, outcome: SegmentOutcome) {
        if let Some(extent) = self.held[command.lane.index()].take() {
            self.grants[command.job.task.index()].free(MemoryClass::Scratch, extent);
        }
        self.spans.landed(command, outcome);
    }
}
