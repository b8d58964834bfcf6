//! A GPU that is not here: its calibration and profile, as another machine would have written them.

use std::collections::BTreeMap;

use aegis_cuda::Capabilities;
use aegis_sched::Overheads;
use aegis_types::{Bytes, ContentHash, Nanos};
use aegisrt::config::profile::{Level, SlowdownTable};
use aegisrt::config::{
    CalibratedDevice, Calibration, DeviceLimits, Exceedance, LaneCompany, LaunchMode, MemoryProfile, Profile,
    ProfiledPartition, SegmentProfile, TaskProfile, WaitMode, shapes_hash,
};

use crate::bench::Folder;

/// A model without work: budgets come from the profile.
pub const MODEL: &str =
    "kernel 1\ninput x f32 64\noutput y f32 64\nscratch 64KiB\nsegment\nstorm 1\nsegment\nstorm 1\nend\n";
pub const MACHINE: &str = "another machine, 16 cores";
pub const GPU: &str = "a large GPU";
pub const DATE: &str = "2026-01-31 12:00:00 UTC";

/// A task: name, lane, period in ms, budget of a job in µs, and more keys.
pub type Row<'a> = (&'a str, u16, u64, u64, &'a str);

/// Writes `fleet.toml`, `gpu.json` and `gpu-profile.json` for tasks on two lanes of one partition.
pub fn write(folder: &Folder, rows: &[Row<'_>], more: &str) {
    folder.write("fleet.toml", fleet("edf", rows, more)).write("model.kernel", MODEL);
    calibration(folder, |_| {});
    profile(folder, rows, |_| {});
}

pub fn fleet(policy: &str, rows: &[Row<'_>], more: &str) -> String {
    let task = |(name, lane, period, _, more): &Row<'_>| {
        format!(
            "\n[[task]]\nname = \"{name}\"\nmodel = \"model.kernel\"\nbackend = \"kernel\"\npartition = \"all\"\n\
             lane = {lane}\nperiod = \"{period}ms\"\nbudget = {{ memory = \"8MiB\" }}\n{more}\n"
        )
    };
    let tasks: String = rows.iter().map(task).collect();
    format!(
        "[device]\nkind = \"cuda:0\"\nmemory = \"1GiB\"\n\n[[partition]]\nname = \"all\"\nsms = 64\nlanes = 2\n\n\
         [policy]\nkind = \"{policy}\"\n{tasks}\n{more}\n"
    )
}

pub fn calibration(folder: &Folder, change: impl FnOnce(&mut Calibration)) {
    let micro = Nanos::from_micros(1);
    let overheads = Overheads {
        poll: micro,
        release: micro,
        arrival: micro,
        completion: micro,
        decision: micro,
        dispatch: micro,
        control: micro,
        handoff: micro,
        launch_lock: micro,
        wakeup: Nanos::ZERO,
        client: micro,
        notify: micro,
        stall: Nanos::from_millis(5_000),
    };
    let path = folder.path("gpu.json");
    let mut calibration = Calibration::new(&path, overheads);
    calibration.machine = MACHINE.into();
    calibration.kernel = "another kernel".into();
    calibration.date = DATE.into();
    calibration.wait = Some(WaitMode::Spin);
    calibration.turn = Some(micro);
    calibration.device = Some(device());
    let capabilities =
        Capabilities { partitions: true, asynchronous: true, graphs: true, unified_memory: false };
    calibration.limits =
        Some(DeviceLimits { units: 132, granularity: 8, minimum: 8, queues: 32, memory: None, capabilities });
    change(&mut calibration);
    calibration.save(&path).expect("the folder can be written");
}

fn device() -> CalibratedDevice {
    let (name, versions) = (GPU.into(), vec!["driver 1".into()]);
    let (own_carriers, launch) = (Vec::new(), LaunchMode::Carrier);
    CalibratedDevice { name, versions, lanes: 2, own_carriers, launch, regime: None }
}

pub fn profile(folder: &Folder, rows: &[Row<'_>], change: impl FnOnce(&mut Profile)) {
    let segment = |budget: Nanos| SegmentProfile {
        budget,
        samples: 100,
        high_water: Nanos::new(budget.get() / 2),
        margin_ppm: 200_000,
        exceedance: Exceedance::of_clean_samples(100, 1),
        level: "a test".into(),
        p50: Nanos::new(budget.get() / 4),
        p99: Nanos::new(budget.get() / 3),
        levels: Vec::new(),
    };
    let task = |(name, _, _, budget, _): &Row<'_>| TaskProfile {
        task: (*name).into(),
        model: ContentHash::of(MODEL.as_bytes()),
        shapes: shapes_hash(&BTreeMap::new()),
        segments: vec![segment(Nanos::from_micros(budget / 2)); 2],
        memory: MemoryProfile {
            persistent: Bytes::new(1 << 20),
            exchange: Bytes::new(1 << 16),
            scratch: Bytes::new(1 << 16),
            outside: Bytes::ZERO,
        },
        alone: Nanos::from_micros(budget / 4),
        turn: Nanos::from_micros(1),
    };
    let on = |lane: u16| LaneCompany {
        partition: "all".into(),
        tasks: rows.iter().filter(|row| row.1 == lane).map(|row| row.0.into()).collect(),
    };
    let path = folder.path("gpu-profile.json");
    let machine = format!("{MACHINE}; ordinary class");
    let mut profile =
        Profile::new(&path, machine, DATE.into(), vec![on(0), on(1)], rows.iter().map(task).collect());
    profile = profile.at(Level::Fleet, SlowdownTable::default()).on(Some(device()));
    profile.wait = Some(WaitMode::Spin);
    profile.partitions = vec![ProfiledPartition { name: "all".into(), units: 64, lanes: 2 }];
    change(&mut profile);
    profile.save(&path).expect("the folder can be written");
}

/// The command with both files, and more arguments.
pub fn with<'a>(command: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let files = [command, "fleet.toml", "--platform", "gpu.json", "--profile", "gpu-profile.json"];
    [&files, more].concat()
}

/// Two tasks on each lane, with room to spare.
pub const CALM: [Row<'static>; 4] = [
    ("camera", 0, 33, 2_000, ""),
    ("detector", 0, 50, 6_000, ""),
    ("tracker", 1, 20, 1_000, ""),
    ("policy", 1, 10, 500, ""),
];
/// One lane whose short task waits too long for the long one.
pub const TIGHT: [Row<'static>; 3] =
    [("short", 0, 10, 3_000, ""), ("long", 0, 50, 18_000, ""), ("aside", 1, 40, 1_000, "")];
