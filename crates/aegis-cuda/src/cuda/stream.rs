//! The stream of a CUDA lane.

use std::any::Any;
use std::ffi::c_void;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use aegis_types::{DispatchSeq, LaneId, PartitionId};
use cudarc::driver::sys;

use super::code::NOT_READY;
use super::context::PartitionContext;
use super::copy::Copier;
use super::driver::{Driver, Token};
use super::event::Event;
use super::flag::FlagPage;
use super::graph::{CudaGraph, Template};
use super::memory::CudaMemory;
use super::module::{Argument, Function, LaunchShape};
use super::retire::{Handle, Scope};
use super::waker::call_waker;
use crate::division::Seat;
use crate::error::{BackendError, DeviceError};
use crate::memory::DeviceSlice;
use crate::stream::{CompletionFlag, Graph, Stream};

/// Arguments that a kernel may have; more would need a heap allocation at each launch.
const ARGUMENTS: usize = 16;

/// How the streams of a device behave.
#[derive(Clone, Copy, Debug)]
pub(super) struct StreamOptions {
    /// Largest copy that is enqueued as one operation.
    pub(super) copy_chunk: u64,
    /// Whether each signal also wakes whoever waits.
    pub(super) blocking: bool,
    /// Whether the device writes eight bytes at a time.
    pub(super) wide: bool,
    /// How many lanes, from the first on, have streams of the highest priority.
    pub(super) urgent: u16,
}

/// A CUDA lane's stream. Its kernels run on the SMs of its partition.
///
/// Dropping it frees the lane and leaves the partition's context; what is in flight stays in flight.
pub struct CudaStream {
    seat: Seat,
    driver: Arc<Driver>,
    context: PartitionContext,
    raw: Token<sys::CUstream_st>,
    flag: Arc<FlagPage>,
    options: StreamOptions,
    /// Makes small copies; none where the copy engines make all.
    copier: Option<Copier>,
    /// Tells graphs of this stream from those of others.
    number: u64,
    /// The last number signalled: the flag never goes back.
    last: u64,
    /// While a graph is recorded: what it has to keep alive.
    recording: Option<Vec<Box<dyn Any>>>,
    not_send: PhantomData<*mut ()>,
}

impl CudaStream {
    /// Makes the stream of a lane on the calling thread.
    pub(super) fn open(
        driver: &Arc<Driver>,
        context: PartitionContext,
        seat: Seat,
        options: StreamOptions,
    ) -> Result<Self, DeviceError> {
        let flag = FlagPage::allocate(driver)?;
        let raw = context.make_stream(driver, seat.lane().get() < options.urgent)?;
        let number = driver.number_stream();
        let (driver, copier, recording, not_send) = (Arc::clone(driver), None, None, PhantomData);
        Ok(Self { seat, driver, context, raw, flag, options, copier, number, last: 0, recording, not_send })
    }

    /// Leaves the copies that `copier` serves to it. It was loaded in the stream's partition.
    pub(super) fn copy_with(&mut self, copier: Copier) {
        self.copier = Some(copier);
    }

    /// Enqueues a kernel.
    ///
    /// # Safety
    /// The arguments are those of the kernel in number, order and size, and every address among them is good for what
    /// the kernel does with it until a later signal is seen, or for as long as a graph that records it is replayed.
    ///
    /// # Errors
    /// [`DeviceError::Unsupported`] for a kernel of another partition or more than 16 arguments,
    /// [`DeviceError::Refused`] for a shape that the device cannot run, [`DeviceError::Lost`].
    pub unsafe fn launch(
        &mut self,
        function: &Function,
        shape: LaunchShape,
        arguments: &[Argument],
    ) -> Result<(), DeviceError> {
        if !function.belongs_to(&self.driver) || function.partition() != self.partition() {
            return Err(DeviceError::Unsupported { what: "a kernel that was loaded in another partition" });
        }
        if arguments.len() > ARGUMENTS {
            return Err(DeviceError::Unsupported { what: "a kernel of more than 16 arguments" });
        }
        self.enter()?;
        if let Some(kept) = &mut self.recording {
            kept.push(Box::new(function.keep()));
        }
        // SAFETY: `launch_here` wants what this function wants of its caller, and what it has just checked and done.
        unsafe { self.launch_here(function, shape, arguments) }
    }

    /// Enqueues a kernel in the context that is current.
    ///
    /// # Safety
    /// As [`launch`](Self::launch); the kernel is of this stream's partition, whose context is current, and has
    /// [`ARGUMENTS`] arguments at most.
    unsafe fn launch_here(
        &self,
        function: &Function,
        shape: LaunchShape,
        arguments: &[Argument],
    ) -> Result<(), DeviceError> {
        let shared = u32::try_from(shape.shared.get()).unwrap_or(u32::MAX);
        let mut values = [[0_u8; 8]; ARGUMENTS];
        let mut places = [std::ptr::null_mut::<c_void>(); ARGUMENTS];
        for ((argument, value), place) in arguments.iter().zip(&mut values).zip(&mut places) {
            *value = argument.bytes();
            *place = value.as_mut_ptr().cast();
        }
        let ([gx, gy, gz], [bx, by, bz]) = (shape.grid, shape.block);
        let (places, none) = (places.as_mut_ptr(), std::ptr::null_mut());
        let launch = self.driver.api.launch_kernel;
        // SAFETY: `cuLaunchKernel` wants a live function of the current context (its module is kept by `function`, its
        //  context is the caller's promise), a live stream, and one place for each of the kernel's arguments, read
        //  before it returns: the caller answers for their number and for what they point to.
        let code =
            unsafe { launch(function.raw().0, gx, gy, gz, bx, by, bz, shared, self.raw.0, places, none) };
        self.driver.check(code, "cuLaunchKernel")
    }

    /// Enqueues filling a slice with one byte.
    ///
    /// # Errors
    /// [`DeviceError::Unsupported`] for memory of another device, [`DeviceError::Lost`].
    pub fn fill(&mut self, slice: &DeviceSlice, byte: u8) -> Result<(), DeviceError> {
        let address = self.address(slice)?;
        if slice.is_empty() {
            return Ok(());
        }
        self.enter()?;
        self.keep(slice);
        let len = usize::try_from(slice.len().get()).unwrap_or(usize::MAX);
        // SAFETY: `cuMemsetD8Async` wants a live range of the device and a live stream: a lent extent of a region that
        //  the caller keeps until a later signal is seen (a graph keeps it itself).
        let code = unsafe { (self.driver.api.fill)(address, byte, len, self.raw.0) };
        self.driver.check(code, "cuMemsetD8Async")
    }

    /// Enqueues recording the device's time into an event.
    ///
    /// # Errors
    /// [`DeviceError::Unsupported`] for an event of another device or inside a capture, [`DeviceError::Lost`].
    pub fn mark(&mut self, event: &Event) -> Result<(), DeviceError> {
        if !event.belongs_to(&self.driver) {
            return Err(DeviceError::Unsupported { what: "an event of another device" });
        }
        self.not_recording("an event inside a graph")?;
        self.enter()?;
        // SAFETY: `cuEventRecord` wants a live event and a live stream of one context family: this device's.
        let code = unsafe { (self.driver.api.event_record)(event.raw().0, self.raw.0) };
        self.driver.check(code, "cuEventRecord")
    }

    /// SMs of its partition.
    pub const fn units(&self) -> u32 {
        self.context.units()
    }

    /// The driver's handle, with the partition's context current on this thread.
    pub(crate) fn raw(&mut self) -> Result<*mut c_void, DeviceError> {
        self.enter()?;
        Ok(self.raw.0.cast())
    }

    pub(super) const fn driver(&self) -> &Arc<Driver> {
        &self.driver
    }

    pub(super) const fn handle(&self) -> Token<sys::CUstream_st> {
        self.raw
    }

    pub(super) const fn number(&self) -> u64 {
        self.number
    }

    /// Makes the partition's context current.
    #[inline]
    pub(super) fn enter(&self) -> Result<(), DeviceError> {
        self.driver.enter(self.context.context())
    }

    fn not_recording(&self, what: &'static str) -> Result<(), DeviceError> {
        if self.recording.is_some() { Err(DeviceError::Unsupported { what }) } else { Ok(()) }
    }

    fn keep(&mut self, slice: &DeviceSlice) {
        if let Some(kept) = &mut self.recording {
            kept.push(Box::new(Arc::clone(slice.region())));
        }
    }

    fn address(&self, slice: &DeviceSlice) -> Result<u64, DeviceError> {
        let memory = slice.region().as_any().downcast_ref::<CudaMemory>();
        memory
            .filter(|memory| memory.belongs_to(&self.driver))
            .and_then(|memory| memory.device_address(slice.extent()))
            .ok_or(DeviceError::Unsupported { what: "work on another device's memory" })
    }

    /// The kernel's loads see what the host wrote before this call, as every kernel's do. What it stores into staging
    /// memory is visible to the host when a later signal is: a kernel is over when its stores are done, and the
    /// signal's write waits for it and comes behind a fence of system scope.
    fn copy_by_kernel(&self, copier: &Copier, from: u64, to: u64, len: u64) -> Result<(), DeviceError> {
        let (shape, arguments) = (copier.shape(from, to, len), Copier::arguments(from, to, len));
        // SAFETY: `launch_here` wants
        //  the kernel's own arguments: those of `Copier`;
        //  its partition: `copy_with` was given one of this partition, whose context `copy` has entered;
        //  two live ranges that do not overlap: `copy` took them from two lent extents, at the addresses that they have
        //  for the device, and the caller keeps those until a later signal is seen (a graph keeps them itself).
        unsafe { self.launch_here(copier.function(), shape, &arguments) }
    }

    fn copy_bytes(&self, from: u64, to: u64, len: u64) -> Result<(), DeviceError> {
        let mut done = 0;
        while done < len {
            let chunk = self.options.copy_chunk.min(len - done);
            let bytes = usize::try_from(chunk).unwrap_or(usize::MAX);
            // SAFETY: `cuMemcpyAsync` wants two live ranges that do not overlap and a live stream: `copy` took them from
            //  two lent extents, and the caller keeps those until a later signal is seen.
            let code = unsafe { (self.driver.api.copy)(to + done, from + done, bytes, self.raw.0) };
            self.driver.check(code, "cuMemcpyAsync")?;
            done += chunk;
        }
        Ok(())
    }

    fn begin_capture(&mut self) -> Result<(), DeviceError> {
        self.not_recording("a capture inside a capture")?;
        self.driver.empty_queue(Scope::Partition(self.partition()))?;
        self.enter()?;
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL as u32;
        // SAFETY: `cuStreamBeginCapture` wants a live stream that is not capturing: `recording` says so.
        let code = unsafe { (self.driver.api.stream_begin_capture)(self.raw.0, mode) };
        self.driver.check(code, "cuStreamBeginCapture")?;
        self.recording = Some(Vec::new());
        Ok(())
    }

    fn end_capture(&self) -> Result<Template, DeviceError> {
        self.enter()?;
        let mut graph = std::ptr::null_mut();
        // SAFETY: `cuStreamEndCapture` wants a live stream whose capture began on this thread, and a place for the
        //  graph, null if the capture was broken.
        let code = unsafe { (self.driver.api.stream_end_capture)(self.raw.0, &raw mut graph) };
        let template = Template::own(&self.driver, graph);
        self.driver.check(code, "cuStreamEndCapture")?;
        Ok(template)
    }
}

impl Stream for CudaStream {
    fn lane(&self) -> LaneId {
        self.seat.lane()
    }

    fn partition(&self) -> PartitionId {
        self.seat.partition()
    }

    /// Between two slices of staging memory the driver copies on the host and waits for it: load time only.
    fn copy(&mut self, from: &DeviceSlice, to: &DeviceSlice) -> Result<(), DeviceError> {
        if from.len() != to.len() {
            return Err(DeviceError::BadSlice {
                offset: to.extent().offset,
                len: to.len(),
                region: to.region().size(),
                reason: "is not as long as the slice that is copied into it",
            });
        }
        let (source, target) = (self.address(from)?, self.address(to)?);
        // A slice overlaps no other, so two slices of one address are the same: copied already.
        if source == target || from.is_empty() {
            return Ok(());
        }
        self.enter()?;
        self.keep(from);
        self.keep(to);
        let len = from.len().get();
        match self.copier.as_ref().filter(|copier| copier.serves(from, to)) {
            None => self.copy_bytes(source, target, len),
            Some(copier) => {
                if let Some(kept) = &mut self.recording {
                    kept.push(Box::new(copier.function().keep()));
                }
                self.copy_by_kernel(copier, source, target, len)
            }
        }
    }

    fn signal(&mut self, seq: DispatchSeq) -> Result<(), DeviceError> {
        // A flag inside a graph would store the number of the capture at every replay.
        self.not_recording("a completion signal inside a graph")?;
        self.enter()?;
        let last = self.last.max(seq.get());
        let address = self.flag.device_address();
        let api = &self.driver.api;
        // Without flags, the write comes after a system fence that covers everything before it in the stream.
        if self.options.wide {
            // SAFETY: `cuStreamWriteValue64` wants a live stream and a live, mapped, aligned address: the start of the
            //  flag's page, which outlives the stream.
            let code = unsafe { (api.stream_write_64)(self.raw.0, address, last, 0) };
            self.driver.check(code, "cuStreamWriteValue64")?;
        } else {
            let what = "a dispatch number above 32 bits";
            let low = u32::try_from(last).map_err(|_| DeviceError::Unsupported { what })?;
            // SAFETY: as above; the upper half of the word stays zero.
            let code = unsafe { (api.stream_write_32)(self.raw.0, address, low, 0) };
            self.driver.check(code, "cuStreamWriteValue32")?;
        }
        self.last = last;
        if self.options.blocking {
            let waker = self.driver.waker.address();
            // SAFETY: `cuLaunchHostFunc` wants a live stream and a function that may be called with the pointer given:
            //  the waker lives in the driver, which a retired stream keeps alive until it is done.
            let code = unsafe { (api.launch_host)(self.raw.0, Some(call_waker), waker) };
            unless_lost(self.driver.check(code, "cuLaunchHostFunc"))?;
        }
        Ok(())
    }

    fn flag(&self) -> Arc<dyn CompletionFlag> {
        Arc::<FlagPage>::clone(&self.flag)
    }

    fn finished(&mut self) -> Result<bool, DeviceError> {
        self.driver.alive()?;
        // SAFETY: `cuStreamQuery` wants a live stream: it is retired only in `Drop`.
        let code = unsafe { (self.driver.api.stream_query)(self.raw.0) };
        if code == NOT_READY {
            return Ok(false);
        }
        self.driver.check(code, "cuStreamQuery")?;
        Ok(true)
    }

    fn synchronize(&mut self) -> Result<(), DeviceError> {
        self.not_recording("waiting inside a capture")?;
        self.enter()?;
        // SAFETY: `cuStreamSynchronize` wants a live stream: it is retired only in `Drop`.
        let code = unsafe { (self.driver.api.stream_synchronize)(self.raw.0) };
        self.driver.check(code, "cuStreamSynchronize")
    }

    /// The graph keeps regions and modules alive. That the slices are not lent to others while it is replayed is the
    /// caller's part.
    fn capture(
        &mut self,
        work: &mut dyn FnMut(&mut dyn Stream) -> Result<(), BackendError>,
    ) -> Result<Box<dyn Graph>, BackendError> {
        self.begin_capture()?;
        // Whatever happens, the stream must not stay in the middle of a capture.
        let outcome = catch_unwind(AssertUnwindSafe(|| work(self)));
        let kept = self.recording.take().unwrap_or_default();
        let template = self.end_capture();
        outcome.unwrap_or_else(|panic| resume_unwind(panic))?;
        let graph = CudaGraph::instantiate(self, &template?, kept)?;
        self.synchronize()?;
        Ok(Box::new(graph))
    }

    fn replay(&mut self, graph: &dyn Graph) -> Result<(), DeviceError> {
        let own = graph.as_any().downcast_ref::<CudaGraph>().filter(|graph| graph.belongs_to(self));
        let Some(graph) = own else {
            return Err(DeviceError::Unsupported { what: "replaying a graph of another stream" });
        };
        self.not_recording("a graph inside a graph")?;
        self.enter()?;
        let Some(exec) = graph.exec() else { return Ok(()) };
        // SAFETY: `cuGraphLaunch` wants a live graph (retired only when dropped) and a live stream.
        let code = unsafe { (self.driver.api.graph_launch)(exec.0, self.raw.0) };
        self.driver.check(code, "cuGraphLaunch")
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

/// A refused wake-up delays whoever sleeps until it glances at the flag; a lane whose flag will come is not lost by it.
fn unless_lost(woken: Result<(), DeviceError>) -> Result<(), DeviceError> {
    match woken {
        Err(DeviceError::Lost { .. }) => woken,
        _ => Ok(()),
    }
}

impl Drop for CudaStream {
    fn drop(&mut self) {
        if self.context.is_green() {
            self.driver.leave(self.context.context());
        }
        self.driver.retire(Some(self.seat.partition()), Handle::Stream(self.raw, Arc::clone(&self.flag)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_wake_up_is_no_error_of_the_signal_before_it() {
        let refused = DeviceError::Refused { call: "cuLaunchHostFunc", reason: "invalid value".into() };
        let later = DeviceError::System { what: "cuLaunchHostFunc", reason: "not ready".into() };
        for woken in [Ok(()), Err(refused), Err(later)] {
            assert_eq!(unless_lost(woken), Ok(()));
        }
        let lost = Err(DeviceError::Lost { reason: "an illegal address".into() });
        assert_eq!(unless_lost(lost.clone()), lost);
    }
}
