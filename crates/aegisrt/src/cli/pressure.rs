//! How full a device is with a plan, in the levels that the user chose, and who could make room; and what was held in the
//! end. Reports: nothing is taken from anybody.

use aegis_memory::{MemoryPlan, Pressure, TaskShare, Thresholds};
use aegis_sched::TaskSet;
use aegis_types::Bytes;
use serde_json::json;

use super::figures::{percent, size};
use super::table::Grid;
use super::verdict;
use crate::carrier::LaneReport;

/// How full the device is, and who could make room.
pub struct Fullness<'a> {
    plan: &'a MemoryPlan,
    set: &'a TaskSet,
    pressure: Pressure,
    thresholds: &'a Thresholds,
}

impl<'a> Fullness<'a> {
    /// What a plan takes of its device, in the levels of these thresholds.
    pub fn of(plan: &'a MemoryPlan, set: &'a TaskSet, thresholds: &'a Thresholds) -> Self {
        Self { plan, set, pressure: plan.pressure(thresholds), thresholds }
    }

    /// What would be free if a task ended, by holder.
    fn freed(&self) -> Vec<(String, Bytes, Bytes)> {
        let released = self.plan.releasable();
        let freed = |task| released.iter().find(|entry| entry.0 == task).map_or(Bytes::ZERO, |entry| entry.1);
        let holders = self.pressure.holders.iter();
        holders.map(|&(task, bytes)| (verdict::name(task, self.set), bytes, freed(task))).collect()
    }

    /// What is left, the level, and from the first threshold on the holders.
    pub fn text(&self) -> String {
        let Pressure { reserved, capacity, .. } = &self.pressure;
        let left = capacity.saturating_sub(*reserved);
        format!(
            "headroom     {} of {}\npressure     {}\n{}",
            size(left),
            size(*capacity),
            self.level(),
            self.holders()
        )
    }

    /// The level in words.
    pub fn level(&self) -> String {
        let thresholds: Vec<String> = self.thresholds.percent().iter().map(|p| format!("{p}%")).collect();
        let Pressure { level, highest, reserved, capacity, .. } = &self.pressure;
        format!(
            "level {level} of {highest} ({} taken; levels from {})",
            percent(reserved.get(), capacity.get()),
            if thresholds.is_empty() { "no threshold".to_owned() } else { thresholds.join(", ") },
        )
    }

    /// From the first threshold on, the tasks that hold the memory, and what each would give back; else nothing.
    pub fn holders(&self) -> String {
        if self.pressure.level == 0 {
            return String::new();
        }
        let mut grid = Grid::new(1, &["task", "holds", "its end would free"]);
        for (name, holds, frees) in self.freed() {
            grid.row([name, size(holds), size(frees)]);
        }
        grid.text()
    }

    /// For programs.
    pub fn json(&self) -> serde_json::Value {
        let holder = |(task, holds, frees): (String, Bytes, Bytes)| json!({ "task": task, "holds_bytes": holds.get(), "frees_bytes": frees.get() });
        json!({
            "level": self.pressure.level, "highest": self.pressure.highest,
            "thresholds_percent": self.thresholds.percent(),
            "holders": self.freed().into_iter().map(holder).collect::<Vec<_>>(),
        })
    }
}

/// What a run held of its plan, and beside it.
pub struct Held {
    /// The most that all tasks can have held at once: each its own, and each lane the largest need of its tasks.
    measured: Bytes,
    planned: Bytes,
    /// The most that the process had resident.
    resident: Option<Bytes>,
}

impl Held {
    /// What was held by the models of these lanes.
    pub fn of(plan: &MemoryPlan, lanes: &[LaneReport], resident: Option<u64>) -> Self {
        let models = || lanes.iter().flat_map(|lane| &lane.models);
        let own =
            models().map(|model| model.memory.persistent.get().saturating_add(model.memory.exchange.get()));
        let scratch = |share: &TaskShare| {
            models().find(|model| model.task == share.task).map_or(0, |model| model.memory.scratch.get())
        };
        let shared = plan.lanes().iter().map(|lane| {
            let tasks = plan.tasks().iter().filter(|share| share.lane == lane.lane);
            tasks.map(scratch).max().unwrap_or(0)
        });
        let measured = own.chain(shared).fold(0u64, u64::saturating_add);
        Self { measured: Bytes::new(measured), planned: plan.peak(), resident: resident.map(Bytes::new) }
    }

    /// One line.
    pub fn text(&self) -> String {
        let beside = self.resident.map_or_else(String::new, |resident| {
            format!(
                "; the process held {} in all, and what is not in the plan is unenforced: libraries, and what they keep \
                 for themselves",
                size(resident)
            )
        });
        format!("memory: {} held of {} planned{beside}\n", size(self.measured), size(self.planned))
    }

    /// For programs.
    pub fn json(&self) -> serde_json::Value {
        json!({
            "held_bytes": self.measured.get(), "planned_bytes": self.planned.get(),
            "process_peak_bytes": self.resident.map(Bytes::get),
        })
    }
}
