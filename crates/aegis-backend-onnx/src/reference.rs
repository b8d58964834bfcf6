//! Plain ONNX Runtime: its own memory, no grants, outputs copied out. What the backend's outputs are compared with.

use std::collections::BTreeMap;
use std::ffi::{CString, c_char};
use std::ptr;

use aegis_cuda::{BackendError, ElementType, ModelRequest, TensorSpec};
use aegis_types::Bytes;
use ort::AsPointer;
use ort::session::Session;

use crate::cuda::driver::Driver;
use crate::cuda::provider::{Rules, Target};
use crate::inspect::{self, Inspected};
use crate::library::{OnnxRuntime, library_error};
use crate::raw::{self, MemoryInfo, Reason, Value};
use crate::segment::{Chain, Split};
use crate::session::{self, ModelFile, Tensors};

/// A model that runs plainly.
pub struct Reference {
    model: String,
    session: Session,
    info: MemoryInfo,
    inputs: Vec<TensorSpec>,
    input_names: Vec<CString>,
    outputs: Vec<(CString, ElementType)>,
    /// The model's pieces, where it is to be run in pieces.
    chain: Option<Chain>,
    /// Last, so that the environment outlives the session.
    _runtime: OnnxRuntime,
}

/// An output of a plain run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// Length of each axis.
    pub shape: Vec<u64>,
    /// Its elements, packed.
    pub bytes: Vec<u8>,
}

impl Reference {
    /// Opens a model with its axes fixed by `shapes`. Control flow is accepted. A model whose file lists cuts runs
    /// piece by piece, as the backend runs it.
    ///
    /// # Errors
    /// As [`aegis_cuda::BackendLoader::inspect`].
    pub fn open(
        runtime: &OnnxRuntime,
        artifact: &[u8],
        shapes: &BTreeMap<String, Vec<u64>>,
    ) -> Result<Self, BackendError> {
        let request = ModelRequest { name: "reference", artifact, shapes, allow_control_flow: true };
        let inspected = inspect::inspect(&request)?;
        let mut whole = Self::from_inspected(runtime, &request, &inspected)?;
        if let Some(split) = Split::of(runtime, &request, &inspected)? {
            whole.chain = Some(Chain::open(runtime, &request, split)?);
        }
        Ok(whole)
    }

    /// As [`Reference::open`], but in one piece whatever cuts the file lists.
    ///
    /// # Errors
    /// As [`Reference::open`].
    pub fn open_whole(
        runtime: &OnnxRuntime,
        artifact: &[u8],
        shapes: &BTreeMap<String, Vec<u64>>,
    ) -> Result<Self, BackendError> {
        let request = ModelRequest { name: "reference", artifact, shapes, allow_control_flow: true };
        Self::from_inspected(runtime, &request, &inspect::inspect(&request)?)
    }

    /// As [`Reference::open_whole`], on the GPU of that number with the library's own stream and arenas. Inputs and
    /// outputs stay on the host: each run copies them, and waits.
    ///
    /// # Errors
    /// As [`Reference::open`], and [`BackendError::Library`] for a GPU that cannot be had.
    pub fn open_on_gpu(
        runtime: &OnnxRuntime,
        artifact: &[u8],
        shapes: &BTreeMap<String, Vec<u64>>,
        ordinal: u32,
    ) -> Result<Self, BackendError> {
        let request = ModelRequest { name: "reference", artifact, shapes, allow_control_flow: true };
        let ordinal = i32::try_from(ordinal)
            .map_err(|_| library_error(format!("no library knows a device of number {ordinal}")))?;
        let driver = Driver::find().map_err(library_error)?;
        runtime.adopt_device(ordinal, driver).map_err(library_error)?;
        let inspected = inspect::inspect(&request)?;
        // The second rules are the provider's own choice.
        let target = Target { ordinal, stream: None, rules: Rules::Second };
        Self::opened(runtime, &request, &inspected, Tensors::PlainOnDevice(target))
    }

    pub(crate) fn from_inspected(
        runtime: &OnnxRuntime,
        request: &ModelRequest<'_>,
        inspected: &Inspected,
    ) -> Result<Self, BackendError> {
        Self::opened(runtime, request, inspected, Tensors::Plain)
    }

    fn opened(
        runtime: &OnnxRuntime,
        request: &ModelRequest<'_>,
        inspected: &Inspected,
        tensors: Tensors,
    ) -> Result<Self, BackendError> {
        let session = session::open(runtime, ModelFile::Brought(request.artifact), &inspected.named, tensors)
            .map_err(|message| session::load_error(request.name, &inspected.nodes, &message))?;
        let outputs: Vec<(String, ElementType)> =
            inspected.outputs.iter().map(|output| (output.name.clone(), output.element)).collect();
        Self::around(runtime, request.name, session, &inspected.inputs, &outputs)
    }

    /// A plain model of a session that is open, of which these outputs are wanted.
    pub(crate) fn around(
        runtime: &OnnxRuntime,
        model: &str,
        session: Session,
        inputs: &[TensorSpec],
        outputs: &[(String, ElementType)],
    ) -> Result<Self, BackendError> {
        let fail = |reason| BackendError::InvalidModel { model: model.to_owned(), reason };
        let name = |text: &str| c_name(text).map_err(fail);
        Ok(Self {
            model: model.to_owned(),
            session,
            info: MemoryInfo::host().map_err(fail)?,
            input_names: inputs.iter().map(|input| name(&input.name)).collect::<Result<_, _>>()?,
            inputs: inputs.to_vec(),
            outputs: outputs
                .iter()
                .map(|(output, element)| Ok((name(output)?, *element)))
                .collect::<Result<_, BackendError>>()?,
            chain: None,
            _runtime: runtime.clone(),
        })
    }

    /// The name it goes by in messages.
    pub(crate) fn model(&self) -> &str {
        &self.model
    }

    /// The inputs, in the order in which [`Reference::run`] takes them.
    pub fn inputs(&self) -> &[TensorSpec] {
        &self.inputs
    }

    /// Runs the model once on packed elements and returns the outputs in the model's order.
    ///
    /// # Errors
    /// [`BackendError::BindingCount`], [`BackendError::Binding`] if the inputs do not fit, or
    /// [`BackendError::Execution`] with the library's message.
    pub fn run(&mut self, inputs: &[Vec<u8>]) -> Result<Vec<Vec<u8>>, BackendError> {
        Ok(self.run_shaped(inputs)?.into_iter().map(|tensor| tensor.bytes).collect())
    }

    /// As [`Reference::run`], with the shapes that the outputs turned out to have.
    ///
    /// # Errors
    /// As [`Reference::run`].
    pub fn run_shaped(&mut self, inputs: &[Vec<u8>]) -> Result<Vec<Tensor>, BackendError> {
        self.check_inputs(inputs)?;
        if let Some(chain) = &mut self.chain {
            return chain.run(inputs);
        }
        self.run_checked(inputs).map_err(|reason| BackendError::Execution {
            model: self.model.clone(),
            reason,
            started: true,
        })
    }

    fn check_inputs(&self, inputs: &[Vec<u8>]) -> Result<(), BackendError> {
        let (model, expected) = (self.model.clone(), self.inputs.len());
        if inputs.len() != expected {
            return Err(BackendError::BindingCount { model, what: "input", expected, got: inputs.len() });
        }
        for (spec, bytes) in self.inputs.iter().zip(inputs) {
            if bytes.len() as u64 != spec.bytes.get() {
                let (tensor, got) = (spec.name.clone(), Bytes::new(bytes.len() as u64));
                return Err(BackendError::Binding { model, tensor, expected: spec.bytes, got });
            }
        }
        Ok(())
    }

    fn run_checked(&mut self, inputs: &[Vec<u8>]) -> Result<Vec<Tensor>, Reason> {
        let mut buffers: Vec<Vec<Line>> = inputs.iter().map(|bytes| lines(bytes)).collect();
        let mut values = Vec::with_capacity(buffers.len());
        for (spec, buffer) in self.inputs.iter().zip(&mut buffers) {
            // SAFETY: `over` wants aligned memory of the tensor's size that lives and is left alone while a run uses
            // it. `check_inputs` compared the sizes, lines are aligned to 64, `buffers` outlives the run below.
            values.push(unsafe { Value::over(&self.info, buffer.as_mut_ptr().cast(), spec) }?);
        }
        let handles: Vec<_> = values.iter().map(Value::as_ptr).collect();
        let input_names: Vec<*const c_char> = self.input_names.iter().map(|name| name.as_ptr()).collect();
        let output_names: Vec<*const c_char> = self.outputs.iter().map(|output| output.0.as_ptr()).collect();
        let mut made = vec![ptr::null_mut(); output_names.len()];
        // SAFETY: `Run` wants a live session, names and values in equal number, and room for every output.
        //  all of them are borrowed from `self` or stand on this frame; null run options mean the defaults.
        let status = unsafe {
            (ort::api().Run)(
                self.session.ptr().cast_mut(),
                ptr::null(),
                input_names.as_ptr(),
                handles.as_ptr(),
                handles.len(),
                output_names.as_ptr(),
                output_names.len(),
                made.as_mut_ptr(),
            )
        };
        let ran = raw::check(status);
        // SAFETY: `from_run` wants null or a live value of ours: `made` was null before, and the run handed over
        // whatever it stored.
        let outputs: Vec<Option<Value>> =
            made.into_iter().map(|value| unsafe { Value::from_run(value) }).collect();
        ran?;
        outputs.into_iter().zip(&self.outputs).map(|(value, output)| copy(value, output.1)).collect()
    }
}

fn copy(value: Option<Value>, element: ElementType) -> Result<Tensor, Reason> {
    let mut value = value.ok_or("the run made no value for an output")?;
    let shape = value.shape()?;
    let bytes = shape.iter().try_fold(element.size().get(), |size, &axis| size.checked_mul(axis));
    let bytes = bytes.and_then(|bytes| usize::try_from(bytes).ok()).ok_or("an output cannot be addressed")?;
    // SAFETY: `copy_out` wants a tensor of at least so many bytes: the library just reported its shape, and the
    // element type was checked against the library's own by the session.
    let bytes = unsafe { value.copy_out(bytes) }?;
    Ok(Tensor { shape, bytes })
}

/// A name as the vendor wants it.
pub(crate) fn c_name(name: &str) -> Result<CString, Reason> {
    CString::new(name).map_err(|_| format!("the name {name:?} contains a zero byte"))
}

/// A cache line, so that buffers are aligned as kernels like them.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Line([u8; 64]);

fn lines(bytes: &[u8]) -> Vec<Line> {
    let mut buffer = Vec::with_capacity(bytes.len().div_ceil(64));
    for chunk in bytes.chunks(64) {
        let mut line = [0; 64];
        line[..chunk.len()].copy_from_slice(chunk);
        buffer.push(Line(line));
    }
    buffer
}
