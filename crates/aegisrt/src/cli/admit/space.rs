//! Whether a fleet fits in memory, and if not, what is missing, who holds it, and the smallest change.

use aegis_memory::{MemoryError, MemoryPlan, Shortage};
use aegis_sched::{AdmissionReport, TaskSet};
use aegis_types::{Bytes, TaskId};
use serde_json::{Value, json};

use crate::cli::answer::CliError;
use crate::cli::figures::size;
use crate::cli::setup::Setup;
use crate::cli::verdict;
use crate::error::RuntimeError;

/// What planning said.
pub(super) enum Space {
    /// The fleet fits.
    Fits(Box<MemoryPlan>),
    /// It does not.
    Short(Short),
    /// It was not planned.
    Unknown(CliError),
}

/// A fleet that does not fit.
pub(super) struct Short {
    shortage: Box<Shortage>,
    cut: Option<Cut>,
    /// Names of the tasks of which only the budget is known.
    unmeasured: Vec<String>,
    /// What libraries take by themselves, in words; empty where that is nothing.
    outside: String,
}

/// A budget that would have to shrink, and to what.
struct Cut {
    task: TaskId,
    from: Bytes,
    to: Bytes,
}

impl Space {
    /// Plans the fleet.
    pub(super) fn of(setup: &Setup, report: &AdmissionReport) -> Self {
        match setup.plan_or_shortage(report) {
            Ok(Ok(plan)) => Self::Fits(Box::new(plan)),
            Ok(Err(shortage)) => Self::Short(Short::of(setup, report, shortage)),
            Err(error) => Self::Unknown(error),
        }
    }

    /// Whether the fleet fits.
    pub(super) const fn fits(&self) -> bool {
        matches!(self, Self::Fits(_))
    }

    /// For people.
    pub(super) fn text(&self, set: &TaskSet) -> String {
        match self {
            Self::Fits(plan) => {
                format!("memory: {} of {}\n", size(plan.peak()), size(plan.parts().capacity))
            }
            Self::Short(short) => short.text(set),
            Self::Unknown(error) => format!("memory: not planned: {error}\n"),
        }
    }

    /// For programs.
    pub(super) fn json(&self, set: &TaskSet) -> Value {
        match self {
            Self::Fits(plan) => json!({
                "fits": true, "peak_bytes": plan.peak().get(), "capacity_bytes": plan.parts().capacity.get(),
            }),
            Self::Short(short) => short.json(set),
            Self::Unknown(error) => json!({ "fits": null, "reason": error.to_string() }),
        }
    }
}

impl Short {
    fn of(setup: &Setup, report: &AdmissionReport, shortage: Box<Shortage>) -> Self {
        let measured =
            |name: &str| setup.profile.as_ref().is_some_and(|profile| profile.task(name).is_some());
        let models = setup.system.models().iter().filter(|model| !measured(&model.config.name));
        let slots = setup.slots(report);
        let cuts = models.clone().filter_map(|model| {
            let from = model.config.budget.memory;
            largest_that_fits(setup, &slots, model.task, from).map(|to| Cut { task: model.task, from, to })
        });
        let cut = cuts.min_by_key(|cut| (cut.from.saturating_sub(cut.to), cut.task));
        let unmeasured = models.map(|model| model.config.name.clone()).collect();
        let outside = setup.outside_text().unwrap_or_default();
        Self { shortage, cut, unmeasured, outside }
    }

    fn text(&self, set: &TaskSet) -> String {
        let mut text = format!("REFUSED: {}{}\n", verdict::shortage(&self.shortage, set), self.outside);
        if let Some(Cut { task, from, to }) = &self.cut {
            let name = verdict::name(*task, set);
            text.push_str(&format!(
                "memory: would fit with a budget of {} ({} bytes) for `{name}` instead of {}\n",
                size(*to),
                to.get(),
                size(*from)
            ));
        }
        if !self.unmeasured.is_empty() {
            text.push_str(&format!(
                "note: no profile knows {}, so each may use all of its budget, wherever it goes; measured needs are \
                 smaller\n",
                self.unmeasured.join(", ")
            ));
        }
        text
    }

    fn json(&self, set: &TaskSet) -> Value {
        let mut json = verdict::shortage_json(&self.shortage, set);
        json["fits"] = false.into();
        json["reason"] = verdict::shortage(&self.shortage, set).into();
        json["budget_cut"] = self.cut.as_ref().map_or(Value::Null, |cut| {
            json!({
                "task": verdict::name(cut.task, set), "from_bytes": cut.from.get(), "to_bytes": cut.to.get(),
            })
        });
        json["unmeasured"] = self.unmeasured.clone().into();
        json
    }
}

/// The largest budget below the one that a task has, with which the fleet fits; `None` where none does. Budgets that
/// are too small for what is known of the task lie below those that fit, and those that do not fit above.
fn largest_that_fits(setup: &Setup, slots: &[u32], task: TaskId, has: Bytes) -> Option<Bytes> {
    let capacity = setup.system.room(setup.profile.as_ref());
    let (mut low, mut high, mut best) = (0, has.get(), None);
    while high - low > 1 {
        let middle = low.midpoint(high);
        let tried = setup.demands_with(slots, task, Bytes::new(middle));
        match tried.and_then(|demands| setup.system.plan(&demands, capacity)) {
            Ok(_) => (low, best) = (middle, Some(Bytes::new(middle))),
            Err(RuntimeError::Memory(MemoryError::Shortage(_))) => high = middle,
            Err(_) => low = middle,
        }
    }
    best
}
