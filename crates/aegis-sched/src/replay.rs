//! Replay: the recorded inputs of a trace, fed to a new engine, must give the recorded decisions byte for byte.

use std::sync::Arc;

use aegis_types::records::EngineStarted;
use aegis_types::{RawRecord, Record, TaskId, Time};

use crate::engine::{ChangeError, Engine, Input, Misuse, Outbox};
use crate::error::ModelError;
use crate::explain::{TraceGap, decision_ring, gap_between, is_decision};
use crate::model::TaskSet;
use crate::policy::SchedulingPolicy;
use crate::referee::certificate::Certificate;

/// How far a replay came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replay {
    /// Inputs that were fed.
    pub inputs: u64,
    /// Records that were found equal, inputs included.
    pub equal: u64,
    /// Where and why it ended.
    pub end: ReplayEnd,
}

/// Where and why a replay ended. Positions count in the records given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReplayEnd {
    /// Every decision was made again, in full.
    Identical,
    /// The trace ends amid the consequences of its last input; what there is, is equal.
    Truncated {
        /// Records that the trace lacks.
        missing: usize,
    },
    /// The first record that differs.
    Diverged {
        /// Its position.
        position: usize,
        /// What was recorded.
        recorded: RawRecord,
        /// What the replay gave instead; `None` if nothing.
        replayed: Option<RawRecord>,
    },
    /// Records are missing: whatever follows depends on inputs that are not known.
    Gap {
        /// The position of the first record after it.
        position: usize,
        /// The gap.
        gap: TraceGap,
    },
    /// An input that no driver may give.
    Illegal {
        /// Its position.
        position: usize,
        /// Which duty it breaks.
        misuse: Misuse,
    },
    /// Another engine took over there, and the change that was given does not make it.
    NoSuccessor {
        /// The position of the record of its start.
        position: usize,
    },
    /// The trace holds no decisions.
    NoStart,
}

/// A certificate that took over from the one before it in a trace.
pub struct Change<'a> {
    /// Its tasks.
    pub set: &'a TaskSet,
    /// The certificate.
    pub certificate: &'a Certificate,
    /// The policy.
    pub policy: Arc<dyn SchedulingPolicy>,
    /// How it took over.
    pub takeover: Takeover<'a>,
}

/// How a certificate took over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takeover<'a> {
    /// [`Engine::successor`]: every lane was idle.
    AtIdle,
    /// [`Engine::widened`].
    Widened {
        /// Tasks that get no jobs any more.
        retiring: &'a [TaskId],
    },
    /// [`Engine::narrowed`].
    Narrowed {
        /// For each task its number before.
        numbers: &'a [TaskId],
    },
}

impl Change<'_> {
    /// The engine that takes over from `engine` at `now`.
    ///
    /// # Errors
    /// [`ChangeError`]; `engine` goes on as if nothing had been asked.
    pub fn after(&self, engine: &Engine, now: Time) -> Result<Engine, ChangeError> {
        let (certificate, policy) = (self.certificate.clone(), Box::new(Arc::clone(&self.policy)));
        match self.takeover {
            Takeover::AtIdle => engine.successor(self.set, certificate, policy, now),
            Takeover::Widened { retiring } => engine.widened(self.set, certificate, policy, retiring, now),
            Takeover::Narrowed { numbers } => engine.narrowed(self.set, certificate, policy, numbers, now),
        }
    }
}

/// Feeds the recorded inputs to a new engine and compares what follows with what was recorded: stamp, kind and
/// payload of every record, in order. The ring of decisions must be given in full.
///
/// # Errors
/// [`ModelError`] if set, certificate and policy do not make an engine.
pub fn replay(
    records: &[RawRecord],
    set: &TaskSet,
    certificate: &Certificate,
    policy: Box<dyn SchedulingPolicy>,
) -> Result<Replay, ModelError> {
    replay_changes(records, set, certificate, policy, &[])
}

/// As [`replay`], of a trace in which other certificates took over, in this order.
///
/// # Errors
/// As [`replay`].
pub fn replay_changes(
    records: &[RawRecord],
    set: &TaskSet,
    certificate: &Certificate,
    policy: Box<dyn SchedulingPolicy>,
    changes: &[Change<'_>],
) -> Result<Replay, ModelError> {
    let mut run = Replay { inputs: 0, equal: 0, end: ReplayEnd::NoStart };
    let Some(ring) = decision_ring(records) else { return Ok(run) };
    let stream = || records.iter().enumerate().filter(|(_, raw)| raw.producer() == ring);
    let Some((_, first)) = stream().find(|(_, raw)| is_decision(raw)) else { return Ok(run) };
    let engine = Engine::new(set, certificate.clone(), policy, first.stamp)?;
    let out = engine.outbox();
    let mut replayer = Replayer { engine, out, matched: 0, start: None, changes: changes.iter() };
    let mut last: Option<&RawRecord> = None;
    for (position, raw) in stream() {
        if let Some(gap) = gap_between(last, raw) {
            run.end = ReplayEnd::Gap { position, gap };
            return Ok(run);
        }
        last = Some(raw);
        if !is_decision(raw) {
            continue;
        }
        match replayer.take(position, raw) {
            Ok(fed) => {
                run.inputs += u64::from(fed);
                run.equal += 1;
            }
            Err(end) => {
                run.end = *end;
                return Ok(run);
            }
        }
    }
    run.end = match replayer.unmatched() {
        0 => ReplayEnd::Identical,
        missing => ReplayEnd::Truncated { missing },
    };
    Ok(run)
}

struct Replayer<'a> {
    engine: Engine,
    out: Outbox,
    /// Records of the outbox that the trace has confirmed.
    matched: usize,
    /// The record that opens the trace, until the first input makes the engine tell its own.
    start: Option<(usize, RawRecord)>,
    /// Changes that are still to come.
    changes: std::slice::Iter<'a, Change<'a>>,
}

impl Replayer<'_> {
    fn unmatched(&self) -> usize {
        self.out.records().len() - self.matched
    }

    /// Takes the next record of the trace; returns whether it was an input to feed.
    fn take(&mut self, position: usize, raw: &RawRecord) -> Result<bool, Box<ReplayEnd>> {
        if self.unmatched() > 0 {
            return self.compare(position, raw).map(|()| false);
        }
        if raw.kind() == EngineStarted::SCHEMA.kind && self.start.is_none() {
            self.follow(position, raw)?;
            self.start = Some((position, *raw));
            return Ok(false);
        }
        let Some(input) = Input::from_record(raw) else {
            return Err(Box::new(ReplayEnd::Diverged { position, recorded: *raw, replayed: None }));
        };
        self.engine
            .check(raw.stamp, &input)
            .map_err(|misuse| Box::new(ReplayEnd::Illegal { position, misuse }))?;
        self.out.clear();
        self.matched = 0;
        self.engine.handle(raw.stamp, input, &mut self.out);
        if let Some((position, start)) = self.start.take() {
            self.compare(position, &start)?;
        }
        self.compare(position, raw).map(|()| true)
    }

    /// Makes the engine whose start is recorded: the first one is there already.
    fn follow(&mut self, position: usize, raw: &RawRecord) -> Result<(), Box<ReplayEnd>> {
        if self.out.records().is_empty() {
            return Ok(());
        }
        let Some(change) = self.changes.next() else {
            return Err(Box::new(ReplayEnd::Diverged { position, recorded: *raw, replayed: None }));
        };
        let next = change.after(&self.engine, raw.stamp);
        self.engine = next.map_err(|_| Box::new(ReplayEnd::NoSuccessor { position }))?;
        self.out = self.engine.outbox();
        self.matched = 0;
        Ok(())
    }

    fn compare(&mut self, position: usize, recorded: &RawRecord) -> Result<(), Box<ReplayEnd>> {
        let replayed = self.out.records().get(self.matched).copied();
        let content = |raw: &RawRecord| (raw.stamp, raw.kind(), raw.payload);
        if replayed.as_ref().map(content) != Some(content(recorded)) {
            return Err(Box::new(ReplayEnd::Diverged { position, recorded: *recorded, replayed }));
        }
        self.matched += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use aegis_types::Time;

    use super::*;
    use crate::engine::tests::world::{Fixture, Seeded, World, for_seeds, random_fleet};
    use crate::explain::tests::wild_script;

    fn recorded(seed: u64) -> (Fixture, World) {
        let mut random = Seeded(seed);
        let (specs, submissions) = random_fleet(&mut random, 500);
        let policies = crate::policy::POLICIES;
        let policy = policies[usize::try_from(random.below(policies.len() as u64)).unwrap()];
        let fixture = Fixture::new(policy, random.below(10), &specs);
        let mut world = fixture.world();
        wild_script(&mut random, &specs, &mut world);
        world.run(&submissions, 500);
        (fixture, world)
    }

    fn again(fixture: &Fixture, records: &[RawRecord]) -> Replay {
        replay(records, &fixture.set, &fixture.certificate, fixture.policy()).unwrap()
    }

    #[test]
    fn a_replay_makes_every_decision_again() {
        for_seeds("a_replay_makes_every_decision_again", 100, |seed| {
            let (fixture, world) = recorded(seed);
            let replay = again(&fixture, &world.records);
            assert_eq!(replay.end, ReplayEnd::Identical);
            assert_eq!(replay.equal, world.records.len() as u64);
            assert!(replay.inputs > 10);
        });
    }

    #[test]
    fn every_forged_word_is_found_where_it_is() {
        let (fixture, world) = recorded(1);
        let count = world.records.len().min(120);
        for position in 0..count {
            for word in 0..6 {
                let mut records = world.records[..count].to_vec();
                records[position].payload[word] ^= 1 << 40;
                match again(&fixture, &records).end {
                    ReplayEnd::Diverged { position: at, .. } | ReplayEnd::Illegal { position: at, .. } => {
                        // A forged input is equal to itself: what shows is what it did not lead to.
                        let input = (2..=7).contains(&records[position].kind());
                        assert!(at == position || (input && at > position), "{position}.{word}: {at}");
                    }
                    end => panic!("{position}.{word}: {end:?} of {:?}", records[position]),
                }
            }
        }
    }

    #[test]
    fn a_gap_stops_the_replay_at_its_place() {
        let (fixture, world) = recorded(2);
        for lost in 0..60 {
            let mut records = world.records.clone();
            records.remove(lost);
            let end = again(&fixture, &records).end;
            let from = lost.checked_sub(1).map_or(Time::ZERO, |index| world.records[index].stamp);
            let to = world.records[lost + 1].stamp;
            let gap = TraceGap { from, to, lost: 1 };
            assert_eq!(end, ReplayEnd::Gap { position: lost, gap });
        }
    }

    #[test]
    fn every_prefix_replays_as_far_as_it_goes() {
        let (fixture, world) = recorded(3);
        for length in 0..world.records.len().min(200) {
            let end = again(&fixture, &world.records[..length]).end;
            let expected = matches!(end, ReplayEnd::Identical | ReplayEnd::Truncated { .. });
            assert!(expected || (length == 0 && end == ReplayEnd::NoStart), "{length}: {end:?}");
        }
    }

    #[test]
    fn another_certificate_shows_in_the_first_record() {
        let (fixture, world) = recorded(4);
        let other = Fixture::new(fixture.policy, 4_000, &specs_of(4));
        let end = replay(&world.records, &other.set, &other.certificate, other.policy()).unwrap().end;
        assert!(matches!(end, ReplayEnd::Diverged { position: 0, .. }), "{end:?}");
    }

    fn specs_of(seed: u64) -> Vec<crate::engine::tests::world::Spec> {
        random_fleet(&mut Seeded(seed), 500).0
    }
}
