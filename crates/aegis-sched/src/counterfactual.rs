//! What would have been: the submissions, ticks and execution times of a trace under another policy, in virtual time.
//!
//! The engine itself is run, so that what is shown is what would have been decided. Its records can be explained like
//! those of a run.

use std::collections::BTreeMap;

use aegis_types::records::{CompletionHandled, SegmentCompleted, SegmentOutcome};
use aegis_types::{DispatchSeq, JobId, LaneId, Nanos, RawRecord, Record, TaskId, Time};

use crate::engine::{Engine, Input, JobEnd, Outbox};
use crate::error::ModelError;
use crate::explain::{TraceGap, decision_ring, gap_between};
use crate::model::TaskSet;
use crate::policy::SchedulingPolicy;
use crate::referee::certificate::Certificate;

/// The schedule that would have been.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counterfactual {
    /// What the engine would have recorded, placed in the sequence of producer 0.
    pub records: Vec<RawRecord>,
    /// Jobs in the order of their ends.
    pub ends: Vec<JobEnd>,
    /// Segments that the trace did not show, so that the longest execution seen of that segment, or else its budget,
    /// stands for theirs.
    pub estimated: u64,
    /// The gap at which the inputs end, if there is one.
    pub gap: Option<TraceGap>,
}

/// Simulates the inputs of a trace under `policy`, for which `certificate` was made. The ring of decisions must be
/// given in full; at a gap the inputs end, and what was accepted until then runs to its end.
///
/// # Errors
/// [`ModelError`] if set, certificate and policy do not make an engine.
pub fn counterfactual(
    records: &[RawRecord],
    set: &TaskSet,
    certificate: &Certificate,
    policy: Box<dyn SchedulingPolicy>,
) -> Result<Counterfactual, ModelError> {
    let observed = Observed::read(records, certificate);
    let start = observed.inputs.first().map_or(Time::ZERO, |input| input.0).min(observed.start);
    let engine = Engine::new(set, certificate.clone(), policy, start)?;
    let out = engine.outbox();
    let result = Counterfactual { records: Vec::new(), ends: Vec::new(), estimated: 0, gap: observed.gap };
    let mut simulation =
        Simulation { engine, out, flights: BTreeMap::new(), observed: &observed, now: start, result };
    simulation.run();
    Ok(simulation.result)
}

/// What a trace tells of the world outside the engine.
#[derive(Debug, Default)]
struct Observed {
    start: Time,
    /// Everything but completions and decisions, which follow from the policy.
    inputs: Vec<(Time, Input)>,
    /// How long each segment occupied its lane over all its attempts, and how it ended.
    runs: BTreeMap<(JobId, u16), (Nanos, SegmentOutcome)>,
    longest: BTreeMap<(TaskId, u16), Nanos>,
    gap: Option<TraceGap>,
}

impl Observed {
    fn read(records: &[RawRecord], certificate: &Certificate) -> Self {
        let mut observed = Self::default();
        for task in certificate.lanes().iter().flat_map(|lane| lane.tasks()) {
            for (segment, budget) in (0..).zip(&task.segments) {
                observed.longest.insert((task.task, segment), *budget);
            }
        }
        let mut seen = BTreeMap::new();
        let ring = decision_ring(records);
        let mut last: Option<&RawRecord> = None;
        let mut outcome = SegmentOutcome::Done;
        for raw in records.iter().filter(|raw| Some(raw.producer()) == ring) {
            if let Some(gap) = gap_between(last, raw) {
                observed.gap = Some(gap);
                break;
            }
            if last.is_none() {
                observed.start = raw.stamp;
            }
            last = Some(raw);
            if let Some(handled) = CompletionHandled::read(raw) {
                outcome = handled.outcome;
            } else if let Some(completed) = SegmentCompleted::read(raw) {
                observed.ran(&completed, outcome);
                let key = (completed.job.task, completed.segment.get());
                let longest: &mut Nanos = seen.entry(key).or_default();
                *longest = completed.occupancy.max(*longest);
            } else if let Some(input) = Input::from_record(raw).filter(|input| *input != Input::Decide) {
                observed.inputs.push((raw.stamp, input));
            }
        }
        // A budget stands in only for what was never seen.
        observed.longest.extend(seen);
        // Stamps of a trace do not decrease; a forged one must not send the simulation back in time.
        observed.inputs.sort_by_key(|input| input.0);
        observed
    }

    fn ran(&mut self, completed: &SegmentCompleted, outcome: SegmentOutcome) {
        let run = self.runs.entry((completed.job, completed.segment.get()));
        let (occupancy, last) = run.or_insert((Nanos::ZERO, outcome));
        *occupancy = occupancy.saturating_add(completed.occupancy);
        *last = outcome;
    }
}

struct Simulation<'a> {
    engine: Engine,
    out: Outbox,
    flights: BTreeMap<LaneId, (Time, DispatchSeq, SegmentOutcome)>,
    observed: &'a Observed,
    now: Time,
    result: Counterfactual,
}

impl Simulation<'_> {
    fn run(&mut self) {
        let observed = self.observed;
        let mut inputs = observed.inputs.iter().peekable();
        loop {
            let completion = self.flights.values().map(|flight| flight.0).min();
            let submission = inputs.peek().map(|input| input.0);
            let Some(now) = [completion, submission].into_iter().flatten().min() else { return };
            self.now = now;
            self.complete();
            while let Some((_, input)) = inputs.next_if(|input| input.0 == now) {
                self.tell(*input);
            }
            self.tell(Input::Decide);
        }
    }

    fn complete(&mut self) {
        while let Some((&lane, &(end, dispatch, outcome))) =
            self.flights.iter().find(|(_, flight)| flight.0 == self.now)
        {
            debug_assert_eq!(end, self.now);
            self.flights.remove(&lane);
            self.tell(Input::Completed { lane, dispatch, outcome });
        }
    }

    fn tell(&mut self, input: Input) {
        if self.engine.check(self.now, &input).is_err() {
            return;
        }
        self.engine.handle(self.now, input, &mut self.out);
        for record in self.out.records() {
            let sequence = self.result.records.len() as u32;
            self.result.records.push(record.placed(0, sequence));
        }
        self.result.ends.extend(self.out.ends());
        for command in self.out.commands() {
            let segment = command.segment.get();
            let run = self.observed.runs.get(&(command.job, segment)).copied();
            let (span, outcome) = run.unwrap_or_else(|| {
                self.result.estimated += 1;
                let longest = self.observed.longest.get(&(command.job.task, segment));
                (longest.copied().unwrap_or_default(), SegmentOutcome::Done)
            });
            // All attempts were added up, so that one that failed to start at last must not be tried again.
            let outcome = if outcome == SegmentOutcome::Done { outcome } else { SegmentOutcome::Failed };
            let end = self.now.saturating_add(span.max(Nanos::new(1)));
            self.flights.insert(command.lane, (end, command.dispatch, outcome));
        }
        self.out.clear();
    }
}

#[cfg(test)]
mod tests {
    use aegis_types::records::JobOutcome;

    use super::*;
    use crate::engine::tests::world::{Fixture, Seeded, Spec, for_seeds, random_fleet, random_script};
    use crate::explain::{Explainer, Explanation};

    /// Under the policy of the trace the counterfactual is the trace.
    #[test]
    fn the_same_policy_gives_the_same_schedule() {
        for_seeds("the_same_policy_gives_the_same_schedule", 100, |seed| {
            let mut random = Seeded(seed);
            let (specs, submissions) = random_fleet(&mut random, 400);
            let fixture = Fixture::new("edf", 5, &specs);
            let mut world = fixture.world();
            random_script(&mut random, &specs, &mut world, 50);
            world.run(&submissions, 400);
            // What the trace cuts off would be estimated: let it end.
            world.tell(401, Input::Control(aegis_types::records::Control::Drain));
            world.run(&[], 5_000);
            let again =
                counterfactual(&world.records, &fixture.set, &fixture.certificate, fixture.policy()).unwrap();
            assert_eq!((again.gap, again.estimated), (None, 0));
            assert_eq!(again.ends, world.ends);
        });
    }

    #[test]
    fn another_policy_decides_otherwise_and_can_be_explained() {
        let urgent = Spec { period: 50, deadline: 50, segments: vec![5], ..timer(50, 0) };
        let specs = [Spec { segments: vec![20], ..timer(100, 0) }, urgent, timer(100, 0)];
        let fifo = Fixture::new("fifo", 0, &specs);
        let mut world = fifo.world();
        world.script(0, 0, 0, &[(17, SegmentOutcome::Done)]);
        world.script(1, 0, 0, &[(4, SegmentOutcome::Done)]);
        world.run(&[], 40);
        let rm = Fixture::new("rm", 0, &specs);
        let would = counterfactual(&world.records, &rm.set, &rm.certificate, rm.policy()).unwrap();
        let order = |ends: &[JobEnd]| -> Vec<(u16, u64)> {
            ends.iter().map(|end| (end.job.task.get(), end.ended.get())).collect()
        };
        assert_eq!(order(&world.ends), [(0, 17), (1, 21), (2, 31)]);
        assert_eq!(order(&would.ends), [(1, 4), (0, 21), (2, 31)]);
        let explainer = Explainer::new(&would.records, &rm.certificate);
        let explained = explainer.explain(would.ends[1].job);
        assert!(matches!(explained, Some(Explanation::Known(blame)) if blame.terms.len() == 2));
    }

    #[test]
    fn attempts_of_a_segment_count_as_one_execution() {
        let fixture = Fixture::new("fp", 0, &[Spec { retries: 1, ..timer(100, 0) }]);
        for (last, outcome) in
            [(SegmentOutcome::Done, JobOutcome::Completed), (SegmentOutcome::NotStarted, JobOutcome::Failed)]
        {
            let mut world = fixture.world();
            world.script(0, 0, 0, &[(4, SegmentOutcome::NotStarted), (9, last)]);
            world.run(&[], 50);
            let would =
                counterfactual(&world.records, &fixture.set, &fixture.certificate, fixture.policy()).unwrap();
            let ends: Vec<_> = would.ends.iter().map(|end| (end.ended.get(), end.outcome)).collect();
            assert_eq!(ends, [(13, outcome)]);
        }
    }

    #[test]
    fn inputs_end_at_a_gap_and_unseen_segments_are_counted() {
        let fixture = Fixture::new("fp", 0, &[timer(100, 0)]);
        let mut world = fixture.world();
        world.run(&[], 250);
        let lost = world.records.iter().position(|raw| raw.stamp == Time::new(100)).unwrap();
        world.records.remove(lost + 2);
        let would =
            counterfactual(&world.records, &fixture.set, &fixture.certificate, fixture.policy()).unwrap();
        assert_eq!(would.gap.map(|gap| (gap.from.get(), gap.to.get(), gap.lost)), Some((100, 100, 1)));
        let job = |number| JobId::new(TaskId::new(0), number);
        assert_eq!(would.ends.iter().map(|end| end.job).collect::<Vec<_>>(), [job(0), job(1)]);
        assert_eq!(would.estimated, 1);
    }

    fn timer(period: u64, offset: u64) -> Spec {
        Spec { period, offset: Some(offset), ..Spec::default() }
    }
}
