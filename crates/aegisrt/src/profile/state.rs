//! What a campaign knows: enough to go on after an interruption, and to make every budget from.
//!
//! A stratum is either measured or not. One that an interruption cut is measured again from its first sample, so that
//! the samples of a stratum always come from one stretch.

use std::path::{Path, PathBuf};

use aegis_types::{ContentHash, Nanos};
use serde::{Deserialize, Serialize};

use super::mix::{Mix, Stratum};
use crate::calibrate::Samples;
use crate::config::MemoryProfile;
use crate::config::profile::Level;
use crate::config::whole;
use crate::error::RuntimeError;
use crate::intake;

/// Occupancies of one segment in one stratum, summed up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "[u64; 5]", into = "[u64; 5]")]
pub struct Summary {
    /// How many there are.
    pub samples: u64,
    /// The median.
    pub p50: Nanos,
    /// The 90th percentile: what mixes are compared by, because single outliers of a few samples mislead.
    pub p90: Nanos,
    /// The 99th percentile.
    pub p99: Nanos,
    /// The longest.
    pub max: Nanos,
}

impl Summary {
    /// Of these samples, in any order.
    pub fn of(samples: Vec<Nanos>) -> Self {
        let sorted = Samples::new(samples);
        let quantile = |per_mille| sorted.quantile(per_mille);
        let samples = sorted.count() as u64;
        Self { samples, p50: quantile(500), p90: quantile(900), p99: quantile(990), max: sorted.max() }
    }
}

impl From<[u64; 5]> for Summary {
    fn from([samples, p50, p90, p99, max]: [u64; 5]) -> Self {
        let span = Nanos::new;
        Self { samples, p50: span(p50), p90: span(p90), p99: span(p99), max: span(max) }
    }
}

impl From<Summary> for [u64; 5] {
    fn from(summary: Summary) -> Self {
        let Summary { samples, p50, p90, p99, max } = summary;
        [samples, p50.get(), p90.get(), p99.get(), max.get()]
    }
}

/// A mix with what was seen in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Observed {
    /// The mix.
    pub mix: Mix,
    /// By segment.
    pub segments: Vec<Summary>,
}

impl Observed {
    /// How harsh the mix is to the victim: 90th percentiles of its segments, added up.
    pub fn harshness(&self) -> Nanos {
        self.segments.iter().fold(Nanos::ZERO, |sum, segment| sum.saturating_add(segment.p90))
    }

    /// The medians of the segments, added up.
    pub fn median(&self) -> Nanos {
        self.segments.iter().fold(Nanos::ZERO, |sum, segment| sum.saturating_add(segment.p50))
    }
}

/// A stratum that was confirmed with fresh samples.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Confirmed {
    /// The mix.
    pub mix: Mix,
    /// The samples of the last round, by segment: only these are counted.
    pub segments: Vec<Summary>,
    /// The longest of all rounds, by segment.
    pub high_water: Vec<Nanos>,
    /// Rounds that were run; more than one where a sample exceeded the frozen budget.
    pub rounds: u32,
}

/// What is known of one task.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskCampaign {
    /// Mixes that were tried, in order.
    pub explored: Vec<Observed>,
    /// The strata to be confirmed; `None` until exploration ended.
    pub frozen: Option<Vec<Mix>>,
    /// Strata that were confirmed, in the order of the frozen list.
    pub confirmed: Vec<Confirmed>,
    /// Samples that were left out because the host stalled in them for longer than is declared.
    #[serde(default)]
    pub stalled: u64,
    /// The median of the launcher's visits to it of the longest kind, in the process with the longest.
    pub turn: Nanos,
    /// Time that exploration took.
    pub exploring: Nanos,
    /// Time that confirmation took.
    pub confirming: Nanos,
    /// Whether some of its segments are launched by calls of their own where the device could replay graphs.
    #[serde(default)]
    pub plain: bool,
    /// What it takes of memory; known once it ran.
    pub memory: Option<MemoryProfile>,
}

impl TaskCampaign {
    /// What was seen in a mix when it was tried.
    pub fn tried(&self, mix: &Mix) -> Option<&Observed> {
        self.explored.iter().find(|observed| observed.mix == *mix)
    }

    /// The mix of a kind of which there is one only.
    pub fn only(&self, stratum: Stratum) -> Option<&Observed> {
        self.explored.iter().find(|observed| observed.mix.stratum == stratum)
    }

    /// Whether every frozen stratum was confirmed.
    pub fn is_confirmed(&self) -> bool {
        self.frozen.as_ref().is_some_and(|frozen| frozen.len() == self.confirmed.len())
    }

    /// Whether every table has the size that the campaign's loops rely on.
    fn fits(&self, lanes: usize, segments: usize) -> bool {
        let frozen = self.frozen.iter().flatten();
        let explored = self.explored.iter().map(|observed| (&observed.mix, observed.segments.len()));
        let confirmed = self.confirmed.iter().map(|confirmed| (&confirmed.mix, confirmed.segments.len()));
        frozen
            .chain(self.confirmed.iter().map(|confirmed| &confirmed.mix))
            .all(|mix| mix.roles.len() == lanes)
            && explored.chain(confirmed).all(|(mix, count)| mix.roles.len() == lanes && count == segments)
            && self.confirmed.iter().all(|confirmed| confirmed.high_water.len() == segments)
            && self.confirmed.len() <= self.frozen.as_ref().map_or(0, Vec::len)
    }

    /// The longest occupancy of a segment that speaks for that level, explored or confirmed.
    pub fn high_water(&self, level: Level, segment: usize) -> Nanos {
        let explored = self.explored.iter().filter(|observed| observed.mix.stratum.speaks_for(level));
        let explored = explored.filter_map(|observed| Some(observed.segments.get(segment)?.max));
        let confirmed = self.confirmed.iter().filter(|confirmed| confirmed.mix.stratum.speaks_for(level));
        let confirmed = confirmed.filter_map(|confirmed| confirmed.high_water.get(segment).copied());
        explored.chain(confirmed).max().unwrap_or(Nanos::ZERO)
    }
}

/// What a campaign knows of all tasks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CampaignState {
    /// Version of the format: [`CampaignState::VERSION`].
    pub version: u32,
    /// Hash of all that the measurements depend on: machine, models, shapes, lanes, enemies and options.
    pub circumstances: ContentHash,
    /// By task.
    pub tasks: Vec<TaskCampaign>,
}

impl CampaignState {
    /// The version of the format that this build reads and writes.
    pub const VERSION: u32 = 3;

    /// A campaign that knows nothing yet.
    pub fn new(circumstances: ContentHash, tasks: usize) -> Self {
        Self { version: Self::VERSION, circumstances, tasks: vec![TaskCampaign::default(); tasks] }
    }

    /// Whether exploration of every task ended.
    pub fn is_frozen(&self) -> bool {
        self.tasks.iter().all(|task| task.frozen.is_some())
    }

    /// The file of the campaign for a profile: `profile.campaign.json` beside `profile.json`.
    pub fn path_beside(profile: &Path) -> PathBuf {
        profile.with_extension("campaign.json")
    }

    /// What was known when a campaign in these circumstances was interrupted; `None` where there is no file, or one of
    /// other circumstances or another version: it measured something else. `segments` are those of each task.
    ///
    /// # Errors
    /// That the file cannot be read, or is damaged.
    pub fn load(
        path: &Path,
        circumstances: ContentHash,
        lanes: usize,
        segments: &[u16],
    ) -> Result<Option<Self>, RuntimeError> {
        let failed = |reason: String| {
            let remedy = "legal: a file as `aegis profile` writes it; remove it, or start over with --fresh";
            RuntimeError::File { path: path.display().to_string(), reason: format!("{reason}; {remedy}") }
        };
        if !path.exists() {
            return Ok(None);
        }
        let text = intake::text(path, intake::TEXT_MAX).map_err(|error| failed(error.to_string()))?;
        let state: Self = serde_json::from_str(&text).map_err(|error| failed(error.to_string()))?;
        if state.version != Self::VERSION || state.circumstances != circumstances {
            return Ok(None);
        }
        let fits = |(task, segments): (&TaskCampaign, &u16)| task.fits(lanes, usize::from(*segments));
        if state.tasks.len() != segments.len() || !state.tasks.iter().zip(segments).all(fits) {
            return Err(failed("its tables do not have one entry for each task, lane and segment".into()));
        }
        Ok(Some(state))
    }

    /// Writes what is known; a file that stood there is replaced as a whole.
    ///
    /// # Errors
    /// [`RuntimeError::File`] with the system's reason.
    pub fn save(&self, path: &Path) -> Result<(), RuntimeError> {
        let failed = |reason: String| RuntimeError::File { path: path.display().to_string(), reason };
        let text = serde_json::to_string(self).map_err(|error| failed(error.to_string()))?;
        whole::write_bytes(path, text).map_err(|error| failed(error.to_string()))
    }
}
