//! Steps of a decider's cycle: the engine's inputs in virtual time, timed from outside.

use aegis_cuda::HostClock;
use aegis_sched::Overheads;
use aegis_sched::engine::{Engine, Input, Outbox};
use aegis_trace::{RingConsumer, RingProducer};
use aegis_types::records::SegmentOutcome;
use aegis_types::{DispatchSeq, LaneId, Nanos, Sink};

use super::samples::Samples;
use super::series::{Charged, Series, Step, Window};
use crate::config::CalibrationRound;
use crate::error::RuntimeError;
use crate::live::Live;
use crate::tally::{Counted, Tally};

/// Timers of a round, at least.
const TIMERS: u64 = 8_000;
/// Stretches of steps that do not overlap and that a round holds at least.
const STRETCHES: u64 = 4;
/// Timers that are no samples: their steps fault pages in. The rounds that follow begin with cold caches, as a cycle does.
const WARM_UP: u64 = 64;

/// A synthetic fleet on which the engine's steps are timed.
pub struct Synthetic {
    /// Its engine, fresh.
    pub engine: Engine,
    /// Its counts: what the driver does with every record.
    pub tally: Tally,
    /// How many tasks it has.
    pub tasks: u16,
}

/// Times the steps of a cycle in virtual time: the engine's inputs, each with the records that follow from it being
/// counted and put into a ring, and with the next look for a timer. The engine never sees the host clock.
pub(super) struct Steps<'a> {
    synthetic: &'a mut Synthetic,
    clock: HostClock,
    producer: RingProducer,
    consumer: RingConsumer,
    live: Live,
    outbox: Outbox,
    flying: Vec<(LaneId, DispatchSeq)>,
    window: Window,
    rounds: Vec<Vec<(Step, Nanos)>>,
}

impl<'a> Steps<'a> {
    pub(super) fn new(synthetic: &'a mut Synthetic, clock: HostClock) -> Result<Self, RuntimeError> {
        let (producer, consumer) = aegis_trace::ring(0, 1 << 12)?;
        let lanes = synthetic.engine.lanes().count() as u64;
        let mut steps = Self {
            outbox: synthetic.engine.outbox(),
            window: Window::of(u64::from(synthetic.tasks), lanes),
            synthetic,
            clock,
            producer,
            consumer,
            live: Live::default(),
            flying: Vec::new(),
            rounds: Vec::new(),
        };
        let _warm = steps.timed(WARM_UP);
        Ok(steps)
    }

    /// A round of steps, which takes some ten milliseconds.
    pub(super) fn round(&mut self) {
        let timers = TIMERS.max(STRETCHES.saturating_mul(self.window.longest()));
        let steps = self.timed(timers);
        self.rounds.push(steps);
    }

    fn timed(&mut self, timers: u64) -> Vec<(Step, Nanos)> {
        let Self { synthetic, clock, producer, consumer, live, outbox, flying, .. } = self;
        let Synthetic { engine, tally, .. } = &mut **synthetic;
        let mut steps = Vec::with_capacity(4 * timers as usize);
        for _ in 0..timers {
            let Some(now) = engine.wake_at() else { break };
            let mut told = 0;
            let mut time = |engine: &mut Engine, step, input, outbox: &mut Outbox| {
                let before = clock.now();
                engine.handle(now, input, outbox);
                let mut counted = Counted { live: &*live, tally: &mut *tally, next: &mut *producer };
                outbox.records()[told..].iter().for_each(|record| counted.emit(*record));
                told = outbox.records().len();
                std::hint::black_box(engine.wake_at());
                steps.push((step, clock.now().since(before)));
            };
            for (lane, dispatch) in flying.drain(..) {
                let input = Input::Completed { lane, dispatch, outcome: SegmentOutcome::Done };
                time(engine, Step::Completion, input, outbox);
            }
            time(engine, Step::Tick, Input::Tick, outbox);
            time(engine, Step::Decision, Input::Decide, outbox);
            flying.extend(outbox.commands().iter().map(|command| (command.lane, command.dispatch)));
            outbox.clear();
            consumer.drain(|_| {});
        }
        steps
    }

    /// The rounds so far, without [stalls](Series::new).
    pub(super) fn charged(&self, watched: Option<Nanos>) -> Timed {
        let rounds = self.rounds.iter().map(|steps| Series::new(steps.clone(), watched)).collect();
        let charged = Charged::of(rounds, self.window);
        let [tick, completion, decision] =
            [Step::Tick, Step::Completion, Step::Decision].map(|step| charged.samples(step));
        Timed { tick, completion, decision, charged }
    }
}

/// What the driver does beside the engine's steps: empty where it does not.
#[derive(Clone, Copy)]
pub(super) struct Looks<'a> {
    /// Looking at every lane.
    pub(super) poll: &'a Samples,
    /// Handing a dispatch over; launching it, where the driver does.
    pub(super) dispatch: &'a Samples,
    /// Ending what landed.
    pub(super) landing: &'a Samples,
    /// Asking whether a segment can still end, once a cycle at most.
    pub(super) question: &'a Samples,
}

/// Engine steps of one decider cycle.
pub(super) struct Timed {
    pub(super) tick: Samples,
    pub(super) completion: Samples,
    pub(super) decision: Samples,
    charged: Charged,
}

impl Timed {
    /// What the driver is charged with on its own thread: its looks beside these steps. Everything else is zero.
    pub(super) fn driver(&self, looks: Looks<'_>, margin_ppm: u64) -> Overheads {
        let Looks { poll, dispatch, landing, question } = looks;
        let step = |step| self.charged.step(step, margin_ppm);
        let [look, post, end, ask] = [poll, dispatch, landing, question].map(|it| it.charged(margin_ppm));
        let beyond = [poll, dispatch, landing, question].map(Samples::beyond);
        let tick = step(Step::Tick);
        Overheads {
            poll: look.saturating_add(ask).saturating_add(self.charged.look(beyond, margin_ppm)),
            release: tick,
            arrival: tick,
            completion: step(Step::Completion).saturating_add(end),
            decision: step(Step::Decision),
            dispatch: post,
            control: tick,
            ..Overheads::default()
        }
    }

    /// What each round would charge by itself.
    pub(super) fn rounds(&self, margin_ppm: u64) -> Vec<CalibrationRound> {
        self.charged.rounds(margin_ppm)
    }
}
