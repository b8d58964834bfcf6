//! A model on a lane of the host: memory lent by the caller is bound once, and a job is one call into the library.

use std::ptr;
use std::rc::Rc;

use aegis_cuda::{BackendError, BindingId, Bindings, ModelDescription, ModelRequest, RuntimeBackend, Stream};
use aegis_types::{MemoryClass, SegmentIndex};

use crate::charge::Charge;
use crate::inspect::Inspected;
use crate::library::OnnxRuntime;
use crate::opened::{Bound, Opened, Place};
use crate::ordered;
use crate::raw::MemoryInfo;
use crate::session::ModelFile;

/// Warm-up runs at load: the first records the sizes of temporaries, the second allocates by that record, as every
/// later one does.
pub(crate) const WARM_UP_RUNS: u32 = 2;

/// A loaded model. Fields are dropped in this order: bindings name the session.
pub struct OnnxModel {
    bound: Vec<Bound>,
    opened: Opened,
    /// Whether the order of its nodes is the library's, which may be another the next time.
    unordered: bool,
}

impl OnnxModel {
    /// Creates the session and warms it up, all on memory of `charge`.
    ///
    /// The library builds a model's constants before the session has an allocator, so they lie on its own heap whatever
    /// allocator is registered. Their stored size is reserved from the grant all the same, and left untouched: the
    /// budget counts them. What kernels prepare from them goes through the allocator and is counted besides.
    ///
    /// What it takes at most is the same each time: the library's own order of nodes, which is not, is replaced by one that is.
    ///
    /// A kernel may take memory at its first run and keep it. Such memory must not lie in scratch, which belongs to
    /// another task a moment later: if any is left after the warm-up, the model is loaded a second time with all of
    /// the warm-up's memory counted as persistent, so that what stays is where it may stay.
    pub(crate) fn load(
        runtime: &OnnxRuntime,
        request: &ModelRequest<'_>,
        description: ModelDescription,
        inspected: &Inspected,
        charge: Rc<Charge>,
    ) -> Result<Self, BackendError> {
        let optimizes = runtime.is_optimized();
        let ordered =
            optimizes.then(|| ordered::optimized(runtime, request.artifact, &inspected.named)).flatten();
        let file = ordered.as_deref().map_or(ModelFile::Brought(request.artifact), ModelFile::Optimized);
        let create = |description: ModelDescription, charge| {
            let weights = description.memory.weights;
            let info = MemoryInfo::host()
                .map_err(|reason| BackendError::InvalidModel { model: request.name.to_owned(), reason })?;
            let place = Place { info, gpu: None };
            let mut opened = Opened::create(runtime, request, file, description, inspected, charge, place)?;
            opened.stand_in(weights)?;
            Ok::<Opened, BackendError>(opened)
        };
        let mut opened = create(description, charge)?;
        warm_up(&opened, MemoryClass::Scratch)?;
        if opened.charge().scratch_live() > 0 {
            let (description, charge) = opened.close();
            opened = create(description, charge)?;
            warm_up(&opened, MemoryClass::Persistent)?;
        }
        warm_up(&opened, MemoryClass::Scratch)?;
        opened.settled()?;
        Ok(Self { bound: Vec::new(), opened, unordered: optimizes && ordered.is_none() })
    }
}

/// Runs on zeros in temporary buffers, which are given back.
fn warm_up(opened: &Opened, class: MemoryClass) -> Result<(), BackendError> {
    let lent = opened.temporaries()?;
    for slice in &lent.buffers.inputs {
        slice.write(&vec![0; usize::try_from(slice.len().get()).unwrap_or(usize::MAX)]);
    }
    let bound = opened.prepare(lent.buffers.clone())?;
    (0..WARM_UP_RUNS).try_for_each(|_| run(opened, &bound, class))
}

fn run(opened: &Opened, bound: &Bound, class: MemoryClass) -> Result<(), BackendError> {
    // SAFETY: `run` wants null or live options.
    unsafe { opened.run(ptr::null(), &bound.binding, class) }
}

impl RuntimeBackend for OnnxModel {
    fn describe(&self) -> &ModelDescription {
        self.opened.description()
    }

    fn remarks(&self) -> Vec<String> {
        let sentence = "the library could not write down how it optimizes the model, so the order of its nodes, and with it the \
                        scratch that they need, may be another each time it is loaded";
        self.unordered.then(|| sentence.to_owned()).into_iter().collect()
    }

    fn bind(&mut self, bindings: Bindings) -> Result<BindingId, BackendError> {
        let bound = self.opened.prepare(bindings)?;
        let id = BindingId(u32::try_from(self.bound.len()).unwrap_or(u32::MAX));
        self.bound.push(bound);
        Ok(id)
    }

    /// Runs the model on the calling thread; the host's stream is synchronous, so nothing is enqueued on it.
    fn enqueue(
        &mut self,
        _stream: &mut dyn Stream,
        segment: SegmentIndex,
        binding: BindingId,
    ) -> Result<(), BackendError> {
        let bound = self.opened.asked(&self.bound, segment, binding.0)?;
        run(&self.opened, bound, MemoryClass::Scratch)?;
        self.opened.nothing_left()
    }
}
