//! The stream of a host lane: work is done when the call returns, so what is left is the completion flag.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aegis_types::{DispatchSeq, LaneId, PartitionId};

use crate::division::Seat;
use crate::error::DeviceError;
use crate::memory::DeviceSlice;
use crate::region::copy_now;
use crate::stream::{CompletionFlag, Stream};

/// A host lane's stream.
#[derive(Debug)]
pub struct HostStream {
    seat: Seat,
    flag: Arc<HostFlag>,
}

impl HostStream {
    pub(crate) fn new(seat: Seat) -> Self {
        Self { seat, flag: Arc::new(HostFlag(AtomicU64::new(DispatchSeq::NONE.get()))) }
    }
}

impl Stream for HostStream {
    fn lane(&self) -> LaneId {
        self.seat.lane()
    }

    fn partition(&self) -> PartitionId {
        self.seat.partition()
    }

    fn copy(&mut self, from: &DeviceSlice, to: &DeviceSlice) -> Result<(), DeviceError> {
        copy_now(from, to)
    }

    fn signal(&mut self, seq: DispatchSeq) -> Result<(), DeviceError> {
        // Release: whoever loads this number also sees what the lane's thread wrote before it.
        self.flag.0.fetch_max(seq.get(), Ordering::Release);
        Ok(())
    }

    fn flag(&self) -> Arc<dyn CompletionFlag> {
        Arc::<HostFlag>::clone(&self.flag)
    }

    fn synchronize(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

#[derive(Debug)]
struct HostFlag(AtomicU64);

impl CompletionFlag for HostFlag {
    fn load(&self) -> DispatchSeq {
        DispatchSeq::new(self.0.load(Ordering::Acquire))
    }
}
