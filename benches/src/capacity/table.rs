//! Capacities over many fleets: one line for each number of lanes and method.

use std::fmt;

use aegis_sched::assign::Effort;

use super::method::{Bench, Method};
use super::synthetic::{Fleet, SLOWDOWNS};

/// What is measured.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Seed of the first fleet; the others follow.
    pub seed: u64,
    /// How many fleets.
    pub fleets: u64,
    /// Numbers of lanes, out of those that [`SLOWDOWNS`] knows.
    pub lanes: Vec<u16>,
    /// How hard searches try.
    pub effort: Effort,
}

/// Loads of one method on one number of lanes, in thousandths.
#[derive(Clone, Debug)]
pub struct Line {
    /// Lanes.
    pub lanes: u16,
    /// The method.
    pub method: Method,
    /// By fleet.
    pub loads: Vec<u64>,
}

impl Line {
    /// The load that so many hundredths of the fleets do not exceed.
    pub fn percentile(&self, hundredths: usize) -> u64 {
        let mut loads = self.loads.clone();
        loads.sort_unstable();
        let last = loads.len().saturating_sub(1);
        loads.get((last * hundredths).div_ceil(100)).copied().unwrap_or(0)
    }

    /// The mean load, rounded down.
    pub fn mean(&self) -> u64 {
        self.loads.iter().sum::<u64>() / (self.loads.len() as u64).max(1)
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let two = |milli: u64| format!("{}.{:02}", milli / 1_000, milli % 1_000 / 10);
        write!(f, "| {} | {} | {} |", self.lanes, self.method.name(), two(self.mean()))?;
        for hundredths in [0, 25, 50, 75, 100] {
            write!(f, " {} |", two(self.percentile(hundredths)))?;
        }
        Ok(())
    }
}

/// The head of the lines.
pub const HEAD: &str = "| lanes | method | mean | least | quartile | median | quartile | most |\n|--:|---|--:|--:|--:|--:|--:|--:|";

/// Every method on one number of lanes, fleet by fleet.
pub fn lines(plan: &Plan, lanes: u16) -> Vec<Line> {
    let Some(&(_, most)) = SLOWDOWNS.iter().find(|(known, _)| *known == lanes) else { return Vec::new() };
    let mut lines: Vec<Line> =
        Method::ALL.into_iter().map(|method| Line { lanes, method, loads: Vec::new() }).collect();
    for seed in plan.seed..plan.seed.saturating_add(plan.fleets) {
        let fleet = Fleet::draw(seed);
        let bench = Bench::new(&fleet, lanes, most, plan.effort);
        let mut known = 0;
        for line in &mut lines {
            let load = bench.capacity(line.method, known);
            if matches!(line.method, Method::EachBest | Method::EachRepair) {
                known = load;
            }
            line.loads.push(load);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_its_loads_are() {
        let loads = vec![2_500, 1_000, 4_999, 2_000, 3_000];
        let line = Line { lanes: 8, method: Method::EachBest, loads };
        assert_eq!(line.to_string(), "| 8 | per task, best fit | 2.69 | 1.00 | 2.00 | 2.50 | 3.00 | 4.99 |");
    }

    #[test]
    fn every_method_has_a_load_for_every_fleet_and_unknown_lanes_have_no_line() {
        let plan = Plan { seed: 5, fleets: 1, lanes: vec![2], effort: Effort { seed: 1, steps: 5_000 } };
        let found = lines(&plan, 2);
        assert_eq!(found.len(), Method::ALL.len());
        assert!(
            found.iter().all(|line| line.loads.len() == 1 && (800..2_000).contains(&line.loads[0])),
            "{found:?}"
        );
        assert!(lines(&plan, 3).is_empty());
    }
}
