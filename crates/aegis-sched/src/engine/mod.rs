//! The engine: a state machine that is told the time and what happened, and answers with commands and records.
//!
//! It makes the theorem of `docs/model.md` true from the inside: a free lane with a ready job decides at once (E2),
//! arrivals keep their contracts (E3), and every breach of an assumption is seen and recorded with its consequence
//! (E4). It spawns, sleeps and reads nothing; the same code runs in production, in simulation and in a replay.
//!
//! # The driver's duties
//! - Stamps never decrease; the stamp of a cycle is read *after* the events of the cycle were polled (E1).
//! - In a cycle, in this order: [`Input::Stall`] where there is one (so that jobs that end in this cycle are void),
//!   completions, [`Input::Tick`], arrivals, [`Input::Control`] where there is one, then one [`Input::Decide`]. At most one completion per lane and one arrival per task. No input of
//!   the same stamp follows the decision. A release told before a completion of its stamp does no harm but one: it
//!   may find its queue full that the completion would have opened, and the refusal is recorded.
//! - [`Input::Tick`] no later than [`Engine::wake_at`].
//! - The [`Outbox`] is emptied at least once a cycle.
//!
//! | file | what it handles |
//! |---|---|
//! | `build` | checks a certificate against a task set, sizes every queue |
//! | `arrival`, `release` | clients' submissions and timers: the arrival rule, queue bounds |
//! | `dispatch` | which ready job a free lane runs |
//! | `complete` | the end of a segment and of a job |
//! | `turn` | whose turn it is under weighted round robin |
//! | `keep` | lanes that stay free although a job is ready |
//! | `hold` | decided segments that wait for excluded ones |
//! | `overrun` | broken assumptions: what still holds, what is shed; budgets that are over while a segment runs |
//! | `control` | draining and stopping |
//! | `succeed` | another set takes over where every lane is idle |
//! | `change` | tasks are added and removed while jobs are pending |
//! | `job`, `phase`, `queue`, `lane` | state machines and the slabs that hold them |

mod arrival;
mod build;
mod change;
mod complete;
mod control;
mod dispatch;
mod hold;
mod input;
mod job;
mod keep;
mod lane;
mod outbox;
mod overrun;
mod phase;
mod queue;
mod release;
mod succeed;
mod turn;
mod view;

#[cfg(test)]
pub(crate) mod tests;

use aegis_types::records::EngineStarted;
use aegis_types::{Nanos, Time};

pub use control::Mode;
pub use hold::{SegmentHeld, SegmentLaunched};
pub use input::{Input, Misuse};
pub use keep::LaneKeptFree;
pub use outbox::{Answer, Decision, Dispatch, JobEnd, Outbox};
pub use overrun::{OverrunRunning, SCHEMAS};
pub use phase::Trust;
pub use succeed::ChangeError;
pub use view::{Activity, LaneView};

use crate::policy::{Awaited, PolicyClass, ReadyJob, SchedulingPolicy};
use crate::referee::certificate::Certificate;

use lane::{Lane, TaskSlot};
use phase::Phase;

/// The scheduler of a device under one certificate.
pub struct Engine {
    certificate: Certificate,
    policy: Box<dyn SchedulingPolicy>,
    class: PolicyClass,
    tasks: Box<[TaskSlot]>,
    lanes: Box<[Lane]>,
    /// For every task, by number, those that it must not run beside.
    excluded: Box<[Box<[usize]>]>,
    /// The largest budget of the device: breaches on two lanes within it have a common cause.
    largest: Nanos,
    /// Preallocated view of a lane's ready jobs, for policies that pick.
    ready: Vec<ReadyJob>,
    /// Preallocated list of the jobs that a lane may be kept free for.
    awaited: Vec<Awaited>,
    started: EngineStarted,
    announced: bool,
    start: Time,
    now: Time,
    cycle: u64,
    mode: Mode,
}

impl Engine {
    /// Handles one input: records it, acts on it, and leaves what follows in `out`. Allocates nothing.
    ///
    /// # Panics
    /// If the driver breaks its duties: [`check`](Self::check) says how, and the outbox when it is full. Both guard
    /// bounds, so they are kept in every build.
    pub fn handle(&mut self, now: Time, input: Input, out: &mut Outbox) {
        let legal = self.check(now, &input);
        assert!(legal.is_ok(), "{legal:?}");
        self.announce(out);
        self.now = now;
        out.raw(input.record(now, self.cycle));
        match input {
            Input::Tick => self.tick(now, out),
            Input::Arrival { task, token } => self.arrival(now, task, token, out),
            Input::Completed { lane, outcome, .. } => self.completed(now, lane, outcome, out),
            Input::Stall { gap, limit } => self.stalled(now, gap, limit, out),
            Input::Control(control) => self.control(now, control, out),
            Input::Decide => self.decide(now, out),
        }
    }

    /// The earliest timer that is not handled yet, a release or the end of the budget of a segment in flight; the driver
    /// tells [`Input::Tick`] no later. `None` when no timer is running.
    pub fn wake_at(&self) -> Option<Time> {
        let releases =
            self.tasks.iter().filter(|task| !task.sporadic && !task.retired).map(|task| task.next_arrival);
        let release = if self.mode == Mode::Serving { releases.min() } else { None };
        let expiry = self.lanes.iter().filter_map(|lane| lane.expires).min();
        release.into_iter().chain(expiry).min()
    }

    /// Whether `input` may be told at `now`.
    ///
    /// # Errors
    /// [`Misuse`] naming the duty that the driver breaks.
    pub fn check(&self, now: Time, input: &Input) -> Result<(), Misuse> {
        if now < self.now {
            return Err(Misuse::TimeRunsBackwards { now, last: self.now });
        }
        let Input::Completed { lane: id, dispatch, .. } = *input else {
            return Ok(());
        };
        let Some(lane) = self.lanes.get(id.index()) else {
            return Err(Misuse::UnknownLane { lane: id, lanes: self.lanes.len() });
        };
        let expected = match lane.phase {
            Phase::Running(flight) => flight.dispatch.get(),
            Phase::Idle | Phase::Ready { .. } => 0,
        };
        if expected == 0 || expected != dispatch.get() {
            return Err(Misuse::WrongDispatch { lane: id, given: dispatch.get(), expected });
        }
        Ok(())
    }

    /// The first record of a trace stands before the first input, stamped with the engine's start.
    fn announce(&mut self, out: &mut Outbox) {
        if !self.announced {
            self.announced = true;
            out.tell(self.start, self.started);
        }
    }
}
