//! What admission says: tables and JSON of a report, refusals with what would fit.

use aegis_memory::{Change as MemoryChange, Shortage};
use aegis_sched::admission::refusal::{Change, Reason, Refusal};
use aegis_sched::admission::{Confidence, TaskReport};
use aegis_sched::{AdmissionReport, Certificate, ModelError, TaskSet, Term, TermKind, charge};
use aegis_types::{Nanos, TaskId};
use serde_json::{Value, json};

use super::figures::{self, span};
use super::table::Grid;

/// The verdict on a task set in words: the table of tasks, then tolerances or the refusal.
///
/// # Errors
/// [`ModelError::Overflow`] if charging overheads leaves the range of time.
pub fn text(report: &AdmissionReport, set: &TaskSet) -> Result<String, ModelError> {
    headed(report, set, "ADMITTED: every deadline holds")
}

/// As [`text`], for a fleet that fits in time and is refused for another reason: the word ADMITTED is not said.
///
/// # Errors
/// As [`text`].
pub fn text_in_time(report: &AdmissionReport, set: &TaskSet) -> Result<String, ModelError> {
    headed(report, set, "In time alone every deadline would hold")
}

fn headed(report: &AdmissionReport, set: &TaskSet, claim: &str) -> Result<String, ModelError> {
    let mut out = String::new();
    if !report.tasks.is_empty() {
        out.push_str(&table(report, set)?);
        out.push('\n');
    }
    match (report.certificate(), report.refusal()) {
        (Some(certificate), _) => out.push_str(&admitted(certificate, set, claim)),
        (None, Some(refusal)) => out.push_str(&refused(refusal, set)),
        (None, None) => {}
    }
    Ok(out)
}

/// The verdict on a task set for programs.
///
/// # Errors
/// As [`text`].
pub fn json(report: &AdmissionReport, set: &TaskSet) -> Result<Value, ModelError> {
    let charged = if report.tasks.is_empty() { Vec::new() } else { charge(set)? };
    let task = |((report, task), charged): (
        (&TaskReport, &aegis_sched::Task),
        &aegis_sched::platform::ChargedTask,
    )| {
        json!({
            "task": task.name,
            "lane": report.lane.get(),
            "period_ns": task.period.get(),
            "deadline_ns": task.deadline.get(),
            "jitter_ns": charged.jitter.get(),
            "segments_ns": charged.segments.iter().map(|span| span.get()).collect::<Vec<_>>(),
            "wcrt_ns": report.wcrt.map(Nanos::get),
            "slack_ns": report.slack.map(Nanos::get),
            "confidence": confidence_json(&report.confidence),
            "terms": report.terms.iter().map(|term| term_json(term, set)).collect::<Vec<_>>(),
        })
    };
    let tasks: Vec<Value> = report.tasks.iter().zip(set.tasks()).zip(&charged).map(task).collect();
    let lanes = report.certificate().map(|certificate| {
        let lane = |lane: &aegis_sched::LaneCertificate| {
            json!({ "lane": lane.lane().get(), "tolerance_ns": lane.tolerance().get() })
        };
        certificate.lanes().iter().map(lane).collect::<Vec<_>>()
    });
    Ok(json!({
        "admitted": report.is_admitted(),
        "policy": report.certificate().map(Certificate::policy),
        "tasks": tasks,
        "lanes": lanes,
        "assumptions": report.certificate().map(Certificate::assumptions),
        "refusal": report.refusal().map(|refusal| refusal_json(refusal, set)),
    }))
}

fn table(report: &AdmissionReport, set: &TaskSet) -> Result<String, ModelError> {
    let charged = charge(set)?;
    let header = ["task", "lane", "T", "D", "C'", "J'", "WCRT", "slack", "confidence"];
    let mut grid = Grid::new(2, &header);
    for ((report, task), charged) in report.tasks.iter().zip(set.tasks()).zip(&charged) {
        let cost = charged.segments.iter().fold(Nanos::ZERO, |sum, segment| sum.saturating_add(*segment));
        grid.row([
            task.name.clone(),
            report.lane.to_string(),
            span(task.period),
            span(task.deadline),
            span(cost),
            span(charged.jitter),
            figures::maybe(report.wcrt),
            figures::maybe(report.slack),
            confidence(&report.confidence),
        ]);
    }
    Ok(grid.text())
}

fn confidence(confidence: &Confidence) -> String {
    match confidence {
        Confidence::Proven { .. } => "proven".to_owned(),
        Confidence::Measured { samples, margin_ppm } => {
            format!("measured, n {samples} + {}", figures::margin(*margin_ppm))
        }
    }
}

fn confidence_json(confidence: &Confidence) -> Value {
    match confidence {
        Confidence::Proven { assumptions } => json!({ "proven": { "assumptions": &assumptions[..] } }),
        Confidence::Measured { samples, margin_ppm } => {
            json!({ "measured": { "samples": samples, "margin_ppm": margin_ppm } })
        }
    }
}

fn admitted(certificate: &Certificate, set: &TaskSet, claim: &str) -> String {
    let mut out = format!(
        "{claim} under {} ({}), as long as the assumptions below hold.\n",
        certificate.policy(),
        certificate.class()
    );
    if certificate.class().inserts().is_some() {
        out.push_str(
            "A lane stays free although a job is ready where the job would be in the way of one to come. The bounds are\n\
             those of the releases from the start on, of every schedule of them.\n",
        );
    }
    for lane in certificate.lanes() {
        let held = lane.tasks().len();
        let (number, tolerance) = (lane.lane(), span(lane.tolerance()));
        let words = if held == 1 { "task" } else { "tasks" };
        out.push_str(&format!(
            "{number}: {held} {words}; deadlines still hold under an overrun of {tolerance}\n"
        ));
    }
    out.push_str("Assumptions, and how each is watched while the fleet runs:\n");
    for assumption in certificate.assumptions() {
        out.push_str(&format!("  - {}\n", figures::plain(assumption)));
    }
    let weakest = set.tasks().iter().flat_map(|task| &task.segments);
    if weakest.clone().any(|segment| matches!(segment.basis, aegis_sched::Basis::Measured { .. })) {
        out.push_str(
            "Budgets were measured, not proven: a longer execution is possible and would be reported.\n",
        );
    }
    out
}

/// A refusal in words: what is wrong, what binds, the smallest change that would fit.
pub fn refused(refusal: &Refusal, set: &TaskSet) -> String {
    let lane = refusal.lane.map_or_else(String::new, |lane| format!("{lane}: "));
    let task = refusal.task.map_or_else(String::new, |task| format!("task `{}`: ", name(task, set)));
    let mut out = format!("REFUSED: {lane}{task}{}\n", reason(&refusal.reason));
    match &refusal.binding {
        Some(Term { kind: TermKind::Blocking { by }, span: time }) => {
            let by = name(*by, set);
            out.push_str(&format!("binding: blocked by `{by}` for up to {} (non-preemptive)\n", span(*time)));
        }
        Some(Term { kind: TermKind::Interference { by, jobs }, span: time }) => {
            let by = name(*by, set);
            let words = if *jobs == 1 { "job" } else { "jobs" };
            out.push_str(&format!(
                "binding: {jobs} more urgent {words} of `{by}`, {} together\n",
                span(*time)
            ));
        }
        _ => {}
    }
    for change in &refusal.changes {
        let change = match change {
            Change::Period { task, period } => {
                format!("a period of {} for `{}`", figures::span_up(*period), name(*task, set))
            }
            Change::Stretch { ppm } => format!("all periods of the lane times {}", figures::factor(*ppm)),
            other => format!("{other:?}"),
        };
        out.push_str(&format!("would fit with: {change}\n"));
    }
    // Where no window is analysed no change is looked for, and none can be said not to exist.
    let searched = !matches!(refusal.reason, Reason::Late { .. } | Reason::Unexplored { .. });
    if refusal.changes.is_empty() && searched {
        out.push_str("no single change of a period was found that would fit\n");
    }
    out
}

fn reason(reason: &Reason) -> String {
    match reason {
        Reason::Utilisation { ppm } => format!("utilisation is {}, more than 1", figures::factor(*ppm)),
        Reason::Deadline { wcrt, deadline, instant } => format!(
            "response up to {}, deadline {}, violated {} into the busy period",
            figures::span_up(*wcrt),
            span(*deadline),
            span(*instant)
        ),
        Reason::Demand { instant, demand } => {
            format!("{} of work must complete within {}", figures::span_up(*demand), span(*instant))
        }
        other => figures::plain(&other.to_string()),
    }
}

fn refusal_json(refusal: &Refusal, set: &TaskSet) -> Value {
    let change = |change: &Change| match change {
        Change::Period { task, period } => json!({ "task": name(*task, set), "period_ns": period.get() }),
        Change::Stretch { ppm } => json!({ "all_periods_of_the_lane_times_ppm": ppm }),
        other => json!({ "other": format!("{other:?}") }),
    };
    // The word of the reason, for programs to match on.
    let debug = format!("{:?}", refusal.reason);
    let kind = debug.split([' ', '{', '(']).next().unwrap_or_default().to_lowercase();
    json!({
        "lane": refusal.lane.map(aegis_types::LaneId::get),
        "task": refusal.task.map(|task| name(task, set)),
        "kind": kind,
        "reason": refusal.reason.to_string(),
        "binding": refusal.binding.as_ref().map(|term| term_json(term, set)),
        "changes": refusal.changes.iter().map(change).collect::<Vec<_>>(),
    })
}

/// A term of a bound in words, without its length.
pub fn term(kind: TermKind, set: &TaskSet) -> String {
    match kind {
        TermKind::Jitter => "release after the arrival".to_owned(),
        TermKind::Blocking { by } => format!("blocked by {} (non-preemptive)", name(by, set)),
        TermKind::Interference { by, jobs } => {
            let words = if jobs == 1 { "job" } else { "jobs" };
            format!("{jobs} more urgent {words} of {}", name(by, set))
        }
        TermKind::Carry => "earlier jobs of the task".to_owned(),
        TermKind::Own => "its own segments".to_owned(),
        TermKind::Overrun => "tolerated overrun".to_owned(),
        TermKind::Waiting => "waiting, in the longest of all schedules".to_owned(),
        TermKind::Slackness => "not attributed: the bound is not tight".to_owned(),
        other => format!("{other:?}"),
    }
}

/// A term of a bound for programs.
pub fn term_json(part: &Term, set: &TaskSet) -> Value {
    json!({ "what": term(part.kind, set), "span_ns": part.span.get() })
}

/// What a bound of one task is made of.
pub fn terms(report: &TaskReport, set: &TaskSet) -> String {
    if report.terms.is_empty() {
        return format!("`{}` on {}: no bound was found\n", name(report.task, set), report.lane);
    }
    let mut grid = Grid::new(1, &["what", "at most"]);
    for part in &report.terms {
        grid.row([term(part.kind, set), span(part.span)]);
    }
    grid.row(["sum: WCRT".to_owned(), figures::maybe(report.wcrt)]);
    format!("`{}` on {}:\n{}", name(report.task, set), report.lane, grid.text())
}

/// A shortage of memory in words, with names.
pub fn shortage(shortage: &Shortage, set: &TaskSet) -> String {
    let size = figures::size;
    let holder =
        |(task, bytes): &(TaskId, aegis_types::Bytes)| format!("`{}` ({})", name(*task, set), size(*bytes));
    let change = match shortage.change {
        MemoryChange::Move { task, to, frees } => {
            format!("would fit with `{}` moved to {to}, which frees {}", name(task, set), size(frees))
        }
        MemoryChange::Drop { task, frees } => {
            format!("would fit without `{}`, which frees {}", name(task, set), size(frees))
        }
        MemoryChange::Grow { by } => {
            let names: Vec<String> =
                shortage.without.iter().map(|task| format!("`{}`", name(*task, set))).collect();
            let (by, names) = (size(by), names.join(", "));
            format!("no single task makes room; {by} more memory would, or leaving out {names} together")
        }
    };
    format!(
        "the fleet needs {} of memory, the device has {}: {} missing; most is held by {}; {change}",
        size(shortage.needed),
        size(shortage.capacity),
        size(shortage.missing),
        shortage.holders.iter().map(holder).collect::<Vec<_>>().join(", ")
    )
}

/// A shortage of memory for programs.
pub fn shortage_json(shortage: &Shortage, set: &TaskSet) -> Value {
    let holder = |(task, bytes): &(TaskId, aegis_types::Bytes)| json!({ "task": name(*task, set), "bytes": bytes.get() });
    let change = match shortage.change {
        MemoryChange::Move { task, to, frees } => {
            json!({ "kind": "move", "task": name(task, set), "to_lane": to.get(), "frees_bytes": frees.get() })
        }
        MemoryChange::Drop { task, frees } => {
            json!({ "kind": "drop", "task": name(task, set), "frees_bytes": frees.get() })
        }
        MemoryChange::Grow { by } => json!({
            "kind": "grow", "by_bytes": by.get(),
            "without": shortage.without.iter().map(|task| name(*task, set)).collect::<Vec<_>>(),
        }),
    };
    json!({
        "needed_bytes": shortage.needed.get(), "capacity_bytes": shortage.capacity.get(),
        "missing_bytes": shortage.missing.get(), "change": change,
        "holders": shortage.holders.iter().map(holder).collect::<Vec<_>>(),
    })
}

/// The name of a task, or its number.
pub fn name(task: TaskId, set: &TaskSet) -> String {
    set.task(task).map_or_else(|| task.to_string(), |task| task.name.clone())
}
