//! Blame as lines for people.

use aegis_types::records::Standing;
use aegis_types::{JobId, Nanos};

use super::blame::{Blame, BlameKind, BlameTerm, Explanation, Part, Unknown};
use crate::model::TaskSet;

impl Explanation {
    /// Lines for people: a head, then one line per term with the certified term beside it.
    pub fn lines(&self, job: JobId, set: &TaskSet) -> Vec<String> {
        match self {
            Self::Known(blame) => blame.lines(set),
            Self::Unknown { from, to, reason } => {
                let why = match reason {
                    Unknown::Gap { lost } => format!("{lost} records of the decisions are missing"),
                    Unknown::Unfinished => "the trace ends before the job".into(),
                    Unknown::Contradiction => "records contradict each other".into(),
                };
                vec![format!("{}: unknown from {from} to {to}: {why}", name(job, set))]
            }
        }
    }
}

impl Blame {
    /// Lines for people: a head, then one line per term with the certified term beside it.
    pub fn lines(&self, set: &TaskSet) -> Vec<String> {
        let outcome = format!("{:?}", self.outcome).to_lowercase();
        let standing = match self.standing {
            Standing::Covered => format!("bound {}, no assumption broke", self.bound),
            Standing::Tolerated => format!("bound {} under tolerated overrun", self.bound),
            Standing::Void => "no bound: an assumption broke".into(),
        };
        let late = self.ended.since(self.deadline);
        let deadline =
            if late.is_zero() { "deadline met".to_owned() } else { format!("deadline missed by {late}") };
        let head = format!(
            "{} {outcome} {} after its arrival at {} ({standing}; {deadline})",
            name(self.job, set),
            self.response,
            self.arrival
        );
        std::iter::once(head).chain(self.terms.iter().map(|term| self.line(term, set))).collect()
    }

    /// One term, such as `blocked by detector#7 for 3.2ms (budget 45ms, non-preemptive; certified 45ms)`.
    pub fn line(&self, term: &BlameTerm, set: &TaskSet) -> String {
        let span = term.span();
        let certified = |span: Nanos| format!("certified {span}");
        let beside = self.certified_beside(term).map(|term| certified(term.span));
        let note = |facts: &[Option<String>]| {
            let facts: Vec<&str> = facts.iter().flatten().map(String::as_str).collect();
            if facts.is_empty() { String::new() } else { format!(" ({})", facts.join("; ")) }
        };
        match term.kind {
            BlameKind::ReleaseLatency => format!("released {span} after its arrival{}", note(&[beside])),
            BlameKind::Blocking { by, budget, .. } => {
                let facts = [Some(format!("budget {budget}, non-preemptive")), beside];
                format!("blocked by {} for {span}{}", name(by, set), note(&facts))
            }
            BlameKind::Interference { by, budget, .. } => {
                let facts = [Some(format!("budget {budget}, more urgent")), beside];
                format!("waited for {} for {span}{}", name(by, set), note(&facts))
            }
            BlameKind::Own { segment, budget, part } => {
                let verb = match part {
                    Part::Whole => "ran",
                    Part::Handoff => "was handed to its carrier",
                    Part::Execution => "executed",
                    Part::Detection => "awaited detection of its end",
                };
                format!("{segment} {verb} for {span}{}", note(&[Some(format!("budget {budget}")), beside]))
            }
            BlameKind::Kept { first, awaited, until } => {
                let whose = format!("{} first in turn", name(first, set));
                let facts = [Some(whose).filter(|_| first != self.job), beside];
                format!("held for {} until {until}, {span}{}", name(awaited, set), note(&facts))
            }
            BlameKind::Waiting => format!("lane was free for {span} without a decision"),
        }
    }
}

fn name(job: JobId, set: &TaskSet) -> String {
    set.task(job.task).map_or_else(|| job.to_string(), |task| format!("{}#{}", task.name, job.number))
}
