//! What one search costs, where it is easy and where it ends with what it has.

use std::time::Duration;

use aegis_sched::assign::Effort;
use aegis_types::Nanos;
use rustix::time::{ClockId, clock_gettime};

use super::method::{Bench, Method};
use super::synthetic::{Fleet, SLOWDOWNS};
use crate::percentile::Series;

/// What a search of thirty tasks may take.
const LIMIT: Nanos = Nanos::from_millis(100);

/// Loads in hundredths of what full lanes carry: below, about at, and beyond what can be placed.
const LOADS: [u64; 4] = [90, 96, 99, 105];

/// CPU time of this process: the machine may have other work.
fn cpu() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    let part = |value: i64| u64::try_from(value).unwrap_or(0);
    Duration::from_secs(part(now.tv_sec)) + Duration::from_nanos(part(now.tv_nsec))
}

/// CPU time of searches over so many fleets on eight lanes, admission included, with and without a table of company.
pub fn searches(seed: u64, fleets: u64, effort: Effort) -> Vec<Series> {
    let [.., (lanes, most)] = SLOWDOWNS;
    [
        (Method::EachRepair, "search, 30 tasks to 8 lanes"),
        (Method::Company, "search by company, 30 tasks to 8 lanes"),
    ]
    .into_iter()
    .map(|(method, name)| {
        let mut series = Series::new(name).limited(LIMIT);
        for seed in seed..seed.saturating_add(fleets) {
            let fleet = Fleet::draw(seed);
            let bench = Bench::new(&fleet, lanes, most, effort);
            let limit = bench.capacity(Method::Limit, 0);
            for load in LOADS {
                let start = cpu();
                std::hint::black_box(bench.passes(method, limit * load / 100));
                series.record(cpu().saturating_sub(start));
            }
        }
        series
    })
    .collect()
}
