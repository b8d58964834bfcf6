//! The stream of a simulated lane.

use std::any::Any;
use std::sync::{Arc, Mutex};

use aegis_types::{DispatchSeq, LaneId, Nanos, PartitionId};

use super::fault::LaunchFault;
use super::lock;
use super::timeline::{ScratchUse, Timeline, TrackIndex};
use crate::division::Seat;
use crate::error::DeviceError;
use crate::memory::DeviceSlice;
use crate::region::copy_now;
use crate::stream::{CompletionFlag, Stream};

/// A simulated lane's stream. Dropping it frees the lane; what is in flight stays in flight.
#[derive(Debug)]
pub struct SimStream {
    seat: Seat,
    track: TrackIndex,
    timeline: Arc<Mutex<Timeline>>,
}

impl SimStream {
    pub(super) fn open(seat: Seat, timeline: &Arc<Mutex<Timeline>>) -> Self {
        let track = lock(timeline).open(seat.lane());
        Self { seat, track, timeline: Arc::clone(timeline) }
    }

    /// Enqueues a segment that occupies the lane for `duration` of virtual time, stretched by contention. `scratch` is
    /// the scratch that it uses, watched for use by two lanes at once.
    ///
    /// # Errors
    /// The [`LaunchFault`] that was planned for this launch.
    pub fn occupy(&mut self, duration: Nanos, scratch: Option<&DeviceSlice>) -> Result<(), LaunchFault> {
        let scratch = scratch.map(|slice| ScratchUse {
            region: Arc::as_ptr(slice.region()).cast::<()>().addr(),
            extent: slice.extent(),
        });
        lock(&self.timeline).occupy(self.track, duration, scratch)
    }
}

impl Stream for SimStream {
    fn lane(&self) -> LaneId {
        self.seat.lane()
    }

    fn partition(&self) -> PartitionId {
        self.seat.partition()
    }

    fn copy(&mut self, from: &DeviceSlice, to: &DeviceSlice) -> Result<(), DeviceError> {
        lock(&self.timeline).alive()?;
        copy_now(from, to)
    }

    fn signal(&mut self, seq: DispatchSeq) -> Result<(), DeviceError> {
        lock(&self.timeline).signal(self.track, seq)
    }

    fn flag(&self) -> Arc<dyn CompletionFlag> {
        Arc::new(SimFlag { track: self.track, timeline: Arc::clone(&self.timeline) })
    }

    fn finished(&mut self) -> Result<bool, DeviceError> {
        lock(&self.timeline).finished(self.track)
    }

    /// Waiting means that virtual time passes: the device's clock moves to the lane's end.
    fn synchronize(&mut self) -> Result<(), DeviceError> {
        lock(&self.timeline).drain(self.track)
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

#[derive(Debug)]
struct SimFlag {
    track: TrackIndex,
    timeline: Arc<Mutex<Timeline>>,
}

impl CompletionFlag for SimFlag {
    fn load(&self) -> DispatchSeq {
        lock(&self.timeline).load(self.track)
    }
}
