//! Calibration and profile of a system: the measurements that admission stands on, as the files that keep them.

use std::path::Path;
use std::sync::Arc;

use aegis_sched::admission::{AdmissionController, AdmissionRequest, Verdict};
use aegis_sched::engine::Engine;
use aegis_sched::{
    Arrival, Basis, Criticality, OccupancyBudget, OnOverrun, Overheads, PartitionModel, Platform, Task,
    TaskSet, policy,
};
use aegis_types::{Bytes, LaneId, Nanos, TaskId, Time};

use crate::calibrate::{self, CalibrateOptions, Samples, Synthetic};
use crate::carrier::LaneReport;
use crate::config::{
    Calibration, CalibrationMethod, Exceedance, LaneCompany, MemoryProfile, Profile, SegmentProfile,
    TaskProfile, shapes_hash,
};
use crate::error::RuntimeError;
use crate::machine;
use crate::profile::{Measured, ProfileOptions, Victim, WcetProfiler, budget};
use crate::realtime::{self, Role};
use crate::run::with_crew;
use crate::system::System;
use crate::tally::Tally;

/// Tasks of the synthetic fleet on which the engine's steps are timed, at least.
const SYNTHETIC_TASKS: u16 = 32;

/// Samples by name.
pub type NamedSamples = (&'static str, Samples);

/// Which overhead is charged with which samples, and how they were taken.
pub const CHARGES: [(&str, Option<&str>, &str); 13] = [
    ("poll", Some("poll"), "one look at every lane while all lanes are busy"),
    (
        "release",
        Some("release"),
        "one timer input to an engine of 32 tasks or the fleet's, its records counted and traced",
    ),
    ("arrival", Some("release"), "charged as a timer release, which does the same and more"),
    ("completion", Some("completion"), "one completion told to that engine, its records counted and traced"),
    (
        "decision",
        Some("decision"),
        "one decision of that engine for all lanes together, its records counted and traced",
    ),
    ("dispatch", Some("dispatch"), "posting a launch and waking its carrier"),
    ("control", Some("release"), "charged as a timer release"),
    ("handoff", Some("handoff"), "from the post to the carrier's entry, all lanes busy"),
    ("launch_lock", None, "launches take no lock on this device"),
    ("wakeup", Some("wakeup"), "from a flag or a timer to the driver looking, all lanes busy"),
    ("client", Some("wakeup"), "charged as a wake-up of the driver"),
    ("notify", Some("dispatch"), "charged as waking a carrier"),
    (
        "stall",
        Some("wakeup"),
        "the charged wake-up: a timed wait that ends later is a stall; declared, not charged",
    ),
];

/// The samples of that name.
pub fn samples_of<'a>(samples: &'a [NamedSamples], name: &str) -> Option<&'a Samples> {
    samples.iter().find(|(of, _)| *of == name).map(|(_, samples)| samples)
}

fn method(charge: &(&str, Option<&str>, &str), samples: &[NamedSamples]) -> CalibrationMethod {
    let (overhead, from, method) = *charge;
    let of = from.and_then(|from| samples_of(samples, from));
    CalibrationMethod {
        overhead: overhead.to_owned(),
        method: method.to_owned(),
        samples: of.map_or(0, |of| of.count() as u64),
        p50: of.map_or(Nanos::ZERO, |of| of.quantile(500)),
        p99: of.map_or(Nanos::ZERO, |of| of.quantile(990)),
    }
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
    let lanes = system.partitions().iter().map(|(_, lanes)| *lanes).sum();
    let tasks = u16::try_from(system.models().len()).unwrap_or(u16::MAX).max(SYNTHETIC_TASKS);
    let mut synthetic = synthetic(tasks, lanes)?;
    let class = realtime::enter(Role::Driver, realtime);
    let device = Arc::clone(system.device());
    let measured =
        calibrate::calibrate(&device, system.partitions(), &mut synthetic, system.clock(), options, realtime);
    realtime::leave(realtime);
    let measured = measured?;
    let mut calibration = Calibration::new(path, measured.overheads);
    calibration.machine = machine::name();
    calibration.kernel = machine::kernel();
    calibration.driver = class;
    calibration.date = machine::wall_clock();
    calibration.decider_shares_cores = true;
    calibration.methods = CHARGES.iter().map(|charge| method(charge, &measured.samples)).collect();
    Ok((calibration, measured.samples))
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
    };
    let set = TaskSet::new((0..tasks).map(task).collect(), platform)?;
    let controller = AdmissionController::new(Box::new(policy::EarliestDeadline));
    match controller.analyze(&AdmissionRequest::new(&set).tight()).verdict {
        Verdict::Admitted(certificate) => {
            let tally = Tally::new(&set, &certificate);
            let engine = Engine::new(&set, certificate, Box::new(policy::EarliestDeadline), Time::ZERO)?;
            Ok(Synthetic { engine, tally })
        }
        Verdict::Refused(refusal) => {
            Err(RuntimeError::System { what: "making the synthetic fleet", reason: refusal.to_string() })
        }
    }
}

/// Profiles every task of a system; `tell` hears each task before it is measured. The result is saved nowhere yet.
///
/// # Errors
/// What device, memory or a model refuses; a segment that failed.
pub fn profile(
    system: &System,
    calibration: &Calibration,
    path: &Path,
    options: ProfileOptions,
    margin_ppm: u64,
    realtime: bool,
    mut tell: impl FnMut(&str),
) -> Result<(Profile, Vec<Measured>), RuntimeError> {
    let victims: Vec<Victim> = system
        .models()
        .iter()
        .map(|model| Victim {
            task: model.task,
            lane: system.lanes()[model.task.index()],
            segments: u16::try_from(model.description.graph.segments()).unwrap_or(u16::MAX),
            slots: 2,
        })
        .collect();
    let clock = system.clock();
    let (measured, reports) = with_crew(system, realtime, |plant| {
        let mut profiler = WcetProfiler::new(plant, clock, &victims, options);
        let measure = |(position, model): (usize, &crate::inventory::Model)| {
            tell(&model.config.name);
            profiler.measure(position)
        };
        system.models().iter().enumerate().map(measure).collect::<Result<Vec<_>, _>>()
    })?;
    let measured = measured.map_err(|error| failed(system, &reports, error.task))?;
    let tasks = measured
        .iter()
        .map(|task| task_profile(system, task, &reports, margin_ppm))
        .collect::<Result<Vec<_>, _>>()?;
    let machine = format!("{}; {}", calibration.machine, calibration.driver);
    let profile = Profile::new(path, machine, machine::wall_clock(), company(system), tasks);
    Ok((profile, measured))
}

/// A failing task with what its carrier last heard from the backend.
fn failed(system: &System, reports: &[LaneReport], task: TaskId) -> RuntimeError {
    let models = reports.iter().flat_map(|report| &report.models);
    let reason = models
        .filter(|model| model.task == task)
        .find_map(|model| model.failure.clone())
        .unwrap_or_else(|| "a segment failed".to_owned());
    system
        .fleet()
        .complain(task, "model", format!("it fails when it runs: {reason}"), "a model that runs")
        .into()
}

fn company(system: &System) -> Vec<LaneCompany> {
    let partitions =
        system.partitions().iter().flat_map(|(p, lanes)| std::iter::repeat_n(&p.name, (*lanes).into()));
    let name = |task: &TaskId| system.models()[task.index()].config.name.clone();
    partitions
        .zip(system.by_lane())
        .map(|(partition, tasks)| LaneCompany {
            partition: partition.clone(),
            tasks: tasks.iter().map(name).collect(),
        })
        .collect()
}

fn task_profile(
    system: &System,
    measured: &Measured,
    reports: &[LaneReport],
    margin_ppm: u64,
) -> Result<TaskProfile, RuntimeError> {
    let model = &system.models()[measured.task.index()];
    let others: usize = system.by_lane().len().saturating_sub(1);
    let lane = system.lanes()[measured.task.index()];
    let mates = system.lanes().iter().filter(|other| **other == lane).count() - 1;
    let between = if mates == 0 { "no lane-mate in between" } else { "lane-mates in between" };
    let level = format!("{others} other lanes running the fleet back to back, {between}");
    let mut segments = Vec::new();
    for samples in &measured.contended {
        let sorted = Samples::new(samples.clone());
        let bound = budget(samples, margin_ppm).ok_or_else(|| RuntimeError::System {
            what: "making a budget",
            reason: format!("the margin of {margin_ppm} ppm leaves the range of time"),
        })?;
        let n = samples.len() as u64;
        segments.push(SegmentProfile {
            budget: bound,
            samples: n,
            high_water: sorted.max(),
            margin_ppm,
            exceedance: Exceedance::of_clean_samples(n, 1),
            level: level.clone(),
            p50: sorted.quantile(500),
            p99: sorted.quantile(990),
        });
    }
    let used = reports.iter().flat_map(|report| &report.models).find(|used| used.task == measured.task);
    Ok(TaskProfile {
        task: model.config.name.clone(),
        model: model.description.hash,
        shapes: shapes_hash(&model.config.shapes),
        segments,
        memory: MemoryProfile {
            persistent: used.map_or(Bytes::ZERO, |used| used.memory.persistent),
            exchange: used.map_or(Bytes::ZERO, |used| used.memory.exchange),
            scratch: used.map_or(Bytes::ZERO, |used| used.memory.scratch),
        },
        alone: measured
            .alone
            .iter()
            .map(|samples| Samples::new(samples.clone()).quantile(500))
            .fold(Nanos::ZERO, Nanos::saturating_add),
    })
}
