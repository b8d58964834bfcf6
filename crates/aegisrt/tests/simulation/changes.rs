//! A run that is asked for changes: what is refused leaves every record as it was, and the account is not fooled.

use aegis_sched::Task;
use aegis_types::{Nanos, Time};
use aegisrt::feed::SplitMix;
use aegisrt::simulate::changes::{Rehearsal, Rehearsed, Reply, Wish, subset};
use aegisrt::simulate::generate::Scenario;

use crate::from_environment;

const HORIZON: Nanos = Nanos::from_millis(300);

/// A world in which everything fits that is served from the start, and one task more that may not.
struct World {
    scenario: Scenario,
    first: Vec<String>,
}

impl World {
    /// The last task of the set is the one that comes; with `heavy` it takes its whole period.
    fn new(seed: u64, heavy: bool) -> Option<Self> {
        let mut scenario = Scenario::generate(seed).expect("a model");
        if scenario.excludes() {
            return None;
        }
        let mut tasks: Vec<Task> = scenario.set.tasks().to_vec();
        let last = tasks.last_mut().filter(|_| heavy);
        if let Some(task) = last {
            let whole = task.period;
            task.segments.iter_mut().for_each(|segment| segment.bound = whole);
            task.deadline = whole;
        }
        let mut first: Vec<String> = tasks.iter().map(|task| task.name.clone()).collect();
        first.pop();
        let platform = scenario.set.platform().clone();
        scenario.set = aegis_sched::TaskSet::new(tasks, platform).expect("a model");
        Some(Self { scenario, first })
    }

    /// `None` where the first set does not fit.
    fn run(&self, wishes: &[Wish]) -> Option<Rehearsed> {
        let names = self.first.iter().map(String::as_str);
        let first = subset(&self.scenario.set, names).expect("a model");
        let certificate = crate::certify(&Scenario { set: first.clone(), ..self.scenario.clone() })?;
        let rehearsal = Rehearsal {
            scenario: &self.scenario,
            first: &first,
            certificate: &certificate,
            wishes,
            horizon: HORIZON,
            terms: &|_| None,
        };
        Some(rehearsal.run().expect("a world"))
    }
}

fn wish(at: u64, remove: &[&String], add: &[&String]) -> Wish {
    let owned = |names: &[&String]| names.iter().map(|name| (*name).clone()).collect();
    Wish { at: Time::new(at * 1_000_000), remove: owned(remove), add: owned(add) }
}

#[test]
fn what_is_refused_leaves_every_record_as_it_was() {
    let mut refused = 0;
    for seed in 0..60 {
        let Some(world) = World::new(seed, true) else { continue };
        let comes = world.scenario.set.tasks().last().expect("a task").name.clone();
        let Some(asked) = world.run(&[wish(120, &[], &[&comes])]) else { continue };
        // A wish for what is served already is asked for of nobody.
        let silent = world.run(&[wish(120, &[], &[])]).expect("it fitted before");
        assert!(matches!(asked.told[0].reply, Reply::Refused), "seed {seed}: {:?}", asked.told[0].reply);
        assert!(matches!(silent.told[0].reply, Reply::Nothing), "seed {seed}");
        assert_eq!(asked.records, silent.records, "seed {seed}");
        assert_eq!((asked.tasks, asked.violations), (silent.tasks, Vec::new()), "seed {seed}");
        refused += 1;
    }
    assert!(refused > 30, "{refused} were refused");
}

#[test]
fn tasks_go_and_come_back_and_nothing_is_disturbed() {
    let (first, sets) = (from_environment("AEGIS_SIM_SEED", 0), from_environment("AEGIS_SIM_CHANGES", 60));
    let (mut at_once, mut back, mut late) = (0, 0, 0);
    for seed in first..first + sets {
        let again = format!(
            "AEGIS_SIM_SEED={seed} AEGIS_SIM_CHANGES=1 cargo test -p aegisrt --test simulation -- changes"
        );
        let Some(world) = World::new(seed, false) else { continue };
        let mut draw = SplitMix(seed ^ 0x4348_414E_4745);
        let comes = world.scenario.set.tasks().last().expect("a task").name.clone();
        let goes = &world.first[draw.below(world.first.len() as u64) as usize];
        let at = 20 + draw.below(60);
        let wishes = [
            wish(at, &[goes], &[&comes]),
            // Soon enough to find the change before still under way, now and then.
            wish(at + 1, &[&comes], &[]),
            wish(at + 90, &[], &[goes]),
        ];
        let Some(found) = world.run(&wishes) else { continue };
        assert_eq!((found.violations, found.more), (Vec::new(), 0), "{again}");
        assert!(found.tasks.iter().all(|task| task.missed == 0 && task.beyond == 0), "{again}");
        assert_eq!(found.tasks.iter().map(|task| task.jobs).sum::<u64>(), found.counts.covered, "{again}");
        let made = |told: &aegisrt::simulate::changes::Told| {
            assert!(
                told.made.is_none_or(|made| made >= told.wish.at && told.asked >= told.wish.at),
                "{again}"
            );
            told.made.is_some()
        };
        at_once += u64::from(matches!(found.told[0].reply, Reply::AtOnce));
        late +=
            u64::from(found.told[1].asked > found.told[1].wish.at.saturating_add(Nanos::from_micros(100)));
        back += u64::from(found.told.iter().all(made));
    }
    println!("{at_once} at once, {late} asked late, {back} came back");
    if sets >= 60 {
        assert!(at_once > 20 && late > 0 && back > 20, "{at_once} {late} {back}");
    }
}
