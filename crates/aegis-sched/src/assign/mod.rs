//! Which lane a task belongs to, where the fleet leaves that open.
//!
//! | module | what it answers |
//! |---|---|
//! | [`best_fit`] | one pass in the order of deadlines: cheap, for searches that ask thousands of times |
//! | [`mod@search`] | the whole fleet, or its best part, by best fit and repair, in a bounded number of steps |
//! | [`contended`] | budgets that depend on which tasks run beside a task |
//! | [`offers`] | which of several platforms to take: how many lanes, and partitions of which size |
//!
//! No search is trusted: whatever it returns has passed [`decide`](crate::analysis::decide()) lane by lane, and
//! admission with its referee judges it again.

pub mod best_fit;
pub mod contended;
mod lane;
pub mod offers;
mod order;
mod repair;
pub mod search;
mod state;

use aegis_types::{LaneId, TaskId};

pub use best_fit::assign;
pub use contended::ContendedBudgets;
pub use offers::{Choice, Offer, choose};
pub use search::{Assigned, AssignmentRequest, Effort, search};

use crate::error::ModelError;
use crate::model::TaskSet;

/// What is known about a task's lane beforehand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LaneChoice {
    /// It is given.
    Fixed(LaneId),
    /// Any of these.
    Among(Vec<LaneId>),
}

impl LaneChoice {
    /// The lanes that the task may use.
    pub fn lanes(&self) -> &[LaneId] {
        match self {
            Self::Fixed(lane) => std::slice::from_ref(lane),
            Self::Among(lanes) => lanes,
        }
    }
}

/// A lane for every task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The lanes, by [`TaskId`].
    pub lanes: Vec<LaneId>,
    /// Tasks that fit no lane that they may use, given the tasks placed before them; each stands on the emptiest of
    /// these. Empty if the search succeeded. Fixed tasks are not tested here: admission judges the whole.
    pub unplaced: Vec<TaskId>,
}

/// Refuses choices that are missing, empty, or name a lane that does not exist.
fn check(set: &TaskSet, choices: &[LaneChoice]) -> Result<(), ModelError> {
    let lanes = set.platform().lanes();
    for (position, task) in set.tasks().iter().enumerate() {
        let named = choices.get(position).map_or(&[][..], LaneChoice::lanes);
        let unknown = named.iter().find(|lane| lane.index() >= lanes);
        if let (true, bad) = (named.is_empty() || unknown.is_some(), unknown) {
            return Err(ModelError::BadField {
                task: task.name.clone(),
                field: "lane",
                value: bad.map_or_else(|| "none".to_owned(), LaneId::to_string),
                legal: format!("lane0 to lane{}", lanes.saturating_sub(1)),
            });
        }
    }
    Ok(())
}
