//! The closed list of what can happen to the engine, and how each input travels in a trace.

use aegis_types::records::{
    ArrivalHandled, CompletionHandled, Control, ControlHandled, DecideHandled, SegmentOutcome, StallHandled,
    TickHandled,
};
use aegis_types::{DispatchSeq, LaneId, Nanos, RawRecord, Record, TaskId, Time};

/// What the driver tells the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// Release what is due: at most one job of each task; and tell of segments in flight whose budget is over.
    Tick,
    /// A client submits a job.
    Arrival {
        /// The task.
        task: TaskId,
        /// The client's number for the submission, returned in the answer.
        token: u64,
    },
    /// A lane's completion flag was seen.
    Completed {
        /// The lane.
        lane: LaneId,
        /// The number that the flag carried.
        dispatch: DispatchSeq,
        /// How the segment ended.
        outcome: SegmentOutcome,
    },
    /// The driver saw itself stalled for longer than was declared.
    Stall {
        /// The gap between two looks.
        gap: Nanos,
        /// The declared limit.
        limit: Nanos,
    },
    /// A command of the operator.
    Control(Control),
    /// Every input of this stamp was told; decide for each free lane.
    Decide,
}

impl Input {
    /// The record by which the input is told to a trace; `cycle` counts the decisions before it.
    pub(super) fn record(self, now: Time, cycle: u64) -> RawRecord {
        match self {
            Self::Tick => TickHandled { cycle }.at(now),
            Self::Arrival { task, token } => ArrivalHandled { task, token }.at(now),
            Self::Completed { lane, dispatch, outcome } => {
                CompletionHandled { lane, dispatch, outcome }.at(now)
            }
            Self::Stall { gap, limit } => StallHandled { gap, limit }.at(now),
            Self::Control(control) => ControlHandled { control }.at(now),
            Self::Decide => DecideHandled { cycle }.at(now),
        }
    }

    /// The input that a record tells of, or `None` if the record is no input or is out of range.
    pub fn from_record(raw: &RawRecord) -> Option<Self> {
        match raw.kind() {
            2 => TickHandled::read(raw).map(|_| Self::Tick),
            3 => ArrivalHandled::read(raw).map(|r| Self::Arrival { task: r.task, token: r.token }),
            4 => CompletionHandled::read(raw).map(|r| Self::Completed {
                lane: r.lane,
                dispatch: r.dispatch,
                outcome: r.outcome,
            }),
            5 => DecideHandled::read(raw).map(|_| Self::Decide),
            6 => ControlHandled::read(raw).map(|r| Self::Control(r.control)),
            7 => StallHandled::read(raw).map(|r| Self::Stall { gap: r.gap, limit: r.limit }),
            _ => None,
        }
    }
}

/// An input that breaks the driver's duties. [`Engine::handle`](super::Engine::handle) panics on it; whoever feeds
/// inputs from outside, such as a replay, asks [`Engine::check`](super::Engine::check) first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Misuse {
    /// Stamps must not decrease (E1).
    #[error("an input is stamped {now}, before the last one at {last}; stamps must not decrease")]
    TimeRunsBackwards {
        /// The stamp given.
        now: Time,
        /// The last stamp.
        last: Time,
    },
    /// There is no such lane.
    #[error("a completion names {lane}; there are {lanes} lanes")]
    UnknownLane {
        /// The lane given.
        lane: LaneId,
        /// How many there are.
        lanes: usize,
    },
    /// A flag that does not belong to the segment in flight would free a busy lane.
    #[error("a completion of {lane} carries dispatch {given}; in flight is {expected} (0: nothing)")]
    WrongDispatch {
        /// The lane.
        lane: LaneId,
        /// The number given.
        given: u64,
        /// The number in flight, or zero.
        expected: u64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_input_survives_the_trace() {
        let inputs = [
            Input::Tick,
            Input::Arrival { task: TaskId::new(3), token: 9 },
            Input::Completed {
                lane: LaneId::new(1),
                dispatch: DispatchSeq::new(4),
                outcome: SegmentOutcome::NotStarted,
            },
            Input::Stall { gap: Nanos::new(7), limit: Nanos::new(5) },
            Input::Control(Control::Stop),
            Input::Decide,
        ];
        for input in inputs {
            let raw = input.record(Time::new(11), 2);
            assert!((2..=7).contains(&raw.kind()));
            assert_eq!(Input::from_record(&raw), Some(input));
        }
        assert_eq!(Input::from_record(&RawRecord::new(Time::ZERO, 20, [0; 6])), None);
        assert_eq!(Input::from_record(&RawRecord::new(Time::ZERO, 6, [99, 0, 0, 0, 0, 0])), None);
    }
}
