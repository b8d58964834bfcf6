//! What `aegis calibrate` measured: the runtime's own overheads on this machine, and how.

use std::path::{Path, PathBuf};

use aegis_cuda::DeviceContext;
use aegis_sched::{ModelError, Overheads, PartitionModel, Platform};
use aegis_types::Nanos;
use serde::{Deserialize, Serialize};

use super::error::ConfigError;
use super::fleet::{Fleet, LaunchMode, WaitMode};
use super::json;
use super::observed::{self, CalibratedDevice, CalibrationRound, DeviceLimits, Figure, HostStalls};

const TOOL: &str = "aegis calibrate";

/// The overheads of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// Version of the format: [`Calibration::VERSION`].
    pub version: u32,
    /// The machine.
    pub machine: String,
    /// The operating system's kernel.
    pub kernel: String,
    /// How the driver waits, and at which priority.
    pub driver: String,
    /// How the driver waited: what it is charged for is another thing in each mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<WaitMode>,
    /// When it was measured, for people.
    pub date: String,
    /// Whether the driver's thread may run on a core that carries a lane.
    pub decider_shares_cores: bool,
    /// What is charged: high-water marks.
    pub overheads: Overheads,
    /// How each was measured.
    pub methods: Vec<CalibrationMethod>,
    /// The median of the launcher's visits to a lane with the models that it was measured with, of the model
    /// with the longest, plus the margin; `None` where each lane has a thread of its own, and in files in which
    /// `launch_lock` was the longest visit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn: Option<Nanos>,
    /// The device, where the overheads are also its own: on devices whose work runs asynchronously.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<CalibratedDevice>,
    /// How the device can be divided and filled; `None` in files that do not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<DeviceLimits>,
    /// What was measured and is not charged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub figures: Vec<Figure>,
    /// When the host did not run the driver, where the driver spins and can tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stalls: Option<HostStalls>,
    /// What each round would have charged; none in files of calibrations without rounds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rounds: Vec<CalibrationRound>,
    /// Where it was read from, for complaints.
    #[serde(skip)]
    path: PathBuf,
}

/// How one overhead was measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CalibrationMethod {
    /// The overhead: a field of [`Overheads`].
    pub overhead: String,
    /// What was done, for people.
    pub method: String,
    /// Samples behind the mark; zero where it was derived and not measured.
    pub samples: u64,
    /// Median of the samples.
    pub p50: Nanos,
    /// The 99th percentile.
    pub p99: Nanos,
}

impl Calibration {
    /// The version of the format that this build reads and writes.
    pub const VERSION: u32 = 1;
    /// The overheads that a method may be given for: the fields of [`Overheads`].
    pub const OVERHEADS: &[&str] = &[
        "poll",
        "release",
        "arrival",
        "completion",
        "decision",
        "dispatch",
        "control",
        "handoff",
        "launch_lock",
        "wakeup",
        "client",
        "notify",
        "stall",
    ];

    /// A calibration that is about to be saved as `path`, without texts and methods: fill in the fields.
    pub fn new(path: &Path, overheads: Overheads) -> Self {
        Self {
            version: Self::VERSION,
            machine: String::new(),
            kernel: String::new(),
            driver: String::new(),
            wait: None,
            date: String::new(),
            decider_shares_cores: false,
            overheads,
            methods: Vec::new(),
            turn: None,
            device: None,
            limits: None,
            figures: Vec::new(),
            stalls: None,
            rounds: Vec::new(),
            path: path.into(),
        }
    }

    /// Reads and checks a calibration.
    ///
    /// # Errors
    /// [`ConfigError`] naming the file, the line or the key, the value and what would be legal.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        json::read::<Self>(path, TOOL)?.checked(path)
    }

    /// Checks the text of a calibration; `path` names it in messages.
    ///
    /// # Errors
    /// As [`Calibration::load`].
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        json::parse::<Self>(path, text, TOOL)?.checked(path)
    }

    /// Writes the calibration; a file that stood there is replaced as a whole.
    ///
    /// # Errors
    /// What [`Calibration::load`] would refuse is not written; [`ConfigError::Unwritable`] with the system's reason.
    pub fn save(&self, path: &Path) -> Result<(), ConfigError> {
        json::write(path, &self.clone().checked(path)?)
    }

    /// The file that it was read from or is made for.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it was made on this machine under this kernel.
    ///
    /// # Errors
    /// [`ConfigError::Field`] naming what differs.
    pub fn matches(&self, machine: &str, kernel: &str) -> Result<(), ConfigError> {
        for (key, recorded, found) in [("machine", &self.machine, machine), ("kernel", &self.kernel, kernel)]
        {
            if recorded != found {
                let legal = format!("{found:?}; run `{TOOL}` on this machine");
                let value = format!("{recorded:?}");
                return Err(json::bad(&self.path, key.into(), value, "measured elsewhere", legal));
            }
        }
        Ok(())
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

    /// Whether it speaks of this device: the overheads of an asynchronous device are partly its driver's, those of a
    /// synchronous one are the host's alone.
    ///
    /// # Errors
    /// [`ConfigError::Field`] naming what differs, or that no device, no turn or fewer lanes are recorded where they
    /// matter.
    pub fn matches_device(&self, found: &DeviceContext, lanes: u16) -> Result<(), ConfigError> {
        if !found.capabilities.asynchronous {
            return Ok(());
        }
        let legal = || format!("{:?} with {lanes} lanes; run `{TOOL}` with this fleet", found.name);
        let Some(device) = &self.device else {
            let problem = "is missing: it was measured without the device";
            return Err(json::bad(&self.path, "device".into(), "nothing".into(), problem, legal()));
        };
        device.matches(&self.path, TOOL, found)?;
        if self.turn.is_none() {
            let problem = "is missing: the fleet's turns at the launcher have nothing to be compared with";
            return Err(json::bad(&self.path, "turn".into(), "nothing".into(), problem, legal()));
        }
        if device.lanes < lanes {
            let problem = "measured with fewer lanes than the fleet has";
            let value = device.lanes.to_string();
            return Err(json::bad(&self.path, "device.lanes".into(), value, problem, legal()));
        }
        Ok(())
    }

    /// What is charged, in the order of [`Self::OVERHEADS`].
    pub const fn charged(&self) -> [Nanos; 13] {
        let o = &self.overheads;
        [
            o.poll,
            o.release,
            o.arrival,
            o.completion,
            o.decision,
            o.dispatch,
            o.control,
            o.handoff,
            o.launch_lock,
            o.wakeup,
            o.client,
            o.notify,
            o.stall,
        ]
    }

    /// The turn of each other lane that a launch is charged with, in a fleet of so many lanes whose longest turn, as
    /// [`TaskProfile::turn`](super::TaskProfile::turn) has it, is `turn`.
    ///
    /// What was measured is the sum over all other lanes, so a fleet of fewer lanes is charged the same sum: fewer
    /// visits may hold the longest of them all the same. What a visit of the fleet takes longer than one of the models
    /// that were calibrated with comes on top for each lane.
    pub fn launch_lock(&self, lanes: u16, turn: Nanos) -> Nanos {
        let lock = self.overheads.launch_lock;
        let others = |lanes: u16| u64::from(lanes.saturating_sub(1)).max(1);
        if self.turn.is_none() {
            return lock.saturating_add(self.raise(turn));
        }
        let measured = self.device.as_ref().map_or(lanes, |device| device.lanes).max(lanes);
        let sum = lock.checked_mul(others(measured)).unwrap_or(Nanos::MAX);
        let each = Nanos::new(sum.get().div_ceil(others(lanes)));
        each.saturating_add(self.raise(turn))
    }

    /// Whether the driver itself launched: what it does of a launch and of its end is then in its own steps.
    fn is_of_driver(&self) -> bool {
        self.device.as_ref().is_some_and(|device| device.launch == LaunchMode::Driver)
    }

    /// How much longer a turn of the fleet is than what was calibrated with. A launch waits for the ending of its own
    /// lane's job as well, so it is charged for each lane, the own one included.
    fn raise(&self, turn: Nanos) -> Nanos {
        turn.saturating_sub(self.turn.unwrap_or(self.overheads.launch_lock))
    }

    /// The platform of these partitions with the calibrated overheads, for tasks whose turns at the launcher are no
    /// longer than those of the models that it was calibrated with.
    ///
    /// # Errors
    /// As [`Platform::new`].
    pub fn platform(&self, partitions: Vec<PartitionModel>) -> Result<Platform, ModelError> {
        self.platform_with(partitions, Nanos::ZERO)
    }

    /// As [`platform`](Self::platform), for tasks whose longest turn at the launcher, as
    /// [`TaskProfile::turn`](super::TaskProfile::turn) has it, is `turn`.
    ///
    /// # Errors
    /// As [`Platform::new`].
    pub fn platform_with(
        &self,
        partitions: Vec<PartitionModel>,
        turn: Nanos,
    ) -> Result<Platform, ModelError> {
        let lanes = partitions.iter().fold(0u16, |sum, partition| sum.saturating_add(partition.lanes));
        let raise = self.raise(turn);
        let raised = |times: u16| raise.checked_mul(times.into()).unwrap_or(Nanos::MAX);
        let overheads = if self.is_of_driver() {
            Overheads {
                // A turn is either: the end of one job or the launch of another.
                completion: self.overheads.completion.saturating_add(raise),
                dispatch: self.overheads.dispatch.saturating_add(raise),
                notify: self.overheads.notify.saturating_add(raise),
                ..self.overheads
            }
        } else {
            Overheads {
                launch_lock: self.launch_lock(lanes, turn),
                handoff: self.overheads.handoff.saturating_add(raised(1)),
                // A client hears after a turn of every lane.
                notify: self.overheads.notify.saturating_add(raised(lanes)),
                ..self.overheads
            }
        };
        let mut platform = Platform::new(partitions, overheads)?;
        platform.decider_shares_cores = self.decider_shares_cores;
        Ok(platform)
    }

    /// The platform of a fleet whose budgets all begin with the driver's post: what a launch waits for on its way is in
    /// them, and only a launcher that may sleep is charged with being woken.
    ///
    /// # Errors
    /// As [`Platform::new`].
    pub fn platform_from_post(
        &self,
        partitions: Vec<PartitionModel>,
        turn: Nanos,
    ) -> Result<Platform, ModelError> {
        let mut platform = self.platform_with(partitions, turn)?;
        // A driver that launches is charged with neither, and is awake.
        if !self.is_of_driver() {
            platform.overheads.handoff = self.overheads.wakeup;
            platform.overheads.launch_lock = Nanos::ZERO;
        }
        Ok(platform)
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
        observed::check_figures(&self.figures, path)?;
        for (index, method) in self.methods.iter().enumerate() {
            let known = Self::OVERHEADS.contains(&method.overhead.as_str());
            let twice = self.methods[..index].iter().any(|other| other.overhead == method.overhead);
            if !known || twice {
                let problem = if twice { "given twice" } else { "no such overhead" };
                let legal = format!("each once of {}", Self::OVERHEADS.join(", "));
                let key = format!("methods[{index}].overhead");
                return Err(json::bad(path, key, format!("{:?}", method.overhead), problem, legal));
            }
            let charged =
                Self::OVERHEADS.iter().zip(self.charged()).find(|(name, _)| **name == method.overhead);
            if let Some((name, charged)) = charged.filter(|(_, charged)| *charged < method.p99) {
                let problem = "less is charged than one sample in a hundred took";
                let legal = format!("at least {}, its 99th percentile", method.p99);
                return Err(json::bad(
                    path,
                    format!("overheads.{name}"),
                    charged.to_string(),
                    problem,
                    legal,
                ));
            }
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_overheads_is_the_type() {
        let value = serde_json::to_value(Overheads::default()).expect("a table");
        let fields: std::collections::BTreeSet<&str> =
            value.as_object().expect("a table").keys().map(String::as_str).collect();
        assert_eq!(fields, Calibration::OVERHEADS.iter().copied().collect());
    }
}
