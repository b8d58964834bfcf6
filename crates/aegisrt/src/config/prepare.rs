//! Fleet, profile and platform together: the scheduler's task set.
//!
//! Where a budget comes from, in this order: measured by a profile that matches the model, declared by the backend,
//! declared by the fleet. `budget.compute` in a fleet is a contract on the whole job: evidence that needs more than it
//! is refused by name, and what it grants beyond the evidence is shared out among the segments.

use std::collections::BTreeMap;

use aegis_cuda::{ModelDescription, PartitionRequest};
use aegis_sched::{Basis, ModelError, OccupancyBudget, Task, TaskSet};
use aegis_types::{ContentHash, LaneId, Nanos, Node, TaskId};

use super::error::ConfigError;
use super::fleet::{Fleet, TaskConfig, task_id};
use super::platform::Calibration;
use super::profile::{Level, Profile, SegmentProfile, TaskProfile};

/// What inspection found out about a task's model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Hash of the model's file.
    pub model: ContentHash,
    /// Occupancy of each segment as the backend declares it; zero where it must be profiled. At least one.
    pub declared: Vec<Nanos>,
}

impl From<&ModelDescription> for Facts {
    fn from(model: &ModelDescription) -> Self {
        let declared =
            model.graph.order().iter().filter_map(|id| match model.graph.nodes().get(id.0 as usize) {
                Some(Node::Segment { declared, .. }) => Some(*declared),
                _ => None,
            });
        Self { model: model.hash, declared: declared.collect() }
    }
}

/// A fleet as device and scheduler take it.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The tasks with their budgets, on the platform.
    pub set: TaskSet,
    /// The partitions to be made, by [`aegis_types::PartitionId`].
    pub requests: Vec<PartitionRequest>,
    /// Tasks whose measured budget was taken in other company than the fleet's.
    pub gaps: Vec<ContextGap>,
}

/// A measured budget that was taken without some of the tasks that share the device in the fleet: contention from
/// those is not in it. The level of the budget's basis says so too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContextGap {
    /// The task with the budget.
    pub task: TaskId,
    /// Tasks on other lanes that were not on another lane when it was measured.
    pub unmet: Vec<String>,
}

/// Makes the task set of a fleet on a calibrated machine, each task on the lane of `lanes` and with the model of
/// `facts`, both by [`TaskId`].
///
/// # Errors
/// - [`ConfigError::Stale`] if a profile's entry was made for another model or other shapes;
/// - [`ConfigError::Budget`] if `budget.compute` is less than what profile or backend need;
/// - [`ConfigError::Field`] if a task has no budget from anywhere, if a profile has another number of segments, or if
///   a lane lies outside the task's partition or contradicts the fleet;
/// - [`ConfigError::Model`] for what the scheduler refuses.
///
/// # Panics
/// If `lanes` or `facts` do not have one entry for each task.
pub fn prepare(
    fleet: &Fleet,
    profile: Option<&Profile>,
    calibration: &Calibration,
    lanes: &[LaneId],
    facts: &[Facts],
) -> Result<Prepared, ConfigError> {
    assert_eq!(lanes.len(), fleet.tasks().len(), "one lane for each task");
    assert_eq!(facts.len(), fleet.tasks().len(), "facts of one model for each task");
    let model = |reason: ModelError| ConfigError::Model { file: fleet.path().into(), reason };
    // A turn at the launcher grows with the inputs and outputs of the task whose turn it is, and those of the fleet may
    // be larger than those that were calibrated with.
    let turn = longest_turn(fleet, profile);
    let platform = calibration.platform_with(fleet.partition_models(), turn).map_err(model)?;
    let mut tasks = Vec::with_capacity(lanes.len());
    let mut gaps = Vec::new();
    for (position, config) in fleet.tasks().iter().enumerate() {
        let id = task_id(position);
        check_lane(fleet, id, config, lanes[position])?;
        let unmet = unmet(fleet, profile, lanes, position);
        let segments = Evidence { fleet, id, config, facts: &facts[position] }.budgets(profile, &unmet)?;
        if !unmet.is_empty() && at_enemy_level(profile, &config.name).is_none() {
            gaps.push(ContextGap { task: id, unmet });
        }
        tasks.push(Task {
            id,
            name: config.name.clone(),
            lane: lanes[position],
            period: config.period,
            deadline: config.deadline,
            jitter: config.jitter,
            arrival: config.arrival,
            segments,
            priority: config.priority,
            criticality: config.criticality,
            on_overrun: config.on_overrun,
            retries: config.retries,
        });
    }
    let set = TaskSet::new(tasks, platform).map_err(model)?;
    Ok(Prepared { set, requests: fleet.partition_requests(), gaps })
}

/// The longest of the turns at the launcher that were measured of the tasks of the fleet.
fn longest_turn(fleet: &Fleet, profile: Option<&Profile>) -> Nanos {
    let Some(profile) = profile else { return Nanos::ZERO };
    let turns = fleet.tasks().iter().filter_map(|task| Some(profile.task(&task.name)?.turn));
    turns.max().unwrap_or(Nanos::ZERO)
}

fn check_lane(fleet: &Fleet, id: TaskId, config: &TaskConfig, lane: LaneId) -> Result<(), ConfigError> {
    let range = fleet.lanes_of(config.partition);
    let fixed = fleet.fixed_lanes()[id.index()];
    if range.contains(&lane.get()) && fixed.is_none_or(|fixed| fixed == lane) {
        return Ok(());
    }
    let legal = match fixed {
        Some(fixed) => fixed.to_string(),
        None => format!("lane{} to lane{}", range.start, range.end.saturating_sub(1)),
    };
    Err(fleet.complain(id, "lane", format!("the task was put on {lane}"), legal))
}

/// Tasks on other lanes than the task's that were not there, or not so, when the task was profiled. Without an entry
/// there is nothing to compare.
fn unmet(fleet: &Fleet, profile: Option<&Profile>, lanes: &[LaneId], position: usize) -> Vec<String> {
    let name = fleet.tasks()[position].name.as_str();
    let Some(profile) = profile.filter(|profile| profile.task(name).is_some()) else { return Vec::new() };
    let mut elsewhere: BTreeMap<LaneId, Vec<&str>> = BTreeMap::new();
    for (task, lane) in fleet.tasks().iter().zip(lanes).filter(|(_, lane)| **lane != lanes[position]) {
        elsewhere.entry(*lane).or_default().push(&task.name);
    }
    profile.unmet(name, &elsewhere.into_values().collect::<Vec<_>>())
}

/// The entry of a task with the budgets that hold whatever runs on other lanes, where it has such.
fn at_enemy_level(profile: Option<&Profile>, name: &str) -> Option<TaskProfile> {
    profile?.task(name)?.at(Level::Enemy)
}

/// One task and what is known about its occupancy.
struct Evidence<'a> {
    fleet: &'a Fleet,
    id: TaskId,
    config: &'a TaskConfig,
    facts: &'a Facts,
}

impl Evidence<'_> {
    fn budgets(
        &self,
        profile: Option<&Profile>,
        unmet: &[String],
    ) -> Result<Vec<OccupancyBudget>, ConfigError> {
        let name = &self.config.name;
        if let Some(profile) = profile
            && let Some(entry) = profile.matches(name, self.facts.model, &self.config.shapes)?
        {
            let fallback = if unmet.is_empty() { None } else { entry.at(Level::Enemy) };
            let (entry, unmet) = fallback.as_ref().map_or((entry, unmet), |entry| (entry, &[]));
            self.check_count(entry.segments.len(), profile)?;
            let evidence = format!("{}, task `{name}`,", profile.path().display());
            // A contract that stands between the mark with its margin and the profile's own, larger budget is kept:
            // no sample and no margin speaks against it.
            let measured: Vec<Nanos> = match self.config.budget.compute {
                Some(_) => entry.segments.iter().filter_map(SegmentProfile::needed).collect(),
                None => entry.segments.iter().map(|segment| segment.budget).collect(),
            };
            let bounds = self.grant(&measured, &evidence)?;
            let basis = |segment: &SegmentProfile| Basis::Measured {
                samples: segment.samples,
                margin_ppm: segment.margin_ppm,
                level: level(&segment.level, unmet),
            };
            let budget = |(bound, segment)| OccupancyBudget { bound, basis: basis(segment) };
            return Ok(bounds.into_iter().zip(&entry.segments).map(budget).collect());
        }
        let bounds = self.declared()?;
        Ok(bounds.into_iter().map(|bound| OccupancyBudget { bound, basis: Basis::Declared }).collect())
    }

    fn declared(&self) -> Result<Vec<Nanos>, ConfigError> {
        let declared = &self.facts.declared;
        if !declared.is_empty() && declared.iter().all(|span| !span.is_zero()) {
            return self.grant(declared, "the backend");
        }
        match self.config.budget.compute {
            Some(compute) if declared.len() == 1 => Ok(vec![compute]),
            Some(_) => Err(self.fleet.complain(
                self.id,
                "budget.compute",
                format!("the model has {} segments, and nothing says how they share it", declared.len()),
                "a profile beside it: run `aegis profile`",
            )),
            None => Err(self.fleet.complain(
                self.id,
                "budget.compute",
                "is missing, and there is no profile of the task",
                "a span such as \"12ms\", or a profile: run `aegis profile`",
            )),
        }
    }

    fn check_count(&self, found: usize, profile: &Profile) -> Result<(), ConfigError> {
        let expected = self.facts.declared.len();
        if found == expected {
            return Ok(());
        }
        let problem =
            format!("{} has {found} segments of it, the model has {expected}", profile.path().display());
        Err(self.fleet.complain(self.id, "model", problem, "a profile of this model: run `aegis profile`"))
    }

    /// What each segment is granted: what it needs, plus its share of what `budget.compute` grants beyond.
    fn grant(&self, needs: &[Nanos], evidence: &str) -> Result<Vec<Nanos>, ConfigError> {
        let Some(compute) = self.config.budget.compute else { return Ok(needs.to_vec()) };
        let needed = needs.iter().try_fold(Nanos::ZERO, |sum, need| sum.checked_add(*need));
        let needed = needed.unwrap_or(Nanos::MAX);
        if needed <= compute && !needed.is_zero() {
            return Ok(share_out(needs, needed, compute));
        }
        let (source, path) = self.fleet.locate(self.id, "budget.compute");
        let (place, _) = source.find(&path);
        Err(ConfigError::Budget { place, budget: compute, needed, evidence: evidence.into() })
    }
}

/// Scales `needs`, whose sum is `needed`, to the sum `granted` >= `needed` > 0: in proportion, rounded down, the rest
/// to the last. No segment gets less than it needs.
fn share_out(needs: &[Nanos], needed: Nanos, granted: Nanos) -> Vec<Nanos> {
    let scale = |need: Nanos| u128::from(need.get()) * u128::from(granted.get()) / u128::from(needed.get());
    // A share is at most the whole, which fits.
    let mut shares: Vec<u64> =
        needs.iter().map(|&need| u64::try_from(scale(need)).unwrap_or(u64::MAX)).collect();
    let shared = shares.iter().fold(0u64, |sum, share| sum.saturating_add(*share));
    if let Some(last) = shares.last_mut() {
        *last = last.saturating_add(granted.get().saturating_sub(shared));
    }
    shares.into_iter().map(Nanos::new).collect()
}

fn level(measured: &str, unmet: &[String]) -> String {
    if unmet.is_empty() { measured.into() } else { format!("{measured}; not beside {}", unmet.join(", ")) }
}
