//! A fleet on the GPU: opened, described, and its lanes handed to an experiment.

use std::sync::Arc;

use aegis_cuda::Device;
use aegis_types::{LaneId, Nanos};
use aegisrt::calibrate::CalibrateOptions;
use aegisrt::carrier::LaneReport;
use aegisrt::config::{Calibration, Fleet, unrest};
use aegisrt::plant::HostPlant;
use aegisrt::run::with_crew;
use aegisrt::system::{Builder, System};
use aegisrt::waiting::Waiting;

use super::card::{Gpu, Opened};
use super::circuit::{Carried, Circuit};
use super::error::ExperimentError;
use super::fleet::FleetPlan;
use super::store::Store;
use crate::sets::SplitMix;

/// How every experiment waits: threads that never sleep. Fleets say the same.
pub const WAITING: Waiting = Waiting::Spin;
/// Threads stay in the ordinary scheduling class.
pub const REALTIME: bool = false;

/// Stalls of the host up to this long are in what is measured; longer ones, a few a second on a host that is shared, void
/// what is in flight and are listed. Budgets of as many milliseconds hardly notice it.
const DECLARED: Nanos = Nanos::from_micros(100);

/// How often a machine is calibrated that is not calm.
const CALIBRATIONS: u32 = 5;

/// A fleet on its device.
pub struct Bed {
    system: System,
    device: Opened,
}

impl Bed {
    /// Writes the fleet's files, opens the device anew and describes the models.
    ///
    /// # Errors
    /// What device, fleet or backend refuse.
    pub fn open(gpu: &Gpu, store: &Store, plan: &FleetPlan) -> Result<Self, ExperimentError> {
        let fleet = plan.write(gpu, store)?;
        Self::of(gpu, fleet)
    }

    /// As [`open`](Self::open), for a fleet that stands in a file.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn of(gpu: &Gpu, fleet: Fleet) -> Result<Self, ExperimentError> {
        let device = gpu.open()?;
        let system = Builder::new(fleet).loaders(gpu.loaders()).device(device.device()).build(|_| {})?;
        Ok(Self { system, device })
    }

    /// The fleet with its models, lanes and clock.
    pub const fn system(&self) -> &System {
        &self.system
    }

    /// The device.
    pub fn device(&self) -> Arc<dyn Device> {
        self.device.device()
    }

    /// Lanes of all partitions.
    pub fn lane_count(&self) -> usize {
        self.system.partitions().iter().map(|(_, lanes)| usize::from(*lanes)).sum()
    }

    /// Puts every task on a lane.
    pub fn assign(&mut self, lanes: &[LaneId]) {
        self.system.assign(lanes.to_vec());
    }

    /// The tasks as they stand on their lanes.
    pub fn carried(&self) -> Vec<Carried> {
        let carried = |model: &aegisrt::inventory::Model| Carried {
            name: model.config.name.clone(),
            task: model.task,
            lane: self.system.lanes()[model.task.index()],
            segments: u16::try_from(model.description.graph.segments()).unwrap_or(u16::MAX),
            slots: 2,
        };
        self.system.models().iter().map(carried).collect()
    }

    /// Loads every model on its lane and hands the lanes to `drive`, on this thread.
    ///
    /// # Errors
    /// What device, memory or a model refuses; what `drive` says, with the backend's own words for a failed task.
    pub fn drive<R>(
        &self,
        drive: impl FnOnce(&mut Circuit<'_, HostPlant>, &mut SplitMix) -> Result<R, ExperimentError>,
    ) -> Result<R, ExperimentError> {
        let tasks = self.carried();
        let (result, reports) = with_crew(&self.system, REALTIME, |plant| {
            drive(&mut Circuit::new(plant, &tasks), &mut SplitMix(1))
        })?;
        tell(&tasks, &reports);
        result.map_err(|error| explain(error, &tasks, &reports))
    }

    /// Calibrates the machine for the lanes of this fleet, or reads what an earlier stage calibrated under this label.
    ///
    /// A host that is shared has bad seconds, and an experiment that calibrated in one would measure them instead of what
    /// it is about. So a calibration whose rounds say that the host was not calm is kept under a name of its own and taken
    /// again, a few times at most; the last stands whatever it says.
    ///
    /// # Errors
    /// What the device refuses.
    pub fn calibrate(
        &self,
        store: &Store,
        label: &str,
        seconds: u64,
    ) -> Result<Calibration, ExperimentError> {
        let path = store.path(&format!("{label}-platform"));
        if let Ok(known) = Calibration::load(&path) {
            return Ok(known);
        }
        let duration = Nanos::from_millis(seconds * 1_000);
        let options = CalibrateOptions { duration, stall: Some(DECLARED), ..CalibrateOptions::default() };
        let mut attempt = 1;
        loop {
            let (calibration, _samples) =
                aegisrt::measure::calibrate(&self.system, &path, options, REALTIME)?;
            let Some((calmest, worst)) = unrest(&calibration.rounds).filter(|_| attempt < CALIBRATIONS)
            else {
                calibration.save(&path)?;
                return Ok(calibration);
            };
            let steps = |number: usize| calibration.rounds[number - 1].steps;
            let (low, high) = (steps(calmest), steps(worst));
            store
                .tell(&format!("{label}: steps of {low} to {high} in one calibration, so it is taken again"));
            calibration.save(&store.path(&format!("{label}-platform-unrest-{attempt}")))?;
            attempt += 1;
        }
    }

    /// Ends the use of the device. What cannot be given back costs room and no result, so it is only told.
    pub fn close(self) {
        let Self { system, device } = self;
        drop(system);
        if let Err(error) = device.close() {
            eprintln!("note: {error}");
        }
    }
}

/// Visits of a launcher that are longer than this keep its other lanes waiting noticeably.
const LONG_TURN: Nanos = Nanos::from_micros(20);

/// Says what an experiment's figures may come from: how models were loaded, and who holds the launcher for long.
fn tell(tasks: &[Carried], reports: &[LaneReport]) {
    let models = reports.iter().flat_map(|report| &report.models);
    for model in models {
        let name = tasks.iter().find(|carried| carried.task == model.task).map_or("", |task| &task.name);
        model.remarks.iter().for_each(|remark| eprintln!("note: {name}: {remark}"));
        if model.turn > LONG_TURN {
            eprintln!("note: {name}: holds its launcher for {} at the median", model.turn);
        }
    }
}

/// A failed task with what its carrier last heard.
fn explain(error: ExperimentError, tasks: &[Carried], reports: &[LaneReport]) -> ExperimentError {
    let ExperimentError::Failed { task, reason } = error else { return error };
    let number = tasks.iter().find(|carried| carried.name == task).map(|carried| carried.task);
    let models = reports.iter().flat_map(|report| &report.models);
    let heard = models.filter(|model| Some(model.task) == number).find_map(|model| model.failure.clone());
    let reason = heard.map_or(reason.clone(), |heard| format!("{reason}: {heard}"));
    ExperimentError::Failed { task, reason }
}
