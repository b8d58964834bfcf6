//! Jobs: accepted as their contracts allow, ended once, within their bounds.

use aegis_types::records::{
    Assumption, AssumptionBroken, Consequence, JobFinished, JobOutcome, JobRefused, JobReleased, Refusal,
    Standing,
};
use aegis_types::{Nanos, Time};

use super::{Checks, JobShadow};

/// What the account says about a job that ended.
struct Judgement {
    standing: Standing,
    /// R(X), where a bound is claimed.
    bound: Nanos,
    /// R(0).
    plain: Nanos,
}

impl Checks<'_> {
    pub(super) fn released(&mut self, record: &JobReleased) {
        let now = self.now;
        self.counts.released += 1;
        let id = record.job;
        let Some(task) = self.tasks.get_mut(id.task.index()) else {
            return self.report(5, format!("{id} belongs to no task"));
        };
        let earliest = task.last_arrival.map_or(Time::ZERO, |last| last.saturating_add(task.period));
        let latest = record.arrival.saturating_add(task.jitter);
        let numbered = id.number == task.accepted;
        let spaced = record.arrival >= earliest && now <= latest && record.arrival <= now;
        let deadline = record.deadline == record.arrival.saturating_add(task.deadline);
        let fits = task.pending.len() < task.queue && record.pending == task.pending.len() as u64 + 1;
        let homed = record.lane.index() == task.lane;
        let retired = task.retired;
        task.accepted += 1;
        task.last_arrival = Some(record.arrival);
        task.pending.push_back(JobShadow {
            id,
            arrival: record.arrival,
            released: now,
            segment: 0,
            attempts: 0,
            started: false,
            void: false,
            due: None,
        });
        let (sheds, queue, index) = (task.sheds, task.queue, task.lane);
        let lane = &mut self.lanes[index];
        if lane.pending == 0 {
            lane.busy_since = now;
        }
        lane.pending += 1;
        if lane.running.is_none() && lane.ready_since.is_none() {
            lane.ready_since = Some(now);
        }
        let shed = lane.shedding && sheds;
        self.expect(!retired, 5, || format!("{id} was accepted although its task was removed"));
        self.expect(!shed, 5, || format!("{id} was accepted although its lane sheds load"));
        // A run that is judged by another certificate has other deadlines and queues.
        let (deadline, fits) = (deadline || !self.own, fits || !self.own);
        self.expect(numbered && homed && deadline, 5, || format!("{record:?} contradicts its task"));
        self.expect(spaced, 5, || format!("{id} arrived at {} against its contract (E3)", record.arrival));
        self.expect(fits, 5, || format!("{id} was accepted beyond its queue bound of {queue}"));
    }

    pub(super) fn refused(&mut self, record: &JobRefused) {
        self.counts.refused += u64::from(record.reason != Refusal::Stopping);
        let now = self.now;
        let Some(task) = self.tasks.get(record.task.index()) else {
            return self.report(5, format!("{record:?} names no task"));
        };
        let earliest = task.last_arrival.map_or(Time::ZERO, |last| last.saturating_add(task.period));
        let justified = match record.reason {
            Refusal::TooEarly => now < earliest && record.legal_from == earliest,
            Refusal::QueueFull => task.pending.len() == task.queue || !self.own,
            Refusal::LaneVoid => task.sheds && self.lanes[task.lane].shedding,
            Refusal::Stopping => self.draining || task.retired,
            Refusal::NotSporadic => false,
        };
        let calm = !self.calm || record.reason == Refusal::Stopping;
        self.expect(justified, 5, || format!("{record:?} is without ground"));
        self.expect(calm, 1, || format!("{record:?} although nothing went wrong"));
    }

    pub(super) fn finished(&mut self, record: &JobFinished) {
        self.counts.outcomes[record.outcome as usize] += 1;
        let (id, now) = (record.job, self.now);
        let Some(task) = self.tasks.get_mut(id.task.index()) else {
            return self.report(5, format!("{id} belongs to no task"));
        };
        let Some(position) = task.pending.iter().position(|job| job.id == id) else {
            return self.report(4, format!("{id} ended, but it is not pending"));
        };
        let Some(job) = task.pending.remove(position) else { return };
        let (lane, sheds, idle) = (task.lane, task.sheds, task.pending.is_empty());
        let legal = match record.outcome {
            JobOutcome::Completed | JobOutcome::Failed => position == 0 && job.due == Some(record.outcome),
            JobOutcome::Dropped => !job.started && sheds && self.lanes[lane].shedding,
            JobOutcome::Stopped => false,
        };
        self.expect(legal, 5, || format!("{id} must not end as {:?}", record.outcome));
        let response = now.since(job.arrival);
        self.expect(record.response == response, 5, || {
            format!("{id} responded after {response}, recorded is {}", record.response)
        });
        let judgement = self.judge(&job, record);
        self.count(record, &judgement);
        self.compare(record, &judgement);
        let state = &mut self.lanes[lane];
        state.pending -= 1;
        if idle {
            state.forgo(id.task.index(), u64::MAX);
        }
        state.ended += 1;
        if state.pending == 0 {
            state.ready_since = None;
        }
    }

    /// Standing and bound as the account has them.
    fn judge(&self, job: &JobShadow, record: &JobFinished) -> Judgement {
        let task = &self.tasks[job.id.task.index()];
        let lane = &self.lanes[task.lane];
        let (certified, position) = self.bounds(job.id.task.index());
        let plain = certified.bound(position, Nanos::ZERO).unwrap_or(Nanos::MAX);
        let claimed = record.outcome == JobOutcome::Completed && !job.void && !lane.void;
        let (standing, bound) = match certified.bound(position, lane.overrun) {
            Some(bound) if claimed && lane.overrun.is_zero() => (Standing::Covered, bound),
            Some(bound) if claimed => (Standing::Tolerated, bound),
            _ => (Standing::Void, Nanos::MAX),
        };
        Judgement { standing, bound, plain }
    }

    fn count(&mut self, record: &JobFinished, judgement: &Judgement) {
        let task = &mut self.tasks[record.job.task.index()];
        let missed = record.outcome == JobOutcome::Completed && record.response > task.deadline;
        self.counts.misses += u64::from(missed);
        let lane = &mut self.lanes[task.lane].counts;
        lane.misses += u64::from(missed);
        lane.dropped += u64::from(record.outcome == JobOutcome::Dropped);
        lane.tolerated += u64::from(judgement.standing == Standing::Tolerated);
        lane.void += u64::from(judgement.standing == Standing::Void);
        match judgement.standing {
            Standing::Covered => {
                self.counts.covered += 1;
                task.covered_max = task.covered_max.max(record.response);
            }
            Standing::Tolerated => {
                self.counts.tolerated += 1;
                self.counts.beyond_plain += u64::from(record.response > judgement.plain);
            }
            Standing::Void => self.counts.void += 1,
        }
    }

    /// Checker 1, and whether the engine says the same.
    fn compare(&mut self, record: &JobFinished, judgement: &Judgement) {
        let (id, response) = (record.job, record.response);
        let Judgement { standing, bound, .. } = *judgement;
        let task = &self.tasks[id.task.index()];
        let (deadline, overrun) = (task.deadline, self.lanes[task.lane].overrun);
        let claimed = standing != Standing::Void;
        self.expect(response <= bound, 1, || {
            format!("{id} responded after {response}, the bound under an overrun of {overrun} is {bound}")
        });
        self.expect(!claimed || response <= deadline, 1, || {
            format!("{id} missed its deadline of {deadline} under a tolerated overrun of {overrun}")
        });
        let calm = !self.calm || standing == Standing::Covered;
        self.expect(calm, 1, || format!("{id} is not covered although nothing went wrong: {standing:?}"));
        if !self.own {
            return;
        }
        self.expect(record.standing == standing && record.overrun == overrun, 1, || {
            format!("{id} stands as {standing:?} under an overrun of {overrun}, recorded is {record:?}")
        });
        self.expect(record.bound == bound, 1, || {
            format!("{id} is bounded by {bound}, recorded is {}", record.bound)
        });
    }

    pub(super) fn broken(&mut self, record: &AssumptionBroken) {
        self.counts.broken[record.assumption as usize] += 1;
        self.counts.device_voids += u64::from(record.consequence == Consequence::DeviceVoid);
        let calm = self.calm;
        self.expect(!calm, 1, || format!("{record:?} although nothing went wrong"));
        let stalled = self.stalled == Some(self.now);
        match record.assumption {
            Assumption::HostStall => {
                self.expect(stalled, 5, || format!("{record:?} without a stall"));
                if let Some(lane) = self.lanes.get_mut(record.lane.index()) {
                    lane.void = true;
                }
            }
            Assumption::PromptRelease | Assumption::SegmentSucceeds => {
                let task = self.tasks.get_mut(record.job.task.index());
                let job = task.and_then(|task| task.pending.iter_mut().find(|job| job.id == record.job));
                let lane = self.lanes.get_mut(record.lane.index());
                if let (Some(lane), Assumption::PromptRelease) = (lane, record.assumption) {
                    lane.void |= self.class.inserts().is_some();
                }
                match job {
                    Some(job) => job.void = true,
                    None => self.report(5, format!("{record:?} names no pending job")),
                }
            }
            // The lanes' account has drawn the consequences already.
            Assumption::OccupancyBudget => {}
            Assumption::PromptDecision => {
                self.report(5, format!("{record:?}: the driver and the trace never do this"));
            }
        }
    }
}
