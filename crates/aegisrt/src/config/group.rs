//! Groups of a fleet: tasks that belong to one tenant or one function, what they may take together, and how many of
//! their jobs may miss.
//!
//! The two budgets are enforced by admission: a group that asks for more is refused before anything is loaded. The rate
//! of misses is an agreement on what is observed while the fleet is served; nothing certifies it.

use std::fmt;

use aegis_types::Bytes;

use super::check::Table;
use super::error::ConfigError;
use super::file::{GroupFile, MISS_RATE, UTILISATION};
use super::fleet::{Fleet, TaskConfig};
use super::source::key;

/// Groups of a fleet: far more than anyone reads.
const GROUPS_MAX: usize = 1_000;
/// Millionths in one.
const ONE: f64 = 1_000_000.0;
/// The largest budget of utilisation: as many lanes as a fleet can have.
const UTILISATION_MAX: u64 = 65_535_000_000;

/// A share in whole millionths: exact, as no binary fraction of a decimal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(u64);

/// A group of tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupConfig {
    /// Its name, unique among the groups.
    pub name: String,
    /// What its tasks may hold together, counted as [`crate::groups`] says; `None` for any amount.
    pub memory: Option<Bytes>,
    /// What its tasks may take of all lanes together, in lanes; above zero. `None` for any amount.
    pub utilisation: Option<Share>,
    /// The share of its jobs that may miss or not be served; `None` where nothing was agreed.
    pub miss_rate: Option<Share>,
}

impl Share {
    /// A share of so many millionths.
    pub const fn new(ppm: u64) -> Self {
        Self(ppm)
    }

    /// Millionths.
    pub const fn ppm(self) -> u64 {
        self.0
    }

    /// The share that a decimal of at most six places says; `None` for anything else, and for more than `most`.
    fn of(written: f64, most: u64) -> Option<Self> {
        let scaled = written * ONE;
        let whole = scaled.round();
        // Far below 2^53 a decimal of six places, scaled, is within a thousandth of a whole number.
        let exact = (0.0..=ONE * ONE).contains(&whole) && (scaled - whole).abs() < 0.001;
        // A whole number from 0 to 10^12 where it is exact; what it is else is not used.
        let ppm = whole as u64;
        (exact && ppm <= most).then_some(Self(ppm))
    }

    /// The number whose shortest decimal is the share.
    fn written(self) -> f64 {
        self.0 as f64 / ONE
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.written())
    }
}

/// Checks the groups of a fleet, before its tasks.
pub(super) fn check(written: &[GroupFile], fleet: &Fleet) -> Result<Vec<GroupConfig>, ConfigError> {
    let source = &fleet.sources[0];
    if written.len() > GROUPS_MAX {
        let legal = format!("at most {GROUPS_MAX} tables [[group]]");
        return Err(source.complain(&key!["group"], format!("{} groups", written.len()), legal));
    }
    let mut checked: Vec<GroupConfig> = Vec::with_capacity(written.len());
    for (index, group) in written.iter().enumerate() {
        let table = Table::new(source, &key!["group", index]);
        let name = table.name(&group.name)?;
        if checked.iter().any(|other| other.name == name) {
            let legal = "a name that no other group has";
            return Err(table.bad(&key!["name"], "another group has this name", legal));
        }
        if group.memory.is_some_and(Bytes::is_zero) {
            let legal = "a size above zero, for example \"512MiB\", or no entry: any amount";
            return Err(table.bad(&key!["memory"], "no memory at all", legal));
        }
        let utilisation = share(group.utilisation, "utilisation", (UTILISATION_MAX, UTILISATION), &table)?;
        if utilisation.is_some_and(|share| share.ppm() == 0) {
            return Err(table.bad(&key!["utilisation"], "no time at all", UTILISATION));
        }
        let miss_rate = share(group.miss_rate, "miss_rate", (1_000_000, MISS_RATE), &table)?;
        checked.push(GroupConfig { name, memory: group.memory, utilisation, miss_rate });
    }
    Ok(checked)
}

fn share(
    written: Option<f64>,
    name: &str,
    (most, legal): (u64, &str),
    table: &Table<'_>,
) -> Result<Option<Share>, ConfigError> {
    let bad = || table.bad(&key![name], "out of range, or of more than six places", legal);
    written.map(|written| Share::of(written, most).ok_or_else(bad)).transpose()
}

/// Every group of a fleet whose tasks were checked has one of them: what an empty one promises, nobody keeps.
pub(super) fn check_members(fleet: &Fleet) -> Result<(), ConfigError> {
    let is_empty =
        |group: &GroupConfig| fleet.tasks.iter().all(|task| task.group.as_ref() != Some(&group.name));
    match fleet.groups.iter().position(is_empty) {
        None => Ok(()),
        Some(index) => {
            let legal = format!("a task with group = \"{}\", or no such table", fleet.groups[index].name);
            Err(fleet.complain_group(index, "name", "no task belongs to the group", legal))
        }
    }
}

/// The group that a task names.
pub(super) fn of_task(
    written: Option<String>,
    fleet: &Fleet,
    table: &Table<'_>,
) -> Result<Option<String>, ConfigError> {
    let Some(name) = written else { return Ok(None) };
    if fleet.groups.iter().any(|group| group.name == name) {
        return Ok(Some(name));
    }
    let names: Vec<String> = fleet.groups.iter().map(|group| format!("\"{}\"", group.name)).collect();
    let legal = match names.as_slice() {
        [] => "no entry, or a table [[group]] of that name".to_owned(),
        names => format!("one of: {}", names.join(", ")),
    };
    Err(table.bad(&key!["group"], "no such group", legal))
}

/// The table of a group as a fleet has it.
pub(super) fn write(group: &GroupConfig) -> GroupFile {
    GroupFile {
        name: group.name.clone(),
        memory: group.memory,
        utilisation: group.utilisation.map(Share::written),
        miss_rate: group.miss_rate.map(Share::written),
    }
}

impl Fleet {
    /// Its groups, in the order of the file; perhaps none. Every one has a task.
    pub fn groups(&self) -> &[GroupConfig] {
        &self.groups
    }

    /// The group of a task: its position among the groups.
    pub fn group_of(&self, task: &TaskConfig) -> Option<usize> {
        let name = task.group.as_ref()?;
        self.groups.iter().position(|group| group.name == *name)
    }

    /// A complaint about a key of a group, counted from 0, with the line of the file.
    pub fn complain_group(
        &self,
        group: usize,
        key: &str,
        problem: impl Into<String>,
        legal: impl Into<String>,
    ) -> ConfigError {
        // Only the first source has groups; others add tasks.
        self.sources[0].complain(&key!["group", group, key], problem.into(), legal.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_of_six_places_are_exact_and_others_are_refused() {
        for ppm in (0..2_000).chain([10_000, 333_333, 600_000, 999_999, 1_000_000]) {
            let share = Share::new(ppm);
            let text = share.to_string();
            let read: f64 = text.parse().expect("a number");
            assert_eq!(Share::of(read, 1_000_000), Some(share), "{text}");
        }
        for wrong in [-0.000_001, 1.000_001, 0.000_000_5, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300] {
            assert_eq!(Share::of(wrong, 1_000_000), None, "{wrong}");
        }
        assert_eq!(Share::of(65_535.0, UTILISATION_MAX), Some(Share::new(UTILISATION_MAX)));
        assert_eq!(Share::of(65_535.000_001, UTILISATION_MAX), None);
    }
}
