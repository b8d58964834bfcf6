//! Calibration and profile of a system: the measurements that admission stands on, as the files that keep them.

use std::path::Path;

use aegis_cuda::DeviceKind;
use aegis_cuda::discovery::{Regime, Sources};
use aegis_sched::admission::{AdmissionController, AdmissionRequest, Verdict};
use aegis_sched::engine::Engine;
use aegis_sched::{
    Arrival, Basis, Criticality, OccupancyBudget, OnOverrun, Overheads, PartitionModel, Platform, Task,
    TaskSet, policy,
};
use aegis_types::{LaneId, Nanos, TaskId, Time};

use crate::calibrate::charges::{self, Charge};
use crate::calibrate::rehearsal::Rehearsal;
use crate::calibrate::{CalibrateOptions, Samples, Synthetic, asynchronous, synchronous};
use crate::carrier::CrewOptions;
use crate::config::profile::Level;
use crate::config::{CalibratedDevice, Calibration, DeviceLimits, Fleet, LaunchMode, Profile};
use crate::error::RuntimeError;
use crate::machine;
use crate::profile::{ProfileOptions, Stage, WcetProfiler};
use crate::realtime::{self, Role};
use crate::system::System;
use crate::tally::Tally;
use crate::waiting::Waiting;

/// Tasks of the synthetic fleet on which the engine's steps are timed, at least.
const SYNTHETIC_TASKS: u16 = 32;

/// Cores from which on the driver and every launcher of an asynchronous device have one each and leave one to everybody
/// else.
fn cores_needed(fleet: &Fleet) -> usize {
    let own = fleet.own_carriers().len();
    let lanes: usize = fleet.partitions().iter().map(|partition| usize::from(partition.lanes)).sum();
    let launchers = match fleet.launch() {
        LaunchMode::Carrier => own + usize::from(lanes > own),
        LaunchMode::Driver => 0,
    };
    launchers + 2
}

/// Samples by name.
pub type NamedSamples = (&'static str, Samples);

/// Which overhead is charged with which samples on the device of this system.
pub fn charges_of(system: &System) -> [Charge; 13] {
    let fleet = system.fleet();
    let sleeps = Waiting::from(fleet.wait()).sleeps();
    charges::charges(system.device().context().capabilities.asynchronous, fleet.launch(), sleeps)
}

/// Calibrates the machine for the partitions of a system; the result is saved nowhere yet.
///
/// # Errors
/// What the device refuses.
pub fn calibrate(
    system: &System,
    path: &Path,
    options: CalibrateOptions,
    realtime: bool,
) -> Result<(Calibration, Vec<NamedSamples>), RuntimeError> {
    let rehearsal = Rehearsal::kernels(system.device().context());
    calibrate_with(system, &rehearsal, path, options, realtime)
}

/// As [`calibrate`], with what keeps an asynchronous device busy.
///
/// # Errors
/// As [`calibrate`].
pub fn calibrate_with(
    system: &System,
    rehearsal: &Rehearsal,
    path: &Path,
    options: CalibrateOptions,
    realtime: bool,
) -> Result<(Calibration, Vec<NamedSamples>), RuntimeError> {
    let lanes = system.partitions().iter().map(|(_, lanes)| *lanes).sum();
    let tasks = u16::try_from(system.models().len()).unwrap_or(u16::MAX).max(SYNTHETIC_TASKS);
    let mut synthetic = synthetic(tasks, lanes)?;
    let fleet = system.fleet();
    let carriers = CrewOptions { waiting: fleet.wait().into(), realtime, launch: fleet.launch() };
    let class = realtime::enter(Role::Driver, realtime);
    let device = system.device().context();
    let asynchronous = device.capabilities.asynchronous;
    let measured = match asynchronous {
        true => asynchronous::calibrate(system, rehearsal, &mut synthetic, options, carriers),
        false => synchronous::calibrate(system, &mut synthetic, options, carriers),
    };
    realtime::leave(realtime);
    let measured = measured?;
    let mut calibration = Calibration::new(path, measured.overheads);
    calibration.machine = machine::name();
    calibration.kernel = machine::kernel();
    calibration.date = machine::wall_clock();
    calibration.driver = format!("{class}; {}", system.fleet().wait().name());
    calibration.wait = Some(system.fleet().wait());
    // Lanes of an asynchronous device occupy no core: launchers do, and whatever else the machine runs.
    calibration.decider_shares_cores = !asynchronous || machine::cores() < cores_needed(system.fleet());
    let method = |charge| charges::method(charge, &measured.samples);
    calibration.methods = charges_of(system).iter().map(method).collect();
    calibration.turn = measured.turn;
    calibration.figures = measured.figures;
    calibration.stalls = measured.stalls;
    calibration.rounds = measured.rounds;
    calibration.device = asynchronous.then(|| CalibratedDevice {
        name: device.name.clone(),
        versions: device.versions.clone(),
        lanes,
        own_carriers: fleet.own_carriers(),
        launch: fleet.launch(),
        regime: regime(system),
    });
    calibration.limits = Some(DeviceLimits::of(device, system.fleet().memory()));
    Ok((calibration, measured.samples))
}

/// The state of the device, where it is one that the machine tells of.
fn regime(system: &System) -> Option<Regime> {
    let device = system.fleet().device_config();
    if device.kind != DeviceKind::Cuda {
        return None;
    }
    let sources = Sources::system();
    let report = sources.discover(system.device().context().queue_limit).devices;
    let found = report.into_iter().find(|report| report.ordinal == device.ordinal)?;
    Some(sources.regime(&found.identity))
}

/// An engine under a certificate for so many light tasks on so many lanes.
fn synthetic(tasks: u16, lanes: u16) -> Result<Synthetic, RuntimeError> {
    let partitions = vec![PartitionModel { name: "synthetic".into(), lanes }];
    let platform = Platform::new(partitions, Overheads::default())?;
    let task = |number: u16| Task {
        id: TaskId::new(number),
        name: format!("synthetic-{number}"),
        lane: LaneId::new(number % lanes),
        period: Nanos::from_millis(10 + u64::from(number)),
        deadline: Nanos::from_millis(10 + u64::from(number)),
        jitter: Nanos::from_micros(10),
        arrival: Arrival::Periodic { offset: Nanos::from_micros(u64::from(number) * 37) },
        segments: vec![OccupancyBudget { bound: Nanos::from_micros(50), basis: Basis::Declared }],
        priority: None,
        criticality: Criticality::Medium,
        on_overrun: OnOverrun::Keep,
        retries: 0,
        weight: 1,
        excludes: Vec::new(),
    };
    let set = TaskSet::new((0..tasks).map(task).collect(), platform)?;
    let controller = AdmissionController::new(Box::new(policy::EarliestDeadline));
    match controller.analyze(&AdmissionRequest::new(&set).tight()).verdict {
        Verdict::Admitted(certificate) => {
            let tally = Tally::new(&set, &certificate);
            let engine = Engine::new(&set, certificate, Box::new(policy::EarliestDeadline), Time::ZERO)?;
            Ok(Synthetic { engine, tally, tasks })
        }
        Verdict::Refused(refusal) => {
            Err(RuntimeError::System { what: "making the synthetic fleet", reason: refusal.to_string() })
        }
    }
}

/// Profiles every task of a system without enemies, in one go and in the ordinary scheduling class; the result is saved
/// nowhere yet. [`WcetProfiler`] does the same in stages that can be interrupted.
///
/// # Errors
/// What device, memory or a model refuses; a segment that failed.
pub fn profile(
    system: &System,
    calibration: &Calibration,
    path: &Path,
    options: ProfileOptions,
) -> Result<Profile, RuntimeError> {
    let profiler = WcetProfiler::new(system, calibration, options);
    let state = profiler.run(profiler.blank(), Stage::All, None, |_| {}, |_| Ok(()))?;
    profiler.profile(&state, path, Level::Fleet)
}
