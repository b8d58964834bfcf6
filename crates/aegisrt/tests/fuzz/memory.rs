//! Files of buffers: parsed, checked, planned, verified.

use aegis_memory::csv::Instance;
use aegis_memory::search::{Goal, Search, Status};
use aegis_memory::verify::check_placement;
use aegis_memory::{LowestOffsetFirst, Placement, Planner};
use aegis_types::Bytes;

use super::campaign::{Corpus, on_text, seeds};
use super::generate::Rng;

#[test]
fn files_of_buffers() {
    let mut corpus = Corpus::of("memory");
    let files = corpus.texts.len();
    let mut fixed = 0;
    seeds("files_of_buffers", 3_000, |rng| {
        let text = if fixed < files { corpus.texts[fixed].clone() } else { corpus.draw(rng) };
        fixed += 1;
        let capacity = Bytes::new(if rng.one_in(3) { rng.number() } else { rng.range(0, 200) });
        let seed = rng.next();
        let input = format!("{text}\n---- capacity {} seed {seed}", capacity.get());
        let answer = on_text(&input, || answer(&text, capacity, seed, rng));
        corpus.keep(&text, &answer);
    });
    assert!(corpus.answers() > 15, "{}", corpus.answers());
}

fn answer(text: &str, capacity: Bytes, seed: u64, rng: &mut Rng) -> String {
    let instance = match Instance::read(text) {
        Ok(instance) => instance,
        Err(error) => return error.to_string(),
    };
    let problem = match instance.problem(capacity) {
        Ok(problem) => problem,
        Err(error) => return error.to_string(),
    };
    let bound = problem.lower_bound();
    let quick = match LowestOffsetFirst.place(&problem) {
        Ok(placement) => match check_placement(&problem, &placement) {
            Ok(peak) => {
                assert!(bound <= peak && peak <= capacity);
                if peak < Bytes::new(1 << 63) {
                    read_again(&instance, &placement, peak);
                }
                "placed".to_owned()
            }
            Err(fault) => fault.to_string(),
        },
        Err(error) => error.to_string(),
    };
    let goal = *rng.pick(&[Goal::Least, Goal::Within]);
    let mut search = Search::new(&problem, goal, seed);
    for _ in 0..8 {
        if search.step(200) {
            break;
        }
    }
    let status = search.status();
    if matches!(status, Status::Optimal | Status::Feasible { .. }) {
        let checked = check_placement(&problem, &search.placement());
        assert!(checked.is_ok(), "{status:?}: {checked:?}");
        if let (Status::Optimal, Ok(peak)) = (status, checked) {
            assert!(quick != "placed" || peak == search.peak());
        }
    }
    format!("{quick} {}", format!("{status:?}").split(' ').next().unwrap_or_default())
}

/// A solution is an instance whose offsets are fixed where they were found. Numbers of the format have 63 bits.
fn read_again(instance: &Instance, placement: &Placement, peak: Bytes) {
    let text = instance.write(placement).expect("offsets below the peak have 63 bits");
    let again = Instance::read(&text).expect("a solution is an instance");
    // Fixed offsets near the end of the range are refused: what is placed behind them could overflow.
    if let Ok(again) = again.problem(peak) {
        assert_eq!(check_placement(&again, placement), Ok(peak));
    }
}
