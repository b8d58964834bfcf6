//! A loaded model of kernels.

use std::rc::Rc;

use aegis_types::{Bytes, Extent, MemoryClass, SegmentIndex};

use super::entry::Entry;
use super::parse::{ALIGNMENT, Model};
use super::processor::{Argument, Launch, Processor};
use super::reference::{Role, STATE, STATE_WORDS, STREAM_KEY, low, seed};
use super::steps::{Grid, QUAD, Step, Work};
use crate::backend::{BindingId, Bindings, ModelDescription, ModelMemory, RuntimeBackend};
use crate::error::{BackendError, DeviceError};
use crate::memory::DeviceSlice;
use crate::stream::Stream;

/// Threads of a block of the kernels that write whole regions.
const WRITER_THREADS: u32 = 256;
/// Blocks of such kernels: each thread takes further words in turn.
const WRITER_BLOCKS: u64 = 64;
/// One block for the data path.
const STATE_GRID: Grid = Grid { blocks: 1, threads: STATE_WORDS as u32 };
/// One thread.
const SINGLE: Grid = Grid { blocks: 1, threads: 1 };
/// An address that no allocation holds: the first page is never mapped.
const ILLEGAL: u64 = 0x10;

/// A model of kernels on a lane. Enqueueing allocates nothing but the grant's scratch, and always enqueues the same
/// operations for the same binding.
///
/// Scratch is given back when `enqueue` returns, although the work still runs then: the lane's stream keeps the order,
/// and the bytes are the lane's. A captured segment goes on using the place that it was captured with, which lies
/// inside the lane's scratch as long as the model is on the lane.
pub struct KernelBackend {
    description: ModelDescription,
    model: Model,
    processor: Box<dyn Processor>,
    bound: Vec<Bound>,
    control: Option<Held>,
    weights: Option<Held>,
    /// Where copies come from, by [`Model::copies`].
    constants: Vec<Held>,
    memory: ModelMemory,
}

/// Memory for as long as the model is loaded, and where kernels find it.
struct Held {
    slice: DeviceSlice,
    address: u64,
}

/// I/O that was bound.
struct Bound {
    /// Kept because the addresses lie in it.
    _lent: Bindings,
    inputs: Vec<u64>,
    outputs: Vec<u64>,
}

/// Scratch of the segment that is being enqueued.
#[derive(Clone, Copy)]
struct Scratch {
    extent: Extent,
    address: u64,
}

impl KernelBackend {
    pub(super) fn load(
        model: Model,
        description: ModelDescription,
        processor: Box<dyn Processor>,
        stream: &mut dyn Stream,
        memory: ModelMemory,
    ) -> Result<Self, BackendError> {
        let mut loaded = Self {
            description,
            model,
            processor,
            bound: Vec::new(),
            control: None,
            weights: None,
            constants: Vec::new(),
            memory,
        };
        // What was taken before a refusal is given back by `Drop`.
        let control = loaded.take(loaded.model.control())?;
        control.slice.write(&vec![0; usize::try_from(control.slice.len().get()).unwrap_or(0)]);
        loaded.control = Some(control);
        if !loaded.model.weights.is_zero() {
            loaded.weights = Some(loaded.take(loaded.model.weights)?);
        }
        for bytes in loaded.model.copies() {
            let held = loaded.take(bytes)?;
            loaded.constants.push(held);
        }
        // Scratch is taken by every segment anew; whether the lane has enough of it is a question of load time.
        let most = loaded.model.segments.iter().map(|segment| segment.scratch).max().unwrap_or(Bytes::ZERO);
        let extent = loaded.allocate(MemoryClass::Scratch, most)?;
        loaded.memory.grant.free(MemoryClass::Scratch, extent);
        // Waited for even after a refusal: nothing may write to memory that is given back.
        let generated = loaded.generate(stream);
        stream.synchronize()?;
        generated?;
        Ok(loaded)
    }

    fn allocate(&self, class: MemoryClass, bytes: Bytes) -> Result<Extent, BackendError> {
        let refused = |source| BackendError::Memory { model: self.description.name.clone(), source };
        self.memory.grant.allocate(class, bytes, ALIGNMENT).map_err(refused)
    }

    /// Takes memory for as long as the model is loaded.
    fn take(&self, bytes: Bytes) -> Result<Held, BackendError> {
        let extent = self.allocate(MemoryClass::Persistent, bytes)?;
        let held = DeviceSlice::lend(&self.memory.region, extent)
            .and_then(|slice| Ok(Held { address: self.address(&slice)?, slice }));
        held.map_err(|error| {
            self.memory.grant.free(MemoryClass::Persistent, extent);
            error.into()
        })
    }

    /// Fills weights and constants with what follows from the model's hash and the number of each.
    fn generate(&mut self, stream: &mut dyn Stream) -> Result<(), BackendError> {
        let weights = self.weights.iter().map(|held| (0, held));
        let numbered = weights.chain((1u32..).zip(&self.constants));
        let places: Vec<(u32, u64, u64)> =
            numbered.map(|(constant, held)| (constant, held.address, held.slice.len().get() / 4)).collect();
        for (constant, address, words) in places {
            let seed = Argument::U32(seed(&self.description.hash, constant));
            let arguments = [Argument::U64(address), Argument::U64(words), seed];
            self.run(stream, Entry::Generate, writers(words), &arguments)?;
        }
        Ok(())
    }

    fn give_back(&self, held: Held) {
        let extent = held.slice.extent();
        drop(held);
        self.memory.grant.free(MemoryClass::Persistent, extent);
    }

    /// Where kernels find a slice. The addresses of regions are aligned, offsets are looked at here.
    fn address(&self, slice: &DeviceSlice) -> Result<u64, DeviceError> {
        let extent = slice.extent();
        if !extent.offset.get().is_multiple_of(4) {
            return Err(slice.unfit("does not start at a multiple of 4 B"));
        }
        let found = self.processor.address(slice.region().as_ref(), extent);
        found.ok_or(DeviceError::Unsupported { what: "memory that kernels cannot reach" })
    }

    /// Enqueues one kernel without dynamic shared memory.
    fn run(
        &mut self,
        stream: &mut dyn Stream,
        entry: Entry,
        grid: Grid,
        arguments: &[Argument],
    ) -> Result<(), BackendError> {
        self.launch(stream, Launch { entry, grid, shared: Bytes::ZERO, arguments })
    }

    fn launch(&mut self, stream: &mut dyn Stream, launch: Launch<'_>) -> Result<(), BackendError> {
        // SAFETY: `launch` wants arguments that fit the kernel, and addresses of memory that stays ours.
        //  fit: every caller in this file passes what `Entry::parameters` lists, in its order, which a test checks for
        //       all of them;
        //  bytes: sizes are those of the slice or extent that the address was made from: weights, constants and the
        //       control block as allocated, bindings as checked by `bind`, scratch as the parser bounded each step by;
        //  ours: slices are held until the model is dropped, which is after the lane's last segment, and scratch is the
        //       lane's own until the stream has passed the segment. The one illegal address is a test of faults, which
        //       a kernel writes to and the device reports: nothing of this process lies there.
        unsafe { self.processor.launch(stream, launch) }.map_err(Into::into)
    }

    /// The address of the state; the counters follow it.
    fn state(&self) -> u64 {
        self.control.as_ref().map_or(0, |held| held.address)
    }

    /// Begins a job: weights and inputs go into the state.
    fn absorb(&mut self, stream: &mut dyn Stream, binding: usize) -> Result<(), BackendError> {
        let mut begin = 1;
        if let Some(weights) = &self.weights {
            let (address, bytes) = (weights.address, weights.slice.len());
            self.fold(stream, Role::Weights, address, bytes, begin)?;
            begin = 0;
        }
        for index in 0..self.model.inputs.len() {
            let (address, bytes) = (self.bound[binding].inputs[index], self.model.inputs[index].bytes);
            self.fold(stream, Role::Input(index), address, bytes, begin)?;
            begin = 0;
        }
        if begin == 1 {
            let state = self.state();
            self.fold(stream, Role::Weights, state, Bytes::ZERO, begin)?;
        }
        Ok(())
    }

    fn fold(
        &mut self,
        stream: &mut dyn Stream,
        role: Role,
        address: u64,
        bytes: Bytes,
        begin: u32,
    ) -> Result<(), BackendError> {
        let arguments = [
            Argument::U64(self.state()),
            Argument::U64(address),
            Argument::U64(bytes.get()),
            Argument::U32(role.salt()),
            Argument::U32(begin),
        ];
        self.run(stream, Entry::Fold, STATE_GRID, &arguments)
    }

    /// Ends a job: outputs come out of the state.
    fn emit(&mut self, stream: &mut dyn Stream, binding: usize) -> Result<(), BackendError> {
        for index in 0..self.model.outputs.len() {
            let (address, bytes) = (self.bound[binding].outputs[index], self.model.outputs[index].bytes);
            let arguments = [
                Argument::U64(self.state()),
                Argument::U64(address),
                Argument::U64(bytes.get()),
                Argument::U32(Role::Output(index).salt()),
            ];
            self.run(stream, Entry::Emit, writers(bytes.get().div_ceil(4)), &arguments)?;
        }
        Ok(())
    }

    /// Everything of one segment, scratch being at hand.
    fn segment(
        &mut self,
        stream: &mut dyn Stream,
        index: usize,
        binding: usize,
        scratch: Option<Scratch>,
    ) -> Result<(), BackendError> {
        if index == 0 {
            self.absorb(stream, binding)?;
        }
        if let Some(scratch) = scratch {
            let words = scratch.extent.len.get() / 4;
            let arguments =
                [Argument::U64(self.state()), Argument::U64(scratch.address), Argument::U64(words)];
            self.run(stream, Entry::Spread, STATE_GRID, &arguments)?;
        }
        let before = self.model.segments[..index].iter().flat_map(|segment| &segment.steps);
        let mut counter = before.filter(|step| step.is_counted()).count();
        for at in 0..self.model.segments[index].steps.len() {
            let step = self.model.segments[index].steps[at];
            for _ in 0..step.repeat {
                self.step(stream, step, counter, scratch)?;
            }
            counter += usize::from(step.is_counted());
        }
        if let Some(scratch) = scratch {
            self.fold(stream, Role::Scratch, scratch.address, scratch.extent.len, 0)?;
        }
        if index + 1 == self.model.segments.len() {
            self.emit(stream, binding)?;
        }
        Ok(())
    }

    /// One launch of a step. The parser bounded what it reaches by the scratch and the weights.
    fn step(
        &mut self,
        stream: &mut dyn Stream,
        step: Step,
        counter: usize,
        scratch: Option<Scratch>,
    ) -> Result<(), BackendError> {
        let never = Argument::U64(self.state());
        let counter = Argument::U64(self.state() + STATE.get() + 4 * counter as u64);
        let reached = Argument::U64(scratch.map_or(0, |scratch| scratch.address));
        match step.work {
            Work::Compute { grid, rounds } => {
                self.run(stream, Entry::Compute, grid, &[Argument::U32(rounds), never])
            }
            Work::Fill { grid, rounds, shared } => {
                let words = Argument::U32(low(shared.get() / 4));
                let arguments = &[Argument::U32(rounds), words, never];
                self.launch(stream, Launch { entry: Entry::Fill, grid, shared, arguments })
            }
            Work::Stream { grid, rounds, bytes } => {
                let quads = Argument::U64(bytes.get() / QUAD.get());
                let arguments = [reached, quads, Argument::U32(rounds), Argument::U32(STREAM_KEY)];
                self.run(stream, Entry::Stream, grid, &arguments)
            }
            Work::Read { grid, rounds, offset, bytes } => {
                let start = self.weights.as_ref().map_or(0, |held| held.address) + offset.get();
                let (data, quads) = (Argument::U64(start), Argument::U64(bytes.get() / QUAD.get()));
                let arguments = [data, quads, Argument::U32(rounds), Argument::U32(STREAM_KEY), never];
                self.run(stream, Entry::Read, grid, &arguments)
            }
            Work::Hold { grid, length } => {
                self.run(stream, Entry::Hold, grid, &[Argument::U64(length.get())])
            }
            Work::Copy { bytes } => self.copy(stream, bytes, scratch),
            Work::Storm { launches } => {
                (0..launches).try_for_each(|_| self.run(stream, Entry::Nothing, SINGLE, &[]))
            }
            Work::Overrun { length, at } => {
                let arguments = [counter, Argument::U32(at), Argument::U64(length.get())];
                self.run(stream, Entry::Overrun, SINGLE, &arguments)
            }
            Work::Stray { at } => {
                let arguments = [counter, Argument::U32(at), Argument::U64(ILLEGAL)];
                self.run(stream, Entry::Stray, SINGLE, &arguments)
            }
        }
    }

    /// Copies a constant into scratch. The slice of scratch is not kept until a signal was seen, as copies want it:
    /// it only books the bytes, which belong to the lane for as long as the model is on it.
    fn copy(
        &self,
        stream: &mut dyn Stream,
        bytes: Bytes,
        scratch: Option<Scratch>,
    ) -> Result<(), BackendError> {
        let constant = self.constants.iter().find(|held| held.slice.len() == bytes);
        let (Some(constant), Some(scratch)) = (constant, scratch) else {
            return Err(DeviceError::Unsupported { what: "a copy that the model was not loaded for" }.into());
        };
        let head = Extent { offset: scratch.extent.offset, len: bytes };
        let to = DeviceSlice::lend(&self.memory.region, head)?;
        stream.copy(&constant.slice, &to).map_err(Into::into)
    }

    /// Takes the scratch of a segment; `None` for no bytes.
    fn scratch(&self, bytes: Bytes) -> Result<Option<Scratch>, BackendError> {
        if bytes.is_zero() {
            return Ok(None);
        }
        let extent = self.allocate(MemoryClass::Scratch, bytes)?;
        match self.processor.address(self.memory.region.as_ref(), extent) {
            Some(address) => Ok(Some(Scratch { extent, address })),
            None => {
                self.memory.grant.free(MemoryClass::Scratch, extent);
                Err(DeviceError::Unsupported { what: "scratch that kernels cannot reach" }.into())
            }
        }
    }
}

impl RuntimeBackend for KernelBackend {
    fn describe(&self) -> &ModelDescription {
        &self.description
    }

    fn capturable(&self, segment: SegmentIndex) -> bool {
        segment.index() < self.model.segments.len()
    }

    fn bind(&mut self, bindings: Bindings) -> Result<BindingId, BackendError> {
        bindings.check_sizes(&self.description)?;
        let addresses = |slices: &[Rc<DeviceSlice>]| -> Result<Vec<u64>, DeviceError> {
            slices.iter().map(|slice| self.address(slice)).collect()
        };
        let (inputs, outputs) = (addresses(&bindings.inputs)?, addresses(&bindings.outputs)?);
        let id = u32::try_from(self.bound.len())
            .map_err(|_| DeviceError::Unsupported { what: "a binding past the 2^32nd" })?;
        self.bound.push(Bound { _lent: bindings, inputs, outputs });
        Ok(BindingId(id))
    }

    fn enqueue(
        &mut self,
        stream: &mut dyn Stream,
        segment: SegmentIndex,
        binding: BindingId,
    ) -> Result<(), BackendError> {
        let index = segment.index();
        let Some(found) = self.model.segments.get(index) else {
            return Err(DeviceError::Unsupported { what: "a segment that the model does not have" }.into());
        };
        let slot = usize::try_from(binding.0).unwrap_or(usize::MAX);
        if slot >= self.bound.len() {
            return Err(DeviceError::Unsupported { what: "a binding that was not made" }.into());
        }
        let scratch = self.scratch(found.scratch)?;
        let enqueued = self.segment(stream, index, slot, scratch);
        if let Some(scratch) = scratch {
            self.memory.grant.free(MemoryClass::Scratch, scratch.extent);
        }
        enqueued
    }
}

impl Drop for KernelBackend {
    fn drop(&mut self) {
        let held = [self.control.take(), self.weights.take()].into_iter().flatten();
        let held: Vec<Held> = held.chain(std::mem::take(&mut self.constants)).collect();
        held.into_iter().for_each(|held| self.give_back(held));
    }
}

/// The grid that writes so many words.
fn writers(words: u64) -> Grid {
    let blocks = words.div_ceil(u64::from(WRITER_THREADS)).clamp(1, WRITER_BLOCKS);
    Grid { blocks: low(blocks), threads: WRITER_THREADS }
}
