//! Steps of a decider's cycle: the engine's inputs in virtual time, timed from outside.

use aegis_cuda::HostClock;
use aegis_sched::engine::{Engine, Input, Outbox};
use aegis_types::records::SegmentOutcome;
use aegis_types::{DispatchSeq, LaneId, Nanos, Sink};

use super::samples::Samples;
use crate::error::RuntimeError;
use crate::live::{Live, Watched};
use crate::tally::{Counted, Tally};

/// A synthetic fleet on which the engine's steps are timed.
pub struct Synthetic {
    /// Its engine, fresh.
    pub engine: Engine,
    /// Its counts: what the driver does with every record.
    pub tally: Tally,
}

/// Engine steps of one decider cycle.
pub(super) struct Steps {
    pub(super) tick: Samples,
    pub(super) completion: Samples,
    pub(super) decision: Samples,
}

/// Times the steps of a cycle in virtual time: the engine's inputs, each with the records that follow from it being
/// counted and put into a ring, and with the next look for a timer. The engine never sees the host clock.
pub(super) fn measure(synthetic: &mut Synthetic, clock: HostClock) -> Result<Steps, RuntimeError> {
    let Synthetic { engine, tally } = synthetic;
    let (mut producer, mut consumer) = aegis_trace::ring(0, 1 << 12)?;
    let live = Live::default();
    let mut outbox: Outbox = engine.outbox();
    let (mut tick, mut completion, mut decision) = (Vec::new(), Vec::new(), Vec::new());
    let mut flying: Vec<(LaneId, DispatchSeq)> = Vec::new();
    for _ in 0..20_000 {
        let Some(now) = engine.wake_at() else { break };
        let mut told = 0;
        let mut time = |engine: &mut Engine, input, outbox: &mut Outbox, into: &mut Vec<Nanos>| {
            let before = clock.now();
            engine.handle(now, input, outbox);
            let mut counted = Counted { tally: &mut *tally, next: &mut producer };
            let mut watched = Watched { live: &live, next: &mut counted };
            outbox.records()[told..].iter().for_each(|record| watched.emit(*record));
            told = outbox.records().len();
            std::hint::black_box(engine.wake_at());
            into.push(clock.now().since(before));
        };
        for (lane, dispatch) in flying.drain(..) {
            let input = Input::Completed { lane, dispatch, outcome: SegmentOutcome::Done };
            time(engine, input, &mut outbox, &mut completion);
        }
        time(engine, Input::Tick, &mut outbox, &mut tick);
        time(engine, Input::Decide, &mut outbox, &mut decision);
        flying.extend(outbox.commands().iter().map(|command| (command.lane, command.dispatch)));
        outbox.clear();
        consumer.drain(|_| {});
    }
    Ok(Steps {
        tick: Samples::trimmed(tick),
        completion: Samples::trimmed(completion),
        decision: Samples::trimmed(decision),
    })
}
