//! What GPUs there are and what state they are in.
//!
//! Three [`Source`]s are asked: the driver, the vendor's management library, and the files of a board's system. Each
//! may be missing. A report is laid together from what they tell; a value that none tells keeps the reason. Nothing
//! here makes a context on a device, starts a thread or knows a product.
//!
//! | module | what it holds |
//! |---|---|
//! | [`reading`] | [`Reading`]: a value, or why it is unknown |
//! | [`report`] | [`GpuReport`]: what is known of one device |
//! | [`regime`] | [`Regime`]: what its speed depends on, and whether it has changed |
//! | [`quantity`] | frequency, temperature, power, share |
//! | [`shared`] | memory that a device shares with the system |
//! | [`driver`], [`nvml`], [`jetson`] | the sources |

pub mod driver;
pub mod jetson;
pub mod nvml;
pub mod quantity;
pub mod reading;
pub mod regime;
pub mod report;
pub mod shared;

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

pub use quantity::{Hertz, Millicelsius, Milliwatts, Permille};
pub use reading::Reading;
pub use regime::{Regime, ThrottleReason};
pub use report::{BoardReport, GpuProcess, GpuReport, Identity, ThermalZone};
pub use shared::SharedMemory;

/// Hardware queues that a driver gives a process which does not ask for a number.
pub const QUEUES: u32 = 8;

/// Who can tell something of the GPUs of this machine.
pub trait Source: fmt::Debug + Send {
    /// What it is, for reasons in reports.
    fn name(&self) -> &'static str;

    /// The version of the driver, as the vendor writes it.
    fn driver_version(&self) -> Reading<String> {
        Reading::untold()
    }

    /// The newest interface that the driver has.
    fn cuda_version(&self) -> Reading<CudaVersion> {
        Reading::untold()
    }

    /// The devices that this source knows, each with what it can tell.
    ///
    /// # Errors
    /// Why it knows none, in words.
    fn devices(&self) -> Result<Vec<GpuReport>, String>;

    /// The state of one device, in few and short calls; [`Regime::untold`] if this source does not know the device.
    fn regime(&self, device: &Identity) -> Regime;
}

/// A source, or why it cannot be used.
#[derive(Debug)]
pub struct Candidate {
    /// What it is, for reasons in reports.
    pub name: &'static str,
    /// The source, or what is missing.
    pub source: Result<Box<dyn Source>, String>,
}

impl Candidate {
    fn of<S: Source + 'static>(name: &'static str, source: Result<S, String>) -> Self {
        Self { name, source: source.map(|source| Box::new(source) as Box<dyn Source>) }
    }

    /// What the source answers, or why it does not.
    fn asked<T>(&self, ask: impl FnOnce(&dyn Source) -> Result<T, String>) -> Told<T> {
        let answer = self.source.as_ref().map_err(Clone::clone).and_then(|source| ask(source.as_ref()));
        Told { name: self.name, answer }
    }
}

/// The answer of one source.
struct Told<T> {
    name: &'static str,
    answer: Result<T, String>,
}

/// The sources of a machine, held open so that a state can be read once a second without loading anything again.
#[derive(Debug)]
pub struct Sources {
    all: Vec<Candidate>,
}

impl Sources {
    /// All sources of this machine.
    pub fn system() -> Self {
        let mut all = Self::watching();
        all.all.insert(0, Candidate::of("driver", driver::Driver::open()));
        all
    }

    /// Those that tell the state of a device; the driver, which tells none, is not loaded for it.
    pub fn watching() -> Self {
        let board = jetson::Jetson::below(Path::new("/"));
        Self {
            all: vec![
                Candidate::of("management library", nvml::Management::open()),
                Candidate::of("board files", Ok(board)),
            ],
        }
    }

    /// The sources given, the most trusted one first.
    pub const fn of(all: Vec<Candidate>) -> Self {
        Self { all }
    }

    /// What GPUs there are. The devices are those of the first source that has any, with what the others tell of
    /// them. `queue_limit` is the number of hardware queues that the process was given, by default [`QUEUES`].
    pub fn discover(&self, queue_limit: u32) -> Discovery {
        let told: Vec<_> = self.all.iter().map(|one| one.asked(|source| source.devices())).collect();
        let reason = silence(&told);
        let mut devices = Vec::new();
        for reports in told.iter().filter_map(|told| told.answer.as_ref().ok()) {
            devices = if devices.is_empty() { reports.clone() } else { joined(devices, reports) };
        }
        for device in &mut devices {
            device.queue_limit = queue_limit;
        }
        Discovery {
            cuda: self.first(|source| source.cuda_version()).settled(&reason),
            driver: self.first(|source| source.driver_version()).settled(&reason),
            sources: told.iter().map(SourceReport::new).collect(),
            devices: devices.into_iter().map(|device| device.settled(&reason)).collect(),
        }
    }

    /// The state of one device.
    pub fn regime(&self, device: &Identity) -> Regime {
        let told: Vec<_> = self.all.iter().map(|one| one.asked(|source| Ok(source.regime(device)))).collect();
        let known = told.iter().filter_map(|told| told.answer.clone().ok());
        known.fold(Regime::untold(), Regime::or).settled(&silence(&told))
    }

    fn first<T>(&self, ask: impl Fn(&dyn Source) -> Reading<T>) -> Reading<T> {
        let present = self.all.iter().filter_map(|one| one.source.as_ref().ok());
        present.map(|source| ask(source.as_ref())).fold(Reading::untold(), Reading::or)
    }
}

/// What GPUs there are on this machine, by all its sources. `queue_limit` is the number of hardware queues that the
/// process was given; `None` stands for [`QUEUES`].
pub fn discover(queue_limit: Option<u32>) -> Discovery {
    Sources::system().discover(queue_limit.unwrap_or(QUEUES))
}

/// The GPUs of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Discovery {
    /// The newest interface that the driver has, or why there is no driver.
    pub cuda: Reading<CudaVersion>,
    /// The version of the driver, as the vendor writes it.
    pub driver: Reading<String>,
    /// The sources that were asked.
    pub sources: Vec<SourceReport>,
    /// The devices, by their numbers.
    pub devices: Vec<GpuReport>,
}

/// What became of asking one source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceReport {
    /// Its name.
    pub name: String,
    /// How many devices it knows, or why it cannot say.
    pub devices: Reading<usize>,
}

impl SourceReport {
    fn new(told: &Told<Vec<GpuReport>>) -> Self {
        Self { name: told.name.to_owned(), devices: told.answer.as_ref().map(Vec::len).into() }
    }
}

/// A version of CUDA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CudaVersion {
    /// The number before the point.
    pub major: u32,
    /// The number behind the point.
    pub minor: u32,
}

impl CudaVersion {
    /// From the driver's notation, 1000 x major + 10 x minor.
    pub const fn from_number(number: u32) -> Self {
        Self { major: number / 1_000, minor: number % 1_000 / 10 }
    }
}

impl fmt::Display for CudaVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Each device with what another source tells of it.
fn joined(devices: Vec<GpuReport>, told: &[GpuReport]) -> Vec<GpuReport> {
    let with = |device: GpuReport| {
        let same = told.iter().find(|other| device.identity.is_same(&other.identity)).cloned();
        match same {
            Some(other) => device.or(other),
            None => device,
        }
    };
    devices.into_iter().map(with).collect()
}

/// Why nobody told something: the sources that are missing, else that none of those present has it.
fn silence<T>(told: &[Told<T>]) -> String {
    let missing: Vec<String> = told
        .iter()
        .filter_map(|told| Some(format!("{}: {}", told.name, told.answer.as_ref().err()?)))
        .collect();
    if missing.is_empty() { "no source tells it".to_owned() } else { missing.join("; ") }
}

#[cfg(test)]
mod tests;
