//! A lane on its thread: one segment in flight, always signalled.

use std::sync::Arc;

use aegis_cuda::{Capabilities, CompletionFlag, Device, DeviceError, Stream};
use aegis_types::records::SegmentOutcome;
use aegis_types::{DispatchSeq, LaneId, PartitionId, SegmentIndex, Severity};

use crate::error::LaunchError;
use crate::execution::{ExecutionContext, not_started};
use crate::io::Slot;
use crate::state::{LaneEvent, LaneState};

/// How a launch ended, for the carrier to report with its own stamps.
#[must_use = "a launch that failed must reach the engine, or its job never ends"]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaunchReport {
    /// The dispatch.
    pub dispatch: DispatchSeq,
    /// What the engine is told. On an asynchronous device `Done` means that the segment was enqueued without error.
    pub outcome: SegmentOutcome,
    /// Why it is not `Done`.
    pub error: Option<LaunchError>,
    /// Whether the flag shows the dispatch, or will. If not, the lane is lost or was busy with another dispatch.
    pub signalled: bool,
}

/// A lane: its stream and what it is doing. Belongs to the thread that bound it.
pub struct Lane {
    stream: Box<dyn Stream>,
    flag: Arc<dyn CompletionFlag>,
    capabilities: Capabilities,
    state: LaneState,
}

impl Lane {
    /// Binds the calling thread to a lane of a partition.
    ///
    /// # Errors
    /// As [`Device::bind_lane`].
    pub fn bind(device: &dyn Device, partition: PartitionId, lane: LaneId) -> Result<Self, DeviceError> {
        let stream = device.bind_lane(partition, lane)?;
        let state = LaneState::Unbound.next(LaneEvent::Bind).unwrap_or(LaneState::Unbound);
        Ok(Self { flag: stream.flag(), capabilities: device.context().capabilities, stream, state })
    }

    /// Which lane it is.
    pub fn id(&self) -> LaneId {
        self.stream.lane()
    }

    /// The partition that it runs in.
    pub fn partition(&self) -> PartitionId {
        self.stream.partition()
    }

    /// What its device can do.
    pub const fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    /// What it was doing when it was last looked at.
    pub const fn state(&self) -> LaneState {
        self.state
    }

    /// The flag that shows which dispatch is complete, for the thread that decides.
    pub fn flag(&self) -> Arc<dyn CompletionFlag> {
        Arc::clone(&self.flag)
    }

    /// The stream, for load time.
    pub fn stream(&mut self) -> &mut dyn Stream {
        &mut *self.stream
    }

    /// Looks at the flag; the lane is idle again once it shows the dispatch in flight.
    pub fn poll(&mut self) -> LaneState {
        if let LaneState::Launched(running) = self.state
            && self.flag.load() >= running
            && let Ok(idle) = self.state.next(LaneEvent::Complete(running))
        {
            self.state = idle;
        }
        self.state
    }

    /// Waits until what is in flight has ended. Load time and shutdown only.
    ///
    /// # Errors
    /// Those of the work that was enqueued; after a fatal one the lane is lost.
    pub fn drain(&mut self) -> Result<LaneState, DeviceError> {
        let drained = self.stream.synchronize();
        self.lose_if(drained.as_ref().err().map(DeviceError::severity));
        drained.map(|()| self.poll())
    }

    /// Asks, without waiting and without enqueuing anything, whether what is in flight can still end: on a device that
    /// is lost, flags never come.
    ///
    /// # Errors
    /// The device's; the lane is lost then.
    pub fn probe(&mut self) -> Result<(), DeviceError> {
        if !matches!(self.poll(), LaneState::Launched(_)) {
            return Ok(());
        }
        let asked = self.stream.finished();
        if asked.is_err() {
            self.lose_if(Some(Severity::Fatal));
        }
        asked.map(drop)
    }

    /// Whether the device is done with everything that was enqueued, so that the buffers may be given back whatever the
    /// lane's state says; never waits. A device that cannot be asked any more is lost, and nothing runs there.
    pub fn settled(&mut self) -> bool {
        self.stream.finished().unwrap_or(true)
    }

    /// Launches a segment of the job in `slot`, carries recurrent state behind the last one, and signals `dispatch`:
    /// also after an error, so that the lane is free again. Allocates nothing unless something fails.
    pub fn launch(
        &mut self,
        context: &mut ExecutionContext,
        slot: Slot,
        segment: SegmentIndex,
        dispatch: DispatchSeq,
    ) -> LaunchReport {
        self.launch_with(context, slot, segment, dispatch, |_, _, _| {})
    }

    /// As [`launch`](Self::launch), and calls `ended` when the backend has returned and before the flag shows the
    /// dispatch: for what the deciding thread reads behind the flag, and for outputs on a synchronous device.
    pub fn launch_with(
        &mut self,
        context: &mut ExecutionContext,
        slot: Slot,
        segment: SegmentIndex,
        dispatch: DispatchSeq,
        ended: impl FnOnce(SegmentOutcome, Option<&LaunchError>, &ExecutionContext),
    ) -> LaunchReport {
        self.poll();
        match self.state.next(LaneEvent::Launch(dispatch)) {
            Ok(launched) => self.state = launched,
            Err(illegal) => {
                let error = Some(LaunchError::Lane(illegal));
                ended(SegmentOutcome::Failed, error.as_ref(), context);
                return LaunchReport { dispatch, outcome: SegmentOutcome::Failed, error, signalled: false };
            }
        }
        let mut error = context.enqueue(&mut *self.stream, slot, segment).err();
        self.lose_if(error.as_ref().map(LaunchError::severity));
        ended(outcome(error.as_ref()), error.as_ref(), context);
        let signal = self.stream.signal(dispatch);
        let signalled = signal.is_ok();
        if let Err(unsignalled) = signal {
            // Whatever its class, a lane whose flag cannot be written would look busy for ever.
            self.lose_if(Some(Severity::Fatal));
            error.get_or_insert(LaunchError::Backend(unsignalled.into()));
        }
        self.poll();
        LaunchReport { dispatch, outcome: outcome(error.as_ref()), error, signalled }
    }

    fn lose_if(&mut self, severity: Option<Severity>) {
        if severity == Some(Severity::Fatal)
            && let Ok(lost) = self.state.next(LaneEvent::Lose)
        {
            self.state = lost;
        }
    }
}

fn outcome(error: Option<&LaunchError>) -> SegmentOutcome {
    match error {
        None => SegmentOutcome::Done,
        Some(LaunchError::Backend(error)) if not_started(error) => SegmentOutcome::NotStarted,
        Some(
            LaunchError::Backend(_)
            | LaunchError::Lane(_)
            | LaunchError::Context(_)
            | LaunchError::OtherLane { .. }
            | LaunchError::Slot { .. },
        ) => SegmentOutcome::Failed,
    }
}
