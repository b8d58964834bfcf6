//! Jobs launched at their arrivals: naive sharing, where every task has its own stream, and lanes without a
//! certificate, which overload needs because nothing certifies it.
//!
//! A stream keeps whatever is launched on it, so that under overload jobs wait for each other without end. On lanes stands
//! the runtime's own rule: a task has as many jobs pending as its deadline has periods, one here, and what arrives
//! beyond is refused. Whoever is refused has missed.

use std::collections::VecDeque;

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
    /// At most one task of each group, the earliest deadline first, and at most one job of each task: see above.
    Lanes(Vec<Vec<usize>>),
    /// One job at a time, in the order of arrival.
    Queue,
}

impl Sharing {
    /// Whether a job is refused that comes before the one before it has ended.
    const fn refuses(&self) -> bool {
        matches!(self, Self::Lanes(_))
    }

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
    /// Jobs that were refused: misses as well.
    #[serde(default)]
    pub refused: u64,
    /// Worst response over deadline.
    pub response_milli: u64,
    /// Largest execution over execution alone.
    pub slowdown_milli: u64,
}

impl PaceRow {
    /// Whether every deadline was met.
    pub const fn is_clean(&self) -> bool {
        self.misses == 0 && self.unfinished == 0 && self.refused == 0
    }
}

struct Queue {
    period: Nanos,
    next: Time,
    /// When the jobs arrived that are not launched, the oldest first.
    pending: VecDeque<Time>,
    /// Arrival of the job in flight.
    flying: Time,
}

impl Queue {
    /// Arrival of the oldest job that waits.
    fn oldest(&self) -> Option<Time> {
        self.pending.front().copied()
    }

    fn deadline(&self) -> Option<Time> {
        self.oldest().map(|arrival| arrival.saturating_add(self.period))
    }

    /// Takes what has arrived until now; returns how many jobs are refused.
    fn arrive(&mut self, now: Time, one: bool, busy: bool) -> u64 {
        let mut refused = 0;
        while self.next <= now {
            if one && (busy || !self.pending.is_empty()) {
                refused += 1;
            } else {
                self.pending.push_back(self.next);
            }
            self.next = self.next.saturating_add(self.period);
        }
        refused
    }
}

/// What became of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It ended.
    Ended {
        /// From arrival to end seen.
        response: Nanos,
        /// From the launch to end seen.
        execution: Nanos,
        /// Whether that was too late.
        missed: bool,
    },
    /// It was refused when it arrived.
    Refused,
}

/// One job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    /// Position of its task.
    pub task: usize,
    /// What became of it.
    pub fate: Fate,
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
            pending: VecDeque::new(),
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
        for (task, queue) in queues.iter_mut().enumerate() {
            for _ in 0..queue.arrive(now, sharing.refuses(), busy[task]) {
                row.refused += 1;
                tell(Job { task, fate: Fate::Refused });
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
    Job { task: ended.task, fate: Fate::Ended { response, execution, missed } }
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
        let Some(arrival) = queue.pending.pop_front() else { return };
        queue.flying = arrival;
        busy[task] = true;
        circuit.start(task);
    };
    match sharing {
        Sharing::Naive => {
            for task in 0..queues.len() {
                if !busy[task] {
                    begin(task, queues, busy);
                }
            }
        }
        Sharing::Queue => {
            let waits = (0..queues.len()).filter_map(|task| Some((queues[task].oldest()?, task)));
            if !busy.contains(&true)
                && let Some((_, task)) = waits.min()
            {
                begin(task, queues, busy);
            }
        }
        Sharing::Lanes(groups) => {
            for group in groups {
                if group.iter().any(|&task| busy[task]) {
                    continue;
                }
                let ready = group.iter().filter_map(|&task| Some((queues[task].deadline()?, task)));
                if let Some((_, task)) = ready.min() {
                    begin(task, queues, busy);
                }
            }
        }
    }
}

/// Jobs that wait although their deadline is over.
fn overdue(queue: &Queue, now: Time) -> u64 {
    queue.pending.iter().filter(|arrival| arrival.saturating_add(queue.period) < now).count() as u64
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
        assert!(naive.unfinished > 0 && naive.refused == 0, "the backlog counts: {naive:?}");
        // Half of it is too much: the other half is served, and nothing waits longer than its lane's other tasks take.
        assert!(lanes.refused * 3 > lanes.jobs && lanes.jobs * 3 > lanes.refused, "{lanes:?}");
        assert!(lanes.unfinished <= 8 && lanes.response_milli < 3_000, "{lanes:?}");
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
        let mut tell = |job: Job| match job.fate {
            Fate::Ended { execution, .. } => order.push((job.task, execution)),
            Fate::Refused => panic!("a queue refused {job:?}"),
        };
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
