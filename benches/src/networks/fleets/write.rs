//! A fleet as files: the networks and `fleet.toml` beside them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use aegis_types::{Bytes, Nanos};
use serde::Serialize;

use super::cost::{Costs, Kind};
use super::roles::{FleetPlan, Role};
use super::scale::{Period, ScaleError, Utilisation, periods};
use crate::networks::{Design, Network, Precision};

/// The seed of every network: one fleet is the same everywhere.
const SEED: u64 = 0xAE61;

/// Where and how a fleet is to run.
#[derive(Clone, Debug)]
pub struct Place {
    /// Device.
    pub kind: Kind,
    /// The word for the backend.
    pub backend: String,
    /// How numbers are stored.
    pub precision: Precision,
    /// Core numbers on a host; ignored on a GPU.
    pub cores: Vec<u32>,
    /// Streaming multiprocessors of a GPU; ignored on a host.
    pub sms: u32,
    /// Lanes of a GPU; a host has one for each core.
    pub lanes: u32,
    /// Multiprocessors or cores that only tasks of high criticality use; 0 for one partition.
    pub critical: u32,
}

/// Why a fleet was not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// No periods.
    #[error(transparent)]
    Scale(#[from] ScaleError),
    /// A share of the device for critical tasks that leaves nothing for others.
    #[error("{critical} units for critical tasks of {units}; legal is a number from 1 to {}, or 0 for one partition", units.saturating_sub(1))]
    Critical {
        /// Asked for.
        critical: u32,
        /// There are so many.
        units: u32,
    },
    /// A device without a core, multiprocessor or lane.
    #[error("a place without {0}; legal is at least one")]
    Nothing(&'static str),
    /// A file or folder.
    #[error("cannot write {}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The fleet cannot be spelled as TOML.
    #[error("the fleet cannot be written: {0}")]
    Toml(#[from] toml::ser::Error),
}

/// What was written.
#[derive(Clone, Debug)]
pub struct Written {
    /// The fleet's file.
    pub fleet: PathBuf,
    /// Cost and times of each task, and whether the cost was measured.
    pub tasks: Vec<(String, Nanos, bool, Period)>,
}

/// Makes the networks of `plan` and writes them and `fleet.toml` into `folder`, which is made if need be.
///
/// # Errors
/// What is wrong with the place or the utilisation, before anything is written; then files.
pub fn write(
    plan: &FleetPlan,
    place: &Place,
    costs: &Costs,
    target: Utilisation,
    folder: &Path,
) -> Result<Written, WriteError> {
    let partitions = partitions(place)?;
    let networks: BTreeMap<&str, Network> = plan
        .roles
        .iter()
        .filter_map(|role| Design::find(role.design))
        .map(|design| (design.name, design.make(plan.size, place.precision, SEED)))
        .collect();
    let priced: Vec<(&Role, &Network, Nanos, bool)> = plan
        .roles
        .iter()
        .filter_map(|role| Some((role, networks.get(role.design)?)))
        .map(|(role, network)| {
            let (cost, measured) = costs.of_task(role.name, network, place.kind, place.precision);
            (role, network, cost, measured)
        })
        .collect();
    let asked: Vec<_> = priced
        .iter()
        .map(|(role, _, cost, _)| (role.name, *cost, Nanos::new(role.natural * 1_000), role.deadline))
        .collect();
    let times = periods(&asked, target)?;
    let tasks = priced.iter().zip(&times);
    let tasks: Vec<Task<'_>> =
        tasks.map(|((role, network, ..), time)| task(plan, role, network, *time, place)).collect();
    let lanes = partitions.iter().map(|partition| partition.lanes).sum();
    let file = FleetFile {
        device: Device { kind: if place.kind == Kind::Host { "host" } else { "cuda:0" } },
        policy: Policy { kind: plan.policy },
        partition: partitions,
        group: plan.groups.iter().map(|written| group(written, &tasks, lanes)).collect(),
        task: tasks,
        chain: plan.chains.iter().map(|written| chain(written, plan, &times)).collect(),
    };
    let text = format!("# {}\n\n{}", plan.about, toml::to_string(&file)?);
    std::fs::create_dir_all(folder).map_err(|source| failed(folder, source))?;
    for (name, network) in &networks {
        let path = folder.join(file_name(name, place.precision));
        std::fs::write(&path, &network.file).map_err(|source| failed(&path, source))?;
    }
    let fleet = folder.join("fleet.toml");
    std::fs::write(&fleet, text).map_err(|source| failed(&fleet, source))?;
    let told = priced.iter().zip(times);
    let tasks = told.map(|((role, _, cost, measured), time)| (role.name.to_owned(), *cost, *measured, time));
    Ok(Written { fleet, tasks: tasks.collect() })
}

fn failed(path: &Path, source: std::io::Error) -> WriteError {
    WriteError::File { path: path.to_owned(), source }
}

fn file_name(design: &str, precision: Precision) -> String {
    match precision {
        Precision::Fp32 => format!("{design}.onnx"),
        Precision::Fp16 => format!("{design}_fp16.onnx"),
    }
}

#[derive(Serialize)]
struct FleetFile<'a> {
    device: Device<'a>,
    policy: Policy<'a>,
    partition: Vec<Partition>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    group: Vec<GroupTable<'a>>,
    task: Vec<Task<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    chain: Vec<ChainTable<'a>>,
}

#[derive(Serialize)]
struct Device<'a> {
    kind: &'a str,
}

#[derive(Serialize)]
struct Policy<'a> {
    kind: &'a str,
}

#[derive(Serialize)]
struct Partition {
    name: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cores: Option<Vec<u32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sms: Option<u32>,
    lanes: u32,
}

#[derive(Serialize)]
struct GroupTable<'a> {
    name: &'a str,
    memory: Bytes,
    utilisation: f64,
    miss_rate: f64,
}

#[derive(Serialize)]
struct Task<'a> {
    name: &'a str,
    model: String,
    backend: &'a str,
    period: Nanos,
    deadline: Nanos,
    partition: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    arrival: Option<&'static str>,
    criticality: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    weight: Option<u64>,
    budget: Budget,
    inputs: Inputs,
}

#[derive(Serialize)]
struct Budget {
    memory: Bytes,
}

#[derive(Serialize)]
struct Inputs {
    seed: u64,
}

#[derive(Serialize)]
struct ChainTable<'a> {
    name: &'a str,
    tasks: &'a [&'a str],
    reaction: Nanos,
    /// A task that clients release has no longest time between jobs; a chain has to be told one.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    gaps: BTreeMap<&'a str, Nanos>,
}

const SHARED: &str = "all";
const CRITICAL: &str = "critical";

fn partitions(place: &Place) -> Result<Vec<Partition>, WriteError> {
    let units = match place.kind {
        Kind::Host => u32::try_from(place.cores.len()).unwrap_or(u32::MAX),
        Kind::Cuda => place.sms,
    };
    if units == 0 {
        return Err(WriteError::Nothing(if place.kind == Kind::Host {
            "a core"
        } else {
            "a multiprocessor"
        }));
    }
    if place.critical >= units && place.critical > 0 {
        return Err(WriteError::Critical { critical: place.critical, units });
    }
    if place.kind == Kind::Cuda && (place.lanes == 0 || (place.critical > 0 && place.lanes < 2)) {
        return Err(WriteError::Nothing("a lane for each partition"));
    }
    let own = place.critical;
    let one = |name, from: u32, count: u32, lanes: u32| match place.kind {
        Kind::Host => {
            let cores = place.cores.iter().skip(from as usize).take(count as usize).copied().collect();
            Partition { name, cores: Some(cores), sms: None, lanes: count }
        }
        Kind::Cuda => Partition { name, cores: None, sms: Some(count), lanes },
    };
    Ok(if own == 0 {
        vec![one(SHARED, 0, units, place.lanes)]
    } else {
        let half = place.lanes / 2;
        vec![one(CRITICAL, 0, own, half), one(SHARED, own, units - own, place.lanes - half)]
    })
}

fn task<'a>(
    plan: &'a FleetPlan,
    role: &'a Role,
    network: &Network,
    time: Period,
    place: &'a Place,
) -> Task<'a> {
    let apart = place.critical > 0 && role.criticality == "high";
    Task {
        name: role.name,
        model: file_name(role.design, place.precision),
        backend: &place.backend,
        period: time.period,
        deadline: time.deadline,
        partition: if apart { CRITICAL } else { SHARED },
        group: plan.groups.iter().find(|group| group.holds(role.name)).map(|group| group.name),
        arrival: role.sporadic.then_some("sporadic"),
        criticality: role.criticality,
        weight: (role.weight > 1).then_some(role.weight),
        budget: Budget { memory: memory(network, place.kind) },
        inputs: Inputs { seed: u64::from(fnv(role.name)) },
    }
}

/// A group with its share of all lanes and the memory that its tasks are granted: a task more needs a larger budget.
fn group<'a>(written: &'a super::roles::Group, tasks: &[Task<'_>], lanes: u32) -> GroupTable<'a> {
    let own = tasks.iter().filter(|task| task.group == Some(written.name));
    let memory = own.fold(0u64, |sum, task| sum.saturating_add(task.budget.memory.get()));
    GroupTable {
        name: written.name,
        memory: Bytes::new(memory),
        utilisation: f64::from(lanes) * f64::from(written.share) / 100.0,
        miss_rate: f64::from(written.missed) / 10_000.0,
    }
}

/// Room for weights as stored and once more as prepared, for scratch and for I/O; a GPU's libraries take workspaces
/// besides. A budget is a limit and not a measure: `aegis plan` says what was needed of it.
fn memory(network: &Network, kind: Kind) -> Bytes {
    const MIB: u64 = 1 << 20;
    let edges = network.inputs.iter().chain(&network.outputs);
    let io: u64 = edges.map(|(_, shape)| 4 * shape.iter().product::<u64>()).sum();
    let own = 2 * network.weights + 6 * network.widest + 8 * io;
    let besides = if kind == Kind::Cuda { 48 * MIB } else { 2 * MIB };
    Bytes::new((own + besides).next_multiple_of(MIB))
}

/// A limit that the chain of a fleet that meets its deadlines has: each task sees new data within a period and has
/// finished with it within a deadline (Davare and others 2007).
fn chain<'a>(written: &'a super::roles::Chain, plan: &'a FleetPlan, times: &[Period]) -> ChainTable<'a> {
    let mut reaction = Nanos::ZERO;
    let mut gaps = BTreeMap::new();
    let of_chain = plan.roles.iter().zip(times).filter(|(role, _)| written.tasks.contains(&role.name));
    for (role, time) in of_chain {
        let both = time.period.get().saturating_add(time.deadline.get());
        reaction = Nanos::new(reaction.get().saturating_add(both));
        if role.sporadic {
            gaps.insert(role.name, time.period);
        }
    }
    ChainTable { name: written.name, tasks: written.tasks, reaction, gaps }
}

/// A number of a name (FNV-1a): inputs of tasks differ, and stay as they are when another task is added.
fn fnv(name: &str) -> u32 {
    name.bytes().fold(0x811C_9DC5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}
