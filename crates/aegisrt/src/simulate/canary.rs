//! Checker 10: a policy that inverts its order and claims the bounds of the upright one must be caught.
//!
//! The engine orders all classes but one itself, so that a lie about the order cannot enter through a policy: it
//! is smuggled in as a work-conserving policy under a certificate of that class, and the run is then judged by the
//! certificate that it pretends to have. Checks that pass such a run would pass anything.

use aegis_sched::{AdmissionController, AdmissionRequest, Certificate, PolicyClass, Task, TaskSet};
use aegis_types::{Nanos, Sink};

use super::SimulateError;
use super::episode::Episode;
use super::faults::FaultPlan;
use super::generate::Scenario;
use super::policy::Inverted;

/// Deadlines of the smuggled certificate: far enough for the policy-free bound.
const PATIENCE: u64 = 1_000;

/// How a canary was caught.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caught {
    /// By the check of the order of dispatches.
    pub by_order: bool,
    /// By a response above its bound.
    pub by_bound: bool,
}

/// Lets a canary loose in the scenario. `None` where there is nothing to invert: a work-conserving policy, or a set of
/// which no lane has two tasks.
///
/// # Errors
/// [`SimulateError`] if the world cannot be built.
pub fn canary(
    scenario: &Scenario,
    certificate: &Certificate,
    horizon: Nanos,
    sink: &mut dyn Sink,
) -> Result<Option<Caught>, SimulateError> {
    let upright = scenario.policy.make();
    // Arrivals and turns order tasks of equal numbers too.
    let blind = matches!(certificate.class(), PolicyClass::ArrivalOrder | PolicyClass::Fair);
    let crowded = certificate.lanes().iter().any(|lane| {
        let mut keys: Vec<u64> = lane.tasks().iter().map(|task| task.key).collect();
        keys.dedup();
        keys.len() > 1 || (blind && lane.tasks().len() > 1)
    });
    if upright.class() == PolicyClass::WorkConserving || !crowded {
        return Ok(None);
    }
    let inverted = || Box::new(Inverted::of(upright.as_ref(), scenario.set.tasks()));
    let patient: Vec<Task> = scenario.set.tasks().iter().map(patient).collect();
    let mut smuggled = scenario.clone();
    smuggled.set = TaskSet::new(patient, scenario.set.platform().clone())?;
    let report = AdmissionController::new(inverted()).analyze(&AdmissionRequest::new(&smuggled.set));
    let Some(own) = report.certificate() else { return Ok(None) };
    let plan = FaultPlan::none();
    let seed = scenario.seed;
    let episode =
        Episode { scenario: &smuggled, certificate: own, judged: certificate, plan: &plan, horizon, seed };
    let outcome = episode.run(inverted(), sink)?;
    let by = |checker| outcome.violations.iter().any(|violation| violation.checker == checker);
    Ok(Some(Caught { by_order: by(10), by_bound: by(1) }))
}

fn patient(task: &Task) -> Task {
    let deadline = Nanos::new(task.period.get().saturating_mul(PATIENCE));
    Task { deadline, ..task.clone() }
}
