//! The figures of a stage as a short table for people; everything else is in its file.

use std::fmt::Write as _;

use super::anatomy::BoundRow;
use super::determinism::DeterminismRow;
use super::floor::FloorRow;
use super::isolation::IsolationRow;
use super::jobs::JobsReport;
use super::overhead::{LIMITS, TERMS};
use super::rivals::Cell;
use super::serve::Served;
use super::soak::SoakReport;
use super::spread::SpreadRow;
use super::stages::{CapacityReport, OverheadReport, OverheadRow, RivalsReport};

/// Lines of a table, title included.
const LINES: usize = 40;

/// Head of the four columns that [`super::spread::SpreadRow::brief`] fills.
const BRIEF: &str = "     p50      p99    p99.9      max";

struct Table(String);

impl Table {
    fn new(title: &str) -> Self {
        Self(format!("{title}\n"))
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing into a text cannot fail.
        let _ok = writeln!(self.0, "{line}");
    }

    /// The text, with what does not fit left out and counted.
    fn done(self) -> String {
        let count = self.0.lines().count();
        if count <= LINES {
            return self.0;
        }
        let kept: Vec<&str> = self.0.lines().take(LINES - 1).collect();
        format!("{}\n... {} more lines in the file\n", kept.join("\n"), count + 1 - LINES)
    }
}

fn us(nanos: i64) -> f64 {
    nanos as f64 / 1e3
}

fn load(milli: u64) -> f64 {
    milli as f64 / 1e3
}

/// The floor.
pub fn floor(rows: &[FloorRow]) -> String {
    let mut table = Table::new(&format!("floor, us: graph launch + flag + poll      n {BRIEF}"));
    for row in rows {
        let pause = if row.pause_ns == 0 {
            "back to back".to_owned()
        } else {
            format!("{} us apart", row.pause_ns / 1_000)
        };
        table.line(format_args!("{pause:<34} {:>8} {}", row.due.n, row.due.brief()));
        table.line(format_args!("{:<34} {:>8} {}", "  of it from the call", row.round.n, row.round.brief()));
        table.line(format_args!("{:<34} {:>8} {}", "  of it both calls", row.hold.n, row.hold.brief()));
    }
    table.done()
}

/// The overhead beside its floors.
pub fn overhead(report: &OverheadReport) -> String {
    let mut table = Table::new(&format!("overhead, us                               n {BRIEF}"));
    for floor in &report.floors {
        let pace = if floor.pause_ns == 0 { "back to back" } else { "paced as jobs" };
        let name = format!("floor, {} graphs, {pace}", floor.graphs);
        table.line(format_args!("{name:<34} {:>8} {}", floor.due.n, floor.due.brief()));
        let without = "  without stalls of the host";
        table.line(format_args!("{without:<34} {:>8} {}", floor.calm.n, floor.calm.brief()));
    }
    let name = "control: a walk, no GPU, so paced";
    table.line(format_args!("{name:<34} {:>8} {}", report.walk.n, report.walk.brief()));
    for row in &report.rows {
        overhead_row(row, &mut table);
    }
    table.done()
}

fn overhead_row(row: &OverheadRow, table: &mut Table) {
    let name = format!("response, {} tasks on {} lanes", row.tasks, row.lanes);
    table.line(format_args!("{name:<34} {:>8} {}", row.response.n, row.response.brief()));
    let without = "  without stalls of the host";
    table.line(format_args!("{without:<34} {:>8} {}", row.calm.n, row.calm.brief()));
    for (name, spread) in TERMS.iter().zip(&row.terms) {
        table.line(format_args!("  {name:<34} {:>6} {}", spread.n, spread.brief()));
    }
    let (paced, calm) = (row.above_paced_ns.map(us), row.above_calm_ns.map(us));
    let (slices, met) = (row.slices_median_ns.map(us), met(row.above_paced_ns));
    table.line(format_args!(
        "  above the paced floor, p50 and p99.9: {} slices together {:+.2} {:+.2} ({met}); their median {:+.2} {:+.2}; \
         without stalls {:+.2} {:+.2}",
        row.slices.len(),
        paced[0],
        paced[1],
        slices[0],
        slices[1],
        calm[0],
        calm[1]
    ));
    let slow = &row.slow;
    table.line(format_args!(
        "  {} above the floor's p99.9, {} of them over a stall; made slow by {:?}, without stalls by {:?}; {} stalls",
        slow.jobs, slow.stalled, slow.dominated, slow.dominated_calm, row.stalls
    ));
}

fn met(above: [i64; 2]) -> &'static str {
    let within = LIMITS.iter().zip(above).all(|((_, limit), above)| above <= limit.get() as i64);
    if within { "met" } else { "MISSED: 2 and 5" }
}

/// Ways to share the device, load by load.
pub fn rivals(report: &RivalsReport) -> String {
    let mut table = Table::new(
        "load  way                      certified |  high: jobs missed      p50      p99    p99.9      max ms |  all: missed resp/D slow. | low/s",
    );
    let ours = report.ours.iter().flat_map(|row| &row.cells);
    let mut cells: Vec<&Cell> = report.baselines.iter().chain(ours).collect();
    cells.sort_by_key(|cell| cell.load);
    for cell in cells {
        let of = |name: &str| cell.classes.iter().find(|class| class.criticality == name);
        let (high, all, low) = (of("high"), of("all"), of("low"));
        let ms = |mark: fn(&SpreadRow) -> u64| high.map_or(0.0, |class| mark(&class.response) as f64 / 1e6);
        table.line(format_args!(
            "{:4.2}  {:<24} {:>9} | {:>11} {:>6} {:>8.2} {:>8.2} {:>8.2} {:>8.2}    | {:>11} {:>6.2} {:>5.1} | {:>5.0}",
            load(cell.load),
            cell.way,
            if cell.certified { "yes" } else { "no" },
            high.map_or(0, |class| class.jobs),
            high.map_or(0, |class| class.misses),
            ms(|row| row.p50_ns),
            ms(|row| row.p99_ns),
            ms(|row| row.p999_ns),
            ms(|row| row.max_ns),
            all.map_or(0, |class| class.misses),
            load(cell.response_milli),
            load(cell.slowdown_milli),
            low.map_or(0.0, |class| class.jobs as f64 / cell.seconds.max(1) as f64)
        ));
    }
    for row in &report.ours {
        let share = row.certified as f64 / report.naive_clean.max(1) as f64;
        table.line(format_args!(
            "{}: certified {:.2}, {share:.2} of the {:.2} that naive sharing carries without a miss",
            row.label,
            load(row.certified),
            load(report.naive_clean)
        ));
    }
    table.done()
}

/// Every kind of kernel: what varies is told first.
pub fn determinism(rows: &[DeterminismRow]) -> String {
    let noted = rows.iter().filter(|row| !row.remark.is_empty()).count();
    let title = format!("determinism: {} of {} series vary by 5 % or more", noted, rows.len());
    let mut table = Table::new(&format!("{title}\nkind, us              lanes     cv trimmed {BRIEF}"));
    let mut order: Vec<&DeterminismRow> = rows.iter().collect();
    order.sort_by(|a, b| b.spread.cv.total_cmp(&a.spread.cv));
    for row in order {
        table.line(format_args!(
            "{:<20} {:>6} {:>6.3} {:>7.3} {}  {}",
            row.kind,
            row.lanes,
            row.spread.cv,
            row.trimmed,
            row.spread.brief(),
            row.remark
        ));
    }
    table.done()
}

/// Victim and hog.
pub fn isolation(rows: &[IsolationRow]) -> String {
    let mut table = Table::new(&format!("victim beside a hog, us{:<38} SMs {BRIEF}", ""));
    for row in rows {
        table.line(format_args!("{:<60} {:>4} {}", row.placement, row.sms, row.spread.brief()));
    }
    table.done()
}

/// The short tasks.
pub fn jobs(report: &JobsReport) -> String {
    let mut table = Table::new(
        "division        load      jobs  lost miss cert.miss beyond covered tight  p <= ppm  breaches",
    );
    for (name, row) in report {
        let totals = row.served.totals();
        table.line(format_args!(
            "{name:<14} {:>5.2} {:>9} {:>5} {:>4} {:>9} {:>6} {:>6.2}% {:>5.2} {:>9}  {}",
            load(row.load),
            totals.jobs,
            totals.lost,
            totals.misses,
            totals.certified_misses,
            totals.beyond_bound,
            totals.covered * 100.0,
            totals.tightness,
            row.exceedance_ppm,
            breaches(&row.served)
        ));
    }
    let total: u64 = report.values().map(|row| row.served.totals().jobs).sum();
    table.line(format_args!("{total} jobs in all"));
    for (name, row) in report {
        row.bounds.iter().for_each(|bound| bound_line(name, bound, &row.served, &mut table));
    }
    for (name, row) in report {
        for breach in row.served.listed.iter().take(4) {
            table.line(format_args!(
                "  {name}: {:.3} s, task {} job {}: {} {:.1} us of {:.1}: {}",
                breach.at_us as f64 / 1e6,
                breach.task,
                breach.job,
                breach.assumption,
                breach.seen_ns as f64 / 1e3,
                breach.limit_ns as f64 / 1e3,
                breach.consequence
            ));
        }
    }
    table.done()
}

fn bound_line(division: &str, bound: &BoundRow, served: &Served, table: &mut Table) {
    let known = served.tasks.iter().find(|task| task.task == bound.task);
    let seen = known.map_or(0, |task| task.covered_max_ns);
    let span = |ns: u64| ns as f64 / 1e3;
    table.line(format_args!(
        "  {division} lane {} {}: {:.0} us = blocking {:.0} + interference {:.0} + own {:.0} + overheads {:.0}; seen {:.0}",
        bound.lane,
        bound.task,
        span(bound.bound_ns),
        span(bound.blocking_ns),
        span(bound.interference_ns),
        span(bound.own_ns),
        span(bound.overheads_ns),
        span(seen)
    ));
}

fn breaches(served: &Served) -> String {
    let kinds: Vec<String> = served.breaches.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    let lost = match served.lost_records {
        0 => String::new(),
        lost => format!(" ({} by the engine's count; the trace lost {lost} records)", served.broken),
    };
    if kinds.is_empty() { format!("none{lost}") } else { format!("{}{lost}", kinds.join(", ")) }
}

/// Certified and naive capacity.
pub fn capacity(report: &CapacityReport) -> String {
    let naive = report.wide.naive_clean;
    let mut table = Table::new(&format!("naive sharing without a miss up to {:.2}", load(naive)));
    table.line(format_args!(
        "lanes slow.max  med | one:worst best each:worst best | certified of naive | miss lost resp/D slow. covered"
    ));
    for (lanes, row) in &report.rows {
        let plain = &row.plain;
        table.line(format_args!(
            "{lanes:>5} {:>8.2} {:>4.2} | {:>9.2} {:>4.2} {:>10.2} {:>4.2} | {:>9.2} {:>8.2} | {:>4} {:>4} {:>6.2} {:>5.2} {:>6.1}%",
            load(plain.slowdown_max),
            load(plain.slowdown_median),
            load(plain.one_worst),
            load(plain.one_best),
            load(plain.each_worst),
            load(plain.each_best),
            load(row.certified),
            row.certified as f64 / naive.max(1) as f64,
            row.served.misses,
            row.served.lost,
            row.served.response,
            load(row.slowdown_served),
            row.served.covered * 100.0
        ));
        if !row.refused.is_empty() {
            table.line(format_args!("      {}", row.refused));
        }
    }
    for point in &report.wide.overload {
        table.line(format_args!(
            "{:>8} at {:.2}: {} of {} missed, {} unfinished, {} refused, response/D {:.2}, slowdown {:.1}",
            point.sharing,
            load(point.load),
            point.outcome.misses,
            point.outcome.jobs,
            point.outcome.unfinished,
            point.outcome.refused,
            load(point.outcome.response_milli),
            load(point.outcome.slowdown_milli)
        ));
    }
    if let Some((lanes, row)) = report.rows.iter().max_by_key(|(_, row)| row.certified) {
        let terms: Vec<String> =
            row.losses.iter().map(|line| format!("{} {:.2}", line.term, load(line.load))).collect();
        table.line(format_args!("{lanes} lanes, terms off one after the other: {}", terms.join("; ")));
    }
    table.line(format_args!("10 lanes on 8 queues: {}", report.refusal));
    table.done()
}

/// The long run.
pub fn soak(report: &SoakReport) -> String {
    let (growth, totals) = (report.growth(), report.served.totals());
    let mut table = Table::new(&format!(
        "soak: {} s at load {:.2}: {} jobs, {} misses, {} lost, covered {:.2} %",
        report.seconds,
        load(report.load),
        totals.jobs,
        totals.misses,
        totals.lost,
        totals.covered * 100.0
    ));
    let device = growth.device_kib.map_or("unknown".to_owned(), |kib| format!("{kib:+} KiB"));
    table.line(format_args!(
        "steady part, {} samples: device memory {device}, resident {:+} KiB, {} heap allocations",
        growth.samples, growth.resident_kib, growth.allocations
    ));
    for sample in report.samples.iter().step_by((report.samples.len() / 16).max(1)) {
        let device = sample.device_kib.map_or("unknown".to_owned(), |kib| format!("{kib:+} KiB"));
        table.line(format_args!(
            "{:>5} s  device {device:>14}  resident {:>9} KiB  allocations {:>8}",
            sample.at_s, sample.resident_kib, sample.allocations
        ));
    }
    table.done()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_table_is_longer_than_a_page() {
        let rows: Vec<DeterminismRow> = (0..60)
            .map(|n| DeterminismRow { kind: format!("kind-{n}"), lanes: 1, ..DeterminismRow::default() })
            .collect();
        let text = determinism(&rows);
        assert_eq!(text.lines().count(), LINES);
        assert!(text.contains("more lines in the file"), "{text}");
        for text in
            [floor(&[]), isolation(&[]), capacity(&CapacityReport::default()), soak(&SoakReport::default())]
        {
            assert!(!text.is_empty() && text.lines().count() <= LINES);
        }
    }
}
