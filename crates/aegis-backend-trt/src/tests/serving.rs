//! A plan on a lane: what is enqueued, on what memory, and what happens when that fails.

use std::collections::BTreeMap;
use std::rc::Rc;

use aegis_cuda::{BackendError, BindingId, DeviceError, DeviceSlice, RuntimeBackend};
use aegis_types::{Bytes, Extent, MemoryClass, MemoryGrant, SegmentIndex, Severity};

use super::bench::{Bench, expected};

fn plan(line: &str) -> String {
    format!(
        "mockplan 1\ninput x 0 2x3\noutput y 0 6\nweights 300\ncontext 64\nscratch 128\nlayers 5\n{line}\nend\n"
    )
}

fn load(bench: &mut Bench, line: &str) -> Box<dyn RuntimeBackend> {
    bench.load(&plan(line), &BTreeMap::new()).unwrap()
}

#[test]
fn jobs_go_to_the_lanes_stream_once_each_and_take_nothing() {
    let Some(mut bench) = Bench::open() else { return };
    let mut model = load(&mut bench, "warn");
    assert_eq!(bench.enqueued(), 1, "one run warms up");
    let taken = bench.grant.used_total();
    assert_eq!(bench.grant.used(MemoryClass::Persistent), taken, "weights and context, nothing else");
    let description = model.describe().clone();
    assert_eq!(description.memory.weights, Bytes::new(300));
    assert_eq!(description.memory.scratch, Some(vec![Bytes::new(128)]), "the exact need, not the bound");
    assert_eq!(description.operators["layer"], 5);
    assert!(model.capturable(SegmentIndex::new(0)) && !model.capturable(SegmentIndex::new(1)));
    let sets = [bench.buffers(&description, 0), bench.buffers(&description, 4096)];
    let ids = sets.clone().map(|set| model.bind(set).unwrap());
    for job in 0..6_u8 {
        let set = usize::from(job % 2);
        let input: Vec<u8> = (0..24).map(|at| at ^ job).collect();
        sets[set].inputs[0].write(&input);
        bench.enqueue(&mut *model, ids[set]).unwrap();
        let mut output = vec![0; 24];
        sets[set].outputs[0].read(&mut output);
        assert_eq!(vec![output], expected(&[300], &[input], &description.outputs), "job {job}");
        assert_eq!(bench.grant.used_total(), taken);
    }
    assert_eq!(bench.enqueued(), 7);
    drop((model, sets));
    bench.assert_empty("unloading");
}

#[test]
fn what_the_library_forgets_is_given_back() {
    let Some(mut bench) = Bench::open() else { return };
    drop(load(&mut bench, "leak"));
    bench.assert_empty("a leak");
}

#[test]
fn a_failed_run_tells_the_librarys_reason_and_fails_the_load() {
    let Some(mut bench) = Bench::open() else { return };
    for (line, word, severity) in [
        ("fail enqueue", "does not run it: a kernel fell over (failed execution)", Severity::Permanent),
        ("fail address", "refuses the memory of a tensor: an address out of the blue", Severity::Transient),
    ] {
        let error = bench.load(&plan(line), &BTreeMap::new()).err().unwrap();
        assert!(
            matches!(error, BackendError::Execution { .. }) && error.to_string().contains(word),
            "{error}"
        );
        assert_eq!(error.severity(), severity, "{error}");
        bench.assert_empty(line);
    }
}

#[test]
fn memory_that_is_wanted_while_serving_is_refused() {
    let Some(mut bench) = Bench::open() else { return };
    let mut model = load(&mut bench, "late 640");
    let buffers = bench.buffers(model.describe(), 0);
    let id = model.bind(buffers).unwrap();
    let taken = bench.grant.used_total();
    for _ in 0..2 {
        let error = bench.enqueue(&mut *model, id).unwrap_err();
        assert!(error.to_string().contains("asked for 640B more while it ran"), "{error}");
        assert_eq!((error.severity(), bench.grant.used_total()), (Severity::Permanent, taken));
    }
}

#[test]
fn scratch_that_the_lane_lacks_is_refused_at_load_time() {
    let Some(mut bench) = Bench::open() else { return };
    let large = plan("").replace("scratch 128", "scratch 2000000");
    let error = bench.load(&large, &BTreeMap::new()).err().unwrap();
    let of_scratch = matches!(
        &error,
        BackendError::Memory { source, .. } if source.class == MemoryClass::Scratch && source.asked.get() == 2_000_000
    );
    assert!(of_scratch, "{error}");
    bench.assert_empty("a lack of scratch");
}

#[test]
fn buffers_that_the_library_cannot_use_are_refused() {
    let Some(mut bench) = Bench::open() else { return };
    let mut model = load(&mut bench, "");
    let mut shifted = bench.buffers(model.describe(), 0);
    let extent = Extent { offset: Bytes::new((1 << 20) + 8192 + 64), len: Bytes::new(24) };
    shifted.inputs[0] = Rc::new(DeviceSlice::lend(&bench.region, extent).unwrap());
    let error = model.bind(shifted).unwrap_err();
    assert!(matches!(error, BackendError::Device(DeviceError::BadSlice { .. })), "{error}");
    assert!(error.to_string().contains("multiple of 256 B"), "{error}");
    let mut same = bench.buffers(model.describe(), 0);
    same.outputs[0] = Rc::clone(&same.inputs[0]);
    let error = model.bind(same).unwrap_err();
    assert!(error.to_string().contains("as an output and as another tensor"), "{error}");
}

#[test]
fn a_segment_or_binding_that_is_not_there_is_named() {
    let Some(mut bench) = Bench::open() else { return };
    let mut model = load(&mut bench, "");
    let error = bench.enqueue(&mut *model, BindingId(0)).unwrap_err();
    assert!(error.to_string().contains("binding 0 was not made; there are 0"), "{error}");
    let error = model.enqueue(&mut *bench.stream, SegmentIndex::new(1), BindingId(0)).unwrap_err();
    assert!(error.to_string().contains("one segment, number 0"), "{error}");
    assert_eq!(bench.enqueued(), 1, "neither reached the library");
}
