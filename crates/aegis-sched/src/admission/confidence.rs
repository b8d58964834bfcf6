//! How far a bound can be trusted: the theorem is proven, its inputs may only be measured.

use std::sync::Arc;

use aegis_types::{LaneId, Nanos};

use crate::model::{Basis, TaskSet};
use crate::policy::PolicyClass;
use crate::referee::certify::weakest_basis;

/// What a bound rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Confidence {
    /// The bound follows from these assumptions; no measured number entered.
    Proven {
        /// What must hold.
        assumptions: Arc<[String]>,
    },
    /// The bound follows from budgets of which at least one was measured; these are the weakest figures among them.
    Measured {
        /// Fewest confirm samples of such a budget.
        samples: u64,
        /// Smallest margin of such a budget, in millionths.
        margin_ppm: u64,
    },
}

impl Confidence {
    /// The weakest of the budgets of the tasks on `lane` and of those excluded tasks that they may wait for, under a policy
    /// of that class: each of them enters the bound of every task there.
    pub fn of_lane(set: &TaskSet, class: PolicyClass, lane: LaneId) -> Self {
        match weakest_basis(set, lane) {
            Basis::Declared => Self::Proven { assumptions: assumptions(set, class).into() },
            Basis::Measured { samples, margin_ppm, .. } => Self::Measured { samples, margin_ppm },
        }
    }
}

/// What must hold for the bounds to hold, for people.
pub(crate) fn assumptions(set: &TaskSet, class: PolicyClass) -> Vec<String> {
    let mut list = vec![
        "every segment stays within its occupancy budget (watched; overruns up to the lane's tolerance are absorbed)"
            .to_owned(),
        "arrivals keep their period and jitter (enforced)".to_owned(),
        "a free lane with a ready job decides at once, and one segment runs on a lane at a time (watched)".to_owned(),
        "the runtime's own overheads stay within their charges, which are measured (watched through budgets and releases)"
            .to_owned(),
        "regime and exclusivity of the device are those of the profile (watched only through overruns)".to_owned(),
    ];
    let platform = set.platform();
    let stall = platform.overheads.stall;
    list.push(match stall {
        Nanos::ZERO => "the driver's thread is never stalled by the host: no OS guarantee".to_owned(),
        stall => {
            format!("the driver's thread is not stalled for more than {stall} (watched): no OS guarantee")
        }
    });
    if class.inserts().is_some() {
        list.push(
            "releases follow the timers from the start: once an assumption broke, its lane claims nothing any more (watched)"
                .to_owned(),
        );
    }
    if platform.decider_shares_cores {
        list.push(
            "decider shares cores with lanes: its interference lies inside the measured budgets".to_owned(),
        );
    }
    let budgets = || set.tasks().iter().flat_map(|task| &task.segments);
    let measured = budgets().filter(|budget| budget.basis != Basis::Declared).count();
    if measured > 0 {
        list.push(format!("{measured} budgets are measured: untested mixes of co-runners are excluded"));
    }
    if measured < budgets().count() {
        list.push(format!("{} budgets are declared: nothing was measured", budgets().count() - measured));
    }
    list
}
