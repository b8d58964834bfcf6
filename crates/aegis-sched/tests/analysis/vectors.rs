//! Published and generated values, read from the folder `AEGIS_VECTORS`, and the project's own.

use aegis_sched::PolicyClass;
use aegis_sched::analysis::{Blocking, LaneProblem, LaneTask, Stop, np_edf, np_fp, respond};
use aegis_sched::referee::check_bounds;
use aegis_types::{LaneId, Nanos, TaskId};
use serde_json::Value;

/// How an entry's tasks are cut and whether their jitter counts.
#[derive(Clone, Copy)]
enum Cut {
    Whole,
    Segments,
    /// Preemptive: segments of one tick.
    Ticks,
}

fn field(task: &Value, name: &str) -> u64 {
    task[name].as_u64().unwrap_or_else(|| panic!("{name} of {task}"))
}

fn segments(task: &Value, cut: Cut) -> Vec<Nanos> {
    match cut {
        Cut::Whole => vec![Nanos::new(field(task, "C"))],
        Cut::Segments => {
            let list = task["segments"].as_array().expect("segments");
            list.iter().map(|segment| Nanos::new(segment.as_u64().expect("a number"))).collect()
        }
        Cut::Ticks => vec![Nanos::new(1); usize::try_from(field(task, "C")).expect("small")],
    }
}

fn problem(entry: &Value, class: PolicyClass, cut: Cut, jitter: bool) -> LaneProblem {
    let blocking = match entry["blocking"].as_str() {
        Some("C" | "attained") => Blocking::Attained,
        Some("C_minus_1" | "minus-one") => Blocking::MinusOne,
        other => panic!("unknown blocking {other:?}"),
    };
    let tasks = entry["tasks"].as_array().expect("tasks").iter().zip(0u16..).map(|(task, index)| LaneTask {
        id: TaskId::new(index),
        segments: segments(task, cut),
        period: Nanos::new(field(task, "T")),
        deadline: Nanos::new(field(task, "D")),
        jitter: Nanos::new(if jitter { field(task, "J") } else { 0 }),
        key: match class {
            PolicyClass::AbsoluteDeadline => field(task, "D"),
            PolicyClass::StaticPriority => field(task, "prio"),
            _ => 0,
        },
    });
    let tasks = tasks.collect();
    LaneProblem { lane: LaneId::new(0), tasks, class, blocking, overrun: Nanos::ZERO }
}

fn numbers(list: &Value) -> Vec<Option<u64>> {
    list.as_array().expect("a list").iter().map(Value::as_u64).collect()
}

/// Bounds of every task; the referee must accept them. Where the lane as a whole has none, task by task.
fn bounds(problem: &LaneProblem) -> Vec<Option<u64>> {
    match respond(problem, Stop::Never) {
        Ok(claim) => {
            check_bounds(problem, &claim).expect("the referee accepts what the solver claims");
            claim.tasks.iter().map(|task| Some(task.bound.get())).collect()
        }
        Err(_) => (0..problem.tasks.len())
            .map(|position| np_fp::bound(problem, position).ok().map(Nanos::get))
            .collect(),
    }
}

fn read(file: &str) -> Option<Vec<Value>> {
    let Some(folder) = std::env::var_os("AEGIS_VECTORS") else {
        eprintln!("skipped: AEGIS_VECTORS is not set");
        return None;
    };
    let path = std::path::Path::new(&folder).join("analysis").join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Some(serde_json::from_str(&text).expect("JSON"))
}

#[test]
fn published() {
    for entry in read("published.json").unwrap_or_default() {
        let (class, cut) = match entry["policy"].as_str().expect("a policy") {
            "NP-FP" => (PolicyClass::StaticPriority, Cut::Whole),
            "LP-FP" => (PolicyClass::StaticPriority, Cut::Segments),
            "P-FP" => (PolicyClass::StaticPriority, Cut::Ticks),
            "NP-EDF" => (PolicyClass::AbsoluteDeadline, Cut::Whole),
            "FIFO" => (PolicyClass::ArrivalOrder, Cut::Whole),
            other => panic!("unknown policy {other}"),
        };
        let (id, expected) = (&entry["id"], &entry["expected"]);
        let problem = problem(&entry, class, cut, true);
        assert_eq!(bounds(&problem), numbers(&expected["wcrt"]), "{id}");
        for name in ["feasible", "feasible_test", "schedulable"] {
            if let Some(verdict) = expected[name].as_bool() {
                assert_eq!(aegis_sched::analysis::decide(&problem).is_ok(), verdict, "{id}: {name}");
            }
        }
    }
}

/// The longest response from release of each task: what the claim's starts say without the job's own jitter.
fn from_release(problem: &LaneProblem) -> Vec<Option<u64>> {
    let claim = respond(problem, Stop::Never).expect("bounded");
    let response = |task: &LaneTask, starts: &[Nanos]| {
        let last = task.segments.last().expect("a segment").get();
        let released = |q: u64| (q * task.period.get()).saturating_sub(task.jitter.get());
        starts.iter().zip(0..).map(|(start, q)| start.get() + last - released(q)).max()
    };
    problem.tasks.iter().zip(&claim.tasks).map(|(task, claimed)| response(task, &claimed.starts)).collect()
}

fn check_generated(entry: &Value) {
    use PolicyClass::{AbsoluteDeadline, ArrivalOrder, StaticPriority};
    let (id, expected) = (&entry["id"], &entry["expected"]);
    let check = |name: &str, class, cut, jitter| {
        let problem = problem(entry, class, cut, jitter);
        assert_eq!(bounds(&problem), numbers(&expected[name]), "{id}: {name}");
    };
    check("np_fp_wcrt_from_arrival", StaticPriority, Cut::Whole, true);
    check("np_fp_wcrt_nojitter", StaticPriority, Cut::Whole, false);
    check("lp_fp_wcrt_from_arrival", StaticPriority, Cut::Segments, true);
    check("lp_fp_wcrt_nojitter", StaticPriority, Cut::Segments, false);
    check("np_edf_wcrt_nojitter", AbsoluteDeadline, Cut::Whole, false);
    check("lp_edf_wcrt_nojitter", AbsoluteDeadline, Cut::Segments, false);

    let with_jitter = problem(entry, StaticPriority, Cut::Whole, true);
    assert_eq!(from_release(&with_jitter), numbers(&expected["np_fp_wcrt_from_release"]), "{id}");
    for (name, jitter) in [("fifo_wcrt_from_release", true), ("fifo_wcrt_nojitter", false)] {
        let problem = problem(entry, ArrivalOrder, Cut::Whole, jitter);
        let fifo = expected[name].as_u64().expect("a number");
        let expected: Vec<_> = problem.tasks.iter().map(|task| Some(fifo + task.jitter.get())).collect();
        assert_eq!(bounds(&problem), expected, "{id}: {name}");
    }
    let edf = problem(entry, AbsoluteDeadline, Cut::Whole, false);
    let feasible = np_edf::feasible_claim(&edf);
    assert_eq!(Some(feasible.is_ok()), expected["np_edf_feasible_nojitter"].as_bool(), "{id}");
}

#[test]
fn generated() {
    read("generated.json").unwrap_or_default().iter().for_each(check_generated);
}

#[test]
fn computed_by_hand() {
    let entries: Vec<Value> = serde_json::from_str(include_str!("../vectors/by_hand.json")).expect("JSON");
    assert_eq!(entries.len(), 6);
    for entry in entries {
        let class = match entry["policy"].as_str().expect("a policy") {
            "static-priority" => PolicyClass::StaticPriority,
            "absolute-deadline" => PolicyClass::AbsoluteDeadline,
            "arrival-order" => PolicyClass::ArrivalOrder,
            "work-conserving" => PolicyClass::WorkConserving,
            other => panic!("unknown policy {other}"),
        };
        let mut entry = entry;
        for task in entry["tasks"].as_array_mut().expect("tasks") {
            task["prio"] = task["key"].clone();
        }
        let problem = problem(&entry, class, Cut::Segments, true);
        assert_eq!(bounds(&problem), numbers(&entry["wcrt"]), "{}", entry["id"]);
    }
}
