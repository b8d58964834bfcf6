//! What every bound is made of, a line or two for each task, and which term binds it.

use aegis_sched::admission::TaskReport;
use aegis_sched::{AdmissionReport, TaskSet, Term, TermKind};

use crate::cli::figures::{self, span};
use crate::cli::verdict;

/// Longest line: what a terminal of ordinary width shows without breaking it.
const WIDTH: usize = 100;

/// The term that would have to shrink for the bound to shrink most: the longest of what the task waits for, or its own
/// segments where it waits for nothing.
pub(super) fn binding(report: &TaskReport) -> Option<&Term> {
    let waits = |term: &&Term| match term.kind {
        TermKind::Blocking { .. }
        | TermKind::Interference { .. }
        | TermKind::Carry
        | TermKind::Overrun
        | TermKind::Waiting
        | TermKind::Slackness => !term.span.is_zero(),
        _ => false,
    };
    let own = |term: &&Term| term.kind == TermKind::Own;
    // Of equals the first, so that equal fleets are answered alike.
    let longest = report.terms.iter().rev().filter(waits).max_by_key(|term| term.span);
    longest.or_else(|| report.terms.iter().find(own))
}

/// One paragraph for each task that has a bound.
pub(super) fn text(report: &AdmissionReport, set: &TaskSet) -> String {
    let lines = report.tasks.iter().filter(|task| !task.terms.is_empty()).map(|task| line(task, set));
    let lines: String = lines.collect();
    if lines.is_empty() { lines } else { format!("Bounds, term by term:\n{lines}") }
}

fn line(report: &TaskReport, set: &TaskSet) -> String {
    let name = verdict::name(report.task, set);
    let shown = report.terms.iter().filter(|term| !term.span.is_zero());
    let mut pieces: Vec<String> = shown
        .enumerate()
        .map(|(index, term)| {
            let sign = if index == 0 { "= " } else { "+ " };
            format!("{sign}{} {}", span(term.span), verdict::term(term.kind, set))
        })
        .collect();
    pieces.push(match report.slack {
        Some(slack) => format!("slack {}", span(slack)),
        None => format!("more than the deadline, {}", span(report.deadline)),
    });
    if let Some(term) = binding(report) {
        pieces.push(format!("binding: {}", verdict::term(term.kind, set)));
    }
    let mut out = format!("  {name}: {}", figures::maybe(report.wcrt));
    let mut width = out.chars().count();
    for piece in pieces {
        // Terms are joined by their signs, what is said about them by semicolons.
        let ends = if piece.starts_with(['=', '+']) { "" } else { ";" };
        let long = piece.chars().count() + ends.len() + 1;
        out.push_str(ends);
        // Room for the semicolon that may follow.
        if width + long + 1 > WIDTH {
            out.push_str("\n    ");
            width = 4 + long;
        } else {
            out.push(' ');
            width += long;
        }
        out.push_str(&piece);
    }
    out.push('\n');
    out
}
