//! A loop beside a run, both at the same time: jobs of the loop are due half-way between those of the run.
//!
//! A host that is shared has episodes of parts of a second in which everything takes longer, and loses its threads for
//! milliseconds now and then. A 99.9th percentile is made of what fell into them, so that loop and run, measured by turns,
//! are told apart by which of them met more. Here both meet the same, and neither waits for the other: jobs take a fraction
//! of their distance.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use aegis_cuda::HostClock;
use aegis_trace::Trace;
use aegis_types::records::{Assumption, AssumptionBroken, JobReleased};
use aegis_types::{JobId, Nanos, Record, Time};
use aegisrt::live::Live;

use super::error::ExperimentError;

/// How often a loop that is through looks whether the run is over.
const ENDED: Duration = Duration::from_millis(1);

/// The longest that [`late`] lets releases be.
const LATE_MAX: Nanos = Nanos::from_millis(1);

/// Jobs of the run by which its beat is found.
const LISTENED: u64 = 32;

/// The run's beat, for the thread of the loop.
pub struct Beat<'a> {
    live: &'a Live,
    duration: Nanos,
    over: &'a AtomicBool,
    loaded: SyncSender<()>,
}

/// Runs `serve`, which releases jobs for so long and counts them in `live`, and `measure` beside it on a thread of its own:
/// `serve` begins when the loop asks for the [`Beat`], and the loop ends before the last releases, because a run that gives
/// everything back would disturb it.
///
/// # Errors
/// Those of both, the loop's first.
pub fn between<F: Send, R>(
    live: &Live,
    duration: Nanos,
    measure: impl FnOnce(Beat<'_>) -> Result<F, ExperimentError> + Send,
    serve: impl FnOnce() -> Result<R, ExperimentError>,
) -> Result<(F, R), ExperimentError> {
    let over = AtomicBool::new(false);
    let (loaded, ready) = sync_channel(1);
    std::thread::scope(|scope| {
        let beat = Beat { live, duration, over: &over, loaded };
        let thread = scope.spawn(move || measure(beat));
        // A loop that failed drops its end: then nothing is to be compared.
        let served = ready.recv().ok().map(|()| serve());
        over.store(true, Ordering::Release);
        let measured = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        let served = served.ok_or_else(|| ExperimentError::Illegal {
            what: "a loop ended before it listened to the run beside it".into(),
            legal: "asking for the beat".into(),
        })?;
        Ok((measured, served?))
    })
}

impl<'a> Beat<'a> {
    /// The instants at which jobs of the loop are due: `pause` apart, as the run's are, and half-way between them where jobs
    /// take `job`. Whoever comes late to one is late, as the run is late for its releases. After the last, the end of the run is
    /// waited for: what the loop gives back then would delay the run's last job.
    pub fn dues(self, clock: &'a HostClock, pause: Nanos, job: Nanos) -> impl Iterator<Item = Time> + 'a {
        // Whoever waits for this has gone only if it panicked.
        let _gone = self.loaded.send(());
        let half = Nanos::new(pause.get() / 2).saturating_sub(job);
        let first = self.listen(clock, pause).map(|beat| beat.saturating_add(pause).saturating_add(half));
        let left = (self.duration.get() / pause.get().max(1)).saturating_sub(LISTENED + 1);
        let dues = first.into_iter().flat_map(move |first| {
            (0..left).map(move |number| first.saturating_add(Nanos::new(pause.get().saturating_mul(number))))
        });
        let dues = dues.take_while(|_| !self.over.load(Ordering::Acquire));
        dues.chain(std::iter::from_fn(|| {
            while !self.over.load(Ordering::Acquire) {
                std::thread::sleep(ENDED);
            }
            None
        }))
    }

    /// When the last of the jobs that were listened to would have ended if nothing had delayed it.
    fn listen(&self, clock: &HostClock, pause: Nanos) -> Option<Time> {
        let mut earliest = None;
        let mut heard = 0;
        while heard < LISTENED {
            if self.over.load(Ordering::Acquire) {
                return None;
            }
            let (finished, late, _) = self.live.counts();
            if finished + late > heard {
                heard = finished + late;
                earliest = Some(prompt(earliest, heard, clock.now(), pause));
            }
            std::hint::spin_loop();
        }
        earliest
    }
}

/// How late releases of a run beside a loop may be, for its fleet to declare: a period, so that two input slots are enough.
/// The runtime moves a task's later releases with one that comes later still. So the run would leave the beat, and tasks
/// that one stall of the host held up would be released together from then on, whose jobs are not to meet.
pub fn late(period: Nanos) -> Nanos {
    period.min(LATE_MAX)
}

/// When each job of a run was due, and when its release was seen. What is due in a loop stays where it is, however late
/// the loop is; so an arrival that the runtime moved counts from where it was.
pub fn releases(trace: &Trace) -> BTreeMap<JobId, (Time, Time)> {
    let mut releases: BTreeMap<JobId, (Time, Time)> = BTreeMap::new();
    for raw in trace.records() {
        if let Some(record) = JobReleased::read(raw) {
            releases.insert(record.job, (record.arrival, raw.stamp));
        } else if let Some(record) = AssumptionBroken::read(raw)
            && record.assumption == Assumption::PromptRelease
            && let Some((due, seen)) = releases.get_mut(&record.job)
        {
            *due = seen.saturating_sub(record.seen);
        }
    }
    releases
}

/// Job `number` of the run, from one, was seen to have ended: when the last one that is listened to would have ended as
/// promptly as the promptest so far. What delays a job is no beat, and none comes too early.
fn prompt(known: Option<Time>, number: u64, ended: Time, pause: Nanos) -> Time {
    let ahead = Nanos::new(pause.get() * LISTENED.saturating_sub(number));
    let behind = Nanos::new(pause.get() * number.saturating_sub(LISTENED));
    let moved = ended.saturating_add(ahead).saturating_sub(behind);
    known.map_or(moved, |known| known.min(moved))
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::atomic::AtomicU64;

    use aegis_trace::{Finished, TraceCollector, TraceMode, TraceOptions};
    use aegis_types::records::{Consequence, JobFinished, JobOutcome, SCHEMAS, Standing};
    use aegis_types::{LaneId, RawRecord, Sink, TaskId};

    use super::*;

    const PAUSE: Nanos = Nanos::from_micros(300);

    /// A trace of these records.
    pub fn traced(records: impl IntoIterator<Item = RawRecord>) -> Trace {
        let mode = TraceMode::Memory { records: 100 };
        let (schemas, epoch, blobs) = (SCHEMAS.to_vec(), String::new(), BTreeMap::new());
        let options = TraceOptions { mode, schemas, epoch, blobs };
        let mut collector = TraceCollector::new(options).expect("a trace");
        let mut ring = collector.producer("all", 64).expect("a ring");
        records.into_iter().for_each(|record| ring.emit(record));
        collector.finish(BTreeMap::new()).and_then(Finished::into_trace).expect("read")
    }

    /// A run of so many jobs.
    fn serve(live: &Live, jobs: u64) {
        for number in 0..jobs {
            let job = JobFinished {
                job: JobId::new(TaskId::new(0), number),
                outcome: JobOutcome::Completed,
                response: Nanos::ZERO,
                bound: Nanos::MAX,
                standing: Standing::Covered,
                overrun: Nanos::ZERO,
            };
            live.see(&job.at(Time::ZERO));
        }
    }

    #[test]
    fn the_beat_is_that_of_the_jobs_that_nothing_delayed() {
        let at = |us: u64| Time::new(us * 1_000);
        // Released at 700 us and 300 more for each number, and over 10 us later, but for those that are late; the third
        // was seen with the fourth.
        let ends = [(1, 1_310), (2, 1_950), (4, 1_910), (5, 2_222)];
        let beat = ends.iter().fold(None, |known, &(number, us)| Some(prompt(known, number, at(us), PAUSE)));
        assert_eq!(beat, Some(at(710 + 300 * LISTENED)));
        assert_eq!(
            prompt(None, LISTENED + 2, at(9_000), PAUSE),
            at(9_000 - 600),
            "more were heard than listened to"
        );
    }

    #[test]
    fn a_job_that_came_too_late_was_due_before_its_arrival_moved() {
        let us = |us: u64| Time::new(us * 1_000);
        let job = |number| JobId::new(TaskId::new(0), number);
        let (lane, limit) = (LaneId::new(0), Nanos::from_micros(50));
        // Due at 100 and seen at 130 us; due at 400 and seen at 520, by 70 us later than it may be.
        let released = |number, arrival: u64, seen| {
            let (arrival, deadline) = (us(arrival), us(arrival + 300));
            JobReleased { job: job(number), lane, arrival, deadline, pending: 1, token: 0 }.at(us(seen))
        };
        let (assumption, consequence) = (Assumption::PromptRelease, Consequence::JobVoid);
        let seen = Nanos::from_micros(120);
        let broken = AssumptionBroken { assumption, lane, job: job(1), seen, limit, consequence }.at(us(520));
        let trace = traced([released(0, 100, 130), released(1, 470, 520), broken]);
        let expected = [(job(0), (us(100), us(130))), (job(1), (us(400), us(520)))];
        assert_eq!(releases(&trace), BTreeMap::from(expected));
    }

    #[test]
    fn jobs_of_the_loop_are_due_as_far_apart_as_those_of_the_run() {
        let live = Live::default();
        let clock = HostClock::start();
        // The run goes on until the loop had five.
        let (taken, ended) = (AtomicU64::new(0), AtomicBool::new(false));
        let measure = |beat: Beat<'_>| {
            let count = |_: &Time| _ = taken.fetch_add(1, Ordering::Release);
            let dues: Vec<Time> = beat.dues(&clock, PAUSE, Nanos::ZERO).inspect(count).collect();
            assert!(ended.load(Ordering::Acquire), "what comes after the last would disturb the run");
            Ok(dues)
        };
        let run = || {
            while taken.load(Ordering::Acquire) < 5 {
                serve(&live, 1);
            }
            ended.store(true, Ordering::Release);
            Ok(())
        };
        let duration = Nanos::new(PAUSE.get() * (LISTENED + 1 + 5));
        let (dues, ()) = between(&live, duration, measure, run).expect("nothing fails");
        assert_eq!(dues.len(), 5, "none after the last release but one");
        assert!(dues.windows(2).all(|pair| pair[1].since(pair[0]) == PAUSE), "{dues:?}");
    }

    #[test]
    fn a_run_that_ends_early_ends_the_loop_and_a_loop_that_fails_is_told() {
        let live = Live::default();
        let measure = |beat: Beat<'_>| Ok(beat.dues(&HostClock::start(), PAUSE, Nanos::ZERO).count());
        let (count, ()) = between(&live, Nanos::from_millis(100), measure, || Ok(())).expect("nothing fails");
        assert_eq!(count, 0, "nothing was heard");
        let refused = |_: Beat<'_>| Err::<(), _>(ExperimentError::Skipped("no device".into()));
        let serve = || -> Result<(), _> { panic!("nothing is to be compared") };
        let told = between(&live, PAUSE, refused, serve);
        assert!(matches!(told, Err(ExperimentError::Skipped(_))), "{told:?}");
    }
}
