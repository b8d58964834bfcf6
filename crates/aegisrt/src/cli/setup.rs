//! A fleet with everything that was measured of it, on its device, with every task on a lane.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aegis_context::ContextError;
use aegis_cuda::{BackendError, Device, DeviceKind, HostDevice, HostOptions, TensorSpec, Units};
use aegis_memory::{Demand, MemoryError, MemoryPlan, Shortage};
use aegis_sched::assign::{LaneChoice, assign};
use aegis_sched::{AdmissionController, AdmissionReport, AdmissionRequest, TaskSet};
use aegis_types::{Bytes, LaneId, PartitionId, TaskId};
use clap::Args;

use crate::config::{Calibration, Facts, Fleet, InputSource, PartitionConfig, Prepared, Profile, prepare};
use crate::error::RuntimeError;
use crate::feed::{BadRecording, recorded_job};
use crate::intake;
use crate::inventory::legal_apart;
use crate::machine;
use crate::system::{Builder, System, device, slots_by_contract};

use super::answer::CliError;
use super::backends::Libraries;
use super::recorded::{Origin, RecordedDevice};
use super::{Environment, connections, verdict};

/// A fleet and the files beside it.
#[derive(Clone, Debug, Args)]
pub struct FleetArgs {
    /// The fleet: device, partitions, policy and tasks.
    pub fleet: PathBuf,
    /// What `aegis profile` measured [default: profile.json beside the fleet, where it exists].
    #[arg(long, value_name = "FILE")]
    pub profile: Option<PathBuf>,
    /// What `aegis calibrate` measured [default: platform.json beside the fleet].
    #[arg(long, value_name = "FILE")]
    pub platform: Option<PathBuf>,
}

impl FleetArgs {
    /// The profile, if one is named or stands beside the fleet.
    ///
    /// # Errors
    /// What is wrong in it, or that it was made elsewhere.
    pub fn load_profile(&self) -> Result<Option<Profile>, CliError> {
        let path = self.profile_path();
        if self.profile.is_none() && !path.exists() {
            return Ok(None);
        }
        let profile = Profile::load(&path)?;
        profile.matches_machine(&machine::name())?;
        Ok(Some(profile))
    }

    /// Where the calibration is, or would be.
    pub fn platform_path(&self) -> PathBuf {
        self.platform.clone().unwrap_or_else(|| beside(&self.fleet, "platform.json"))
    }

    /// Where the profile is, or would be.
    pub fn profile_path(&self) -> PathBuf {
        self.profile.clone().unwrap_or_else(|| beside(&self.fleet, "profile.json"))
    }

    /// The calibration that is named or stands beside the fleet, made on this machine.
    ///
    /// # Errors
    /// That there is none, what is wrong in it, or that it was made elsewhere.
    pub fn load_calibration(&self) -> Result<Calibration, CliError> {
        let path = self.platform_path();
        if !path.exists() {
            let (path, fleet) = (path.display(), self.fleet.display());
            return Err(CliError::Input(format!(
                "{path}: there is no such file, and overheads are measured, never assumed; run \
                 `aegis calibrate {fleet} -o {path}` once on this machine"
            )));
        }
        let calibration = Calibration::load(&path)?;
        calibration.matches(&machine::name(), &machine::kernel())?;
        Ok(calibration)
    }
}

/// A file in the folder of another.
pub fn beside(fleet: &Path, name: &str) -> PathBuf {
    fleet.parent().unwrap_or(Path::new("")).join(name)
}

/// Everything that admission, plan and run start from.
pub struct Setup {
    /// The fleet on its device.
    pub system: System,
    /// What was measured of the models, if anything.
    pub profile: Option<Profile>,
    /// What was measured of the machine.
    pub calibration: Calibration,
    /// The task set, each task on the lane that is fixed or was found for it.
    pub prepared: Prepared,
    /// The libraries that run the models.
    pub libraries: Libraries,
    /// Whom the verdict is about, where it is not this machine.
    pub origin: Option<Origin>,
}

impl Setup {
    /// Opens a fleet, its measured files and its models, and puts every task on a lane.
    ///
    /// # Errors
    /// What is wrong in any of them.
    pub fn open(args: &FleetArgs, fleet: Fleet, environment: &Environment) -> Result<Self, CliError> {
        // A device that is not here is said first: no file beside the fleet would help.
        let device = open_device(&fleet, environment)?;
        let calibration = args.load_calibration()?;
        calibration.matches_device(device.context(), lanes_of(&fleet))?;
        calibration.matches_wait(fleet.wait())?;
        let profile = args.load_profile()?;
        if let Some(profile) = &profile {
            profile.matches_device(device.context())?;
            profile.matches_wait(fleet.wait())?;
        }
        Self::assemble(device, fleet, calibration, profile, environment)
    }

    /// A fleet on its device with files that speak of it, every task on a lane.
    pub(super) fn assemble(
        device: Arc<dyn Device>,
        fleet: Fleet,
        calibration: Calibration,
        profile: Option<Profile>,
        environment: &Environment,
    ) -> Result<Self, CliError> {
        Self::assemble_with(device, fleet, calibration, profile, (Libraries::default(), environment))
    }

    /// As [`Setup::assemble`], with the libraries that are loaded already.
    fn assemble_with(
        device: Arc<dyn Device>,
        fleet: Fleet,
        calibration: Calibration,
        profile: Option<Profile>,
        (libraries, environment): (Libraries, &Environment),
    ) -> Result<Self, CliError> {
        let (mut system, libraries) = open_system_on(device, fleet, libraries, environment)?;
        let mut prepared = system.prepare(profile.as_ref(), &calibration)?;
        if let Some(lanes) = choose_lanes(system.fleet(), &prepared.set, &system)? {
            system.assign(lanes);
            prepared = system.prepare(profile.as_ref(), &calibration)?;
        }
        Ok(Self { system, profile, calibration, prepared, libraries, origin: None })
    }

    /// Another version of the fleet with the same calibration and library, and perhaps another profile that is known to
    /// be of this device. A process loads a library once, and a device is divided for one fleet at a time.
    ///
    /// # Errors
    /// As [`Setup::open`].
    pub(super) fn again(
        self,
        fleet: Fleet,
        profile: Option<Profile>,
        environment: &Environment,
    ) -> Result<Self, CliError> {
        let Self { system, calibration, libraries, origin, .. } = self;
        drop(system);
        let device: Arc<dyn Device> = match origin {
            Some(_) => Arc::new(RecordedDevice::new(&fleet, &calibration)?),
            None => open_device(&fleet, environment)?,
        };
        calibration.matches_device(device.context(), lanes_of(&fleet))?;
        let files = (libraries, environment);
        Ok(Self { origin, ..Self::assemble_with(device, fleet, calibration, profile, files)? })
    }

    /// The verdict on the fleet, with response times and tolerated overruns.
    pub fn analyze(&self) -> AdmissionReport {
        self.controller().analyze(&AdmissionRequest::new(&self.prepared.set).tight())
    }

    /// Admission under the fleet's policy.
    pub fn controller(&self) -> AdmissionController {
        AdmissionController::new(Box::new(Arc::clone(self.system.policy())))
    }

    /// Input slots of each task: as many as the certificate grants, or else the contract.
    pub fn slots(&self, report: &AdmissionReport) -> Vec<u32> {
        let set = &self.prepared.set;
        let queue = |task: &aegis_sched::Task| {
            let (lane, position) = report.certificate()?.task(task.id)?;
            Some(lane.tasks()[position].queue.max(1))
        };
        let certified: Option<Vec<u32>> = set.tasks().iter().map(queue).collect();
        certified.unwrap_or_else(|| slots_by_contract(set))
    }

    /// One memory plan for all tasks, with the input slots of [`Setup::slots`].
    ///
    /// # Errors
    /// [`CliError::Refused`] with the missing bytes and the smallest change; a budget that is too small.
    pub fn plan(&self, report: &AdmissionReport) -> Result<MemoryPlan, CliError> {
        self.plan_or_shortage(report)?.map_err(|shortage| {
            let refusal = verdict::shortage(&shortage, &self.prepared.set);
            CliError::Refused(refusal + &self.outside_text().unwrap_or_default())
        })
    }

    /// What no plan may take, behind a sentence; `None` where that is nothing.
    pub fn outside_text(&self) -> Option<String> {
        let outside = self.system.outside(self.profile.as_ref());
        let all = self.system.device().context().memory;
        (!outside.is_zero()).then(|| {
            format!(
                "; of the device's {all}, {outside} are left to code and workspaces that libraries take by themselves, as \
                 measured"
            )
        })
    }

    /// As [`Setup::plan`], with a shortage as a value.
    ///
    /// # Errors
    /// Whatever else keeps the fleet from being planned.
    pub fn plan_or_shortage(
        &self,
        report: &AdmissionReport,
    ) -> Result<Result<MemoryPlan, Box<Shortage>>, CliError> {
        let demands = self.system.demands(self.profile.as_ref(), &self.slots(report))?;
        match self.system.plan(&demands, self.system.room(self.profile.as_ref())) {
            Err(RuntimeError::Memory(MemoryError::Shortage(shortage))) => Ok(Err(shortage)),
            Err(other) => Err(other.into()),
            Ok(plan) => Ok(Ok(plan)),
        }
    }

    /// The demands of all tasks if one of them had another memory budget.
    ///
    /// # Errors
    /// As [`System::demands`].
    pub fn demands_with(
        &self,
        slots: &[u32],
        task: TaskId,
        budget: Bytes,
    ) -> Result<Vec<Demand>, RuntimeError> {
        self.system.with_budget(task, budget).demands(self.profile.as_ref(), slots)
    }

    /// The task set of another version of the same fleet: other periods, the same models.
    ///
    /// # Errors
    /// As [`prepare()`].
    pub fn prepare_as(&self, fleet: &Fleet, lanes: &[LaneId]) -> Result<Prepared, CliError> {
        let facts: Vec<Facts> =
            self.system.models().iter().map(|model| Facts::from(&model.description)).collect();
        Ok(prepare(fleet, self.profile.as_ref(), &self.calibration, lanes, &facts)?)
    }
}

/// Opens the device and describes the models of a fleet; every task is on the first of its lanes.
///
/// # Errors
/// What device, library or fleet refuse.
pub fn open_system(fleet: Fleet, environment: &Environment) -> Result<(System, Libraries), CliError> {
    let device = open_device(&fleet, environment)?;
    open_system_on(device, fleet, Libraries::default(), environment)
}

/// As [`open_system`], on the fleet's device, which is open already.
fn open_system_on(
    device: Arc<dyn Device>,
    fleet: Fleet,
    mut libraries: Libraries,
    environment: &Environment,
) -> Result<(System, Libraries), CliError> {
    readable_files(&fleet)?;
    let loaders = libraries.loaders(&fleet, environment)?;
    let system = Builder::new(fleet).loaders(loaders).device(device).build(|_| {})?;
    whole_recordings(&system)?;
    Ok((system, libraries))
}

/// Opens the fleet's device, if it is a real one.
pub(super) fn open_device(fleet: &Fleet, environment: &Environment) -> Result<Arc<dyn Device>, CliError> {
    match fleet.device() {
        DeviceKind::Host => usable_cores(fleet)?,
        DeviceKind::Cuda => {}
        DeviceKind::Sim => {
            let problem = "this command drives real devices, and the simulator is run by `aegis simulate`";
            return Err(fleet.complain_device("kind", problem, "\"host\" or \"cuda:0\"").into());
        }
    }
    Ok(device::open(fleet, connections::given(environment.connections.as_deref())?)?)
}

/// Lanes of all partitions of a fleet.
pub(super) fn lanes_of(fleet: &Fleet) -> u16 {
    // The check of the fleet keeps the sum within u16.
    fleet.partitions().iter().map(|partition| partition.lanes).sum()
}

/// A core that this machine does not have is reported where the fleet names it.
fn usable_cores(fleet: &Fleet) -> Result<(), CliError> {
    let usable: Vec<u32> = HostDevice::new(HostOptions { memory: Bytes::ZERO })?
        .partitions()
        .into_iter()
        .flat_map(|partition| partition.unit_numbers)
        .collect();
    for (index, partition) in fleet.partitions().iter().enumerate() {
        let Units::These(cores) = &partition.units else { continue };
        if let Some(place) = cores.iter().position(|core| !usable.contains(core)) {
            let names: Vec<String> = usable.iter().map(u32::to_string).collect();
            let problem = "there is no such core here, or it may not be used";
            return Err(fleet
                .complain_core(index, place, problem, format!("one of {}", names.join(", ")))
                .into());
        }
    }
    Ok(())
}

/// A file that is not there is reported before a library that is not there: it is the likelier mistake.
fn readable_files(fleet: &Fleet) -> Result<(), CliError> {
    for (index, task) in fleet.tasks().iter().enumerate() {
        // A checked fleet has far fewer tasks than u16 numbers.
        let id = aegis_types::TaskId::new(index as u16);
        let complain = |key: &str, path: &Path, reason: String, legal: &str| {
            let problem = format!("`{}` cannot be read: {reason}", path.display());
            Err(CliError::from(fleet.complain(id, key, problem, legal)))
        };
        if let Err(reason) = readable(&task.model) {
            return complain("model", &task.model, reason, "the path of a readable model file");
        }
        if let InputSource::File(path) = &task.inputs
            && let Err(reason) = readable(path)
        {
            return complain("inputs.file", path, reason, "the path of a readable file of recorded inputs");
        }
    }
    Ok(())
}

/// A recording that does not divide into jobs is reported before anything is measured or admitted.
fn whole_recordings(system: &System) -> Result<(), CliError> {
    for model in system.models() {
        let InputSource::File(path) = &model.config.inputs else { continue };
        let inputs = model.fed_inputs();
        let size = std::fs::metadata(path).map_or(0, |known| known.len());
        let Err(BadRecording { sample: job, .. }) = recorded_job(size, &inputs) else { continue };
        let read = |input: &TensorSpec| format!("`{}` {:?} {:?}", input.name, input.element, input.shape);
        let problem = match inputs.is_empty() {
            true => "the model takes no input that could be recorded".to_owned(),
            false => format!("{} are no whole number of jobs", Bytes::new(size)),
        };
        let order: Vec<String> = inputs.iter().map(read).collect();
        let legal = match inputs.is_empty() {
            true => "no entry, or { seed = 1 }".to_owned(),
            false => format!(
                "{} for each job: the elements of {}, in this order, little-endian, nothing between",
                Bytes::new(job),
                order.join(", ")
            ),
        };
        return Err(system.fleet().complain(model.task, "inputs.file", problem, legal).into());
    }
    Ok(())
}

/// An error with the fleet's line, where it is a model that failed when its lane ran it for the first time.
pub(super) fn placed(error: RuntimeError, fleet: &Fleet) -> CliError {
    let failed = match &error {
        RuntimeError::Backend(failed) | RuntimeError::Context(ContextError::Backend(failed)) => failed,
        _ => return error.into(),
    };
    let BackendError::Execution { model, reason, started: true } = failed else { return error.into() };
    let Some((task, _)) = fleet.task(model) else { return error.into() };
    let (problem, legal) = legal_apart(reason);
    let legal = legal.unwrap_or("a model that runs; while it is loaded, its inputs are zeros");
    fleet.complain(task, "model", format!("it fails when it runs: {problem}"), legal).into()
}

/// Whether a file can be read, without reading it.
fn readable(path: &Path) -> Result<(), String> {
    let opened = intake::check_regular(path).and_then(|()| std::fs::File::open(path));
    opened.map(drop).map_err(|error| error.to_string())
}

/// Lanes for tasks that the fleet leaves open; `None` if it leaves none open.
///
/// # Errors
/// As [`assign`].
pub fn choose_lanes(fleet: &Fleet, set: &TaskSet, system: &System) -> Result<Option<Vec<LaneId>>, CliError> {
    if fleet.fixed_lanes().iter().all(Option::is_some) {
        return Ok(None);
    }
    Ok(Some(assign(set, &lane_choices(fleet, false), system.policy().as_ref())?.lanes))
}

/// The lanes that each task may use. With `all` a lane that the fleet names binds only tasks that are bound to it by
/// more than a choice.
pub(super) fn lane_choices(fleet: &Fleet, all: bool) -> Vec<LaneChoice> {
    let tasks = fleet.tasks().iter().zip(fleet.fixed_lanes()).zip(bound(fleet));
    let choice = |((task, fixed), bound): ((&crate::config::TaskConfig, Option<LaneId>), bool)| match fixed {
        Some(lane) if !all || bound => LaneChoice::Fixed(lane),
        _ => LaneChoice::Among(fleet.lanes_of(task.partition).map(LaneId::new).collect()),
    };
    tasks.map(choice).collect()
}

/// For each task whether its lane is no matter of choice: it excludes another or is excluded by one, and what waiting
/// costs depends on where both are, or some lanes of its partition have carriers of their own.
pub(super) fn bound(fleet: &Fleet) -> Vec<bool> {
    let excluded = |name: &String| fleet.tasks().iter().any(|task| task.excludes.contains(name));
    let mixed = |id: PartitionId| fleet.partitions().get(id.index()).is_some_and(PartitionConfig::is_mixed);
    let bound = |task: &crate::config::TaskConfig| {
        !task.excludes.is_empty() || excluded(&task.name) || mixed(task.partition)
    };
    fleet.tasks().iter().map(bound).collect()
}
