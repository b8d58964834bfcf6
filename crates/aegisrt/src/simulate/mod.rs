//! The simulation world: the whole runtime in virtual time, thousands of seeded task sets, faults, and ten checkers
//! that watch every run.
//!
//! Engine and driver are those of production; only the [plant](plant::SimPlant) is simulated. Each set is run
//!
//! 1. as promised: every job must be covered and within its bound;
//! 2. with one overrun of exactly X, at most what its lane tolerates: R(X) must hold;
//! 3. with faults of one class: what must be left standing is;
//! 4. with a canary: a policy that inverts its order must be caught;
//!
//! and, for one set in eight, three times more with its trace kept in different ways, replayed and explained; for one
//! in ten, with models in memory that is planned, shared and poisoned.
//!
//! | file | what it holds |
//! |---|---|
//! | [`generate`] | seeded sets |
//! | [`policy`] | the policies of the simulation |
//! | [`plant`], [`clients`], [`faults`], [`memory`] | the simulated world |
//! | [`episode`], [`changes`] | one run of one set, and one of a set that changes |
//! | [`check`], [`aftermath`], [`canary`], [`traced`], [`loaded`] | the checkers |
//! | [`set`] | all runs of one set |
//! | [`report`] | what was found, merged |

pub mod aftermath;
pub mod canary;
pub mod changes;
pub mod check;
pub mod clients;
pub mod episode;
pub mod faults;
pub mod generate;
pub mod loaded;
pub mod memory;
pub mod plant;
pub mod policy;
pub mod report;
pub mod set;
pub mod traced;

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use aegis_types::{Nanos, Severity};

pub use report::{Failure, SimulateReport};
pub use set::SetReport;

/// What is simulated.
#[derive(Clone, Debug)]
pub struct SimulateOptions {
    /// How many sets.
    pub sets: u64,
    /// The seed of the first; the others follow.
    pub seed: u64,
    /// Virtual time of the run as promised; the other runs are shorter.
    pub horizon: Nanos,
    /// Whether sets are also run with overruns and faults.
    pub faults: bool,
    /// One set in so many is traced, replayed and explained; 0 for none.
    pub traced_every: u64,
    /// One set in so many is run with models in memory; 0 for none.
    pub loaded_every: u64,
    /// Threads, each with sets of its own. The report does not depend on it.
    pub threads: usize,
    /// Where traces are written for a moment.
    pub folder: PathBuf,
}

impl SimulateOptions {
    /// `sets` sets from `seed`, with everything, on two threads.
    pub fn new(sets: u64, seed: u64) -> Self {
        Self {
            sets,
            seed,
            horizon: Nanos::from_millis(400),
            faults: true,
            traced_every: 8,
            loaded_every: 10,
            threads: 2,
            folder: std::env::temp_dir(),
        }
    }
}

/// Why a set could not be simulated. None of it can be the user's fault: each is a defect that a run reports.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SimulateError {
    /// The set is no model, or its certificate makes no engine.
    #[error(transparent)]
    Model(#[from] aegis_sched::ModelError),
    /// The simulated device refused.
    #[error(transparent)]
    Device(#[from] aegis_cuda::DeviceError),
    /// A scripted model was refused.
    #[error(transparent)]
    Backend(#[from] aegis_cuda::BackendError),
    /// A model could not be made ready.
    #[error(transparent)]
    Context(#[from] aegis_context::ContextError),
    /// Memory was refused.
    #[error(transparent)]
    Memory(#[from] aegis_memory::MemoryError),
    /// A trace could not be written or read.
    #[error(transparent)]
    Trace(#[from] aegis_trace::TraceError),
}

impl SimulateError {
    /// The response that the error demands.
    pub const fn severity(&self) -> Severity {
        Severity::Permanent
    }
}

/// Simulates. `progress` is told, from any thread, how many sets are done.
///
/// # Panics
/// If engine or driver panic; the seed is printed before.
pub fn simulate(options: &SimulateOptions, progress: &(dyn Fn(u64) + Sync)) -> SimulateReport {
    let (next, done) = (AtomicU64::new(0), AtomicU64::new(0));
    let reports: Mutex<Vec<SetReport>> = Mutex::new(Vec::new());
    let work = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= options.sets {
                return;
            }
            let report = SetReport::of(options.seed.wrapping_add(index), options);
            reports.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(report);
            progress(done.fetch_add(1, Ordering::Relaxed) + 1);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..options.threads.max(1) {
            scope.spawn(work);
        }
        work();
    });
    let mut reports = reports.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    reports.sort_unstable_by_key(|report| report.seed.wrapping_sub(options.seed));
    let mut merged = SimulateReport::default();
    reports.iter().for_each(|report| merged.absorb(report));
    merged
}
