//! All runs of one seeded set.

use aegis_sched::{AdmissionController, AdmissionRequest, Certificate};
use aegis_types::record::Discard;
use aegis_types::{Nanos, Sink};

use super::canary::{Caught, canary};
use super::episode::{Episode, Outcome};
use super::faults::FaultPlan;
use super::generate::{Latency, Scenario};
use super::loaded::loaded;
use super::traced::{Traced, traced};
use super::{SimulateError, SimulateOptions, aftermath};
use crate::feed::SplitMix;

/// What came of one set.
#[derive(Clone, Debug, Default)]
pub struct SetReport {
    /// Its seed.
    pub seed: u64,
    /// Virtual time of its run as promised.
    pub horizon: Nanos,
    /// Whether admission certified it.
    pub admitted: bool,
    /// The run as promised.
    pub plain: Outcome,
    /// The run with one exact overrun, if any lane tolerates one.
    pub exact: Option<Outcome>,
    /// The run with faults.
    pub faulty: Option<Outcome>,
    /// The canary, if there was anything to invert.
    pub canary: Option<Caught>,
    /// Traces, replays and explanations.
    pub traced: Option<Traced>,
    /// Jobs whose outputs were compared with those of private memory.
    pub compared: u64,
    /// What must not have happened: in which run, and what.
    pub found: Vec<(&'static str, String)>,
}

impl SetReport {
    /// Runs the set of `seed`. The seed is printed if anything panics meanwhile.
    pub fn of(seed: u64, options: &SimulateOptions) -> Self {
        let _printed = PrintedOnPanic(seed, options.horizon);
        let mut report = Self { seed, horizon: options.horizon, ..Self::default() };
        if let Err(error) = report.run(options) {
            report.found.push(("world", error.to_string()));
        }
        report
    }

    fn run(&mut self, options: &SimulateOptions) -> Result<(), SimulateError> {
        let scenario = Scenario::generate(self.seed)?;
        let admission = AdmissionController::new(scenario.policy.make());
        let answer = admission.analyze(&AdmissionRequest::new(&scenario.set).tight());
        let Some(certificate) = answer.certificate() else { return Ok(()) };
        self.admitted = true;
        let shorter = Nanos::new(options.horizon.get() / 2);
        self.plain =
            self.episode("as promised", &scenario, certificate, &FaultPlan::none(), options.horizon)?;
        let mut draw = SplitMix(self.seed ^ 0x4641_554C_5453_0001);
        if options.faults {
            self.overrun(&mut draw, &scenario, certificate, shorter)?;
            let plan = FaultPlan::draw(&mut draw, &scenario.set, certificate, shorter);
            self.faulty = Some(self.episode("with faults", &scenario, certificate, &plan, shorter)?);
        }
        self.canary = canary(&scenario, certificate, shorter, &mut Discard)?;
        if options.traced_every != 0 && self.seed.is_multiple_of(options.traced_every) {
            self.trace(&mut draw, &scenario, certificate, shorter, options)?;
        }
        if options.loaded_every != 0 && self.seed.is_multiple_of(options.loaded_every) {
            let (compared, found) = loaded(&scenario, certificate, shorter)?;
            self.compared = compared;
            self.found.extend(found.into_iter().map(|what| ("in memory", what)));
        }
        Ok(())
    }

    /// One overrun of exactly X, in a world where occupancies are exact: not where a launch may have waited before.
    fn overrun(
        &mut self,
        draw: &mut SplitMix,
        scenario: &Scenario,
        certificate: &Certificate,
        horizon: Nanos,
    ) -> Result<(), SimulateError> {
        let Some(plan) = FaultPlan::exact(draw, certificate).filter(|_| !scenario.excludes()) else {
            return Ok(());
        };
        let mut crisp = scenario.clone();
        (crisp.latency, crisp.slowdown) = (Latency::Crisp, Vec::new());
        crisp.longest_share.fill(256);
        self.exact = Some(self.episode("with one overrun", &crisp, certificate, &plan, horizon)?);
        Ok(())
    }

    fn trace(
        &mut self,
        draw: &mut SplitMix,
        scenario: &Scenario,
        certificate: &Certificate,
        horizon: Nanos,
        options: &SimulateOptions,
    ) -> Result<(), SimulateError> {
        let faulty = options.faults && draw.below(2) == 0;
        let plan = if faulty {
            FaultPlan::draw(draw, &scenario.set, certificate, horizon)
        } else {
            FaultPlan::none()
        };
        let seed = self.seed;
        let episode = Episode { scenario, certificate, judged: certificate, plan: &plan, horizon, seed };
        let traced = traced(&episode, scenario.policy, &options.folder)?;
        let found =
            traced.found.iter().map(|(checker, what)| ("traced", format!("checker {checker}: {what}")));
        self.found.extend(found);
        self.traced = Some(traced);
        Ok(())
    }

    fn episode(
        &mut self,
        name: &'static str,
        scenario: &Scenario,
        certificate: &Certificate,
        plan: &FaultPlan,
        horizon: Nanos,
    ) -> Result<Outcome, SimulateError> {
        let seed = self.seed;
        let episode = Episode { scenario, certificate, judged: certificate, plan, horizon, seed };
        let sink: &mut dyn Sink = &mut Discard;
        let mut outcome = episode.run(scenario.policy.make(), sink)?;
        // Only traces are explained; keeping these for every set would be most of the memory of a long simulation.
        outcome.ran = Vec::new();
        let violations =
            outcome.violations.iter().map(|violation| (name, format!("{:?}: {violation}", plan.class)));
        self.found.extend(violations);
        let left = aftermath::check(plan, &outcome, scenario.excludes()).into_iter();
        self.found.extend(left.map(|what| (name, format!("checker 9: {what}"))));
        Ok(outcome)
    }
}

/// Tells which set it was when engine or driver panic, for the panic itself knows no seed.
struct PrintedOnPanic(u64, Nanos);

impl Drop for PrintedOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("while simulating; again: {}", super::report::command(self.0, self.1));
        }
    }
}
