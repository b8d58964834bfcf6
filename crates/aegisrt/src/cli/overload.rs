//! `--overload GROUP=TIMES`: a group whose clients submit more than its contracts let in, simulated or on the device.

use std::str::FromStr;
use std::time::Duration;

use aegis_sched::{Arrival, Task, TaskSet};
use aegis_types::{Nanos, Time};

use super::answer::CliError;
use crate::config::Fleet;
use crate::simulate::faults::{FaultClass, FaultPlan, Flood};

/// Submissions in one period, beyond which a run would hold nothing else.
const TIMES_MAX: u64 = 1_000;
/// Submissions of one task in one run: each is held from the start.
const COUNT_MAX: u64 = 1_000_000;

/// A group in overload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overload {
    group: String,
    /// Jobs that clients submit in each period of a task; at least two.
    times: u64,
}

impl Overload {
    /// From one job of `task` to the next, where its clients alone submit them.
    pub fn gap(&self, task: &Task) -> Duration {
        Duration::from_nanos((task.period.get() / self.times).max(1))
    }

    /// The tasks of the group that have clients; at least one.
    ///
    /// # Errors
    /// A group that the fleet does not have, or whose jobs no client submits.
    pub fn tasks<'a>(&self, fleet: &Fleet, set: &'a TaskSet) -> Result<Vec<&'a Task>, CliError> {
        let name = self.group.as_str();
        let bad = |problem: &str, legal: String| {
            Err(CliError::Input(format!("--overload: `{name}`: {problem}; legal: {legal}")))
        };
        if fleet.groups().iter().all(|group| group.name != name) {
            let names: Vec<&str> = fleet.groups().iter().map(|group| group.name.as_str()).collect();
            let legal = if names.is_empty() { "a fleet with groups".to_owned() } else { names.join(", ") };
            return bad("no such group", legal);
        }
        let belongs = |task: &&Task| {
            let config = fleet.task(&task.name).map(|(_, config)| config);
            config.is_some_and(|config| config.group.as_deref() == Some(name))
        };
        let clients = |task: &&Task| task.arrival == Arrival::Sporadic;
        let tasks: Vec<&Task> = set.tasks().iter().filter(belongs).filter(clients).collect();
        if tasks.is_empty() {
            let legal = "a group with a task of arrival = \"sporadic\"".to_owned();
            return bad("a clock releases its jobs, and none of its tasks has clients", legal);
        }
        Ok(tasks)
    }
}

impl FromStr for Overload {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("legal: the name of a group, `=`, and a whole number from 2 to {TIMES_MAX}");
        let (group, times) = text.rsplit_once('=').ok_or_else(bad)?;
        let times: u64 = times.parse().map_err(|_| bad())?;
        let legal = !group.is_empty() && (2..=TIMES_MAX).contains(&times);
        if legal { Ok(Self { group: group.to_owned(), times }) } else { Err(bad()) }
    }
}

/// The floods of groups in overload, for simulated runs of this horizon; no fault where there is none.
///
/// # Errors
/// As [`Overload::tasks`].
pub fn plan(
    overloads: &[Overload],
    fleet: &Fleet,
    set: &TaskSet,
    horizon: Nanos,
) -> Result<FaultPlan, CliError> {
    let mut floods = Vec::new();
    for overload in overloads {
        floods.extend(overload.tasks(fleet, set)?.into_iter().map(|task| {
            // The clients of the contract submit one job in a period, or fewer.
            let gap = Nanos::new((task.period.get() / (overload.times - 1)).max(1));
            let count = (horizon.get() / gap.get()).clamp(1, COUNT_MAX);
            Flood { task: task.id, from: Time::new(gap.get() / 2), count, gap }
        }));
    }
    let class = if floods.is_empty() { FaultClass::None } else { FaultClass::Flood };
    Ok(FaultPlan { class, floods, ..FaultPlan::none() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overload_is_a_group_and_a_number() {
        assert_eq!("burst=3".parse(), Ok(Overload { group: "burst".into(), times: 3 }));
        for wrong in ["", "burst", "burst=", "burst=1", "=3", "burst=1001", "burst=-2", "burst=2.5"] {
            let error = wrong.parse::<Overload>().expect_err(wrong);
            assert!(error.contains("from 2 to 1000"), "{error}");
        }
    }
}
