//! What one task of a fleet means, and what would be legal where it means nothing.

use std::collections::BTreeMap;

use aegis_cuda::DeviceKind;
use aegis_sched::Arrival;
use aegis_types::{Nanos, PartitionId};

use super::check::Table;
use super::error::ConfigError;
use super::file::{ArrivalFile, BudgetFile, InputsFile, LaneFile, SHAPES, STATE, TaskFile};
use super::fleet::{BackendKind, BudgetConfig, Fleet, InputSource, LaneChoice, StatePair, TaskConfig};
use super::group;
use super::source::key;

/// How often a launch may be tried again: every retry is charged a whole budget.
const RETRIES_MAX: i64 = 100;
/// Segments of one turn: more than any model has.
const WEIGHT_MAX: i64 = 65_535;
/// Streams that one graph may ask for.
const STREAMS_MAX: i64 = 16;
/// Elements of one tensor: far beyond any device's memory, small enough that sizes in bytes cannot overflow.
const ELEMENTS_MAX: u64 = 1 << 40;

/// Checks one task against what `fleet` already holds. `origin` is remembered for later complaints.
pub(super) fn check(
    written: TaskFile,
    fleet: &Fleet,
    table: &Table<'_>,
    origin: (usize, usize),
) -> Result<TaskConfig, ConfigError> {
    let name = table.name(&written.name)?;
    let folder = fleet.sources[origin.0].folder();
    let backend = backend(&written.backend, fleet.device.kind, table)?;
    if written.model.is_empty() {
        return Err(table.bad(&key!["model"], "no file is named", "the path of the model's file"));
    }
    let period = span(written.period, "period", table)?;
    let deadline = written.deadline.map_or(Ok(period), |deadline| span(deadline, "deadline", table))?;
    let partition = partition(&written.partition, fleet, table)?;
    Ok(TaskConfig {
        name,
        model: folder.join(&written.model),
        backend,
        period,
        deadline,
        natural_period: natural_period(written.natural_period, period, table)?,
        partition,
        group: group::of_task(written.group.clone(), fleet, table)?,
        lane: lane(written.lane, partition, fleet, table)?,
        arrival: arrival(&written, table)?,
        jitter: jitter(written.jitter, deadline, table)?,
        retries: table.number(&key!["retry"], written.retry, 0, RETRIES_MAX)?,
        on_overrun: written.on_overrun,
        criticality: written.criticality,
        priority: priority(written.priority, fleet, table)?,
        weight: table.number(&key!["weight"], written.weight, 1, WEIGHT_MAX)?,
        excludes: written.exclude,
        allow_control_flow: written.allow_control_flow,
        shapes: shapes(&written.shapes, table)?,
        state: state(&written.state, table)?,
        budget: budget(&written.budget, table)?,
        inputs: inputs(written.inputs.as_ref(), folder, table)?,
        origin,
    })
}

fn backend(written: &str, device: DeviceKind, table: &Table<'_>) -> Result<BackendKind, ConfigError> {
    let legal = BackendKind::all_of(device);
    let word = match device {
        DeviceKind::Host => "host",
        DeviceKind::Cuda => "cuda",
        DeviceKind::Sim => "sim",
    };
    if let Some(backend) = legal.iter().find(|backend| backend.name() == written) {
        return Ok(*backend);
    }
    let known = BackendKind::ALL.iter().any(|backend| backend.name() == written);
    let problem = if known { "not a backend of this device" } else { "no such backend" };
    let names: Vec<String> = legal.iter().map(|backend| format!("\"{}\"", backend.name())).collect();
    Err(table.bad(&key!["backend"], problem, format!("{} on the {word} device", names.join(" or "))))
}

fn span(span: Nanos, key: &str, table: &Table<'_>) -> Result<Nanos, ConfigError> {
    if !span.is_zero() && span <= Fleet::SPAN_MAX {
        return Ok(span);
    }
    let legal = format!("a span above zero, at most {}", Fleet::SPAN_MAX);
    Err(table.bad(&key![key], if span.is_zero() { "is zero" } else { "is too long" }, legal))
}

fn natural_period(
    written: Option<Nanos>,
    period: Nanos,
    table: &Table<'_>,
) -> Result<Option<Nanos>, ConfigError> {
    if written.is_some_and(|natural| natural.is_zero() || natural > period) {
        let legal = format!("a span above zero, at most the period, {period}");
        return Err(table.bad(&key!["natural_period"], "out of range", legal));
    }
    Ok(written)
}

fn partition(written: &str, fleet: &Fleet, table: &Table<'_>) -> Result<PartitionId, ConfigError> {
    let position = fleet.partitions.iter().position(|partition| partition.name == written);
    let id = position.and_then(|position| u16::try_from(position).ok()).map(PartitionId::new);
    id.ok_or_else(|| {
        let names = fleet.partitions.iter().map(|partition| format!("\"{}\"", partition.name));
        table.bad(&key!["partition"], "no such partition", names.collect::<Vec<_>>().join(", "))
    })
}

fn lane(
    written: LaneFile,
    partition: PartitionId,
    fleet: &Fleet,
    table: &Table<'_>,
) -> Result<LaneChoice, ConfigError> {
    let home = fleet.partitions.get(partition.index());
    let lanes = home.map_or(0, |partition| partition.lanes);
    let LaneFile::Number(number) = written else {
        return match home.filter(|partition| partition.is_mixed()) {
            Some(_) => {
                let problem = "some lanes of the partition have carriers of their own, and nothing says whether its does";
                let legal = format!("a lane of the partition, 0 to {}", lanes.saturating_sub(1));
                Err(table.bad(&key!["lane"], problem, legal))
            }
            None => Ok(LaneChoice::Auto),
        };
    };
    match u16::try_from(number) {
        Ok(number) if number < lanes => Ok(LaneChoice::Fixed(number)),
        _ => {
            let last = lanes.saturating_sub(1);
            let legal = format!("\"auto\" or a lane of the partition, 0 to {last}");
            Err(table.bad(&key!["lane"], "no such lane in the partition", legal))
        }
    }
}

fn arrival(written: &TaskFile, table: &Table<'_>) -> Result<Arrival, ConfigError> {
    match written.arrival {
        ArrivalFile::Periodic if written.offset <= Fleet::SPAN_MAX => {
            Ok(Arrival::Periodic { offset: written.offset })
        }
        ArrivalFile::Periodic => {
            let legal = format!("a span of at most {}", Fleet::SPAN_MAX);
            Err(table.bad(&key!["offset"], "is too long", legal))
        }
        ArrivalFile::Sporadic if written.offset.is_zero() => Ok(Arrival::Sporadic),
        ArrivalFile::Sporadic => {
            let problem = "a sporadic task has no timer that could start later";
            Err(table.bad(&key!["offset"], problem, "no entry, or arrival = \"periodic\""))
        }
    }
}

/// A job may be released `jitter` late, and its response counts from the arrival: from a jitter of a deadline on, no
/// job could be in time.
fn jitter(jitter: Nanos, deadline: Nanos, table: &Table<'_>) -> Result<Nanos, ConfigError> {
    if jitter < deadline {
        return Ok(jitter);
    }
    let legal = format!("a span below the deadline, {deadline}");
    Err(table.bad(&key!["jitter"], "a release may be later than its deadline", legal))
}

fn priority(written: Option<i64>, fleet: &Fleet, table: &Table<'_>) -> Result<Option<u32>, ConfigError> {
    let key = key!["priority"];
    match written {
        Some(priority) => table.number(&key, priority, 0, i64::from(u32::MAX)).map(Some),
        None if fleet.policy == "fp" => {
            let legal = "a whole number from 0, the most urgent, or another policy";
            Err(table.bad(&key, "is missing, and policy \"fp\" orders by it", legal))
        }
        None => Ok(None),
    }
}

fn shapes(
    written: &BTreeMap<String, Vec<i64>>,
    table: &Table<'_>,
) -> Result<BTreeMap<String, Vec<u64>>, ConfigError> {
    let mut shapes = BTreeMap::new();
    for (name, axes) in written {
        if name.is_empty() {
            return Err(table.bad(&key!["shapes", ""], "an input has no name", SHAPES));
        }
        let mut elements = 1u64;
        let mut lengths = Vec::with_capacity(axes.len());
        for (axis, &length) in axes.iter().enumerate() {
            let key = key!["shapes", name.as_str(), axis];
            let length: u64 = table.number(&key, length, 1, i64::from(u32::MAX))?;
            let product = elements.checked_mul(length).filter(|&product| product <= ELEMENTS_MAX);
            let legal = || format!("axes with a product of at most {ELEMENTS_MAX}");
            elements = product.ok_or_else(|| table.bad(&key, "the tensor is too large", legal()))?;
            lengths.push(length);
        }
        shapes.insert(name.clone(), lengths);
    }
    Ok(shapes)
}

fn state(written: &[Vec<String>], table: &Table<'_>) -> Result<Vec<StatePair>, ConfigError> {
    let mut pairs: Vec<StatePair> = Vec::with_capacity(written.len());
    for (index, names) in written.iter().enumerate() {
        let key = key!["state", index];
        let [output, input] = names.as_slice() else {
            return Err(table.bad(&key, format!("{} names instead of two", names.len()), STATE));
        };
        if output.is_empty() || input.is_empty() {
            return Err(table.bad(&key, "a name is empty", STATE));
        }
        if pairs.iter().any(|pair| pair.input == *input) {
            return Err(table.bad(&key, format!("input `{input}` is fed twice"), STATE));
        }
        pairs.push(StatePair { output: output.clone(), input: input.clone() });
    }
    Ok(pairs)
}

fn budget(written: &BudgetFile, table: &Table<'_>) -> Result<BudgetConfig, ConfigError> {
    if written.memory.is_zero() {
        let legal =
            "a size above zero that holds weights, inputs, outputs and scratch, for example \"64MiB\"";
        return Err(table.bad(&key!["budget", "memory"], "no memory at all", legal));
    }
    if let Some(compute) = written.compute
        && (compute.is_zero() || compute > Fleet::SPAN_MAX)
    {
        let legal = format!("a span above zero, at most {}, or no entry: the profile's", Fleet::SPAN_MAX);
        return Err(table.bad(&key!["budget", "compute"], "out of range", legal));
    }
    let streams = table.number(&key!["budget", "streams"], written.streams, 1, STREAMS_MAX)?;
    Ok(BudgetConfig { memory: written.memory, streams, compute: written.compute })
}

fn inputs(
    written: Option<&InputsFile>,
    folder: &std::path::Path,
    table: &Table<'_>,
) -> Result<InputSource, ConfigError> {
    let legal = "{ seed = 1 } or { file = \"recorded.bin\" }";
    match written {
        None => Ok(InputSource::Seed(1)),
        Some(InputsFile { seed: Some(seed), file: None }) => {
            table.number(&key!["inputs", "seed"], *seed, 0, i64::MAX).map(InputSource::Seed)
        }
        Some(InputsFile { seed: None, file: Some(file) }) if !file.is_empty() => {
            Ok(InputSource::File(folder.join(file)))
        }
        Some(InputsFile { seed: None, file: Some(_) }) => {
            Err(table.bad(&key!["inputs", "file"], "no file is named", legal))
        }
        Some(InputsFile { seed: Some(_), file: Some(_) }) => {
            Err(table.bad(&key!["inputs"], "seed and file are both given", legal))
        }
        Some(InputsFile { seed: None, file: None }) => {
            Err(table.bad(&key!["inputs"], "neither seed nor file is given", legal))
        }
    }
}
