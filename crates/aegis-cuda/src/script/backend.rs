//! A loaded script.

use aegis_types::{Bytes, Extent, MemoryClass, Nanos, SegmentIndex};

use super::parse::{HANDED, Script, Segment};
use super::values::{self, SplitMix64};
use crate::backend::{BindingId, Bindings, ModelDescription, ModelMemory, RuntimeBackend};
use crate::clock::HostClock;
use crate::error::{BackendError, DeviceError};
use crate::interop::with_sim_stream;
use crate::memory::DeviceSlice;
use crate::sim::LaunchFault;
use crate::stream::Stream;

/// Alignment of everything that a scripted model takes.
const ALIGNMENT: Bytes = Bytes::new(64);

/// A scripted model on a lane. Enqueueing allocates nothing but the grant's scratch.
pub struct ScriptedBackend {
    description: ModelDescription,
    segments: Vec<Segment>,
    /// Draws durations; `None` takes the longest.
    generator: Option<SplitMix64>,
    bindings: Vec<Bindings>,
    weights: Option<DeviceSlice>,
    /// The digest that one segment hands to the next.
    handed: Option<DeviceSlice>,
    buffer: Vec<u8>,
    clock: HostClock,
    memory: ModelMemory,
}

impl ScriptedBackend {
    pub(super) fn load(
        script: Script,
        description: ModelDescription,
        generator: Option<SplitMix64>,
        memory: ModelMemory,
    ) -> Result<Self, BackendError> {
        let mut loaded = Self {
            description,
            segments: script.segments,
            generator,
            bindings: Vec::new(),
            weights: None,
            handed: None,
            buffer: vec![0; values::TENSOR_BYTES],
            clock: HostClock::start(),
            memory,
        };
        // What was taken before a refusal is given back by `Drop`.
        loaded.weights = loaded.take(MemoryClass::Persistent, script.weights)?;
        if let Some(slice) = &loaded.weights {
            slice.write(&values::weights(&loaded.description.hash, script.weights));
        }
        if loaded.segments.len() > 1 {
            loaded.handed = loaded.take(MemoryClass::Exchange, HANDED)?;
        }
        // Scratch is taken by every segment anew; whether the lane has enough of it is a question of load time.
        let most = loaded.segments.iter().map(|segment| segment.scratch).max().unwrap_or(Bytes::ZERO);
        let extent = loaded.allocate(MemoryClass::Scratch, most)?;
        loaded.memory.grant.free(MemoryClass::Scratch, extent);
        Ok(loaded)
    }

    fn allocate(&self, class: MemoryClass, bytes: Bytes) -> Result<Extent, BackendError> {
        let refused = |source| BackendError::Memory { model: self.description.name.clone(), source };
        self.memory.grant.allocate(class, bytes, ALIGNMENT).map_err(refused)
    }

    /// Takes memory of its own; `None` for no bytes.
    fn take(&self, class: MemoryClass, bytes: Bytes) -> Result<Option<DeviceSlice>, BackendError> {
        if bytes.is_zero() {
            return Ok(None);
        }
        let extent = self.allocate(class, bytes)?;
        match DeviceSlice::lend(&self.memory.region, extent) {
            Ok(slice) => Ok(Some(slice)),
            Err(error) => {
                self.memory.grant.free(class, extent);
                Err(error.into())
            }
        }
    }

    fn give_back(&self, class: MemoryClass, slice: Option<DeviceSlice>) {
        if let Some(slice) = slice {
            let extent = slice.extent();
            drop(slice);
            self.memory.grant.free(class, extent);
        }
    }

    fn draw(&mut self, segment: Segment) -> Nanos {
        match &mut self.generator {
            Some(generator) => {
                Nanos::new(generator.draw_between(segment.shortest.get(), segment.longest.get()))
            }
            None => segment.longest,
        }
    }

    /// Occupies the lane: virtual time on the simulated device, a busy loop elsewhere.
    fn occupy(
        &self,
        stream: &mut dyn Stream,
        duration: Nanos,
        scratch: Option<&DeviceSlice>,
    ) -> Result<(), BackendError> {
        let failed = |started, reason: &str| {
            Err(BackendError::Execution {
                model: self.description.name.clone(),
                reason: reason.into(),
                started,
            })
        };
        match with_sim_stream(stream, |sim| sim.occupy(duration, scratch)) {
            Some(Ok(())) => Ok(()),
            Some(Err(LaunchFault::NotStarted)) => failed(false, "planned fault before the launch"),
            Some(Err(LaunchFault::Failed)) => failed(true, "planned fault in the segment"),
            Some(Err(LaunchFault::Lost(error))) => Err(error.into()),
            None => {
                let end = self.clock.now().saturating_add(duration);
                while self.clock.now() < end {
                    std::hint::spin_loop();
                }
                Ok(())
            }
        }
    }

    /// The data of one segment. What it reads and writes lies in lent memory only.
    fn compute(&mut self, index: usize, binding: usize, scratch: Option<&DeviceSlice>) {
        let bindings = &self.bindings[binding];
        let mut digest = 0;
        if index == 0 {
            let mut weights = [0; values::WEIGHT_BYTES];
            let weights = &mut weights[..used(self.weights.as_ref(), values::WEIGHT_BYTES)];
            if let Some(slice) = &self.weights {
                slice.read(weights);
            }
            digest = values::weights_digest(weights);
            for input in &bindings.inputs {
                let bytes = &mut self.buffer[..used(Some(input), values::TENSOR_BYTES)];
                input.read(bytes);
                digest = values::absorb(digest, bytes);
            }
        } else if let Some(handed) = &self.handed {
            let mut word = [0; 8];
            handed.read(&mut word);
            digest = u64::from_le_bytes(word);
        }
        digest = through_scratch(values::step(digest), scratch);
        if index + 1 < self.segments.len() {
            if let Some(handed) = &self.handed {
                handed.write(&digest.to_le_bytes());
            }
            return;
        }
        for (output, number) in bindings.outputs.iter().zip(1u64..) {
            let bytes = &mut self.buffer[..used(Some(output), values::TENSOR_BYTES)];
            values::emit(digest ^ number, bytes);
            output.write(bytes);
        }
    }
}

impl RuntimeBackend for ScriptedBackend {
    fn describe(&self) -> &ModelDescription {
        &self.description
    }

    fn bind(&mut self, bindings: Bindings) -> Result<BindingId, BackendError> {
        bindings.check_sizes(&self.description)?;
        let id = u32::try_from(self.bindings.len())
            .map_err(|_| DeviceError::Unsupported { what: "a binding past the 2^32nd" })?;
        self.bindings.push(bindings);
        Ok(BindingId(id))
    }

    fn enqueue(
        &mut self,
        stream: &mut dyn Stream,
        segment: SegmentIndex,
        binding: BindingId,
    ) -> Result<(), BackendError> {
        let index = segment.index();
        let Some(&found) = self.segments.get(index) else {
            return Err(DeviceError::Unsupported { what: "a segment that the model does not have" }.into());
        };
        let slot = usize::try_from(binding.0).unwrap_or(usize::MAX);
        if slot >= self.bindings.len() {
            return Err(DeviceError::Unsupported { what: "a binding that was not made" }.into());
        }
        let duration = self.draw(found);
        let scratch = self.take(MemoryClass::Scratch, found.scratch)?;
        let occupied = self.occupy(stream, duration, scratch.as_ref());
        if occupied.is_ok() {
            self.compute(index, slot, scratch.as_ref());
        }
        self.give_back(MemoryClass::Scratch, scratch);
        occupied
    }
}

impl Drop for ScriptedBackend {
    fn drop(&mut self) {
        let (weights, handed) = (self.weights.take(), self.handed.take());
        self.give_back(MemoryClass::Persistent, weights);
        self.give_back(MemoryClass::Exchange, handed);
    }
}

/// How many bytes of a slice take part.
fn used(slice: Option<&DeviceSlice>, most: usize) -> usize {
    slice.map_or(0, |slice| usize::try_from(slice.len().get()).unwrap_or(most).min(most))
}

/// Writes the digest's pattern into scratch and digests what is read back.
fn through_scratch(digest: u64, scratch: Option<&DeviceSlice>) -> u64 {
    let mut bytes = [0; values::SCRATCH_BYTES];
    let bytes = &mut bytes[..used(scratch, values::SCRATCH_BYTES)];
    if let Some(slice) = scratch {
        values::emit(digest, bytes);
        slice.write(bytes);
        slice.read(bytes);
    }
    values::absorb(digest, bytes)
}
