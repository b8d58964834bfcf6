//! One run of one set: the engine and the driver of production in the simulated world, checked while it runs.

use std::sync::Arc;

use aegis_cuda::SimDevice;
use aegis_sched::{Certificate, Engine, SchedulingPolicy, charge};
use aegis_types::{LaneId, Nanos, RawRecord, Sink, TaskId, Time};

use super::SimulateError;
use super::check::{Checks, Counts, LaneCounts, Violation};
use super::faults::FaultPlan;
use super::generate::Scenario;
use super::memory::Lodged;
use super::plant::{SimPlant, SimWork, device};
use crate::driver::Driver;

/// How long a run may drain: longer than any drawn hang with everything behind it.
const GRACE: Nanos = Nanos::from_millis(100_000);

/// What is run and how it is judged.
#[derive(Clone, Copy)]
pub struct Episode<'a> {
    /// The world.
    pub scenario: &'a Scenario,
    /// The certificate that the engine serves under.
    pub certificate: &'a Certificate,
    /// The certificate that the run is judged by; the same but for a canary.
    pub judged: &'a Certificate,
    /// What goes wrong.
    pub plan: &'a FaultPlan,
    /// When the engine is told to drain.
    pub horizon: Nanos,
    /// Seeds everything that happens.
    pub seed: u64,
}

/// What came of a run.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Counts.
    pub counts: Counts,
    /// Counts of each lane.
    pub lanes: Vec<(LaneId, LaneCounts)>,
    /// Of each task with a covered job: its longest covered response and its bound.
    pub tightness: Vec<(Nanos, Nanos)>,
    /// Of each task: its longest covered response, zero where no job was covered.
    pub responses: Vec<Nanos>,
    /// Planned strikes that met a launch.
    pub struck: u64,
    /// What carriers would record of each segment.
    pub ran: Vec<RawRecord>,
    /// What must not have happened.
    pub violations: Vec<Violation>,
    /// How much more was not kept.
    pub more: u64,
}

/// The checks, and whoever else wants the records.
struct Tee<'a, 'b> {
    checks: Checks<'a>,
    next: &'b mut dyn Sink,
}

impl Sink for Tee<'_, '_> {
    fn emit(&mut self, record: RawRecord) {
        self.checks.emit(record);
        self.next.emit(record);
    }
}

impl Episode<'_> {
    /// Runs it with memory that is lent but not written.
    ///
    /// # Errors
    /// [`SimulateError`] if the world cannot be built.
    pub fn run(
        &self,
        policy: Box<dyn SchedulingPolicy>,
        sink: &mut dyn Sink,
    ) -> Result<Outcome, SimulateError> {
        let device = device(&self.scenario.set, &self.scenario.slowdown)?;
        let work = Lodged::new(&device, &self.scenario.set, self.seed)?;
        let (mut outcome, found) =
            self.run_work(policy, device, work, sink, |work| std::mem::take(&mut work.found))?;
        let at = Time::ZERO;
        outcome.violations.extend(found.into_iter().map(|what| Violation { checker: 3, at, what }));
        Ok(outcome)
    }

    /// Runs it with any work on `device`, and asks the work at the end.
    ///
    /// # Errors
    /// [`SimulateError`] if there is no engine for the certificate.
    pub fn run_work<W: SimWork, R>(
        &self,
        policy: Box<dyn SchedulingPolicy>,
        device: Arc<SimDevice>,
        work: W,
        sink: &mut dyn Sink,
        ask: impl FnOnce(&mut W) -> R,
    ) -> Result<(Outcome, R), SimulateError> {
        let scenario = self.scenario;
        let charged = charge(&scenario.set)?;
        let own = std::ptr::eq(self.certificate, self.judged);
        let calm = own && self.plan.is_none();
        let plant = SimPlant::new(scenario, &charged, device, work, self.plan, self.seed);
        let engine = Engine::new(&scenario.set, self.certificate.clone(), policy, Time::ZERO)?;
        let sporadic: Vec<TaskId> = scenario.sporadic().map(|task| task.id).collect();
        let stall = scenario.set.platform().overheads.stall;
        let mut driver = Driver::new(engine, plant, sporadic, stall);
        let mut tee = Tee { checks: Checks::new(&scenario.set, self.judged, own, calm), next: sink };
        driver.run(Time::new(self.horizon.get()), GRACE, &mut tee);
        let plant = driver.plant_mut();
        let mut checks = tee.checks;
        for (at, lane) in &plant.collisions {
            checks.report(2, format!("{lane} was launched at {at} while a segment was in flight"));
        }
        for (at, job, other) in &plant.meetings {
            checks.report(2, format!("{job} was launched at {at} beside {other}, which it excludes"));
        }
        if let Some(what) = plant.unanswered() {
            checks.report(4, what);
        }
        let (tightness, lanes) = (checks.tightness().collect(), checks.lanes().collect());
        let responses = checks.responses().collect();
        let (counts, violations, more) = checks.finish();
        let ran = std::mem::take(&mut plant.ran);
        let struck = plant.struck;
        let outcome = Outcome { counts, lanes, tightness, responses, struck, ran, violations, more };
        Ok((outcome, ask(&mut plant.work)))
    }
}
