//! A loaded model on a CUDA lane; a job is one call that only enqueues on the lane's stream.

use std::ffi::c_void;
use std::rc::Rc;

use aegis_cuda::{
    BackendError, BindingId, Bindings, ModelDescription, ModelRequest, RuntimeBackend, Stream, interop,
};
use aegis_types::{Bytes, MemoryClass, SegmentIndex};

use super::capture::{self, Trial};
use super::driver::{Driver, Recorded};
use super::pinned::{Kept, PinnedAllocator, Recording};
use super::provider::{self, Rules, Target};
use crate::backend::WARM_UP_RUNS;
use crate::charge::Charge;
use crate::inspect::Inspected;
use crate::library::{OnnxRuntime, library_error};
use crate::opened::{Bound, Opened, Place};
use crate::raw::{MemoryInfo, RunOptions};
use crate::session::ModelFile;

/// A loaded model. Fields are dropped in this order: bindings name the session.
pub(crate) struct CudaModel {
    bound: Vec<Bound>,
    device: OnDevice,
    /// Host memory that graphs copy from. They are gone before the model.
    kept: Vec<Kept>,
    capturable: bool,
    /// What loading took of the device besides the grant.
    outside: Bytes,
    /// Whether graphs copy from host memory.
    copies: bool,
    remarks: Vec<String>,
}

/// A session on the GPU with what it takes to run it.
pub(crate) struct OnDevice {
    opened: Opened,
    /// Of runs that only enqueue.
    options: RunOptions,
    /// Whether runs that are not recorded have to wait for the device.
    waits: bool,
    /// Where host memory for copies comes from, if what is copied does not depend on a job's inputs.
    pinned: Option<&'static PinnedAllocator>,
    driver: Driver,
    /// The lane's stream: an identity, and what the driver is asked about. The stream outlives the model.
    stream: Option<*mut c_void>,
}

/// What every attempt to load a model starts from.
struct Attempt<'a> {
    runtime: &'a OnnxRuntime,
    request: &'a ModelRequest<'a>,
    inspected: &'a Inspected,
    driver: Driver,
    target: Target,
}

impl CudaModel {
    /// Creates the session on the lane's stream, warms it up, and tries whether a job can be captured.
    ///
    /// Weights and temporaries come out of the grant through an allocator of ours. Convolutions follow the vendor's first
    /// rules; if the workspace that these want is beyond the grant, the second, before the model is refused: what the
    /// grant decides is the same at every load. A kernel that keeps memory of its
    /// first run makes the model be loaded again with the warm-up counted as persistent, as on the host. If a trial of
    /// capturing fails, the model is loaded again, too: what a broken recording left in the library is unknown.
    pub(crate) fn load(
        runtime: &OnnxRuntime,
        request: &ModelRequest<'_>,
        description: ModelDescription,
        inspected: &Inspected,
        stream: &mut dyn Stream,
        charge: Rc<Charge>,
    ) -> Result<Self, BackendError> {
        if !charge.is_on_device() {
            return Err(library_error(format!(
                "model `{}` has a lane on a GPU and memory elsewhere; legal is a region of the lane's device",
                request.name
            )));
        }
        let driver = Driver::find().map_err(library_error)?;
        let target = target(stream, driver)?;
        runtime.adopt_device(target.ordinal, driver).map_err(library_error)?;
        let mut attempt = Attempt { runtime, request, inspected, driver, target };
        let before = driver.free_memory().map_err(library_error)?;
        let mut remarks = Vec::new();
        let mut device = attempt.by_rules(description, charge, stream, &mut remarks)?;
        let trial = capture::trial(&device, stream)?;
        let copies = matches!(&trial, Trial::Replays { recorded } if recorded.copies > 0);
        let capturable = match trial {
            Trial::Replays { recorded } => {
                if recorded.allocations > 0 {
                    remarks.push(format!(
                        "its graph makes {} allocations outside of the grant, and may round as runs do not",
                        recorded.allocations
                    ));
                }
                if recorded.copies > 0 {
                    remarks.push(format!(
                        "its graph makes {} copies from host memory that is kept for it",
                        recorded.copies
                    ));
                }
                true
            }
            Trial::Runs { reason } => {
                remarks.push(format!("it runs without a graph: {reason}"));
                let (description, charge) = device.opened.close();
                device = attempt.warm(description, charge, stream)?;
                false
            }
        };
        if device.waits && !capturable {
            remarks.push("its runs wait for the device, and the lanes of its carrier with them".to_owned());
        }
        remarks.extend(device.on_host());
        let outside = interop::with_raw_stream(stream, |_| outside(driver, before)).unwrap_or(Bytes::ZERO);
        if !outside.is_zero() {
            remarks.push(format!(
                "{outside} of device memory went to code and workspaces while it was loaded; no budget counts them"
            ));
        }
        Ok(Self { bound: Vec::new(), device, kept: Vec::new(), capturable, outside, copies, remarks })
    }
}

/// The device and the stream of a lane.
fn target(stream: &mut dyn Stream, driver: Driver) -> Result<Target, BackendError> {
    let found = interop::with_raw_stream(stream, |raw| {
        driver.ordinal().map(|ordinal| Target { ordinal, stream: Some(raw), rules: Rules::First })
    });
    match found {
        Some(target) => target.map_err(library_error),
        None => Err(library_error("the lane's stream is lost".to_owned())),
    }
}

/// What left the device's memory besides the grant's: code of kernels, and workspaces of the vendor's libraries.
/// The whole device is looked at, so what others take meanwhile is in it.
fn outside(driver: Driver, before: Bytes) -> Bytes {
    let now = driver.free_memory().unwrap_or(before);
    Bytes::new(before.get().saturating_sub(now.get()))
}

impl Attempt<'_> {
    /// A session that is ready to run by the first rules, or by the second where what the first want is beyond the grant.
    fn by_rules(
        &mut self,
        description: ModelDescription,
        charge: Rc<Charge>,
        stream: &mut dyn Stream,
        remarks: &mut Vec<String>,
    ) -> Result<OnDevice, BackendError> {
        let allocator = self.runtime.device_allocator(self.target.ordinal);
        let overflows = allocator.map_or(0, |allocator| allocator.counts().overflows);
        let refused = match self.warm(description.clone(), Rc::clone(&charge), stream) {
            Err(BackendError::Memory { source, .. }) if source.class == MemoryClass::Scratch => source,
            other => return other,
        };
        remarks.push(format!("its convolutions follow the vendor's second rules; by the first: {refused}"));
        self.target.rules = Rules::Second;
        // Whatever else was refused while the first attempt was taken down.
        let _refused = charge.take_refusal();
        if let Some(allocator) = allocator {
            allocator.abandon(overflows);
        }
        self.warm(description, charge, stream)
    }

    /// A session that is ready to run, and has run.
    fn warm(
        &self,
        description: ModelDescription,
        charge: Rc<Charge>,
        stream: &mut dyn Stream,
    ) -> Result<OnDevice, BackendError> {
        let mut device = self.open(description, charge)?;
        device.warm_up(stream, MemoryClass::Scratch)?;
        if device.opened.charge().scratch_live() > 0 {
            let (description, charge) = device.opened.close();
            device = self.open(description, charge)?;
            device.warm_up(stream, MemoryClass::Persistent)?;
        }
        device.warm_up(stream, MemoryClass::Scratch)?;
        device.opened.settled()?;
        self.bound_host_memory(&mut device, stream)?;
        device.count_weights()?;
        if device.on_host().is_none() {
            device.pinned = self.runtime.pinned(self.target.ordinal);
        }
        Ok(device)
    }

    /// Kernels that copy from the host leave buffers there that the library takes back only in runs that wait for the
    /// device. A model with such kernels must wait, or every job would keep a little more memory.
    fn bound_host_memory(&self, device: &mut OnDevice, stream: &mut dyn Stream) -> Result<(), BackendError> {
        for waits in [false, true] {
            device.waits = waits;
            device.warm_up(stream, MemoryClass::Scratch)?;
            let before = self.runtime.pinned_live(self.target.ordinal);
            device.warm_up(stream, MemoryClass::Scratch)?;
            if self.runtime.pinned_live(self.target.ordinal) <= before {
                return Ok(());
            }
        }
        Err(BackendError::InvalidModel {
            model: self.request.name.to_owned(),
            reason: "every run keeps more host memory than the one before; it cannot be bounded".to_owned(),
        })
    }

    fn open(&self, description: ModelDescription, charge: Rc<Charge>) -> Result<OnDevice, BackendError> {
        let invalid = |reason| BackendError::InvalidModel { model: self.request.name.to_owned(), reason };
        let info = MemoryInfo::device(self.target.ordinal).map_err(invalid)?;
        let options = RunOptions::without_waiting().map_err(invalid)?;
        let place = Place { info, gpu: Some((self.driver, self.target)) };
        let file = ModelFile::Brought(self.request.artifact);
        let opened =
            Opened::create(self.runtime, self.request, file, description, self.inspected, charge, place)?;
        let (driver, stream) = (self.driver, self.target.stream);
        Ok(OnDevice { opened, options, waits: false, pinned: None, driver, stream })
    }
}

impl OnDevice {
    /// The session.
    pub(crate) const fn opened(&self) -> &Opened {
        &self.opened
    }

    /// Enqueues one run of a binding of this session on the lane's stream, and waits for it if it must.
    pub(crate) fn run(&self, bound: &Bound, class: MemoryClass) -> Result<(), BackendError> {
        // Null options are the library's own: it waits.
        let options = if self.waits { std::ptr::null() } else { self.options.as_ptr() };
        // SAFETY: `run` wants null or live options: they stand beside the session.
        unsafe { self.opened.run(options, &bound.binding, class) }
    }

    /// Enqueues one run on the lane's stream, which records it: nothing may wait then. Returns what was recorded, and what
    /// has to live as long as the graph.
    pub(crate) fn record(
        &self,
        bound: &Bound,
        stream: &mut dyn Stream,
    ) -> Result<(Recorded, Vec<Kept>), BackendError> {
        let mut recording = self.pinned.map(PinnedAllocator::record);
        // SAFETY: `run` wants null or live options: they stand beside the session.
        unsafe { self.opened.run(self.options.as_ptr(), &bound.binding, MemoryClass::Scratch) }?;
        let mut keep = |address, bytes| recording.as_mut().is_some_and(|record| record.keep(address, bytes));
        let asked = interop::with_raw_stream(stream, |raw| {
            // SAFETY: `recorded` wants a live stream, which it is while it is lent.
            unsafe { self.driver.recorded(raw, &mut keep) }
        });
        let recorded = asked.unwrap_or_else(|| Err("the lane's stream is lost".to_owned()));
        let recorded = recorded.map_err(|reason| self.opened.execution(reason))?;
        Ok((recorded, recording.map(Recording::end).unwrap_or_default()))
    }

    /// Whether the lane's stream records.
    fn is_recording(&self) -> bool {
        // SAFETY: `is_recording` wants a live stream: the lane's outlives the model.
        self.stream.is_some_and(|stream| unsafe { self.driver.is_recording(stream) })
    }

    /// Runs on zeros in temporary buffers, which are given back when nothing uses them any more.
    fn warm_up(&self, stream: &mut dyn Stream, class: MemoryClass) -> Result<(), BackendError> {
        let lent = self.opened.temporaries()?;
        for slice in &lent.buffers.inputs {
            slice.write(&vec![0; usize::try_from(slice.len().get()).unwrap_or(usize::MAX)]);
        }
        let bound = self.opened.prepare(lent.buffers.clone())?;
        let ran = (0..WARM_UP_RUNS).try_for_each(|_| self.run(&bound, class));
        // Waited for even after a refusal: nothing may write to memory that is given back.
        stream.synchronize()?;
        ran
    }

    /// Constants that the optimiser folded away, or that only the host needs, are missing on the device. The budget
    /// counts what the file stores of them all the same, so that it is never less than the description says.
    fn count_weights(&mut self) -> Result<(), BackendError> {
        let stored = self.opened.description().memory.weights;
        let held = self.opened.charge().grant().used(MemoryClass::Persistent);
        self.opened.stand_in(Bytes::new(stored.get().saturating_sub(held.get())))
    }

    /// Says which nodes the library left on the host.
    fn on_host(&self) -> Option<String> {
        // SAFETY: `on_host` wants a live session that was told to record: `session::open` tells every one on a GPU.
        let found = unsafe { provider::on_host(self.opened.session()) };
        let listed = match found {
            Ok(found) if found.is_empty() => return None,
            Ok(found) => found,
            Err(reason) => {
                return Some(format!("the library does not say which nodes run on the host: {reason}"));
            }
        };
        let nodes: Vec<String> =
            listed.iter().map(|(operator, count)| format!("{count} {operator}")).collect();
        Some(format!("nodes on the host: {}", nodes.join(", ")))
    }
}

impl RuntimeBackend for CudaModel {
    fn describe(&self) -> &ModelDescription {
        self.device.opened.description()
    }

    fn capturable(&self, segment: SegmentIndex) -> bool {
        self.capturable && segment.index() == 0
    }

    fn remarks(&self) -> Vec<String> {
        self.remarks.clone()
    }

    fn outside(&self) -> Bytes {
        self.outside
    }

    fn bind(&mut self, bindings: Bindings) -> Result<BindingId, BackendError> {
        let bound = self.device.opened.prepare(bindings)?;
        let id = BindingId(u32::try_from(self.bound.len()).unwrap_or(u32::MAX));
        self.bound.push(bound);
        Ok(id)
    }

    /// Enqueues the model's kernels on the lane's stream. Scratch is given back although they still run: the stream
    /// keeps the order, and the bytes are the lane's.
    fn enqueue(
        &mut self,
        stream: &mut dyn Stream,
        segment: SegmentIndex,
        binding: BindingId,
    ) -> Result<(), BackendError> {
        let bound = self.device.opened.asked(&self.bound, segment, binding.0)?;
        let here = interop::with_raw_stream(stream, |raw| raw);
        if here != self.device.stream {
            return Err(self.device.opened.execution("it was loaded on another stream".to_owned()));
        }
        if self.copies && self.device.is_recording() {
            let (_, kept) = self.device.record(bound, stream)?;
            self.kept.extend(kept);
        } else {
            self.device.run(bound, MemoryClass::Scratch)?;
        }
        self.device.opened.nothing_left()
    }
}
