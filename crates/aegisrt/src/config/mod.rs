//! What a user writes and what the tools measure: fleet, profile and platform files.
//!
//! | module | what it holds |
//! |---|---|
//! | [`fleet`] | `fleet.toml`: device, partitions, policy and tasks, checked |
//! | [`group`] | its groups of tasks: what they may take together, and the agreed rate of misses |
//! | [`chain`] | its cause-effect chains: what hands data to what, and how late that may be |
//! | [`profile`] | `profile.json`: what `aegis profile` measured of each task |
//! | [`company`] | who shared the device while it was measured, and whether that covers a fleet |
//! | [`platform`] | `platform.json`: what `aegis calibrate` measured of this machine |
//! | [`observed`] | what it saw besides: the device, plain operations, stalls of the host |
//! | [`mod@prepare`] | the three together as the scheduler's task set |
//! | [`error`] | what is wrong in them: file, line, key, value and what would be legal |
//!
//! A file that is read becomes a value that was checked, or an error; nothing is half-read.

pub mod chain;
mod check;
pub mod company;
pub mod error;
mod file;
pub mod fleet;
pub mod group;
mod json;
pub mod observed;
pub mod platform;
pub mod prepare;
pub mod profile;
mod source;
mod task;
pub(crate) mod whole;

pub use chain::ChainConfig;
pub use company::{LaneCompany, ProfiledPartition};
pub use error::{ConfigError, Place};
pub use fleet::{
    BackendKind, BudgetConfig, DeviceConfig, Fleet, InputSource, LaneChoice, LaunchMode, PartitionConfig,
    StatePair, TaskConfig, WaitMode,
};
pub use group::{GroupConfig, Share};
pub use observed::{CalibratedDevice, CalibrationRound, DeviceLimits, Figure, HostStalls, unrest};
pub use platform::{Calibration, CalibrationMethod};
pub use prepare::{ContextGap, Facts, Prepared, prepare, prepare_apart};
pub use profile::{Exceedance, MemoryProfile, Profile, SegmentProfile, TaskProfile, shapes_hash};
