//! `aegis plan --headroom TASK`: the largest memory budget that a task can have while all others keep theirs.
//!
//! A budget covers whatever the task turns out to need, so the answer holds wherever the growth goes. Of a task that was
//! measured the parts are known, and each may grow by what the device has left; what grows as scratch is free as far as
//! the lane holds as much already. Of one that was not, a larger budget is planned as a larger demand, in every part
//! that its backend leaves open: budgets are tried, with planner and verifier, until one byte more is refused. The budget
//! of the task's group binds like the device.

use aegis_memory::{Demand, Headroom, MemoryOrchestrator, MemoryPlan};
use aegis_types::{Bytes, TaskId};
use serde_json::json;

use super::super::answer::{Answer, CliError};
use super::super::figures::size;
use super::super::setup::Setup;
use crate::config::GroupConfig;
use crate::error::RuntimeError;
use crate::groups::{held, uses};

/// What refuses one byte more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Binding {
    /// Exclusive bytes of all tasks and the scratch of all lanes fill the device.
    Device,
    /// The lane's scratch would grow with the task, and the device has no room for that.
    Lane,
    /// The task's group would exceed its budget of memory.
    Group,
}

/// The answer for one task.
#[derive(Debug)]
struct Found {
    headroom: Headroom,
    /// The largest budget, wherever its bytes are used.
    budget: Bytes,
    /// The largest one that could be used if all growth is scratch; only where the parts are known.
    as_scratch: Option<Bytes>,
    binding: Binding,
    /// What the task is known to need; only where the parts are known.
    needs: Option<Bytes>,
    staging: Bytes,
}

/// What the group of a task has for it.
#[derive(Debug)]
struct Room<'a> {
    group: &'a GroupConfig,
    tasks: Vec<TaskId>,
    may: Bytes,
    /// What the group's budget leaves.
    left: Bytes,
    /// Scratch of the lane that the group counts already and the task does not use.
    spare_scratch: Bytes,
}

impl<'a> Room<'a> {
    /// The room of the task's group, if it has one with a budget of memory.
    fn of(setup: &'a Setup, slots: &[u32], task: TaskId) -> Result<Option<Self>, RuntimeError> {
        let needs = setup.system.needs(setup.profile.as_ref(), slots)?;
        let uses = uses(setup.system.fleet(), &setup.prepared.set, Some(&needs))?;
        let own = uses.into_iter().find(|group| group.tasks.contains(&task));
        let need = needs.iter().find(|need| need.task == task);
        let Some((group, need)) = own.zip(need) else { return Ok(None) };
        let Some(may) = group.config.memory else { return Ok(None) };
        let mates = needs.iter().filter(|mate| group.tasks.contains(&mate.task) && mate.lane == need.lane);
        let largest = mates.map(|mate| mate.scratch).max().unwrap_or_default();
        let left = may.saturating_sub(group.memory.unwrap_or_default());
        let spare_scratch = largest.saturating_sub(need.scratch);
        Ok(Some(Self { group: group.config, tasks: group.tasks, may, left, spare_scratch }))
    }

    /// Whether the group's budget holds another budget of the task.
    fn holds(&self, setup: &Setup, slots: &[u32], task: TaskId, budget: Bytes) -> Result<bool, RuntimeError> {
        let needs = setup.system.with_budget(task, budget).needs(setup.profile.as_ref(), slots)?;
        Ok(held(&needs, &self.tasks) <= self.may)
    }
}

/// Answers for the task of that name, beside a plan in which all tasks have what they have.
pub fn answer(setup: &Setup, slots: &[u32], plan: &MemoryPlan, name: &str) -> Result<Answer, CliError> {
    let models = setup.system.models();
    let Some(model) = models.iter().find(|model| model.config.name == name) else {
        let legal: Vec<&str> = models.iter().map(|model| model.config.name.as_str()).collect();
        return Err(CliError::Input(format!(
            "--headroom: there is no task `{name}`; legal: {}",
            legal.join(", ")
        )));
    };
    let (task, has) = (model.task, model.config.budget.memory);
    let demands = setup.system.demands(setup.profile.as_ref(), slots)?;
    let staging = setup.system.staging(slots)?.get(task.index()).copied().unwrap_or(Bytes::ZERO);
    let known = setup.profile.as_ref().is_some_and(|profile| profile.task(name).is_some());
    let room = Room::of(setup, slots, task)?;
    let found = if known {
        measured(plan, &demands, (task, room.as_ref()), staging)?
    } else {
        tried(setup, slots, plan, (task, has, room.as_ref()), staging)?
    };
    Ok(Answer::done(text(&found, room.as_ref(), name, has), json_of(&found, name, has)))
}

fn headroom(plan: &MemoryPlan, demands: &[Demand], task: TaskId) -> Result<Headroom, RuntimeError> {
    let orchestrator = MemoryOrchestrator::with_align(plan.parts().align)?;
    Ok(orchestrator.headroom(demands, task, plan.parts().capacity)?)
}

/// Of a task whose parts are known.
fn measured(
    plan: &MemoryPlan,
    demands: &[Demand],
    (task, room): (TaskId, Option<&Room<'_>>),
    staging: Bytes,
) -> Result<Found, RuntimeError> {
    let headroom = headroom(plan, demands, task)?;
    let own = demands.iter().find(|demand| demand.task == task);
    let parts = own.map_or([Bytes::ZERO; 3], |own| [own.persistent, own.exchange, own.scratch_max()]);
    // Each largest part is at least the part itself.
    let all = parts.iter().fold(staging, |sum, part| Bytes::new(sum.get().saturating_add(part.get())));
    let with = |part: usize, grown: Bytes| {
        Bytes::new(all.saturating_sub(parts[part]).get().saturating_add(grown.get()))
    };
    let as_private = with(0, headroom.persistent).min(with(1, headroom.exchange));
    let as_scratch = with(2, headroom.scratch);
    let binding = if as_scratch < as_private { Binding::Lane } else { Binding::Device };
    // Whatever grows, the group counts it; scratch only beyond what it counts for the lane already.
    let more = |by: Bytes| Bytes::new(all.get().saturating_add(by.get()));
    let by_group =
        room.map(|room| (more(room.left), more(room.left).get().saturating_add(room.spare_scratch.get())));
    let by_device = as_private.min(as_scratch);
    let (budget, as_scratch, binding) = match by_group {
        Some((private, scratch)) if private < by_device => {
            (private, as_scratch.min(Bytes::new(scratch)), Binding::Group)
        }
        Some((_, scratch)) => (by_device, as_scratch.min(Bytes::new(scratch)), binding),
        None => (by_device, as_scratch, binding),
    };
    let needs = Some(all);
    Ok(Found { headroom, budget, as_scratch: Some(as_scratch), binding, needs, staging })
}

/// Of a task of which only the budget is known: budgets are tried from the one that it has on.
fn tried(
    setup: &Setup,
    slots: &[u32],
    plan: &MemoryPlan,
    (task, has, room): (TaskId, Bytes, Option<&Room<'_>>),
    staging: Bytes,
) -> Result<Found, RuntimeError> {
    let with = |budget: Bytes| {
        let demands = setup.demands_with(slots, task, budget)?;
        setup.system.plan(&demands, plan.parts().capacity)?;
        Ok::<Vec<Demand>, RuntimeError>(demands)
    };
    // Persistent memory takes whatever the budget adds, so that one alignment more than what is left is too much.
    let spare = plan.parts().capacity.saturating_sub(plan.peak()).get();
    let over = has.get().saturating_add(spare).saturating_add(plan.parts().align.get());
    let (mut best, mut fits, mut over) = (has, with(has)?, over);
    let mut by_group = false;
    while over.saturating_sub(best.get()) > 1 {
        let middle = best.get().midpoint(over);
        match with(Bytes::new(middle)) {
            Ok(demands)
                if room.is_none_or(|room| {
                    room.holds(setup, slots, task, Bytes::new(middle)).unwrap_or(false)
                }) =>
            {
                (best, fits) = (Bytes::new(middle), demands);
            }
            // The last that is refused is one byte more than what is legal.
            tried => (over, by_group) = (middle, tried.is_ok()),
        }
    }
    let headroom = headroom(plan, &fits, task)?;
    let scratch = fits.iter().find(|demand| demand.task == task).map_or(Bytes::ZERO, Demand::scratch_max);
    let before = plan.task(task).map_or(Bytes::ZERO, |share| share.shared);
    let grows = scratch > before && scratch > headroom.scratch_free;
    let binding = match by_group {
        true => Binding::Group,
        false if grows => Binding::Lane,
        false => Binding::Device,
    };
    Ok(Found { headroom, budget: best, as_scratch: None, binding, needs: None, staging })
}

fn text(found: &Found, room: Option<&Room<'_>>, name: &str, has: Bytes) -> String {
    let Found { headroom, budget, as_scratch, staging, .. } = found;
    let lane = headroom.lane;
    let binding = match found.binding {
        Binding::Device => {
            "device memory: what all tasks own and the scratch of all lanes fill it".to_owned()
        }
        Binding::Lane => {
            format!(
                "the scratch of {lane}: it would grow with the task, and device memory has no room for that"
            )
        }
        Binding::Group => room.map_or_else(String::new, |room| {
            format!("group `{}`: its tasks may need {} together", room.group.name, size(room.may))
        }),
    };
    let scratch = as_scratch.map_or_else(
        || {
            "basis        every budget was planned: the task is not in the profile, so it may use all of it\n"
                .to_owned()
        },
        |most| {
            format!(
                "as scratch   {} if all growth is scratch: {lane} holds {} for other tasks already\n",
                size(most),
                size(headroom.scratch_free)
            )
        },
    );
    let needs = found.needs.map_or_else(String::new, |needs| format!(", of which it needs {}", size(needs)));
    let staged = match staging.is_zero() {
        true => String::new(),
        false => format!(
            "staging      {} of it in pinned host memory, which grows with input slots only\n",
            size(*staging)
        ),
    };
    format!(
        "`{name}` on {lane} can have a budget of {} ({} bytes) while every other task keeps what it has\n\
         has          {}{needs}\nbinding      {binding}\n{scratch}{staged}",
        size(*budget),
        budget.get(),
        size(has),
    )
}

fn json_of(found: &Found, name: &str, has: Bytes) -> serde_json::Value {
    let Found { headroom, .. } = found;
    let binding = match found.binding {
        Binding::Device => "device memory",
        Binding::Lane => "lane scratch",
        Binding::Group => "group",
    };
    json!({
        "task": name, "lane": headroom.lane.get(), "budget_bytes": has.get(),
        "headroom": {
            "budget_bytes": found.budget.get(), "binding": binding,
            "needs_bytes": found.needs.map(Bytes::get),
            "as_scratch_bytes": found.as_scratch.map(Bytes::get),
            "scratch_free_bytes": headroom.scratch_free.get(), "staging_bytes": found.staging.get(),
        },
    })
}
