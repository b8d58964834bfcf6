//! Making an engine: a certificate is checked against the task set that it is to serve, and every queue is sized from
//! it.

use aegis_types::records::EngineStarted;
use aegis_types::{ContentHash, DispatchSeq, LaneId, Nanos, Time};

use super::Engine;
use super::control::Mode;
use super::hold;
use super::lane::{Lane, TaskSlot};
use super::outbox::Outbox;
use super::phase::{Phase, Trust};
use super::queue::JobQueue;
use super::turn::Turn;
use crate::error::ModelError;
use crate::model::{OnOverrun, Task, TaskSet};
use crate::policy::{PolicyClass, SchedulingPolicy};
use crate::referee::certificate::{Certificate, CertifiedTask};

/// Jobs of one task that may be pending at most: beyond it the contract is no contract, and memory would be spent on
/// a queue that never drains.
const QUEUE_MAX: u32 = 65_536;

impl Engine {
    /// Makes the engine of `set` under `certificate`, started at `start`: timers count from there.
    ///
    /// # Errors
    /// [`ModelError::PolicyMismatch`] if the certificate was made for another policy or class;
    /// [`ModelError::BadField`] if it does not cover a task or is for another contract than the task's.
    pub fn new(
        set: &TaskSet,
        certificate: Certificate,
        policy: Box<dyn SchedulingPolicy>,
        start: Time,
    ) -> Result<Self, ModelError> {
        let class = policy.class();
        if certificate.policy() != policy.name() || certificate.class() != class {
            return Err(ModelError::PolicyMismatch {
                certified: format!("{} ({})", certificate.policy(), certificate.class()),
                given: format!("{} ({class})", policy.name()),
            });
        }
        let tasks = set
            .tasks()
            .iter()
            .map(|task| task_slot(task, &certificate, policy.as_ref(), start))
            .collect::<Result<Box<[TaskSlot]>, ModelError>>()?;
        let lanes: Box<[Lane]> =
            (0..set.platform().lanes()).map(|index| lane(index, set, &certificate, start)).collect();
        let largest = tasks.iter().flat_map(|task| task.budgets.iter().copied()).max();
        let started = EngineStarted {
            tasks: tasks.len() as u64,
            lanes: lanes.len() as u64,
            certificate: fingerprint(&certificate),
            epoch: certificate.epoch(),
        };
        Ok(Self {
            policy,
            class,
            excluded: hold::excluded(set),
            largest: largest.unwrap_or(Nanos::ZERO),
            ready: Vec::with_capacity(tasks.len()),
            awaited: Vec::with_capacity(tasks.len()),
            tasks,
            lanes,
            certificate,
            started,
            announced: false,
            start,
            now: start,
            cycle: 0,
            mode: Mode::Serving,
        })
    }

    /// An outbox that holds whatever one decider cycle of this engine can produce.
    pub fn outbox(&self) -> Outbox {
        let jobs = self.tasks.iter().map(|task| task.queue.bound()).sum();
        Outbox::with_capacity(self.lanes.len(), self.tasks.len(), jobs)
    }

    /// The certificate that the engine serves under.
    pub const fn certificate(&self) -> &Certificate {
        &self.certificate
    }
}

fn task_slot(
    task: &Task,
    certificate: &Certificate,
    policy: &dyn SchedulingPolicy,
    start: Time,
) -> Result<TaskSlot, ModelError> {
    let bad = |field: &'static str, value: String, legal: String| ModelError::BadField {
        task: task.name.clone(),
        field,
        value,
        legal,
    };
    let (lane, position) = certificate
        .task(task.id)
        .ok_or_else(|| bad("certificate", "absent".into(), "a certificate that covers every task".into()))?;
    let certified = lane.tasks().get(position).expect("a certificate names positions that it has");
    let key = policy.key(task);
    for (field, given, legal) in contract(task, lane.lane(), certified, policy.class(), key) {
        if given != legal {
            return Err(bad(field, given.to_string(), format!("{legal}, which is certified")));
        }
    }
    let offset = task.arrival.offset();
    if certified.offset.is_some() && certified.offset != offset {
        let told = |offset: Option<Nanos>| {
            offset.map_or("sporadic".to_owned(), |offset| format!("periodic from {offset} on"))
        };
        return Err(bad("arrival", told(offset), format!("{}, which is certified", told(certified.offset))));
    }
    if policy.class() == PolicyClass::Fair && key == 0 {
        return Err(bad("key", "0".into(), "a weight of at least one segment a turn".into()));
    }
    if certified.queue == 0 || certified.queue > QUEUE_MAX {
        return Err(bad("queue", certified.queue.to_string(), format!("1 to {QUEUE_MAX} pending jobs")));
    }
    Ok(TaskSlot {
        id: task.id,
        lane: task.lane,
        sporadic: offset.is_none(),
        period: task.period,
        deadline: task.deadline,
        jitter: certified.jitter,
        key,
        budgets: certified.segments.clone().into_boxed_slice(),
        retries: task.retries,
        sheds: task.on_overrun == OnOverrun::Skip,
        position,
        next_arrival: offset.map_or(Time::ZERO, |offset| start.saturating_add(offset)),
        accepted: 0,
        queue: JobQueue::new(certified.queue as usize),
        retired: false,
    })
}

/// What task and certificate must agree on: field, the task's value, the certified value.
fn contract(
    task: &Task,
    lane: LaneId,
    certified: &CertifiedTask,
    class: PolicyClass,
    key: u64,
) -> [(&'static str, u64, u64); 5] {
    let keyed = match class {
        PolicyClass::StaticPriority
        | PolicyClass::AbsoluteDeadline
        | PolicyClass::Fair
        | PolicyClass::Precautious
        | PolicyClass::CriticalWindow => key,
        PolicyClass::ArrivalOrder | PolicyClass::WorkConserving => certified.key,
    };
    [
        ("lane", task.lane.get().into(), lane.get().into()),
        ("period", task.period.get(), certified.period.get()),
        ("deadline", task.deadline.get(), certified.deadline.get()),
        ("segments", task.segments.len() as u64, certified.segments.len() as u64),
        ("key", keyed, certified.key),
    ]
}

fn lane(index: usize, set: &TaskSet, certificate: &Certificate, start: Time) -> Lane {
    let id = LaneId::new(u16::try_from(index).expect("a platform has at most 65,535 lanes"));
    let tasks: Box<[usize]> = set.on_lane(id).map(|task| task.id.index()).collect();
    let sheds = set.on_lane(id).filter(|task| task.on_overrun == OnOverrun::Skip);
    let mut shed_order: Vec<(crate::model::Criticality, usize)> =
        sheds.map(|task| (task.criticality, task.id.index())).collect();
    shed_order.sort_unstable();
    let position = certificate.lanes().iter().position(|lane| lane.lane() == id);
    let certified = position.and_then(|position| certificate.lanes().get(position));
    Lane {
        id,
        phase: Phase::Idle,
        trust: Trust::Whole,
        overrun: Nanos::ZERO,
        tolerance: certified.map_or(Nanos::ZERO, crate::referee::certificate::LaneCertificate::tolerance),
        busy_since: start,
        ended: 0,
        pending: 0,
        last_dispatch: DispatchSeq::NONE,
        held: None,
        turn: Turn::before_first(tasks.len()),
        expires: None,
        last_breach: None,
        tasks,
        shed_order: shed_order.into_iter().map(|(_, task)| task).collect(),
        certificate: position,
        former: None,
        kept: false,
        keeping: None,
    }
}

/// The first word of the hash over the numbers that the engine decides by.
fn fingerprint(certificate: &Certificate) -> u64 {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(certificate.policy().as_bytes());
    let mut word = |value: u64| bytes.extend_from_slice(&value.to_le_bytes());
    word(certificate.epoch());
    for lane in certificate.lanes() {
        word(lane.lane().get().into());
        for task in lane.tasks() {
            word(task.task.get().into());
            let spans = [task.period, task.deadline, task.jitter, task.wcrt];
            spans.iter().chain(&task.segments).for_each(|span| word(span.get()));
            task.offset.iter().for_each(|offset| word(offset.get()));
            word(task.key);
            word(task.queue.into());
        }
        for rung in lane.ladder() {
            word(rung.overrun.get());
            rung.bounds.iter().for_each(|bound| word(bound.get()));
        }
    }
    ContentHash::of(&bytes).to_word()
}
