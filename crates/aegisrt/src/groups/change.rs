//! What a group exceeds, and the smallest change of one of its tasks with which it would not. A change is looked for with
//! the test that refused, so that what is said to fit fits.

use std::fmt;

use aegis_sched::{TaskSet, charge};
use aegis_types::{Bytes, Nanos, TaskId};

use super::{Asked, Excess, GroupUse, Load, WHOLE, cost, held, loads};
use crate::config::{Fleet, Profile, Share};
use crate::system::System;

/// Nanoseconds in the grain of periods that people are told.
const MICRO: u128 = 1_000;

/// A change that makes a group fit, of one task if there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A longer period.
    Period {
        /// The task.
        task: String,
        /// The shortest that fits, in whole microseconds.
        period: Nanos,
    },
    /// Longer periods for all of its tasks, where no task alone gives enough.
    Stretch {
        /// The factor, in millionths.
        ppm: u64,
    },
    /// A smaller budget of memory: the task was not measured, and may use all of it.
    Budget {
        /// The task.
        task: String,
        /// The largest that fits.
        budget: Bytes,
        /// The one that it has.
        instead_of: Bytes,
    },
    /// Another group for it, or none.
    Without {
        /// The task.
        task: String,
        /// What that frees.
        frees: Bytes,
    },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Period { task, period } => write!(f, "a period of {period} for `{task}`"),
            Self::Stretch { ppm } => write!(f, "all periods of the group times {}", Share::new(*ppm)),
            Self::Budget { task, budget, instead_of } => {
                write!(f, "a memory budget of {budget} for `{task}` instead of {instead_of}")
            }
            Self::Without { task, frees } => write!(f, "`{task}` in another group, which frees {frees}"),
        }
    }
}

impl System {
    /// The budgets that a group exceeds: memory first, then utilisation.
    pub fn excesses(
        &self,
        group: &GroupUse<'_>,
        set: &TaskSet,
        profile: Option<&Profile>,
        slots: &[u32],
    ) -> Vec<Excess> {
        let memory = if group.is_small() { None } else { self.too_large(group, set, profile, slots) };
        memory.into_iter().chain(too_heavy(group, set)).collect()
    }

    fn too_large(
        &self,
        group: &GroupUse<'_>,
        set: &TaskSet,
        profile: Option<&Profile>,
        slots: &[u32],
    ) -> Option<Excess> {
        let (may, asks) = group.config.memory.zip(group.memory)?;
        let needs = self.needs(profile, slots).ok()?;
        // The first of equals, so that equal fleets are answered alike.
        let total = |task: TaskId| held(&needs, &[task]);
        let most = *group.tasks.iter().max_by_key(|task| (total(**task), std::cmp::Reverse(**task)))?;
        let cuts = group.tasks.iter().filter_map(|&task| {
            let name = &set.task(task)?.name;
            if profile.is_some_and(|profile| profile.task(name).is_some()) {
                return None;
            }
            let has = self.models().get(task.index())?.config.budget.memory;
            let budget = has.checked_sub(asks.checked_sub(may)?)?;
            let cut = self.with_budget(task, budget).needs(profile, slots).ok()?;
            let fits = held(&cut, &group.tasks) <= may;
            fits.then(|| Change::Budget { task: name.clone(), budget, instead_of: has })
        });
        let size = |change: &Change| match change {
            Change::Budget { budget, .. } => *budget,
            Change::Period { .. } | Change::Stretch { .. } | Change::Without { .. } => Bytes::ZERO,
        };
        // All are cut by as much; the largest budget feels it least. Of equals the first.
        let cut = cuts.reduce(|best, next| if size(&next) > size(&best) { next } else { best });
        let change = cut.or_else(|| {
            let left = |task: TaskId| -> Vec<TaskId> {
                group.tasks.iter().copied().filter(|other| *other != task).collect()
            };
            let frees = |task: TaskId| asks.saturating_sub(held(&needs, &left(task)));
            let enough = |task: &TaskId| frees(*task) >= asks.saturating_sub(may);
            let task = group.tasks.iter().copied().filter(enough).min_by_key(|task| (frees(*task), *task))?;
            Some(Change::Without { task: set.task(task)?.name.clone(), frees: frees(task) })
        });
        Some(Excess {
            group: group.config.name.clone(),
            asked: Asked::Memory { asks, may },
            most: set.task(most)?.name.clone(),
            share: total(most).to_string(),
            change,
        })
    }

    /// The system with another memory budget for one task; every task stays on its lane.
    pub(crate) fn with_budget(&self, task: TaskId, budget: Bytes) -> Self {
        let mut models = self.models().to_vec();
        models[task.index()].config.budget.memory = budget;
        let mut system = self.beside(self.fleet().clone(), models);
        system.assign(self.lanes().to_vec());
        system
    }
}

/// The excess of a group that asks for too much of the lanes.
pub(super) fn too_heavy(group: &GroupUse<'_>, set: &TaskSet) -> Option<Excess> {
    let may = group.config.utilisation.filter(|may| !group.load.is_within(*may))?;
    let loads = loads(set).ok()?;
    let charged = charge(set).ok()?;
    let load = |task: TaskId| loads.get(task.index()).copied().unwrap_or_default();
    let most = *group.tasks.iter().max_by_key(|task| (load(**task), std::cmp::Reverse(**task)))?;
    let periods = group.tasks.iter().filter_map(|&id| {
        let others = group.load.0.checked_sub(load(id).0)?;
        let left = Load::parts_of(may).checked_sub(others).filter(|left| *left > 0)?;
        let cost = cost(charged.get(id.index())?);
        let exact = (u128::from(cost.get()) * WHOLE).div_ceil(left);
        let period = Nanos::new(u64::try_from(exact.div_ceil(MICRO) * MICRO).ok()?);
        let task = set.task(id)?;
        (period <= Fleet::SPAN_MAX && fits(group, set, &[(id, period)])).then_some((id, task, period))
    });
    // The smallest factor; of equals the first.
    let factor = |period: Nanos, task: &aegis_sched::Task| Load::of(period, task.period);
    let one = periods.min_by_key(|(id, task, period)| (factor(*period, task), *id));
    let one = one.map(|(_, task, period)| Change::Period { task: task.name.clone(), period });
    Some(Excess {
        group: group.config.name.clone(),
        asked: Asked::Utilisation { asks: group.load, may },
        most: set.task(most)?.name.clone(),
        share: load(most).to_string(),
        change: one.or_else(|| stretch(group, set, may)),
    })
}

/// The smallest factor for all periods of the group.
fn stretch(group: &GroupUse<'_>, set: &TaskSet, may: Share) -> Option<Change> {
    let exact = group.load.0.checked_mul(1_000_000)?.div_ceil(Load::parts_of(may));
    let least = u64::try_from(exact).ok()?;
    // Every load is rounded up by less than a millionth of a millionth, which one millionth more of the periods outweighs
    // in all but the smallest budgets; for those nothing is said.
    [least, least.checked_add(1)?].into_iter().find_map(|ppm| {
        let longer = |task: TaskId| Some((task, set.task(task)?.period.scale_ppm_up(ppm)?));
        let periods: Option<Vec<_>> = group.tasks.iter().map(|task| longer(*task)).collect();
        let periods = periods.filter(|all| all.iter().all(|(_, period)| *period <= Fleet::SPAN_MAX))?;
        fits(group, set, &periods).then_some(Change::Stretch { ppm })
    })
}

/// Whether the group fits with other periods of some tasks.
fn fits(group: &GroupUse<'_>, set: &TaskSet, periods: &[(TaskId, Nanos)]) -> bool {
    let mut tasks = set.tasks().to_vec();
    for (task, period) in periods {
        tasks[task.index()].period = *period;
    }
    let changed = TaskSet::new(tasks, set.platform().clone());
    let loads = changed.and_then(|set| loads(&set));
    let total = |loads: Vec<Load>| -> Load { group.tasks.iter().map(|task| loads[task.index()]).sum() };
    loads.is_ok_and(|loads| group.config.utilisation.is_none_or(|may| total(loads).is_within(may)))
}
