//! Visits of launchers to their lanes, timed while models of the rehearsal go round on them.

use std::sync::{Arc, Mutex, PoisonError};

use aegis_types::record::Discard;
use aegis_types::records::SegmentOutcome;
use aegis_types::{LaneId, Nanos, PartitionId, Sink, Time};

use super::samples::Samples;
use crate::carrier::{LaneReport, LaneSpec, Work};
use crate::error::RuntimeError;
use crate::mailbox::Launch;
use crate::models::LaneModels;
use crate::run::Berths;
use crate::system::System;

/// Visits of each kind that are kept for each lane.
const ROOM: usize = 1 << 17;

/// Durations of visits, by what was done in them.
#[derive(Clone, Debug, Default)]
pub(super) struct Raw {
    launching: Vec<Nanos>,
    ending: Vec<Nanos>,
    both: Vec<Nanos>,
}

/// The same as samples.
pub(super) struct Turns {
    pub(super) launching: Samples,
    pub(super) ending: Samples,
    pub(super) both: Samples,
    /// The median of all visits to a model, of the model with the longest: bursts of that one decide what is
    /// charged, and profiles tell the same of their tasks.
    pub(super) mark: Nanos,
}

impl Turns {
    pub(super) fn of(raw: Raw, reports: &[LaneReport]) -> Self {
        let marks = reports.iter().flat_map(|report| &report.models).map(|model| model.turn);
        Self {
            launching: Samples::trimmed(raw.launching),
            ending: Samples::trimmed(raw.ending),
            both: Samples::trimmed(raw.both),
            mark: marks.max().unwrap_or(Nanos::ZERO),
        }
    }

    /// The median of a visit that launches, with an ending in it or not, whichever is longer.
    pub(super) fn median(&self) -> Nanos {
        self.launching.quantile(500).max(self.both.quantile(500))
    }

    /// What a single visit takes at most. A visit that ends one job and launches the next is rare while the driver is slower
    /// than the launcher, so it is charged as both at least.
    pub(super) fn longest(&self, margin_ppm: u64) -> Nanos {
        let apart = self.launching.charged(margin_ppm).saturating_add(self.ending.charged(margin_ppm));
        apart.max(self.both.charged(margin_ppm))
    }
}

/// The lanes of a rehearsal, whose visits go to `turns` when they end.
pub(super) fn lanes(system: &System, turns: &Arc<Mutex<Raw>>) -> Result<Vec<LaneSpec>, RuntimeError> {
    let mut berths = Berths::unmeasured(system)?;
    let spec = |(lane, partition, own_carrier): (LaneId, PartitionId, bool)| {
        let (models, turns) = (berths.take(lane), Arc::clone(turns));
        let make = move |lane| {
            let inner = LaneModels::load(lane, models, None)?;
            Ok(Box::new(Timed::new(inner, turns)) as Box<dyn Work>)
        };
        LaneSpec { lane, partition, own_carrier, make: Box::new(make), sink: Box::new(Discard) }
    };
    Ok(system.places().map(spec).collect())
}

/// The work of a lane with every visit of the launcher timed.
struct Timed {
    inner: LaneModels,
    launched: bool,
    ended: bool,
    kept: Raw,
    turns: Arc<Mutex<Raw>>,
}

impl Timed {
    fn new(inner: LaneModels, turns: Arc<Mutex<Raw>>) -> Self {
        let room = || Vec::with_capacity(ROOM);
        let kept = Raw { launching: room(), ending: room(), both: room() };
        Self { inner, launched: false, ended: false, kept, turns }
    }
}

impl Work for Timed {
    fn run(&mut self, launch: &Launch, ended: &mut dyn FnMut(SegmentOutcome)) {
        self.launched = true;
        self.inner.run(launch, ended);
    }

    fn landed(&mut self, launch: &Launch, outcome: SegmentOutcome) {
        self.ended = true;
        self.inner.landed(launch, outcome);
    }

    fn probe(&mut self) {
        self.inner.probe();
    }

    fn asked(&mut self, launch: &Launch, took: Nanos) {
        self.inner.asked(launch, took);
    }

    fn settled(&mut self) -> bool {
        self.inner.settled()
    }

    fn lost(&self) -> Option<&str> {
        self.inner.lost()
    }

    fn turned(&mut self, launch: &Launch, turn: Nanos) -> Nanos {
        let excess = self.inner.turned(launch, turn);
        let kind = match (std::mem::take(&mut self.launched), std::mem::take(&mut self.ended)) {
            (true, true) => &mut self.kept.both,
            (true, false) => &mut self.kept.launching,
            (false, _) => &mut self.kept.ending,
        };
        if kind.len() < kind.capacity() {
            kind.push(turn);
        }
        excess
    }

    fn loaded(&self, now: Time, sink: &mut dyn Sink) {
        self.inner.loaded(now, sink);
    }

    fn watch(&mut self, launch: &Launch, occupancy: Nanos, now: Time, sink: &mut dyn Sink) {
        self.inner.watch(launch, occupancy, now, sink);
    }

    fn finish(self: Box<Self>) -> LaneReport {
        let Self { inner, mut kept, turns, .. } = *self;
        // Warm-up: the first visits of a lane fault pages in.
        let warm = |samples: &mut Vec<Nanos>| drop(samples.drain(..samples.len().min(WARM_UP)));
        [&mut kept.launching, &mut kept.ending].into_iter().for_each(warm);
        let mut all = turns.lock().unwrap_or_else(PoisonError::into_inner);
        all.launching.append(&mut kept.launching);
        all.ending.append(&mut kept.ending);
        all.both.append(&mut kept.both);
        drop(all);
        Box::new(inner).finish()
    }
}

/// Visits of a lane that are no samples.
const WARM_UP: usize = 64;
