//! From a task set to an explained trace with nothing but the public interface, as a driver would use it.

use std::collections::BTreeMap;

use aegis_sched::engine::Decision;
use aegis_sched::policy::EarliestDeadline;
use aegis_sched::{
    AdmissionController, AdmissionRequest, Arrival, Basis, Criticality, Engine, Explainer, Explanation,
    Input, OccupancyBudget, OnOverrun, Overheads, PartitionModel, Platform, ReplayEnd, Task, TaskSet, replay,
};
use aegis_types::records::{SegmentOutcome, Standing};
use aegis_types::{JobId, LaneId, Nanos, RawRecord, TaskId, Time};

const UNTIL: Time = Time::new(1_000_000_000);

fn task(id: u16, name: &str, period_ms: u64, budget_ms: u64, arrival: Arrival) -> Task {
    let period = Nanos::from_millis(period_ms);
    Task {
        id: TaskId::new(id),
        name: name.into(),
        lane: LaneId::new(0),
        period,
        deadline: period,
        jitter: Nanos::ZERO,
        arrival,
        segments: vec![OccupancyBudget { bound: Nanos::from_millis(budget_ms), basis: Basis::Declared }],
        priority: None,
        criticality: Criticality::Medium,
        on_overrun: OnOverrun::Skip,
        retries: 0,
        weight: 1,
        excludes: Vec::new(),
    }
}

fn fleet() -> TaskSet {
    let overheads = Overheads {
        decision: Nanos::from_micros(5),
        handoff: Nanos::from_micros(40),
        ..Overheads::default()
    };
    let partition = PartitionModel { name: "critical".into(), lanes: 1 };
    let platform = Platform::new(vec![partition], overheads).expect("one lane");
    let timer = Arrival::Periodic { offset: Nanos::from_millis(1) };
    let tasks = vec![task(0, "voice", 20, 3, timer), task(1, "detector", 60, 11, Arrival::Sporadic)];
    TaskSet::new(tasks, platform).expect("a legal set")
}

/// Runs the fleet for a second: every segment takes two thirds of its budget, a submission every 70 ms.
fn run(engine: &mut Engine, set: &TaskSet) -> (Vec<RawRecord>, BTreeMap<JobId, Standing>) {
    let mut out = engine.outbox();
    let (mut trace, mut ends) = (Vec::new(), BTreeMap::new());
    let mut submit_at = Time::new(5);
    let mut flight = None;
    loop {
        let completion = flight.map(|(_, end)| end);
        let next = [engine.wake_at(), completion, Some(submit_at)].into_iter().flatten().min();
        let Some(now) = next.filter(|now| *now <= UNTIL) else { return (trace, ends) };
        if let Some((dispatch, _)) = flight.take_if(|(_, end)| *end == now) {
            let (lane, outcome) = (LaneId::new(0), SegmentOutcome::Done);
            engine.handle(now, Input::Completed { lane, dispatch, outcome }, &mut out);
        }
        engine.handle(now, Input::Tick, &mut out);
        if submit_at == now {
            submit_at = now.saturating_add(Nanos::from_millis(70));
            engine.handle(now, Input::Arrival { task: TaskId::new(1), token: 7 }, &mut out);
        }
        engine.handle(now, Input::Decide, &mut out);
        for command in out.commands() {
            let budget = set.tasks()[command.job.task.index()].segments[command.segment.index()].bound;
            flight = Some((command.dispatch, now.saturating_add(Nanos::new(budget.get() * 2 / 3))));
        }
        assert!(
            out.answers().iter().all(|a| a.token == 7 && matches!(a.decision, Decision::Accepted { .. }))
        );
        ends.extend(out.ends().iter().map(|end| (end.job, end.standing)));
        trace.extend_from_slice(out.records());
        out.clear();
    }
}

#[test]
fn admitted_run_explained_and_replayed() {
    let set = fleet();
    let report =
        AdmissionController::new(Box::new(EarliestDeadline)).analyze(&AdmissionRequest::new(&set).tight());
    let certificate = report.certificate().expect("the fleet fits").clone();
    let mut engine =
        Engine::new(&set, certificate.clone(), Box::new(EarliestDeadline), Time::ZERO).expect("they agree");
    let (trace, ends) = run(&mut engine, &set);
    let trace: Vec<RawRecord> = (0u32..).zip(&trace).map(|(sequence, raw)| raw.placed(3, sequence)).collect();
    assert!(ends.len() > 60 && ends.values().all(|standing| *standing == Standing::Covered));

    let explainer = Explainer::new(&trace, &certificate);
    let worst = explainer.worst(TaskId::new(0), 1)[0];
    let explanation = explainer.explain(worst).expect("the job is in the trace");
    let lines = explanation.lines(worst, &set);
    assert!(lines.iter().any(|line| line.starts_with("blocked by detector#")), "{lines:#?}");
    assert!(lines.iter().any(|line| line.contains("certified")), "{lines:#?}");
    let Explanation::Known(blame) = explanation else { panic!("{explanation:?}") };
    assert!(blame.response <= blame.bound && blame.bound <= Nanos::from_millis(20));

    let again = replay(&trace, &set, &certificate, Box::new(EarliestDeadline)).expect("they agree");
    assert_eq!((again.end, again.equal), (ReplayEnd::Identical, trace.len() as u64));
}

#[test]
fn a_name_that_a_terminal_would_obey_is_no_name() {
    let text = serde_json::to_string(&fleet()).unwrap();
    let name = fleet().tasks()[0].name.clone();
    for wrong in ["", "a\\nb", "\\u001b[2J", "\\u0085"] {
        let forged = text.replacen(&format!("\"{name}\""), &format!("\"{wrong}\""), 1);
        let error = serde_json::from_str::<TaskSet>(&forged).unwrap_err().to_string();
        assert!(error.contains("name is") && error.contains("no control characters"), "{error}");
        assert!(!error.contains(char::is_control), "{error:?}");
    }
}
