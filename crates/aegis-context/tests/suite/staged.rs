//! I/O on a device with memory of its own, and segments that are captured there.

use std::rc::Rc;

use aegis_context::{ContextError, ExecutionContext, IoPlan, Lane, LaneState, Slot, Staging};
use aegis_cuda::script::expected_outputs;
use aegis_cuda::sim::{Fault, FaultKind, FaultTrigger};
use aegis_cuda::{
    BackendError, BackendLoader, BindingId, Bindings, Device, MemorySpace, ModelDescription, ModelMemory,
    ModelRequest, RuntimeBackend, SimOptions, Stream,
};
use aegis_types::records::SegmentOutcome;
use aegis_types::{Bytes, DispatchSeq, Extent, LaneId, SegmentIndex, Severity};

use crate::fixture::{Bench, PART, STATEFUL, budget, lane, output, scripted, stateful_plan, with_request};
use crate::late::{LateDevice, Operation};

fn device(graphs: bool) -> LateDevice {
    LateDevice::new(graphs, SimOptions { memory: Bytes::new(4 * PART), ..SimOptions::default() })
}

/// Staging that does not begin at the region's start.
fn staging(device: &LateDevice, len: u64) -> Staging {
    let region = device.reserve(MemorySpace::Staging, Bytes::new(256 + len)).expect("fits");
    Staging { region, extent: Extent { offset: Bytes::new(256), len: Bytes::new(len) } }
}

/// Two slots of one fed input and of two outputs, each in 256 bytes.
const NEEDED: u64 = (2 + 4) * 256;

fn create(
    bench: &Bench,
    lane: &mut Lane,
    loader: &dyn BackendLoader,
    staging: Option<&Staging>,
) -> Result<ExecutionContext, ContextError> {
    let memory = bench.memory(0);
    with_request(STATEFUL, |request| {
        let plan = stateful_plan(2);
        ExecutionContext::create(request, &budget(PART), loader, lane, memory, &plan, staging)
    })
}

#[test]
fn staging_that_is_missing_or_too_small_is_refused() {
    let device = device(false);
    let bench = Bench::on(&device);
    let mut lane = lane(&device, 0);
    let needs = with_request(STATEFUL, |request| scripted().inspect(request)).expect("a script");
    assert_eq!(stateful_plan(2).staging_bytes(&needs).expect("fits"), Some(Bytes::new(NEEDED)));
    let small = staging(&device, NEEDED - 256);
    for (given, granted) in [(None, 0), (Some(&small), NEEDED - 256)] {
        let error = create(&bench, &mut lane, &scripted(), given).err().expect("refused");
        let (model, needed, granted) = ("m".to_owned(), Bytes::new(NEEDED), Bytes::new(granted));
        assert_eq!(error, ContextError::Staging { model, needed, granted });
        assert_eq!(bench.grants[0].used_total(), Bytes::ZERO);
    }
    let enough = staging(&device, NEEDED);
    let context = create(&bench, &mut lane, &scripted(), Some(&enough)).expect("fits");
    assert!(context.input(Slot(0), 1).is_none(), "state never leaves the device");
    drop(context);
    create(&bench, &mut lane, &scripted(), Some(&enough)).expect("all of it was given back");
}

#[test]
fn a_model_without_inputs_and_outputs_goes_without_staging() {
    const SILENT: &str = "script 1\nsegment 1us\nend";
    let device = device(false);
    let bench = Bench::on(&device);
    let mut lane = lane(&device, 0);
    let plan = IoPlan { input_slots: 2, output_slots: 2, state: Vec::new() };
    let memory = bench.memory(0);
    let mut context = with_request(SILENT, |request| {
        ExecutionContext::create(request, &budget(PART), &scripted(), &mut lane, memory, &plan, None)
    })
    .expect("nothing is needed");
    for slot in [0, 1] {
        let report = bench.launch(&mut lane, &mut context, slot, 0);
        assert_eq!((report.outcome, report.signalled), (SegmentOutcome::Done, true));
        assert!(context.input(Slot(slot), 0).is_none());
    }
}

#[test]
fn jobs_pass_through_staging_and_keep_their_state_on_the_device() {
    let device = device(false);
    let bench = Bench::on(&device);
    let mut lane = lane(&device, 0);
    let staging = staging(&device, NEEDED);
    let mut context = create(&bench, &mut lane, &scripted(), Some(&staging)).expect("fits");
    let mut state = vec![0; 8];
    for (slot, value) in [(0, 3u8), (1, 4), (0, 5)] {
        context.write_input(Slot(slot), 0, &[value; 16]).expect("fits");
        for segment in 0..2 {
            let report = bench.launch(&mut lane, &mut context, slot, segment);
            assert_eq!((report.outcome, report.signalled), (SegmentOutcome::Done, true));
        }
        let inputs = [vec![value; 16], state.clone()];
        let expected =
            with_request(STATEFUL, |request| expected_outputs(request, &inputs)).expect("a script");
        assert_eq!([output(&context, slot, 0), output(&context, slot, 1)].as_slice(), expected);
        state.clone_from(&expected[1]);
        let mut copies = device.operations();
        let signals: Vec<Operation> =
            copies.extract_if(.., |it| matches!(it, Operation::Signal(_))).collect();
        assert_eq!((copies.len(), signals.len()), (4, 2), "an input, the state, two outputs: {copies:?}");
    }
    assert_eq!(context.graphs(), 0, "a script computes on the host, which no graph can hold");
}

#[test]
fn on_memory_that_host_and_device_share_nothing_is_copied_but_the_state() {
    let options = SimOptions { memory: Bytes::new(4 * PART), ..SimOptions::default() };
    let device = LateDevice::with(false, true, options);
    let bench = Bench::on(&device);
    let mut lane = lane(&device, 0);
    let staging = staging(&device, NEEDED);
    let mut context = create(&bench, &mut lane, &scripted(), Some(&staging)).expect("fits");
    let mut state = vec![0; 8];
    for (slot, value) in [(0, 3u8), (1, 4), (0, 5)] {
        context.write_input(Slot(slot), 0, &[value; 16]).expect("fits");
        for segment in 0..2 {
            let report = bench.launch(&mut lane, &mut context, slot, segment);
            assert_eq!((report.outcome, report.signalled), (SegmentOutcome::Done, true));
        }
        let inputs = [vec![value; 16], state.clone()];
        let expected =
            with_request(STATEFUL, |request| expected_outputs(request, &inputs)).expect("a script");
        assert_eq!([output(&context, slot, 0), output(&context, slot, 1)].as_slice(), expected);
        state.clone_from(&expected[1]);
        let copies: Vec<Operation> =
            device.operations().into_iter().filter(|it| !matches!(it, Operation::Signal(_))).collect();
        let [Operation::Copy([(from, _), (to, _)])] = copies[..] else { panic!("{copies:?}") };
        assert_eq!((from, to), (MemorySpace::Staging, MemorySpace::Device), "the state for the next job");
    }
    drop(context);
    create(&bench, &mut lane, &scripted(), Some(&staging)).expect("all of it was given back");
}

/// Loads models that only copy: their first input to their first output, then from their second to their second.
struct Copying;

struct CopyingModel {
    description: ModelDescription,
    bindings: Vec<Bindings>,
    /// Weights and scratch are not its business; the memory is kept as a backend does.
    _memory: ModelMemory,
}

impl BackendLoader for Copying {
    fn name(&self) -> &'static str {
        "copying"
    }

    fn inspect(&self, request: &ModelRequest<'_>) -> Result<ModelDescription, BackendError> {
        scripted().inspect(request)
    }

    fn load(
        &self,
        request: &ModelRequest<'_>,
        _: &mut dyn Stream,
        memory: ModelMemory,
    ) -> Result<Box<dyn RuntimeBackend>, BackendError> {
        let description = self.inspect(request)?;
        Ok(Box::new(CopyingModel { description, bindings: Vec::new(), _memory: memory }))
    }
}

impl RuntimeBackend for CopyingModel {
    fn describe(&self) -> &ModelDescription {
        &self.description
    }

    fn capturable(&self, _: SegmentIndex) -> bool {
        true
    }

    fn bind(&mut self, bindings: Bindings) -> Result<BindingId, BackendError> {
        self.bindings.push(bindings);
        Ok(BindingId(self.bindings.len() as u32 - 1))
    }

    fn enqueue(
        &mut self,
        stream: &mut dyn Stream,
        segment: SegmentIndex,
        binding: BindingId,
    ) -> Result<(), BackendError> {
        let Bindings { inputs, outputs } = &self.bindings[binding.0 as usize];
        let (from, to) = (Rc::clone(&inputs[segment.index()]), Rc::clone(&outputs[segment.index()]));
        Ok(stream.copy(&from, &to)?)
    }
}

#[test]
fn captured_segments_hold_the_copies_and_are_replayed_before_the_flag() {
    let device = device(true);
    let bench = Bench::on(&device);
    let mut lane = lane(&device, 0);
    let staging = staging(&device, NEEDED);
    let mut context = create(&bench, &mut lane, &Copying, Some(&staging)).expect("fits");
    assert_eq!(context.graphs(), 4, "two slots, two segments");
    // The job that was run before capturing: feed and first copy; second copy, state, two outputs.
    let mut direct = device.operations();
    let rehearsed: Vec<_> = direct.drain(6..).collect();
    let copies = |operations: &[Operation]| operations.iter().all(|it| matches!(it, Operation::Copy(_)));
    assert!(copies(&direct), "{direct:?}");
    let mut seen = Vec::new();
    for slot in 0..2 {
        for segment in 0..2u16 {
            let report = bench.launch(&mut lane, &mut context, slot, segment);
            assert_eq!((report.outcome, report.signalled), (SegmentOutcome::Done, true));
            let [Operation::Replay(graph), Operation::Signal(seq)] = &device.operations()[..] else {
                panic!("slot {slot}, segment {segment}: a replay, then its flag");
            };
            assert_eq!(*seq, report.dispatch);
            seen.push(graph.clone());
        }
    }
    assert_eq!([seen[0].as_slice(), &seen[1]].concat(), direct, "a graph holds what was run without it");
    let replays: Vec<_> = seen.iter().cloned().map(Operation::Replay).collect();
    assert_eq!(rehearsed, replays, "each graph was replayed once before it serves");
    for (one, other) in [(0, 2), (1, 3)] {
        assert_eq!(seen[one].len(), seen[other].len());
        assert_ne!(seen[one], seen[other], "every slot has buffers of its own");
    }
}

#[test]
fn a_lane_in_flight_is_asked_without_being_freed() {
    let device = device(false);
    let bench = Bench::on(&device);
    let mut lane = lane(&device, 0);
    let staging = staging(&device, NEEDED);
    let mut context = create(&bench, &mut lane, &scripted(), Some(&staging)).expect("fits");
    assert_eq!(lane.probe(), Ok(()), "nothing is in flight");
    let hang = FaultKind::Hang(aegis_types::Nanos::from_millis(3_600_000));
    device.sim.inject(Fault { lane: LaneId::new(0), trigger: FaultTrigger::Launch(0), kind: hang });
    let seq = DispatchSeq::new(1);
    let report = lane.launch(&mut context, Slot(0), SegmentIndex::new(0), seq);
    assert!(report.signalled);
    device.operations();
    assert_eq!((lane.probe(), lane.poll()), (Ok(()), LaneState::Launched(seq)));
    assert_eq!(device.operations(), [], "a question enqueues nothing");
    assert!(!lane.settled(), "the device still uses the buffers");
    device.sim.lose("unplugged");
    assert!(lane.settled(), "nothing runs on a device that is lost");
    let error = lane.probe().expect_err("the device is lost");
    assert_eq!((error.severity(), lane.state()), (Severity::Fatal, LaneState::Lost));
    drop(context);
}
