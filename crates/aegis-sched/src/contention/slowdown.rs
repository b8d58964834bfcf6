//! Slowdowns by co-runner: levels 0 and 1.
//!
//! While a segment runs, the mix beside it changes: each other lane runs one task or none. If progress in every mix K
//! is at least 1 / s(K) of that in isolation, the segment takes at most C max s(K) over the mixes that can occur: at
//! most one task of each other lane of any partition. More co-runners do not always slow more, so subsets count as
//! mixes of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use aegis_types::{LaneId, Nanos, TaskId};
use serde::{Deserialize, Serialize};

use super::{ContentionError, with_budgets};
use crate::model::TaskSet;

/// Tasks of one class slow others alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClassId(pub u16);

/// What runs on the other lanes at one time: a class for each lane that is busy.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "Vec<ClassId>", into = "Vec<ClassId>")]
pub struct Mix(Vec<ClassId>);

/// In isolation: no slowdown.
const ALONE: u64 = 1_000_000;

/// The most different mixes that are looked at for one task.
const MIXES_MAX: usize = 1 << 16;

/// How much a task is slowed, in millionths of its time in isolation (1,000,000: not at all).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Slowdown {
    /// Level 0: by an enemy that is at least as bad as anything admitted.
    Enemy {
        /// The slowdown.
        ppm: u64,
    },
    /// Level 1: by each mix that was measured.
    Mixes {
        /// The slowdown by each mix; the empty mix need not be listed.
        tested: BTreeMap<Mix, u64>,
        /// What mixes that are not listed are charged; without it they are an error.
        enemy: Option<u64>,
    },
    /// Level 1 for tables too large to enumerate: an excess for each class, of which the largest of each other lane
    /// add up. Excesses of pairs do not add up by nature: whoever gives them says that the sums cover every mix.
    Excess {
        /// By class.
        ppm: Vec<u64>,
    },
}

/// Slowdowns of all tasks of a set, by [`TaskId`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlowdownTable {
    /// What each task does to others.
    pub classes: Vec<ClassId>,
    /// What others do to it.
    pub rows: Vec<Slowdown>,
}

/// The worst that an assignment allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worst {
    /// The slowdown, in millionths.
    pub ppm: u64,
    /// The mix that has it; `None` for an enemy's level.
    pub mix: Option<Mix>,
}

impl SlowdownTable {
    /// The set with its budgets, which are those in isolation, replaced by those beside the set's own other lanes.
    ///
    /// # Errors
    /// [`ContentionError`] where the table does not cover the set, or a budget leaves the range of time.
    pub fn beside(&self, set: &TaskSet) -> Result<TaskSet, ContentionError> {
        let lanes: Vec<LaneId> = set.tasks().iter().map(|task| task.lane).collect();
        let slowed = (0..=u16::MAX).map(TaskId::new).take(lanes.len());
        let worst = slowed.map(|task| self.worst(task, &lanes)).collect::<Result<Vec<_>, _>>()?;
        with_budgets(set, |task, segment| {
            let isolated: Nanos = task.segments[segment].bound;
            isolated.scale_ppm_up(worst[task.id.index()].ppm).ok_or(ContentionError::Range { task: task.id })
        })
    }

    /// The worst slowdown of a task where every task is on the lane given for it, by [`TaskId`].
    ///
    /// # Errors
    /// [`ContentionError`] where the table does not cover the assignment.
    pub fn worst(&self, task: TaskId, lanes: &[LaneId]) -> Result<Worst, ContentionError> {
        for (place, found) in [("classes", self.classes.len()), ("rows", self.rows.len())] {
            if found != lanes.len() || task.index() >= found {
                let needed = lanes.len().max(task.index() + 1);
                return Err(ContentionError::Count { place: place.to_owned(), found, needed });
            }
        }
        let mut others: BTreeMap<LaneId, BTreeSet<ClassId>> = BTreeMap::new();
        for (class, lane) in self.classes.iter().zip(lanes).filter(|(_, lane)| **lane != lanes[task.index()])
        {
            others.entry(*lane).or_default().insert(*class);
        }
        match &self.rows[task.index()] {
            Slowdown::Enemy { ppm } => Ok(Worst { ppm: ALONE.max(*ppm), mix: None }),
            Slowdown::Mixes { tested, enemy } => worst_mix(task, tested, *enemy, &others),
            Slowdown::Excess { ppm } => sum_of_excesses(task, ppm, &others),
        }
    }
}

/// The worst of all mixes that take at most one class of each other lane.
fn worst_mix(
    task: TaskId,
    tested: &BTreeMap<Mix, u64>,
    enemy: Option<u64>,
    others: &BTreeMap<LaneId, BTreeSet<ClassId>>,
) -> Result<Worst, ContentionError> {
    let mut mixes = BTreeSet::from([Mix::default()]);
    for classes in others.values() {
        let longer: Vec<Mix> =
            mixes.iter().flat_map(|mix| classes.iter().map(|class| mix.with(*class))).collect();
        mixes.extend(longer);
        if mixes.len() > MIXES_MAX {
            // The enemy is no better than any mix; it is what remains where there are too many of them.
            return match enemy {
                Some(ppm) => Ok(Worst { ppm: ALONE.max(ppm), mix: None }),
                None => Err(ContentionError::TooManyMixes { task, max: MIXES_MAX }),
            };
        }
    }
    let mut worst = Worst { ppm: ALONE, mix: Some(Mix::default()) };
    for mix in mixes {
        let found = match (tested.get(&mix), enemy) {
            (Some(&ppm), _) => Worst { ppm, mix: Some(mix) },
            (None, _) if mix == Mix::default() => continue,
            (None, Some(ppm)) => Worst { ppm, mix: None },
            (None, None) => return Err(ContentionError::Untested { task, mix }),
        };
        if found.ppm > worst.ppm {
            worst = found;
        }
    }
    Ok(worst)
}

fn sum_of_excesses(
    task: TaskId,
    excess: &[u64],
    others: &BTreeMap<LaneId, BTreeSet<ClassId>>,
) -> Result<Worst, ContentionError> {
    let mut worst = Worst { ppm: ALONE, mix: None };
    let mut mix = Mix::default();
    for classes in others.values() {
        let mut largest = (0, None);
        for class in classes {
            let Some(&ppm) = excess.get(usize::from(class.0)) else {
                let (place, found) = (format!("excesses of {task}"), excess.len());
                return Err(ContentionError::Count { place, found, needed: usize::from(class.0) + 1 });
            };
            if ppm > largest.0 {
                largest = (ppm, Some(*class));
            }
        }
        worst.ppm = worst.ppm.checked_add(largest.0).ok_or(ContentionError::Range { task })?;
        mix = largest.1.map_or(mix.clone(), |class| mix.with(class));
    }
    worst.mix = Some(mix);
    Ok(worst)
}

impl Mix {
    /// The mix with one lane more busy.
    fn with(&self, class: ClassId) -> Self {
        let mut classes = self.0.clone();
        classes.insert(classes.partition_point(|known| *known <= class), class);
        Self(classes)
    }

    /// The classes, in ascending order.
    pub fn classes(&self) -> &[ClassId] {
        &self.0
    }
}

impl From<Vec<ClassId>> for Mix {
    fn from(mut classes: Vec<ClassId>) -> Self {
        classes.sort_unstable();
        Self(classes)
    }
}

impl From<Mix> for Vec<ClassId> {
    fn from(mix: Mix) -> Self {
        mix.0
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let classes: Vec<String> = self.0.iter().map(|class| format!("class{}", class.0)).collect();
        write!(f, "[{}]", classes.join(", "))
    }
}
