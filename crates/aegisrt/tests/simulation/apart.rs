//! Tasks that exclude each other, in the whole runtime: they never run at once, and whoever lets them is caught.

use aegis_sched::engine::SegmentHeld;
use aegis_sched::{Certificate, Task, TaskSet};
use aegis_types::{RawRecord, Record, Sink};
use aegisrt::simulate::check::Checks;
use aegisrt::simulate::episode::Episode;
use aegisrt::simulate::faults::FaultPlan;
use aegisrt::simulate::generate::Scenario;

use crate::{HORIZON, certified_scenarios, from_environment};

/// Keeps every record.
#[derive(Default)]
pub struct Kept(pub Vec<RawRecord>);

impl Sink for Kept {
    fn emit(&mut self, record: RawRecord) {
        self.0.push(record);
    }
}

/// The same tasks with the same budgets, and nothing is excluded.
fn free(scenario: &Scenario) -> Scenario {
    let tasks =
        scenario.set.tasks().iter().map(|task| Task { excludes: Vec::new(), ..task.clone() }).collect();
    let set = TaskSet::new(tasks, scenario.set.platform().clone()).expect("a model");
    Scenario { set, ..scenario.clone() }
}

/// Records of a run as promised, and what the checkers that watched it found.
fn run(scenario: &Scenario, certificate: &Certificate) -> (Vec<RawRecord>, usize) {
    let (plan, seed, mut kept) = (FaultPlan::none(), scenario.seed, Kept::default());
    let episode = Episode { scenario, certificate, judged: certificate, plan: &plan, horizon: HORIZON, seed };
    let outcome = episode.run(scenario.policy.make(), &mut kept).expect("a world");
    (kept.0, outcome.violations.len())
}

#[test]
fn excluded_tasks_never_run_at_once_and_whoever_lets_them_is_caught() {
    let sets = from_environment("AEGIS_SIM_APART", 120) as usize;
    let (mut held, mut met) = (0, 0);
    for (scenario, certificate) in certified_scenarios().filter(|(it, _)| it.excludes()).take(sets) {
        let seed = scenario.seed;
        let (records, violations) = run(&scenario, &certificate);
        assert_eq!(violations, 0, "again: aegis simulate --seed {seed} --sets 1");
        held += records.iter().filter(|raw| SegmentHeld::read(raw).is_some()).count();
        // The control: an engine that excludes nothing, judged by what is excluded.
        let mut checks = Checks::new(&scenario.set, &certificate, true, true);
        run(&free(&scenario), &certificate).0.into_iter().for_each(|record| checks.emit(record));
        let (_, found, _) = checks.finish();
        met += usize::from(found.iter().any(|violation| violation.checker == 2));
    }
    println!("{held} segments held; without the rule segments met in {met} of {sets} sets");
    assert!(held > sets && met * 4 > sets, "{held} held, {met} met");
}
