//! Files of jobs and edges: parsed, checked, explored, replayed.

use aegis_sched::referee;
use aegis_sched::sag::{
    self, Exactness, IdleRule, JobSet, Limits, OnMiss, Options, SagError, SagReport, SagVerdict, csv,
};
use aegis_types::Bytes;

use super::campaign::{Corpus, on_text, seeds};
use super::generate::Rng;

const LIMITS: Limits = Limits { states: 4_000, bytes: Bytes::new(16 << 20) };

#[test]
fn files_of_jobs_and_edges() {
    let (mut jobs, mut edges) = (Corpus::of("jobs"), Corpus::of("edges"));
    let mut fixed = 0;
    let (files, others) = (jobs.texts.len(), edges.texts.len());
    seeds("files_of_jobs_and_edges", 3_000, |rng| {
        // Every file of the one kind with every file of the other, before anything is changed.
        let (first, second) = if fixed < files * others {
            fixed += 1;
            (jobs.texts[(fixed - 1) / others].clone(), edges.texts[(fixed - 1) % others].clone())
        } else {
            let unchanged = rng.pick(&edges.texts[..others]).clone();
            (jobs.draw(rng), if rng.one_in(2) { edges.draw(rng) } else { unchanged })
        };
        let options = options(rng);
        let input = format!("{first}\n----\n{second}\n---- {options:?}");
        let answer = on_text(&input, || answer(&first, &second, options));
        jobs.keep(&first, &answer);
        edges.keep(&second, &answer);
    });
    assert!(jobs.answers() > 15, "{}", jobs.answers());
}

fn options(rng: &mut Rng) -> Options {
    let idle = [None, None, Some(IdleRule::PrecautiousRm), Some(IdleRule::CriticalWindowEdf)];
    Options {
        cores: *rng.pick(&[1, 1, 1, 2, 3, 1024]),
        idle: *rng.pick(&idle),
        on_miss: *rng.pick(&[OnMiss::Stop, OnMiss::Explore]),
        limits: LIMITS,
    }
}

fn answer(jobs: &str, edges: &str, options: Options) -> String {
    match read(jobs, edges) {
        Err(error) => {
            let text = error.to_string();
            let legal = ["legal", "unique", "at most"].iter().any(|word| text.contains(word));
            assert!(legal || matches!(error, SagError::BadEdge { .. }), "no legal value in: {text}");
            text
        }
        Ok(set) => {
            let answer = explored(&set, options);
            ended(set, edges, options);
            answer
        }
    }
}

/// A file of edges with delays has the columns of one of aborts: numbers that name jobs become triggers.
fn ended(set: JobSet, file: &str, options: Options) {
    let Ok(aborts) = csv::aborts(file) else { return };
    let Ok(set) = set.with_aborts(&aborts) else { return };
    // Inserted idle time and aborts are refused together.
    if let Ok(report) = sag::explore(&set, &options, &mut || true) {
        csv::results(&set, &report.bounds);
    }
}

fn read(jobs: &str, edges: &str) -> Result<JobSet, SagError> {
    let jobs = csv::jobs(jobs)?;
    assert_eq!(csv::jobs(&csv::write_jobs(&jobs)).as_ref(), Ok(&jobs));
    JobSet::new(jobs, &csv::edges(edges)?)
}

fn explored(set: &JobSet, options: Options) -> String {
    let report = match sag::explore(set, &options, &mut || true) {
        Ok(report) => report,
        Err(error) => return error.to_string(),
    };
    consistent(set, &report);
    csv::results(set, &report.bounds);
    if options.cores == 1 {
        replayed(set, &report);
    }
    let verdict = match report.verdict {
        SagVerdict::Miss { .. } => "miss".to_owned(),
        other => format!("{other:?}"),
    };
    let size = (report.effort.states + 1).ilog2();
    let shape = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o"];
    format!("{verdict} {:?} {} {}", report.exactness, report.complete, shape[size as usize % shape.len()])
}

/// What a verdict says agrees with the bounds beside it.
fn consistent(set: &JobSet, report: &SagReport) {
    let late = set.jobs().iter().zip(&report.bounds).any(|(job, bounds)| {
        bounds.is_some_and(|bounds| {
            assert!(bounds.completion_min <= bounds.completion_max);
            bounds.completion_max > job.deadline
        })
    });
    match report.verdict {
        SagVerdict::Schedulable => {
            assert!(!late && report.complete && report.bounds.iter().all(Option::is_some))
        }
        SagVerdict::Miss { completion, deadline, .. } => assert!(late && completion > deadline),
        SagVerdict::Undecided { .. } => assert!(!late && !report.complete),
    }
}

/// The referee accepts what is schedulable, and a miss has a schedule.
fn replayed(set: &JobSet, report: &SagReport) {
    if report.exactness != Exactness::Exact {
        return;
    }
    match report.verdict {
        SagVerdict::Schedulable => {
            if let Some(cover) = sag::cover(set, LIMITS, &mut || true) {
                referee::sag::check(set, &cover).expect("the cover of a schedulable set");
            }
        }
        SagVerdict::Miss { .. } => {
            if let Some(jobs) = sag::witness(set, LIMITS, &mut || true) {
                assert_eq!(jobs.len(), set.jobs().len());
            }
        }
        SagVerdict::Undecided { .. } => assert_eq!(sag::cover(set, LIMITS, &mut || true), None),
    }
}
