//! What `aegis profile` measured: budgets with the samples and the company behind them.
//!
//! Nothing here was decided by the reader: a profile says what was run, beside what, how often, and what followed. It
//! is refused when it contradicts itself, and an entry is refused when the model or its shapes are others.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use aegis_cuda::{DeviceContext, Partition};
use aegis_types::{Bytes, ContentHash, Nanos};
use serde::{Deserialize, Serialize};

use super::company::{LaneCompany, ProfiledPartition};
use super::error::ConfigError;
use super::fleet::{Fleet, WaitMode};
use super::json;
use super::observed::{self, CalibratedDevice};

pub(super) const TOOL: &str = "aegis profile";

/// Measurements of the tasks of a fleet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Version of the format: [`Profile::VERSION`].
    pub version: u32,
    /// The machine, and after a semicolon how its driver waits.
    pub machine: String,
    /// When it was measured, for people.
    pub date: String,
    /// Who shared the device while it was measured: every lane with its tasks.
    pub company: Vec<LaneCompany>,
    /// How the device was divided: budgets hold on partitions of these sizes only.
    #[serde(default)]
    pub partitions: Vec<ProfiledPartition>,
    /// Whether something took the caches away between the segments of every task: only then do budgets hold after
    /// lane-mates that were not there.
    #[serde(default)]
    pub flushed: bool,
    /// How the driver waited: on an asynchronous device an occupancy ends when it looks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<WaitMode>,
    /// Whether occupancies begin with the driver's post: then hand-off and visits of the launcher to other lanes are in
    /// the budgets, as they came together with what was executed. Otherwise the analysis charges them on top.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub from_post: bool,
    /// Stalls of the host that were longer than this are in no budget; `None` where none was left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stall: Option<Nanos>,
    /// One entry for each task.
    pub tasks: Vec<TaskProfile>,
    /// The contention that the budgets stand for.
    #[serde(default)]
    pub level: Level,
    /// How much slower each task was beside which company.
    #[serde(default)]
    pub slowdown: SlowdownTable,
    /// The device, where its driver runs work later than it is launched: budgets are then its and its driver's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<CalibratedDevice>,
    /// Where it was read from, for complaints.
    #[serde(skip)]
    path: PathBuf,
}

/// Measurements of one task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskProfile {
    /// The task's name.
    pub task: String,
    /// Hash of the model's file.
    pub model: ContentHash,
    /// Hash of the shapes, as [`shapes_hash`] makes it.
    pub shapes: ContentHash,
    /// Its segments, in order; at least one.
    pub segments: Vec<SegmentProfile>,
    /// What it takes of memory.
    pub memory: MemoryProfile,
    /// Median latency of one job with the device to itself, for comparison.
    pub alone: Nanos,
    /// How long a visit to launch or to end it kept the launcher from the next lane: the median of visits of the
    /// kind that took longest, with the margin; zero where each lane has a thread of its own. The longest would be a
    /// stall of the host.
    #[serde(default)]
    pub turn: Nanos,
}

/// Measurements of one segment under contention.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SegmentProfile {
    /// The occupancy budget: at least the high-water mark plus the margin.
    pub budget: Nanos,
    /// Samples behind it, none above the budget.
    pub samples: u64,
    /// The longest occupancy seen.
    pub high_water: Nanos,
    /// Margin on the high-water mark, in millionths.
    pub margin_ppm: u64,
    /// What the samples say about the next one.
    pub exceedance: Exceedance,
    /// The contention under which it was measured, for people.
    pub level: String,
    /// Median occupancy.
    pub p50: Nanos,
    /// The 99th percentile.
    pub p99: Nanos,
    /// The budget at every level that was confirmed, the chosen one included.
    #[serde(default)]
    pub levels: Vec<LevelBudget>,
}

/// The contention that a budget stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// The fleet's own tasks, lane by lane as they were profiled: valid for that assignment.
    #[default]
    Fleet,
    /// Kernels that are made to hurt, on every other lane: valid for any assignment to no more lanes.
    Enemy,
}

impl Level {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Fleet, Self::Enemy];

    /// The word for it in files and options.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Fleet => "fleet",
            Self::Enemy => "enemy",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// The budget of a segment at one level.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LevelBudget {
    /// The level.
    pub level: Level,
    /// The occupancy budget: the high-water mark plus the margin.
    pub budget: Nanos,
    /// The longest occupancy seen at that level.
    pub high_water: Nanos,
    /// Mixes of co-runners that were confirmed with fresh samples.
    pub strata: u32,
    /// Fewest samples of one of them, none above the budget.
    pub samples: u64,
    /// What they say about the next occupancy, in any mixture of these strata.
    pub exceedance: Exceedance,
}

impl LevelBudget {
    /// Level, strata, samples and probability, for the text of a certificate.
    pub fn words(&self) -> String {
        let Exceedance { confidence_ppm, probability_ppm } = self.exceedance;
        let percent = |ppm: u64| format!("{}.{:04}", ppm / 10_000, ppm % 10_000);
        let percent = |ppm| percent(ppm).trim_end_matches('0').trim_end_matches('.').to_owned();
        format!(
            "{} level, {} {} of at least {} samples, p <= {}% with {}% confidence",
            self.level,
            self.strata,
            if self.strata == 1 { "stratum" } else { "strata" },
            self.samples,
            percent(probability_ppm),
            percent(confidence_ppm)
        )
    }
}

/// How much slower tasks were in company: medians over the median with the device to itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlowdownTable {
    /// Lanes of the device when it was measured.
    pub lanes: u16,
    /// Its rows, by task.
    pub rows: Vec<Slowdown>,
}

/// One entry of a [`SlowdownTable`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slowdown {
    /// The task that was slowed down.
    pub task: String,
    /// Who ran beside it: the name of a task on one other lane, of an enemy on all others, or [`Slowdown::ALL`],
    /// [`Slowdown::NONE`] or [`Slowdown::WORST`].
    pub beside: String,
    /// Median beside it over median alone, in millionths.
    pub ppm: u64,
}

impl Slowdown {
    /// Every other lane running its tasks in random order.
    pub const ALL: &'static str = "all lanes";
    /// Nobody: only lane-mates in between.
    pub const NONE: &'static str = "lane-mates";
    /// The harshest mix of one task on every other lane that was found.
    pub const WORST: &'static str = "worst mix";
}

impl SlowdownTable {
    /// How much slower the task was beside that company, in millionths; `None` where it was not measured.
    pub fn of(&self, task: &str, beside: &str) -> Option<u64> {
        self.rows.iter().find(|row| row.task == task && row.beside == beside).map(|row| row.ppm)
    }
}

/// A statement about the next occupancy: with this confidence, it exceeds the budget with at most this probability.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exceedance {
    /// Confidence, in millionths.
    pub confidence_ppm: u64,
    /// Probability that one occupancy exceeds the budget, in millionths, rounded up.
    pub probability_ppm: u64,
}

/// High-water marks of memory, by how long bytes live.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryProfile {
    /// Weights and what the backend prepares from them.
    pub persistent: Bytes,
    /// Inputs, outputs and state.
    pub exchange: Bytes,
    /// The most that one segment takes and gives back.
    pub scratch: Bytes,
    /// What a library takes of the device by itself while it loads the model, beside every plan; zero in older files.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub outside: Bytes,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_nothing(bytes: &Bytes) -> bool {
    bytes.is_zero()
}

impl Exceedance {
    /// What `samples` exchangeable samples without an exceedance allow to say with 95 % confidence about `strata`
    /// strata at once: p = 1 - (0.05 / strata)^(1 / samples). Without distribution and without a fit; for reports, no
    /// verdict uses it.
    pub fn of_clean_samples(samples: u64, strata: u64) -> Self {
        const CONFIDENCE_PPM: u64 = 950_000;
        let tail = 0.05 / strata.max(1) as f64;
        let probability = if samples == 0 { 1.0 } else { 1.0 - tail.powf(1.0 / samples as f64) };
        // The probability lies in 0 to 1, so that the product fits; rounding up is against ourselves.
        let probability_ppm = (probability * 1e6).ceil() as u64;
        Self { confidence_ppm: CONFIDENCE_PPM, probability_ppm }
    }
}

/// The hash of shapes by input name, for [`TaskProfile::shapes`].
pub fn shapes_hash(shapes: &BTreeMap<String, Vec<u64>>) -> ContentHash {
    // Every part is preceded by its length, so that no two tables share their bytes.
    let mut bytes = Vec::new();
    for (name, axes) in shapes {
        bytes.extend_from_slice(&(name.len() as u64).to_le_bytes());
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(&(axes.len() as u64).to_le_bytes());
        axes.iter().for_each(|axis| bytes.extend_from_slice(&axis.to_le_bytes()));
    }
    ContentHash::of(&bytes)
}

impl Profile {
    /// The version of the format that this build reads and writes.
    pub const VERSION: u32 = 1;

    /// A profile that is about to be saved as `path`.
    pub fn new(
        path: &Path,
        machine: String,
        date: String,
        company: Vec<LaneCompany>,
        tasks: Vec<TaskProfile>,
    ) -> Self {
        let (level, slowdown) = (Level::default(), SlowdownTable::default());
        let (version, device, path) = (Self::VERSION, None, path.into());
        let (partitions, flushed, wait, from_post) = (Vec::new(), false, None, false);
        Self {
            version,
            machine,
            date,
            company,
            partitions,
            flushed,
            wait,
            from_post,
            stall: None,
            tasks,
            level,
            slowdown,
            device,
            path,
        }
    }

    /// The same profile of that device.
    #[must_use]
    pub fn on(self, device: Option<CalibratedDevice>) -> Self {
        Self { device, ..self }
    }

    /// The same profile of a device divided so, whose driver waited so; `flushed` as the field has it.
    #[must_use]
    pub fn in_place(self, partitions: &[(Partition, u16)], wait: WaitMode, flushed: bool) -> Self {
        let place = |(made, lanes): &(Partition, u16)| ProfiledPartition {
            name: made.name.clone(),
            units: made.units,
            lanes: *lanes,
        };
        Self { partitions: partitions.iter().map(place).collect(), wait: Some(wait), flushed, ..self }
    }

    /// The same profile with occupancies that begin so, as the field has it.
    #[must_use]
    pub fn counted(self, from_post: bool) -> Self {
        Self { from_post, ..self }
    }

    /// The same profile of budgets that hold no stalls of the host, as the field has it.
    #[must_use]
    pub fn without_stalls(self, stall: Option<Nanos>) -> Self {
        Self { stall, ..self }
    }

    /// The same profile at that level, with that table.
    #[must_use]
    pub fn at(self, level: Level, slowdown: SlowdownTable) -> Self {
        Self { level, slowdown, ..self }
    }

    /// Whether the driver waited as it will.
    ///
    /// # Errors
    /// [`ConfigError::Field`] naming both ways, or that none is recorded.
    pub fn matches_wait(&self, wait: WaitMode) -> Result<(), ConfigError> {
        observed::matches_wait(self.wait, wait, &self.path, TOOL)
    }

    /// Whether whoever launches in the fleet launched, and the same lanes had carriers of their own.
    ///
    /// # Errors
    /// [`ConfigError::Field`] naming both.
    pub fn matches_carriers(&self, fleet: &Fleet) -> Result<(), ConfigError> {
        observed::matches_carriers(self.device.as_ref(), fleet, &self.path, TOOL)
    }

    /// Whether stalls that are in no budget are watched when the fleet is served, where those longer than `declared` are.
    ///
    /// # Errors
    /// [`ConfigError::Field`] naming both limits.
    pub fn matches_stall(&self, declared: Nanos) -> Result<(), ConfigError> {
        match self.stall {
            Some(limit) if declared > limit => {
                let problem = "stalls above it are in no budget, and longer ones are declared";
                let legal = format!("{declared} or more; run `{TOOL}` with this calibration");
                Err(json::bad(&self.path, "stall".into(), limit.to_string(), problem, legal))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn stale(
        &self,
        task: &str,
        what: &'static str,
        recorded: String,
        found: String,
    ) -> ConfigError {
        let (profile, task) = (self.path.clone(), task.to_owned());
        ConfigError::Stale { profile, task, what, recorded: recorded.into(), found: found.into() }
    }

    /// Reads and checks a profile.
    ///
    /// # Errors
    /// [`ConfigError`] naming the file, the line or the key, the value and what would be legal.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        json::read::<Self>(path, TOOL)?.checked(path)
    }

    /// Checks the text of a profile; `path` names it in messages.
    ///
    /// # Errors
    /// As [`Profile::load`].
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        json::parse::<Self>(path, text, TOOL)?.checked(path)
    }

    /// Writes the profile; a file that stood there is replaced as a whole.
    ///
    /// # Errors
    /// What [`Profile::load`] would refuse is not written; [`ConfigError::Unwritable`] with the system's reason.
    pub fn save(&self, path: &Path) -> Result<(), ConfigError> {
        json::write(path, &self.clone().checked(path)?)
    }

    /// The file that it was read from or is made for.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it was measured on this machine. What follows a semicolon in the profile's own words, such as the
    /// scheduling class, is not compared.
    ///
    /// # Errors
    /// [`ConfigError::Field`] naming both machines.
    pub fn matches_machine(&self, machine: &str) -> Result<(), ConfigError> {
        let recorded = self.machine.split(';').next().unwrap_or_default();
        if recorded == machine {
            return Ok(());
        }
        let legal = format!("{machine:?}; run `{TOOL}` on this machine");
        let value = format!("{recorded:?}");
        Err(json::bad(&self.path, "machine".into(), value, "measured elsewhere", legal))
    }

    /// Whether it was measured on this device under this driver; budgets on a device whose work runs where it is
    /// launched are the machine's.
    ///
    /// # Errors
    /// [`ConfigError::Field`] naming what differs, or that no device is recorded where it matters.
    pub fn matches_device(&self, found: &DeviceContext) -> Result<(), ConfigError> {
        if !found.capabilities.asynchronous {
            return Ok(());
        }
        match &self.device {
            Some(device) => device.matches(&self.path, TOOL, found),
            None => {
                let problem = "is missing: it was measured without the device";
                let legal = format!("{:?}; run `{TOOL}` with this fleet", found.name);
                Err(json::bad(&self.path, "device".into(), "nothing".into(), problem, legal))
            }
        }
    }

    /// The entry of a task, if there is one.
    pub fn task(&self, name: &str) -> Option<&TaskProfile> {
        self.tasks.iter().find(|task| task.task == name)
    }

    /// The entry of a task, if there is one and it was made for this model with these shapes.
    ///
    /// # Errors
    /// [`ConfigError::Stale`] naming the entry and what differs.
    pub fn matches(
        &self,
        name: &str,
        model: ContentHash,
        shapes: &BTreeMap<String, Vec<u64>>,
    ) -> Result<Option<&TaskProfile>, ConfigError> {
        let Some(entry) = self.task(name) else { return Ok(None) };
        let stale = |what, recorded: ContentHash, found: ContentHash| {
            Err(self.stale(name, what, recorded.to_string(), found.to_string()))
        };
        if entry.model != model {
            return stale("the model", entry.model, model);
        }
        let shapes = shapes_hash(shapes);
        if entry.shapes != shapes {
            return stale("the shapes", entry.shapes, shapes);
        }
        Ok(Some(entry))
    }

    fn checked(mut self, path: &Path) -> Result<Self, ConfigError> {
        self.path = path.into();
        if self.version != Self::VERSION {
            let legal = format!("{}, as this build's `{TOOL}` writes", Self::VERSION);
            return Err(json::bad(
                path,
                "version".into(),
                self.version.to_string(),
                "unknown version",
                legal,
            ));
        }
        let mut names = BTreeSet::new();
        for (index, entry) in self.tasks.iter().enumerate() {
            let key = format!("tasks[{index}] `{}`", entry.task);
            if !names.insert(entry.task.as_str()) {
                return Err(json::bad(
                    path,
                    key,
                    format!("{:?}", entry.task),
                    "named twice",
                    "one entry a task",
                ));
            }
            let count = entry.segments.len();
            if count == 0 || count > usize::from(u16::MAX) {
                let legal = format!("1 to {}", u16::MAX);
                let key = format!("{key}.segments");
                return Err(json::bad(path, key, count.to_string(), "so many segments", legal));
            }
            for (number, segment) in entry.segments.iter().enumerate() {
                check_segment(segment, &format!("{key}.segments[{number}]"), path)?;
            }
        }
        Ok(self)
    }
}

fn check_segment(segment: &SegmentProfile, key: &str, path: &Path) -> Result<(), ConfigError> {
    let bad = |field: &str, value: String, problem: &str, legal: String| {
        Err(json::bad(path, format!("{key}.{field}"), value, problem, legal))
    };
    if segment.samples == 0 {
        return bad("samples", "0".into(), "nothing was measured", "a whole number above zero".into());
    }
    for (field, mark, above, limit) in [
        ("p50", segment.p50, "the 99th percentile", segment.p99),
        ("p99", segment.p99, "the high-water mark", segment.high_water),
    ] {
        if mark > limit {
            return bad(field, mark.to_string(), &format!("more than {above}"), format!("at most {limit}"));
        }
    }
    for level in &segment.levels {
        let needed = level.high_water.scale_ppm_up(segment.margin_ppm.saturating_add(1_000_000));
        if level.samples == 0 || needed.is_none_or(|needed| level.budget < needed) {
            let problem = "less than the high-water mark plus the margin, or nothing was measured";
            let legal = "a level as it was measured".into();
            return bad(&format!("levels.{}", level.level), level.budget.to_string(), problem, legal);
        }
    }
    let needed = segment.needed();
    match needed {
        Some(needed) if segment.budget >= needed && !segment.budget.is_zero() => Ok(()),
        Some(needed) => {
            let problem = "less than the high-water mark plus the margin";
            bad(
                "budget",
                segment.budget.to_string(),
                problem,
                format!("at least {}", needed.max(Nanos::new(1))),
            )
        }
        None => {
            let problem = "high-water mark and margin together exceed the range of time";
            bad("margin_ppm", segment.margin_ppm.to_string(), problem, "a margin such as 200000, 20 %".into())
        }
    }
}

impl TaskProfile {
    /// The same entry with budgets that hold at another level, and are no smaller than those of any; `None` if a segment
    /// has none of it.
    pub fn at(&self, level: Level) -> Option<Self> {
        let segments = self.segments.iter().map(|segment| segment.with(level)).collect::<Option<_>>()?;
        Some(Self { segments, ..self.clone() })
    }
}

impl SegmentProfile {
    fn with(&self, level: Level) -> Option<Self> {
        let LevelBudget { samples, exceedance, .. } = self.at(level)?.clone();
        // What was seen at another level was seen: a budget that holds in more company is no smaller.
        let budget = self.levels.iter().map(|other| other.budget).fold(self.budget, Nanos::max);
        let high_water = self.levels.iter().map(|other| other.high_water).fold(self.high_water, Nanos::max);
        // What follows the semicolon is said of the campaign, whatever the level.
        let rest = self.level.split_once(';').map_or_else(String::new, |(_, rest)| format!(";{rest}"));
        let level = format!("{}{rest}", self.at(level)?.words());
        Some(Self { budget, high_water, samples, exceedance, level, ..self.clone() })
    }

    /// The budget at a level, if that level was confirmed.
    pub fn at(&self, level: Level) -> Option<&LevelBudget> {
        self.levels.iter().find(|budget| budget.level == level)
    }

    /// The high-water mark plus the margin, rounded up: the least that a budget may be. `None` on overflow.
    pub fn needed(&self) -> Option<Nanos> {
        self.high_water.scale_ppm_up(self.margin_ppm.checked_add(1_000_000)?)
    }
}
