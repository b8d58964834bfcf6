//! From calibration to a run on an asynchronous device whose memory is just what the fleet asks for: models of several
//! segments, and enemies that come beside the fleet while it is profiled. The device is a fixture in real time; how fast
//! it is, is not asked.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use aegis_cuda::script::{Durations, ScriptedLoader};
use aegis_cuda::{Device, SimOptions};
use aegis_sched::{AdmissionController, AdmissionRequest};
use aegis_types::{Bytes, Nanos};
use aegisrt::calibrate::CalibrateOptions;
use aegisrt::calibrate::rehearsal::Rehearsal;
use aegisrt::config::profile::Level;
use aegisrt::config::{Calibration, Fleet, Profile};
use aegisrt::inventory::Loaders;
use aegisrt::live::Live;
use aegisrt::measure::calibrate_with;
use aegisrt::plant::ControlRequest;
use aegisrt::profile::enemies::{EnemyModel, Opposition, beside};
use aegisrt::profile::{ProfileOptions, Stage, WcetProfiler};
use aegisrt::run::{RunOptions, run};
use aegisrt::system::{Builder, System};
use aegisrt::waiting::Waiting;

#[path = "../../aegis-context/tests/late/mod.rs"]
mod late;

use late::{LateDevice, Operation};

const EDGES: &str = "script 1\ninput x f32 1x64\noutput y f32 1x8\nweights 4KiB\nscratch 1KiB\n";
/// The fleet's limit: its two budgets fit, and nothing else.
const LIMIT: Bytes = Bytes::new(140 << 10);

fn fleet(folder: &Path) -> Result<Fleet, Box<dyn Error>> {
    let segments = "segment 100us..200us\nsegment 200us..300us\nsegment 100us..150us\n";
    std::fs::write(folder.join("long.script"), format!("{EDGES}{segments}end\n"))?;
    std::fs::write(folder.join("short.script"), format!("{EDGES}segment 50us..100us\nend\n"))?;
    let task = |name: &str, lane: u16| {
        format!(
            "[[task]]\nname = \"{name}\"\nmodel = \"{name}.script\"\nbackend = \"script\"\npartition = \"all\"\n\
             lane = {lane}\nperiod = \"250ms\"\nbudget = {{ memory = \"64KiB\" }}\n"
        )
    };
    let text = format!(
        "[device]\nkind = \"sim\"\nmemory = \"{LIMIT}\"\n[[partition]]\nname = \"all\"\nsms = 4\nlanes = 2\n\
         [policy]\nkind = \"edf\"\n{}{}",
        task("long", 0),
        task("short", 1)
    );
    Ok(Fleet::parse(&folder.join("fleet.toml"), &text)?)
}

/// The fleet on a device with so much memory.
fn system(fleet: &Fleet, memory: Bytes) -> Result<(System, Arc<LateDevice>), Box<dyn Error>> {
    let options = SimOptions { memory, ..SimOptions::default() };
    let device = Arc::new(LateDevice::new(false, options));
    let shared: Arc<dyn Device> = Arc::<LateDevice>::clone(&device);
    let loader = Arc::new(ScriptedLoader::new(Durations::Seeded(3)));
    let system = Builder::new(fleet.clone()).loaders(Loaders::default().with(loader)).device(shared);
    Ok((system.build(|_| {})?, device))
}

fn calibrated(folder: &Path) -> Result<Calibration, Box<dyn Error>> {
    let model = |span: &str| format!("{EDGES}segment {span}\nend\n");
    let rehearsal = Rehearsal {
        loader: Arc::new(ScriptedLoader::new(Durations::Seeded(3))),
        floor: model("1us..2us"),
        busy: vec![model("50us..90us"), model("100us..200us")],
    };
    let options = CalibrateOptions { duration: Nanos::from_millis(2_000), ..CalibrateOptions::default() };
    // Floors copy megabytes: calibration has a device of its own.
    let (system, _) = system(&fleet(folder)?, Bytes::new(64 << 20))?;
    Ok(calibrate_with(&system, &rehearsal, &folder.join("platform.json"), options, false)?.0)
}

fn profiled(
    system: &System,
    opposition: Opposition,
    calibration: &Calibration,
    path: &Path,
) -> Result<Profile, Box<dyn Error>> {
    let options = ProfileOptions {
        time_per_task: Nanos::from_millis(1_500),
        samples: 20,
        strata_max: 3,
        margin_ppm: 1_000_000,
        ..ProfileOptions::default()
    };
    let profiler = WcetProfiler::new(system, calibration, options).against(opposition);
    let state = profiler.run(profiler.blank(), Stage::All, None, |_| {}, |_| Ok(()))?;
    let profile = profiler.profile(&state, path, Level::Fleet)?;
    profile.save(path)?;
    Ok(Profile::load(path)?)
}

#[test]
fn a_fleet_that_fills_its_limit_is_calibrated_profiled_admitted_and_run() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let fleet = fleet(folder.path())?;
    let calibration = calibrated(folder.path())?;
    let path = folder.path().join("profile.json");
    let enemy = EnemyModel {
        name: "enemy".into(),
        artifact: format!("{EDGES}segment 20us..40us\nend\n"),
        memory: Bytes::new(32 << 10),
        flushes: false,
    };
    let (enlarged, opposition) = beside(&fleet, folder.path(), &[enemy])?;
    let room = enlarged.memory().expect("the fleet has a limit");
    assert_eq!(room.saturating_sub(LIMIT), Bytes::new(2 * (32 << 10)), "a copy on each lane");

    // A device that was opened with the fleet's own limit has no room for enemies, and says whose room is missing.
    let (narrow, _) = system(&enlarged, LIMIT)?;
    let error = profiled(&narrow, opposition.clone(), &calibration, &path).expect_err("it is too narrow");
    for part in ["enemies", "140KiB", "204KiB", "legal"] {
        assert!(error.to_string().contains(part), "`{part}` was due: {error}");
    }
    let profile = profiled(&system(&enlarged, room)?.0, opposition, &calibration, &path)?;
    let turns: Vec<Nanos> = profile.tasks.iter().map(|task| task.turn).collect();
    assert!(turns.iter().all(|turn| !turn.is_zero()), "the launcher visited both: {turns:?}");

    let (system, device) = system(&fleet, LIMIT)?;
    profile.matches_device(system.device().context())?;
    let prepared = system.prepare(Some(&profile), &calibration)?;
    assert_eq!(prepared.gaps, []);
    let controller = AdmissionController::new(Box::new(Arc::clone(system.policy())));
    let report = controller.analyze(&AdmissionRequest::new(&prepared.set).tight());
    let certificate = report.certificate().ok_or_else(|| format!("{:?}", report.refusal()))?.clone();
    let options = RunOptions {
        duration: Nanos::from_millis(600),
        trace: None,
        keep_outputs: 0,
        poison: true,
        realtime: false,
        waiting: Waiting::Blocking,
        control: Arc::<ControlRequest>::default(),
        live: Arc::new(Live::default()),
    };
    let report = run(&system, &prepared, certificate, Some(&profile), &calibration, &options)?;
    for task in report.tally.tasks() {
        assert!(task.released > 1 && task.completed() == task.released, "{}: {task:?}", task.name);
    }
    let released: u64 = report.tally.tasks().iter().map(|task| task.released).sum();
    let copies = device.operations().iter().filter(|it| matches!(it, Operation::Copy(_))).count();
    assert!(copies as u64 >= 2 * released, "{copies} copies for {released} jobs");
    Ok(())
}
