//! When each lane is occupied and when its flag changes: the whole state of a simulated device but its memory.

use std::collections::VecDeque;

use aegis_types::{DispatchSeq, Extent, LaneId, Nanos, Time};

use super::UNSLOWED;
use super::clock::SimClock;
use super::fault::{Fault, FaultKind, FaultTrigger, LaunchFault};
use crate::error::DeviceError;

/// Collisions kept: one is a defect, so the first few are all that anyone reads.
const COLLISIONS_KEPT: usize = 64;
/// Signals that a lane can have in flight before its queue grows; a lane has one segment in flight.
const SIGNALS_EXPECTED: usize = 8;

/// Two lanes that used the same scratch at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScratchCollision {
    /// When the later segment started.
    pub at: Time,
    /// The lane of the segment that was running, and of the one that started.
    pub lanes: [LaneId; 2],
    /// The scratch of the segment that started.
    pub extent: Extent,
}

/// Scratch of a segment: its region by address, so that equal offsets of two regions are not confused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ScratchUse {
    pub(super) region: usize,
    pub(super) extent: Extent,
}

/// The place of a track in its timeline. A lane that is bound again gets a track of its own.
#[derive(Clone, Copy, Debug)]
pub(super) struct TrackIndex(usize);

#[derive(Debug)]
pub(super) struct Timeline {
    clock: SimClock,
    slowdown: Vec<u64>,
    tracks: Vec<Track>,
    faults: Vec<Fault>,
    collisions: Vec<ScratchCollision>,
    lost: Option<DeviceError>,
}

#[derive(Debug)]
struct Track {
    lane: LaneId,
    launches: u64,
    /// End of everything enqueued.
    tail: Time,
    scratch: Option<ScratchUse>,
    flag_delay: Nanos,
    /// Signals that are not visible, in the order of their instants.
    signals: VecDeque<(Time, DispatchSeq)>,
    visible: DispatchSeq,
}

impl Track {
    /// When everything enqueued has ended and every signal is visible.
    fn end(&self) -> Time {
        self.signals.back().map_or(self.tail, |&(due, _)| due.max(self.tail))
    }
}

impl Timeline {
    pub(super) const fn new(clock: SimClock, slowdown: Vec<u64>) -> Self {
        Self { clock, slowdown, tracks: Vec::new(), faults: Vec::new(), collisions: Vec::new(), lost: None }
    }

    pub(super) fn alive(&self) -> Result<(), DeviceError> {
        self.lost.clone().map_or(Ok(()), Err)
    }

    pub(super) fn collisions(&self) -> &[ScratchCollision] {
        &self.collisions
    }

    pub(super) fn inject(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    /// The first loss is the one that is told ever after.
    pub(super) fn lose(&mut self, reason: &str) -> DeviceError {
        for track in &mut self.tracks {
            track.signals.clear();
        }
        self.lost.get_or_insert_with(|| DeviceError::Lost { reason: reason.into() }).clone()
    }

    pub(super) fn open(&mut self, lane: LaneId) -> TrackIndex {
        self.tracks.push(Track {
            lane,
            launches: 0,
            tail: self.clock.now(),
            scratch: None,
            flag_delay: Nanos::ZERO,
            signals: VecDeque::with_capacity(SIGNALS_EXPECTED),
            visible: DispatchSeq::NONE,
        });
        TrackIndex(self.tracks.len() - 1)
    }

    /// Starts a segment at the end of what the lane has enqueued.
    pub(super) fn occupy(
        &mut self,
        index: TrackIndex,
        duration: Nanos,
        scratch: Option<ScratchUse>,
    ) -> Result<(), LaunchFault> {
        self.alive().map_err(LaunchFault::Lost)?;
        let now = self.clock.now();
        let (lane, launch, start) = {
            let track = &mut self.tracks[index.0];
            let launch = track.launches;
            track.launches += 1;
            (track.lane, launch, track.tail.max(now))
        };
        let fault = self.take_fault(lane, launch, now);
        match fault {
            Some(FaultKind::NotStarted) => return Err(LaunchFault::NotStarted),
            Some(FaultKind::DeviceLost) => {
                return Err(LaunchFault::Lost(self.lose(&format!("fault at launch {launch} of {lane}"))));
            }
            _ => {}
        }
        self.note_collisions(index, start, scratch);
        let ppm = self.slowdown_at(index, start);
        let mut length = duration.scale_ppm_up(ppm).unwrap_or(Nanos::MAX);
        let mut outcome = Ok(());
        let track = &mut self.tracks[index.0];
        match fault {
            Some(FaultKind::Longer(extra)) => length = length.saturating_add(extra),
            Some(FaultKind::Hang(least)) => length = length.max(least),
            Some(FaultKind::Fails) => outcome = Err(LaunchFault::Failed),
            Some(FaultKind::FlagDelayed(delay)) => track.flag_delay = delay,
            Some(FaultKind::NotStarted | FaultKind::DeviceLost) | None => {}
        }
        track.tail = start.saturating_add(length);
        track.scratch = scratch;
        outcome
    }

    /// The flag takes `seq` when everything enqueued before has ended.
    pub(super) fn signal(&mut self, index: TrackIndex, seq: DispatchSeq) -> Result<(), DeviceError> {
        self.alive()?;
        let now = self.clock.now();
        let track = &mut self.tracks[index.0];
        let due = track.tail.max(now).saturating_add(track.flag_delay);
        track.flag_delay = Nanos::ZERO;
        let after_earlier = track.signals.back().map_or(due, |&(last, _)| last.max(due));
        track.signals.push_back((after_earlier, seq));
        Ok(())
    }

    pub(super) fn load(&mut self, index: TrackIndex) -> DispatchSeq {
        let now = self.clock.now();
        let track = &mut self.tracks[index.0];
        while let Some(&(due, seq)) = track.signals.front()
            && due <= now
        {
            track.visible = track.visible.max(seq);
            track.signals.pop_front();
        }
        track.visible
    }

    /// Whether the lane is idle and its flag is visible.
    pub(super) fn finished(&self, index: TrackIndex) -> Result<bool, DeviceError> {
        self.alive()?;
        Ok(self.tracks[index.0].end() <= self.clock.now())
    }

    /// Lets the time pass until the lane is idle and its flag is visible.
    pub(super) fn drain(&mut self, index: TrackIndex) -> Result<(), DeviceError> {
        self.alive()?;
        self.clock.advance_to(self.tracks[index.0].end());
        Ok(())
    }

    pub(super) fn next_completion(&self) -> Option<Time> {
        let now = self.clock.now();
        let due = |track: &Track| track.signals.iter().map(|&(due, _)| due).find(|&due| due > now);
        self.tracks.iter().filter_map(due).min()
    }

    fn take_fault(&mut self, lane: LaneId, launch: u64, now: Time) -> Option<FaultKind> {
        let strikes = |fault: &Fault| {
            fault.lane == lane
                && match fault.trigger {
                    FaultTrigger::Launch(number) => number == launch,
                    FaultTrigger::From(instant) => instant <= now,
                }
        };
        let position = self.faults.iter().position(strikes)?;
        Some(self.faults.remove(position).kind)
    }

    /// Lanes whose work reaches past `start`, this one excepted.
    fn others(&self, index: TrackIndex, start: Time) -> impl Iterator<Item = &Track> {
        let numbered = self.tracks.iter().enumerate();
        numbered.filter(move |&(at, track)| at != index.0 && track.tail > start).map(|(_, track)| track)
    }

    fn slowdown_at(&self, index: TrackIndex, start: Time) -> u64 {
        let Some(last) = self.slowdown.len().checked_sub(1) else {
            return UNSLOWED;
        };
        self.slowdown[self.others(index, start).count().min(last)]
    }

    fn note_collisions(&mut self, index: TrackIndex, start: Time, scratch: Option<ScratchUse>) {
        let Some(ours) = scratch else {
            return;
        };
        let theirs = |track: &Track| {
            track.scratch.is_some_and(|it| it.region == ours.region && it.extent.overlaps(&ours.extent))
        };
        let Some(other) = self.others(index, start).find(|track| theirs(track)) else {
            return;
        };
        let lanes = [other.lane, self.tracks[index.0].lane];
        if self.collisions.len() < COLLISIONS_KEPT {
            self.collisions.push(ScratchCollision { at: start, lanes, extent: ours.extent });
        }
    }
}
