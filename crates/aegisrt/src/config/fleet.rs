//! The fleet: which models share which device, and under which contracts.
//!
//! A [`Fleet`] was checked as a whole: names are unique, partitions and lanes exist, spans and sizes mean something.
//! Whether it *fits* is not asked here; that is a verdict of admission.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use aegis_cuda::{DeviceKind, PartitionRequest, Units};
use aegis_memory::Thresholds;
use aegis_sched::{Arrival, Criticality, OnOverrun, PartitionModel};
use aegis_types::{Bytes, LaneId, Nanos, PartitionId, TaskId};
use serde::{Deserialize, Serialize};

use super::chain::{self, ChainConfig};
use super::check;
use super::error::ConfigError;
use super::file::{self, FleetFile, TasksFile};
use super::group::GroupConfig;
use super::source::{Source, Step, key};

/// A checked fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fleet {
    pub(super) device: DeviceConfig,
    pub(super) pressure: Option<Thresholds>,
    pub(super) partitions: Vec<PartitionConfig>,
    pub(super) policy: String,
    pub(super) groups: Vec<GroupConfig>,
    pub(super) tasks: Vec<TaskConfig>,
    pub(super) chains: Vec<ChainConfig>,
    pub(super) sources: Vec<Source>,
}

/// The device of a fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceConfig {
    /// What kind of device it is.
    pub kind: DeviceKind,
    /// Its number among the devices of its kind; zero where there is only one.
    pub ordinal: u32,
    /// Device memory that may be reserved; `None` leaves it to the runtime.
    pub memory: Option<Bytes>,
    /// How driver and carriers wait; `None` where the fleet says nothing: see [`Fleet::wait`].
    pub wait: Option<WaitMode>,
    /// Who launches.
    pub launch: LaunchMode,
}

impl DeviceConfig {
    /// The word for the device in a fleet.
    pub fn word(&self) -> String {
        match self.kind {
            DeviceKind::Host => "host".into(),
            DeviceKind::Sim => "sim".into(),
            DeviceKind::Cuda => format!("cuda:{}", self.ordinal),
        }
    }
}

/// How the driver, and on an asynchronous device every launcher, waits between events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WaitMode {
    /// It never sleeps: a core for the driver and for each launcher, and no wake-up to charge.
    Spin,
    /// It spins while something is in flight or about to happen, and sleeps otherwise.
    Hybrid,
    /// It sleeps until it is woken.
    Blocking,
}

impl WaitMode {
    /// Every mode.
    pub const ALL: [Self; 3] = [Self::Spin, Self::Hybrid, Self::Blocking];

    /// The word for it in a fleet.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Spin => "spin",
            Self::Hybrid => "hybrid",
            Self::Blocking => "blocking",
        }
    }
}

/// Which thread launches on an asynchronous device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LaunchMode {
    /// Carriers do, beside the driver: what a launch takes delays no decision.
    #[default]
    Carrier,
    /// The driver does, in the cycle in which it decides: one thread and one core less, no hand-off, and every cycle is
    /// longer by the launches in it.
    Driver,
}

impl LaunchMode {
    /// Every mode.
    pub const ALL: [Self; 2] = [Self::Carrier, Self::Driver];

    /// The word for it in a fleet.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Carrier => "carrier",
            Self::Driver => "driver",
        }
    }

    /// Whether it is what a fleet says that says nothing.
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serialization asks for")]
    pub(super) const fn is_default(&self) -> bool {
        matches!(self, Self::Carrier)
    }
}

/// A partition of the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionConfig {
    /// Its name, unique in the fleet.
    pub name: String,
    /// Its units: `cores` or `sms`.
    pub units: Units,
    /// How many segments may be in flight at once; at least one.
    pub lanes: u16,
    /// Lanes of the partition that have a carrier each, counted from 0 within it, ascending; the others share the
    /// launcher. Empty on devices whose every lane has a carrier anyway.
    pub own_carriers: Vec<u16>,
}

impl PartitionConfig {
    /// Whether some of its lanes have a carrier of their own and others share the launcher. Which tasks are on which is then
    /// for the fleet to say: a search for lanes would move what a budget was measured behind.
    pub fn is_mixed(&self) -> bool {
        !self.own_carriers.is_empty() && self.own_carriers.len() < usize::from(self.lanes)
    }
}

/// What executes a task's model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BackendKind {
    /// ONNX Runtime, on the host device or a CUDA device.
    Onnx,
    /// `tract`, on the host device.
    Tract,
    /// Modules compiled by TVM, on the host device or a CUDA device.
    Tvm,
    /// Plans of TensorRT, on a CUDA device.
    TensorRt,
    /// The built-in kernel workload, on a CUDA device.
    Kernel,
    /// Scripted segments, on the sim device.
    Script,
}

impl BackendKind {
    /// Every backend.
    pub const ALL: [Self; 6] =
        [Self::Onnx, Self::Tract, Self::Tvm, Self::TensorRt, Self::Kernel, Self::Script];

    /// The backends of a kind of device, the usual one first.
    pub const fn all_of(device: DeviceKind) -> &'static [Self] {
        match device {
            DeviceKind::Host => &[Self::Onnx, Self::Tract, Self::Tvm],
            DeviceKind::Cuda => &[Self::Kernel, Self::Onnx, Self::Tvm, Self::TensorRt],
            DeviceKind::Sim => &[Self::Script],
        }
    }

    /// The backend of a kind of device that this project's own work runs on, or the usual one.
    pub const fn of(device: DeviceKind) -> Self {
        match device {
            DeviceKind::Host => Self::Onnx,
            DeviceKind::Cuda => Self::Kernel,
            DeviceKind::Sim => Self::Script,
        }
    }

    /// The word for it in a fleet.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Onnx => "onnx",
            Self::Tract => "tract",
            Self::Tvm => "tvm",
            Self::TensorRt => "tensorrt",
            Self::Kernel => "kernel",
            Self::Script => "script",
        }
    }
}

/// Which lane of its partition a task runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaneChoice {
    /// Admission chooses.
    Auto,
    /// This one, counted from 0 within the partition.
    Fixed(u16),
}

/// An output that feeds an input of the task's next job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatePair {
    /// The output's name.
    pub output: String,
    /// The input's name.
    pub input: String,
}

/// The resources that a task is granted, as far as the fleet says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BudgetConfig {
    /// Device memory for weights, I/O, state and scratch together.
    pub memory: Bytes,
    /// Streams that the task's graph may occupy at once; at least one.
    pub streams: u32,
    /// Longest occupancy of a lane by one job; `None` leaves it to the profile.
    pub compute: Option<Nanos>,
}

/// Where a periodic task's inputs come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InputSource {
    /// Random numbers from this seed.
    Seed(u64),
    /// A recording: for each job in turn, the raw bytes of every input in order. The path is resolved.
    File(PathBuf),
}

/// One task as the fleet describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskConfig {
    /// Its name, unique in the fleet.
    pub name: String,
    /// The model's file; relative paths are resolved against the folder of the fleet.
    pub model: PathBuf,
    /// What executes the model.
    pub backend: BackendKind,
    /// Minimum time between arrivals.
    pub period: Nanos,
    /// Relative deadline; the period where the fleet says nothing.
    pub deadline: Nanos,
    /// The period that the application would like, where the fleet's is longer because more would not fit.
    pub natural_period: Option<Nanos>,
    /// The partition that it runs in.
    pub partition: PartitionId,
    /// The name of the group that it belongs to; one of the fleet's.
    pub group: Option<String>,
    /// The lane within the partition.
    pub lane: LaneChoice,
    /// How jobs arrive.
    pub arrival: Arrival,
    /// Latest release after the nominal arrival; less than the deadline.
    pub jitter: Nanos,
    /// How often a launch that failed before anything ran is tried again.
    pub retries: u32,
    /// What happens to queued jobs when the lane's tolerance is exceeded.
    pub on_overrun: OnOverrun,
    /// What is shed first.
    pub criticality: Criticality,
    /// Priority for the policy `fp`, which needs one; 0 is the most urgent.
    pub priority: Option<u32>,
    /// Segments of one turn under the policy `fair`; at least one.
    pub weight: u32,
    /// Names of tasks that it must not run beside.
    pub excludes: Vec<String>,
    /// Whether data-dependent control flow is accepted.
    pub allow_control_flow: bool,
    /// Shapes by input name.
    pub shapes: BTreeMap<String, Vec<u64>>,
    /// Recurrent state.
    pub state: Vec<StatePair>,
    /// What it is granted.
    pub budget: BudgetConfig,
    /// Inputs of its jobs, where no client brings them.
    pub inputs: InputSource,
    /// Which source wrote it and its position there, for complaints.
    pub(super) origin: (usize, usize),
}

impl Fleet {
    /// The longest period, deadline, offset or jitter: a day. Sums of a few of them stay far inside the range of time.
    pub const SPAN_MAX: Nanos = Nanos::new(86_400_000_000_000);

    /// Reads and checks a fleet.
    ///
    /// # Errors
    /// [`ConfigError`] with file, line, column, key, value and what would be legal.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        Self::of(Source::read(path)?)
    }

    /// Checks the text of a fleet; `path` names it in messages and is where relative paths start.
    ///
    /// # Errors
    /// As [`Fleet::read`].
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        Self::of(Source::new(path.into(), text.into()))
    }

    /// This fleet with the tasks of another file added: what would be if they came too. The file holds `[[task]]`
    /// tables only.
    ///
    /// # Errors
    /// As [`Fleet::read`], naming the other file.
    pub fn with_tasks_of(&self, path: &Path) -> Result<Self, ConfigError> {
        self.with_source(Source::read(path)?)
    }

    /// As [`Fleet::with_tasks_of`], for a text.
    ///
    /// # Errors
    /// As [`Fleet::with_tasks_of`].
    pub fn with_tasks(&self, path: &Path, text: &str) -> Result<Self, ConfigError> {
        self.with_source(Source::new(path.into(), text.into()))
    }

    fn of(source: Source) -> Result<Self, ConfigError> {
        let written: FleetFile =
            toml::from_str(source.text()).map_err(|error| source.explain(&error, file::legal))?;
        check::fleet(written, source)
    }

    fn with_source(&self, source: Source) -> Result<Self, ConfigError> {
        let written: TasksFile =
            toml::from_str(source.text()).map_err(|error| source.explain(&error, file::legal))?;
        let mut fleet = self.clone();
        fleet.sources.push(source);
        check::add_tasks(&mut fleet, written.task)?;
        Ok(fleet)
    }

    /// This fleet with other periods, one for each task. A deadline that equals the period follows it, and the period
    /// that the fleet had becomes the natural one where none was written.
    ///
    /// # Panics
    /// If there is not exactly one period for each task.
    pub fn stretched(&self, periods: &[Nanos]) -> Self {
        assert_eq!(periods.len(), self.tasks.len(), "one period for each task");
        let mut fleet = self.clone();
        for (task, &period) in fleet.tasks.iter_mut().zip(periods) {
            if period == task.period {
                continue;
            }
            task.natural_period =
                task.natural_period.or(Some(task.period)).filter(|natural| *natural <= period);
            if task.deadline == task.period {
                task.deadline = period;
            }
            task.period = period;
        }
        chain::follow(&mut fleet.chains, &fleet.tasks);
        fleet
    }

    /// This fleet with every task on the lane that is given for it, in the partition that the lane belongs to.
    ///
    /// # Panics
    /// If there is not one lane of the fleet for each task.
    pub fn on_lanes(&self, lanes: &[LaneId]) -> Self {
        assert_eq!(lanes.len(), self.tasks.len(), "one lane for each task");
        let mut fleet = self.clone();
        // A checked fleet has fewer partitions than u16 numbers.
        let ids = (0..=u16::MAX).map(PartitionId::new).take(self.partitions.len());
        let ranges: Vec<(PartitionId, Range<u16>)> = ids.map(|id| (id, self.lanes_of(id))).collect();
        for (task, lane) in fleet.tasks.iter_mut().zip(lanes) {
            let home = ranges.iter().find(|(_, range)| range.contains(&lane.get()));
            let (partition, range) = home.expect("the lane is one of the fleet's");
            task.partition = *partition;
            task.lane = LaneChoice::Fixed(lane.get() - range.start);
        }
        fleet
    }

    /// The fleet as text that [`Fleet::parse`] reads back as the same fleet, for a file in the fleet's own folder.
    pub fn to_toml(&self) -> String {
        let folder = self.sources.first().map_or(Path::new(""), Source::folder);
        toml::to_string(&check::write(self, folder)).expect("numbers, texts and tables of them are TOML")
    }

    /// Which kind of device it runs on.
    pub const fn device(&self) -> DeviceKind {
        self.device.kind
    }

    /// What it says of its device.
    pub const fn device_config(&self) -> &DeviceConfig {
        &self.device
    }

    /// Device memory that may be reserved; `None` where the fleet leaves it to the runtime.
    pub const fn memory(&self) -> Option<Bytes> {
        self.device.memory
    }

    /// The shares of the device's memory from which levels of pressure begin; the default ones where the fleet says
    /// nothing.
    pub fn pressure(&self) -> Thresholds {
        self.pressure.clone().unwrap_or_default()
    }

    /// This fleet with so much device memory more, for what is loaded beside it. Where it leaves its memory to the
    /// runtime, it still does.
    #[must_use]
    pub fn with_room_for(&self, more: Bytes) -> Self {
        let memory = self.device.memory.map(|memory| memory.checked_add(more).unwrap_or(Bytes::MAX));
        Self { device: DeviceConfig { memory, ..self.device }, ..self.clone() }
    }

    /// How driver and carriers wait. Where the fleet says nothing, a CUDA device is spun on, because waking up would
    /// cost more than a launch, and the host is not, because a core that spins is a core that no lane has.
    pub fn wait(&self) -> WaitMode {
        self.device.wait.unwrap_or(match self.device.kind {
            DeviceKind::Cuda => WaitMode::Spin,
            DeviceKind::Host | DeviceKind::Sim => WaitMode::Blocking,
        })
    }

    /// The partitions, by [`PartitionId`]; at least one.
    pub fn partitions(&self) -> &[PartitionConfig] {
        &self.partitions
    }

    /// The name of the policy: one of [`aegis_sched::POLICIES`] or [`aegis_sched::policy::INSERTING`].
    pub fn policy(&self) -> &str {
        &self.policy
    }

    /// The tasks, by [`TaskId`]; at least one.
    pub fn tasks(&self) -> &[TaskConfig] {
        &self.tasks
    }

    /// The task of that name.
    pub fn task(&self, name: &str) -> Option<(TaskId, &TaskConfig)> {
        let position = self.tasks.iter().position(|task| task.name == name)?;
        Some((task_id(position), &self.tasks[position]))
    }

    /// The file that the fleet was read from.
    pub fn path(&self) -> &Path {
        self.sources.first().map_or(Path::new(""), Source::path)
    }

    /// The partitions as the device makes them, in order.
    pub fn partition_requests(&self) -> Vec<PartitionRequest> {
        let request = |p: &PartitionConfig| PartitionRequest { name: p.name.clone(), units: p.units.clone() };
        self.partitions.iter().map(request).collect()
    }

    /// The partitions as the analysis sees them, in order.
    pub fn partition_models(&self) -> Vec<PartitionModel> {
        let model = |p: &PartitionConfig| PartitionModel { name: p.name.clone(), lanes: p.lanes };
        self.partitions.iter().map(model).collect()
    }

    /// The lanes of a partition; lanes are numbered through the partitions in order. Empty for a partition that does
    /// not exist.
    pub fn lanes_of(&self, partition: PartitionId) -> Range<u16> {
        let lanes = |p: &PartitionConfig| p.lanes;
        // The check of the fleet keeps the sum of all lanes within u16.
        let first: u16 = self.partitions.iter().take(partition.index()).map(lanes).sum();
        first..first + self.partitions.get(partition.index()).map_or(0, lanes)
    }

    /// Who launches.
    pub const fn launch(&self) -> LaunchMode {
        self.device.launch
    }

    /// The lanes that have a carrier each, of all partitions, ascending.
    pub fn own_carriers(&self) -> Vec<LaneId> {
        let ids = (0..=u16::MAX).map(PartitionId::new);
        let own = self.partitions.iter().zip(ids).flat_map(|(partition, id)| {
            let first = self.lanes_of(id).start;
            partition.own_carriers.iter().map(move |&lane| LaneId::new(first + lane))
        });
        own.collect()
    }

    /// What to say of a model that is launched by calls of its own, on a lane that shares the launcher with other lanes;
    /// `None` where nobody waits for it who need not.
    pub fn hint_of_carrier(&self, lane: LaneId) -> Option<String> {
        let own = self.own_carriers();
        let lanes: usize = self.partitions.iter().map(|partition| usize::from(partition.lanes)).sum();
        let ids = (0..=u16::MAX).map(PartitionId::new);
        let mut homes = self.partitions.iter().zip(ids).map(|(home, id)| (home, self.lanes_of(id)));
        let (home, range) = homes.find(|(_, range)| range.contains(&lane.get()))?;
        if self.launch() == LaunchMode::Driver {
            let waits = "the driver launches it, and decides nothing meanwhile; with launch = \"carrier\" in [device] it would";
            return Some(waits.to_owned());
        }
        if own.contains(&lane) || lanes < own.len() + 2 {
            return None;
        }
        Some(format!(
            "every lane of the launcher waits while it is launched; with own_carriers = [{}] in [[partition]] `{}` none would",
            lane.get() - range.start,
            home.name
        ))
    }

    /// For each task its lane, where the fleet fixes it; `None` where admission chooses among
    /// [`Fleet::lanes_of`] its partition.
    pub fn fixed_lanes(&self) -> Vec<Option<LaneId>> {
        let lane = |task: &TaskConfig| match task.lane {
            LaneChoice::Auto => None,
            LaneChoice::Fixed(number) => Some(LaneId::new(self.lanes_of(task.partition).start + number)),
        };
        self.tasks.iter().map(lane).collect()
    }

    /// For each task its fixed lane, or the first lane of its partition: a start for choosing.
    pub fn first_lanes(&self) -> Vec<LaneId> {
        let first = |task: &TaskConfig| LaneId::new(self.lanes_of(task.partition).start);
        let fixed = self.fixed_lanes();
        self.tasks.iter().zip(fixed).map(|(task, lane)| lane.unwrap_or_else(|| first(task))).collect()
    }

    /// A complaint about a key of a task, with its line: for what shows only later, such as a model that does not
    /// load. `key` is a path below the task, such as `model` or `budget.memory`.
    ///
    /// # Panics
    /// If there is no such task.
    pub fn complain(
        &self,
        task: TaskId,
        key: &str,
        problem: impl Into<String>,
        legal: impl Into<String>,
    ) -> ConfigError {
        let (source, path) = self.locate(task, key);
        source.complain(&path, problem.into(), legal.into())
    }

    /// A complaint about one of the cores of a partition, with the line of the file, for what only the device knows.
    /// Both are counted from 0.
    pub fn complain_core(
        &self,
        partition: usize,
        core: usize,
        problem: impl Into<String>,
        legal: impl Into<String>,
    ) -> ConfigError {
        // Only the first source has partitions; others add tasks.
        self.sources[0].complain(&key!["partition", partition, "cores", core], problem.into(), legal.into())
    }

    /// A complaint about the device, for what only this machine knows. `key` stands below `device`.
    pub fn complain_device(
        &self,
        key: &str,
        problem: impl Into<String>,
        legal: impl Into<String>,
    ) -> ConfigError {
        self.sources[0].complain(&key!["device", key], problem.into(), legal.into())
    }

    /// A complaint about the policy, for what is not asked of every fleet.
    pub fn complain_policy(&self, problem: impl Into<String>, legal: impl Into<String>) -> ConfigError {
        self.sources[0].complain(&key!["policy", "kind"], problem.into(), legal.into())
    }

    /// A complaint about a key of a partition, counted from 0, for what only the device knows.
    pub fn complain_partition(
        &self,
        partition: usize,
        key: &str,
        problem: impl Into<String>,
        legal: impl Into<String>,
    ) -> ConfigError {
        self.sources[0].complain(&key!["partition", partition, key], problem.into(), legal.into())
    }

    pub(super) fn locate(&self, task: TaskId, key: &str) -> (&Source, Vec<Step>) {
        let (source, position) = self.tasks[task.index()].origin;
        let mut path = vec![Step::from("task"), Step::from(position)];
        path.extend(key.split('.').map(Step::from));
        (&self.sources[source], path)
    }
}

/// The number of the task at a position of a checked fleet.
pub(super) fn task_id(position: usize) -> TaskId {
    TaskId::new(u16::try_from(position).expect("a fleet has at most TaskSet::TASKS_MAX tasks"))
}
