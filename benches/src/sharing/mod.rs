//! What one memory plan for all models is worth, and that nothing but memory changes: trained models on lanes that share
//! their scratch, beside the same models with memory of their own.
//!
//! Every model runs as the library runs it by itself, and the system says what that takes. Each runs alone with
//! private memory of ours: its outputs are kept, and the arenas say what it took. These
//! figures are the demands of the plans, as a profile's are. Then the same jobs run in random order on some lanes, from
//! one plan. Scratch is overwritten between jobs, and every output is compared bit by bit. On a GPU, whose memory nobody
//! else changes, the driver's account of it stands beside every plan, and beside private contexts of the same models.
//!
//! The program `aegis-memory` prints the tables; `tests/sharing.rs` asks the same with fewer jobs.

mod alone;
mod apart;
mod error;
mod fleet;
mod ground;
mod runner;
mod table;
mod together;
mod untouched;

use std::path::Path;
use std::sync::Arc;

use aegis_backend_onnx::{OnnxLoader, OnnxRuntime};
use aegis_types::{Bytes, TaskId};
use aegisrt::feed::{Feed, SplitMix};
use aegisrt::inventory::{Loaders, Model, inspect_with};

use crate::gpu::card::Gpu;

pub use alone::{Alone, Needs};
pub use apart::Apart;
pub use error::SharingError;
pub use fleet::Choice;
use ground::Ground;
pub use together::{Together, Wrong};
pub use untouched::Untouched;

/// Lines of an arena: how many blocks a model may hold at once.
const LINES: usize = 8_192;

/// Tasks with the demo's models, described, with the inputs of their jobs.
pub struct Bed {
    choice: Choice,
    models: Vec<Model>,
    feeds: Vec<Feed>,
    library: OnnxRuntime,
    ground: Ground,
}

/// What the system says of the memory that models took, beside what was there before they were loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// When every model was loaded.
    pub loaded: Bytes,
    /// When jobs had run.
    pub ran: Bytes,
    /// What of it we reserved.
    pub reserved: Bytes,
}

impl Bed {
    /// Reads models and library from the folder that `cargo xtask demo` fills.
    ///
    /// # Errors
    /// What is missing there, or refused by the library.
    pub fn open(cache: &Path, choice: Choice) -> Result<Self, SharingError> {
        let library = OnnxRuntime::load(&cache.join("onnxruntime").join("libonnxruntime.so"))?;
        Self::with(library, cache, choice, Ground::Host)
    }

    /// As [`Bed::open`], on a GPU: the library's CUDA provider lies beside the library.
    ///
    /// # Errors
    /// As [`Bed::open`], and what the device refuses.
    pub fn open_on(gpu: Gpu, cache: &Path, choice: Choice) -> Result<Self, SharingError> {
        let library = OnnxRuntime::load(&cache.join("onnxruntime").join("libonnxruntime.so"))?;
        Self::with(library, cache, choice, Ground::on(gpu)?)
    }

    /// Other tasks on the host with the library of this one, which a process loads once.
    ///
    /// # Errors
    /// As [`Bed::open`].
    pub fn other(&self, cache: &Path, choice: Choice) -> Result<Self, SharingError> {
        Self::with(self.library.clone(), cache, choice, Ground::Host)
    }

    fn with(
        library: OnnxRuntime,
        cache: &Path,
        choice: Choice,
        ground: Ground,
    ) -> Result<Self, SharingError> {
        let loaders = Loaders::default().with(Arc::new(OnnxLoader::new(library.clone())));
        let models = inspect_with(
            &fleet::demo(&cache.join("models"), choice)?,
            &loaders,
            |_| {},
            |config| std::fs::read(&config.model),
        )?;
        let feeds = models.iter().map(Model::feed).collect::<Result<_, _>>()?;
        Ok(Self { choice, models, feeds, library, ground })
    }

    /// The models.
    pub fn models(&self) -> &[Model] {
        &self.models
    }

    /// Whether the jobs of a task read different inputs. Those of a model with a large input all read the same.
    pub fn varies(&self, task: TaskId) -> bool {
        self.feeds.get(task.index()).is_some_and(|feed| !feed.stays())
    }

    /// Whether the models run on a GPU.
    pub const fn is_on_gpu(&self) -> bool {
        self.ground.is_gpu()
    }

    /// The tasks of `jobs` jobs in random order. Tasks that take long are drawn less often.
    pub fn order(&self, jobs: u64, seed: u64) -> Vec<TaskId> {
        let mut random = SplitMix(seed);
        let weights = fleet::weights(self.choice);
        let lots = (0..).map(TaskId::new).zip(weights);
        let lots: Vec<TaskId> =
            lots.flat_map(|(task, weight)| std::iter::repeat_n(task, weight as usize)).collect();
        (0..jobs).map(|_| lots[random.below(lots.len() as u64) as usize]).collect()
    }

    /// Blocks that the library took where no task could be charged, or beyond a budget, or gave back damaged.
    fn uncharged(&self) -> u64 {
        let Self { library, .. } = self;
        let devices = library.device_allocations();
        let on_devices = devices.values().map(|counts| counts.foreign + counts.overflows + counts.unknown);
        let on_host =
            library.foreign_allocations() + library.overflow_allocations() + library.corrupt_blocks();
        on_host + on_devices.sum::<u64>()
    }
}

/// The tables that `aegis-memory` prints. `apart` is there for a GPU.
pub fn report(
    untouched: &Untouched,
    apart: Option<&Apart>,
    alone: &Alone,
    runs: &[Together],
    bed: &Bed,
) -> String {
    let system = apart.map(|apart| table::system(untouched, apart, runs)).unwrap_or_default();
    table::text(alone, runs, bed) + &table::beside(untouched, alone, runs, bed) + &system
}
