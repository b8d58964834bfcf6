//! What a fleet means: from tables as written to a checked fleet, and back to tables.

use std::collections::BTreeMap;
use std::path::Path;

use aegis_cuda::{DeviceKind, Units};
use aegis_memory::{MemoryError, Thresholds};
use aegis_sched::policy::INSERTING;
use aegis_sched::{Arrival, POLICIES, TaskSet};
use aegis_types::PartitionId;

use super::chain;
use super::error::ConfigError;
use super::file::{
    ArrivalFile, BudgetFile, DEVICES, DeviceFile, EXCLUDE, FleetFile, InputsFile, LAUNCH, LaneFile,
    MemoryFile, OWN_CARRIERS, PRESSURE, PartitionFile, PolicyFile, TaskFile,
};
use super::fleet::{
    DeviceConfig, Fleet, InputSource, LaneChoice, LaunchMode, PartitionConfig, TaskConfig, WaitMode,
};
use super::group;
use super::source::{Source, Step, key};
use super::task;

/// A table of a source, for complaints about its keys.
#[derive(Clone)]
pub(super) struct Table<'a> {
    source: &'a Source,
    base: Vec<Step>,
}

impl<'a> Table<'a> {
    pub(super) fn new(source: &'a Source, base: &[Step]) -> Self {
        Self { source, base: base.to_vec() }
    }

    /// A complaint about what stands at `below` in the table.
    pub(super) fn bad(
        &self,
        below: &[Step],
        problem: impl Into<String>,
        legal: impl Into<String>,
    ) -> ConfigError {
        let path = [self.base.as_slice(), below].concat();
        self.source.complain(&path, problem.into(), legal.into())
    }

    /// The number at `below`, if it lies in the range.
    pub(super) fn number<T: TryFrom<i64>>(
        &self,
        below: &[Step],
        number: i64,
        min: i64,
        max: i64,
    ) -> Result<T, ConfigError> {
        let legal = || format!("a whole number from {min} to {max}");
        let inside = (min..=max).contains(&number).then(|| T::try_from(number).ok()).flatten();
        inside.ok_or_else(|| self.bad(below, "out of range", legal()))
    }

    /// The name in the table, if tools can print and select by it.
    pub(super) fn name(&self, name: &str) -> Result<String, ConfigError> {
        let legal_char = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
        if (1..=NAME_MAX).contains(&name.chars().count()) && name.chars().all(legal_char) {
            return Ok(name.into());
        }
        let legal = format!("1 to {NAME_MAX} letters, digits, '_', '-' or '.'");
        Err(self.bad(&key!["name"], "not a name", legal))
    }
}

/// Longest name, in characters: a name has to fit a column of a table.
const NAME_MAX: usize = 64;
/// The largest core number and count of units; what a device really has, it answers for itself.
const UNIT_MAX: i64 = 65_535;

pub(super) fn fleet(written: FleetFile, source: Source) -> Result<Fleet, ConfigError> {
    let device = device(&written.device, &source)?;
    let pressure = pressure(written.memory.as_ref(), &source)?;
    let partitions = partitions(&written.partition, &device, &source)?;
    let policy = policy(&written.policy, &source)?;
    let (groups, tasks, chains) = (Vec::new(), Vec::new(), Vec::new());
    let sources = vec![source];
    let mut fleet = Fleet { device, pressure, partitions, policy, groups, tasks, chains, sources };
    fleet.groups = group::check(&written.group, &fleet)?;
    add_tasks(&mut fleet, written.task)?;
    group::check_members(&fleet)?;
    fleet.chains = chain::check(written.chain, &fleet)?;
    Ok(fleet)
}

/// Checks tasks that the last source of `fleet` wrote, and adds them.
pub(super) fn add_tasks(fleet: &mut Fleet, written: Vec<TaskFile>) -> Result<(), ConfigError> {
    let position = fleet.sources.len() - 1;
    let count = fleet.tasks.len().saturating_add(written.len());
    if !(1..=TaskSet::TASKS_MAX).contains(&count) {
        let problem = format!("{count} tasks");
        let legal = format!("1 to {} tables [[task]]", TaskSet::TASKS_MAX);
        return Err(fleet.sources[position].complain(&key!["task"], problem, legal));
    }
    let mut names: BTreeMap<String, usize> =
        fleet.tasks.iter().enumerate().map(|(index, task)| (task.name.clone(), index)).collect();
    for (index, task) in written.into_iter().enumerate() {
        let base = key!["task", index];
        let table = Table::new(&fleet.sources[position], &base);
        if let Some(first) = names.insert(task.name.clone(), fleet.tasks.len()) {
            let problem = format!("the fleet's task number {first} has the same name");
            return Err(table.bad(&key!["name"], problem, "a name that no other task has"));
        }
        let checked = task::check(task, fleet, &table, (position, index))?;
        fleet.tasks.push(checked);
    }
    check_exclusions(fleet)
}

/// Names of excluded tasks exist, and the lanes of both are fixed: what waiting costs depends on who is where, and an
/// assignment would move the cost along.
fn check_exclusions(fleet: &Fleet) -> Result<(), ConfigError> {
    let known: BTreeMap<&str, &TaskConfig> =
        fleet.tasks.iter().map(|task| (task.name.as_str(), task)).collect();
    for task in &fleet.tasks {
        let (source, number) = task.origin;
        for (index, name) in task.excludes.iter().enumerate() {
            let problem = match known.get(name.as_str()) {
                None => "no such task",
                Some(other) if other.name == task.name => "a task cannot exclude itself",
                Some(other) if task.lane == LaneChoice::Auto || other.lane == LaneChoice::Auto => {
                    "one of the two has no lane of its own, and what waiting costs depends on the lanes"
                }
                Some(_) => continue,
            };
            let path = key!["task", number, "exclude", index];
            return Err(fleet.sources[source].complain(&path, problem.into(), EXCLUDE.into()));
        }
    }
    Ok(())
}

/// Where levels of memory pressure begin, where the fleet says it.
fn pressure(written: Option<&MemoryFile>, source: &Source) -> Result<Option<Thresholds>, ConfigError> {
    let Some(MemoryFile { pressure }) = written else { return Ok(None) };
    let table = Table::new(source, &key!["memory", "pressure"]);
    let percent = |(position, &value): (usize, &i64)| {
        u8::try_from(value).map_err(|_| table.bad(&key![position], "out of range", PRESSURE))
    };
    let percent = pressure.iter().enumerate().map(percent).collect::<Result<Vec<u8>, _>>()?;
    Thresholds::new(percent).map(Some).map_err(|error| match error {
        MemoryError::BadThreshold { position, below, .. } => {
            table.bad(&key![position], format!("the threshold before it is {below}"), PRESSURE)
        }
        other => table.bad(&[], other.to_string(), PRESSURE),
    })
}

fn device(written: &DeviceFile, source: &Source) -> Result<DeviceConfig, ConfigError> {
    let table = Table::new(source, &key!["device"]);
    let (kind, ordinal) = match written.kind.as_str() {
        "host" => (DeviceKind::Host, 0),
        "sim" => (DeviceKind::Sim, 0),
        other => match cuda_ordinal(other) {
            Some(ordinal) => (DeviceKind::Cuda, ordinal),
            None => return Err(table.bad(&key!["kind"], "no such device", DEVICES)),
        },
    };
    if written.memory.is_some_and(aegis_types::Bytes::is_zero) {
        let legal = "a size above zero, for example \"2GiB\", or no entry: the runtime then chooses";
        return Err(table.bad(&key!["memory"], "no memory at all", legal));
    }
    let wait = written.wait.as_deref().map(|word| {
        let legal = || WaitMode::ALL.map(|mode| format!("\"{}\"", mode.name())).join(", ");
        let mode = WaitMode::ALL.into_iter().find(|mode| mode.name() == word);
        mode.ok_or_else(|| table.bad(&key!["wait"], "no such way to wait", legal()))
    });
    let launch = launch(written.launch.as_deref(), kind, &table)?;
    Ok(DeviceConfig { kind, ordinal, memory: written.memory, wait: wait.transpose()?, launch })
}

/// Who launches; carriers where nothing is written.
fn launch(written: Option<&str>, device: DeviceKind, table: &Table<'_>) -> Result<LaunchMode, ConfigError> {
    let Some(word) = written else { return Ok(LaunchMode::default()) };
    let mode = LaunchMode::ALL.into_iter().find(|mode| mode.name() == word);
    match mode {
        None => Err(table.bad(&key!["launch"], "nobody launches so", LAUNCH)),
        Some(LaunchMode::Driver) if device == DeviceKind::Host => {
            let problem =
                "a segment of the host device runs where it is launched, and the driver would wait for it";
            Err(table.bad(&key!["launch"], problem, format!("no entry here; {LAUNCH}")))
        }
        Some(mode) => Ok(mode),
    }
}

/// The number of a GPU, as the driver counts them.
fn cuda_ordinal(kind: &str) -> Option<u32> {
    let digits = kind.strip_prefix("cuda:")?;
    let number: u32 = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())??;
    (i64::from(number) <= UNIT_MAX).then_some(number)
}

fn policy(written: &PolicyFile, source: &Source) -> Result<String, ConfigError> {
    let names = || POLICIES.iter().chain(INSERTING);
    if names().any(|name| *name == written.kind) {
        return Ok(written.kind.clone());
    }
    let legal = names().map(|policy| format!("\"{policy}\"")).collect::<Vec<_>>().join(", ");
    let problem = "no such policy";
    Err(source.complain(&key!["policy", "kind"], problem.into(), legal))
}

fn partitions(
    written: &[PartitionFile],
    device: &DeviceConfig,
    source: &Source,
) -> Result<Vec<PartitionConfig>, ConfigError> {
    if written.is_empty() {
        let legal = "at least one table [[partition]] with name, cores or sms, and lanes";
        return Err(source.complain(&key!["partition"], "there is no partition".into(), legal.into()));
    }
    let mut checked: Vec<PartitionConfig> = Vec::with_capacity(written.len());
    let mut lanes_left = i64::from(u16::MAX);
    for (index, partition) in written.iter().enumerate() {
        let table = Table::new(source, &key!["partition", index]);
        let name = table.name(&partition.name)?;
        if checked.iter().any(|other| other.name == name) {
            let legal = "a name that no other partition has";
            return Err(table.bad(&key!["name"], "another partition has this name", legal));
        }
        let units = units(partition, device.kind, &table)?;
        check_overlap(&units, &checked, &table)?;
        if lanes_left == 0 {
            let legal = format!("at most {} lanes in all partitions together", u16::MAX);
            return Err(table.bad(&key!["lanes"], "no lane is left", legal));
        }
        // On the host a lane is a thread that keeps a core of its own.
        let most = match &units {
            Units::These(cores) if device.kind == DeviceKind::Host => {
                i64::try_from(cores.len()).unwrap_or(i64::MAX)
            }
            _ => lanes_left,
        };
        let lanes: u16 = table.number(&key!["lanes"], partition.lanes, 1, lanes_left.min(most))?;
        lanes_left -= i64::from(lanes);
        let own_carriers = own_carriers(&partition.own_carriers, lanes, device, &table)?;
        checked.push(PartitionConfig { name, units, lanes, own_carriers });
    }
    Ok(checked)
}

/// The lanes of a partition that have a carrier each, ascending.
fn own_carriers(
    written: &[i64],
    lanes: u16,
    device: &DeviceConfig,
    table: &Table<'_>,
) -> Result<Vec<u16>, ConfigError> {
    let problem = match (device.kind, device.launch) {
        _ if written.is_empty() => None,
        (DeviceKind::Host, _) => Some("every lane of the host device has a carrier of its own"),
        (_, LaunchMode::Driver) => Some("the driver launches on every lane"),
        (_, LaunchMode::Carrier) => None,
    };
    if let Some(problem) = problem {
        return Err(table.bad(&key!["own_carriers"], problem, format!("no entry here; {OWN_CARRIERS}")));
    }
    let mut own = Vec::with_capacity(written.len());
    for (index, &number) in written.iter().enumerate() {
        let place = key!["own_carriers", index];
        let lane: u16 = table.number(&place, number, 0, i64::from(lanes) - 1)?;
        if own.contains(&lane) {
            return Err(table.bad(&place, "the lane is named twice", "each lane once"));
        }
        own.push(lane);
    }
    own.sort_unstable();
    Ok(own)
}

fn units(written: &PartitionFile, device: DeviceKind, table: &Table<'_>) -> Result<Units, ConfigError> {
    let legal = match device {
        DeviceKind::Host => "cores, an array of core numbers, for example [0, 1]",
        DeviceKind::Cuda => "sms, a number of streaming multiprocessors, for example 64",
        DeviceKind::Sim => "exactly one of cores, for example [0, 1], and sms, for example 64",
    };
    match (&written.cores, written.sms) {
        (Some(_), Some(_)) => Err(table.bad(&key!["sms"], "cores and sms are both given", legal)),
        (None, None) if device == DeviceKind::Cuda => Err(table.bad(&key!["sms"], "is missing", legal)),
        (None, None) => Err(table.bad(&key!["cores"], "is missing", legal)),
        (Some(_), None) if device == DeviceKind::Cuda => {
            Err(table.bad(&key!["cores"], "a cuda device is divided by sms", legal))
        }
        (None, Some(_)) if device == DeviceKind::Host => {
            Err(table.bad(&key!["sms"], "the host device is divided by cores", legal))
        }
        (None, Some(sms)) => Ok(Units::Count(table.number(&key!["sms"], sms, 1, UNIT_MAX)?)),
        (Some(cores), None) if cores.is_empty() => {
            Err(table.bad(&key!["cores"], "no core at all", "an array of at least one core number"))
        }
        (Some(cores), None) => {
            let core = |(index, &core)| table.number(&key!["cores", index], core, 0, UNIT_MAX);
            let cores = cores.iter().enumerate().map(core).collect::<Result<Vec<u32>, _>>()?;
            Ok(Units::These(cores))
        }
    }
}

fn check_overlap(units: &Units, earlier: &[PartitionConfig], table: &Table<'_>) -> Result<(), ConfigError> {
    let Units::These(cores) = units else { return Ok(()) };
    for (index, core) in cores.iter().enumerate() {
        if cores[..index].contains(core) {
            return Err(table.bad(&key!["cores", index], "the core is named twice", "each core once"));
        }
        let holds =
            |other: &&PartitionConfig| matches!(&other.units, Units::These(its) if its.contains(core));
        if let Some(other) = earlier.iter().find(holds) {
            let problem = format!("core {core} belongs to partition `{}` already", other.name);
            return Err(table.bad(&key!["cores", index], problem, "each core in one partition only"));
        }
    }
    Ok(())
}

/// The tables of a fleet. Files inside `folder` are written relative to it.
pub(super) fn write(fleet: &Fleet, folder: &Path) -> FleetFile {
    let DeviceConfig { memory, wait, launch, .. } = fleet.device;
    let wait = wait.map(|mode| mode.name().to_owned());
    let launch = (!launch.is_default()).then(|| launch.name().to_owned());
    FleetFile {
        device: DeviceFile { kind: fleet.device.word(), memory, wait, launch },
        memory: fleet.pressure.as_ref().map(|thresholds| MemoryFile {
            pressure: thresholds.percent().iter().map(|&percent| percent.into()).collect(),
        }),
        partition: fleet.partitions.iter().map(write_partition).collect(),
        policy: PolicyFile { kind: fleet.policy.clone() },
        group: fleet.groups.iter().map(group::write).collect(),
        task: fleet.tasks.iter().map(|task| write_task(task, fleet, folder)).collect(),
        chain: fleet.chains.iter().map(|chain| chain::write(chain, fleet)).collect(),
    }
}

fn write_partition(partition: &PartitionConfig) -> PartitionFile {
    let (cores, sms) = match &partition.units {
        Units::Count(count) => (None, Some(i64::from(*count))),
        Units::These(cores) => (Some(cores.iter().map(|&core| core.into()).collect()), None),
    };
    let own_carriers = partition.own_carriers.iter().map(|&lane| lane.into()).collect();
    PartitionFile { name: partition.name.clone(), cores, sms, lanes: partition.lanes.into(), own_carriers }
}

fn write_task(task: &TaskConfig, fleet: &Fleet, folder: &Path) -> TaskFile {
    let file = |path: &Path| path.strip_prefix(folder).unwrap_or(path).to_string_lossy().into_owned();
    // The check keeps every number inside the range of i64, so that nothing saturates here.
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let (arrival, offset) = match task.arrival {
        Arrival::Periodic { offset } => (ArrivalFile::Periodic, offset),
        Arrival::Sporadic => (ArrivalFile::Sporadic, aegis_types::Nanos::ZERO),
    };
    TaskFile {
        name: task.name.clone(),
        model: file(&task.model),
        backend: task.backend.name().into(),
        period: task.period,
        deadline: Some(task.deadline),
        natural_period: task.natural_period,
        partition: partition_name(fleet, task.partition),
        group: task.group.clone(),
        lane: match task.lane {
            LaneChoice::Auto => LaneFile::Auto,
            LaneChoice::Fixed(number) => LaneFile::Number(number.into()),
        },
        arrival,
        offset,
        jitter: task.jitter,
        retry: task.retries.into(),
        on_overrun: task.on_overrun,
        criticality: task.criticality,
        priority: task.priority.map(i64::from),
        weight: task.weight.into(),
        exclude: task.excludes.clone(),
        allow_control_flow: task.allow_control_flow,
        state: task.state.iter().map(|pair| vec![pair.output.clone(), pair.input.clone()]).collect(),
        budget: BudgetFile {
            memory: task.budget.memory,
            streams: task.budget.streams.into(),
            compute: task.budget.compute,
        },
        inputs: Some(match &task.inputs {
            InputSource::Seed(seed) => InputsFile { seed: Some(number(*seed)), file: None },
            InputSource::File(path) => InputsFile { seed: None, file: Some(file(path)) },
        }),
        shapes: task
            .shapes
            .iter()
            .map(|(name, axes)| (name.clone(), axes.iter().map(|&axis| number(axis)).collect()))
            .collect(),
    }
}

fn partition_name(fleet: &Fleet, partition: PartitionId) -> String {
    fleet.partitions.get(partition.index()).map_or(String::new(), |partition| partition.name.clone())
}
