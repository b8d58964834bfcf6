//! `aegis explain`: where the time of a job went, each part beside the certified one, and why.

use std::path::PathBuf;

use aegis_sched::explain::Part;
use aegis_sched::{Blame, BlameKind, BlameTerm, Explainer, Explanation, Term};
use aegis_trace::Rationale;
use aegis_types::records::Standing;
use aegis_types::{JobId, Nanos, TaskId};
use clap::Args;
use serde_json::{Value, json};

use super::answer::{Answer, CliError};
use super::figures::{self, instant, span};
use super::stored::{StoredRun, damages_json};
use super::table::Grid;
use super::verdict::{self, name};

/// Say where the time of a job went.
#[derive(Debug, Args)]
pub struct Explain {
    /// The trace of a run.
    run: PathBuf,
    /// The task.
    #[arg(long, value_name = "TASK")]
    task: String,
    /// The jobs with the longest responses, so many.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    worst: u32,
    /// This job, by its number.
    #[arg(long, value_name = "K", conflicts_with = "worst")]
    job: Option<u64>,
}

impl Explain {
    pub(super) fn perform(&self) -> Result<Answer, CliError> {
        let run = StoredRun::open(&self.run)?;
        let task = self.task_of(&run)?;
        let explainer = Explainer::new(run.trace.records(), &run.certificate);
        let jobs = match self.job {
            Some(number) => vec![JobId::new(task, number)],
            None => explainer.worst(task, usize::try_from(self.worst).unwrap_or(usize::MAX)),
        };
        if jobs.is_empty() {
            let path = self.run.display();
            return Err(CliError::Input(format!(
                "{path}: no job of `{}` completed in this trace",
                self.task
            )));
        }
        let mut text = String::new();
        for note in run.notes() {
            text.push_str(&format!("note: {note}\n"));
        }
        let mut answers = Vec::new();
        for job in jobs {
            let Some(explanation) = explainer.explain(job) else {
                return Err(self.unknown_job(job, &explainer));
            };
            let (words, value) = describe(&run, job, &explanation)?;
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(&words);
            answers.push(value);
        }
        let json = json!({ "task": self.task, "jobs": answers, "trace": damages_json(&run.trace) });
        Ok(Answer::done(text, json))
    }

    fn task_of(&self, run: &StoredRun) -> Result<TaskId, CliError> {
        let found = run.set.tasks().iter().find(|task| task.name == self.task);
        found.map(|task| task.id).ok_or_else(|| {
            let names: Vec<&str> = run.set.tasks().iter().map(|task| task.name.as_str()).collect();
            let (path, task) = (self.run.display(), &self.task);
            CliError::Input(format!("{path}: the trace has no task `{task}`; legal: {}", names.join(", ")))
        })
    }

    fn unknown_job(&self, job: JobId, explainer: &Explainer<'_>) -> CliError {
        let mut numbers = explainer.jobs(job.task).map(|(id, _)| id.number);
        let legal = match (numbers.next(), explainer.jobs(job.task).last()) {
            (Some(first), Some((last, _))) => format!("{first} to {}", last.number),
            _ => "none: the trace has no job of the task".to_owned(),
        };
        CliError::Input(format!(
            "--job: the trace does not know job {} of `{}`; legal: {legal}",
            job.number, self.task
        ))
    }
}

fn describe(run: &StoredRun, job: JobId, explanation: &Explanation) -> Result<(String, Value), CliError> {
    let label = format!("{}#{}", name(job.task, &run.set), job.number);
    match explanation {
        Explanation::Known(blame) => {
            let end = blame.ended.saturating_add(Nanos::new(1));
            let why = run.trace.query(job.task, blame.arrival..end)?;
            Ok((blame_text(run, &label, blame, &why), blame_json(run, &label, blame, &why)))
        }
        Explanation::Unknown { from, to, reason } => {
            let lines = explanation.lines(job, &run.set);
            let json = json!({
                "job": label, "known": false, "from_ns": from.get(), "to_ns": to.get(),
                "reason": format!("{reason:?}"),
            });
            Ok((format!("{}\n", figures::told(&lines.join("\n"))), json))
        }
    }
}

fn head(label: &str, blame: &Blame) -> String {
    let standing = match blame.standing {
        Standing::Covered => format!("bound {}, no assumption broke", span(blame.bound)),
        Standing::Tolerated => format!("bound {} under an overrun that is tolerated", span(blame.bound)),
        Standing::Void => "no bound: an assumption broke before it ended".to_owned(),
    };
    let late = blame.ended.since(blame.deadline);
    let deadline = blame.deadline.since(blame.arrival);
    let met = if late.is_zero() { "met".to_owned() } else { format!("missed by {}", span(late)) };
    let outcome = format!("{:?}", blame.outcome).to_lowercase();
    format!(
        "{label} {outcome} {} after its arrival at {}; deadline {} {met}; {standing}\n",
        span(blame.response),
        instant(blame.arrival),
        span(deadline)
    )
}

/// The measured terms, the certified ones beside those of their kind, and at the end those that did not occur.
fn blame_text(run: &StoredRun, label: &str, blame: &Blame, why: &[Rationale]) -> String {
    let mut grid = Grid::new(1, &["where the time went", "after", "took", "certified"]);
    let mut shown: Vec<&Term> = Vec::new();
    for term in &blame.terms {
        let beside = blame.certified_beside(term);
        let certified = match beside {
            Some(found) if !shown.contains(&found) => {
                shown.push(found);
                span(found.span)
            }
            Some(_) => "same".to_owned(),
            None => "-".to_owned(),
        };
        let after = span(term.from.since(blame.arrival));
        grid.row([cause(run, term), after, span(term.span()), certified]);
    }
    for term in blame.certified.iter().filter(|term| !shown.contains(term)) {
        let what = format!("(did not occur) {}", verdict::term(term.kind, &run.set));
        grid.row([what, String::new(), "-".to_owned(), span(term.span)]);
    }
    let certified = blame.certified.iter().fold(Nanos::ZERO, |sum, term| sum.saturating_add(term.span));
    grid.row(["sum".to_owned(), String::new(), span(blame.response), span(certified)]);
    let mut out = format!("{}\n{}\nWhat happened:\n", head(label, blame), grid.text());
    for line in why {
        out.push_str(&format!("  {}  {}\n", instant(line.at), wrapped(&figures::told(&line.text))));
    }
    out
}

/// A term in words, without its length.
fn cause(run: &StoredRun, term: &BlameTerm) -> String {
    let job = |job: JobId| format!("{}#{}", name(job.task, &run.set), job.number);
    match term.kind {
        BlameKind::ReleaseLatency => "released after its arrival".to_owned(),
        BlameKind::Blocking { by, budget, .. } => {
            format!("blocked by {} (budget {}, non-preemptive)", job(by), span(budget))
        }
        BlameKind::Interference { by, budget, .. } => {
            format!("waited for {} (budget {}, more urgent)", job(by), span(budget))
        }
        BlameKind::Own { segment, budget, part } => {
            let verb = match part {
                Part::Whole => "ran",
                Part::Handoff => "was handed to its carrier",
                Part::Execution => "executed",
                Part::Detection => "awaited detection of its end",
            };
            format!("{segment} {verb} (budget {})", span(budget))
        }
        BlameKind::Kept { first, awaited, until } => {
            format!("held for {} until {} ({} first in turn)", job(awaited), instant(until), job(first))
        }
        BlameKind::Waiting => "lane was free without a decision".to_owned(),
        other => format!("{other:?}"),
    }
}

/// Long rationales go on under themselves, within 120 columns of a terminal.
fn wrapped(text: &str) -> String {
    const WIDTH: usize = 104;
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is always a last line");
        if !line.is_empty() && line.len() + 1 + word.len() > WIDTH {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines.join(&format!("\n{:14}", ""))
}

fn blame_json(run: &StoredRun, label: &str, blame: &Blame, why: &[Rationale]) -> Value {
    let term = |term: &BlameTerm| {
        json!({
            "what": cause(run, term), "from_ns": term.from.get(), "to_ns": term.to.get(),
            "span_ns": term.span().get(),
            "certified_ns": blame.certified_beside(term).map(|term| term.span.get()),
        })
    };
    let certified =
        |term: &Term| json!({ "what": verdict::term(term.kind, &run.set), "span_ns": term.span.get() });
    json!({
        "job": label, "known": true, "lane": blame.lane.get(),
        "arrival_ns": blame.arrival.get(), "ended_ns": blame.ended.get(), "deadline_ns": blame.deadline.get(),
        "outcome": format!("{:?}", blame.outcome), "standing": format!("{:?}", blame.standing),
        "response_ns": blame.response.get(),
        "bound_ns": (blame.bound != Nanos::MAX).then_some(blame.bound.get()),
        "terms": blame.terms.iter().map(term).collect::<Vec<_>>(),
        "certified": blame.certified.iter().map(certified).collect::<Vec<_>>(),
        "why": why.iter().map(|line| json!({ "at_ns": line.at.get(), "text": line.text })).collect::<Vec<_>>(),
    })
}
