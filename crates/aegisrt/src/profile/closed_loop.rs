//! The closed loop: every lane that has a role is kept busy, and the victim's occupancies are taken down.
//!
//! Section 10 of `docs/model.md`: before every measured segment a lane-mate runs on the victim's lane, so that the victim
//! finds caches and device as another task left them, and now and then the lane idles first. One thread drives all
//! lanes. Nothing is allocated between two launches: samples go into room that was made before the first.
//!
//! A segment of the victim that was launched is a sample, however long it takes: were those left out that end after a
//! rest or the end is due, long ones would be missing more often than short ones. So lanes are held only between two
//! jobs of the victim, and until then its company goes on.
//!
//! Only what overlaps a stall of the host for longer than is declared is left out, and counted: whoever serves is told of
//! such stalls in the same way, and claims nothing for the jobs in flight then (the same section).

use aegis_types::records::SegmentOutcome;
use aegis_types::{DispatchSeq, JobId, LaneId, Nanos, SegmentIndex, Time};

use super::bed::TestBed;
use super::mix::{Mix, Role, Stratum};
use super::{Enemy, FailedInProfile, Victim};
use crate::feed::SplitMix;
use crate::mailbox::Launch;

/// A lane that shows nothing for so long has lost its work: no segment that could be scheduled takes a minute.
const LOST_AFTER: Nanos = Nanos::from_millis(60_000);

/// The longest wait between two looks.
const LOOK: Nanos = Nanos::from_millis(1);

/// One launch in so many waits for a random pause first.
const PAUSE_ONE_IN: u64 = 4;

/// How much is measured at a stretch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Samples of each segment that are enough.
    pub samples: usize,
    /// Jobs of the victim that are run first and not counted.
    pub warm_up: usize,
    /// When to end with fewer, but never with none.
    pub until: Time,
    /// The longest pause before a launch; what comes after a longer one is not measured.
    pub pause_max: Nanos,
    /// What order and pauses are drawn from.
    pub seed: u64,
}

/// What was taken down of a victim.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Occupancies of each segment, in the order measured.
    pub segments: Vec<Vec<Nanos>>,
    /// Samples that were left out because the host stalled in them.
    pub stalled: u64,
}

impl Taken {
    fn with_room(segments: u16, samples: usize) -> Self {
        // More room than this is made as it is needed: a mistyped number of samples must not take all memory.
        let room = samples.min(1 << 16);
        Self { segments: vec![Vec::with_capacity(room); segments.into()], stalled: 0 }
    }

    fn all(&self, enough: impl Fn(usize) -> bool) -> bool {
        self.segments.iter().all(|segment| enough(segment.len()))
    }
}

/// Somebody who can run on a lane.
#[derive(Clone, Copy, Debug)]
struct Player {
    load: Victim,
    enemy: Option<u16>,
    flushes: bool,
}

/// What a lane is doing.
#[derive(Clone, Copy, Debug)]
struct Flight {
    dispatch: DispatchSeq,
    /// The player and the segment that runs, and since when.
    running: Option<(usize, u16, Time)>,
    /// When the next launch may go; a pause that is drawn is kept until it is over.
    not_before: Option<Time>,
}

/// The victim's way through a stretch.
#[derive(Clone, Copy, Debug)]
struct Course {
    victim: usize,
    home: usize,
    stratum: Stratum,
    /// The segment of the victim that is next.
    segment: u16,
    /// Whether a lane-mate has to run before it.
    mate_due: bool,
    /// Position of the next lane-mate among all players.
    mate: usize,
    skip: usize,
    pause_max: Nanos,
    /// Whether the host stalled since the segment was posted that is in flight.
    stalled: bool,
    /// When samples are taken as they come, so that there is one at all.
    until: Time,
}

/// Drives lanes in closed loop.
pub struct ClosedLoop<B> {
    bed: B,
    players: Vec<Player>,
    lanes: Vec<Flight>,
    jobs: Vec<u64>,
    random: SplitMix,
}

impl<B: TestBed> ClosedLoop<B> {
    /// A loop over the lanes of `bed`, on which these tasks and enemies are loaded.
    pub fn new(mut bed: B, victims: &[Victim], enemies: &[Enemy]) -> Self {
        let flight = |lane: usize, bed: &mut B| Flight {
            // Numbers go on where the lane is: the flag still shows the last.
            dispatch: bed.finished(LaneId::new(lane as u16)),
            running: None,
            not_before: None,
        };
        let lanes = (0..bed.lanes()).map(|lane| flight(lane, &mut bed)).collect();
        let task = |load: &Victim| Player { load: *load, enemy: None, flushes: false };
        let enemy =
            |enemy: &Enemy| Player { load: enemy.load, enemy: Some(enemy.kind), flushes: enemy.flushes };
        let players: Vec<Player> = victims.iter().map(task).chain(enemies.iter().map(enemy)).collect();
        let jobs = vec![0; players.len()];
        Self { bed, players, lanes, jobs, random: SplitMix(0) }
    }

    /// Whether what a launch waits for on its way belongs to its occupancy.
    pub fn counts_from_post(&self) -> bool {
        self.bed.counts_from_post()
    }

    /// The time.
    pub fn now(&self) -> Time {
        self.bed.now()
    }

    /// How many lanes there are.
    pub fn lanes(&self) -> usize {
        self.lanes.len()
    }

    /// Whether something runs between two measured segments of that victim.
    pub fn has_mates(&self, victim: usize) -> bool {
        (0..self.players.len()).any(|position| self.is_mate(position, victim))
    }

    /// Measures the victim at `position` of the task table in this mix. Every lane is idle before and after.
    ///
    /// # Errors
    /// [`FailedInProfile`] if any segment failed or a lane was lost: a budget of failing work means nothing.
    pub fn measure(&mut self, position: usize, mix: &Mix, quota: Quota) -> Result<Taken, FailedInProfile> {
        let load = self.players[position].load;
        let mut taken = Taken::with_room(load.segments, quota.samples);
        self.random = SplitMix(quota.seed);
        let mut course = Course {
            victim: position,
            home: load.lane.index(),
            stratum: mix.stratum,
            segment: 0,
            mate_due: true,
            mate: 0,
            skip: quota.warm_up,
            pause_max: quota.pause_max,
            stalled: false,
            until: quota.until,
        };
        loop {
            let now = self.bed.now();
            if self.bed.stalled() {
                course.stalled |=
                    self.lanes[course.home].running.is_some_and(|(player, ..)| player == position);
            }
            let ended = self.land(&mut course, quota.samples, &mut taken)?;
            let enough = now >= quota.until || taken.all(|count| count >= quota.samples);
            // One sample is the least that a budget can be made of, however short the time.
            let over = enough && taken.all(|count| count > 0);
            // After every rest the victim runs a job at least, so that samples come however long one takes.
            let hold = self.is_between_jobs(&course) && (over || self.bed.is_rest_due(now));
            if hold && self.lanes.iter().all(|flight| flight.running.is_none()) {
                if over {
                    return Ok(taken);
                }
                self.bed.rest();
                continue;
            }
            let next = self.launch_free(&mut course, mix, now, hold);
            if !ended {
                self.bed.wait(next.min(now.saturating_add(LOOK)));
            }
        }
    }

    /// Whether the victim's lane is free, its last job is over, and no lane-mate has run for the next one.
    fn is_between_jobs(&self, course: &Course) -> bool {
        course.segment == 0 && course.mate_due && self.lanes[course.home].running.is_none()
    }

    /// Collects what ended, and lets jobs of lane-mates and co-runners go on. Whether anything did.
    fn land(&mut self, course: &mut Course, room: usize, taken: &mut Taken) -> Result<bool, FailedInProfile> {
        let mut any = false;
        for index in 0..self.lanes.len() {
            let Flight { dispatch, running: Some((player, segment, since)), .. } = self.lanes[index] else {
                continue;
            };
            let lane = LaneId::new(index as u16);
            let Some(ran) = self.bed.ended(lane, dispatch) else {
                self.check_lost(lane, player, since)?;
                continue;
            };
            any = true;
            self.lanes[index].running = None;
            if ran.outcome != SegmentOutcome::Done {
                return Err(FailedInProfile { task: self.players[player].load.task });
            }
            if player == course.victim {
                let begun = if self.bed.counts_from_post() { since } else { ran.entered };
                let occupancy = ran.left.since(begun);
                course.stalled |= self.bed.stalled();
                // However often the host stalls, there has to be a sample in the end.
                let late = ran.left >= course.until && taken.segments[usize::from(segment)].is_empty();
                course.stalled &= !late;
                course.take(segment, self.players[player].load.segments, occupancy, room, taken);
            } else if segment + 1 < self.players[player].load.segments {
                self.start(index, player, segment + 1);
            }
        }
        Ok(any)
    }

    fn check_lost(&self, lane: LaneId, player: usize, since: Time) -> Result<(), FailedInProfile> {
        if self.bed.is_lost(lane) || self.bed.now().since(since) > LOST_AFTER {
            return Err(FailedInProfile { task: self.players[player].load.task });
        }
        Ok(())
    }

    /// Gives every free lane its next segment, unless lanes are held. Returns when the earliest pause ends.
    fn launch_free(&mut self, course: &mut Course, mix: &Mix, now: Time, hold: bool) -> Time {
        let mut next = Time::new(u64::MAX);
        if hold {
            return next;
        }
        if course.stratum == Stratum::Burst {
            return self.launch_burst(course, mix, now);
        }
        for index in 0..self.lanes.len() {
            if self.lanes[index].running.is_some() {
                continue;
            }
            let pause = if index == course.home {
                self.launch_home(course, now)
            } else {
                self.launch_beside(index, mix.roles[index], course.pause_max, now)
            };
            next = next.min(pause);
        }
        next
    }

    /// When every lane idles: a lane-mate, perhaps a pause, and then all lanes at once. A launcher visits lanes in their
    /// order, again and again, so that the first post is to the lane after the victim's and the last to the victim's.
    fn launch_burst(&mut self, course: &mut Course, mix: &Mix, now: Time) -> Time {
        if self.lanes.iter().any(|flight| flight.running.is_some()) || self.launch_mate(course) {
            return Time::new(u64::MAX);
        }
        if let Some(until) = self.pause(course.home, course.pause_max, now) {
            return until;
        }
        let count = self.lanes.len();
        for lane in (1..count).map(|step| (course.home + step) % count) {
            if mix.roles[lane] == Role::Any
                && let Some(player) = self.any_task(lane)
            {
                self.start(lane, player, 0);
            }
        }
        self.start(course.home, course.victim, course.segment);
        Time::new(u64::MAX)
    }

    /// Launches a lane-mate where one is due. Whether it did.
    fn launch_mate(&mut self, course: &mut Course) -> bool {
        if !course.mate_due || course.stratum == Stratum::Alone {
            return false;
        }
        course.mate_due = false;
        let mate = self.next_mate(course);
        if let Some(mate) = mate {
            self.start(course.home, mate, 0);
        }
        mate.is_some()
    }

    /// The victim's own lane: a lane-mate, perhaps a pause, the victim's next segment.
    fn launch_home(&mut self, course: &mut Course, now: Time) -> Time {
        if self.launch_mate(course) {
            return Time::new(u64::MAX);
        }
        let pause = if course.stratum == Stratum::Alone { Nanos::ZERO } else { course.pause_max };
        match self.pause(course.home, pause, now) {
            Some(until) => until,
            None => {
                self.start(course.home, course.victim, course.segment);
                Time::new(u64::MAX)
            }
        }
    }

    fn launch_beside(&mut self, lane: usize, role: Role, pause_max: Nanos, now: Time) -> Time {
        let player = match role {
            Role::Idle => None,
            Role::Task(task) => self.find(lane, |player| player.enemy.is_none() && player.load.task == task),
            Role::Enemy(kind) => self.find(lane, |player| player.enemy == Some(kind)),
            Role::Any => {
                if let Some(until) = self.pause(lane, pause_max, now) {
                    return until;
                }
                self.any_task(lane)
            }
        };
        if let Some(player) = player {
            self.start(lane, player, 0);
        }
        Time::new(u64::MAX)
    }

    /// When the pause of a free lane ends; `None` if it may be launched on.
    fn pause(&mut self, lane: usize, longest: Nanos, now: Time) -> Option<Time> {
        let drawn = self.lanes[lane].not_before;
        let until = drawn.unwrap_or_else(|| {
            let pauses = self.random.below(PAUSE_ONE_IN) == 0;
            let span = if pauses { self.random.below(longest.get().saturating_add(1)) } else { 0 };
            now.saturating_add(Nanos::new(span))
        });
        self.lanes[lane].not_before = (until > now).then_some(until);
        self.lanes[lane].not_before
    }

    fn is_mate(&self, position: usize, victim: usize) -> bool {
        let (player, load) = (&self.players[position], &self.players[victim].load);
        position != victim && player.load.lane == load.lane && (player.enemy.is_none() || player.flushes)
    }

    /// The lane-mate whose turn it is, round robin.
    fn next_mate(&self, course: &mut Course) -> Option<usize> {
        let count = self.players.len();
        let candidates = (0..count).map(|step| (course.mate + step) % count);
        let mate = candidates.into_iter().find(|&position| self.is_mate(position, course.victim))?;
        course.mate = mate + 1;
        Some(mate)
    }

    fn find(&self, lane: usize, which: impl Fn(&Player) -> bool) -> Option<usize> {
        self.players.iter().position(|player| player.load.lane.index() == lane && which(player))
    }

    /// A task of the lane, at random.
    fn any_task(&mut self, lane: usize) -> Option<usize> {
        let fits = |player: &Player| player.enemy.is_none() && player.load.lane.index() == lane;
        let count = self.players.iter().filter(|player| fits(player)).count();
        let chosen = self.random.below(count as u64) as usize;
        let mut tasks = self.players.iter().enumerate().filter(|(_, player)| fits(player));
        tasks.nth(chosen).map(|(position, _)| position)
    }

    fn start(&mut self, lane: usize, position: usize, segment: u16) {
        let load = &self.players[position].load;
        let number = self.jobs[position];
        if segment + 1 == load.segments {
            self.jobs[position] += 1;
        }
        let dispatch = self.lanes[lane].dispatch.next();
        let slot = u32::try_from(number % u64::from(load.slots.max(1))).unwrap_or(0);
        let job = JobId::new(load.task, number);
        let launch = Launch { job, segment: SegmentIndex::new(segment), slot, dispatch };
        self.lanes[lane] =
            Flight { dispatch, running: Some((position, segment, self.bed.now())), not_before: None };
        self.bed.post(LaneId::new(lane as u16), launch);
    }
}

impl Course {
    /// Takes a sample down, unless it warms up or the host stalled, and goes on to the next segment.
    fn take(&mut self, segment: u16, segments: u16, occupancy: Nanos, room: usize, taken: &mut Taken) {
        let last = segment + 1 == segments;
        let samples = &mut taken.segments[usize::from(segment)];
        let stalled = std::mem::take(&mut self.stalled);
        if self.skip > 0 {
            self.skip -= usize::from(last);
        } else if stalled {
            taken.stalled += 1;
        } else if samples.len() < room {
            samples.push(occupancy);
        }
        self.segment = if last { 0 } else { segment + 1 };
        self.mate_due = true;
    }
}
