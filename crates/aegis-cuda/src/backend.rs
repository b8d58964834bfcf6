//! The contract of a backend: what runs.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use aegis_types::{Bytes, ContentHash, ExecutionGraph, MemoryGrant, SegmentIndex};
use serde::{Deserialize, Serialize};

use crate::error::{BackendError, DeviceError};
use crate::memory::{DeviceMemory, DeviceSlice};
use crate::stream::Stream;

/// The type of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the variants are the types' own names")]
pub enum ElementType {
    F16,
    Bf16,
    F32,
    F64,
    I8,
    I16,
    I32,
    I64,
    U8,
    U16,
    U32,
    U64,
    Bool,
}

impl ElementType {
    /// Size of one element.
    pub const fn size(self) -> Bytes {
        Bytes::new(match self {
            Self::I8 | Self::U8 | Self::Bool => 1,
            Self::F16 | Self::Bf16 | Self::I16 | Self::U16 => 2,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::F64 | Self::I64 | Self::U64 => 8,
        })
    }
}

/// An input or output of a model, every axis fixed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorSpec {
    /// The model's name for it.
    pub name: String,
    /// Type of the elements.
    pub element: ElementType,
    /// Length of each axis; empty for a scalar.
    pub shape: Vec<u64>,
    /// Size in bytes.
    pub bytes: Bytes,
}

/// What a model needs besides I/O, as far as the backend can tell without running it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryNeeds {
    /// Weights as stored in the artifact: a lower bound of what loading takes.
    pub weights: Bytes,
    /// Bytes that live inside one segment, per segment; `None` where only a profile can tell.
    pub scratch: Option<Vec<Bytes>>,
}

/// Everything the runtime knows of a model before it is loaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelDescription {
    /// The name it goes by in messages.
    pub name: String,
    /// Hash of the artifact.
    pub hash: ContentHash,
    /// The plan of one job.
    pub graph: ExecutionGraph,
    /// Inputs, in binding order.
    pub inputs: Vec<TensorSpec>,
    /// Outputs, in binding order.
    pub outputs: Vec<TensorSpec>,
    /// What it needs besides I/O.
    pub memory: MemoryNeeds,
    /// Operators by name with how often they occur.
    pub operators: BTreeMap<String, u32>,
}

/// A model to be inspected or loaded.
#[derive(Clone, Copy, Debug)]
pub struct ModelRequest<'a> {
    /// The name it goes by in messages.
    pub name: &'a str,
    /// The artifact's bytes; the runtime opens files, backends do not.
    pub artifact: &'a [u8],
    /// Shapes by input name; every dynamic axis must be fixed here.
    pub shapes: &'a BTreeMap<String, Vec<u64>>,
    /// Whether data-dependent control flow is accepted; the model is then one opaque segment.
    pub allow_control_flow: bool,
}

/// The memory of one model: who grants it, and the region that the grant's extents lie in.
pub struct ModelMemory {
    /// Charged for every byte that the backend takes.
    pub grant: Box<dyn MemoryGrant>,
    /// The device's reservation.
    pub region: Arc<dyn DeviceMemory>,
}

/// Buffers lent by the caller for the I/O of a model, in the order of its description.
#[derive(Clone)]
pub struct Bindings {
    /// One slice for each input.
    pub inputs: Vec<Rc<DeviceSlice>>,
    /// One slice for each output.
    pub outputs: Vec<Rc<DeviceSlice>>,
}

impl Bindings {
    /// Checks that there is one buffer of the right size for each tensor, also for one that nobody reads. What else a
    /// backend wants of a buffer, such as its alignment, it checks itself.
    ///
    /// # Errors
    /// [`BackendError::BindingCount`], or [`BackendError::Binding`] with the first tensor whose buffer does not fit.
    pub fn check_sizes(&self, description: &ModelDescription) -> Result<(), BackendError> {
        let inputs = ("input", &description.inputs, &self.inputs);
        let outputs = ("output", &description.outputs, &self.outputs);
        for (what, specs, slices) in [inputs, outputs] {
            let model = || description.name.clone();
            if specs.len() != slices.len() {
                let (expected, got) = (specs.len(), slices.len());
                return Err(BackendError::BindingCount { model: model(), what, expected, got });
            }
            let misfit = specs.iter().zip(slices).find(|(spec, slice)| spec.bytes != slice.len());
            if let Some((spec, slice)) = misfit {
                let (tensor, expected, got) = (spec.name.clone(), spec.bytes, slice.len());
                return Err(BackendError::Binding { model: model(), tensor, expected, got });
            }
        }
        Ok(())
    }

    /// Checks that outputs share no bytes with any other tensor, for libraries that write outputs while they still read
    /// inputs.
    ///
    /// # Errors
    /// [`DeviceError::BadSlice`] with the first output that does.
    pub fn check_overlap(&self) -> Result<(), DeviceError> {
        for (position, output) in self.outputs.iter().enumerate() {
            let mut others = self.inputs.iter().chain(&self.outputs[position + 1..]);
            let shares = |other: &Rc<DeviceSlice>| {
                Arc::ptr_eq(output.region(), other.region()) && output.extent().overlaps(&other.extent())
            };
            if others.any(shares) {
                return Err(output.unfit("is bound as an output and as another tensor"));
            }
        }
        Ok(())
    }
}

/// A set of bindings that a backend validated and prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BindingId(pub u32);

/// Reads a file by its path below the folder of an artifact.
pub type Beside<'a> = &'a mut dyn FnMut(&str) -> std::io::Result<Vec<u8>>;

/// Makes [`RuntimeBackend`]s out of artifacts. One for each vendor library; shared between threads.
pub trait BackendLoader: Send + Sync {
    /// The word for it in a fleet.
    fn name(&self) -> &'static str;

    /// The artifact of the model `name` with whatever it keeps in other files, which is what everything else here is given.
    ///
    /// # Errors
    /// Permanent ones that name the model, the part of it that is elsewhere, and the file.
    fn complete(&self, name: &str, artifact: Vec<u8>, beside: Beside<'_>) -> Result<Vec<u8>, BackendError> {
        let _nothing_is_elsewhere = (name, beside);
        Ok(artifact)
    }

    /// Validates an artifact and describes it, without a device: operators, control flow, shapes, weights.
    ///
    /// # Errors
    /// Permanent ones that name the model, the node or tensor, and what would be legal.
    fn inspect(&self, request: &ModelRequest<'_>) -> Result<ModelDescription, BackendError>;

    /// Loads a model on the calling thread, which carries the lane of `stream`. Every byte comes from `memory`.
    ///
    /// # Errors
    /// As [`inspect`](BackendLoader::inspect), and [`BackendError::Memory`] when the budget is exceeded. Everything
    /// taken from `memory` has been given back then.
    fn load(
        &self,
        request: &ModelRequest<'_>,
        stream: &mut dyn Stream,
        memory: ModelMemory,
    ) -> Result<Box<dyn RuntimeBackend>, BackendError>;
}

/// A model loaded on a lane. Not `Send`: it belongs to the lane's thread. Dropping it gives all memory back.
///
/// # Contract
/// - [`bind`](RuntimeBackend::bind) belongs to load time and may allocate; [`enqueue`](RuntimeBackend::enqueue) does
///   not allocate outside the grant's scratch.
/// - `enqueue` runs segment `segment` of one job on the lane's stream. It returns when the work is enqueued, on a
///   synchronous device when it is done; it never stores a completion flag (the caller signals).
/// - Scratch is given back before `enqueue` returns on a synchronous device; nothing scratch survives a segment.
/// - Outputs are a function of inputs alone: state is carried by the caller from output to input.
pub trait RuntimeBackend {
    /// What the model is.
    fn describe(&self) -> &ModelDescription;

    /// Whether [`enqueue`](RuntimeBackend::enqueue) of this segment may be captured into a graph and replayed: it then
    /// only enqueues, always the same operations for the same binding, and every binding is captured once at load time.
    fn capturable(&self, segment: SegmentIndex) -> bool {
        let _every = segment;
        false
    }

    /// What whoever runs the model should know of how it was loaded, one sentence each, without its name: why it is not
    /// captured, what runs elsewhere, what no budget counts. Empty if there is nothing to say.
    fn remarks(&self) -> Vec<String> {
        Vec::new()
    }

    /// Memory of the device that loading took besides the grant, as far as it can be seen: code, handles and workspaces
    /// that a library takes by itself, and that no plan reaches. Zero where all of it is the grant's.
    fn outside(&self) -> Bytes {
        Bytes::ZERO
    }

    /// Validates buffers lent for I/O and prepares them for use. The backend keeps them alive.
    ///
    /// # Errors
    /// [`BackendError::Binding`] or [`BackendError::BindingCount`] if they do not fit.
    fn bind(&mut self, bindings: Bindings) -> Result<BindingId, BackendError>;

    /// Runs one segment.
    ///
    /// # Errors
    /// [`BackendError::Execution`] says whether anything ran; the model stays usable unless the error is Fatal.
    fn enqueue(
        &mut self,
        stream: &mut dyn Stream,
        segment: SegmentIndex,
        binding: BindingId,
    ) -> Result<(), BackendError>;
}
