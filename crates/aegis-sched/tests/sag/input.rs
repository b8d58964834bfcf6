//! Bad input: an error that names the place, never a panic.

use aegis_sched::sag::{Edge, JobKey, JobSet, Options, SagError, csv, explore};
use aegis_types::{Nanos, Time};

use super::generate::{for_seeds, job};

const HEAD: &str = "Task ID, Job ID, Arrival min, Arrival max, Cost min, Cost max, Deadline, Priority\n";

fn edge(from: u64, to: u64) -> Edge {
    let key = |task| JobKey { task, job: task };
    Edge { from: key(from), to: key(to), delay_min: Nanos::ZERO, delay_max: Nanos::ZERO }
}

#[test]
fn jobs_are_read_with_blanks_quotes_and_either_line_end() {
    let text = "\u{feff}\"Task ID\",\"\tJob ID\"\r\n\r\n 1 ,2,  3,4,5 , 6,7,8 \r\n";
    let jobs = csv::jobs(text).unwrap();
    assert_eq!(jobs.len(), 1);
    assert_eq!((jobs[0].key, jobs[0].priority), (JobKey { task: 1, job: 2 }, 8));
    assert_eq!(csv::jobs(&csv::write_jobs(&jobs)).unwrap(), jobs);
    let edges = csv::edges("a,b,c,d\n1,2,3,4\n1,2,3,5,6,7\n").unwrap();
    assert_eq!((edges[0].delay_max.get(), edges[1].delay_min.get(), edges[1].delay_max.get()), (0, 6, 7));
}

#[test]
fn wrong_files_are_refused_at_line_and_column() {
    let check = |text: String, line: usize, column: usize, value: &str| match csv::jobs(&text) {
        Err(SagError::Csv { line: l, column: c, value: v, .. }) => {
            assert_eq!((l, c, v.as_str()), (line, column, value), "{text}");
        }
        other => panic!("{text}: {other:?}"),
    };
    check(String::new(), 1, 1, "");
    check("1,1,0,0,1,1,9,1\n".to_owned(), 1, 1, "1,1,0,0,1,1,9,1");
    check(format!("{HEAD}1,1,0,0,1,1,9\n"), 2, 7, "1, 1, 0, 0, 1, 1, 9");
    check(format!("{HEAD}1,1,0,0,1,1,9,1\n\n1,2,0,x,1,1,9,1\n"), 4, 4, "x");
    check(format!("{HEAD}1,1,-5,0,1,1,9,1\n"), 2, 3, "-5");
    check(format!("{HEAD}1,1,0,0,1,1.5,9,1\n"), 2, 6, "1.5");
    check(format!("{HEAD}1,1,0,0,1,1,18446744073709551616,1\n"), 2, 7, "18446744073709551616");
    assert!(matches!(csv::edges("h\n1,2,3\n"), Err(SagError::Csv { line: 2, column: 3, .. })));
}

#[test]
fn sets_without_meaning_are_refused() {
    let jobs = vec![job(1, [0, 0], [1, 1], 9, 1), job(2, [0, 0], [1, 1], 9, 1), job(3, [0, 0], [1, 1], 9, 1)];
    let refused = |edges: &[Edge]| JobSet::new(jobs.clone(), edges).unwrap_err();
    assert!(matches!(refused(&[edge(1, 1)]), SagError::BadEdge { .. }));
    assert!(matches!(refused(&[edge(1, 7)]), SagError::BadEdge { .. }));
    assert!(matches!(refused(&[edge(1, 2), edge(1, 2)]), SagError::BadEdge { .. }));
    match refused(&[edge(1, 2), edge(2, 1), edge(2, 3)]) {
        SagError::Cycle { job } => assert_ne!(job.task, 3, "the third job is behind the cycle, not on it"),
        other => panic!("{other}"),
    }
    let one = |change: &dyn Fn(&mut aegis_sched::sag::Job)| {
        let mut changed = jobs.clone();
        change(&mut changed[0]);
        JobSet::new(changed, &[]).unwrap_err()
    };
    assert!(matches!(one(&|job| job.key = JobKey { task: 2, job: 2 }), SagError::Duplicate { .. }));
    assert!(matches!(one(&|job| job.release_min = Time::new(1)), SagError::BadJob { .. }));
    assert!(matches!(one(&|job| job.cost_min = Nanos::new(2)), SagError::BadJob { .. }));
    assert!(matches!(one(&|job| job.cost_max = Nanos::MAX), SagError::Overflow { .. }));
    assert!(matches!(one(&|job| job.release_max = Time::MAX), SagError::Overflow { .. }));
    let set = JobSet::new(jobs.clone(), &[]).unwrap();
    for cores in [0, 5_000] {
        let options = Options { cores, ..Options::default() };
        assert!(matches!(explore(&set, &options, &mut || true), Err(SagError::Unsupported { .. })));
    }
}

/// Rows of legal and illegal fields in any order: errors or sets, and sets that can be explored.
#[test]
fn hostile_text_ends_in_an_error_or_a_verdict() {
    const FIELDS: [&str; 14] = [
        "0",
        "1",
        "2",
        "7",
        "30",
        " 5\t",
        "",
        "-1",
        "1e3",
        "4611686018427387904",
        "18446744073709551615",
        "\u{0}",
        "é",
        "\"3\"",
    ];
    let (mut refused, mut explored) = (0, 0);
    for_seeds("hostile_text_ends_in_an_error_or_a_verdict", 4_000, |rng| {
        let mut text = String::from(HEAD);
        // Half of the files have only small numbers, or hardly any would be legal.
        let highest = if rng.chance(5) { 5 } else { FIELDS.len() as u64 - 1 };
        for row in 0..rng.range(0, 4) {
            let columns = if rng.chance(9) { 8 } else { rng.range(0, 10) };
            let mut fields = vec![row.to_string()];
            fields.extend((1..columns).map(|_| FIELDS[rng.range(0, highest) as usize].to_owned()));
            text.push_str(&fields.join(","));
            text.push('\n');
        }
        match csv::jobs(&text).and_then(|jobs| JobSet::new(jobs, &[])) {
            Ok(set) => {
                explore(&set, &Options::default(), &mut || true).unwrap();
                explored += 1;
            }
            Err(error) => {
                assert!(
                    error.to_string().contains("legal") || error.to_string().contains("unique"),
                    "{error}"
                );
                refused += 1;
            }
        }
    });
    if super::generate::counts_are_standard() {
        assert!(refused > 100 && explored > 100, "{refused} {explored}");
    }
}
