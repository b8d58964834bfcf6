//! Turns the parts of a critical busy period into terms that add up to the bound exactly.

use aegis_types::TaskId;

use super::demand::span;
use crate::referee::certificate::{Term, TermKind};

/// Work in a critical busy period up to the end of the job under analysis.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Release after the nominal arrival that is not hidden in the busy period.
    pub jitter: u64,
    /// The blocking segment.
    pub blocking: Option<(TaskId, u64)>,
    /// Earlier jobs of the task itself.
    pub carry: u64,
    /// The job.
    pub own: u64,
    /// X.
    pub overrun: u64,
    /// Time of the busy period before the job arrives. Work done then does not delay it: it is taken from what runs
    /// first, the blocker, then the more urgent jobs, then the task's earlier jobs.
    pub before: u64,
}

impl Tally {
    /// The terms, without those that are empty. `interference` are the more urgent jobs: task, jobs, work.
    pub(super) fn terms(self, interference: impl Iterator<Item = (TaskId, u64, u64)>) -> Vec<Term> {
        let mut before = self.before;
        let mut left = |work: u64| {
            let hidden = before.min(work);
            before -= hidden;
            work - hidden
        };
        let mut terms = Vec::with_capacity(interference.size_hint().1.unwrap_or(0) + 5);
        let mut put = |kind: TermKind, ns: u64| {
            if ns > 0 {
                terms.push(Term { kind, span: span(ns) });
            }
        };
        put(TermKind::Jitter, self.jitter);
        if let Some((by, work)) = self.blocking {
            put(TermKind::Blocking { by }, left(work));
        }
        for (by, jobs, work) in interference {
            put(TermKind::Interference { by, jobs }, left(work));
        }
        put(TermKind::Carry, left(self.carry));
        put(TermKind::Own, self.own);
        put(TermKind::Overrun, self.overrun);
        terms
    }

    /// The terms, and what `bound` leaves unattributed.
    pub(super) fn terms_with_slackness(self, bound: u64) -> Vec<Term> {
        let mut terms = self.terms(std::iter::empty());
        let known = terms.iter().fold(0u64, |sum, term| sum.saturating_add(term.span.get()));
        if let Some(rest) = bound.checked_sub(known).filter(|&rest| rest > 0) {
            terms.push(Term { kind: TermKind::Slackness, span: span(rest) });
        }
        terms
    }
}
