//! `aegis plan`: one memory plan for all models of a fleet, beside the lower bound and beside what they would take
//! each on its own; or a placement for the buffers of one file.

mod drawing;
mod headroom;
mod instance;
mod options;
mod picture;
mod space;
mod tensors;

use aegis_memory::{MemoryPlan, TaskShare, Thresholds};
use aegis_sched::TaskSet;
use aegis_types::Bytes;
use clap::Args;
use serde_json::json;

use self::instance::InstanceArgs;
use self::options::Options;
use self::tensors::Tensors;
use super::answer::{Answer, CliError};
use super::figures::size;
use super::groups::JudgedGroups;
use super::pressure::Fullness;
use super::setup::{FleetArgs, Setup};
use super::table::Grid;
use super::{Environment, figures, target, verdict};
use crate::config::Fleet;

/// Show one memory plan for all models of a fleet, or place the buffers of a file in MiniMalloc's format (.csv).
#[derive(Debug, Args)]
pub struct Plan {
    #[command(flatten)]
    fleet: FleetArgs,
    #[command(flatten)]
    instance: InstanceArgs,
    #[command(flatten)]
    options: Options,
}

impl Plan {
    pub(super) fn perform(&self, environment: &Environment) -> Result<Answer, CliError> {
        if InstanceArgs::applies(&self.fleet.fleet) {
            return self.instance.perform(&self.fleet.fleet, &self.options);
        }
        if let Some(option) = self.instance.given() {
            return Err(CliError::Input(format!(
                "{option}: is for buffers; legal: a file whose name ends in .csv"
            )));
        }
        let given = self.options.thresholds()?;
        let fleet = Fleet::read(&self.fleet.fleet)?;
        let thresholds = given.unwrap_or_else(|| fleet.pressure());
        let mut inputs = target::files_of(&fleet);
        inputs.extend([self.fleet.platform_path(), self.fleet.profile_path()]);
        self.options.check(&inputs)?;
        let setup = Setup::judge(&self.fleet, fleet, environment)?;
        let report = setup.analyze();
        let slots = setup.slots(&report);
        let plan = setup.plan(&report)?;
        let groups = JudgedGroups::of(&setup, &report)?;
        groups.check_memory()?;
        let mut answer = match self.options.headroom() {
            Some(task) => headroom::answer(&setup, &slots, &plan, task)?,
            None => self.shown(&setup, &slots, (&plan, &groups), &thresholds)?,
        };
        if let Some(origin) = &setup.origin {
            answer.text = format!("judged for: {origin}\n\n{}", answer.text);
            answer.json["judged_for"] = origin.json();
        }
        Ok(answer)
    }

    /// The plan as tables, and as a picture where one is asked for.
    fn shown(
        &self,
        setup: &Setup,
        slots: &[u32],
        (plan, groups): (&MemoryPlan, &JudgedGroups<'_>),
        thresholds: &Thresholds,
    ) -> Result<Answer, CliError> {
        let (set, fleet) = (&setup.prepared.set, setup.system.fleet());
        let shown = Shown {
            plan,
            set,
            measured: setup.profile.is_some(),
            staging: setup.system.staging(slots)?,
            outside: setup.system.outside(setup.profile.as_ref()),
        };
        let fullness = Fullness::of(plan, set, thresholds);
        let drawn = self.options.draw(|| picture::of_fleet(plan, set, &segments(setup)))?;
        let lanes = space::lanes_text(plan, fleet);
        let tensors = if self.options.tensors() { Some(Tensors::of(setup, plan)?) } else { None };
        let inside = tensors.as_ref().map(Tensors::text).unwrap_or_default();
        let text = format!("{}{}{}{lanes}{inside}{drawn}", shown.text(), fullness.text(), groups.table());
        let mut json = shown.json();
        json["pressure"] = fullness.json();
        json["groups"] = groups.json();
        json["lane_counts"] = space::lanes_json(plan, fleet);
        json["tensors"] = tensors.as_ref().map_or(serde_json::Value::Null, Tensors::json);
        Ok(Answer::done(text, json))
    }
}

/// What each segment of each task needs, by task, where the backend declares it.
fn segments(setup: &Setup) -> Vec<Vec<Bytes>> {
    setup
        .system
        .models()
        .iter()
        .map(|model| model.description.memory.scratch.clone().unwrap_or_default())
        .collect()
}

/// What the tasks would take without sharing.
fn private_total(plan: &MemoryPlan) -> Bytes {
    let alone = |share: &TaskShare| share.private.get().saturating_add(share.shared.get());
    Bytes::new(plan.tasks().iter().fold(0u64, |sum, share| sum.saturating_add(alone(share))))
}

/// What is shown of a plan.
struct Shown<'a> {
    plan: &'a MemoryPlan,
    set: &'a TaskSet,
    /// Whether there is a profile.
    measured: bool,
    /// Staging memory of each task.
    staging: Vec<Bytes>,
    /// What libraries take of the device by themselves.
    outside: Bytes,
}

impl Shown<'_> {
    fn staging_total(&self) -> Bytes {
        Bytes::new(self.staging.iter().fold(0u64, |sum, bytes| sum.saturating_add(bytes.get())))
    }

    fn staging_of(&self, share: &TaskShare) -> Bytes {
        self.staging.get(share.task.index()).copied().unwrap_or(Bytes::ZERO)
    }

    fn text(&self) -> String {
        let Self { plan, set, .. } = self;
        let staged = !self.staging_total().is_zero();
        let mut header = vec!["task", "lane", "private", "shared", "saved"];
        header.extend(staged.then_some("staging"));
        let mut tasks = Grid::new(2, &header);
        for share in plan.tasks() {
            let name = verdict::name(share.task, set);
            let mut row = vec![name, share.lane.to_string(), size(share.private), size(share.shared)];
            row.push(size(share.saved));
            row.extend(staged.then(|| size(self.staging_of(share))));
            tasks.row(row);
        }
        let mut lanes = Grid::new(2, &["lane", "largest need of", "scratch", "at offset"]);
        for lane in plan.lanes() {
            let holder = verdict::name(lane.holder, set);
            lanes.row([lane.lane.to_string(), holder, size(lane.extent.len), size(lane.extent.offset)]);
        }
        let (alone, peak) = (private_total(plan), plan.peak());
        let saved = alone.saturating_sub(peak);
        let staging = match staged {
            true => format!(
                "staging      {} of pinned host memory beside the plan, one reservation\n",
                size(self.staging_total())
            ),
            false => String::new(),
        };
        let outside = match self.outside {
            Bytes::ZERO => String::new(),
            outside => format!(
                "outside      {} more that libraries take by themselves, as measured; unenforced\n",
                size(outside)
            ),
        };
        let basis = match self.measured {
            true => "",
            false => "note: there is no profile, so every task gets all that its budget allows\n",
        };
        format!(
            "{}\n{}\npeak         {} of {}\nlower bound  {} (no plan that shares scratch within lanes is smaller)\n\
             each alone   {} without sharing; the plan saves {} ({})\n{staging}{outside}{basis}",
            tasks.text(),
            lanes.text(),
            size(peak),
            size(plan.parts().capacity),
            size(plan.lower_bound()),
            size(alone),
            size(saved),
            figures::percent(saved.get(), alone.get()),
        )
    }

    fn json(&self) -> serde_json::Value {
        let Self { plan, set, measured, .. } = self;
        let task = |share: &TaskShare| {
            json!({
                "task": verdict::name(share.task, set), "lane": share.lane.get(),
                "private_bytes": share.private.get(), "shared_bytes": share.shared.get(),
                "saved_bytes": share.saved.get(), "staging_bytes": self.staging_of(share).get(),
                "persistent": { "offset": share.persistent.offset.get(), "bytes": share.persistent.len.get() },
                "exchange": { "offset": share.exchange.offset.get(), "bytes": share.exchange.len.get() },
            })
        };
        let lane = |lane: &aegis_memory::LaneScratch| {
            json!({
                "lane": lane.lane.get(), "holder": verdict::name(lane.holder, set),
                "scratch": { "offset": lane.extent.offset.get(), "bytes": lane.extent.len.get() },
            })
        };
        json!({
            "planner": plan.parts().planner, "measured": measured,
            "capacity_bytes": plan.parts().capacity.get(), "peak_bytes": plan.peak().get(),
            "lower_bound_bytes": plan.lower_bound().get(), "private_total_bytes": private_total(plan).get(),
            "staging_bytes": self.staging_total().get(), "outside_bytes": self.outside.get(),
            "tasks": plan.tasks().iter().map(task).collect::<Vec<_>>(),
            "lanes": plan.lanes().iter().map(lane).collect::<Vec<_>>(),
        })
    }
}
