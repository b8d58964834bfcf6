//! The models as the library runs them by itself: a session each, with the library's own arena and its default growth.
//! What this takes is what a program takes that knows nothing of a plan.
//!
//! The measure is the process's resident anonymous memory, as the system counts it; on a GPU the device's memory that is
//! in use. All models are loaded before the
//! first one runs, so that weights and graphs lie below the line from which growth is counted. It errs to the library's
//! favour: what loading gave back to the heap is used again without growth, and bytes that an arena reserved and nobody
//! touched are not resident.

use aegis_backend_onnx::Reference;
use aegis_types::Bytes;
use aegisrt::feed::Feed;
use aegisrt::inventory::Model;

use super::Bed;
use super::error::SharingError;
use super::ground::Ground;

/// Jobs of each model. From the second on the library takes its temporaries as one block, and from the third on
/// nothing grows.
const JOBS: u64 = 4;

/// The models with the library's memory.
pub struct Untouched {
    /// What was in use before any model was loaded.
    pub before: Bytes,
    /// What was in use when every model was loaded and none had run.
    pub loaded: Bytes,
    /// By task: by how much its jobs made it grow.
    pub growth: Vec<Bytes>,
    /// By task, job and output.
    pub outputs: Vec<Vec<Vec<Vec<u8>>>>,
}

impl Untouched {
    /// Loads every model, then runs jobs of each. To be called before anything else of the process is large: what a
    /// heap has free already would hide growth.
    ///
    /// # Errors
    /// What the library refuses; [`SharingError::Resident`].
    pub fn run(bed: &Bed) -> Result<Self, SharingError> {
        let before = bed.ground.used()?;
        let mut sessions = bed.models.iter().map(|model| open(bed, model)).collect::<Result<Vec<_>, _>>()?;
        let loaded = bed.ground.used()?;
        let (mut growth, mut outputs) = (Vec::new(), Vec::new());
        for ((session, model), feed) in sessions.iter_mut().zip(&bed.models).zip(&bed.feeds) {
            let start = bed.ground.used()?;
            outputs.push(play(session, model, feed)?);
            growth.push(Bytes::new(bed.ground.used()?.get().saturating_sub(start.get())));
        }
        Ok(Self { before, loaded, growth, outputs })
    }

    /// By how much all jobs made the process grow.
    pub fn total(&self) -> Bytes {
        Bytes::new(self.growth.iter().map(|bytes| bytes.get()).sum())
    }
}

fn open(bed: &Bed, model: &Model) -> Result<Reference, SharingError> {
    let request = model.request();
    Ok(match &bed.ground {
        Ground::Host => Reference::open_whole(&bed.library, request.artifact, request.shapes)?,
        Ground::Gpu(card) => {
            Reference::open_on_gpu(&bed.library, request.artifact, request.shapes, card.ordinal())?
        }
    })
}

/// The first jobs of a model. Recurrent state begins at zero and goes from each job to the next.
fn play(session: &mut Reference, model: &Model, feed: &Feed) -> Result<Vec<Vec<Vec<u8>>>, SharingError> {
    let state = &model.config.state;
    let length = |bytes: Bytes| usize::try_from(bytes.get()).unwrap_or(0);
    let mut inputs: Vec<Vec<u8>> =
        session.inputs().iter().map(|input| vec![0; length(input.bytes)]).collect();
    let names: Vec<String> = session.inputs().iter().map(|input| input.name.clone()).collect();
    let is_state = |at: &usize| state.iter().any(|pair| pair.input == names[*at]);
    let fed: Vec<usize> = (0..names.len()).filter(|at| !is_state(at)).collect();
    let mut jobs = Vec::new();
    for job in 0..JOBS {
        for (&at, bytes) in fed.iter().zip(feed.sample(job)) {
            inputs[at].clone_from(bytes);
        }
        let outputs = session.run(&inputs)?;
        for pair in state {
            let from = model.description.outputs.iter().position(|output| output.name == pair.output);
            let to = names.iter().position(|name| *name == pair.input);
            if let Some((from, to)) = from.zip(to) {
                inputs[to].clone_from(&outputs[from]);
            }
        }
        jobs.push(outputs);
    }
    Ok(jobs)
}
