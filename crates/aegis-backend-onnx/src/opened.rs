//! What a model on the host and one on a GPU have in common: a session on memory of a grant, its tensors by name, and
//! buffers of the caller's bound to them.

use std::ffi::CString;
use std::ptr;
use std::rc::Rc;

use aegis_cuda::{
    BackendError, Bindings, DeviceError, DeviceSlice, ModelDescription, ModelRequest, TensorSpec, interop,
};
use aegis_types::{Bytes, Extent, MemoryClass, SegmentIndex};
use ort::AsPointer;
use ort::session::Session;
use ort::sys;

use crate::charge::{Charge, StandIn};
use crate::cuda::driver::Driver;
use crate::cuda::provider::Target;
use crate::inspect::Inspected;
use crate::library::OnnxRuntime;
use crate::raw::{self, IoBinding, MemoryInfo, Reason, Value};
use crate::reference::c_name;
use crate::session::{self, ModelFile, Tensors};
use crate::words;

/// A session and what it stands on. Fields are dropped in this order: the session's memory is the charge's.
pub(crate) struct Opened {
    session: ChargedSession,
    names: Names,
    info: MemoryInfo,
    description: ModelDescription,
    charge: Rc<Charge>,
    /// What the budget counts besides: memory that the library keeps elsewhere.
    stand_in: StandIn,
    _runtime: OnnxRuntime,
}

/// Where a session computes and where its I/O lies.
pub(crate) struct Place {
    /// The memory of the I/O.
    pub(crate) info: MemoryInfo,
    /// The GPU with the lane's stream; `None` on the host.
    pub(crate) gpu: Option<(Driver, Target)>,
}

/// Names of the tensors as the vendor wants them.
struct Names {
    inputs: Vec<CString>,
    outputs: Vec<CString>,
}

/// Buffers bound once: what the library knows, and what must stay alive for it. Dropped before its session.
pub(crate) struct Bound {
    pub(crate) binding: IoBinding,
    _values: Vec<Value>,
    _buffers: Bindings,
}

/// A session whose memory goes back to the charge when it is dropped.
struct ChargedSession {
    session: Option<Session>,
    charge: Rc<Charge>,
    /// The device that it computes on, if it is a GPU.
    device: Option<(Driver, i32)>,
}

impl ChargedSession {
    fn as_ptr(&self) -> *mut sys::OrtSession {
        self.session.as_ref().map_or(ptr::null_mut(), |session| session.ptr().cast_mut())
    }
}

impl Drop for ChargedSession {
    fn drop(&mut self) {
        let _scope = self.charge.enter(MemoryClass::Persistent);
        let session = self.session.take();
        match self.device {
            Some((driver, ordinal)) => driver.on_primary(ordinal, || drop(session)),
            None => drop(session),
        }
    }
}

impl Opened {
    /// Creates the session of `file`, which is the request's or what became of it, on memory of `charge`, at `place`.
    ///
    /// # Errors
    /// As [`aegis_cuda::BackendLoader::load`].
    pub(crate) fn create(
        runtime: &OnnxRuntime,
        request: &ModelRequest<'_>,
        file: ModelFile<'_>,
        description: ModelDescription,
        inspected: &Inspected,
        charge: Rc<Charge>,
        place: Place,
    ) -> Result<Self, BackendError> {
        let invalid = |reason| BackendError::InvalidModel { model: request.name.to_owned(), reason };
        let names = |specs: &[TensorSpec]| {
            specs.iter().map(|spec| c_name(&spec.name)).collect::<Result<_, _>>().map_err(invalid)
        };
        let names = Names { inputs: names(&description.inputs)?, outputs: names(&description.outputs)? };
        let (tensors, device) = match place.gpu {
            None => (Tensors::Charged, None),
            Some((driver, target)) => (Tensors::OnDevice(target), Some((driver, target.ordinal))),
        };
        let opened = {
            let _scope = charge.enter(MemoryClass::Persistent);
            // The wrapper exists before the result is looked at, so that a session is always dropped in a scope.
            session::open(runtime, file, &inspected.named, tensors).map(|session| ChargedSession {
                session: Some(session),
                charge: Rc::clone(&charge),
                device,
            })
        };
        if let Some(source) = charge.take_refusal() {
            return Err(BackendError::Memory { model: request.name.to_owned(), source });
        }
        let session =
            opened.map_err(|message| session::load_error(request.name, &inspected.nodes, &message))?;
        let stand_in = StandIn::none(&charge);
        let info = place.info;
        Ok(Self { session, names, info, description, charge, stand_in, _runtime: runtime.clone() })
    }

    /// Counts `bytes` of persistent memory besides what the library asked for.
    ///
    /// # Errors
    /// [`BackendError::Memory`] if the grant has no room for them.
    pub(crate) fn stand_in(&mut self, bytes: Bytes) -> Result<(), BackendError> {
        self.stand_in = StandIn::reserve(&self.charge, bytes).map_err(|source| self.refused(source))?;
        Ok(())
    }

    /// Closes the session and gives back all of its memory.
    pub(crate) fn close(self) -> (ModelDescription, Rc<Charge>) {
        let Self { session, description, charge, stand_in, .. } = self;
        drop(session);
        drop(stand_in);
        (description, charge)
    }

    /// What the model is.
    pub(crate) const fn description(&self) -> &ModelDescription {
        &self.description
    }

    /// The memory of the model.
    pub(crate) const fn charge(&self) -> &Rc<Charge> {
        &self.charge
    }

    /// The vendor's handle of the session, valid while this lives.
    pub(crate) fn session(&self) -> *mut sys::OrtSession {
        self.session.as_ptr()
    }

    /// Buffers for runs that belong to loading, given back when dropped.
    ///
    /// # Errors
    /// [`BackendError::Memory`] if the grant has no room for them.
    pub(crate) fn temporaries(&self) -> Result<Temporaries, BackendError> {
        let mut lent = Temporaries {
            buffers: Bindings { inputs: Vec::new(), outputs: Vec::new() },
            charge: Rc::clone(&self.charge),
            extents: Vec::new(),
        };
        let buffers = Bindings {
            inputs: self
                .description
                .inputs
                .iter()
                .map(|spec| lent.slice(self, spec))
                .collect::<Result<_, _>>()?,
            outputs: self
                .description
                .outputs
                .iter()
                .map(|spec| lent.slice(self, spec))
                .collect::<Result<_, _>>()?,
        };
        lent.buffers = buffers;
        Ok(lent)
    }

    /// Validates buffers and binds them.
    ///
    /// # Errors
    /// As [`aegis_cuda::RuntimeBackend::bind`].
    pub(crate) fn prepare(&self, buffers: Bindings) -> Result<Bound, BackendError> {
        let description = &self.description;
        buffers.check_sizes(description)?;
        self.check_alignment(&description.inputs, &buffers.inputs)?;
        self.check_alignment(&description.outputs, &buffers.outputs)?;
        buffers.check_overlap()?;
        let _scope = self.charge.enter(MemoryClass::Persistent);
        let bound = self.bind_checked(buffers);
        if let Some(source) = self.charge.take_refusal() {
            return Err(self.refused(source));
        }
        bound.map_err(|reason| BackendError::InvalidModel {
            model: description.name.clone(),
            reason: format!("ONNX Runtime refuses the binding: {reason}"),
        })
    }

    fn check_alignment(&self, specs: &[TensorSpec], slices: &[Rc<DeviceSlice>]) -> Result<(), DeviceError> {
        for (spec, slice) in specs.iter().zip(slices) {
            if !self.address(slice)?.addr().is_multiple_of(spec_alignment(spec)) {
                return Err(slice.unfit("is not aligned to its elements"));
            }
        }
        Ok(())
    }

    fn bind_checked(&self, buffers: Bindings) -> Result<Bound, Reason> {
        // SAFETY: `new` wants a live session that outlives the binding: its users drop what they bound before this.
        let mut binding = unsafe { IoBinding::new(self.session.as_ptr()) }?;
        let mut values = Vec::with_capacity(buffers.inputs.len() + buffers.outputs.len());
        let inputs = self.description.inputs.iter().zip(&self.names.inputs).zip(&buffers.inputs);
        for ((spec, name), slice) in inputs {
            let value = self.value(spec, slice)?;
            binding.input(name, &value)?;
            values.push(value);
        }
        let outputs = self.description.outputs.iter().zip(&self.names.outputs).zip(&buffers.outputs);
        for ((spec, name), slice) in outputs {
            let value = self.value(spec, slice)?;
            binding.output(name, &value)?;
            values.push(value);
        }
        Ok(Bound { binding, _values: values, _buffers: buffers })
    }

    fn value(&self, spec: &TensorSpec, slice: &DeviceSlice) -> Result<Value, Reason> {
        let start = self.address(slice).map_err(|error| error.to_string())?;
        // SAFETY: `over` wants memory of the tensor's size, aligned, alive and left alone while a run uses it.
        //  size and alignment: `prepare` compared them; alive: the buffers stand beside the value in `Bound`;
        //  left alone: a slice is not `Sync`, and the thread that holds it is the one that enqueues runs.
        unsafe { Value::over(&self.info, start, spec) }
    }

    /// Where the library finds a slice.
    fn address(&self, slice: &DeviceSlice) -> Result<*mut u8, DeviceError> {
        let (region, extent) = (&**slice.region(), slice.extent());
        if self.charge.is_on_device() {
            let pointer = |address| ptr::without_provenance_mut(usize::try_from(address).unwrap_or(0));
            return interop::with_device_pointer(region, extent, pointer)
                .ok_or_else(|| slice.unfit("is not in memory that the GPU can address"));
        }
        interop::with_host_pointer(region, extent, |start| start)
            .ok_or_else(|| slice.unfit("is not in memory that the host can address"))
    }

    /// One run of a prepared binding with its temporaries counted as `class`; null options mean the defaults.
    ///
    /// # Safety
    /// `options` is null or live.
    ///
    /// # Errors
    /// [`BackendError::Memory`], [`BackendError::Execution`].
    pub(crate) unsafe fn run(
        &self,
        options: *const sys::OrtRunOptions,
        binding: &IoBinding,
        class: MemoryClass,
    ) -> Result<(), BackendError> {
        let status = {
            let _scope = self.charge.enter(class);
            // SAFETY: wants a live session and a binding of it, both ours, and null or live options: the caller's part.
            unsafe { (ort::api().RunWithBinding)(self.session.as_ptr(), options, binding.as_ptr()) }
        };
        let ran = raw::check(status);
        if let Some(source) = self.charge.take_refusal() {
            return Err(self.refused(source));
        }
        ran.map_err(|reason| self.execution(words::of_run(&reason)))
    }

    /// The binding that a job asks for.
    ///
    /// # Errors
    /// [`BackendError::Execution`]; neither refusal heals by being tried again, which `started` stands for.
    pub(crate) fn asked<'b>(
        &self,
        bound: &'b [Bound],
        segment: SegmentIndex,
        number: u32,
    ) -> Result<&'b Bound, BackendError> {
        if segment.index() != 0 {
            return Err(self.execution(format!("{segment:?} asked for; the model is one segment, number 0")));
        }
        let made = bound.len();
        bound
            .get(number as usize)
            .ok_or_else(|| self.execution(format!("binding {number} was not made; there are {made}")))
    }

    /// That a segment left no scratch behind, which would be the next task's.
    ///
    /// # Errors
    /// [`BackendError::Execution`].
    pub(crate) fn nothing_left(&self) -> Result<(), BackendError> {
        match self.charge.scratch_live() {
            0 => Ok(()),
            left => Err(self.execution(format!("{left} blocks of scratch outlive the segment"))),
        }
    }

    /// That warmed-up runs leave no scratch behind.
    ///
    /// # Errors
    /// [`BackendError::InvalidModel`].
    pub(crate) fn settled(&self) -> Result<(), BackendError> {
        match self.charge.scratch_live() {
            0 => Ok(()),
            left => Err(BackendError::InvalidModel {
                model: self.description.name.clone(),
                reason: format!(
                    "every run keeps more scratch than the one before ({left} blocks); it cannot be bounded"
                ),
            }),
        }
    }

    pub(crate) fn execution(&self, reason: Reason) -> BackendError {
        BackendError::Execution { model: self.description.name.clone(), reason, started: true }
    }

    fn refused(&self, source: aegis_types::GrantRefused) -> BackendError {
        BackendError::Memory { model: self.description.name.clone(), source }
    }
}

/// Buffers for runs that belong to loading, given back when dropped.
pub(crate) struct Temporaries {
    /// Stands first: slices end before their extents are given back.
    pub(crate) buffers: Bindings,
    charge: Rc<Charge>,
    extents: Vec<Extent>,
}

impl Temporaries {
    fn slice(&mut self, opened: &Opened, spec: &TensorSpec) -> Result<Rc<DeviceSlice>, BackendError> {
        let lent = self.charge.grant().allocate(MemoryClass::Exchange, spec.bytes, self.charge.alignment());
        let extent = lent.map_err(|source| opened.refused(source))?;
        self.extents.push(extent);
        // An allocator may round up; the binding wants the tensor's own size.
        let exact = Extent { offset: extent.offset, len: spec.bytes };
        Ok(Rc::new(DeviceSlice::lend(self.charge.region(), exact)?))
    }
}

impl Drop for Temporaries {
    fn drop(&mut self) {
        self.buffers = Bindings { inputs: Vec::new(), outputs: Vec::new() };
        for &extent in &self.extents {
            self.charge.grant().free(MemoryClass::Exchange, extent);
        }
    }
}

fn spec_alignment(spec: &TensorSpec) -> usize {
    usize::try_from(spec.element.size().get()).unwrap_or(crate::charge::ALIGN)
}
