//! Fleets made from a fleet: without the tasks that are left out, or on a device divided otherwise.
//!
//! A fleet is checked as a whole, so one that is made from another is written and read again. What is read again knows
//! no comments and no lines of the user's file; complaints about the user's file come before.

use std::collections::BTreeSet;

use aegis_types::LaneId;
use toml::{Table, Value};

use crate::cli::answer::CliError;
use crate::config::Fleet;

/// A fleet with lanes for all of its tasks.
pub(super) struct Kept {
    /// The fleet.
    pub fleet: Fleet,
    /// Chains that went with a task.
    pub chains: Vec<String>,
}

/// The tasks that have lanes, on these; `None` where no task has one.
///
/// # Errors
/// What the fleet's own check refuses.
pub(super) fn kept(fleet: &Fleet, lanes: &[Option<LaneId>]) -> Result<Option<Kept>, CliError> {
    let given: Vec<LaneId> =
        lanes.iter().zip(fleet.first_lanes()).map(|(lane, first)| lane.unwrap_or(first)).collect();
    let placed = fleet.on_lanes(&given);
    let left: BTreeSet<&str> = fleet
        .tasks()
        .iter()
        .zip(lanes)
        .filter(|(_, lane)| lane.is_none())
        .map(|(task, _)| &*task.name)
        .collect();
    if left.is_empty() {
        return Ok(Some(Kept { fleet: placed, chains: Vec::new() }));
    }
    if left.len() == lanes.len() {
        return Ok(None);
    }
    let mut table = table_of(&placed)?;
    let named = |value: &Value| value.as_str().is_some_and(|name| left.contains(name));
    let of = |entry: &Value, key: &str| entry.get(key).cloned().unwrap_or(Value::Boolean(false));
    if let Some(tasks) = table.get_mut("task").and_then(Value::as_array_mut) {
        tasks.retain(|task| !named(&of(task, "name")));
        for excluded in tasks.iter_mut().filter_map(|task| task.get_mut("exclude")?.as_array_mut()) {
            excluded.retain(|name| !named(name));
        }
    }
    let served = placed.tasks().iter().filter(|task| !left.contains(&*task.name));
    let groups: BTreeSet<&str> = served.filter_map(|task| task.group.as_deref()).collect();
    if let Some(written) = table.get_mut("group").and_then(Value::as_array_mut) {
        // A group without a task is no group.
        written.retain(|group| of(group, "name").as_str().is_some_and(|name| groups.contains(name)));
    }
    let mut chains = Vec::new();
    if let Some(written) = table.get_mut("chain").and_then(Value::as_array_mut) {
        written.retain(|chain| {
            let broken = of(chain, "tasks").as_array().is_some_and(|steps| steps.iter().any(named));
            if broken {
                chains.push(of(chain, "name").as_str().unwrap_or_default().to_owned());
            }
            !broken
        });
    }
    Ok(Some(Kept { fleet: read_again(fleet, &table)?, chains }))
}

/// How a partition is made: its lanes, and its multiprocessors where they are counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Size {
    pub lanes: u16,
    pub units: Option<u32>,
}

/// The fleet on partitions of these sizes, one for each partition. Lanes that a task may leave are open.
///
/// # Errors
/// What the fleet's own check refuses: a lane that a task must keep and that is not there any more.
pub(super) fn resized(fleet: &Fleet, sizes: &[Size]) -> Result<Fleet, CliError> {
    let mut table = table_of(fleet)?;
    let partitions = table.get_mut("partition").and_then(Value::as_array_mut);
    let partitions = partitions.into_iter().flatten().filter_map(Value::as_table_mut);
    for (partition, size) in partitions.zip(sizes) {
        partition.insert("lanes".into(), i64::from(size.lanes).into());
        if let Some(units) = size.units {
            partition.insert("sms".into(), i64::from(units).into());
        }
    }
    let pinned = crate::cli::setup::bound(fleet);
    let tasks = table.get_mut("task").and_then(Value::as_array_mut);
    let tasks = tasks.into_iter().flatten().filter_map(Value::as_table_mut);
    for (task, _) in tasks.zip(pinned).filter(|(_, pinned)| !pinned) {
        task.insert("lane".into(), "auto".into());
    }
    read_again(fleet, &table)
}

fn table_of(fleet: &Fleet) -> Result<Table, CliError> {
    fleet.to_toml().parse().map_err(|error| CliError::Input(format!("{}: {error}", fleet.path().display())))
}

fn read_again(fleet: &Fleet, table: &Table) -> Result<Fleet, CliError> {
    Ok(Fleet::parse(fleet.path(), &table.to_string())?)
}
