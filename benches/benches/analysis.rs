//! What the analyses themselves cost for 30 tasks of one lane: bounds, verdicts, tasks that come and go, and how far
//! each number can move.
//!
//! Times are CPU time of this thread. What is short is run in batches, because the clock of a thread is read by a call
//! of the system. Each set counts once, with the cheapest of its batches: what is measured is the work, not what others
//! left in the caches. The crate `response-time-analysis` answers the same questions for the same sets where it has
//! them.

use std::hint::black_box;
use std::time::Duration;

use aegis_benches::effort::Effort;
use aegis_benches::percentile::Series;
use aegis_benches::sets::random_lane;
use aegis_sched::analysis::sensitivity::sensitivity;
use aegis_sched::analysis::{AdmittedLane, LaneProblem, LaneTask, bounds, fits};
use aegis_sched::charge;
use aegis_sched::policy::by_name;
use aegis_types::{LaneId, Nanos};
use response_time_analysis::arrival::Sporadic;
use response_time_analysis::demand::{RBF, Slice};
use response_time_analysis::time::{Duration as Span, Service};
use response_time_analysis::wcet::Scalar;
use response_time_analysis::{edf, fifo, fixed_priority};
use rustix::time::{ClockId, clock_gettime};

const TASKS: u16 = 30;

/// Batches of each set, of which the cheapest counts.
const BATCHES: usize = 5;

/// How long a batch takes at least: long beside the clock's own cost.
const BATCH: Duration = Duration::from_micros(100);

/// Copies of a lane that tasks come to and go from in one batch.
const COPIES: usize = 16;

/// Where the other implementation gives up: 10 s.
const LIMIT: u64 = 10_000_000_000;

/// CPU time of this thread.
fn cpu() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// CPU time of `work`, and what it gives.
fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let start = cpu();
    let given = work();
    (cpu().saturating_sub(start), given)
}

/// CPU time of the cheapest batch, with how often the work was done in it.
fn cheapest(mut work: impl FnMut()) -> (Duration, u32) {
    let mut batch = |length: u32| timed(|| (0..length).for_each(|_| work())).0;
    let once = batch(1);
    if once >= BATCH * 10 {
        return (once, 1);
    }
    let length = u32::try_from(BATCH.as_nanos() / once.as_nanos().max(1)).unwrap_or(1).clamp(1, 1_000);
    let spent = (0..BATCHES).map(|_| batch(length)).min();
    (spent.unwrap_or(once), length)
}

/// `count` lanes under a policy, their utilisations spread evenly from 50 to 90 %.
fn lanes(policy: &str, count: u64, jitter: bool) -> Vec<LaneProblem> {
    let policy = by_name(policy).expect("one of the listed names");
    let ppm = |index: u64| 500_000 + 400_000 * index / count.saturating_sub(1).max(1);
    let lane = |index: u64| {
        let set = random_lane(index + 1, TASKS, ppm(index)).expect("a legal set");
        let charged = charge(&set).expect("small numbers");
        let mut problem = LaneProblem::of_lane(&set, &charged, policy.as_ref(), LaneId::new(0));
        if !jitter {
            problem.tasks.iter_mut().for_each(|task| task.jitter = Nanos::ZERO);
        }
        problem
    };
    (0..count).map(lane).collect()
}

fn each(name: &str, limit: Option<Nanos>, lanes: &[LaneProblem], mut work: impl FnMut(&LaneProblem)) {
    let series = Series::new(format!("analysis/{name}"));
    let mut series = limit.into_iter().fold(series, Series::limited);
    for lane in lanes {
        let (spent, length) = cheapest(|| work(black_box(lane)));
        series.record_batch(spent, length.into());
    }
    println!("{series}");
}

/// Every task of each lane that fits leaves and joins again, and joins a lane that was judged without it. Whatever a lane
/// keeps has grown before the batch that counts.
fn coming_and_going(name: &str, limit: Nanos, lanes: &[LaneProblem]) {
    let series = |what: &str| Series::new(format!("analysis/{name}/{what}")).limited(limit);
    let (mut add, mut remove, mut first) = (series("add"), series("remove"), series("first add"));
    for lane in lanes.iter().filter(|lane| fits(lane)) {
        let Ok(admitted) = AdmittedLane::of(lane.clone()) else { continue };
        let mut copies = vec![admitted; COPIES];
        for task in &lane.tasks {
            let (mut left, mut joined) = (Duration::MAX, Duration::MAX);
            for _ in 0..BATCHES {
                let mut tasks = Vec::with_capacity(COPIES);
                let leave = timed(|| tasks.extend(copies.iter_mut().filter_map(|lane| lane.remove(task.id))));
                left = left.min(leave.0);
                joined = joined.min(join(&mut copies, tasks));
            }
            remove.record_batch(left, COPIES as u64);
            add.record_batch(joined, COPIES as u64);
            let mut others = lane.clone();
            others.tasks.retain(|other| other.id != task.id);
            let Ok(without) = AdmittedLane::of(others) else { continue };
            let mut copies = vec![without; COPIES];
            let mut joined = Duration::MAX;
            for _ in 0..BATCHES {
                joined = joined.min(join(&mut copies, vec![task.clone(); COPIES]));
                copies.iter_mut().for_each(|lane| assert!(lane.remove(task.id).is_some(), "it has joined"));
            }
            first.record_batch(joined, COPIES as u64);
        }
    }
    println!("{add}\n{first}\n{remove}");
}

/// CPU time in which a task joins each of the lanes, which have room for it.
fn join(lanes: &mut [AdmittedLane], tasks: Vec<LaneTask>) -> Duration {
    let pairs = lanes.iter_mut().zip(tasks);
    let (spent, joined) = timed(|| pairs.map(|(lane, task)| lane.add(task)).filter(Result::is_ok).count());
    assert_eq!(joined, COPIES, "the lane has room");
    spent
}

fn arrivals(task: &LaneTask) -> Sporadic {
    Sporadic { min_inter_arrival: Span::from(task.period.get()), jitter: Span::from(task.jitter.get()) }
}

fn wcet(task: &LaneTask) -> Scalar {
    Scalar::from(Service::from(task.segments.iter().map(|segment| segment.get()).sum::<u64>()))
}

fn others_fp(problem: &LaneProblem) {
    for me in &problem.tasks {
        let others = || problem.tasks.iter().filter(|other| other.id != me.id);
        let urgent: Vec<_> = others()
            .filter(|other| other.key <= me.key)
            .map(|other| RBF::new(arrivals(other), wcet(other)))
            .collect();
        let less = others().filter(|other| other.key > me.key).filter_map(|other| other.segments.last());
        let task = fixed_priority::limited_preemptive::TaskUnderAnalysis {
            wcet: wcet(me),
            arrivals: &arrivals(me),
            last_np_segment: Service::from(me.segments.last().map_or(0, |segment| segment.get())),
            blocking_bound: Service::from(less.map(|segment| segment.get()).max().unwrap_or(0)),
        };
        let bound =
            fixed_priority::limited_preemptive::dedicated_uniproc_rta(&task, &urgent, Span::from(LIMIT));
        black_box(bound.is_ok());
    }
}

fn others_edf(problem: &LaneProblem) {
    let arrivals: Vec<Sporadic> = problem.tasks.iter().map(arrivals).collect();
    let task = |at: usize| edf::fully_nonpreemptive::Task {
        wcet: wcet(&problem.tasks[at]),
        arrivals: &arrivals[at],
        deadline: Span::from(problem.tasks[at].deadline.get()),
    };
    for at in 0..problem.tasks.len() {
        let others: Vec<_> = (0..problem.tasks.len()).filter(|&other| other != at).map(task).collect();
        let bound = edf::fully_nonpreemptive::dedicated_uniproc_rta(&task(at), &others, Span::from(LIMIT));
        black_box(bound.is_ok());
    }
}

fn others_fifo(problem: &LaneProblem) {
    let all: Vec<_> = problem.tasks.iter().map(|task| RBF::new(arrivals(task), wcet(task))).collect();
    black_box(fifo::dedicated_uniproc_rta(&Slice::of(&all), Span::from(LIMIT)).is_ok());
}

/// What is measured, and against which limits: the whole for one kind of lane.
fn measure(effort: Effort, jitter: bool) {
    let name = if jitter { "jitter" } else { "no jitter" };
    let count = effort.choose(400, 12);
    let few = usize::try_from(effort.choose(100, 2)).unwrap_or(2);
    let (fp, edf, fifo) =
        (lanes("dm", count, jitter), lanes("edf", count, jitter), lanes("fifo", count, jitter));
    let every = |from: &[LaneProblem]| -> Vec<LaneProblem> {
        from.iter().step_by((from.len() / few).max(1)).cloned().collect()
    };
    let (some_fp, some_edf, some_fifo) = (every(&fp), every(&edf), every(&fifo));
    let micros = |limit: u64| Some(Nanos::from_micros(limit));
    let respond = |problem: &LaneProblem| {
        black_box(bounds(problem).is_ok());
    };
    let verdict = |problem: &LaneProblem| {
        black_box(fits(problem));
    };
    let border = |problem: &LaneProblem| {
        black_box(sensitivity(problem));
    };
    let asked = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let asked = |what: &str| asked.as_ref().is_none_or(|asked| what.contains(asked.as_str()));
    if asked("bounds") {
        each(&format!("np-fp/bounds, {name}"), micros(5), &fp, respond);
        each(&format!("np-edf/verdict, {name}"), micros(20), &edf, verdict);
        each(&format!("np-edf/bounds, {name}"), micros(200), &edf, respond);
        each(&format!("fifo/bounds, {name}"), micros(if jitter { 50 } else { 1 }), &fifo, respond);
    }
    if asked("incremental") {
        coming_and_going(&format!("np-fp, {name}"), Nanos::from_micros(2), &fp);
        coming_and_going(&format!("np-edf, {name}"), Nanos::from_micros(10), &edf);
    }
    if asked("sensitivity") {
        each(&format!("np-fp/sensitivity, {name}"), micros(10_000), &some_fp, border);
        each(&format!("np-edf/sensitivity, {name}"), micros(10_000), &some_edf, border);
    }
    if asked("response-time-analysis") {
        each(&format!("response-time-analysis/fp, {name}"), None, &some_fp, others_fp);
        each(&format!("response-time-analysis/fifo, {name}"), None, &some_fifo, others_fifo);
        if !jitter {
            each("response-time-analysis/edf", None, &some_edf, others_edf);
        }
    }
}

fn main() {
    let effort = Effort::asked();
    println!("analysis: {}; lanes of {TASKS} tasks, 50 to 90 % utilised; CPU time", effort.note());
    for jitter in [true, false] {
        measure(effort, jitter);
    }
}
