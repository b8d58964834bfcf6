//! What a calibration saw besides what it charges: the device and its state, how long plain operations take, and when
//! the host did not run us. Kept for people and for comparisons; no verdict is computed from it.

use std::path::Path;

use aegis_cuda::discovery::Regime;
use aegis_cuda::{Capabilities, DeviceContext};
use aegis_types::{Bytes, LaneId, Nanos};
use serde::{Deserialize, Serialize};

use super::error::ConfigError;
use super::fleet::{Fleet, LaunchMode, WaitMode};
use super::json;

/// The device that a calibration or a profile was made on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CalibratedDevice {
    /// The vendor's name for it.
    pub name: String,
    /// Driver and library versions.
    pub versions: Vec<String>,
    /// Lanes that were measured together: the waits at the launcher are theirs.
    pub lanes: u16,
    /// Those of them that had a carrier each, ascending; the others shared the launcher, as all did where none is named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub own_carriers: Vec<LaneId>,
    /// Who launched.
    #[serde(default, skip_serializing_if = "LaunchMode::is_default")]
    pub launch: LaunchMode,
    /// Clocks, throttling and company right after it was measured, where the machine tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regime: Option<Regime>,
}

impl CalibratedDevice {
    /// Whether it was made on this device under this driver.
    pub(super) fn matches(&self, path: &Path, tool: &str, found: &DeviceContext) -> Result<(), ConfigError> {
        let versions = |versions: &[String]| versions.join(", ");
        for (key, recorded, found) in [
            ("device.name", self.name.clone(), found.name.clone()),
            ("device.versions", versions(&self.versions), versions(&found.versions)),
        ] {
            if recorded != found {
                let legal = format!("{found:?}; run `{tool}` on this machine");
                let value = format!("{recorded:?}");
                return Err(json::bad(path, key.into(), value, "measured on another device", legal));
            }
        }
        Ok(())
    }
}

/// How a device can be divided and filled: what judges a fleet for it on another machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceLimits {
    /// Units that can be divided among partitions.
    pub units: u32,
    /// Partition sizes are multiples of this.
    pub granularity: u32,
    /// Smallest partition.
    pub minimum: u32,
    /// Streams that run independently.
    pub queues: u32,
    /// Memory that could be reserved, where no fleet limited it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Bytes>,
    /// What it can do.
    pub capabilities: Capabilities,
}

impl DeviceLimits {
    /// The limits of a device, opened for a fleet that allows it this much memory.
    pub fn of(device: &DeviceContext, granted: Option<Bytes>) -> Self {
        Self {
            units: device.units,
            granularity: device.unit_granularity,
            minimum: device.unit_minimum,
            queues: device.queue_limit,
            // All that a fleet allows says nothing of the device.
            memory: Some(device.memory).filter(|memory| granted.is_none_or(|granted| *memory < granted)),
            capabilities: device.capabilities,
        }
    }
}

/// The distribution of a duration that was measured and is not charged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figure {
    /// Its name, unique in the file.
    pub name: String,
    /// How often it was measured; at least once.
    pub samples: u64,
    /// Median.
    pub p50: Nanos,
    /// The 99th percentile.
    pub p99: Nanos,
    /// The 99.9th percentile.
    pub p999: Nanos,
    /// The largest.
    pub max: Nanos,
    /// How many larger ones were left out, because a thread was not running then: stalls of the host.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub stalls: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serialization asks for")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Figure {
    /// Its marks with their names, in rising order.
    pub const fn marks(&self) -> [(&'static str, Nanos); 4] {
        [("p50", self.p50), ("p99", self.p99), ("p999", self.p999), ("max", self.max)]
    }
}

/// Gaps that a spinning driver saw in its own running (section 10 of `docs/model.md`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostStalls {
    /// For how long the driver watched itself.
    pub observed: Nanos,
    /// From which length on a gap counts as a stall.
    pub limit: Nanos,
    /// How many there were.
    pub count: u64,
    /// The longest gap, stall or not.
    pub largest: Nanos,
    /// The shortest time between the starts of two stalls; `None` with fewer than two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closest: Option<Nanos>,
}

/// What one round of a calibration would have charged for the driver's steps by itself. The largest round is charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CalibrationRound {
    /// What the driver's steps would add to a launch, of a fleet of the lanes and tasks that were calibrated with.
    pub steps: Nanos,
    /// How many steps were left out, because the thread was not running then.
    pub stalls: u64,
}

/// By how much rounds may differ on a host that counts as calm.
const CALM: u64 = 2;

/// The calmest and the worst round of a host that was not calm, counted from one: the worst would have charged more than
/// twice what the calmest would have.
pub fn unrest(rounds: &[CalibrationRound]) -> Option<(usize, usize)> {
    let steps = |(_, round): &(usize, &CalibrationRound)| round.steps;
    let numbered = || (1..).zip(rounds);
    let (calmest, worst) = (numbered().min_by_key(steps)?, numbered().max_by_key(steps)?);
    (worst.1.steps.get() / CALM > calmest.1.steps.get()).then_some((calmest.0, worst.0))
}

/// Whether a measurement was made while the driver waited as it will: it is charged, and measured, differently.
pub(super) fn matches_wait(
    recorded: Option<WaitMode>,
    found: WaitMode,
    path: &Path,
    tool: &str,
) -> Result<(), ConfigError> {
    let legal = format!("{:?}; run `{tool}` with this fleet", found.name());
    let (value, problem) = match recorded {
        Some(recorded) if recorded == found => return Ok(()),
        Some(recorded) => (format!("{:?}", recorded.name()), "measured while the driver waited otherwise"),
        None => ("nothing".to_owned(), "is missing: nothing says how the driver waited"),
    };
    Err(json::bad(path, "wait".into(), value, problem, legal))
}

/// Whether a measurement was made with the carriers that the fleet has: a launch waits for the lanes of its own carrier,
/// carriers meet in the vendor's driver, and a driver that launches waits for every launch.
pub(super) fn matches_carriers(
    device: Option<&CalibratedDevice>,
    fleet: &Fleet,
    path: &Path,
    tool: &str,
) -> Result<(), ConfigError> {
    let launch = device.map_or(LaunchMode::default(), |device| device.launch);
    if launch != fleet.launch() {
        let legal = format!("{:?}; run `{tool}` with this fleet", fleet.launch().name());
        let value = format!("{:?}", launch.name());
        return Err(json::bad(path, "device.launch".into(), value, "somebody else launched", legal));
    }
    let (recorded, own) = (device.map_or(&[][..], |device| &device.own_carriers), fleet.own_carriers());
    if recorded == own {
        return Ok(());
    }
    let words = |lanes: &[LaneId]| match lanes {
        [] => "none".to_owned(),
        lanes => lanes.iter().map(LaneId::to_string).collect::<Vec<_>>().join(", "),
    };
    let problem = "other lanes had carriers of their own when it was measured";
    let legal = format!("{}; run `{tool}` with this fleet", words(&own));
    Err(json::bad(path, "device.own_carriers".into(), words(recorded), problem, legal))
}

/// Refuses figures that contradict themselves.
pub(super) fn check_figures(figures: &[Figure], path: &Path) -> Result<(), ConfigError> {
    for (index, figure) in figures.iter().enumerate() {
        let key = |field: &str| format!("figures[{index}] `{}`.{field}", figure.name);
        if figures[..index].iter().any(|other| other.name == figure.name) {
            let value = format!("{:?}", figure.name);
            return Err(json::bad(path, key("name"), value, "given twice", "each name once"));
        }
        if figure.samples == 0 {
            let legal = "a whole number above zero";
            return Err(json::bad(path, key("samples"), "0".into(), "nothing was measured", legal));
        }
        for pair in figure.marks().windows(2) {
            let [(name, mark), (above, limit)] = [pair[0], pair[1]];
            if mark > limit {
                let problem = format!("more than {above}");
                let legal = format!("at most {limit}");
                return Err(json::bad(path, key(name), mark.to_string(), &problem, legal));
            }
        }
    }
    Ok(())
}
