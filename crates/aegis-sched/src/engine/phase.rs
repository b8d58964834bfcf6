//! What a lane does, and how far its certificate can be trusted: two state machines with one door each.

use aegis_types::{DispatchSeq, Nanos, TaskId, Time};

/// What a lane does.
///
/// ```text
///   Idle --Release--> Ready --Dispatch--> Running --Vacate--> Ready --Empty--> Idle
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// No job is pending.
    Idle,
    /// Free while a job is ready.
    Ready {
        /// Since when; the lane must decide at this stamp (E2).
        since: Time,
    },
    /// A segment is in flight.
    Running(InFlight),
}

/// The segment that occupies a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InFlight {
    /// The task; the segment belongs to its oldest job.
    pub(super) task: TaskId,
    /// The number that the completion flag must carry.
    pub(super) dispatch: DispatchSeq,
    /// Stamp of this dispatch.
    pub(super) since: Time,
    /// Stamp of the segment's first dispatch: the budget covers every attempt.
    pub(super) first: Time,
    /// The occupancy budget C' that it was dispatched under.
    pub(super) budget: Nanos,
}

impl InFlight {
    /// The first instant at which the budget is over.
    pub(super) fn expiry(&self) -> Time {
        self.first.saturating_add(self.budget).saturating_add(Nanos::new(1))
    }
}

/// What happens to a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PhaseEvent {
    /// A job was released at this stamp.
    Release(Time),
    /// A segment was given the lane.
    Dispatch(InFlight),
    /// The segment in flight is launched again.
    Retry(InFlight),
    /// The segment in flight ended at this stamp.
    Vacate(Time),
    /// The last pending job left.
    Empty,
}

impl Phase {
    /// The one door: the phase after `event`, or the illegal pair.
    pub(super) const fn next(self, event: PhaseEvent) -> Result<Self, (Self, PhaseEvent)> {
        use PhaseEvent as E;
        match (self, event) {
            (Self::Idle, E::Release(at)) => Ok(Self::Ready { since: at }),
            (Self::Ready { .. } | Self::Running(_), E::Release(_)) => Ok(self),
            (Self::Ready { .. }, E::Dispatch(segment)) | (Self::Running(_), E::Retry(segment)) => {
                Ok(Self::Running(segment))
            }
            (Self::Running(_), E::Vacate(at)) => Ok(Self::Ready { since: at }),
            (Self::Ready { .. }, E::Empty) => Ok(Self::Idle),
            (Self::Idle, E::Dispatch(_) | E::Retry(_) | E::Vacate(_) | E::Empty)
            | (Self::Ready { .. }, E::Retry(_) | E::Vacate(_))
            | (Self::Running(_), E::Dispatch(_) | E::Empty) => Err((self, event)),
        }
    }
}

/// How far the certificate of a lane holds in the current busy period. It only ever gets worse until the lane idles; under
/// a policy that inserts idle time a lane that lost its bounds has none until the run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trust {
    /// No assumption broke: responses are bounded by the WCRT.
    Whole,
    /// Budgets were overrun by no more than the lane tolerates: R(X) bounds responses.
    Strained,
    /// An assumption other than a budget broke: no bound is claimed. Load is not shed, for nothing says that the
    /// lane is overloaded.
    Broken,
    /// Budgets were overrun by more than the lane tolerates: no bound is claimed, and load is shed.
    Shedding,
}

impl Trust {
    /// The one door: of what is true already and what is learnt, the worse holds. Every pair is legal; only the
    /// lane's idling, which starts a busy period with a value of its own, makes it whole again.
    #[must_use = "the lane's certificate must not stay in the better state"]
    pub(super) fn after(self, learnt: Self) -> Self {
        self.max(learnt)
    }

    /// Whether no bound is claimed.
    pub const fn is_void(self) -> bool {
        match self {
            Self::Whole | Self::Strained => false,
            Self::Broken | Self::Shedding => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_of_phase_and_event_is_decided() {
        use PhaseEvent as E;
        let at = Time::new(7);
        let flight = |dispatch| InFlight {
            task: TaskId::new(1),
            dispatch: DispatchSeq::new(dispatch),
            since: Time::new(3),
            first: Time::new(2),
            budget: Nanos::new(5),
        };
        let (old, new) = (flight(1), flight(2));
        let ready = Phase::Ready { since: Time::new(1) };
        let events = [E::Release(at), E::Dispatch(new), E::Retry(new), E::Vacate(at), E::Empty];
        let (free, runs) = (Some(Phase::Ready { since: at }), Some(Phase::Running(new)));
        let table = [
            (Phase::Idle, [free, None, None, None, None]),
            (ready, [Some(ready), runs, None, None, Some(Phase::Idle)]),
            (Phase::Running(old), [Some(Phase::Running(old)), None, runs, free, None]),
        ];
        for (phase, row) in table {
            for (event, expected) in events.into_iter().zip(row) {
                assert_eq!(phase.next(event).ok(), expected, "{phase:?} {event:?}");
            }
        }
    }

    #[test]
    fn trust_only_worsens() {
        let all = [Trust::Whole, Trust::Strained, Trust::Broken, Trust::Shedding];
        for (i, a) in all.into_iter().enumerate() {
            for (j, b) in all.into_iter().enumerate() {
                assert_eq!(a.after(b), all[i.max(j)]);
            }
            assert_eq!(a.is_void(), i >= 2);
        }
    }
}
