//! What a run left: every task's responses beside what was certified, what broke, and what may be claimed.

use aegis_types::Nanos;
use aegis_types::records::{Assumption, JobOutcome};
use hdrhistogram::Histogram;

use super::answer::Exit;
use super::figures::{self, span};
use super::table::Grid;
use crate::tally::{Tally, TaskTally, refusal_name};

/// The table of tasks.
pub fn table(tally: &Tally) -> String {
    let header = [
        "task", "lane", "jobs", "miss", "refused", "p50", "p99", "p99.9", "max", "WCRT", "deadline",
        "covered",
    ];
    let mut grid = Grid::new(2, &header);
    for task in tally.tasks() {
        let quantile = |share| span(quantile(&task.responses, task.response_max, share));
        let ended: u64 = task.standings.iter().sum();
        grid.row([
            task.name.clone(),
            task.lane.to_string(),
            task.completed().to_string(),
            task.misses.to_string(),
            task.refusals.iter().sum::<u64>().to_string(),
            quantile(0.5),
            quantile(0.99),
            quantile(0.999),
            span(task.response_max),
            span(task.wcrt),
            span(task.deadline),
            figures::percent(task.covered(), ended),
        ]);
    }
    grid.text()
}

/// A quantile of the histogram; zero without a job. The histogram rounds up, and no job took longer than the longest.
fn quantile(responses: &Histogram<u64>, longest: Nanos, share: f64) -> Nanos {
    if responses.is_empty() {
        Nanos::ZERO
    } else {
        Nanos::new(responses.value_at_quantile(share)).min(longest)
    }
}

/// What broke, was refused or lost, a line each; empty if nothing.
pub fn incidents(tally: &Tally) -> Vec<String> {
    let mut lines: Vec<String> = tally.tasks().iter().flat_map(incidents_of).collect();
    let (stalls, longest) = tally.stalls();
    if stalls > 0 {
        let times = times(stalls);
        lines.push(format!("driver: HostStall broken {times}, the longest stall was {}", span(longest)));
    }
    if tally.device_voids() > 0 {
        let times = times(tally.device_voids());
        lines
            .push(format!("device: every certificate was void {times}, after breaches on two lanes at once"));
    }
    lines
}

fn incidents_of(task: &TaskTally) -> Vec<String> {
    let mut lines = Vec::new();
    for (assumption, &count) in Assumption::ALL.iter().zip(&task.broken) {
        if count > 0 {
            let worst = match assumption {
                Assumption::SegmentSucceeds => String::new(),
                _ => format!(", worst by {}", span(task.excess_max)),
            };
            lines.push(format!("{}: {assumption:?} broken {}{worst}", task.name, times(count)));
        }
    }
    for (index, &count) in task.refusals.iter().enumerate() {
        if count > 0 {
            lines.push(format!("{}: {count} arrivals refused, {}", task.name, refusal_name(index)));
        }
    }
    for (outcome, &count) in JobOutcome::ALL.iter().zip(&task.outcomes) {
        let what = match outcome {
            JobOutcome::Completed => continue,
            JobOutcome::Failed => "failed",
            JobOutcome::Dropped => "dropped to bring the lane back to a certified state",
            JobOutcome::Stopped => "dropped because the run was stopped",
        };
        if count > 0 {
            lines.push(format!("{}: {} {what}", task.name, figures::counted(count, "job")));
        }
    }
    if task.certified_misses + task.bound_violations > 0 {
        lines.push(format!(
            "{}: {} missed and {} exceeded although every assumption held",
            task.name,
            figures::counted(task.certified_misses, "deadline"),
            figures::counted(task.bound_violations, "bound")
        ));
    }
    lines
}

fn times(count: u64) -> String {
    if count == 1 { "once".to_owned() } else { format!("{count} times") }
}

/// Jobs whose deadline passed without an output, though not because the operator stopped the run.
fn lost(tally: &Tally) -> u64 {
    tally.tasks().iter().map(TaskTally::lost).sum()
}

/// What the exit code says.
pub fn exit(tally: &Tally) -> Exit {
    tally.outcome().into()
}

/// What may be claimed of the run, and what not.
pub fn claim(tally: &Tally) -> String {
    let sum = |count: fn(&TaskTally) -> u64| tally.tasks().iter().map(count).sum::<u64>();
    let (jobs, covered) = (sum(|task| task.standings.iter().sum()), sum(TaskTally::covered));
    let (misses, lost) = (sum(|task| task.misses), lost(tally));
    let share = figures::percent(covered, jobs);
    match exit(tally) {
        _ if jobs == 0 => "No job ended, so nothing is claimed.".to_owned(),
        Exit::Violated => {
            "DEFECT: a deadline was missed or a bound exceeded although every watched assumption held. \
             The certificate or the runtime is wrong; the trace shows where."
                .to_owned()
        }
        Exit::Explained => format!(
            "{} missed, each in a busy period in which an assumption broke, and {} not served (failed, dropped, \
             refused by a full queue or a void lane, or unfinished). That is no kept guarantee. For the {share} of jobs \
             in busy periods without a broken assumption, every response stayed within its certified bound.",
            figures::counted(misses, "deadline"),
            figures::counted(lost, "job")
        ),
        _ if covered == jobs => format!(
            "Every deadline was met, no assumption broke in {}, and every response stayed within its certified bound.",
            figures::counted(jobs, "job")
        ),
        _ => format!(
            "Every deadline was met. The certificate covers {share} of the jobs: those in busy periods without a \
             broken assumption, each of which stayed within its certified bound. That the others were in time too \
             was observed, not guaranteed."
        ),
    }
}

/// A sentence over lines of at most 110 columns.
pub fn folded(text: &str) -> String {
    let mut out = String::new();
    let mut column = 0;
    for word in text.split_whitespace() {
        if column > 0 && column + 1 + word.len() > 110 {
            out.push('\n');
            column = 0;
        } else if column > 0 {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += word.len();
    }
    out
}

#[cfg(test)]
mod tests {
    use aegis_sched::{
        AdmissionController, AdmissionRequest, Arrival, Basis, Criticality, OccupancyBudget, OnOverrun,
        Overheads, PartitionModel, Platform, Task, TaskSet, policy::Fifo,
    };
    use aegis_types::records::{AssumptionBroken, Consequence, JobFinished, Standing};
    use aegis_types::{JobId, LaneId, Record, Sink, TaskId, Time};

    use super::*;

    fn tally() -> Tally {
        let platform =
            Platform::new(vec![PartitionModel { name: "p".into(), lanes: 1 }], Overheads::default()).unwrap();
        let task = Task {
            id: TaskId::new(0),
            name: "detector".into(),
            lane: LaneId::new(0),
            period: Nanos::from_millis(10),
            deadline: Nanos::from_millis(10),
            jitter: Nanos::ZERO,
            arrival: Arrival::Periodic { offset: Nanos::ZERO },
            segments: vec![OccupancyBudget { bound: Nanos::from_millis(2), basis: Basis::Declared }],
            priority: None,
            criticality: Criticality::Medium,
            on_overrun: OnOverrun::Skip,
            retries: 0,
            weight: 1,
            excludes: Vec::new(),
        };
        let set = TaskSet::new(vec![task], platform).unwrap();
        let report = AdmissionController::new(Box::new(Fifo)).analyze(&AdmissionRequest::new(&set).tight());
        Tally::new(&set, report.certificate().unwrap())
    }

    fn finish(tally: &mut Tally, outcome: JobOutcome, response_ms: u64, standing: Standing) {
        let record = JobFinished {
            job: JobId::new(TaskId::new(0), 0),
            outcome,
            response: Nanos::from_millis(response_ms),
            bound: if standing == Standing::Void { Nanos::MAX } else { Nanos::from_millis(4) },
            standing,
            overrun: Nanos::ZERO,
        };
        tally.emit(record.at(Time::new(1)));
    }

    fn check(jobs: &[(JobOutcome, u64, Standing)], exit_code: u8, says: &str) {
        let mut tally = tally();
        for &(outcome, response, standing) in jobs {
            finish(&mut tally, outcome, response, standing);
        }
        assert_eq!(exit(&tally).code(), exit_code, "{jobs:?}");
        let claim = claim(&tally);
        assert!(claim.contains(says), "{claim}");
    }

    #[test]
    fn nothing_is_claimed_that_was_not_kept() {
        use JobOutcome::{Completed, Dropped, Failed, Stopped};
        use Standing::{Covered, Void};
        check(&[], 0, "nothing is claimed");
        check(&[(Completed, 3, Covered)], 0, "no assumption broke in 1 job, and");
        check(&[(Completed, 3, Covered), (Completed, 9, Void)], 0, "covers 50.0% of the jobs");
        check(&[(Completed, 3, Covered), (Completed, 11, Void)], 4, "no kept guarantee");
        check(&[(Failed, 3, Void)], 4, "1 job not served");
        check(&[(Dropped, 3, Void)], 4, "no kept guarantee");
        check(&[(Completed, 3, Covered), (Stopped, 3, Covered)], 0, "Every deadline was met");
        check(&[(Completed, 11, Covered)], 1, "DEFECT");
        check(&[(Completed, 5, Covered)], 1, "DEFECT");
    }

    #[test]
    fn broken_assumptions_are_told_with_their_numbers() {
        let mut tally = tally();
        for seen in [2_500, 3_200] {
            let broken = AssumptionBroken {
                assumption: Assumption::OccupancyBudget,
                lane: LaneId::new(0),
                job: JobId::new(TaskId::new(0), 0),
                seen: Nanos::from_micros(seen),
                limit: Nanos::from_millis(2),
                consequence: Consequence::LaneVoid,
            };
            tally.emit(broken.at(Time::new(1)));
        }
        finish(&mut tally, JobOutcome::Completed, 3, Standing::Void);
        assert_eq!(incidents(&tally), ["detector: OccupancyBudget broken 2 times, worst by 1.2ms"]);
        assert!(table(&tally).lines().nth(1).is_some_and(|row| row.starts_with("detector  lane0")));
    }

    #[test]
    fn folded_lines_keep_every_word() {
        let text = "word ".repeat(60);
        let folded = folded(&text);
        assert!(folded.lines().all(|line| line.len() <= 110));
        assert_eq!(folded.split_whitespace().count(), 60);
    }

    #[test]
    fn no_quantile_is_beyond_the_longest_response() {
        let longest = 3_211_777;
        let mut responses = Histogram::new(3).expect("three digits are legal");
        assert_eq!(quantile(&responses, Nanos::ZERO, 0.99), Nanos::ZERO);
        responses.record(longest).expect("the histogram grows");
        assert!(responses.value_at_quantile(0.99) > longest, "rounding is what this test is about");
        assert_eq!(quantile(&responses, Nanos::new(longest), 0.99), Nanos::new(longest));
    }
}
