//! Who shared the device with a task while it was profiled, on which partitions, and whether a fleet is covered by that.

use std::collections::BTreeSet;

use aegis_cuda::Partition;
use serde::{Deserialize, Serialize};

use super::error::ConfigError;
use super::json;
use super::profile::{Profile, TOOL};

/// The tasks that shared a lane during a measurement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LaneCompany {
    /// The partition's name.
    pub partition: String,
    /// Names of the tasks on this lane, in the order of the fleet.
    pub tasks: Vec<String>,
}

/// A partition as it was made for a measurement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProfiledPartition {
    /// Its name in the fleet.
    pub name: String,
    /// How many units it had, after rounding.
    pub units: u32,
    /// How many lanes.
    pub lanes: u16,
}

impl Profile {
    /// The company that `task` would have in another assignment and did not have when the profile was taken, with
    /// `elsewhere` the tasks of every other lane. Nothing is missing if what each other lane holds was together on one
    /// lane then, not on the task's own, and no two of them on the same one: the budgets of the fleet level hold in
    /// such an assignment and in no other (section 10 of `docs/model.md`).
    pub fn unmet(&self, task: &str, elsewhere: &[Vec<&str>]) -> Vec<String> {
        let holds = |met: &LaneCompany, name: &str| met.tasks.iter().any(|met| met == name);
        let others = || self.company.iter().filter(|met| !holds(met, task));
        let mut used = BTreeSet::new();
        let mut unmet = Vec::new();
        for lane in elsewhere.iter().filter(|lane| !lane.is_empty()) {
            let place = others().position(|met| lane.iter().all(|name| holds(met, name)));
            if place.is_some_and(|place| used.insert(place)) {
                continue;
            }
            let never = |name: &&&str| !others().any(|met| holds(met, name));
            let names: Vec<String> = lane.iter().filter(never).map(|name| (*name).to_owned()).collect();
            // All of them were met, but not so: each of them is named.
            let all = || lane.iter().map(|name| (*name).to_owned()).collect();
            unmet.extend(if names.is_empty() { all() } else { names });
        }
        unmet
    }

    /// Those of `mates`, tasks on the task's own lane, that did not share it when the profile was taken: what they leave
    /// in the caches was not there (section 10 of `docs/model.md`). Mates that are gone leave more to the task.
    pub fn unmet_mates(&self, task: &str, mates: &[&str]) -> Vec<String> {
        let holds = |met: &LaneCompany, name: &str| met.tasks.iter().any(|met| met == name);
        let own = self.company.iter().find(|met| holds(met, task));
        let stranger = |mate: &&&str| own.is_none_or(|own| !holds(own, mate));
        mates.iter().filter(stranger).map(|mate| (*mate).to_owned()).collect()
    }

    /// How many lanes of a partition were there when the profile was taken: as many had an enemy on them or the task
    /// itself, so that the enemy level holds for no more.
    pub fn lanes_of(&self, partition: &str) -> usize {
        self.company.iter().filter(|lane| lane.partition == partition).count()
    }

    /// Whether the task was profiled in this partition. A task that is on no lane of the profile is not judged: it met
    /// nobody, and everybody is missing.
    ///
    /// # Errors
    /// [`ConfigError::Stale`] naming both partitions.
    pub fn matches_partition(&self, task: &str, partition: &str) -> Result<(), ConfigError> {
        let own = self.company.iter().find(|lane| lane.tasks.iter().any(|name| name == task));
        match own {
            Some(own) if own.partition != partition => {
                Err(self.stale(task, "the partition", own.partition.clone(), partition.to_owned()))
            }
            _ => Ok(()),
        }
    }

    /// Whether the task was profiled on a lane with a carrier of its own, if `own` says so, or else on one of those that
    /// share the launcher: that is in its budgets, and in those of all whom it kept waiting. A task that is on no lane of
    /// the profile is not judged.
    ///
    /// # Errors
    /// [`ConfigError::Stale`] naming both carriers.
    pub fn matches_carrier(&self, task: &str, own: bool) -> Result<(), ConfigError> {
        let holds = |met: &LaneCompany| met.tasks.iter().any(|name| name == task);
        let Some(lane) = self.company.iter().position(holds) else { return Ok(()) };
        let lanes = self.device.as_ref().map_or(&[][..], |device| &device.own_carriers);
        let then = lanes.iter().any(|own| own.index() == lane);
        if then == own {
            return Ok(());
        }
        let words = |own| if own { "one of its lane's own" } else { "the shared launcher" };
        Err(self.stale(task, "the carrier", words(then).to_owned(), words(own).to_owned()))
    }

    /// Whether the device is divided as it was: another size of a partition changes what its tasks take, and what they
    /// do to those of the others. A partition that was not there is company that is missing ([`unmet`](Self::unmet)).
    ///
    /// # Errors
    /// [`ConfigError::Field`] if the profile does not say how the device was divided; [`ConfigError::Stale`] naming what
    /// differs.
    pub fn matches_partitions(&self, made: &[(Partition, u16)]) -> Result<(), ConfigError> {
        let Some(first) = self.tasks.first() else { return Ok(()) };
        if self.partitions.is_empty() {
            let problem = "is missing: nothing says how the device was divided";
            let legal = format!("partitions as they were made; run `{TOOL}` again");
            return Err(json::bad(self.path(), "partitions".into(), "nothing".into(), problem, legal));
        }
        for (now, _) in made {
            let then = self.partitions.iter().find(|then| then.name == now.name);
            if let Some(then) = then.filter(|then| then.units != now.units) {
                let words = |units: u32| format!("`{}` with {units} units", now.name);
                return Err(self.stale(&first.task, "partition", words(then.units), words(now.units)));
            }
        }
        Ok(())
    }
}
