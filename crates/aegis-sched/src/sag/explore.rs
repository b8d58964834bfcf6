//! One core, every schedule: exact best and worst completion of every job.
//!
//! For a state (S, [e, l]) and a job J outside of S whose predecessors are in S (Nasri, Brandenburg, RTSS 2017):
//!
//! ```text
//! EST  = max(e, r_J^min)
//! t_wc = max(l, min over ready x of r_x^max)             by then something certainly starts
//! t_hp = min over ready x before J of r_x^max            from then on something goes first
//! LST  = min(t_wc, t_hp - 1)                             J may be next if EST <= LST
//! child: S + J, [EST + C_J^min, LST + C_J^max]
//! ```
//!
//! States of one set whose intervals overlap or touch are merged: every instant of an interval is attained, and what
//! happens from an instant on depends on the set and on the instant alone. For the same reason an interval that ends
//! before the earliest release of what is left is moved to that release: nothing happens in between.

use super::global::Cores;
use super::idle::{Awaiting, Rule};
use super::job::{JobSet, SagError};
use super::lane::Lane;
use super::report::{Exactness, Options, SagReport};
use super::search::{Halt, Search};
use super::table::Table;
use super::witness::Log;

/// Explores every schedule of a set.
///
/// `keep_going` is asked now and then, and ends the exploration by saying no: this crate has no clock of its own.
/// On one core without delays between jobs the bounds are [exact](Exactness::Exact); with inserted idle time, with
/// delays, with aborts, and on several cores they are safe.
///
/// # Errors
/// [`SagError::Unsupported`] for options that do not go together.
pub fn explore(
    set: &JobSet,
    options: &Options,
    keep_going: &mut dyn FnMut() -> bool,
) -> Result<SagReport, SagError> {
    let alone = options.cores == 1 && !set.has_delays();
    check(options, alone && !set.has_aborts())?;
    let table = Table::of(set);
    let mut search = Search::new(table, options.limits, options.on_miss, keep_going);
    let (end, exactness) = if alone {
        let rule =
            options.idle.map(|rule| Rule::new(rule, Awaiting::LatestRelease, set.jobs(), &search.table));
        let exact = rule.is_none() && !set.has_aborts();
        let exactness = if exact { Exactness::Exact } else { Exactness::Sufficient };
        (explore_lane(&mut search, rule, None).0, exactness)
    } else {
        (explore_cores(&mut search, options.cores as usize), Exactness::Sufficient)
    };
    Ok(search.report(end.err(), set.jobs(), exactness))
}

/// Explores one core, and hands back what was written down.
pub(super) fn explore_lane(
    search: &mut Search<'_>,
    rule: Option<Rule>,
    log: Option<Log>,
) -> (Result<(), Halt>, Option<Log>) {
    let mut lane = match Lane::new(rule, log) {
        Ok(lane) => lane,
        Err(halt) => return (Err(halt), None),
    };
    let end = (0..search.table.len()).try_for_each(|_| lane.step(search));
    (end, lane.log)
}

fn explore_cores(search: &mut Search<'_>, cores: usize) -> Result<(), Halt> {
    let mut cores = Cores::new(cores)?;
    (0..search.table.len()).try_for_each(|_| cores.step(search))
}

/// The most cores under one queue.
const CORES_MAX: u32 = 1024;

fn check(options: &Options, alone: bool) -> Result<(), SagError> {
    if options.cores == 0 || options.cores > CORES_MAX {
        let what = format!("{} cores", options.cores);
        return Err(SagError::Unsupported { what, legal: "1 to 1024" });
    }
    if options.idle.is_some() && !alone {
        let what = "inserted idle time on several cores, with delays between jobs or with aborts".to_owned();
        return Err(SagError::Unsupported { what, legal: "one core, edges without delays, no aborts" });
    }
    Ok(())
}
