//! `aegis-capacity`: what synthetic fleets can be promised, by number of lanes and method. Needs no device.
#![forbid(unsafe_code)]

use aegis_benches::capacity::price::searches;
use aegis_benches::capacity::table::{HEAD, Plan, lines};
use aegis_sched::assign::Effort;
use clap::Parser;

/// Certified capacity of synthetic fleets: mean, quartiles and extremes of execution alone over period.
#[derive(Debug, Parser)]
#[command(name = "aegis-capacity")]
struct Arguments {
    /// Seed of the first fleet; the others follow.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many fleets.
    #[arg(long, default_value_t = 100)]
    fleets: u64,
    /// Numbers of lanes: 2, 4, 6 or 8.
    #[arg(long, value_delimiter = ',', default_values_t = [2, 4, 6, 8])]
    lanes: Vec<u16>,
    /// Tasks looked at in one search.
    #[arg(long, default_value_t = Effort::default().steps)]
    steps: u64,
}

fn main() {
    let Arguments { seed, fleets, lanes, steps } = Arguments::parse();
    let effort = Effort { seed: 1, steps };
    let plan = Plan { seed, fleets, lanes, effort };
    println!("{} fleets from seed {}, {} steps a search", plan.fleets, plan.seed, steps);
    println!("{HEAD}");
    for &lanes in &plan.lanes {
        let found = lines(&plan, lanes);
        if found.is_empty() {
            println!("| {lanes} | not known; 2, 4, 6 and 8 are |");
        }
        for line in found {
            println!("{line}");
        }
    }
    println!("CPU time of one search, admission included:");
    for series in searches(seed, fleets, effort) {
        println!("{series}");
    }
}
