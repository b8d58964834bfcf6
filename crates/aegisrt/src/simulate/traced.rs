//! Checkers 6, 7 and 8: what a trace keeps is all there was or says what is missing, decides the same again, and
//! explains every nanosecond.
//!
//! A run is made three times: with its trace in a file, in memory, and behind a ring that is full most of the time. The
//! decisions must be the same each time, because recording never changes one.

use std::collections::BTreeMap;
use std::path::Path;

use aegis_sched::engine;
use aegis_sched::explain::{Explainer, Explanation};
use aegis_sched::replay::{ReplayEnd, replay};
use aegis_trace::{RingProducer, Trace, TraceCollector, TraceError, TraceMode, TraceOptions};
use aegis_types::records::SCHEMAS;
use aegis_types::{Nanos, RawRecord, Sink, Time};

use super::SimulateError;
use super::episode::Episode;
use super::policy::PolicyChoice;

/// Records of a ring that is drained before it is full.
const ROOM: usize = 4_096;
/// Records of a ring that is drained far too seldom.
const CRAMPED: usize = 64;
/// Records between two drains.
const DRAIN_EVERY: usize = 1_000;

/// What came of the three runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traced {
    /// Replays that were made.
    pub replays: u64,
    /// Records that replays found equal.
    pub equal: u64,
    /// Jobs that were explained.
    pub explained: u64,
    /// Records that the full ring lost.
    pub lost: u64,
    /// What must not have happened: the number of the checker, and what.
    pub found: Vec<(u8, String)>,
}

struct Recorder {
    collector: TraceCollector,
    producer: RingProducer,
    raw: Vec<RawRecord>,
    error: Option<TraceError>,
}

impl Recorder {
    fn new(mode: TraceMode, ring: usize) -> Result<Self, TraceError> {
        let schemas = [SCHEMAS, engine::SCHEMAS].concat();
        let options = TraceOptions { mode, schemas, epoch: "simulated".into(), blobs: BTreeMap::new() };
        let mut collector = TraceCollector::new(options)?;
        let producer = collector.producer("decisions", ring)?;
        Ok(Self { collector, producer, raw: Vec::new(), error: None })
    }

    fn finish(self) -> Result<(Trace, Vec<RawRecord>), TraceError> {
        match self.error {
            Some(error) => Err(error),
            None => Ok((self.collector.finish(BTreeMap::new())?.into_trace()?, self.raw)),
        }
    }
}

impl Sink for Recorder {
    fn emit(&mut self, record: RawRecord) {
        self.raw.push(record);
        self.producer.emit(record);
        if self.raw.len().is_multiple_of(DRAIN_EVERY)
            && let Err(error) = self.collector.pump()
        {
            self.error.get_or_insert(error);
        }
    }
}

/// Makes the three runs of an episode; the file is written below `folder` and removed again.
///
/// # Errors
/// [`SimulateError`] if the world cannot be built or a trace cannot be written.
pub fn traced(episode: &Episode<'_>, policy: PolicyChoice, folder: &Path) -> Result<Traced, SimulateError> {
    let path = folder.join(format!("aegis-simulate-{}-{}.aegis", std::process::id(), episode.seed));
    let file = record(episode, policy, TraceMode::File(path.clone()), ROOM);
    let removed = std::fs::remove_file(&path);
    let (file, raw, _) = file?;
    let mut traced = Traced::default();
    if let Err(error) = removed {
        traced.found.push((6, format!("{}: {error}", path.display())));
    }
    let kept = TraceMode::Memory { records: raw.len().max(1) };
    let (memory, again, ran) = record(episode, policy, kept.clone(), ROOM)?;
    let (cramped, third, _) = record(episode, policy, kept, CRAMPED)?;
    if raw != again || raw != third {
        traced.found.push((7, "decisions depend on where the trace is kept".into()));
    }
    traced.whole(episode, policy, "file", &file, &raw)?;
    traced.whole(episode, policy, "memory", &memory, &raw)?;
    traced.gapped(episode, policy, &cramped, &raw)?;
    traced.explain(episode, &memory, &ran);
    Ok(traced)
}

/// One run: its trace, all that engine and driver emitted, and what carriers would.
fn record(
    episode: &Episode<'_>,
    policy: PolicyChoice,
    mode: TraceMode,
    ring: usize,
) -> Result<(Trace, Vec<RawRecord>, Vec<RawRecord>), SimulateError> {
    let mut recorder = Recorder::new(mode, ring)?;
    let outcome = episode.run(policy.make(), &mut recorder)?;
    let (trace, raw) = recorder.finish()?;
    Ok((trace, raw, outcome.ran))
}

fn content(record: &RawRecord) -> (Time, u16, [u64; 6]) {
    (record.stamp, record.kind(), record.payload)
}

impl Traced {
    /// A trace with room holds everything, and decides the same again.
    fn whole(
        &mut self,
        episode: &Episode<'_>,
        policy: PolicyChoice,
        place: &str,
        trace: &Trace,
        raw: &[RawRecord],
    ) -> Result<(), SimulateError> {
        let same = trace.records().iter().map(content).eq(raw.iter().map(content));
        if !same || !trace.gaps().is_empty() {
            self.found.push((6, format!("the trace in {place} holds other records than were emitted")));
        }
        let again = replay(trace.records(), &episode.scenario.set, episode.certificate, policy.make())?;
        self.replays += 1;
        self.equal += again.equal;
        if again.end != ReplayEnd::Identical || again.equal != raw.len() as u64 {
            self.found.push((7, format!("the replay of the trace in {place} ended as {again:?}")));
        }
        Ok(())
    }

    /// A trace that lost records says how many and where, and its replay stops there.
    fn gapped(
        &mut self,
        episode: &Episode<'_>,
        policy: PolicyChoice,
        trace: &Trace,
        raw: &[RawRecord],
    ) -> Result<(), SimulateError> {
        let held = trace.records().len() as u64;
        let told: u64 = trace.gaps().iter().map(|gap| gap.lost).sum();
        self.lost += told;
        if held + told != raw.len() as u64 {
            let emitted = raw.len();
            self.found.push((6, format!("{emitted} records emitted, {held} held, {told} told as lost")));
        }
        let again = replay(trace.records(), &episode.scenario.set, episode.certificate, policy.make())?;
        let inner = trace.gaps().iter().any(|gap| gap.before.is_some());
        let stops = match again.end {
            ReplayEnd::Gap { .. } => inner,
            ReplayEnd::Identical | ReplayEnd::Truncated { .. } => !inner,
            _ => false,
        };
        if !stops {
            self.found
                .push((7, format!("the replay of a trace with {told} records lost ended as {again:?}")));
        }
        Ok(())
    }

    /// Terms of every job follow each other without a gap and add up to its response.
    fn explain(&mut self, episode: &Episode<'_>, trace: &Trace, ran: &[RawRecord]) {
        // What carriers record comes through a ring of its own and splits the job's own time further.
        let carried = (0u32..).zip(ran).map(|(sequence, record)| record.placed(1, sequence));
        let mut records: Vec<RawRecord> = trace.records().iter().copied().chain(carried).collect();
        records.sort_by_key(|record| record.stamp);
        let explainer = Explainer::new(&records, episode.certificate);
        for task in episode.scenario.set.tasks() {
            for (job, known) in explainer.jobs(task.id) {
                let ended = known.ended.as_ref().map(|ended| ended.finished.response);
                let blame = match explainer.explain(job) {
                    Some(Explanation::Known(blame)) => blame,
                    other => {
                        self.found.push((8, format!("{job} of a complete trace is explained as {other:?}")));
                        continue;
                    }
                };
                self.explained += 1;
                let sum = blame.terms.iter().fold(Nanos::ZERO, |sum, term| sum.saturating_add(term.span()));
                let joined = blame.terms.windows(2).all(|pair| pair[0].to == pair[1].from);
                if Some(sum) != ended || sum != blame.response || !joined {
                    self.found.push((8, format!("the terms of {job} add up to {sum}, it took {ended:?}")));
                }
            }
        }
    }
}
