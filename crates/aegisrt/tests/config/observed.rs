//! What a calibration saw of its device: kept whole, compared with the device that is there, refused when it
//! contradicts itself.

use std::path::Path;

use aegis_cuda::{Capabilities, DeviceContext, DeviceKind};
use aegis_sched::Overheads;
use aegis_types::{Bytes, Nanos};
use aegisrt::config::{CalibratedDevice, Calibration, CalibrationRound, Figure, HostStalls, LaunchMode};

fn context(name: &str, driver: &str, asynchronous: bool) -> DeviceContext {
    DeviceContext {
        kind: DeviceKind::Cuda,
        name: name.into(),
        versions: vec![driver.into()],
        units: 132,
        unit_granularity: 8,
        unit_minimum: 8,
        memory: Bytes::new(1 << 30),
        queue_limit: 32,
        copy_engines: 3,
        capabilities: Capabilities { partitions: true, asynchronous, graphs: true, unified_memory: false },
    }
}

fn figure(name: &str) -> Figure {
    let micros = Nanos::from_micros;
    let (p50, p99, p999, max) = (micros(6), micros(7), micros(9), micros(9));
    Figure { name: name.into(), samples: 9, p50, p99, p999, max, stalls: 2 }
}

fn seen() -> Calibration {
    let mut calibration = Calibration::new(Path::new("platform.json"), Overheads::default());
    let device = CalibratedDevice {
        name: "a GPU".into(),
        versions: vec!["driver 1".into()],
        lanes: 4,
        own_carriers: Vec::new(),
        launch: LaunchMode::Carrier,
        regime: None,
    };
    calibration.device = Some(device);
    calibration.turn = Some(Nanos::from_micros(5));
    calibration.figures = vec![figure("graph_floor"), figure("launch")];
    let (observed, limit) = (Nanos::from_millis(5_000), Nanos::from_micros(50));
    let (largest, closest) = (Nanos::from_micros(80), Some(Nanos::from_millis(7)));
    calibration.stalls = Some(HostStalls { observed, limit, count: 2, largest, closest });
    calibration.rounds = vec![CalibrationRound { steps: Nanos::from_micros(61), stalls: 3 }];
    calibration
}

#[test]
fn what_was_seen_survives_a_round_trip() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("platform.json");
    seen().save(&path).unwrap();
    let again = Calibration::load(&path).unwrap();
    assert_eq!(
        (&again.device, &again.figures, &again.stalls, &again.rounds),
        (&seen().device, &seen().figures, &seen().stalls, &seen().rounds)
    );
    // Files that were written before there was anything to see are still read.
    Calibration::new(&path, Overheads::default()).save(&path).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    for absent in ["figures", "device", "stalls", "turn", "rounds"] {
        assert!(!text.contains(absent), "{absent} stands in {text}");
    }
    assert_eq!(Calibration::load(&path).unwrap().figures, []);
}

#[test]
fn a_calibration_of_another_device_is_refused() {
    let check = |calibration: &Calibration, context: &DeviceContext, lanes: u16, parts: &[&str]| {
        let error = calibration.matches_device(context, lanes).expect_err("it is another").to_string();
        for part in parts.iter().chain(&["platform.json", "aegis calibrate"]) {
            assert!(error.contains(part), "`{part}` was due: {error}");
        }
    };
    let here = context("a GPU", "driver 1", true);
    assert_eq!(seen().matches_device(&here, 4), Ok(()));
    assert_eq!(seen().matches_device(&here, 1), Ok(()), "fewer lanes wait for fewer");
    check(&seen(), &here, 5, &["device.lanes = 4", "fewer lanes", "5 lanes"]);
    check(&seen(), &context("another", "driver 1", true), 4, &["device.name = \"a GPU\"", "\"another\""]);
    check(&seen(), &context("a GPU", "driver 2", true), 4, &["device.versions", "driver 1", "driver 2"]);
    let mut host = seen();
    let mut unturned = seen();
    unturned.turn = None;
    check(&unturned, &here, 4, &["turn", "missing"]);
    host.device = None;
    check(&host, &here, 1, &["device", "without the device"]);
    assert_eq!(host.matches_device(&context("a host", "", false), 9), Ok(()), "its overheads are the host's");
}

#[test]
fn figures_that_contradict_themselves_are_refused() {
    let check = |change: &dyn Fn(&mut Calibration), part: &str| {
        let mut calibration = seen();
        change(&mut calibration);
        let text = serde_json::to_string(&calibration).unwrap();
        let error = Calibration::parse(Path::new("platform.json"), &text).expect_err(part).to_string();
        assert!(error.contains(part) && error.contains("legal"), "`{part}` was due: {error}");
    };
    check(&|c| c.figures[1].name = "graph_floor".into(), "given twice");
    check(&|c| c.figures[0].samples = 0, "nothing was measured");
    check(&|c| c.figures[0].p99 = Nanos::from_micros(10), "more than p999");
    check(&|c| c.figures[1].p50 = Nanos::from_micros(8), "more than p99");
    check(&|c| c.figures[1].max = Nanos::from_micros(8), "more than max");
}

#[test]
fn a_profile_of_another_device_is_refused() {
    let here = context("a GPU", "driver 1", true);
    let mut profile = crate::measured::profiled().on(seen().device);
    assert_eq!(profile.matches_device(&here), Ok(()));
    let text = serde_json::to_string(&profile).unwrap();
    let again = aegisrt::config::Profile::parse(Path::new("profile.json"), &text).unwrap();
    assert_eq!(again.device, seen().device);
    let check = |context: &DeviceContext, parts: &[&str]| {
        let error = again.matches_device(context).expect_err("it is another").to_string();
        for part in parts.iter().chain(&["profile.json", "aegis profile"]) {
            assert!(error.contains(part), "`{part}` was due: {error}");
        }
    };
    check(&context("another", "driver 1", true), &["device.name = \"a GPU\"", "\"another\""]);
    check(&context("a GPU", "driver 2", true), &["device.versions", "driver 1", "driver 2"]);
    profile.device = None;
    let error = profile.matches_device(&here).expect_err("it is a host's").to_string();
    assert!(error.contains("without the device") && error.contains("legal: \"a GPU\""), "{error}");
    assert_eq!(profile.matches_device(&context("a host", "", false)), Ok(()));
}

/// What a launch of the good fleet waits for at the launcher: `calibrated` is the charge with the mark of its own models'
/// visits, if the file has it, and `turns` are those of the fleet's tasks, all in microseconds.
fn charged(calibrated: (u64, Option<u64>), lanes: u16, turns: [u64; 2]) -> Nanos {
    let fleet = crate::good();
    let facts = |name: &str| aegisrt::config::Facts {
        model: aegis_types::ContentHash::of(name.as_bytes()),
        declared: vec![Nanos::from_micros(900)],
    };
    let facts: Vec<_> = fleet.tasks().iter().map(|task| facts(&task.name)).collect();
    let mut profile = crate::measured::profiled();
    for (task, turn) in profile.tasks.iter_mut().zip(turns) {
        task.turn = Nanos::from_micros(turn);
    }
    let mut calibration = seen();
    calibration.overheads.launch_lock = Nanos::from_micros(calibrated.0);
    calibration.turn = calibrated.1.map(Nanos::from_micros);
    if let Some(device) = &mut calibration.device {
        device.lanes = lanes;
    }
    let prepared =
        aegisrt::config::prepare(&fleet, Some(&profile), &calibration, &fleet.first_lanes(), &facts);
    prepared.expect("the profile is of this fleet").set.platform().overheads.launch_lock
}

/// A task with large inputs and outputs keeps the launcher longer than what the machine was calibrated with did.
#[test]
fn what_turns_of_the_fleet_take_longer_is_charged() {
    let lanes: u16 = crate::good().partitions().iter().map(|partition| partition.lanes).sum();
    assert_eq!(charged((10, Some(4)), lanes, [3, 25]), Nanos::from_micros(10 + 25 - 4));
    assert_eq!(charged((10, Some(4)), lanes, [3, 1]), Nanos::from_micros(10), "shorter turns save nothing");
    // Files without the mark hold the longest visit, and so do profiles of their time.
    assert_eq!(charged((10, None), lanes, [3, 25]), Nanos::from_micros(25));
    assert_eq!(charged((10, None), lanes, [3, 0]), Nanos::from_micros(10));
}

#[test]
fn fewer_lanes_are_charged_the_sum_that_was_measured() {
    let lanes: u16 = crate::good().partitions().iter().map(|partition| partition.lanes).sum();
    assert!(lanes > 1, "the good fleet has lanes that wait for each other");
    let others = u64::from(lanes) - 1;
    let sum = 10 * (others + 5);
    let expected = Nanos::new((sum * 1_000).div_ceil(others));
    assert_eq!(charged((10, Some(4)), lanes + 5, [3, 1]), expected);
    assert_eq!(charged((10, None), lanes + 5, [0, 0]), Nanos::from_micros(10), "a longest visit is no sum");
}
