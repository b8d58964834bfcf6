//! What only the simulated device does: virtual time, contention, faults.

use super::*;
use crate::device::Units;
use crate::interop::with_sim_stream;
use aegis_types::{DispatchSeq, Extent, Nanos};

fn device(slowdown: &[u64]) -> SimDevice {
    let options = SimOptions { slowdown: slowdown.to_vec(), ..SimOptions::default() };
    SimDevice::new(options, SimClock::new()).expect("legal options")
}

fn lane(device: &SimDevice, number: u16) -> Box<dyn Stream> {
    device.bind_lane(PartitionId::new(0), LaneId::new(number)).expect("a free lane")
}

fn occupy(stream: &mut Box<dyn Stream>, ns: u64) -> Result<(), LaunchFault> {
    with_sim_stream(&mut **stream, |sim| sim.occupy(Nanos::new(ns), None)).expect("a simulated stream")
}

/// Runs one segment and returns when its flag becomes visible.
fn run(device: &SimDevice, stream: &mut Box<dyn Stream>, seq: u64, ns: u64) -> u64 {
    occupy(stream, ns).expect("no fault planned");
    stream.signal(DispatchSeq::new(seq)).expect("alive");
    let flag = stream.flag();
    let due = device.next_completion().expect("in flight");
    device.clock().advance_to(Time::new(due.get() - 1));
    assert!(flag.load() < DispatchSeq::new(seq), "visible before its end");
    device.clock().advance_to(due);
    assert_eq!(flag.load(), DispatchSeq::new(seq));
    due.get()
}

#[test]
fn a_flag_becomes_visible_at_the_segments_end() {
    let device = device(&[]);
    let mut stream = lane(&device, 0);
    assert_eq!(run(&device, &mut stream, 1, 100), 100);
    assert_eq!(run(&device, &mut stream, 2, 50), 150);
    assert_eq!(device.next_completion(), None);
}

#[test]
fn a_lane_is_finished_when_its_flag_is_visible_or_tells_the_loss() {
    let device = device(&[]);
    let mut stream = lane(&device, 0);
    assert_eq!(stream.finished(), Ok(true));
    occupy(&mut stream, 10).expect("no fault planned");
    stream.signal(DispatchSeq::new(1)).expect("alive");
    device.clock().advance_to(Time::new(9));
    assert_eq!(stream.finished(), Ok(false));
    device.clock().advance_to(Time::new(10));
    assert_eq!((stream.finished(), stream.flag().load()), (Ok(true), DispatchSeq::new(1)));
    device.lose("unplugged");
    assert_eq!(stream.finished(), Err(DeviceError::Lost { reason: "unplugged".into() }));
}

#[test]
fn neighbours_slow_a_segment_that_starts_beside_them() {
    let device = device(&[UNSLOWED, 1_500_000]);
    let (mut first, mut second) = (lane(&device, 0), lane(&device, 1));
    occupy(&mut first, 1_000).expect("no fault");
    first.signal(DispatchSeq::new(1)).expect("alive");
    assert_eq!(run(&device, &mut second, 1, 100), 150);
    // The neighbour started alone, so it keeps its time.
    assert_eq!(device.next_completion(), Some(Time::new(1_000)));
}

#[test]
fn faults_strike_the_launch_they_are_planned_for() {
    let device = device(&[]);
    let mut stream = lane(&device, 0);
    let plan = |number, kind| {
        device.inject(Fault { lane: LaneId::new(0), trigger: FaultTrigger::Launch(number), kind });
    };
    plan(0, FaultKind::NotStarted);
    plan(1, FaultKind::Longer(Nanos::new(5)));
    plan(2, FaultKind::Hang(Nanos::new(1_000)));
    plan(3, FaultKind::FlagDelayed(Nanos::new(7)));
    plan(4, FaultKind::Fails);
    assert_eq!(occupy(&mut stream, 10), Err(LaunchFault::NotStarted));
    assert_eq!(run(&device, &mut stream, 1, 10), 15);
    assert_eq!(run(&device, &mut stream, 2, 10), 1_015);
    assert_eq!(run(&device, &mut stream, 3, 10), 1_032);
    assert_eq!(occupy(&mut stream, 10), Err(LaunchFault::Failed));
    stream.signal(DispatchSeq::new(4)).expect("a failed segment frees its lane");
    assert_eq!(device.next_completion(), Some(Time::new(1_042)));
}

#[test]
fn a_lost_device_stays_lost() {
    let device = device(&[]);
    let (mut first, mut second) = (lane(&device, 0), lane(&device, 1));
    occupy(&mut second, 10).expect("no fault");
    second.signal(DispatchSeq::new(1)).expect("alive");
    let lost = FaultTrigger::From(Time::ZERO);
    device.inject(Fault { lane: LaneId::new(0), trigger: lost, kind: FaultKind::DeviceLost });
    let error = match occupy(&mut first, 10) {
        Err(LaunchFault::Lost(error)) => error,
        other => panic!("{other:?}"),
    };
    device.clock().advance_to(Time::new(1_000));
    assert_eq!(second.flag().load(), DispatchSeq::NONE, "work in flight never completes");
    assert_eq!(second.signal(DispatchSeq::new(2)), Err(error.clone()));
    assert_eq!(device.reserve(MemorySpace::Device, Bytes::new(1)).err(), Some(error.clone()));
    assert_eq!(device.bind_lane(PartitionId::new(0), LaneId::new(5)).err(), Some(error));
}

#[test]
fn scratch_of_two_lanes_at_once_is_seen() {
    let device = device(&[]);
    let region = device.reserve(MemorySpace::Device, Bytes::new(64)).expect("fits");
    let slice = |offset, len| {
        let extent = Extent { offset: Bytes::new(offset), len: Bytes::new(len) };
        crate::memory::DeviceSlice::lend(&region, extent).expect("free")
    };
    let mut streams = [lane(&device, 0), lane(&device, 1), lane(&device, 2)];
    let mut start = |number: usize, offset| {
        let scratch = slice(offset, 32);
        let started =
            with_sim_stream(&mut *streams[number], |sim| sim.occupy(Nanos::new(10), Some(&scratch)));
        assert_eq!(started, Some(Ok(())));
    };
    start(0, 0);
    start(1, 32);
    assert_eq!(device.scratch_collisions(), []);
    start(2, 16);
    let lanes = [LaneId::new(0), LaneId::new(2)];
    assert_eq!(device.scratch_collisions().first().map(|it| it.lanes), Some(lanes));
}

#[test]
fn options_out_of_range_are_refused() {
    let refused = |options: SimOptions, word: &str| {
        let error = SimDevice::new(options, SimClock::new()).expect_err(word).to_string();
        assert!(error.contains(word), "{error}");
    };
    refused(SimOptions { granularity: 0, ..SimOptions::default() }, "granularity");
    refused(SimOptions { lanes: 0, ..SimOptions::default() }, "lanes");
    refused(SimOptions { slowdown: vec![999_999], ..SimOptions::default() }, "999999");
}

#[test]
fn a_count_never_takes_a_unit_that_is_named() {
    let device = device(&[]);
    let request = |name: &str, units| PartitionRequest { name: name.into(), units };
    let requests = [
        request("counted", Units::Count(3)),
        request("named", Units::These(vec![0, 1])),
        request("rest", Units::Count(10)),
    ];
    let made = device.partition(&requests).expect("sixteen units are enough");
    assert_eq!(made[0].unit_numbers, [2, 3, 4, 5], "rounded up to the granularity");
    assert_eq!(made[1].unit_numbers, [0, 1]);
    assert_eq!(made[2].units, 10);
}

#[test]
fn odd_and_repeated_units_are_refused_by_name() {
    let device = device(&[]);
    let refused = |units, words: &[&str]| {
        let request = PartitionRequest { name: "p".into(), units };
        let error = device.partition(&[request]).expect_err("illegal").to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    };
    refused(Units::These(vec![0]), &["`p`", "1 units", "multiples of 2"]);
    refused(Units::These(vec![0, 16]), &["unit 16", "does not exist"]);
    refused(Units::These(vec![3, 3]), &["unit 3", "twice"]);
    refused(Units::Count(u32::MAX), &["`p`"]);
    refused(Units::Count(18), &["18 units", "at most 16"]);
}
