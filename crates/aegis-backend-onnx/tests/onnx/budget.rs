//! Budgets: what exceeds one is an error to the one who asked, everything is given back, and the library survives.

use aegis_backend_onnx::Reference;
use aegis_cuda::BackendError;
use aegis_types::{MemoryClass, MemoryGrant};

use crate::support::bench::{Bound, Lane, random};
use crate::support::dense::network;
use crate::support::models::{find, request};
use crate::support::tiny::with_scratch_by_data;
use crate::support::{Seeded, no_shapes, runtime};

/// Loads a model on a small lane and expects the refusal.
fn check_refused(name: &str, own: u64, scratch: u64, class: MemoryClass) {
    let Some(runtime) = runtime("budget") else { return };
    let model = find(name);
    let (artifact, shapes) = (model.bytes(), model.shapes());
    let mut lane = Lane::new(own, scratch);
    let overflows = runtime.overflow_allocations();
    let refused =
        lane.load(runtime, &request(name, &artifact, &shapes)).err().expect("the budget is exceeded");
    match refused {
        BackendError::Memory { model, source } => {
            assert_eq!((model.as_str(), source.class), (name, class), "own {own}, scratch {scratch}");
            assert!(source.used.get() + source.asked.get() > source.limit.get(), "{source}");
        }
        other => panic!("{name}, own {own}, scratch {scratch}: {other}"),
    }
    if class == MemoryClass::Scratch {
        assert!(
            runtime.overflow_allocations() > overflows,
            "what was refused was served outside of the budget"
        );
    }
    assert!(
        lane.book.nothing_lent(),
        "{name}, own {own}, scratch {scratch}: a failed load gives everything back"
    );
}

#[test]
fn a_budget_smaller_than_the_weights_is_refused() {
    for own in [0, 4096, 600 << 10, 1200 << 10] {
        check_refused("silero_vad", own, 1 << 20, MemoryClass::Persistent);
    }
}

#[test]
fn a_budget_without_room_for_prepared_weights_is_refused() {
    check_refused("silero_vad", 1300 << 10, 1 << 20, MemoryClass::Persistent);
    check_refused("dtln_1", 1500 << 10, 1 << 20, MemoryClass::Persistent);
}

#[test]
fn a_lane_with_too_little_scratch_is_refused() {
    for scratch in [0, 64, 4096, 16 << 10] {
        check_refused("silero_vad", 8 << 20, scratch, MemoryClass::Scratch);
    }
    check_refused("speech_embedding", 8 << 20, 100 << 10, MemoryClass::Scratch);
}

#[test]
fn the_smallest_budget_that_was_used_is_enough() {
    let Some(runtime) = runtime("smallest budget") else { return };
    let model = find("silero_vad");
    let (artifact, shapes) = (model.bytes(), model.shapes());
    let request = request(model.name, &artifact, &shapes);
    let mut roomy = Lane::roomy();
    drop(roomy.load(runtime, &request).expect("loads"));
    let water = |class| roomy.book.high_water(class).get();
    // First fit leaves holes, so a tenth more than the high-water marks is enough here, and half of it is not.
    let own = water(MemoryClass::Persistent) + water(MemoryClass::Exchange);
    let scratch = water(MemoryClass::Scratch);
    let mut tight = Lane::new(own + own / 10, scratch + scratch / 10);
    drop(roomy.stream);
    let loaded = tight.load(runtime, &request).expect("fits");
    let mut bound = Bound::new(&tight, loaded);
    let specs = bound.model.describe().inputs.clone();
    let mut seed = Seeded(3);
    let inputs: Vec<_> = specs.iter().map(|spec| random(spec, &mut seed)).collect();
    bound.run(&mut tight, &inputs).expect("runs within the budget");
    check_refused(model.name, own / 2, scratch + scratch / 10, MemoryClass::Persistent);
}

/// The library orders the nodes of such a network in one way or another each time it optimizes it.
#[test]
fn every_session_of_a_model_takes_the_same() {
    let Some(runtime) = runtime("the same each time") else { return };
    let (artifact, shapes) = (network(6), no_shapes());
    let request = request("layers", &artifact, &shapes);
    let mut plain = Reference::open(runtime, &artifact, &shapes).expect("opens");
    // What was loaded before stays, so that the library's tables lie elsewhere each time.
    let mut kept = Vec::new();
    let mut seen = None;
    for session in 0..12 {
        let mut lane = Lane::new(1 << 20, 1 << 20);
        let loaded = lane.load(runtime, &request).expect("loads");
        assert_eq!(loaded.remarks(), Vec::<String>::new());
        let input = random(&loaded.describe().inputs[0], &mut Seeded(9));
        let mut bound = Bound::new(&lane, loaded);
        let outputs = bound.run(&mut lane, std::slice::from_ref(&input)).expect("runs");
        assert_eq!(outputs, plain.run(&[input]).expect("runs"), "another order, and the same bits");
        let own = lane.book.high_water(MemoryClass::Persistent);
        let taken = (own, lane.book.scratch_lent());
        assert_eq!(
            *seen.get_or_insert_with(|| taken.clone()),
            taken,
            "session {session} differs from the first"
        );
        kept.push((bound, lane));
    }
}

#[test]
fn jobs_take_scratch_only_and_the_same_every_time() {
    let Some(runtime) = runtime("steady state") else { return };
    let model = find("dtln_2");
    let (artifact, shapes) = (model.bytes(), model.shapes());
    let mut lane = Lane::roomy();
    let loaded = lane.load(runtime, &request(model.name, &artifact, &shapes)).expect("loads");
    let mut bound = Bound::new(&lane, loaded);
    let specs = bound.model.describe().inputs.clone();
    let inputs: Vec<_> = specs.iter().map(|spec| random(spec, &mut Seeded(1))).collect();
    let persistent = lane.book.used(MemoryClass::Persistent);
    let mut requests = Vec::new();
    for _ in 0..10 {
        let before = lane.book.scratch_requests();
        bound.run(&mut lane, &inputs).expect("runs");
        requests.push(lane.book.scratch_requests() - before);
        assert!(
            lane.book.used(MemoryClass::Scratch).is_zero(),
            "scratch is given back before enqueue returns"
        );
        assert_eq!(lane.book.used(MemoryClass::Persistent), persistent, "a job keeps nothing");
    }
    assert!(requests[0] > 0 && requests.iter().all(|&count| count == requests[0]), "{requests:?}");
}

#[test]
fn a_job_that_exceeds_the_scratch_fails_alone() {
    let Some(runtime) = runtime("scratch by data") else { return };
    let (artifact, shapes) = (with_scratch_by_data(), no_shapes());
    let mut lane = Lane::new(1 << 20, 1 << 20);
    let loaded = lane.load(runtime, &request("m", &artifact, &shapes)).expect("loads");
    let mut bound = Bound::new(&lane, loaded);
    let count = |n: i64| vec![n.to_le_bytes().to_vec()];
    let zero = Ok(vec![0.0f32.to_le_bytes().to_vec()]);
    assert_eq!(bound.run(&mut lane, &count(1000)), zero);
    match bound.run(&mut lane, &count(1_000_000)) {
        Err(BackendError::Memory { source, .. }) => {
            assert_eq!(source.class, MemoryClass::Scratch);
            assert!(source.asked.get() >= 4_000_000, "{source}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(bound.run(&mut lane, &count(10)), zero, "the next job runs");
    drop(bound);
    assert!(lane.book.nothing_lent());
}
