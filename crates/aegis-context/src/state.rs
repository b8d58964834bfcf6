//! What may follow what: the state machines of lanes and execution contexts.
//!
//! Each has one door, `next`, which lists every pair of state and event. `docs/state-machines.md` is generated from
//! them by [`state_machines_markdown`].

use std::fmt;

use aegis_types::{DispatchSeq, SegmentIndex};

use crate::io::Slot;

mod table;

pub use table::state_machines_markdown;

/// An event that is not allowed in a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{event} is illegal while {state}")]
pub struct Illegal<S: fmt::Display, E: fmt::Display> {
    /// The state, which stays.
    pub state: S,
    /// The event that was refused.
    pub event: E,
}

/// What a lane is doing.
///
/// ```text
/// Unbound --Bind--> Idle(n) --Launch(m > n)--> Launched(m) --Complete(m)--> Idle(m)
///                      \____________________________\__________Lose______> Lost
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaneState {
    /// No thread carries it.
    Unbound,
    /// Nothing is in flight; the last dispatch had this number.
    Idle(DispatchSeq),
    /// The segment of this dispatch is in flight.
    Launched(DispatchSeq),
    /// Its stream failed for good.
    Lost,
}

/// What happens to a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaneEvent {
    /// A thread takes the lane.
    Bind,
    /// A segment is launched. A number that is not larger than the last one is stale and would free a busy lane.
    Launch(DispatchSeq),
    /// The completion flag shows the number.
    Complete(DispatchSeq),
    /// A fatal error was seen.
    Lose,
}

impl LaneState {
    /// The state after `event`.
    ///
    /// # Errors
    /// [`Illegal`] if the event cannot happen in this state.
    pub fn next(self, event: LaneEvent) -> Result<Self, Illegal<Self, LaneEvent>> {
        use LaneEvent as E;
        match (self, event) {
            (Self::Unbound, E::Bind) => Ok(Self::Idle(DispatchSeq::NONE)),
            (Self::Idle(last), E::Launch(seq)) if seq > last => Ok(Self::Launched(seq)),
            (Self::Launched(running), E::Complete(seq)) if seq == running => Ok(Self::Idle(seq)),
            // A second fatal error on the way out changes nothing.
            (Self::Idle(_) | Self::Launched(_) | Self::Lost, E::Lose) => Ok(Self::Lost),
            (Self::Unbound, E::Launch(_) | E::Complete(_) | E::Lose)
            | (Self::Idle(_), E::Bind | E::Launch(_) | E::Complete(_))
            | (Self::Launched(_), E::Bind | E::Launch(_) | E::Complete(_))
            | (Self::Lost, E::Bind | E::Launch(_) | E::Complete(_)) => Err(Illegal { state: self, event }),
        }
    }
}

/// What a loaded model is doing.
///
/// ```text
/// Loaded --Bind--> Ready --Launch(0)--> Running(s) --Done(last)--> Ready
///                    ^                   |  |  \--Done(more)--> Suspended(s + 1) --Launch(s + 1)--> Running
///                    |____Fail___________|  |--NotStarted--> Ready, or Suspended(s) inside a job
///                                           `--Panic--> Poisoned
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExecutionState {
    /// The backend loaded it; no buffer is bound.
    Loaded,
    /// The next launch begins a job.
    Ready,
    /// A segment is being launched.
    Running {
        /// Which.
        segment: SegmentIndex,
        /// The slot of its job.
        slot: Slot,
    },
    /// A job waits between two segments.
    Suspended {
        /// The segment that is due.
        next: SegmentIndex,
        /// The slot of its job.
        slot: Slot,
    },
    /// Its backend panicked: what it left behind is unknown, so nothing is launched any more.
    Poisoned,
}

/// What happens to a loaded model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExecutionEvent {
    /// Its buffers are bound.
    Bind,
    /// A segment is launched. Segment 0 begins a job and abandons what was left of the one before.
    Launch {
        /// Which segment.
        segment: SegmentIndex,
        /// The slot of its job.
        slot: Slot,
    },
    /// The segment was enqueued.
    Done {
        /// Whether the job has a segment after it.
        more: bool,
    },
    /// The segment failed before anything ran.
    NotStarted,
    /// The segment failed; its job is abandoned.
    Fail,
    /// The backend panicked.
    Panic,
}

impl ExecutionState {
    /// The state after `event`.
    ///
    /// # Errors
    /// [`Illegal`] if the event cannot happen in this state.
    pub fn next(self, event: ExecutionEvent) -> Result<Self, Illegal<Self, ExecutionEvent>> {
        use ExecutionEvent as E;
        let first = SegmentIndex::new(0);
        match (self, event) {
            (Self::Loaded, E::Bind) => Ok(Self::Ready),
            (Self::Ready | Self::Suspended { .. }, E::Launch { segment, slot }) if segment == first => {
                Ok(Self::Running { segment, slot })
            }
            (Self::Suspended { next, slot: own }, E::Launch { segment, slot })
                if (segment, slot) == (next, own) =>
            {
                Ok(Self::Running { segment, slot })
            }
            (Self::Running { segment, slot }, E::Done { more: true }) => {
                Ok(Self::Suspended { next: SegmentIndex::new(segment.get().saturating_add(1)), slot })
            }
            (Self::Running { .. }, E::Done { more: false } | E::Fail) => Ok(Self::Ready),
            (Self::Running { segment, slot }, E::NotStarted) if segment != first => {
                Ok(Self::Suspended { next: segment, slot })
            }
            (Self::Running { .. }, E::NotStarted) => Ok(Self::Ready),
            (Self::Running { .. }, E::Panic) => Ok(Self::Poisoned),
            (Self::Running { .. }, E::Bind | E::Launch { .. })
            | (Self::Loaded, E::Launch { .. } | E::Done { .. } | E::NotStarted | E::Fail | E::Panic)
            | (
                Self::Ready | Self::Suspended { .. },
                E::Bind | E::Launch { .. } | E::Done { .. } | E::NotStarted | E::Fail | E::Panic,
            )
            | (
                Self::Poisoned,
                E::Bind | E::Launch { .. } | E::Done { .. } | E::NotStarted | E::Fail | E::Panic,
            ) => Err(Illegal { state: self, event }),
        }
    }
}

impl fmt::Display for LaneState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unbound => f.write_str("Unbound"),
            Self::Idle(last) => write!(f, "Idle({})", last.get()),
            Self::Launched(seq) => write!(f, "Launched({})", seq.get()),
            Self::Lost => f.write_str("Lost"),
        }
    }
}

impl fmt::Display for LaneEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind => f.write_str("Bind"),
            Self::Launch(seq) => write!(f, "Launch({})", seq.get()),
            Self::Complete(seq) => write!(f, "Complete({})", seq.get()),
            Self::Lose => f.write_str("Lose"),
        }
    }
}

impl fmt::Display for ExecutionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loaded => f.write_str("Loaded"),
            Self::Ready => f.write_str("Ready"),
            Self::Running { segment, slot } => write!(f, "Running({segment}, {slot})"),
            Self::Suspended { next, slot } => write!(f, "Suspended({next}, {slot})"),
            Self::Poisoned => f.write_str("Poisoned"),
        }
    }
}

impl fmt::Display for ExecutionEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind => f.write_str("Bind"),
            Self::Launch { segment, slot } => write!(f, "Launch({segment}, {slot})"),
            Self::Done { more: true } => f.write_str("Done(more)"),
            Self::Done { more: false } => f.write_str("Done(last)"),
            Self::NotStarted => f.write_str("NotStarted"),
            Self::Fail => f.write_str("Fail"),
            Self::Panic => f.write_str("Panic"),
        }
    }
}
