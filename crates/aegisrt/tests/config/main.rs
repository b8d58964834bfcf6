//! Fleet, profile and platform files: what is read, what is refused, and what a refusal says.

mod carriers;
mod chains;
mod circumstances;
mod groups;
mod measured;
mod observed;
mod refusals;

use std::path::{Path, PathBuf};

use aegis_cuda::{DeviceKind, Units};
use aegis_sched::{Arrival, Criticality, OnOverrun};
use aegis_types::{Bytes, LaneId, Nanos, PartitionId, TaskId};
use aegisrt::config::{BackendKind, ConfigError, Fleet, InputSource, LaneChoice, WaitMode};

/// A legal fleet; the cases of `refusals` name its lines by number.
const GOOD: &str = r#"[device]
kind = "host"
memory = "2GiB"
[[partition]]
name = "audio"
cores = [0, 3]
lanes = 2
[[partition]]
name = "vision"
cores = [1, 2]
[policy]
kind = "fp"
[[task]]
name = "vad"
model = "models/vad.onnx"
backend = "onnx"
period = "32ms"
deadline = "20ms"
natural_period = "16ms"
partition = "audio"
lane = 1
arrival = "periodic"
offset = "1ms"
jitter = "500us"
retry = 1
on_overrun = "keep"
criticality = "high"
priority = 3
allow_control_flow = true
state = [["hn", "h"], ["cn", "c"]]
budget = { memory = "16MiB", streams = 1, compute = "2ms" }
inputs = { seed = 7 }
shapes = { input = [1, 576], "odd name.0" = [] }
[[task]]
name = "detector"
model = "/opt/detector.onnx"
backend = "onnx"
period = "100ms"
partition = "vision"
arrival = "sporadic"
priority = 4
budget = { memory = "64MiB" }
inputs = { file = "frames.bin" }
"#;

fn fleet_path() -> PathBuf {
    Path::new("fleets").join("good.toml")
}

fn good() -> Fleet {
    Fleet::parse(&fleet_path(), GOOD).expect("the good fleet is good")
}

#[test]
fn a_fleet_is_read_in_full() {
    let fleet = good();
    assert_eq!((fleet.device(), fleet.memory()), (DeviceKind::Host, Some(Bytes::new(2 << 30))));
    assert_eq!(fleet.policy(), "fp");
    assert_eq!(fleet.partitions()[1].units, Units::These(vec![1, 2]));
    assert_eq!((fleet.partitions()[0].lanes, fleet.partitions()[1].lanes), (2, 1));
    let (id, vad) = fleet.task("vad").expect("it is there");
    assert_eq!(id, TaskId::new(0));
    assert_eq!(vad.model, Path::new("fleets").join("models/vad.onnx"));
    assert_eq!((vad.period, vad.deadline), (Nanos::from_millis(32), Nanos::from_millis(20)));
    assert_eq!((vad.natural_period, vad.jitter), (Some(Nanos::from_millis(16)), Nanos::from_micros(500)));
    assert_eq!(vad.arrival, Arrival::Periodic { offset: Nanos::from_millis(1) });
    assert_eq!((vad.retries, vad.priority, vad.allow_control_flow), (1, Some(3), true));
    assert_eq!((vad.on_overrun, vad.criticality), (OnOverrun::Keep, Criticality::High));
    assert_eq!((vad.state.len(), vad.state[1].output.as_str(), vad.state[1].input.as_str()), (2, "cn", "c"));
    assert_eq!((&vad.shapes["input"], &vad.shapes["odd name.0"]), (&vec![1, 576], &vec![]));
    assert_eq!((vad.lane, vad.partition), (LaneChoice::Fixed(1), PartitionId::new(0)));
    assert_eq!(vad.budget.compute, Some(Nanos::from_millis(2)));
    assert_eq!(vad.inputs, InputSource::Seed(7));
}

#[test]
fn what_is_not_written_has_a_default() {
    let fleet = good();
    let (_, detector) = fleet.task("detector").expect("it is there");
    assert_eq!(detector.model, Path::new("/opt/detector.onnx"), "an absolute path stays");
    assert_eq!(detector.deadline, detector.period);
    assert_eq!((detector.lane, detector.arrival), (LaneChoice::Auto, Arrival::Sporadic));
    assert_eq!((detector.on_overrun, detector.criticality), (OnOverrun::Skip, Criticality::Medium));
    assert_eq!((detector.budget.streams, detector.budget.compute), (1, None));
    assert_eq!(detector.inputs, InputSource::File(Path::new("fleets").join("frames.bin")));
    let text = GOOD.replace("inputs = { seed = 7 }\n", "").replace("memory = \"2GiB\"\n", "");
    let fleet = Fleet::parse(&fleet_path(), &text).expect("both are optional");
    assert_eq!((&fleet.tasks()[0].inputs, fleet.memory()), (&InputSource::Seed(1), None));
}

#[test]
fn turns_and_exclusions_are_read_and_written() {
    let text = GOOD.replace("priority = 3", "weight = 2\nexclude = [\"detector\"]");
    let text = text
        .replace("partition = \"vision\"", "partition = \"vision\"\nlane = 0")
        .replace("\"fp\"", "\"fair\"");
    let fleet = Fleet::parse(&fleet_path(), &text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let [vad, detector] = fleet.tasks() else { panic!("two tasks") };
    assert_eq!((fleet.policy(), vad.weight, detector.weight), ("fair", 2, 1));
    assert_eq!((vad.excludes.as_slice(), detector.excludes.len()), (["detector".to_owned()].as_slice(), 0));
    let again = Fleet::parse(&fleet_path(), &fleet.to_toml()).expect("written as it is read");
    assert_eq!(again.tasks(), fleet.tasks());
}

#[test]
fn a_fleet_survives_a_round_trip() {
    let fleet = good();
    let text = fleet.to_toml();
    let again = Fleet::parse(&fleet_path(), &text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert_eq!(again.to_toml(), text);
    assert_eq!(again.tasks(), fleet.tasks());
    assert_eq!((again.partitions(), again.policy()), (fleet.partitions(), fleet.policy()));
    assert_eq!((again.device(), again.memory()), (fleet.device(), fleet.memory()));
}

#[test]
fn a_simulated_fleet_takes_scripts_and_shares() {
    let text = GOOD
        .replace("\"host\"", "\"sim\"")
        .replace("\"onnx\"", "\"script\"")
        .replace("cores = [0, 3]", "sms = 8");
    let fleet = Fleet::parse(&fleet_path(), &text).expect("it is legal");
    assert_eq!((fleet.device(), fleet.tasks()[1].backend), (DeviceKind::Sim, BackendKind::Script));
    assert_eq!(fleet.partition_requests()[0].units, Units::Count(8));
    let again = Fleet::parse(&fleet_path(), &fleet.to_toml()).expect("what is written is legal");
    assert_eq!((again.partitions(), again.tasks()), (fleet.partitions(), fleet.tasks()));
}

#[test]
fn a_fleet_on_a_gpu_takes_kernels_and_multiprocessors() {
    let text = GOOD
        .replace("\"host\"", "\"cuda:3\"")
        .replace("\"onnx\"", "\"kernel\"")
        .replace("cores = [0, 3]", "sms = 64")
        .replace("cores = [1, 2]", "sms = 32");
    let fleet = Fleet::parse(&fleet_path(), &text).expect("it is legal");
    assert_eq!((fleet.device(), fleet.device_config().ordinal), (DeviceKind::Cuda, 3));
    assert_eq!(fleet.tasks()[0].backend, BackendKind::Kernel);
    assert_eq!((fleet.wait(), good().wait()), (WaitMode::Spin, WaitMode::Blocking));
    assert_eq!(fleet.partition_requests()[1].units, Units::Count(32));
    let again = Fleet::parse(&fleet_path(), &fleet.to_toml()).expect("what is written is legal");
    assert_eq!((again.device_config(), again.to_toml()), (fleet.device_config(), fleet.to_toml()));
}

#[test]
fn a_fleet_says_how_to_wait() {
    for mode in WaitMode::ALL {
        let text = GOOD.replacen("memory", &format!("wait = \"{}\"\nmemory", mode.name()), 1);
        let fleet = Fleet::parse(&fleet_path(), &text).expect("it is legal");
        assert_eq!(fleet.wait(), mode);
        let again = Fleet::parse(&fleet_path(), &fleet.to_toml()).expect("what is written is legal");
        assert_eq!(again.device_config(), fleet.device_config());
    }
}

#[test]
fn lanes_are_numbered_through_the_partitions() {
    let fleet = good();
    assert_eq!(fleet.lanes_of(PartitionId::new(0)), 0..2);
    assert_eq!(fleet.lanes_of(PartitionId::new(1)), 2..3);
    assert!(fleet.lanes_of(PartitionId::new(9)).is_empty());
    assert_eq!(fleet.fixed_lanes(), [Some(LaneId::new(1)), None]);
    assert_eq!(fleet.first_lanes(), [LaneId::new(1), LaneId::new(2)]);
}

#[test]
fn a_stretched_fleet_keeps_its_contracts_legal() {
    let fleet = good().stretched(&[Nanos::from_millis(40), Nanos::from_millis(150)]);
    let [vad, detector] = fleet.tasks() else { panic!("two tasks") };
    assert_eq!((vad.period, vad.deadline), (Nanos::from_millis(40), Nanos::from_millis(20)));
    assert_eq!(vad.natural_period, Some(Nanos::from_millis(16)));
    assert_eq!((detector.period, detector.deadline), (Nanos::from_millis(150), Nanos::from_millis(150)));
    assert_eq!(detector.natural_period, Some(Nanos::from_millis(100)));
    let shrunk = good().stretched(&[Nanos::from_millis(10), Nanos::from_millis(100)]);
    assert_eq!((shrunk.tasks()[0].natural_period, shrunk.tasks()[1].natural_period), (None, None));
    for fleet in [fleet, shrunk] {
        Fleet::parse(&fleet_path(), &fleet.to_toml()).expect("what is written is legal");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing.toml");
    let error = Fleet::read(&missing).unwrap_err();
    assert!(matches!(&error, ConfigError::Unreadable { path, .. } if *path == missing), "{error}");
    assert!(error.to_string().contains("missing.toml") && error.to_string().contains("legal"), "{error}");
    let binary = folder.path().join("binary.toml");
    std::fs::write(&binary, [0xFF, 0xFE, 0x00]).unwrap();
    assert!(matches!(Fleet::read(&binary), Err(ConfigError::Unreadable { .. })));
    assert!(matches!(Fleet::read(folder.path()), Err(ConfigError::Unreadable { .. })));
    let present = folder.path().join("fleet.toml");
    std::fs::write(&present, GOOD).unwrap();
    let fleet = Fleet::read(&present).unwrap();
    assert_eq!(fleet.path(), present);
    assert_eq!(fleet.tasks()[0].model, folder.path().join("models/vad.onnx"));
}

const CANDIDATE: &str = r#"[[task]]
name = "tracker"
model = "tracker.onnx"
backend = "onnx"
period = "50ms"
partition = "vision"
priority = 9
budget = { memory = "8MiB", compute = "5ms" }
"#;

#[test]
fn a_candidate_is_checked_beside_the_fleet() {
    let path = Path::new("what-if").join("task.toml");
    let fleet = good().with_tasks(&path, CANDIDATE).expect("it is legal");
    assert_eq!(fleet.tasks().len(), 3);
    assert_eq!(fleet.tasks()[2].model, Path::new("what-if").join("tracker.onnx"));
    assert_eq!(fleet.tasks()[..2], good().tasks()[..]);
    let check = |text: &str, at: usize, part: &str| {
        let error = good().with_tasks(&path, text).expect_err(text).to_string();
        assert!(error.starts_with(&format!("{}:{at}:", path.display())) && error.contains(part), "{error}");
    };
    check(&CANDIDATE.replace("tracker\"", "vad\""), 2, "task[0] `vad`.name");
    check(&CANDIDATE.replace("vision", "audit"), 6, "\"audio\", \"vision\"");
    check(&format!("{CANDIDATE}[device]\nkind = \"host\"\n"), 9, "unknown field");
    check("", 1, "task");
    let complaint = fleet.complain(TaskId::new(2), "model", "no such file", "a file that exists").to_string();
    let start = format!("{}:3:9: task[0] `tracker`.model = \"tracker.onnx\": no such file", path.display());
    assert!(complaint.starts_with(&start), "{complaint}");
}
