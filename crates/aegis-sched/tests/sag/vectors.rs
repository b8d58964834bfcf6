//! The figures of the tool nptest and of an enumeration, where `AEGIS_VECTORS` names their folder.

use std::path::PathBuf;

use aegis_sched::sag::{
    Edge, Exactness, IdleRule, Job, JobSet, OnMiss, Options, SagReport, SagVerdict, csv, explore,
};
use aegis_types::Time;
use serde_json::Value;

use super::generate::job;

fn folder(test: &str) -> Option<PathBuf> {
    let Some(root) = std::env::var_os("AEGIS_VECTORS") else {
        println!("{test}: skipped, AEGIS_VECTORS is not set");
        return None;
    };
    Some(PathBuf::from(root).join("analysis/sag"))
}

fn read(folder: &std::path::Path, name: &str) -> String {
    std::fs::read_to_string(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The figures are of sets whose deadlines never matter.
fn loose(mut jobs: Vec<Job>) -> Vec<Job> {
    jobs.iter_mut().for_each(|job| job.deadline = Time::new(1_000_000_000));
    jobs
}

fn explored(jobs: Vec<Job>, edges: &[Edge], cores: u32, idle: Option<IdleRule>) -> (JobSet, SagReport) {
    let set = JobSet::new(jobs, edges).expect("a legal set");
    let options = Options { cores, idle, on_miss: OnMiss::Stop, ..Options::default() };
    let report = explore(&set, &options, &mut || true).expect("options that go together");
    (set, report)
}

fn holds(report: &SagReport) -> bool {
    report.verdict == SagVerdict::Schedulable
}

#[test]
fn generated_sets_give_the_same_verdicts_and_on_one_core_the_same_file() {
    let Some(folder) = folder("generated_sets") else { return };
    let list = read(&folder, "gen_verdicts.csv");
    let (mut same, mut more) = (0, 0);
    for row in list.lines().skip(1) {
        let fields: Vec<&str> = row.split(',').collect();
        let cores: u32 = fields[1].parse().unwrap();
        let jobs = csv::jobs(&read(&folder, fields[0])).unwrap();
        let (_, report) = explored(jobs.clone(), &[], cores, None);
        if cores == 1 {
            assert_eq!(holds(&report), fields[2] == "1", "{row}");
            let (set, report) = explored(loose(jobs), &[], 1, None);
            assert_eq!(csv::results(&set, &report.bounds), read(&folder, fields[4]), "{row}");
            same += 1;
        } else {
            more += 1;
            println!("{}: {} cores, ours {}, theirs {}", fields[0], cores, holds(&report), fields[2]);
            assert!(holds(&report) == (fields[2] == "1"), "{row}");
        }
    }
    assert!(same >= 20 && more >= 8, "{same} {more}");
}

#[test]
fn shipped_sets_give_the_same_verdicts_and_on_one_core_the_same_file() {
    let Some(folder) = folder("shipped_sets") else { return };
    let list = read(&folder, "verdicts.csv");
    let (mut compared, mut ended) = (0, 0);
    for row in list.lines().skip(1) {
        let fields: Vec<&str> = row.split(',').collect();
        let cores: u32 = fields[3].parse().unwrap();
        let edges = match fields[2].split_once(' ') {
            Some(("-p", file)) => csv::edges(&read(&folder, file)).unwrap(),
            _ => Vec::new(),
        };
        let aborts = match fields[2].split_once(' ') {
            Some(("-a", file)) => csv::aborts(&read(&folder, file)).unwrap(),
            _ => Vec::new(),
        };
        ended += usize::from(!aborts.is_empty());
        let jobs = csv::jobs(&read(&folder, fields[1])).unwrap();
        let explored = |jobs, edges: &[Edge], cores| {
            let set = JobSet::new(jobs, edges).unwrap().with_aborts(&aborts).unwrap();
            let report = explore(&set, &Options { cores, ..Options::default() }, &mut || true).unwrap();
            (set, report)
        };
        let (_, report) = explored(jobs.clone(), &edges, cores);
        assert_eq!(holds(&report), fields[4] == "1", "{row}");
        if cores == 1 {
            let (set, report) = explored(loose(jobs), &edges, 1);
            assert_eq!(csv::results(&set, &report.bounds), read(&folder, fields[5]), "{row}");
        }
        compared += 1;
    }
    assert!(compared >= 8 && ended == 1);
}

#[test]
fn the_regression_of_the_work_conserving_bound_stays_mended() {
    let Some(folder) = folder("regression") else { return };
    let (set, report) = explored(loose(csv::jobs(&read(&folder, "regress_pr3.csv")).unwrap()), &[], 1, None);
    assert_eq!(csv::results(&set, &report.bounds), read(&folder, "regress_pr3.rta.csv"));
}

#[test]
fn inserted_idle_time_saves_the_shipped_examples() {
    let Some(folder) = folder("idle") else { return };
    for row in read(&folder, "iip_verdicts.csv").lines().skip(1) {
        let fields: Vec<&str> = row.split(',').collect();
        let rule = if fields[1] == "CW" { IdleRule::CriticalWindowEdf } else { IdleRule::PrecautiousRm };
        let jobs = csv::jobs(&read(&folder, fields[0])).unwrap();
        assert!(!holds(&explored(jobs.clone(), &[], 1, None).1), "{row}");
        assert_eq!(holds(&explored(jobs, &[], 1, Some(rule)).1), fields[2] == "1", "{row}");
    }
}

#[test]
fn tiny_sets_equal_or_contain_enumeration() {
    let Some(folder) = folder("tiny_sets") else { return };
    let sets: Value = serde_json::from_str(&read(&folder, "tiny_bruteforce.json")).unwrap();
    let (mut exact, mut safe) = (0, 0);
    for set in sets.as_array().unwrap() {
        let number = |value: &Value, field: &str| value[field].as_u64().unwrap();
        let jobs = set["jobs"].as_array().unwrap().iter().map(|value| {
            let pair = |low: &str, high: &str| [number(value, low), number(value, high)];
            let (deadline, priority) = (number(value, "deadline"), number(value, "prio"));
            let mut made =
                job(number(value, "task"), pair("rmin", "rmax"), pair("cmin", "cmax"), deadline, priority);
            made.key.job = number(value, "job");
            made
        });
        let jobs: Vec<Job> = jobs.collect();
        let cores = number(set, "m") as u32;
        let verdict = holds(&explored(jobs.clone(), &[], cores, None).1);
        let (_, report) = explored(loose(jobs), &[], cores, None);
        for (place, bounds) in report.bounds.iter().enumerate() {
            let found = bounds.map(|b| [b.completion_min.get(), b.completion_max.get()]).unwrap();
            let truth = ["exact_bcct", "exact_wcct"].map(|name| set[name][place].as_u64().unwrap());
            let exactly = report.exactness == Exactness::Exact;
            assert!(found == truth || !exactly && found[0] <= truth[0] && truth[1] <= found[1], "{set}");
        }
        let truth = set["schedulable"].as_bool().unwrap();
        assert!(verdict == truth || cores > 1 && !verdict, "{set}");
        if cores == 1 { exact += 1 } else { safe += 1 }
    }
    assert!(exact >= 15 && safe >= 5);
}

#[test]
fn timing_sets_give_the_same_verdicts() {
    let Some(folder) = folder("timing_sets").map(|folder| folder.join("bench")) else { return };
    for row in read(&folder, "bench.csv").lines().skip(1) {
        let fields: Vec<&str> = row.split(',').collect();
        // The hard set takes seconds: the bench explores it.
        if fields[6].parse::<u64>().unwrap() > 1_000_000 {
            continue;
        }
        let jobs = csv::jobs(&read(&folder, fields[0])).unwrap();
        let (_, report) = explored(jobs, &[], fields[1].parse().unwrap(), None);
        assert_eq!(holds(&report), fields[5] == "1", "{row}");
        println!("{row}: {:?}", report.effort);
    }
}
