//! A plan on a lane.

use std::ffi::c_void;
use std::rc::Rc;
use std::sync::Arc;

use aegis_cuda::{
    BackendError, BindingId, Bindings, DeviceError, DeviceSlice, ModelDescription, RuntimeBackend, Stream,
    TensorSpec,
};
use aegis_types::{Extent, MemoryClass, SegmentIndex};

use crate::machine::Machine;
use crate::plan::Plan;
use crate::supply::{ALIGN, Piece, Supply};
use crate::vendor::Runtime;

/// A loaded plan: one segment, which may be captured.
///
/// Scratch is given back when `enqueue` returns, although the work still runs then: the lane's stream keeps the order,
/// and the bytes are the lane's. A captured segment goes on using the place that it was captured with, which lies
/// inside the lane's scratch as long as the model is on the lane.
pub struct TensorRtModel {
    plan: Plan,
    bound: Vec<Bound>,
    /// The binding whose addresses the library has.
    set: Option<usize>,
    machine: Arc<dyn Machine>,
}

/// I/O that was bound.
struct Bound {
    /// Kept because the addresses lie in it.
    _lent: Bindings,
    /// Inputs, then outputs.
    addresses: Vec<u64>,
}

impl TensorRtModel {
    /// Runs the plan once on zeros, so that whatever the library prepares at a first run is prepared, and lets it take
    /// no more memory after that.
    pub(crate) fn load(
        plan: Plan,
        machine: Arc<dyn Machine>,
        stream: &mut dyn Stream,
    ) -> Result<Self, BackendError> {
        let mut model = Self { plan, bound: Vec::new(), set: None, machine };
        let mut pieces = Vec::new();
        let warmed = model.warm_up(stream, &mut pieces);
        // Waited for even after a refusal: nothing may write to memory that is given back.
        let done = stream.synchronize();
        model.bound.clear();
        model.set = None;
        pieces.into_iter().for_each(|piece| model.supply().give_back(piece));
        warmed?;
        done?;
        model.supply().serve();
        // What was said while loading is no reason of a later failure.
        model.runtime().reasons();
        Ok(model)
    }

    fn warm_up(&mut self, stream: &mut dyn Stream, pieces: &mut Vec<Piece>) -> Result<(), BackendError> {
        let description = self.plan.description.clone();
        let buffers = Bindings {
            inputs: self.temporaries(&description.inputs, pieces)?,
            outputs: self.temporaries(&description.outputs, pieces)?,
        };
        for (slice, spec) in buffers.inputs.iter().zip(&description.inputs) {
            slice.write(&vec![0; usize::try_from(spec.bytes.get()).unwrap_or(usize::MAX)]);
        }
        let binding = self.bind(buffers)?;
        self.enqueue(stream, SegmentIndex::new(0), binding)
    }

    /// Buffers for the warm-up; what they lie in is added to `pieces`.
    fn temporaries(
        &self,
        specs: &[TensorSpec],
        pieces: &mut Vec<Piece>,
    ) -> Result<Vec<Rc<DeviceSlice>>, BackendError> {
        let region = self
            .supply()
            .region()
            .ok_or(DeviceError::Unsupported { what: "a warm-up outside of a grant" })?;
        let lend = |spec: &TensorSpec| {
            let piece = self
                .supply()
                .lend(MemoryClass::Exchange, spec.bytes)
                .map_err(|refusal| refusal.of(&self.plan.description.name))?;
            pieces.push(piece);
            // A grant may round up; the binding wants the tensor's own size.
            let extent = Extent { offset: piece.extent.offset, len: spec.bytes };
            Ok(Rc::new(DeviceSlice::lend(&region, extent)?))
        };
        specs.iter().map(lend).collect()
    }

    fn runtime(&self) -> &Rc<Runtime> {
        self.plan.context.engine().runtime()
    }

    fn supply(&self) -> &Supply {
        self.runtime().supply()
    }

    /// Where the library finds a slice, which it wants aligned.
    fn address(&self, slice: &DeviceSlice) -> Result<u64, DeviceError> {
        let found = self.machine.address(&**slice.region(), slice.extent());
        let reason = match found {
            Some(address) if address.is_multiple_of(ALIGN.get()) => return Ok(address),
            Some(_) => "does not start at a multiple of 256 B",
            None => "is not in memory of the device that the plan runs on",
        };
        Err(slice.unfit(reason))
    }

    /// Gives the library the addresses of a binding, and enqueues.
    fn run(&mut self, stream: *mut c_void, slot: usize, scratch: Piece) -> Result<(), BackendError> {
        if self.set != Some(slot) {
            self.set = None;
            let Plan { context, names, .. } = &mut self.plan;
            for (name, &address) in names.iter().zip(&self.bound[slot].addresses) {
                // SAFETY: `set_address` wants memory of the tensor's bytes, good until the work enqueued with it is
                //  done: `bind` compared the size, and `bound` keeps the slice until the model is dropped, which is
                //  after the lane's last segment.
                if !unsafe { context.set_address(name, address) } {
                    return Err(self.failed("refuses the memory of a tensor", false));
                }
            }
            self.set = Some(slot);
        }
        let context = &mut self.plan.context;
        // SAFETY: `set_scratch` wants memory that is good until the work enqueued with it is done: a piece of the
        //  lane's scratch, used by the one segment in flight on it; graphs replay on the same lane.
        unsafe { context.set_scratch(scratch.address, self.plan.scratch.get()) };
        // SAFETY: `enqueue` wants every tensor and the scratch to have their memory, set above, and a live stream of
        //  the current context: the one that `with_stream` lent.
        if unsafe { context.enqueue(stream) } { Ok(()) } else { Err(self.failed("does not run it", true)) }
    }

    /// The library said no.
    fn failed(&self, what: &str, started: bool) -> BackendError {
        let reasons = self.runtime().reasons();
        match self.supply().take_refusal() {
            Some(refusal) => refusal.of(&self.plan.description.name),
            None => self.execution(format!("TensorRT {what}: {reasons}"), started),
        }
    }

    fn execution(&self, reason: String, started: bool) -> BackendError {
        BackendError::Execution { model: self.plan.description.name.clone(), reason, started }
    }
}

impl RuntimeBackend for TensorRtModel {
    fn describe(&self) -> &ModelDescription {
        &self.plan.description
    }

    fn capturable(&self, segment: SegmentIndex) -> bool {
        segment.index() == 0
    }

    fn bind(&mut self, bindings: Bindings) -> Result<BindingId, BackendError> {
        bindings.check_sizes(&self.plan.description)?;
        let slices = bindings.inputs.iter().chain(&bindings.outputs);
        let addresses = slices.map(|slice| self.address(slice)).collect::<Result<_, _>>()?;
        bindings.check_overlap()?;
        let id = u32::try_from(self.bound.len())
            .map_err(|_| DeviceError::Unsupported { what: "a binding past the 2^32nd" })?;
        self.bound.push(Bound { _lent: bindings, addresses });
        Ok(BindingId(id))
    }

    fn enqueue(
        &mut self,
        stream: &mut dyn Stream,
        segment: SegmentIndex,
        binding: BindingId,
    ) -> Result<(), BackendError> {
        // Neither refusal below heals by being tried again, which `started` stands for.
        if segment.index() != 0 {
            return Err(
                self.execution(format!("{segment:?} asked for; a plan is one segment, number 0"), true)
            );
        }
        let slot = usize::try_from(binding.0).unwrap_or(usize::MAX);
        if slot >= self.bound.len() {
            let made = self.bound.len();
            return Err(self.execution(format!("binding {} was not made; there are {made}", binding.0), true));
        }
        let scratch = self
            .supply()
            .lend(MemoryClass::Scratch, self.plan.scratch)
            .map_err(|refusal| refusal.of(&self.plan.description.name))?;
        let machine = Arc::clone(&self.machine);
        let mut ran = Err(DeviceError::Unsupported { what: "a plan of TensorRT" }.into());
        // A stream of another device leaves the refusal standing.
        let _lent = machine.with_stream(stream, &mut |raw| ran = self.run(raw, slot, scratch));
        self.supply().give_back(scratch);
        ran?;
        // A library that asked in vain and went on without is not one whose memory is bounded.
        match self.supply().take_refusal() {
            Some(refusal) => Err(refusal.of(&self.plan.description.name)),
            None => Ok(()),
        }
    }
}
