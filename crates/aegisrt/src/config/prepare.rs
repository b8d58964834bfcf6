//! Fleet, profile and platform together: the scheduler's task set.
//!
//! Where a budget comes from, in this order: measured by a profile that matches the model, declared by the backend,
//! declared by the fleet. `budget.compute` in a fleet is a contract on the whole job: evidence that needs more than it
//! is refused by name, and what it grants beyond the evidence is shared out among the segments.

use std::collections::BTreeMap;

use aegis_cuda::{ModelDescription, PartitionRequest};
use aegis_sched::exclusion::{Exclusion, ExclusionError};
use aegis_sched::{Basis, ModelError, OccupancyBudget, Task, TaskSet};
use aegis_types::{ContentHash, LaneId, Nanos, Node, TaskId};

use super::error::ConfigError;
use super::fleet::{Fleet, PartitionConfig, TaskConfig, task_id};
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

/// A measured budget that was taken without some of the tasks that share the device in the fleet, and that no budget of
/// the enemy level replaces: contention from those, and what they leave in the caches, is not in it. The level of the
/// budget's basis says so too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContextGap {
    /// The task with the budget.
    pub task: TaskId,
    /// Tasks on other lanes that were not on another lane when it was measured, and tasks on its lane that were not on it.
    pub unmet: Vec<String>,
}

/// Makes the task set of a fleet on a calibrated machine, each task on the lane of `lanes` and with the model of
/// `facts`, both by [`TaskId`].
///
/// # Errors
/// - [`ConfigError::Stale`] if a profile's entry was made for another model, other shapes or in another partition;
/// - [`ConfigError::Budget`] if `budget.compute` is less than what profile or backend need;
/// - [`ConfigError::Field`] if a task has no budget from anywhere, if nobody measured its turn at a launcher, if a
///   profile has another number of segments, or if a lane lies outside the task's partition or contradicts the fleet;
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
    let prepared = prepare_apart(fleet, profile, calibration, lanes, facts)?;
    Ok(Prepared { set: beside_excluded(fleet, prepared.set)?, ..prepared })
}

/// As [`prepare`], with budgets that leave out the waiting for excluded tasks: what segments take when they need not
/// wait. Neither admission nor an engine may be given such a set.
///
/// # Errors
/// As [`prepare`].
///
/// # Panics
/// As [`prepare`].
pub fn prepare_apart(
    fleet: &Fleet,
    profile: Option<&Profile>,
    calibration: &Calibration,
    lanes: &[LaneId],
    facts: &[Facts],
) -> Result<Prepared, ConfigError> {
    assert_eq!(lanes.len(), fleet.tasks().len(), "one lane for each task");
    assert_eq!(facts.len(), fleet.tasks().len(), "facts of one model for each task");
    let model = |reason: ModelError| ConfigError::Model { file: fleet.path().into(), reason };
    let own = fleet.own_carriers();
    calibration.matches_carriers(fleet)?;
    if let Some(profile) = profile {
        profile.matches_stall(calibration.overheads.stall)?;
        profile.matches_carriers(fleet)?;
    }
    let company = |position| Company::of(fleet, profile, lanes, position);
    let companies: Vec<Company> = (0..lanes.len()).map(company).collect();
    // A turn at the launcher grows with the inputs and outputs of the task whose turn it is, and those of the fleet may
    // be larger than those that were calibrated with.
    let strangers = companies.iter().any(|company| company.strangers);
    let turn = longest_turn(fleet, profile, calibration, strangers)?;
    let partitions = fleet.partition_models();
    let platform = if is_from_post(fleet, profile) {
        calibration.platform_from_post(partitions, turn)
    } else {
        calibration.platform_with(partitions, turn)
    };
    let platform = platform.map_err(model)?;
    let mut tasks = Vec::with_capacity(lanes.len());
    let mut gaps = Vec::new();
    for (position, config) in fleet.tasks().iter().enumerate() {
        let id = task_id(position);
        check_lane(fleet, id, config, lanes[position])?;
        let company = &companies[position];
        let own_carrier = own.contains(&lanes[position]);
        let evidence = Evidence { fleet, id, config, own_carrier, facts: &facts[position] };
        let segments = evidence.budgets(profile, company)?;
        if company.is_gap(profile, &config.name) {
            gaps.push(ContextGap { task: id, unmet: company.unmet.clone() });
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
            weight: config.weight,
            excludes: excludes(fleet, config),
        });
    }
    let set = TaskSet::new(tasks, platform).map_err(model)?;
    Ok(Prepared { set, requests: fleet.partition_requests(), gaps })
}

/// The tasks that a task excludes, by number.
fn excludes(fleet: &Fleet, config: &TaskConfig) -> Vec<TaskId> {
    let position = |name: &String| fleet.tasks().iter().position(|task| task.name == *name);
    config.excludes.iter().filter_map(position).map(task_id).collect()
}

/// The set with budgets that include the waiting for excluded tasks.
fn beside_excluded(fleet: &Fleet, set: TaskSet) -> Result<TaskSet, ConfigError> {
    let exclusion = Exclusion::of(&set);
    if exclusion.pairs().next().is_none() {
        return Ok(set);
    }
    exclusion.beside(&set).map_err(|error| match error {
        ExclusionError::Model(reason) => ConfigError::Model { file: fleet.path().into(), reason },
        error => {
            let first = fleet.tasks().iter().position(|task| !task.excludes.is_empty()).unwrap_or(0);
            fleet.complain(task_id(first), "exclude", error.to_string(), "budgets whose sum is in range")
        }
    })
}

/// Whether every budget holds what its launch waits for: one that was declared does not, and the platform charges all
/// tasks alike.
fn is_from_post(fleet: &Fleet, profile: Option<&Profile>) -> bool {
    let measured = |profile: &&Profile| fleet.tasks().iter().all(|task| profile.task(&task.name).is_some());
    profile.filter(measured).is_some_and(|profile| profile.from_post)
}

/// The longest of the turns at the launcher that were measured of the tasks of the fleet. A visit may end a job of one
/// task and launch one of a lane-mate; that is in the turns of tasks that shared a lane, and where there are `strangers`
/// it may be as long as the two longest together.
///
/// Where the calibration tells the turn of its own models, the device has a launcher, and a task whose turn nobody
/// measured would be taken for one of those models whatever its inputs are.
fn longest_turn(
    fleet: &Fleet,
    profile: Option<&Profile>,
    calibration: &Calibration,
    strangers: bool,
) -> Result<Nanos, ConfigError> {
    let mut longest = [Nanos::ZERO; 2];
    for (position, task) in fleet.tasks().iter().enumerate() {
        let turn = profile.and_then(|profile| profile.task(&task.name)).map_or(Nanos::ZERO, |it| it.turn);
        if turn.is_zero() && calibration.turn.is_some() {
            let problem = "its turn at the launcher was not measured, and every other lane may wait for it";
            let legal = "a task with a profile: run `aegis profile`";
            return Err(fleet.complain(task_id(position), "model", problem, legal));
        }
        if turn > longest[0] {
            longest = [turn, longest[0]];
        } else {
            longest[1] = longest[1].max(turn);
        }
    }
    let [first, second] = longest;
    Ok(if strangers { first.saturating_add(second) } else { first })
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

/// Who shares the device with a task in the fleet, as far as its profile does not speak for them.
struct Company {
    /// Tasks on other lanes that were not there, or not so, when the task was profiled, and tasks on its own lane that
    /// were not on it. Without an entry there is nothing to compare.
    unmet: Vec<String>,
    /// Whether one of those is on the task's own lane.
    strangers: bool,
    /// Whether budgets of the enemy level hold beside them: enemies were on at least as many lanes, and nothing that a
    /// lane-mate can leave in the caches matters.
    covered: bool,
}

impl Company {
    fn of(fleet: &Fleet, profile: Option<&Profile>, lanes: &[LaneId], position: usize) -> Self {
        let name = fleet.tasks()[position].name.as_str();
        let Some(profile) = profile.filter(|profile| profile.task(name).is_some()) else {
            return Self { unmet: Vec::new(), strangers: false, covered: true };
        };
        let mut by_lane: BTreeMap<LaneId, Vec<&str>> = BTreeMap::new();
        let others = fleet.tasks().iter().zip(lanes).enumerate().filter(|(other, _)| *other != position);
        for (_, (task, lane)) in others {
            by_lane.entry(*lane).or_default().push(&task.name);
        }
        let mates = by_lane.remove(&lanes[position]).unwrap_or_default();
        let mut unmet = profile.unmet(name, &by_lane.into_values().collect::<Vec<_>>());
        let mates = profile.unmet_mates(name, &mates);
        let strangers = !mates.is_empty();
        unmet.extend(mates);
        let enough = |made: &PartitionConfig| profile.lanes_of(&made.name) >= usize::from(made.lanes);
        let covered = fleet.partitions().iter().all(enough) && (profile.flushed || !strangers);
        Self { unmet, strangers, covered }
    }

    /// The entry with budgets that hold in this company although it was not met, where there are any.
    fn fallback(&self, entry: &TaskProfile) -> Option<TaskProfile> {
        if self.unmet.is_empty() || !self.covered { None } else { entry.at(Level::Enemy) }
    }

    fn is_gap(&self, profile: Option<&Profile>, name: &str) -> bool {
        let entry = profile.and_then(|profile| profile.task(name));
        !self.unmet.is_empty() && entry.and_then(|entry| self.fallback(entry)).is_none()
    }
}

/// One task and what is known about its occupancy.
struct Evidence<'a> {
    fleet: &'a Fleet,
    id: TaskId,
    config: &'a TaskConfig,
    /// Whether the task's lane has a carrier of its own.
    own_carrier: bool,
    facts: &'a Facts,
}

impl Evidence<'_> {
    fn budgets(
        &self,
        profile: Option<&Profile>,
        company: &Company,
    ) -> Result<Vec<OccupancyBudget>, ConfigError> {
        let name = &self.config.name;
        if let Some(profile) = profile
            && let Some(entry) = profile.matches(name, self.facts.model, &self.config.shapes)?
        {
            let partition = &self.fleet.partitions()[self.config.partition.index()].name;
            profile.matches_partition(name, partition)?;
            profile.matches_carrier(name, self.own_carrier)?;
            let fallback = company.fallback(entry);
            let (entry, unmet) =
                fallback.as_ref().map_or((entry, company.unmet.as_slice()), |entry| (entry, &[]));
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
