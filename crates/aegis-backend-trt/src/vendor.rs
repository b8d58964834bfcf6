//! The vendor's objects, owned: each keeps its parent alive, so that children go first, as the vendor asks.

use std::ffi::{CStr, CString, c_void};
use std::ptr::NonNull;
use std::rc::Rc;

use crate::bindings::{
    SHIM_AXES, ShimContext, ShimEngine, ShimError, ShimRuntime, ShimShape, ShimTable, ShimTensor,
};
use crate::journal::one_line;
use crate::library::{FILLED, TensorRt};
use crate::supply::Supply;

/// The end of a profile's range of shapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    Least = 0,
    Largest = 2,
}

/// A runtime with the memory of one plan.
pub(crate) struct Runtime {
    library: TensorRt,
    raw: NonNull<ShimRuntime>,
    /// In a box of its own, because the library keeps its address.
    supply: Box<Supply>,
}

/// A plan that was read.
pub(crate) struct Engine {
    raw: NonNull<ShimEngine>,
    runtime: Rc<Runtime>,
}

/// What runs a plan, on memory that it is given.
pub(crate) struct Context {
    raw: NonNull<ShimContext>,
    engine: Rc<Engine>,
}

/// An input or output as the plan declares it.
#[derive(Clone, Debug)]
pub(crate) struct Declared {
    pub(crate) name: CString,
    /// The vendor's number of its element type.
    pub(crate) element: i32,
    pub(crate) is_input: bool,
    pub(crate) on_host: bool,
    /// How its elements lie, in the vendor's words; `None` where they lie one behind the other.
    pub(crate) format: Option<String>,
    /// Lengths of the axes, -1 for an open one; `None` where even their number is open.
    pub(crate) shape: Option<Vec<i64>>,
}

impl Runtime {
    /// Makes a runtime whose device memory comes from `supply`.
    ///
    /// # Errors
    /// Why the library made none.
    pub(crate) fn new(library: &TensorRt, supply: Supply) -> Result<Self, String> {
        let supply = Box::new(supply);
        let memory = supply.functions();
        let new = library.table().runtime_new.expect(FILLED);
        let mut returned = 0;
        library.journal().take();
        // SAFETY: `runtime_new` wants the library's own function, a version that it takes, a logger that lives until
        //  the process ends, memory whose owner outlives the runtime (`Drop` deletes that first), and a place.
        let raw = unsafe {
            new(
                Some(library.create()),
                library.told(),
                library.logger(),
                &raw const memory,
                &raw mut returned,
            )
        };
        match NonNull::new(raw) {
            Some(raw) => Ok(Self { library: library.clone(), raw, supply }),
            None => {
                let mut said = library.journal().take();
                if returned != 0 {
                    said.push(format!("it returned {returned:#x}, as it does without a usable driver"));
                }
                Err(if said.is_empty() { "the library gave no reason".to_owned() } else { said.join("; ") })
            }
        }
    }

    pub(crate) fn supply(&self) -> &Supply {
        &self.supply
    }

    pub(crate) fn library(&self) -> &TensorRt {
        &self.library
    }

    /// What the library recorded and said on this thread since it was last asked, in one line.
    pub(crate) fn reasons(&self) -> String {
        let mut reasons = Vec::new();
        let (error_of, forget) =
            (self.table().runtime_error.expect(FILLED), self.table().runtime_forget.expect(FILLED));
        for number in 0.. {
            let mut error = ShimError { code: 0, text: [0; _] };
            // SAFETY: `runtime_error` wants a live runtime and a place.
            if unsafe { error_of(self.raw.as_ptr(), number, &raw mut error) } == 0 {
                break;
            }
            // SAFETY: `from_ptr` wants a text that ends inside its place: the shim ends every one.
            let text = unsafe { CStr::from_ptr(error.text.as_ptr()) };
            reasons.push(format!("{} ({})", one_line(&text.to_string_lossy()), code_name(error.code)));
        }
        let lost = self.table().runtime_lost.expect(FILLED);
        // SAFETY: `runtime_lost` wants a live runtime.
        let lost = unsafe { lost(self.raw.as_ptr()) };
        if lost > 0 {
            reasons.push(format!("and {lost} more errors"));
        }
        // SAFETY: `runtime_forget` wants a live runtime.
        unsafe { forget(self.raw.as_ptr()) };
        // The library writes most errors to both; the recorder's text is part of the logger's.
        for said in self.library.journal().take() {
            if !reasons.iter().any(|known| known.split(" (").next().is_some_and(|text| said.contains(text))) {
                reasons.push(said);
            }
        }
        if reasons.is_empty() { "the library gave no reason".to_owned() } else { reasons.join("; ") }
    }

    fn table(&self) -> &'static ShimTable {
        self.library.table()
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        let delete = self.table().runtime_delete.expect(FILLED);
        // SAFETY: `runtime_delete` wants a live runtime without engines: each of those keeps this alive.
        unsafe { delete(self.raw.as_ptr()) }
    }
}

impl Engine {
    /// Reads a plan; `None` where the library refuses it.
    pub(crate) fn read(runtime: &Rc<Runtime>, plan: &[u8]) -> Option<Self> {
        let new = runtime.table().engine_new.expect(FILLED);
        // SAFETY: `engine_new` wants a live runtime and bytes that live for the call.
        let raw = unsafe { new(runtime.raw.as_ptr(), plan.as_ptr().cast(), plan.len() as u64) };
        NonNull::new(raw).map(|raw| Self { raw, runtime: Rc::clone(runtime) })
    }

    pub(crate) fn runtime(&self) -> &Rc<Runtime> {
        &self.runtime
    }

    /// Layers after the builder has fused what it could.
    pub(crate) fn layers(&self) -> u32 {
        self.count(self.runtime.table().engine_layers)
    }

    /// Streams beside the one that it is enqueued on.
    pub(crate) fn streams(&self) -> u32 {
        self.count(self.runtime.table().engine_streams)
    }

    /// Ranges of shapes that it was built for.
    pub(crate) fn profiles(&self) -> u32 {
        self.count(self.runtime.table().engine_profiles)
    }

    /// Its inputs and outputs, in the plan's order.
    pub(crate) fn tensors(&self) -> Vec<Declared> {
        let tensor_of = self.runtime.table().engine_tensor.expect(FILLED);
        let numbers = 0..self.count(self.runtime.table().engine_tensors);
        numbers
            .filter_map(|number| {
                let shape = unknown();
                let mut tensor = ShimTensor {
                    name: std::ptr::null(),
                    element: 0,
                    mode: 0,
                    on_host: 0,
                    linear: 0,
                    format: std::ptr::null(),
                    shape,
                };
                let number = i32::try_from(number).ok()?;
                // SAFETY: `engine_tensor` wants a live engine and a place.
                let found = unsafe { tensor_of(self.raw.as_ptr(), number, &raw mut tensor) };
                (found != 0).then(|| declared(&tensor))
            })
            .collect()
    }

    /// The least or largest shape that a profile takes for an input.
    pub(crate) fn limit(&self, name: &CStr, profile: u32, which: Limit) -> Option<Vec<i64>> {
        let limit_of = self.runtime.table().engine_limit.expect(FILLED);
        let mut shape = unknown();
        let profile = i32::try_from(profile).ok()?;
        // SAFETY: `engine_limit` wants a live engine, a name that ends and a place.
        unsafe { limit_of(self.raw.as_ptr(), name.as_ptr(), profile, which as i32, &raw mut shape) }
        axes(&shape)
    }

    fn count(&self, of: Option<unsafe extern "C" fn(*const ShimEngine) -> i32>) -> u32 {
        let of = of.expect(FILLED);
        // SAFETY: the functions that count want a live engine.
        let count = unsafe { of(self.raw.as_ptr()) };
        u32::try_from(count).unwrap_or(0)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let delete = self.runtime.table().engine_delete.expect(FILLED);
        // SAFETY: `engine_delete` wants a live engine without contexts: each of those keeps this alive.
        unsafe { delete(self.raw.as_ptr()) }
    }
}

impl Context {
    /// Makes a context without scratch; `None` where the library makes none.
    pub(crate) fn new(engine: &Rc<Engine>) -> Option<Self> {
        let new = engine.runtime.table().context_new.expect(FILLED);
        // SAFETY: `context_new` wants a live runtime and a live engine of it.
        let raw = unsafe { new(engine.runtime.raw.as_ptr(), engine.raw.as_ptr()) };
        NonNull::new(raw).map(|raw| Self { raw, engine: Rc::clone(engine) })
    }

    pub(crate) fn engine(&self) -> &Rc<Engine> {
        &self.engine
    }

    /// Chooses the range of shapes; what that copies is enqueued on a stream. Whether the library took it.
    pub(crate) fn set_profile(&mut self, profile: u32, stream: *mut c_void) -> bool {
        let set = self.table().context_profile.expect(FILLED);
        let profile = i32::try_from(profile).unwrap_or(-1);
        // SAFETY: `context_profile` wants a live context and a live stream of the current CUDA context.
        unsafe { set(self.raw.as_ptr(), profile, stream) != 0 }
    }

    /// Fixes the shape of an input. Whether the library took it.
    pub(crate) fn set_shape(&mut self, name: &CStr, lengths: &[u64]) -> bool {
        let mut shape = ShimShape { rank: i32::try_from(lengths.len()).unwrap_or(-1), axes: [0; _] };
        if lengths.len() > shape.axes.len() {
            return false;
        }
        for (axis, &length) in shape.axes.iter_mut().zip(lengths) {
            *axis = i64::try_from(length).unwrap_or(-1);
        }
        let set = self.table().context_shape.expect(FILLED);
        // SAFETY: `context_shape` wants a live context, a name that ends and a shape of eight axes at most.
        unsafe { set(self.raw.as_ptr(), name.as_ptr(), &raw const shape) != 0 }
    }

    /// Works the shapes of outputs out. Whether the library could.
    pub(crate) fn infer(&mut self) -> bool {
        let infer = self.table().context_infer.expect(FILLED);
        // SAFETY: `context_infer` wants a live context.
        unsafe { infer(self.raw.as_ptr()) == 0 }
    }

    /// The shape of a tensor as far as it is known.
    pub(crate) fn shape(&self, name: &CStr) -> Option<Vec<i64>> {
        let shape_of = self.table().context_inferred.expect(FILLED);
        let mut shape = unknown();
        // SAFETY: `context_inferred` wants a live context, a name that ends and a place.
        unsafe { shape_of(self.raw.as_ptr(), name.as_ptr(), &raw mut shape) }
        axes(&shape)
    }

    /// Bytes of scratch for the shapes that were fixed.
    pub(crate) fn scratch_bytes(&mut self) -> u64 {
        let bytes_of = self.table().context_scratch_bytes.expect(FILLED);
        // SAFETY: `context_scratch_bytes` wants a live context and its engine.
        let bytes = unsafe { bytes_of(self.raw.as_ptr(), self.engine.raw.as_ptr()) };
        u64::try_from(bytes).unwrap_or(0)
    }

    /// Gives the context its scratch.
    ///
    /// # Safety
    /// The address is good for so many bytes until the work enqueued after this call is done, or for as long as a graph
    /// that records it is replayed.
    pub(crate) unsafe fn set_scratch(&mut self, address: u64, bytes: u64) {
        let set = self.table().context_scratch.expect(FILLED);
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        // SAFETY: `context_scratch` wants a live context, and memory as this function asks for.
        unsafe { set(self.raw.as_ptr(), address as *mut c_void, bytes) }
    }

    /// Gives a tensor its memory. Whether the library took it.
    ///
    /// # Safety
    /// As [`set_scratch`](Self::set_scratch), for the tensor's bytes.
    pub(crate) unsafe fn set_address(&mut self, name: &CStr, address: u64) -> bool {
        let set = self.table().context_address.expect(FILLED);
        // SAFETY: `context_address` wants a live context, a name that ends, and memory as this function asks for.
        unsafe { set(self.raw.as_ptr(), name.as_ptr(), address as *mut c_void) != 0 }
    }

    /// Enqueues the plan. Whether the library did.
    ///
    /// # Safety
    /// Every tensor and the scratch have their memory, and the stream is a live one of the current CUDA context.
    pub(crate) unsafe fn enqueue(&mut self, stream: *mut c_void) -> bool {
        let enqueue = self.table().context_enqueue.expect(FILLED);
        // SAFETY: `context_enqueue` wants a live context, and what this function asks for.
        unsafe { enqueue(self.raw.as_ptr(), stream) != 0 }
    }

    fn table(&self) -> &'static ShimTable {
        self.engine.runtime.table()
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        let delete = self.table().context_delete.expect(FILLED);
        // SAFETY: `context_delete` wants a live context.
        unsafe { delete(self.raw.as_ptr()) }
    }
}

const fn unknown() -> ShimShape {
    ShimShape { rank: -1, axes: [0; SHIM_AXES as usize] }
}

fn axes(shape: &ShimShape) -> Option<Vec<i64>> {
    let rank = usize::try_from(shape.rank).ok()?;
    shape.axes.get(..rank).map(<[i64]>::to_vec)
}

fn declared(tensor: &ShimTensor) -> Declared {
    let text = |text: *const std::ffi::c_char| {
        if text.is_null() {
            return CString::default();
        }
        // SAFETY: `from_ptr` wants a text that ends and lives: the engine's, which is alive during this call.
        unsafe { CStr::from_ptr(text) }.to_owned()
    };
    Declared {
        name: text(tensor.name),
        element: tensor.element,
        is_input: tensor.mode == 1,
        on_host: tensor.on_host != 0,
        format: (tensor.linear == 0).then(|| one_line(&text(tensor.format).to_string_lossy())),
        shape: axes(&tensor.shape),
    }
}

/// The vendor's word for an error code.
fn code_name(code: i32) -> String {
    let words = [
        "success",
        "unspecified error",
        "internal error",
        "invalid argument",
        "invalid configuration",
        "failed allocation",
        "failed initialization",
        "failed execution",
        "failed computation",
        "invalid state",
        "unsupported state",
    ];
    let word = usize::try_from(code).ok().and_then(|code| words.get(code));
    word.map_or_else(|| format!("error {code}"), |word| (*word).to_owned())
}
