//! Launches that end well, badly, not at all, and in a panic.

use aegis_context::{ExecutionState, IoPlan, LaneState, LaunchError, Slot};
use aegis_cuda::sim::{Fault, FaultKind, FaultTrigger};
use aegis_cuda::{
    BackendError, BackendLoader, BindingId, Bindings, HostDevice, HostOptions, ModelDescription, ModelMemory,
    ModelRequest, RuntimeBackend, SimDevice, Stream,
};
use aegis_types::records::SegmentOutcome;
use aegis_types::{Bytes, DispatchSeq, LaneId, SegmentIndex, Severity};

use crate::fixture::{Bench, PART, STATEFUL, lane, output, scripted, sim};

fn plan_fault(device: &SimDevice, launch: u64, kind: FaultKind) {
    device.inject(Fault { lane: LaneId::new(0), trigger: FaultTrigger::Launch(launch), kind });
}

#[test]
fn a_segment_is_in_flight_until_its_flag_shows() {
    let device = sim();
    let bench = Bench::on(&device);
    let mut lane = lane(&device, 0);
    let mut context = bench.create(0, STATEFUL, &scripted(), &mut lane, &IoPlan::single()).expect("fits");
    let seq = DispatchSeq::new(1);
    let report = lane.launch(&mut context, Slot(0), SegmentIndex::new(0), seq);
    assert_eq!((report.outcome, report.error, report.signalled), (SegmentOutcome::Done, None, true));
    assert_eq!(lane.poll(), LaneState::Launched(seq));
    let second = lane.launch(&mut context, Slot(0), SegmentIndex::new(1), seq.next());
    assert!(matches!(second.error, Some(LaunchError::Lane(_))), "{second:?}");
    assert!(!second.signalled, "a signal would free a busy lane");
    device.clock().advance_to(device.next_completion().expect("in flight"));
    assert_eq!(lane.poll(), LaneState::Idle(seq));
    let stale = lane.launch(&mut context, Slot(0), SegmentIndex::new(1), seq);
    assert!(matches!(stale.error, Some(LaunchError::Lane(_))), "{stale:?}");
    let due = bench.launch(&mut lane, &mut context, 0, 1);
    assert!(!due.signalled, "the bench's first number is stale here: {due:?}");
    assert_eq!(bench.launch(&mut lane, &mut context, 0, 1).outcome, SegmentOutcome::Done);
    assert_eq!(context.state(), ExecutionState::Ready);
}

#[test]
fn the_lane_is_free_after_every_kind_of_failure() {
    let device = sim();
    plan_fault(&device, 0, FaultKind::NotStarted);
    plan_fault(&device, 2, FaultKind::NotStarted);
    plan_fault(&device, 3, FaultKind::Fails);
    let bench = Bench::on(&device);
    let mut lane = lane(&device, 0);
    let mut context = bench.create(0, STATEFUL, &scripted(), &mut lane, &IoPlan::single()).expect("fits");
    let first = SegmentIndex::new(0);
    let due = ExecutionState::Suspended { next: SegmentIndex::new(1), slot: Slot(0) };
    let steps = [
        (0, SegmentOutcome::NotStarted, ExecutionState::Ready),
        (0, SegmentOutcome::Done, due),
        (1, SegmentOutcome::NotStarted, due),
        (1, SegmentOutcome::Failed, ExecutionState::Ready),
        (1, SegmentOutcome::Failed, ExecutionState::Ready),
        (0, SegmentOutcome::Done, due),
        (0, SegmentOutcome::Done, due),
        (1, SegmentOutcome::Done, ExecutionState::Ready),
    ];
    for (step, (segment, outcome, state)) in steps.into_iter().enumerate() {
        let report = bench.launch(&mut lane, &mut context, 0, segment);
        assert_eq!((report.outcome, context.state()), (outcome, state), "step {step}: {:?}", report.error);
        assert!(report.signalled && matches!(lane.state(), LaneState::Idle(_)), "step {step}");
    }
    let slot = lane.launch(&mut context, Slot(1), first, DispatchSeq::new(100));
    assert!(matches!(slot.error, Some(LaunchError::Slot { slot: 1, slots: 1 })) && slot.signalled);
}

#[test]
fn a_lost_device_loses_the_lane() {
    let device = sim();
    plan_fault(&device, 1, FaultKind::DeviceLost);
    let bench = Bench::on(&device);
    let mut lane = lane(&device, 0);
    let mut context = bench.create(0, STATEFUL, &scripted(), &mut lane, &IoPlan::single()).expect("fits");
    assert_eq!(bench.launch(&mut lane, &mut context, 0, 0).outcome, SegmentOutcome::Done);
    for _ in 0..2 {
        let report = bench.launch(&mut lane, &mut context, 0, 1);
        assert_eq!(
            (report.outcome, report.signalled, lane.state()),
            (SegmentOutcome::Failed, false, LaneState::Lost)
        );
        assert_eq!(report.error.map(|error| error.severity()), Some(Severity::Fatal));
    }
}

#[test]
fn a_model_stays_on_its_lane() {
    let device = sim();
    let bench = Bench::on(&device);
    let (mut home, mut other) = (lane(&device, 0), lane(&device, 1));
    let mut context = bench.create(0, STATEFUL, &scripted(), &mut home, &IoPlan::single()).expect("fits");
    let report = bench.launch(&mut other, &mut context, 0, 0);
    assert!(matches!(report.error, Some(LaunchError::OtherLane { .. })) && report.signalled, "{report:?}");
}

#[test]
fn host_lanes_run_jobs_to_the_same_outputs() {
    let run = |device: &dyn aegis_cuda::Device| {
        let bench = Bench::on(device);
        let mut lane = lane(device, 0);
        let mut context = bench.create(0, STATEFUL, &scripted(), &mut lane, &IoPlan::single()).expect("fits");
        context.write_input(Slot(0), 0, &[7; 16]).expect("fits");
        for segment in [0, 1] {
            let report = bench.launch(&mut lane, &mut context, 0, segment);
            assert_eq!(report.outcome, SegmentOutcome::Done);
            assert!(matches!(lane.state(), LaneState::Idle(_)));
        }
        [output(&context, 0, 0), output(&context, 0, 1)]
    };
    let host = HostDevice::new(HostOptions { memory: Bytes::new(4 * PART) }).expect("a thread has cores");
    // Binding pins the thread, so the test's own thread is left alone.
    let on_host = std::thread::scope(|scope| scope.spawn(|| run(&host)).join().expect("no panic"));
    assert_eq!(on_host, run(&sim()));
    assert_ne!(on_host[0], [0; 16]);
}

/// Loads models whose first segment panics.
struct Panicking;

struct PanickingModel(ModelDescription);

impl BackendLoader for Panicking {
    fn name(&self) -> &'static str {
        "panicking"
    }

    fn inspect(&self, request: &ModelRequest<'_>) -> Result<ModelDescription, BackendError> {
        scripted().inspect(request)
    }

    fn load(
        &self,
        request: &ModelRequest<'_>,
        _: &mut dyn Stream,
        _: ModelMemory,
    ) -> Result<Box<dyn RuntimeBackend>, BackendError> {
        Ok(Box::new(PanickingModel(self.inspect(request)?)))
    }
}

impl RuntimeBackend for PanickingModel {
    fn describe(&self) -> &ModelDescription {
        &self.0
    }

    fn bind(&mut self, _: Bindings) -> Result<BindingId, BackendError> {
        Ok(BindingId(0))
    }

    fn enqueue(&mut self, _: &mut dyn Stream, _: SegmentIndex, _: BindingId) -> Result<(), BackendError> {
        panic!("a defect of the backend")
    }
}

impl Drop for PanickingModel {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "another defect of the backend");
    }
}

#[test]
fn a_panic_poisons_its_context_and_nothing_else() {
    let device = sim();
    let bench = Bench::on(&device);
    let mut lane = lane(&device, 0);
    let mut good = bench.create(0, STATEFUL, &scripted(), &mut lane, &IoPlan::single()).expect("fits");
    let mut bad = bench.create(1, STATEFUL, &Panicking, &mut lane, &IoPlan::single()).expect("fits");
    let report = bench.launch(&mut lane, &mut bad, 0, 0);
    assert_eq!((report.outcome, bad.state()), (SegmentOutcome::Failed, ExecutionState::Poisoned));
    let error = report.error.expect("failed");
    assert!(error.to_string().contains("a defect of the backend"), "{error}");
    assert_eq!(error.severity(), Severity::Permanent);
    let again = bench.launch(&mut lane, &mut bad, 0, 0);
    assert!(matches!(again.error, Some(LaunchError::Context(_))) && again.signalled, "{again:?}");
    assert_eq!(bench.launch(&mut lane, &mut good, 0, 0).outcome, SegmentOutcome::Done);
    drop(bad);
    assert_eq!(bench.grants[1].used_total(), Bytes::ZERO, "a panic while unloading still gives the I/O back");
    assert_eq!(bench.launch(&mut lane, &mut good, 0, 1).outcome, SegmentOutcome::Done);
}
