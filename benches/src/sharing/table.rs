//! The tables, as they stand in the documents.

use std::fmt::Write as _;

use aegis_memory::{LaneCount, lane_counts};
use aegis_types::Bytes;

use super::{Alone, Apart, Bed, Taken, Together, Untouched};

/// MiB with three decimals: bytes are exact, and a table of them is not read.
fn mib(bytes: u64) -> String {
    format!("{:.3}", bytes as f64 / f64::from(1 << 20))
}

fn percent(part: u64, whole: u64) -> String {
    format!("{:.1}%", part as f64 * 100.0 / whole.max(1) as f64)
}

pub(super) fn text(alone: &Alone, runs: &[Together], bed: &Bed) -> String {
    let mut text = String::from("| model | persistent | I/O and state | scratch |\n|---|--:|--:|--:|\n");
    let mut total = [0; 3];
    for (model, needs) in bed.models().iter().zip(&alone.needs) {
        let parts = [needs.persistent, needs.exchange, needs.scratch].map(Bytes::get);
        (0..3).for_each(|at| total[at] += parts[at]);
        // Writing into a text cannot fail.
        let _ = writeln!(text, "{}", row(&model.config.name, parts.map(mib)));
    }
    let _ = writeln!(text, "{}\n", row("all, each alone", total.map(mib)));
    text.push_str(
        "| lanes | scratch, private | scratch, shared | saved | best and worst spread | without weights, saved | \
         plan | measured | equal |\n|--:|--:|--:|--:|--:|--:|--:|--:|---|\n",
    );
    for run in runs {
        let _ = writeln!(text, "{}", lanes(alone, run));
    }
    text.push_str("\n| lanes | jobs | left scratch dirty | wrong outputs | blocks charged to nobody |\n|--:|--:|--:|--:|--:|\n");
    for run in runs {
        let Together { lanes, jobs, dirtied, wrong, uncharged, .. } = run;
        let _ = writeln!(text, "| {lanes} | {jobs} | {dirtied} | {} | {uncharged} |", wrong.len());
    }
    text
}

/// What the library takes by itself, beside what the plans give.
pub(super) fn beside(untouched: &Untouched, alone: &Alone, runs: &[Together], bed: &Bed) -> String {
    let mut text = String::from(
        "\n| model | library by itself | scratch, I/O and state of ours, alone |\n|---|--:|--:|\n",
    );
    let mut own = 0;
    for ((model, growth), needs) in bed.models().iter().zip(&untouched.growth).zip(&alone.needs) {
        let ours = needs.scratch.get() + needs.exchange.get();
        own += ours;
        // Writing into a text cannot fail.
        let _ = writeln!(text, "| {} | {} | {} |", model.config.name, mib(growth.get()), mib(ours));
    }
    let total = untouched.total().get();
    let _ = writeln!(text, "| all | {} | {} |", mib(total), mib(own));
    let _ = writeln!(
        text,
        "\nin use before loading {}, when all were loaded {}\n",
        mib(untouched.before.get()),
        mib(untouched.loaded.get())
    );
    text.push_str("| lanes | library by itself | ours from one plan | saved |\n|--:|--:|--:|--:|\n");
    for run in runs {
        let ours = run.without_weights().get();
        let saved = percent(total.saturating_sub(ours), total);
        let _ = writeln!(text, "| {} | {} | {} | {saved} |", run.lanes, mib(total), mib(ours));
    }
    text
}

/// What the system says of the memory in use, beside what is reserved: the rest is code, handles and workspaces of the
/// libraries, which no plan reaches.
pub(super) fn system(untouched: &Untouched, apart: &Apart, runs: &[Together]) -> String {
    let mut text = String::from(
        "\n| models | reserved | in use, loaded | in use, jobs ran | beside the reservation | in use, of private \
         contexts |\n|---|--:|--:|--:|--:|--:|\n",
    );
    let loaded = untouched.loaded.get().saturating_sub(untouched.before.get());
    let plain = Taken {
        loaded: Bytes::new(loaded),
        ran: Bytes::new(loaded + untouched.total().get()),
        reserved: Bytes::ZERO,
    };
    let shared = runs.iter().map(|run| (format!("ours, one plan, {} lanes", run.lanes), run.taken));
    let first = [("the library by itself".to_owned(), plain), ("ours, private".to_owned(), apart.taken)];
    for (name, taken) in first.into_iter().chain(shared) {
        let Taken { loaded, ran, reserved } = taken;
        // Writing into a text cannot fail.
        let _ = writeln!(
            text,
            "| {name} | {} | {} | {} | {} | {} |",
            mib(reserved.get()),
            mib(loaded.get()),
            mib(ran.get()),
            mib(ran.get().saturating_sub(reserved.get())),
            percent(ran.get(), apart.taken.ran.get()),
        );
    }
    let _ = writeln!(text, "\nwrong outputs with private contexts: {}", apart.wrong);
    text
}

fn row(name: &str, [persistent, exchange, scratch]: [String; 3]) -> String {
    format!("| {name} | {persistent} | {exchange} | {scratch} |")
}

fn lanes(alone: &Alone, run: &Together) -> String {
    let sum = |part: fn(&aegis_memory::TaskShare) -> Bytes| -> u64 {
        run.plan.tasks().iter().map(|share| part(share).get()).sum()
    };
    let (private, exchange) = (sum(|share| share.shared), sum(|share| share.exchange.len));
    let shared: u64 = run.plan.lanes().iter().map(|lane| lane.extent.len.get()).sum();
    let needs: Vec<Bytes> = alone.needs.iter().map(|needs| needs.scratch).collect();
    let counts = lane_counts(&needs, run.lanes.into());
    let spread = counts.last().map_or_else(String::new, |LaneCount { least, most, .. }| {
        format!("{} to {}", mib(least.get()), mib(most.get()))
    });
    format!(
        "| {} | {} | {} | {} | {spread} | {} | {} | {} | {} |",
        run.lanes,
        mib(private),
        mib(shared),
        percent(private - shared, private),
        percent(private - shared, private + exchange),
        mib(run.plan.peak().get()),
        mib(run.measured().get()),
        if run.equals_plan() { "yes" } else { "no" },
    )
}
