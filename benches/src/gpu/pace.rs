//! Jobs launched at their arrivals: naive sharing, where every task has its own stream, and lanes without a
//! certificate, which overload needs because nothing certifies it.

use aegis_types::{Nanos, Time};
use serde::{Deserialize, Serialize};

use super::circuit::{Circuit, Ended, Lanes};
use super::error::ExperimentError;
use super::saturation::slowdown;

/// When jobs arrive; deadlines equal periods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrivals {
    /// By task.
    pub periods: Vec<Nanos>,
    /// First arrivals, by task.
    pub offsets: Vec<Nanos>,
}

/// Who may be in flight together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Every task for itself, launched at its release.
    Naive,
    /// At most one task of each group, the earliest deadline first.
    Lanes(Vec<Vec<usize>>),
    /// One job at a time, in the order of arrival.
    Queue,
}

impl Sharing {
    /// What it is called in results.
    pub fn name(&self) -> String {
        match self {
            Self::Naive => "naive".to_owned(),
            Self::Lanes(groups) => format!("{} lanes", groups.len()),
            Self::Queue => "one stream, first in first out".to_owned(),
        }
    }
}

/// What came of it. Ratios are in thousandths.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields say what is counted, with their units in their names")]
pub struct PaceRow {
    pub jobs: u64,
    pub misses: u64,
    /// Jobs that had arrived and not ended when time was up, their deadlines over: misses too.
    pub unfinished: u64,
    /// Worst response over deadline.
    pub response_milli: u64,
    /// Largest execution over execution alone.
    pub slowdown_milli: u64,
}

impl PaceRow {
    /// Whether every deadline was met.
    pub const fn is_clean(&self) -> bool {
        self.misses == 0 && self.unfinished == 0
    }
}

struct Queue {
    period: Nanos,
    next: Time,
    /// Arrived and not launched.
    pending: u64,
    /// Arrival of the job in flight.
    flying: Time,
}

impl Queue {
    /// Arrival of the oldest job that waits.
    fn oldest(&self) -> Time {
        self.next.saturating_sub(Nanos::new(self.period.get().saturating_mul(self.pending)))
    }

    fn deadline(&self) -> Time {
        self.oldest().saturating_add(self.period)
    }
}

/// One job that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    /// Position of its task.
    pub task: usize,
    /// From arrival to end seen.
    pub response: Nanos,
    /// From the launch to end seen.
    pub execution: Nanos,
    /// Whether it ended too late.
    pub missed: bool,
}

/// Serves the arrivals for so long and then waits for what is in flight. `alone` is the execution alone, by task. Ends
/// at the first miss if `until_miss`.
///
/// # Errors
/// As [`Circuit::look`].
pub fn pace<L: Lanes>(
    circuit: &mut Circuit<'_, L>,
    alone: &[Nanos],
    arrivals: &Arrivals,
    sharing: &Sharing,
    duration: Nanos,
    until_miss: bool,
) -> Result<PaceRow, ExperimentError> {
    pace_told(circuit, alone, arrivals, sharing, duration, until_miss, &mut |_| {})
}

/// As [`pace`], and tells of every job.
///
/// # Errors
/// As [`Circuit::look`].
pub fn pace_told<L: Lanes>(
    circuit: &mut Circuit<'_, L>,
    alone: &[Nanos],
    arrivals: &Arrivals,
    sharing: &Sharing,
    duration: Nanos,
    until_miss: bool,
    tell: &mut dyn FnMut(Job),
) -> Result<PaceRow, ExperimentError> {
    let start = circuit.now().saturating_add(Nanos::from_millis(1));
    let end = start.saturating_add(duration);
    let mut queues: Vec<Queue> = arrivals
        .periods
        .iter()
        .zip(&arrivals.offsets)
        .map(|(period, offset)| Queue {
            period: *period,
            next: start.saturating_add(*offset),
            pending: 0,
            flying: Time::ZERO,
        })
        .collect();
    let mut busy = vec![false; queues.len()];
    let mut row = PaceRow::default();
    loop {
        let now = circuit.now();
        if now >= end || (until_miss && !row.is_clean()) {
            break;
        }
        for queue in &mut queues {
            while queue.next <= now {
                queue.pending += 1;
                queue.next = queue.next.saturating_add(queue.period);
            }
        }
        launch(circuit, &mut queues, &mut busy, sharing);
        circuit.look(|ended| {
            busy[ended.task] = false;
            tell(count(&mut row, &ended, &queues[ended.task], alone));
        })?;
        std::hint::spin_loop();
    }
    let over = circuit.now();
    row.unfinished = queues.iter().map(|queue| overdue(queue, over)).sum();
    finish(circuit, &queues, alone, &mut row, tell)?;
    Ok(row)
}

/// What is in flight at the end still counts.
fn finish<L: Lanes>(
    circuit: &mut Circuit<'_, L>,
    queues: &[Queue],
    alone: &[Nanos],
    row: &mut PaceRow,
    tell: &mut dyn FnMut(Job),
) -> Result<(), ExperimentError> {
    while !circuit.is_idle() {
        circuit.look(|ended| tell(count(row, &ended, &queues[ended.task], alone)))?;
        circuit.rest();
    }
    Ok(())
}

fn count(row: &mut PaceRow, ended: &Ended, queue: &Queue, alone: &[Nanos]) -> Job {
    let (response, execution) = (ended.seen.since(queue.flying), ended.occupancy());
    let missed = response > queue.period;
    row.jobs += 1;
    row.misses += u64::from(missed);
    row.response_milli = row.response_milli.max(milli(response, queue.period));
    row.slowdown_milli = row.slowdown_milli.max(slowdown(execution, alone[ended.task]) / 1_000);
    Job { task: ended.task, response, execution, missed }
}

/// One span over another, in thousandths.
pub fn milli(one: Nanos, other: Nanos) -> u64 {
    let ratio = u128::from(one.get()) * 1_000 / u128::from(other.get().max(1));
    u64::try_from(ratio).unwrap_or(u64::MAX)
}

fn launch<L: Lanes>(
    circuit: &mut Circuit<'_, L>,
    queues: &mut [Queue],
    busy: &mut [bool],
    sharing: &Sharing,
) {
    let mut begin = |task: usize, queues: &mut [Queue], busy: &mut [bool]| {
        let queue = &mut queues[task];
        queue.flying = queue.oldest();
        queue.pending -= 1;
        busy[task] = true;
        circuit.start(task);
    };
    match sharing {
        Sharing::Naive => {
            for task in 0..queues.len() {
                if queues[task].pending > 0 && !busy[task] {
                    begin(task, queues, busy);
                }
            }
        }
        Sharing::Queue => {
            let waits = (0..queues.len()).filter(|&task| queues[task].pending > 0);
            if !busy.contains(&true)
                && let Some(task) = waits.min_by_key(|&task| (queues[task].oldest(), task))
            {
                begin(task, queues, busy);
            }
        }
        Sharing::Lanes(groups) => {
            for group in groups {
                if group.iter().any(|&task| busy[task]) {
                    continue;
                }
                let ready = group.iter().copied().filter(|&task| queues[task].pending > 0);
                if let Some(task) = ready.min_by_key(|&task| (queues[task].deadline(), task)) {
                    begin(task, queues, busy);
                }
            }
        }
    }
}

/// Jobs that wait although their deadline is over.
fn overdue(queue: &Queue, now: Time) -> u64 {
    let waiting = (0..queue.pending).map(|back| {
        let age = Nanos::new(queue.period.get().saturating_mul(back));
        queue.next.saturating_sub(age)
    });
    // The arrival of a waiting job is a period before the one after it, which is its deadline.
    waiting.filter(|deadline| *deadline < now).count() as u64
}

#[cfg(test)]
mod tests {
    use super::super::circuit::tests::{VirtualLanes, carried};
    use super::*;

    fn arrivals(count: usize, period: Nanos) -> Arrivals {
        let offsets = (0..count).map(|n| Nanos::new(period.get() * n as u64 / count as u64)).collect();
        Arrivals { periods: vec![period; count], offsets }
    }

    fn run(count: u16, period: Nanos, sharing: &Sharing) -> PaceRow {
        let lengths = vec![Nanos::from_micros(100); count.into()];
        let mut lanes = VirtualLanes::new(lengths.clone(), count.into());
        let tasks = carried(count, true);
        let mut circuit = Circuit::new(&mut lanes, &tasks);
        let duration = Nanos::from_millis(50);
        pace(&mut circuit, &lengths, &arrivals(count.into(), period), sharing, duration, false).expect("runs")
    }

    #[test]
    fn light_load_meets_every_deadline_and_all_jobs_are_counted() {
        for sharing in [Sharing::Naive, Sharing::Lanes(vec![vec![0, 1], vec![2, 3]])] {
            let row = run(4, Nanos::from_micros(1_000), &sharing);
            assert!(row.is_clean(), "{sharing:?} {row:?}");
            // 50 ms of four tasks at 1 ms.
            assert!((196..=200).contains(&row.jobs), "{row:?}");
            assert!(row.response_milli >= 100 && row.response_milli < 400, "{row:?}");
        }
    }

    #[test]
    fn overload_misses_and_lanes_bound_the_slowdown() {
        let naive = run(8, Nanos::from_micros(250), &Sharing::Naive);
        let groups = vec![vec![0, 1, 2, 3], vec![4, 5, 6, 7]];
        let lanes = run(8, Nanos::from_micros(250), &Sharing::Lanes(groups));
        assert!(!naive.is_clean() && !lanes.is_clean(), "{naive:?} {lanes:?}");
        assert!(lanes.slowdown_milli < 1_600, "at most one other in flight: {lanes:?}");
        assert!(naive.slowdown_milli > 2_500, "all in flight: {naive:?}");
        assert!(lanes.unfinished > 0, "the backlog counts: {lanes:?}");
    }

    #[test]
    fn a_queue_runs_one_job_at_a_time_in_the_order_of_arrival() {
        let lengths = vec![Nanos::from_micros(100); 3];
        let mut lanes = VirtualLanes::new(lengths.clone(), 3);
        let tasks = carried(3, true);
        let mut circuit = Circuit::new(&mut lanes, &tasks);
        // The last task arrives first, then the middle one, while the one before is still running.
        let offsets = [120, 60, 0].map(Nanos::from_micros).to_vec();
        let arrivals = Arrivals { periods: vec![Nanos::from_micros(1_000); 3], offsets };
        let mut order = Vec::new();
        let mut tell = |job: Job| order.push((job.task, job.execution));
        let duration = Nanos::from_micros(900);
        pace_told(&mut circuit, &lengths, &arrivals, &Sharing::Queue, duration, false, &mut tell)
            .expect("runs");
        let tasks: Vec<usize> = order.iter().map(|(task, _)| *task).collect();
        assert_eq!(tasks, [2, 1, 0]);
        assert!(order.iter().all(|(_, execution)| *execution < Nanos::from_micros(130)), "{order:?}");
    }

    #[test]
    fn a_run_until_the_first_miss_is_short() {
        let lengths = vec![Nanos::from_micros(300); 2];
        let mut lanes = VirtualLanes::new(lengths.clone(), 2);
        let tasks = carried(2, true);
        let mut circuit = Circuit::new(&mut lanes, &tasks);
        let arrivals = arrivals(2, Nanos::from_micros(200));
        let row = pace(&mut circuit, &lengths, &arrivals, &Sharing::Naive, Nanos::from_millis(900), true)
            .expect("runs");
        assert!(row.jobs < 10 && !row.is_clean(), "{row:?}");
    }
}
