//! `aegis admit --chart`: bounds against deadlines as a picture that needs nothing but itself.
//!
//! Tasks of one fleet differ by orders of magnitude, so every row has its own scale: the deadline is at the same place
//! in all of them, and the bar is the bound as a share of it. Geometry is in tenths of a pixel, and integer.

use std::fmt::Write as _;

use aegis_sched::admission::TaskReport;
use aegis_sched::platform::ChargedTask;
use aegis_sched::{AdmissionReport, ModelError, Task, TaskSet, TermKind, charge};
use aegis_types::Nanos;

use crate::cli::figures::{self, span};
use crate::cli::svg::{escaped, tenths};
use crate::cli::verdict;

const WIDTH: u64 = 11_000;
/// Where bars begin.
const LEFT: u64 = 2_300;
/// From there to the deadline.
const DEADLINE: u64 = 4_000;
/// The longest bar: what exceeds it is cut, and its label says how long it is.
const LONGEST: u64 = 5_200;
const ROW: u64 = 240;
const BAR: u64 = 160;
/// Where the first row begins: title and legend stand above it.
const TOP: u64 = 900;
/// Longest name that is shown whole.
const NAME: usize = 30;

/// What a part of a bar stands for; colours that are told apart without red and green (Okabe and Ito).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Jitter,
    Blocking,
    Interference,
    Carry,
    Own,
    Overheads,
    Rest,
}

impl Part {
    const ALL: [Self; 7] = [
        Self::Jitter,
        Self::Blocking,
        Self::Interference,
        Self::Carry,
        Self::Own,
        Self::Overheads,
        Self::Rest,
    ];

    const fn look(self) -> (&'static str, &'static str) {
        match self {
            Self::Jitter => ("#cc79a7", "release after arrival"),
            Self::Blocking => ("#d55e00", "blocking"),
            Self::Interference => ("#0072b2", "interference"),
            Self::Carry => ("#56b4e9", "earlier jobs"),
            Self::Own => ("#009e73", "own budget"),
            Self::Overheads => ("#f0e442", "own overheads"),
            Self::Rest => ("#999999", "other"),
        }
    }
}

/// The picture.
///
/// # Errors
/// [`ModelError::Overflow`] if charging overheads leaves the range of time.
pub(super) fn svg(report: &AdmissionReport, set: &TaskSet, title: &str) -> Result<String, ModelError> {
    let charged = if report.tasks.is_empty() { Vec::new() } else { charge(set)? };
    let height = TOP + ROW * report.tasks.len() as u64 + 300;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{w}\" height=\"{h}\" viewBox=\"0 0 {w} {h}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<title>{title}</title>\n\
         <rect width=\"{w}\" height=\"{h}\" fill=\"#ffffff\"/>\n\
         <text x=\"12\" y=\"26\" font-size=\"16\">{title}</text>\n",
        w = tenths(WIDTH),
        h = tenths(height),
        title = escaped(title)
    );
    legend(&mut out);
    for (index, ((report, task), charged)) in report.tasks.iter().zip(set.tasks()).zip(&charged).enumerate() {
        row(&mut out, TOP + ROW * index as u64, report, task, charged, set);
    }
    let (x, end) = (tenths(LEFT + DEADLINE), tenths(height - 250));
    let _infallible = write!(
        out,
        "<line x1=\"{x}\" y1=\"{top}\" x2=\"{x}\" y2=\"{end}\" stroke=\"#000000\" stroke-width=\"1.5\"/>\n\
         <text x=\"{x}\" y=\"{label}\" text-anchor=\"middle\">deadline</text>\n</svg>\n",
        top = tenths(TOP - 60),
        label = tenths(TOP - 100)
    );
    Ok(out)
}

fn legend(out: &mut String) {
    let mut x = 120;
    for part in Part::ALL {
        let (colour, words) = part.look();
        let _infallible = writeln!(
            out,
            "<rect x=\"{}\" y=\"44\" width=\"12\" height=\"12\" fill=\"{colour}\"/>\
             <text x=\"{}\" y=\"54\">{words}</text>",
            tenths(x),
            tenths(x + 170)
        );
        // Letters of this size are 7 pixels wide at most.
        x += 170 + 70 * words.len() as u64 + 200;
    }
}

fn row(out: &mut String, y: u64, report: &TaskReport, task: &Task, charged: &ChargedTask, set: &TaskSet) {
    let middle = tenths(y + BAR / 2 + 45);
    let name = if task.name.chars().count() > NAME {
        format!("{}...", task.name.chars().take(NAME - 3).collect::<String>())
    } else {
        task.name.clone()
    };
    let _infallible = write!(
        out,
        "<g>\n<text x=\"{}\" y=\"{middle}\" text-anchor=\"end\">{}</text>\n\
         <rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"#eeeeee\"/>\n",
        tenths(LEFT - 80),
        escaped(&name),
        tenths(LEFT),
        tenths(y),
        tenths(DEADLINE),
        tenths(BAR)
    );
    let mut before = Nanos::ZERO;
    for (part, length, words) in parts(report, task, charged, set) {
        let after = before.saturating_add(length);
        let (from, to) = (place(before, report.deadline), place(after, report.deadline));
        let _infallible = writeln!(
            out,
            "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"{}\"><title>{}</title></rect>",
            tenths(LEFT + from),
            tenths(y),
            tenths(to - from),
            tenths(BAR),
            part.look().0,
            escaped(&format!("{}: {} {words}", task.name, span(length)))
        );
        before = after;
    }
    let _infallible = writeln!(
        out,
        "<text x=\"{}\" y=\"{middle}\">{}</text>\n</g>",
        tenths(LEFT + LONGEST + 100),
        label(report)
    );
}

fn label(report: &TaskReport) -> String {
    let deadline = span(report.deadline);
    match (report.wcrt, report.slack) {
        (Some(wcrt), Some(slack)) => {
            format!("{} of {deadline}, slack {}", figures::span_up(wcrt), figures::span_down(slack))
        }
        (Some(wcrt), None) => format!("{} of {deadline}: TOO LATE", figures::span_up(wcrt)),
        (None, _) => format!("no bound, deadline {deadline}"),
    }
}

/// The parts of a bar, in the order of time as far as it has one.
fn parts(
    report: &TaskReport,
    task: &Task,
    charged: &ChargedTask,
    set: &TaskSet,
) -> Vec<(Part, Nanos, String)> {
    let mut parts = Vec::new();
    for term in report.terms.iter().filter(|term| !term.span.is_zero()) {
        let words = verdict::term(term.kind, set);
        let part = match term.kind {
            TermKind::Jitter => Part::Jitter,
            TermKind::Blocking { .. } => Part::Blocking,
            TermKind::Interference { .. } => Part::Interference,
            TermKind::Carry => Part::Carry,
            TermKind::Own => {
                let overheads = overheads(task, charged).min(term.span);
                parts.push((Part::Own, term.span.saturating_sub(overheads), words));
                parts.push((Part::Overheads, overheads, "of the runtime for them".to_owned()));
                continue;
            }
            _ => Part::Rest,
        };
        parts.push((part, term.span, words));
    }
    parts
}

/// What a job is charged beyond its own budgets.
fn overheads(task: &Task, charged: &ChargedTask) -> Nanos {
    let attempts = u64::from(task.retries) + 1;
    let own = task.segments.iter().map(|segment| segment.bound.checked_mul(attempts).unwrap_or(Nanos::MAX));
    let sum = |spans: &mut dyn Iterator<Item = Nanos>| spans.fold(Nanos::ZERO, Nanos::saturating_add);
    sum(&mut charged.segments.iter().copied()).saturating_sub(sum(&mut own.into_iter()))
}

/// How far from the left a span ends on the scale of a deadline.
fn place(span: Nanos, deadline: Nanos) -> u64 {
    let place = u128::from(span.get()) * u128::from(DEADLINE) / u128::from(deadline.get().max(1));
    u64::try_from(place).unwrap_or(LONGEST).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_name_is_markup() {
        let shown = escaped("<script>\"a\" & 'b'</script>\u{1b}");
        assert_eq!(shown, "&lt;script&gt;&quot;a&quot; &amp; &apos;b&apos;&lt;/script&gt;\u{fffd}");
    }

    #[test]
    fn a_bar_ends_at_the_deadline_exactly_where_the_bound_does() {
        let ms = Nanos::from_millis;
        assert_eq!(place(ms(33), ms(33)), DEADLINE);
        assert!(place(Nanos::new(33_000_001), ms(33)) >= DEADLINE);
        assert_eq!(place(ms(0), ms(33)), 0);
        assert_eq!(place(Nanos::MAX, Nanos::new(1)), LONGEST);
    }
}
