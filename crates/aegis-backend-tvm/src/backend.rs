//! A model on a lane: memory lent by the caller is bound once, and a job is one call into the compiled module.

use std::rc::Rc;

use aegis_cuda::{
    BackendError, BindingId, Bindings, DeviceError, DeviceSlice, ModelDescription, RuntimeBackend, Stream,
    interop,
};
use aegis_types::{Bytes, Extent, MemoryClass, SegmentIndex};

use crate::abi::{self, Any};
use crate::api::Reason;
use crate::artifact::{Artifact, Parameter};
use crate::charge::{Charge, Recorded, Refusal};
use crate::device::Processor;
use crate::memory::{Held, Temporaries};
use crate::module::Module;
use crate::nvrtc;
use crate::object::{Object, Value};
use crate::plan::Plan;
use crate::tensor::Tensor;

/// Alignment of inputs and outputs: generated kernels load vectors of up to 64 bytes from a tensor's start.
const BINDING_ALIGNMENT: u64 = 64;

/// A loaded model. Fields are dropped in this order: the module's code runs when its objects are given back, and they
/// lie in memory of the charge.
pub struct TvmModel {
    bound: Vec<Bound>,
    weights: Vec<Object>,
    module: Module,
    recorded: Run,
    _held: Option<Held>,
    description: ModelDescription,
    charge: Rc<Charge>,
}

/// What every run does with memory.
struct Run {
    plan: Rc<Plan>,
    /// Outputs that lie in scratch at first: which one, and where.
    copies: Vec<(usize, u64)>,
    requests: usize,
}

/// Buffers bound once: the arguments of a run, and what must stay alive for it.
struct Bound {
    arguments: Vec<Any>,
    outputs: Rc<[u64]>,
    _tensors: Vec<Object>,
    buffers: Bindings,
}

impl TvmModel {
    /// Loads the module, copies its parameters into the grant, and runs it twice on zeros: the first run is recorded,
    /// the second one served by what the record tells, as all later ones are.
    ///
    /// A module that does not ask for memory through the replaced functions cannot return a tensor of ours, so that a
    /// module whose memory would be nobody's is refused here and not noticed later.
    pub(crate) fn load(
        charge: Rc<Charge>,
        description: ModelDescription,
        artifact: &Artifact,
        stream: &mut dyn Stream,
    ) -> Result<Self, BackendError> {
        let held = Held::fill(&charge, &description.name, &artifact.weights)?;
        let processor = *charge.processor();
        let module = on_stream(&charge, stream, || {
            nvrtc::for_capability(processor, || {
                let function = &artifact.description.function;
                Module::load(charge.api(), &artifact.module, function, processor.device())
            })
        })?;
        let invalid = |reason| BackendError::InvalidModel { model: description.name.clone(), reason };
        let module = module.map_err(|reason| invalid(format!("`module.so`: {reason}")))?;
        let start = held.as_ref().map_or(0, Held::address);
        let weight = |parameter: &Parameter| parameter_tensor(&charge, start, parameter);
        let weights = artifact.description.parameters.iter().map(weight).collect::<Result<_, _>>();
        let recorded = Run { plan: Rc::default(), copies: Vec::new(), requests: 0 };
        let mut model = Self {
            bound: Vec::new(),
            weights: weights.map_err(invalid)?,
            module,
            recorded,
            _held: held,
            description,
            charge,
        };
        model.warm_up(stream)?;
        Ok(model)
    }

    /// Runs on zeros in temporary buffers, which are given back.
    fn warm_up(&mut self, stream: &mut dyn Stream) -> Result<(), BackendError> {
        let charge = Rc::clone(&self.charge);
        let mut lent = Temporaries::new(&charge);
        let name = &self.description.name;
        let buffers = Bindings {
            inputs: lent.slices(name, &self.description.inputs)?,
            outputs: lent.slices(name, &self.description.outputs)?,
        };
        for input in &buffers.inputs {
            input.write(&vec![0; usize::try_from(input.len().get()).unwrap_or(0)]);
        }
        let bound = self.prepare(buffers)?;
        let ran = self.record(stream, &bound).and_then(|recorded| {
            self.recorded = recorded;
            self.run(stream, &bound)
        });
        // Waited for even after a refusal: nothing may write to memory that is given back.
        stream.synchronize()?;
        ran
    }

    /// The first run: its memory is taken piece by piece, and the record of it becomes the plan.
    fn record(&self, stream: &mut dyn Stream, bound: &Bound) -> Result<Run, BackendError> {
        let scope = self.charge.record();
        let result = on_stream(&self.charge, stream, || {
            // SAFETY: `run` wants live arguments on memory that stays: the buffers stand beside them in `bound`, and
            //  the caller waits for the stream before they are given back.
            unsafe { self.module.run(&bound.arguments) }
        });
        stream.synchronize()?;
        let result = self.judge(result?)?;
        let recorded = self.conclude(result)?;
        drop(scope);
        Ok(recorded)
    }

    /// Finds the outputs among what a recorded run returned.
    fn conclude(&self, result: Value) -> Result<Run, BackendError> {
        let invalid = |reason| BackendError::InvalidModel { model: self.description.name.clone(), reason };
        let result = result.object("result").map_err(invalid)?;
        let tensors = result.tensors().ok_or_else(|| invalid("it does not return tensors".to_owned()))?;
        let specs = &self.description.outputs;
        if tensors.len() != specs.len() {
            let (said, found) = (specs.len(), tensors.len());
            return Err(invalid(format!("its description has {said} outputs, and it returns {found}")));
        }
        for (spec, tensor) in specs.iter().zip(&tensors) {
            if tensor.bytes != spec.bytes.get() {
                let (name, said, found) = (&spec.name, spec.bytes, Bytes::new(tensor.bytes));
                return Err(invalid(format!(
                    "output `{name}` has {said} in its description, and {found} are returned"
                )));
            }
        }
        let outputs: Vec<(u64, u64)> = tensors.iter().map(|tensor| (tensor.address, tensor.bytes)).collect();
        let Recorded { plan, copies, requests } = self.charge.recorded(&outputs).map_err(|index| {
            let name = specs.get(index).map_or("", |spec| &spec.name);
            invalid(format!("output `{name}` does not lie in memory that the module asked for"))
        })?;
        Ok(Run { plan: Rc::new(plan), copies, requests })
    }

    /// A run by the plan.
    fn run(&self, stream: &mut dyn Stream, bound: &Bound) -> Result<(), BackendError> {
        let scratch = Bytes::new(self.recorded.plan.scratch);
        let taken = self.allocate(scratch)?;
        let ran = self.run_in(stream, bound, taken);
        self.charge.grant().free(MemoryClass::Scratch, taken);
        ran
    }

    fn run_in(&self, stream: &mut dyn Stream, bound: &Bound, scratch: Extent) -> Result<(), BackendError> {
        let address = self.charge.address(scratch).ok_or_else(|| self.unaligned(scratch))?;
        let scope = self.charge.serve(&self.recorded.plan, address, &bound.outputs);
        let result = on_stream(&self.charge, stream, || {
            // SAFETY: `run` wants live arguments on memory that stays: buffers are held by `bound`, which lives until
            //  the model is dropped, and weights by the model; neither happens while a segment is in flight. Scratch
            //  belongs to the lane until the stream has passed the segment.
            unsafe { self.module.run(&bound.arguments) }
        });
        let complete = scope.complete();
        drop(self.judge(result?)?);
        if !complete {
            return Err(self.execution("it asked for less memory than when it was loaded".to_owned()));
        }
        // The slices of scratch are not kept until a signal was seen, as copies want it: they only book the bytes,
        // which belong to the lane for as long as the model is on it.
        for &(output, offset) in &self.recorded.copies {
            let to = &bound.buffers.outputs[output];
            let offset = Bytes::new(scratch.offset.get().saturating_add(offset));
            let from = DeviceSlice::lend(self.charge.region(), Extent { offset, len: to.len() })?;
            stream.copy(&from, to)?;
        }
        Ok(())
    }

    /// What a run ended with; a refusal of memory goes before what the vendor made of it.
    fn judge(&self, result: Result<Value, Reason>) -> Result<Value, BackendError> {
        match self.charge.take_refusal() {
            Some(Refusal::Grant(source)) => {
                Err(BackendError::Memory { model: self.description.name.clone(), source })
            }
            Some(Refusal::Unexpected(reason)) => Err(self.execution(reason)),
            None => result.map_err(|reason| self.execution(reason)),
        }
    }

    fn allocate(&self, bytes: Bytes) -> Result<Extent, BackendError> {
        let align = self.charge.processor().alignment();
        let refused = |source| BackendError::Memory { model: self.description.name.clone(), source };
        self.charge.grant().allocate(MemoryClass::Scratch, bytes, align).map_err(refused)
    }

    fn unaligned(&self, extent: Extent) -> BackendError {
        let Extent { offset, len } = extent;
        let region = self.charge.region().size();
        DeviceError::BadSlice { offset, len, region, reason: "is not memory that kernels can use" }.into()
    }

    fn execution(&self, reason: Reason) -> BackendError {
        BackendError::Execution { model: self.description.name.clone(), reason, started: true }
    }

    /// Validates buffers and makes the arguments of a run.
    fn prepare(&self, buffers: Bindings) -> Result<Bound, BackendError> {
        let description = &self.description;
        buffers.check_sizes(description)?;
        let (inputs, outputs) = (self.addresses(&buffers.inputs)?, self.addresses(&buffers.outputs)?);
        buffers.check_overlap()?;
        let mut tensors = Vec::with_capacity(inputs.len());
        for (spec, &address) in description.inputs.iter().zip(&inputs) {
            let device = self.charge.processor().device();
            let tensor = Tensor { address, device, element: spec.element, shape: &spec.shape };
            // SAFETY: `make` wants memory of the tensor's size, aligned, alive and left alone while a run uses it.
            //  size and alignment: compared above; alive: the buffers stand beside the tensor in `Bound`;
            //  left alone: a slice is not `Sync`, and the thread that holds it is inside the run.
            let made = unsafe { tensor.make(self.charge.api()) };
            tensors.push(made.map_err(|reason| BackendError::InvalidModel {
                model: description.name.clone(),
                reason: format!("input `{}`: {reason}", spec.name),
            })?);
        }
        let arguments = tensors.iter().chain(&self.weights).map(Object::as_any).collect();
        Ok(Bound { arguments, outputs: outputs.into(), _tensors: tensors, buffers })
    }

    /// Where buffers lie.
    fn addresses(&self, slices: &[Rc<DeviceSlice>]) -> Result<Vec<u64>, DeviceError> {
        let address = |slice: &Rc<DeviceSlice>| match self
            .charge
            .processor()
            .address(&**slice.region(), slice.extent())
        {
            None => Err(slice.unfit("is not in memory of the model's device")),
            Some(address) if address.is_multiple_of(BINDING_ALIGNMENT) => Ok(address),
            Some(_) => Err(slice.unfit("does not start at a multiple of 64 B")),
        };
        slices.iter().map(address).collect()
    }

    /// How often a run asks for memory, all of it through the functions that were replaced.
    pub const fn requests(&self) -> usize {
        self.recorded.requests
    }
}

impl RuntimeBackend for TvmModel {
    fn describe(&self) -> &ModelDescription {
        &self.description
    }

    /// On a GPU a run after the warm-up only enqueues kernels, the same ones for the same binding.
    fn capturable(&self, segment: SegmentIndex) -> bool {
        segment.index() == 0 && matches!(self.charge.processor(), Processor::Gpu { .. })
    }

    fn bind(&mut self, bindings: Bindings) -> Result<BindingId, BackendError> {
        let bound = self.prepare(bindings)?;
        let id = BindingId(u32::try_from(self.bound.len()).unwrap_or(u32::MAX));
        self.bound.push(bound);
        Ok(id)
    }

    fn enqueue(
        &mut self,
        stream: &mut dyn Stream,
        segment: SegmentIndex,
        binding: BindingId,
    ) -> Result<(), BackendError> {
        // Neither refusal below heals by being tried again, which `started` stands for.
        if segment.index() != 0 {
            return Err(self.execution(format!("{segment:?} asked for; the model is one segment, number 0")));
        }
        let Some(bound) = self.bound.get(binding.0 as usize) else {
            let made = self.bound.len();
            return Err(self.execution(format!("binding {} was not made; there are {made}", binding.0)));
        };
        self.run(stream, bound)
    }
}

/// Makes `call` with the lane's stream as the one that the vendor enqueues on. On the host there is none.
fn on_stream<R>(
    charge: &Charge,
    stream: &mut dyn Stream,
    call: impl FnOnce() -> R,
) -> Result<R, BackendError> {
    let Processor::Gpu { id, .. } = *charge.processor() else { return Ok(call()) };
    let set = charge.api().env_set_stream;
    let ran = interop::with_raw_stream(stream, |raw| {
        let mut before = abi::no_object();
        // SAFETY: wants a live stream, which is lent for this closure, and a place for the one before.
        let _set = unsafe { set(abi::CUDA, id, raw, &raw mut before) };
        let result = call();
        // SAFETY: wants the stream that was set before, and no place.
        let _reset = unsafe { set(abi::CUDA, id, before, std::ptr::null_mut()) };
        result
    });
    match ran {
        Some(result) => Ok(result),
        None => {
            stream.finished()?;
            Err(DeviceError::Unsupported { what: "a model of a GPU on another device's stream" }.into())
        }
    }
}

fn parameter_tensor(charge: &Charge, start: u64, parameter: &Parameter) -> Result<Object, Reason> {
    let Parameter { name, element, shape, offset } = parameter;
    let address = start.saturating_add(*offset);
    let tensor = Tensor { address, device: charge.processor().device(), element: *element, shape };
    // SAFETY: `make` wants memory of the tensor's size, aligned and alive: the description was checked against the
    //  part, all of which was copied to `start`, and the model holds it until its tensors are gone.
    unsafe { tensor.make(charge.api()) }.map_err(|reason| format!("parameter `{name}`: {reason}"))
}
