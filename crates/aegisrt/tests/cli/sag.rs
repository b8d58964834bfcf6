//! Schedules of a file of jobs: verdicts, files, exit codes.

use crate::bench::Folder;

const HEAD: &str = "Task ID, Job ID, Arrival min, Arrival max, Cost min, Cost max, Deadline, Priority\n";

/// A long job may be started just before an urgent one arrives.
fn tight(deadline: u64) -> String {
    format!("{HEAD}1, 1, 0, 0, 1, 2, 9, 3\n2, 1, 1, 1, 1, 1, {deadline}, 1\n3, 1, 0, 0, 4, 4, 9, 2\n")
}

#[test]
fn a_set_that_always_fits_is_done_and_its_bounds_are_written() {
    let folder = Folder::new();
    folder.write("jobs.csv", tight(5));
    let answer = folder.aegis(&["sag", "jobs.csv", "--rta", "out.csv"]);
    answer.says(0, &["schedulable: every job", "bounds       exact", "wrote out.csv"]);
    let written = std::fs::read_to_string(folder.path("out.csv")).unwrap();
    assert_eq!(
        written,
        "Task ID, Job ID, BCCT, WCCT, BCRT, WCRT\n1, 1, 6, 7, 6, 7\n2, 1, 5, 5, 4, 4\n3, 1, 4, 4, 4, 4\n"
    );
    let json = folder.aegis(&["sag", "jobs.csv", "--format", "json"]).json();
    assert_eq!((json["verdict"].as_str(), json["exact"].as_bool()), (Some("schedulable"), Some(true)));
    assert_eq!(json["jobs"], 3);
}

#[test]
fn a_refused_set_comes_with_a_schedule_that_misses() {
    let folder = Folder::new();
    folder.write("jobs.csv", tight(4));
    let answer = folder.aegis(&["sag", "jobs.csv", "--witness", "miss.csv"]);
    answer.says(
        3,
        &["not schedulable: task 2 job 1 can complete at 5, after its deadline 4", "wrote miss.csv"],
    );
    let again = folder.aegis(&["sag", "miss.csv", "--format", "json"]);
    assert_eq!((again.code, &again.json()["why"]["completion"]), (3, &serde_json::json!(5)));
    // Two cores keep the urgent job from waiting; there is then nothing to show.
    let two = folder.aegis(&["sag", "jobs.csv", "-m", "2", "--witness", "none.csv"]);
    two.says(0, &["schedulable", "safe, not exact"]);
    assert!(!folder.path("none.csv").exists());
}

#[test]
fn edges_policy_and_inserted_idle_time_change_the_verdict() {
    let folder = Folder::new();
    folder.write("jobs.csv", tight(4)).write("edges.csv", "from, job, to, job\n2, 1, 3, 1\n");
    folder.aegis(&["sag", "jobs.csv", "--precedence", "edges.csv"]).says(0, &["schedulable: every job"]);
    folder.aegis(&["sag", "jobs.csv", "--policy", "edf"]).says(0, &["schedulable: every job"]);
    folder.aegis(&["sag", "jobs.csv", "--iip", "prm"]).says(0, &["schedulable: every job", "safe"]);
    folder.aegis(&["sag", "jobs.csv", "--iip", "cw", "-m", "2"]).refuses(2, &["one core"]);
}

#[test]
fn a_trigger_ends_a_job_that_would_be_late() {
    let folder = Folder::new();
    folder
        .write("jobs.csv", tight(4))
        .write("aborts.csv", "task, job, from, to, from, to\n2, 1, 3, 4, 0, 0\n");
    folder.aegis(&["sag", "jobs.csv"]).says(3, &["not schedulable: task 2 job 1"]);
    let answer = folder.aegis(&["sag", "jobs.csv", "-a", "aborts.csv"]);
    answer.says(0, &["schedulable: every job", "safe, not exact"]);
    folder.aegis(&["sag", "jobs.csv", "-a", "aborts.csv", "--replay"]).refuses(2, &["--aborts"]);
    folder.write("aborts.csv", "task, job, from, to, from, to\n2, 2, 3, 4, 0, 0\n");
    folder
        .aegis(&["sag", "jobs.csv", "-a", "aborts.csv"])
        .refuses(2, &["aborts.csv", "there is no such job"]);
}

#[test]
fn states_are_replayed_on_one_core() {
    let folder = Folder::new();
    folder.write("jobs.csv", tight(5));
    let answer = folder.aegis(&["sag", "jobs.csv", "--replay"]);
    answer.says(0, &["schedulable: every job", "replayed     4 states, none is missing"]);
    folder.aegis(&["sag", "jobs.csv", "--replay", "-m", "2"]).says(0, &["note: nothing is replayed"]);
    folder.write("jobs.csv", tight(4));
    let refused = folder.aegis(&["sag", "jobs.csv", "--replay", "--format", "json"]).json();
    assert_eq!((refused["verdict"].as_str(), refused["replayed"].is_null()), (Some("refused"), true));
}

#[test]
fn a_limit_ends_undecided() {
    let folder = Folder::new();
    let rows: String =
        (1..=14).map(|job| format!("{job},1,0,1000,1,{},999999999,{job}\n", 1 << job)).collect();
    folder.write("jobs.csv", format!("{HEAD}{rows}"));
    let answer = folder.aegis(&["sag", "jobs.csv", "--states", "100", "--rta", "out.csv"]);
    answer.says(5, &["undecided: the limit of states", "no bounds are written"]);
    assert!(!folder.path("out.csv").exists());
    folder.aegis(&["sag", "jobs.csv", "--memory", "1KiB"]).says(5, &["undecided: the limit of memory"]);
    folder.aegis(&["sag", "jobs.csv", "--seconds", "0"]).says(5, &["undecided: the limit of time"]);
}

#[test]
fn wrong_files_are_bad_input_with_their_place() {
    let folder = Folder::new();
    folder
        .write("jobs.csv", tight(5))
        .write("word.csv", format!("{HEAD}1, 1, 0, zero, 1, 1, 9, 1\n"))
        .write("twice.csv", format!("{HEAD}1,1,0,0,1,1,9,1\n1,1,0,0,1,1,9,1\n"))
        .write("cycle.csv", "h\n1,1,2,1\n2,1,1,1\n")
        .write("binary.csv", [0u8, 159, 146, 150]);
    let cases: [(&[&str], &[&str]); 7] = [
        (&["sag", "absent.csv"], &["absent.csv", "cannot be read"]),
        (&["sag", "binary.csv"], &["binary.csv", "cannot be read"]),
        (&["sag", "word.csv"], &["word.csv", "line 2, column 4", "`zero`", "legal is"]),
        (&["sag", "twice.csv"], &["twice.csv", "task 1 job 1 is given twice"]),
        (&["sag", "jobs.csv", "--precedence", "cycle.csv"], &["cycle.csv", "without a cycle"]),
        (&["sag", "jobs.csv", "--rta", "jobs.csv"], &["--rta", "would replace"]),
        (&["sag", "jobs.csv", "--rta", "o.csv", "--witness", "o.csv"], &["--witness", "would replace"]),
    ];
    for (arguments, says) in cases {
        folder.aegis(arguments).refuses(2, says);
    }
    assert_eq!(std::fs::read_to_string(folder.path("jobs.csv")).unwrap(), tight(5));
}
