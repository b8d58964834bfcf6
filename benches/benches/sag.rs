//! What exploring a schedule-abstraction graph costs: dispatches a CPU second, CPU time and bytes of each set.
//!
//! Sets of the project's own always; those of the folder `analysis/sag/bench` where `AEGIS_VECTORS` names its root,
//! beside the figures of nptest that the folder gives; and nptest itself, in the same run, where `AEGIS_NPTEST` names
//! the program. Time is CPU time of this process: the machine may be shared.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use aegis_benches::effort::Effort;
use aegis_benches::percentile::median;
use aegis_sched::sag::periodic::jobs_of;
use aegis_sched::sag::{JobPolicy, JobSet, Options, PeriodicTask, SagReport, csv, explore};
use aegis_types::{Nanos, Time};
use rustix::time::{ClockId, clock_gettime};

/// CPU time of the process so far.
fn cpu() -> Duration {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(spent.tv_sec).unwrap_or(0), u32::try_from(spent.tv_nsec).unwrap_or(0))
}

/// Figures of the other program for one set.
#[derive(Clone, Copy)]
struct Theirs {
    cpu: f64,
    megabytes: f64,
    schedulable: bool,
}

/// A set, and how it is explored.
struct Case {
    name: String,
    jobs: JobSet,
    cores: u32,
    file: Option<PathBuf>,
    given: Option<Theirs>,
}

/// Median CPU time of some explorations; one is enough where it takes long.
fn measure(case: &Case, runs: u64) -> (SagReport, Duration) {
    let options = Options { cores: case.cores, ..Options::default() };
    let mut spans = Vec::new();
    loop {
        let start = cpu();
        let report = explore(&case.jobs, &options, &mut || true).expect("options that go together");
        spans.push(cpu().saturating_sub(start));
        if spans.len() as u64 >= runs || spans.iter().sum::<Duration>() > Duration::from_secs(2) {
            return (report, median(&mut spans));
        }
    }
}

fn show(case: &Case, runs: u64) {
    let (report, span) = measure(case, runs);
    let (seconds, megabytes) = (span.as_secs_f64(), report.effort.bytes_peak as f64 / 1e6);
    println!(
        "{:<16} m={} {:>9} states {:>9} edges  {:>9.4} CPU s  {:>6.2} M edges/s  {:>8.1} MB  {:?}",
        case.name,
        case.cores,
        report.effort.states,
        report.effort.edges,
        seconds,
        report.effort.edges as f64 / seconds / 1e6,
        megabytes,
        report.verdict,
    );
    let beside = |what: &str, theirs: Theirs| {
        let held = report.verdict == aegis_sched::sag::SagVerdict::Schedulable;
        println!(
            "{:<16} {what}: {:.4} CPU s ({:.1} times ours), {:.1} MB ({:.1} times ours), {} verdict",
            "",
            theirs.cpu,
            theirs.cpu / seconds,
            theirs.megabytes,
            theirs.megabytes / megabytes,
            if held == theirs.schedulable { "the same" } else { "ANOTHER" },
        );
    };
    if let Some(given) = case.given {
        beside("nptest, as given", given);
    }
    if let (Some(program), Some(file)) = (std::env::var_os("AEGIS_NPTEST"), &case.file) {
        match run_theirs(Path::new(&program), file, case.cores) {
            Some(theirs) => beside("nptest, here", theirs),
            None => println!("{:<16} nptest gave no line of figures", ""),
        }
    }
}

/// Runs the other program; its line is: file, verdict, jobs, nodes, states, edges, width, CPU s, MB, and more.
fn run_theirs(program: &Path, file: &Path, cores: u32) -> Option<Theirs> {
    let output = Command::new(program).arg("-m").arg(cores.to_string()).arg(file).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let fields: Vec<&str> = text.lines().last()?.split(',').map(str::trim).collect();
    Some(Theirs {
        schedulable: *fields.get(1)? == "1",
        cpu: fields.get(7)?.parse().ok()?,
        megabytes: fields.get(8)?.parse().ok()?,
    })
}

/// Sets of the folder, with the figures beside them.
fn given(root: &Path) -> Vec<Case> {
    let folder = root.join("analysis/sag/bench");
    let Ok(list) = std::fs::read_to_string(folder.join("bench.csv")) else {
        println!("no bench.csv in analysis/sag/bench of AEGIS_VECTORS: skipped");
        return Vec::new();
    };
    let case = |row: &str| {
        let fields: Vec<&str> = row.split(',').collect();
        let file = folder.join(fields.first()?);
        let jobs = csv::jobs(&std::fs::read_to_string(&file).ok()?).ok()?;
        Some(Case {
            name: (*fields.first()?).to_owned(),
            jobs: JobSet::new(jobs, &[]).ok()?,
            cores: fields.get(1)?.parse().ok()?,
            file: Some(file),
            given: Some(Theirs {
                schedulable: *fields.get(5)? == "1",
                cpu: fields.get(10)?.parse().ok()?,
                megabytes: fields.get(11)?.parse().ok()?,
            }),
        })
    };
    list.lines().skip(1).filter_map(case).collect()
}

/// Tasks of many periods under EDF with costs that vary much: many orders, many sets.
fn own(name: &str, tasks: u64, share: u64, jitter: u64) -> Case {
    const PERIODS: [u64; 6] = [4_000, 5_000, 8_000, 10_000, 20_000, 40_000];
    let task = |number: u64| {
        let period = PERIODS[(number * 7 % 6) as usize];
        let cost = period * share * (number % 5 + 1) / (300 * tasks);
        PeriodicTask {
            task: number,
            offset: Nanos::ZERO,
            period: Nanos::new(period),
            jitter: Nanos::new(period * jitter / 100),
            cost_min: Nanos::new(cost / 4),
            cost_max: Nanos::new(cost.max(1)),
            deadline: Nanos::new(period * 2),
            priority: number,
        }
    };
    let tasks: Vec<PeriodicTask> = (1..=tasks).map(task).collect();
    let jobs = jobs_of(&tasks, JobPolicy::EarliestDeadline, Time::new(40_000)).expect("legal tasks");
    let jobs = JobSet::new(jobs, &[]).expect("legal jobs");
    Case { name: name.to_owned(), jobs, cores: 1, file: None, given: None }
}

fn main() {
    let effort = Effort::asked();
    println!("schedule-abstraction graphs, {}", effort.note());
    let mut cases = vec![own("own narrow", 10, 60, 2), own("own wide", 24, 60, 3)];
    match std::env::var_os("AEGIS_VECTORS") {
        Some(root) => cases.extend(given(Path::new(&root))),
        None => println!("AEGIS_VECTORS is not set: only sets of the project's own"),
    }
    for case in &cases {
        // A try of the code has no time for sets that took the other program seconds.
        if effort == Effort::Quick && case.given.is_some_and(|given| given.cpu > 1.0) {
            println!("{:<16} skipped: too long for a try", case.name);
            continue;
        }
        show(case, effort.choose(15, 1));
    }
}
