//! Calibration on an asynchronous device: what is measured is charged where it belongs, and the file holds it all. The
//! device is a fixture in real time; how fast it is, is not asked.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use aegis_cuda::script::{Durations, ScriptedLoader};
use aegis_cuda::{Device, SimOptions};
use aegis_types::{Bytes, LaneId, Nanos};
use aegisrt::calibrate::CalibrateOptions;
use aegisrt::calibrate::rehearsal::Rehearsal;
use aegisrt::config::{Calibration, Fleet, LaunchMode, WaitMode};
use aegisrt::inventory::Loaders;
use aegisrt::measure::{NamedSamples, calibrate_with, charges_of};
use aegisrt::system::{Builder, System};

#[path = "../../aegis-context/tests/late/mod.rs"]
mod late;

use late::{LateDevice, Operation};

const SCRIPT: &str = "script 1\ninput x f32 1x64\noutput y f32 1x8\nweights 4KiB\nscratch 1KiB\n";

/// Two lanes and one light task, which nobody runs. `wait` and `launch` are the words for who waits how and who launches;
/// lanes in `own` have a carrier each.
fn system(wait: &str, launch: &str, own: &str) -> Result<(System, Arc<LateDevice>), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("a.script"), format!("{SCRIPT}segment 1ms..2ms\nend\n"))?;
    let text = format!(
        "[device]\nkind = \"sim\"\nwait = \"{wait}\"\nlaunch = \"{launch}\"\n[[partition]]\nname = \"all\"\nsms = 4\nlanes = 2\n\
         own_carriers = {own}\n[policy]\nkind = \"edf\"\n[[task]]\nname = \"a\"\nmodel = \"a.script\"\nbackend = \"script\"\n\
         partition = \"all\"\nlane = 0\nperiod = \"100ms\"\nbudget = {{ memory = \"64KiB\" }}\n"
    );
    let options = SimOptions { memory: Bytes::new(64 << 20), ..SimOptions::default() };
    let device = Arc::new(LateDevice::new(false, options));
    let shared: Arc<dyn Device> = Arc::<LateDevice>::clone(&device);
    let system = Builder::new(Fleet::parse(&folder.path().join("fleet.toml"), &text)?)
        .loaders(Loaders::default().with(Arc::new(ScriptedLoader::new(Durations::Seeded(5)))))
        .device(shared)
        .build(|_| {})?;
    Ok((system, device))
}

fn rehearsal() -> Rehearsal {
    let model = |segment: &str| format!("{SCRIPT}segment {segment}\nend\n");
    Rehearsal {
        loader: Arc::new(ScriptedLoader::new(Durations::Seeded(5))),
        floor: model("1us..2us"),
        busy: vec![model("50us..90us"), model("200us..300us")],
    }
}

fn calibrated(
    wait: &str,
    launch: &str,
    own: &str,
) -> Result<(Calibration, Vec<NamedSamples>), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("platform.json");
    let (system, device) = system(wait, launch, own)?;
    // A loaded machine gives fewer samples in the same time, and too few are refused.
    let measure = |ms| {
        let duration = Nanos::from_millis(ms);
        let options = CalibrateOptions { duration, ..CalibrateOptions::default() };
        calibrate_with(&system, &rehearsal(), &path, options, false)
    };
    let (calibration, samples) = measure(1_500).or_else(|_| measure(15_000))?;
    let copied = device.operations().iter().filter(|it| matches!(it, Operation::Copy(_))).count();
    assert!(copied > 200, "the rehearsal's inputs and outputs go through staging: {copied} copies");
    calibration.save(&path)?;
    let again = Calibration::load(&path)?;
    assert_eq!(again, calibration, "what is written is what was measured");
    Ok((calibration, samples))
}

fn names(calibration: &Calibration) -> Vec<&str> {
    calibration.figures.iter().map(|figure| figure.name.as_str()).collect()
}

#[test]
fn a_spinning_driver_is_charged_turns_and_no_wake_up() -> Result<(), Box<dyn Error>> {
    let (calibration, samples) = calibrated("spin", "carrier", "[]")?;
    let charged = &calibration.overheads;
    assert_eq!(charged.wakeup, Nanos::ZERO);
    for (name, charged) in Calibration::OVERHEADS.iter().zip(calibration.charged()) {
        assert!(*name == "wakeup" || !charged.is_zero(), "{name} is free");
    }
    let figure = |name: &str| calibration.figures.iter().find(|figure| figure.name == name).expect(name);
    // Two lanes: a launch waits for one visit, and what was seen to pass from a post to an entry is covered.
    let waited = charged.handoff.saturating_add(charged.launch_lock);
    for name in ["handoff_all_busy", "handoff_burst"] {
        assert!(waited > figure(name).max, "{name}: {:?} beside {charged:?}", figure(name));
        let (kept, left_out) = (figure(name).samples, figure(name).stalls);
        assert!(left_out <= (kept + left_out) / 1_000, "a thousandth at most: {left_out} beside {kept}");
    }
    assert!(charged.launch_lock > figure("turn_launching").p50, "a visit is not free: {charged:?}");
    let own = figure("turn_launching").max.max(figure("turn_ending").max);
    assert!(charged.notify > charged.launch_lock.saturating_add(own), "a client hears after every visit");
    let mark = calibration.turn.expect("a launcher visits lanes");
    assert!(mark > figure("turn_ending").p50, "{mark} is the 99th percentile of all visits");
    // Three looks of each launch hold what its steps took beyond their charges.
    let steps = |name: &str| samples.iter().find(|(of, _)| *of == name).map(|(_, samples)| samples.max());
    for (name, charge) in
        [("release", charged.release), ("completion", charged.completion), ("decision", charged.decision)]
    {
        let twice = charged.poll.saturating_add(charged.poll);
        assert!(
            Some(twice.saturating_add(charge)) > steps(name),
            "{name}: {:?} beside {charged:?}",
            steps(name)
        );
    }
    assert_eq!(calibration.rounds.len(), CalibrateOptions::default().rounds as usize);
    assert!(calibration.rounds.iter().all(|round| !round.steps.is_zero()), "{:?}", calibration.rounds);
    let stalls = calibration.stalls.expect("who spins sees its stalls");
    assert!(charged.stall > stalls.largest && stalls.observed > Nanos::from_millis(500), "{stalls:?}");
    for size in ["4KiB", "4MiB"] {
        for way in ["to_device", "to_host"] {
            let name = format!("floor_copy_{way}_{size}");
            assert!(names(&calibration).contains(&name.as_str()), "{name}: {:?}", names(&calibration));
        }
    }
    for name in ["floor_launch", "floor_round_trip", "look_to_look", "handoff_all_busy"] {
        assert!(names(&calibration).contains(&name), "{name}: {:?}", names(&calibration));
    }
    let handoff = samples.iter().find(|(name, _)| *name == "handoff").expect("it is measured");
    assert!(handoff.1.max() <= charged.handoff);
    let device = calibration.device.as_ref().expect("its overheads are the device's too");
    assert_eq!((device.lanes, &device.regime), (2, &None));
    Ok(())
}

#[test]
fn a_sleeping_driver_is_charged_its_wake_ups() -> Result<(), Box<dyn Error>> {
    let (calibration, samples) = calibrated("blocking", "carrier", "[]")?;
    let wakeup = samples.iter().find(|(name, _)| *name == "wakeup").expect("it is measured");
    assert!(wakeup.1.count() > 100, "{}", wakeup.1.count());
    assert!(calibration.overheads.wakeup > wakeup.1.max());
    let charged = &calibration.overheads;
    let news = charged.launch_lock.saturating_add(charged.dispatch).saturating_add(charged.wakeup);
    let glance = Nanos::from_micros(50);
    assert!(
        charged.notify > news.saturating_add(glance),
        "a launcher that sleeps sees a flag later: {charged:?}"
    );
    assert_eq!(calibration.wait, Some(WaitMode::Blocking));
    assert_eq!(calibration.stalls, None, "who sleeps does not see why it slept");
    Ok(())
}

/// Bursts, hand-offs and turns are those of the carriers that the fleet has, and the file says which.
#[test]
fn lanes_with_carriers_of_their_own_are_calibrated_so() -> Result<(), Box<dyn Error>> {
    let (calibration, _) = calibrated("blocking", "carrier", "[1]")?;
    let charged = &calibration.overheads;
    assert!(!charged.launch_lock.is_zero() && !charged.handoff.is_zero(), "{charged:?}");
    for (launch, own, fits) in [("carrier", "[1]", true), ("carrier", "[]", false), ("driver", "[]", false)] {
        let (system, _) = system("blocking", launch, own)?;
        assert_eq!(calibration.matches_carriers(system.fleet()).is_ok(), fits, "{launch} {own}");
    }
    Ok(())
}

/// What a launcher is charged with is the driver's then, in the steps of its cycle.
#[test]
fn a_driver_that_launches_is_charged_launches_and_endings() -> Result<(), Box<dyn Error>> {
    for wait in ["spin", "blocking"] {
        let (calibration, samples) = calibrated(wait, "driver", "[]")?;
        let charged = &calibration.overheads;
        assert_eq!((charged.handoff, charged.launch_lock), (Nanos::ZERO, Nanos::ZERO), "{charged:?}");
        let figure = |name: &str| calibration.figures.iter().find(|figure| figure.name == name).expect(name);
        assert!(charged.dispatch > figure("turn_launching").p99, "a post launches: {charged:?}");
        assert!(charged.completion > figure("turn_ending").p99, "a landing ends: {charged:?}");
        assert_eq!(figure("handoff_all_busy").max, Nanos::ZERO, "nothing is handed over");
        let mark = |name: &str| {
            let found = samples.iter().find(|(of, _)| *of == name);
            found.map_or(Nanos::ZERO, |(_, samples)| samples.max())
        };
        let [question, landing] = ["question", "landing"].map(mark);
        assert!(!question.is_zero() && charged.poll > question, "{question} beside {charged:?}");
        assert!(!landing.is_zero() && charged.completion > landing, "{landing} beside {charged:?}");
        let device = calibration.device.as_ref().expect("its overheads are the device's too");
        assert_eq!(device.launch, LaunchMode::Driver);
        if let Some(stalls) = calibration.stalls {
            let work = charged.dispatch.saturating_add(charged.completion);
            assert!(charged.stall > stalls.largest, "{stalls:?}");
            assert!(stalls.observed > Nanos::from_millis(500), "{stalls:?} beside {work}");
        }
    }
    Ok(())
}

#[test]
fn every_lane_is_rehearsed_with_every_model() -> Result<(), Box<dyn Error>> {
    let (system, _) = system("spin", "carrier", "[1]")?;
    let beside = rehearsal().system(&system)?;
    let lanes: Vec<Vec<LaneId>> = beside
        .by_lane()
        .iter()
        .map(|tasks| tasks.iter().map(|task| beside.lanes()[task.index()]).collect())
        .collect();
    assert_eq!(lanes, [vec![LaneId::new(0); 2], vec![LaneId::new(1); 2]]);
    assert_eq!(beside.partitions(), system.partitions());
    let methods = charges_of(&system).map(|charge| charge.overhead);
    assert_eq!(methods.as_slice(), Calibration::OVERHEADS);
    assert!(Path::new("calibration") == beside.fleet().path());
    Ok(())
}
