//! A model on a lane: memory lent by the caller is bound once, and a job is one call into the library.

use std::ffi::CString;
use std::ptr;
use std::rc::Rc;
use std::sync::Arc;

use aegis_cuda::{
    BackendError, BindingId, Bindings, DeviceError, DeviceSlice, ModelDescription, ModelRequest,
    RuntimeBackend, Stream, TensorSpec, interop,
};
use aegis_types::{Bytes, Extent, MemoryClass, SegmentIndex};
use ort::AsPointer;
use ort::session::Session;

use crate::charge::{ALIGN, Charge, StandIn};
use crate::inspect::Inspected;
use crate::library::OnnxRuntime;
use crate::raw::{self, IoBinding, MemoryInfo, Reason, Value};
use crate::reference::c_name;
use crate::session::{self, Tensors};

/// Warm-up runs at load: the first records the sizes of temporaries, the second allocates by that record, as every
/// later one does.
const WARM_UP_RUNS: u32 = 2;

/// A loaded model. Fields are dropped in this order: bindings name the session, the session's memory is the charge's.
pub struct OnnxModel {
    bound: Vec<Bound>,
    session: ChargedSession,
    names: Names,
    info: MemoryInfo,
    description: ModelDescription,
    charge: Rc<Charge>,
    _weights: StandIn,
    _runtime: OnnxRuntime,
}

/// Names of the tensors as the vendor wants them.
struct Names {
    inputs: Vec<CString>,
    outputs: Vec<CString>,
}

/// Buffers bound once: what the library knows, and what must stay alive for it.
struct Bound {
    binding: IoBinding,
    _values: Vec<Value>,
    _buffers: Bindings,
}

/// A session whose memory goes back to the charge when it is dropped.
struct ChargedSession {
    session: Option<Session>,
    charge: Rc<Charge>,
}

impl ChargedSession {
    fn as_ptr(&self) -> *mut ort::sys::OrtSession {
        self.session.as_ref().map_or(ptr::null_mut(), |session| session.ptr().cast_mut())
    }
}

impl Drop for ChargedSession {
    fn drop(&mut self) {
        let _scope = self.charge.enter(MemoryClass::Persistent);
        self.session = None;
    }
}

impl OnnxModel {
    /// Creates the session and warms it up, all on memory of `charge`.
    ///
    /// The library builds a model's constants before the session has an allocator, so they lie on its own heap whatever
    /// allocator is registered. Their stored size is reserved from the grant all the same, and left untouched: the
    /// budget counts them. What kernels prepare from them goes through the allocator and is counted besides.
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
        let mut model = Self::create(runtime, request, description, inspected, charge)?;
        model.warm_up(MemoryClass::Scratch)?;
        if model.charge.scratch_live() > 0 {
            let Self { bound, session, description, charge, _weights: weights, .. } = model;
            drop(bound);
            drop(session);
            drop(weights);
            model = Self::create(runtime, request, description, inspected, charge)?;
            model.warm_up(MemoryClass::Persistent)?;
        }
        model.warm_up(MemoryClass::Scratch)?;
        match model.charge.scratch_live() {
            0 => Ok(model),
            left => Err(BackendError::InvalidModel {
                model: request.name.to_owned(),
                reason: format!(
                    "every run keeps more scratch than the one before ({left} blocks); it cannot be bounded"
                ),
            }),
        }
    }

    fn create(
        runtime: &OnnxRuntime,
        request: &ModelRequest<'_>,
        description: ModelDescription,
        inspected: &Inspected,
        charge: Rc<Charge>,
    ) -> Result<Self, BackendError> {
        let invalid = |reason| BackendError::InvalidModel { model: request.name.to_owned(), reason };
        let names = |specs: &[TensorSpec]| {
            specs.iter().map(|spec| c_name(&spec.name)).collect::<Result<_, _>>().map_err(invalid)
        };
        let names = Names { inputs: names(&description.inputs)?, outputs: names(&description.outputs)? };
        let info = MemoryInfo::host().map_err(invalid)?;
        let weights = StandIn::reserve(&charge, description.memory.weights)
            .map_err(|source| BackendError::Memory { model: request.name.to_owned(), source })?;
        let opened = {
            let _scope = charge.enter(MemoryClass::Persistent);
            // The wrapper exists before the result is looked at, so that a session is always dropped in a scope.
            session::open(runtime, request.artifact, &inspected.named, Tensors::Charged)
                .map(|session| ChargedSession { session: Some(session), charge: Rc::clone(&charge) })
        };
        if let Some(source) = charge.take_refusal() {
            return Err(BackendError::Memory { model: request.name.to_owned(), source });
        }
        let session =
            opened.map_err(|message| session::load_error(request.name, &inspected.nodes, &message))?;
        Ok(Self {
            bound: Vec::new(),
            session,
            names,
            info,
            description,
            charge,
            _weights: weights,
            _runtime: runtime.clone(),
        })
    }

    /// Runs on zeros in temporary buffers, which are given back.
    fn warm_up(&mut self, class: MemoryClass) -> Result<(), BackendError> {
        let charge = Rc::clone(&self.charge);
        let mut lent = Temporaries { charge: &charge, extents: Vec::new() };
        let specs = |specs: &[TensorSpec]| specs.iter().map(|spec| spec.bytes).collect::<Vec<_>>();
        let (inputs, outputs) = (specs(&self.description.inputs), specs(&self.description.outputs));
        let buffers = Bindings {
            inputs: lent.slices(&self.description.name, &inputs)?,
            outputs: lent.slices(&self.description.name, &outputs)?,
        };
        for (slice, &bytes) in buffers.inputs.iter().zip(&inputs) {
            slice.write(&vec![0; usize::try_from(bytes.get()).unwrap_or(usize::MAX)]);
        }
        let bound = self.prepare(buffers)?;
        (0..WARM_UP_RUNS).try_for_each(|_| self.run(&bound.binding, class))
    }

    /// Validates buffers and binds them.
    fn prepare(&self, buffers: Bindings) -> Result<Bound, BackendError> {
        let description = &self.description;
        self.check(&description.inputs, &buffers.inputs, "input")?;
        self.check(&description.outputs, &buffers.outputs, "output")?;
        check_overlap(&buffers)?;
        let _scope = self.charge.enter(MemoryClass::Persistent);
        let bound = self.bind_checked(buffers);
        if let Some(source) = self.charge.take_refusal() {
            return Err(BackendError::Memory { model: description.name.clone(), source });
        }
        bound.map_err(|reason| BackendError::InvalidModel {
            model: description.name.clone(),
            reason: format!("ONNX Runtime refuses the binding: {reason}"),
        })
    }

    fn check(
        &self,
        specs: &[TensorSpec],
        slices: &[Rc<DeviceSlice>],
        what: &'static str,
    ) -> Result<(), BackendError> {
        let model = || self.description.name.clone();
        if specs.len() != slices.len() {
            let (expected, got) = (specs.len(), slices.len());
            return Err(BackendError::BindingCount { model: model(), what, expected, got });
        }
        for (spec, slice) in specs.iter().zip(slices) {
            if slice.len() != spec.bytes {
                let (expected, got) = (spec.bytes, slice.len());
                return Err(BackendError::Binding {
                    model: model(),
                    tensor: spec.name.clone(),
                    expected,
                    got,
                });
            }
            let aligned = address(slice)?.addr().is_multiple_of(spec_alignment(spec));
            if !aligned {
                return Err(bad_slice(slice, "is not aligned to its elements").into());
            }
        }
        Ok(())
    }

    fn bind_checked(&self, buffers: Bindings) -> Result<Bound, Reason> {
        // SAFETY: `new` wants a live session that outlives the binding: `bound` is dropped before `session`.
        let mut binding = unsafe { IoBinding::new(self.session.as_ptr()) }?;
        let mut values = Vec::with_capacity(buffers.inputs.len() + buffers.outputs.len());
        for ((spec, name), slice) in
            self.description.inputs.iter().zip(&self.names.inputs).zip(&buffers.inputs)
        {
            let value = self.value(spec, slice)?;
            binding.input(name, &value)?;
            values.push(value);
        }
        for ((spec, name), slice) in
            self.description.outputs.iter().zip(&self.names.outputs).zip(&buffers.outputs)
        {
            let value = self.value(spec, slice)?;
            binding.output(name, &value)?;
            values.push(value);
        }
        Ok(Bound { binding, _values: values, _buffers: buffers })
    }

    fn value(&self, spec: &TensorSpec, slice: &DeviceSlice) -> Result<Value, Reason> {
        let start = address(slice).map_err(|error| error.to_string())?;
        // SAFETY: `over` wants memory of the tensor's size, aligned, alive and left alone while a run uses it.
        //  size and alignment: `check` compared them; alive: the buffers stand beside the value in `Bound`;
        //  left alone: a slice is not `Sync`, and the thread that holds it is inside the run.
        unsafe { Value::over(&self.info, start, spec) }
    }

    /// One run of a prepared binding with its temporaries counted as `class`.
    fn run(&self, binding: &IoBinding, class: MemoryClass) -> Result<(), BackendError> {
        let status = {
            let _scope = self.charge.enter(class);
            // SAFETY: wants a live session and a binding of it; both are ours, and null options mean the defaults.
            unsafe { (ort::api().RunWithBinding)(self.session.as_ptr(), ptr::null(), binding.as_ptr()) }
        };
        let ran = raw::check(status);
        if let Some(source) = self.charge.take_refusal() {
            return Err(BackendError::Memory { model: self.description.name.clone(), source });
        }
        ran.map_err(|reason| self.execution(reason))
    }

    fn execution(&self, reason: Reason) -> BackendError {
        BackendError::Execution { model: self.description.name.clone(), reason, started: true }
    }
}

impl RuntimeBackend for OnnxModel {
    fn describe(&self) -> &ModelDescription {
        &self.description
    }

    fn bind(&mut self, bindings: Bindings) -> Result<BindingId, BackendError> {
        let bound = self.prepare(bindings)?;
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
        // Neither refusal below heals by being tried again, which `started` stands for.
        if segment.index() != 0 {
            return Err(self.execution(format!("{segment:?} asked for; the model is one segment, number 0")));
        }
        let Some(bound) = self.bound.get(binding.0 as usize) else {
            let made = self.bound.len();
            return Err(self.execution(format!("binding {} was not made; there are {made}", binding.0)));
        };
        self.run(&bound.binding, MemoryClass::Scratch)?;
        match self.charge.scratch_live() {
            0 => Ok(()),
            left => Err(self.execution(format!("{left} blocks of scratch outlive the segment"))),
        }
    }
}

/// Buffers for the warm-up, given back when dropped.
struct Temporaries<'c> {
    charge: &'c Charge,
    extents: Vec<Extent>,
}

impl Temporaries<'_> {
    fn slices(&mut self, model: &str, sizes: &[Bytes]) -> Result<Vec<Rc<DeviceSlice>>, BackendError> {
        let mut slices = Vec::with_capacity(sizes.len());
        for &bytes in sizes {
            let extent = self
                .charge
                .grant()
                .allocate(MemoryClass::Exchange, bytes, Bytes::new(ALIGN as u64))
                .map_err(|source| BackendError::Memory { model: model.to_owned(), source })?;
            self.extents.push(extent);
            // An allocator may round up; the binding wants the tensor's own size.
            let exact = Extent { offset: extent.offset, len: bytes };
            slices.push(Rc::new(DeviceSlice::lend(self.charge.region(), exact)?));
        }
        Ok(slices)
    }
}

impl Drop for Temporaries<'_> {
    fn drop(&mut self) {
        for &extent in &self.extents {
            self.charge.grant().free(MemoryClass::Exchange, extent);
        }
    }
}

/// Outputs share no bytes with any other tensor: kernels write outputs while they still read inputs.
fn check_overlap(buffers: &Bindings) -> Result<(), DeviceError> {
    for (position, output) in buffers.outputs.iter().enumerate() {
        let others = buffers.inputs.iter().chain(&buffers.outputs[position + 1..]);
        for other in others {
            let same_region = Arc::ptr_eq(output.region(), other.region());
            if same_region && output.extent().overlaps(&other.extent()) {
                return Err(bad_slice(output, "is bound as an output and as another tensor"));
            }
        }
    }
    Ok(())
}

fn spec_alignment(spec: &TensorSpec) -> usize {
    usize::try_from(spec.element.size().get()).unwrap_or(ALIGN)
}

fn address(slice: &DeviceSlice) -> Result<*mut u8, DeviceError> {
    interop::with_host_pointer(&**slice.region(), slice.extent(), |start| start)
        .ok_or_else(|| bad_slice(slice, "is not in memory that the host can address"))
}

fn bad_slice(slice: &DeviceSlice, reason: &'static str) -> DeviceError {
    let Extent { offset, len } = slice.extent();
    DeviceError::BadSlice { offset, len, region: slice.region().size(), reason }
}
