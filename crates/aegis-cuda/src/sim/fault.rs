//! Faults that a simulation plans beforehand.

use aegis_types::{LaneId, Nanos, Time};

use crate::error::DeviceError;

/// A planned fault: it strikes one launch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The lane that it strikes.
    pub lane: LaneId,
    /// Which launch of the lane.
    pub trigger: FaultTrigger,
    /// What happens.
    pub kind: FaultKind,
}

/// Which launch a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultTrigger {
    /// The launch with this number on its lane, counted from zero at binding; launches that failed count.
    Launch(u64),
    /// The first launch at or after this instant.
    From(Time),
}

/// What a fault does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// The segment takes so much longer.
    Longer(Nanos),
    /// The segment takes at least this long, then ends as if nothing had happened: a hang that is finite.
    Hang(Nanos),
    /// The launch is refused before anything ran; it takes no time.
    NotStarted,
    /// The segment occupies its lane to the end of its duration and fails.
    Fails,
    /// The segment ends in time, its completion becomes visible so much later.
    FlagDelayed(Nanos),
    /// The context is lost: this launch, everything in flight and every later call fail.
    DeviceLost,
}

/// How a launch failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LaunchFault {
    /// Before anything ran.
    NotStarted,
    /// After it had started; the lane is occupied until the segment's end.
    Failed,
    /// With the whole device.
    Lost(DeviceError),
}
