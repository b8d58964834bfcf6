//! Lanes for a fleet, judged with the budgets that hold there.
//!
//! Tasks stay where they were profiled if they all fit there. A measured budget holds in the company that it was measured in, and which budget holds is known only when every
//! task has a lane. So lanes are searched for with the budgets of some assignment, the fleet is prepared on the lanes
//! that were found, and where it is not certified there the search is repeated with the larger budget of each segment.
//! Slowdowns of a profile are medians: they tell which company hurts, and bound nothing, so no budget is made of them.

use aegis_sched::assign::{Assigned, Choice, Effort, LaneChoice, Offer, choose};
use aegis_sched::{AdmissionController, AdmissionReport, AdmissionRequest, OccupancyBudget, Task, TaskSet};
use aegis_types::{LaneId, Nanos, TaskId};

use super::rewrite::{Kept, kept};
use crate::cli::answer::CliError;
use crate::cli::figures;
use crate::cli::setup::Setup;
use crate::cli::verdict;
use crate::config::{Facts, Fleet, Prepared, Profile, prepare};

/// How often budgets are raised to those of the lanes that were found.
const ROUNDS: usize = 4;

/// Lanes of which the reason is told why a task does not fit there.
const REASONS: usize = 3;

/// A fleet that is to be given lanes, and everything that its verdict depends on.
pub(super) struct Ground<'a> {
    pub setup: &'a Setup,
    pub fleet: &'a Fleet,
    pub profile: Option<&'a Profile>,
    pub choices: Vec<LaneChoice>,
    /// What a job of each task means to the user, for comparisons: see [`work`].
    pub work: &'a [Nanos],
    pub effort: Effort,
}

/// Lanes that were found, and the verdict on what has lanes.
pub(super) struct Settled {
    /// The tasks of the fleet, with the budgets that were searched with.
    pub set: TaskSet,
    pub assigned: Assigned,
    /// What has lanes; `None` where nothing has.
    pub part: Option<Part>,
    /// Load of the tasks with lanes, in millionths.
    pub load_ppm: u64,
    /// Tasks looked at, in all rounds.
    pub steps: u64,
}

/// The part of a fleet that has lanes.
pub(super) struct Part {
    pub kept: Kept,
    pub prepared: Prepared,
    pub report: AdmissionReport,
}

impl Ground<'_> {
    /// Searches for lanes until what was found is certified, a few times at most.
    ///
    /// # Errors
    /// What is wrong in the measured files for these lanes.
    pub(super) fn settle(&self) -> Result<Settled, CliError> {
        let start = self.start();
        let set = self.prepare(self.fleet, &start)?.set;
        // Where all fits as it was profiled, no other company has to be trusted.
        let fits = self.controller().analyze(&AdmissionRequest::new(&set)).is_admitted();
        let stay: Vec<LaneChoice> = start.iter().copied().map(LaneChoice::Fixed).collect();
        let mut settled = self.judge(set, if fits { &stay } else { &self.choices })?;
        for _ in 1..ROUNDS {
            if settled.part.as_ref().is_none_or(|part| part.report.is_admitted()) {
                break;
            }
            let found = settled.assigned.lanes.iter().zip(&start);
            let lanes: Vec<LaneId> = found.map(|(lane, start)| lane.unwrap_or(*start)).collect();
            let set = raised(&settled.set, self.prepare(self.fleet, &lanes)?.set)?;
            let steps = settled.steps;
            settled = self.judge(set, &self.choices)?;
            settled.steps = settled.steps.saturating_add(steps);
        }
        Ok(settled)
    }

    /// Searches with these budgets, and judges what was found with those that hold there.
    fn judge(&self, set: TaskSet, choices: &[LaneChoice]) -> Result<Settled, CliError> {
        let Choice { assigned, load_ppm, .. } = self.search(&set, choices)?;
        let (part, steps) = (self.part(&assigned)?, assigned.steps);
        Ok(Settled { set, assigned, part, load_ppm, steps })
    }

    fn search(&self, set: &TaskSet, choices: &[LaneChoice]) -> Result<Choice, CliError> {
        let offer = Offer { set, choices, contended: None };
        let found = choose(&[offer], self.work, self.setup.system.policy().as_ref(), self.effort)?;
        Ok(found.expect("there is an offer"))
    }

    /// Where the tasks were when they were profiled, as far as the fleet allows that: budgets of the fleet's own company
    /// hold there.
    fn start(&self) -> Vec<LaneId> {
        let company = self.profile.map_or(&[][..], |profile| &profile.company);
        let tasks = self.fleet.tasks().iter().zip(&self.choices);
        let met = |(task, choice): (&crate::config::TaskConfig, &LaneChoice)| {
            let home = self.fleet.partitions().get(task.partition.index())?;
            let at = company.iter().position(|lane| lane.tasks.contains(&task.name))?;
            let number = company[..at].iter().filter(|lane| lane.partition == home.name).count();
            let first = self.fleet.lanes_of(task.partition).start;
            let lane = LaneId::new(first.checked_add(u16::try_from(number).ok()?)?);
            (company[at].partition == home.name && choice.lanes().contains(&lane)).then_some(lane)
        };
        tasks.map(|pair| met(pair).or_else(|| pair.1.lanes().first().copied()).unwrap_or_default()).collect()
    }

    fn prepare(&self, fleet: &Fleet, lanes: &[LaneId]) -> Result<Prepared, CliError> {
        let fleet = fleet.on_lanes(lanes);
        let models = self.setup.system.models().iter();
        let facts: Vec<Facts> = models
            .filter(|model| fleet.task(&model.config.name).is_some())
            .map(|model| Facts::from(&model.description))
            .collect();
        Ok(prepare(&fleet, self.profile, &self.setup.calibration, lanes, &facts)?)
    }

    fn part(&self, assigned: &Assigned) -> Result<Option<Part>, CliError> {
        let Some(kept) = kept(self.fleet, &assigned.lanes)? else { return Ok(None) };
        let lanes: Vec<LaneId> = assigned.lanes.iter().copied().flatten().collect();
        let prepared = self.prepare(&kept.fleet, &lanes)?;
        let report = self.controller().analyze(&AdmissionRequest::new(&prepared.set).tight());
        Ok(Some(Part { kept, prepared, report }))
    }

    fn controller(&self) -> AdmissionController {
        self.setup.controller()
    }

    /// What stands against a task on some of the lanes that it may use, in words.
    ///
    /// # Errors
    /// [`aegis_sched::ModelError`] where overheads leave the range of time.
    pub(super) fn reasons(&self, settled: &Settled, task: TaskId) -> Result<Vec<(LaneId, String)>, CliError> {
        let lanes = self.choices.get(task.index()).map_or(&[][..], LaneChoice::lanes);
        lanes.iter().take(REASONS).map(|&lane| Ok((lane, self.reason(settled, task, lane)?))).collect()
    }

    fn reason(&self, settled: &Settled, task: TaskId, lane: LaneId) -> Result<String, CliError> {
        let home = |model: &Task| {
            if model.id == task { Some(lane) } else { settled.assigned.lanes[model.id.index()] }
        };
        let there = settled.set.tasks().iter().filter_map(|model| Some((model, home(model)?)));
        let numbered = (0..=u16::MAX).map(TaskId::new).zip(there).map(|(id, (model, lane))| {
            let excludes = Vec::new();
            Task { id, lane, excludes, ..model.clone() }
        });
        let set = TaskSet::new(numbered.collect(), settled.set.platform().clone())?;
        let report = self.controller().analyze(&AdmissionRequest::new(&set));
        Ok(match report.refusal() {
            None => "it would fit there, but the search ended before; more --steps may find that".to_owned(),
            Some(refusal) => {
                let whom = refusal.task.map(|id| format!("`{}`: ", verdict::name(id, &set)));
                whom.unwrap_or_default() + &figures::plain(&refusal.reason.to_string())
            }
        })
    }
}

/// The time alone of each task of a fleet where that was measured, else its budgets.
pub(super) fn work(setup: &Setup) -> Vec<Nanos> {
    let alone = |name: &str| Some(setup.profile.as_ref()?.task(name)?.alone).filter(|alone| !alone.is_zero());
    let budgets = |task: &Task| {
        task.segments.iter().fold(Nanos::ZERO, |sum, segment| sum.saturating_add(segment.bound))
    };
    setup.prepared.set.tasks().iter().map(|task| alone(&task.name).unwrap_or_else(|| budgets(task))).collect()
}

/// The second set with the larger budget of both for each segment.
fn raised(known: &TaskSet, mut found: TaskSet) -> Result<TaskSet, CliError> {
    let mut tasks = found.tasks().to_vec();
    for (task, known) in tasks.iter_mut().zip(known.tasks()) {
        for (segment, known) in task.segments.iter_mut().zip(&known.segments) {
            let bound: Nanos = segment.bound.max(known.bound);
            *segment = OccupancyBudget { bound, basis: segment.basis.clone() };
        }
    }
    found = TaskSet::new(tasks, found.platform().clone())?;
    Ok(found)
}
