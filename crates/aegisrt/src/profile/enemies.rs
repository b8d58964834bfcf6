//! Enemies: models that are made to hurt, loaded beside a fleet while it is profiled (S4).
//!
//! A copy of each stands on every lane as a task of an enlarged fleet, so that loading, memory and launching are those
//! of any other task. Enemies are never admitted and never released: only a campaign runs them.

use std::path::Path;

use aegis_types::{Bytes, LaneId, PartitionId};

use super::{Enemy, Victim};
use crate::config::{BackendKind, Fleet};
use crate::error::RuntimeError;

/// A model that is made to hurt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnemyModel {
    /// What it is called in tables: letters, digits, `_`, `-` or `.`.
    pub name: String,
    /// The artifact, for the backend of the fleet's device.
    pub artifact: String,
    /// All the memory that one copy of it takes.
    pub memory: Bytes,
    /// Whether it runs between a victim's segments on the same lane, to take caches away, instead of beside it.
    pub flushes: bool,
}

/// The enemies in an enlarged fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opposition {
    /// Name and part of each.
    kinds: Vec<(String, bool)>,
    /// Tasks of the fleet that they were added to: enemies come after them, lane by lane.
    tasks: usize,
}

impl Opposition {
    /// No enemies beside a fleet of so many tasks.
    pub const fn none(tasks: usize) -> Self {
        Self { kinds: Vec::new(), tasks }
    }

    /// How many tasks are the fleet's own; those after them are enemies.
    pub const fn tasks(&self) -> usize {
        self.tasks
    }

    /// The name of the enemy of that number.
    pub fn name(&self, kind: u16) -> Option<&str> {
        self.kinds.get(usize::from(kind)).map(|(name, _)| name.as_str())
    }

    /// The names of all, by number.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.kinds.iter().map(|(name, _)| name.as_str())
    }

    /// Whether any of them runs beside a victim.
    pub fn is_hostile(&self) -> bool {
        self.kinds.iter().any(|(_, flushes)| !flushes)
    }

    /// Whether any of them runs between a victim's segments.
    pub fn is_flushing(&self) -> bool {
        self.kinds.iter().any(|(_, flushes)| *flushes)
    }

    /// Splits the tasks of an enlarged fleet into its own and enemies.
    pub fn split(&self, mut all: Vec<Victim>) -> (Vec<Victim>, Vec<Enemy>) {
        let enemies = all.split_off(self.tasks.min(all.len()));
        // There are as many as a fleet has room for.
        let kinds = (0u16..).zip(&self.kinds).cycle();
        let enemy = |(load, (kind, (_, flushes))): (Victim, (u16, &(String, bool)))| Enemy {
            kind,
            load,
            flushes: *flushes,
        };
        (all, enemies.into_iter().zip(kinds).map(enemy).collect())
    }
}

/// A fleet with a copy of each enemy on every lane. Artifacts are written into `folder`, from where they are loaded.
/// Enemies are not the fleet's: its limit of device memory is raised by what all copies may take, which has to be known
/// when the device is opened.
///
/// # Errors
/// That an artifact cannot be written; what the fleet's checks say of a name.
pub fn beside(
    fleet: &Fleet,
    folder: &Path,
    enemies: &[EnemyModel],
) -> Result<(Fleet, Opposition), RuntimeError> {
    let tasks = fleet.tasks().len();
    if enemies.is_empty() {
        return Ok((fleet.clone(), Opposition::none(tasks)));
    }
    for enemy in enemies {
        let path = folder.join(&enemy.name);
        std::fs::write(&path, &enemy.artifact).map_err(|error| RuntimeError::File {
            path: path.display().to_string(),
            reason: error.to_string(),
        })?;
    }
    let mut text = String::new();
    for (partition, config) in (0u16..).zip(fleet.partitions()) {
        for (number, lane) in (0u16..).zip(fleet.lanes_of(PartitionId::new(partition))) {
            for enemy in enemies {
                text.push_str(&table(fleet, folder, enemy, &config.name, LaneId::new(lane), number));
            }
        }
    }
    let enlarged = fleet.with_tasks(Path::new("enemies"), &text)?;
    let kinds = enemies.iter().map(|enemy| (enemy.name.clone(), enemy.flushes)).collect();
    let copies = (enlarged.tasks().len() - tasks) / enemies.len();
    let each = enemies.iter().map(|enemy| enemy.memory.get()).fold(0, u64::saturating_add);
    let room = Bytes::new(each.saturating_mul(copies as u64));
    Ok((enlarged.with_room_for(room), Opposition { kinds, tasks }))
}

fn table(
    fleet: &Fleet,
    folder: &Path,
    enemy: &EnemyModel,
    partition: &str,
    lane: LaneId,
    number: u16,
) -> String {
    let quoted = |text: String| toml::Value::String(text).to_string();
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.into());
    let model = quoted(folder.join(&enemy.name).to_string_lossy().into_owned());
    let name = quoted(format!("{}-{lane}", enemy.name));
    let backend = quoted(BackendKind::of(fleet.device()).name().to_owned());
    let partition = quoted(partition.to_owned());
    let memory = enemy.memory.get();
    format!(
        "[[task]]\nname = {name}\nmodel = {model}\nbackend = {backend}\nperiod = \"1s\"\npartition = {partition}\n\
         lane = {number}\nbudget = {{ memory = \"{memory}B\" }}\n"
    )
}

#[cfg(test)]
mod tests {
    use aegis_types::TaskId;

    use super::*;

    const FLEET: &str = r#"
        [device]
        kind = "sim"
        [[partition]]
        name = "a"
        sms = 1
        lanes = 1
        [[partition]]
        name = "b"
        sms = 1
        lanes = 2
        [policy]
        kind = "edf"
        [[task]]
        name = "one"
        model = "one.script"
        backend = "script"
        period = "10ms"
        partition = "b"
        budget = { memory = "1MiB" }
    "#;

    fn enemy(name: &str, flushes: bool) -> EnemyModel {
        EnemyModel { name: name.into(), artifact: name.to_uppercase(), memory: Bytes::new(4096), flushes }
    }

    #[test]
    fn every_lane_gets_a_copy_of_each() {
        let folder = tempfile::tempdir().unwrap();
        let fleet = Fleet::parse(Path::new("fleet.toml"), FLEET).unwrap();
        let enemies = [enemy("dram", false), enemy("flush", true)];
        let (enlarged, opposition) = beside(&fleet, folder.path(), &enemies).unwrap();
        assert_eq!((enlarged.tasks().len(), opposition.tasks()), (1 + 2 * 3, 1));
        assert_eq!(enlarged.memory(), None, "the fleet says nothing of memory");
        let limited = FLEET.replace("\"sim\"", "\"sim\"\nmemory = \"8MiB\"");
        let limited = Fleet::parse(Path::new("fleet.toml"), &limited).unwrap();
        let (enlarged, _) = beside(&limited, folder.path(), &enemies).unwrap();
        assert_eq!(enlarged.memory(), Some(Bytes::new((8 << 20) + 6 * 4096)));
        assert_eq!(limited.memory(), Some(Bytes::new(8 << 20)), "the fleet's own limit stays");
        let lanes: Vec<Option<LaneId>> = enlarged.fixed_lanes();
        let expected = [0, 0, 1, 1, 2, 2].map(|lane| Some(LaneId::new(lane)));
        assert_eq!(lanes[1..], expected);
        assert_eq!(std::fs::read_to_string(&enlarged.tasks()[2].model).unwrap(), "FLUSH");
        let victim = |(number, lane): (usize, &Option<LaneId>)| Victim {
            task: TaskId::new(number as u16),
            lane: lane.unwrap_or(LaneId::new(1)),
            segments: 1,
            slots: 2,
        };
        let (own, copies) = opposition.split(lanes.iter().enumerate().map(victim).collect());
        assert_eq!(own.len(), 1);
        let parts: Vec<_> = copies.iter().map(|c| (c.kind, c.flushes, c.load.lane.get())).collect();
        let expected =
            [(0, false, 0), (1, true, 0), (0, false, 1), (1, true, 1), (0, false, 2), (1, true, 2)];
        assert_eq!(parts, expected);
        assert_eq!(
            (opposition.name(1), opposition.name(2), opposition.is_hostile()),
            (Some("flush"), None, true)
        );
    }

    #[test]
    fn a_name_that_a_fleet_refuses_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let fleet = Fleet::parse(Path::new("fleet.toml"), FLEET).unwrap();
        let error = beside(&fleet, folder.path(), &[enemy("two words", false)]).unwrap_err().to_string();
        assert!(error.contains("name") && error.contains("legal"), "{error}");
    }
}
