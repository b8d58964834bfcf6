//! Trained models from one memory plan, as they are with memory of their own. `AEGIS_SHARING_JOBS` is how many jobs run
//! for each number of lanes, `AEGIS_SHARING_SEED` where their order begins to draw.

use std::path::PathBuf;

use aegis_benches::sharing::{Alone, Bed, Choice, Together};

/// A number from the environment.
fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a whole number"))
}

#[test]
fn shared_scratch_changes_no_output_and_keeps_to_the_plan() {
    let Some(cache) = std::env::var_os("AEGIS_CACHE").map(PathBuf::from) else {
        eprintln!("skipped: AEGIS_CACHE names no folder with models and library");
        return;
    };
    let (jobs, seed) = (number("AEGIS_SHARING_JOBS", 150), number("AEGIS_SHARING_SEED", 1));
    let again = format!(
        "AEGIS_SHARING_JOBS={jobs} AEGIS_SHARING_SEED={seed} cargo test -p aegis-benches --test sharing"
    );
    let bed = Bed::open(&cache, Choice::Fifteen).expect("the demo's models and their library");
    let order = bed.order(jobs, seed);
    let alone = Alone::run(&bed, &order).expect("every model runs alone");
    assert_eq!(alone.uncharged, 0, "every block is charged to a task");
    outputs_depend_on_inputs(&bed, &alone);
    for lanes in [1, 2, 4] {
        let run = Together::run(&bed, &alone, &order, lanes).expect("every model runs with others");
        assert_eq!(run.wrong, [], "{lanes} lanes; again: {again}");
        assert_eq!((run.jobs, run.uncharged), (jobs, 0), "{lanes} lanes; again: {again}");
        assert!(run.dirtied * 2 > jobs, "{lanes} lanes: only {} jobs wrote to scratch", run.dirtied);
        assert!(run.measured() <= run.plan.peak(), "{lanes} lanes: {} measured", run.measured());
        assert!(run.equals_plan(), "{lanes} lanes: {:?} of {:?}", run.needs, run.plan.tasks());
        saves(&run);
    }
    assert!(Together::run(&bed, &alone, &order, 0).is_err());
    assert!(Together::run(&bed, &alone, &order, 16).is_err());
}

/// The canary: outputs that were all alike would be equal whatever memory held.
fn outputs_depend_on_inputs(bed: &Bed, alone: &Alone) {
    for model in bed.models() {
        let differ = alone.outputs(model.task, 0) != alone.outputs(model.task, 1);
        assert!(differ, "{}: two inputs give one output", model.config.name);
    }
}

/// On one lane the scratch is the largest need; with each lane more it is at most the next largest need more.
fn saves(run: &Together) {
    let mut needs: Vec<u64> = run.plan.tasks().iter().map(|share| share.shared.get()).collect();
    needs.sort_unstable();
    let shared: u64 = run.plan.lanes().iter().map(|lane| lane.extent.len.get()).sum();
    let most: u64 = needs.iter().rev().take(run.lanes.into()).sum();
    assert!(shared <= most, "{} lanes take {shared}, at most {most} is right", run.lanes);
    if run.lanes == 1 {
        let private: u64 = needs.iter().sum();
        assert!(shared * 10 <= private * 6, "{shared} of {private} is not 40 % less");
    }
}
