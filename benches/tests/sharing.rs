//! Trained models from one memory plan, as they are with memory of their own. `AEGIS_SHARING_JOBS` is how many jobs run
//! for each number of lanes, `AEGIS_SHARING_SEED` where their order begins to draw.

use std::path::PathBuf;

use aegis_benches::sharing::{Alone, Bed, Choice, Together, Untouched};

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
    let nine = Bed::open(&cache, Choice::Nine).expect("the demo's models and their library");
    one_lane_takes_much_less_than_the_library_by_itself(&nine);
    let bed = nine.other(&cache, Choice::Fifteen).expect("the same library");
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

/// The nine models of the demo, each once. Resident memory is no time, but it is the system's figure: the bound is that of
/// the claim, and what is measured is far from it.
fn one_lane_takes_much_less_than_the_library_by_itself(bed: &Bed) {
    let untouched = Untouched::run(bed).expect("the library runs every model");
    let order = bed.order(60, 1);
    let alone = Alone::run(bed, &order).expect("every model runs alone");
    for (model, jobs) in bed.models().iter().zip(&untouched.outputs) {
        for (job, outputs) in (0..).zip(jobs) {
            let recurrent = !model.config.state.is_empty();
            if !recurrent || job < 2 {
                assert_eq!(outputs, alone.outputs(model.task, job), "{} job {job}", model.config.name);
            }
        }
    }
    let run = Together::run(bed, &alone, &order, 1).expect("every model runs with others");
    let (ours, theirs) = (run.without_weights().get(), untouched.total().get());
    assert!(ours * 10 <= theirs * 6, "{ours} is not 40 % less than {theirs}");
}

/// The canary: outputs that were all alike would be equal whatever memory held.
fn outputs_depend_on_inputs(bed: &Bed, alone: &Alone) {
    let varied: Vec<_> = bed.models().iter().filter(|model| bed.varies(model.task)).collect();
    assert!(varied.len() * 2 > bed.models().len(), "only {} models read different inputs", varied.len());
    for model in varied {
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
