//! From models to a certified load: lanes, a campaign in exactly that company, admission, and again until it stays.

use std::collections::BTreeSet;

use aegis_sched::{Basis, TaskSet};
use aegis_types::{LaneId, Nanos};
use aegisrt::config::profile::Level;
use aegisrt::config::{Calibration, Profile};
use aegisrt::profile::{ProfileOptions, Stage, WcetProfiler};
use serde::{Deserialize, Serialize};

use super::bed::Bed;
use super::case::{Case, Fit, Fitted, Open, WHOLE, is_certified};
use super::error::ExperimentError;
use super::store::Store;

/// Step of certified loads, in thousandths.
pub const STEP: u64 = 10;
/// Highest load that is tried, in thousandths.
pub const MOST: u64 = 12_000;

/// What is fixed of a fleet before anything is measured in company.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outline {
    /// Execution alone, by task.
    pub alone: Vec<Nanos>,
    /// Natural periods, by task.
    pub natural: Vec<Nanos>,
    /// First releases in thousandths of the period, by task.
    pub phases: Vec<u64>,
    /// Lanes that each task may use.
    pub lanes: Vec<Vec<LaneId>>,
}

/// A load that was certified for the company in which its budgets were measured.
#[derive(Clone, Debug)]
pub struct Certified {
    /// The tasks with these budgets.
    pub case: Case,
    /// Load and lanes.
    pub fitted: Fitted,
    /// What the campaign measured.
    pub profile: Profile,
}

/// What one round of measuring and certifying came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoundRow {
    /// Certified load in thousandths; zero if nothing was.
    pub load: u64,
    /// Largest budget over execution alone, in thousandths.
    pub slowdown_max: u64,
    /// Median of them.
    pub slowdown_median: u64,
    /// Lanes of the round, by task.
    pub lanes: Vec<u16>,
}

impl Outline {
    /// The tasks with the platform and budgets of a prepared set.
    pub fn case(&self, set: &TaskSet) -> Case {
        let open = |(position, task): (usize, &aegis_sched::Task)| Open {
            name: task.name.clone(),
            alone: self.alone[position],
            natural: self.natural[position],
            deadline_ppm: WHOLE,
            phase: self.phases[position],
            budgets: task.segments.iter().map(|segment| segment.bound).collect(),
            lanes: self.lanes[position].clone(),
            basis: task.segments.first().map_or(Basis::Declared, |segment| segment.basis.clone()),
        };
        Case { platform: set.platform().clone(), tasks: set.tasks().iter().enumerate().map(open).collect() }
    }
}

/// A short campaign: a development campaign of `seconds` for the whole fleet. Few strata, so that each is confirmed by
/// as many samples as a claim needs, and short pauses, so that the time is spent on samples.
pub fn campaign(tasks: usize, seconds: f64, margin_ppm: u64, strata_max: usize) -> ProfileOptions {
    let each = seconds / tasks.max(1) as f64;
    ProfileOptions {
        time_per_task: Nanos::new((each * 1e9) as u64),
        samples: 300,
        probe: 16,
        strata_max,
        restarts: 1,
        passes: 2,
        pause_max: Nanos::from_micros(200),
        margin_ppm,
        ..ProfileOptions::default()
    }
}

/// Measures budgets in the company of the lanes that the bed's tasks stand on.
///
/// # Errors
/// What device, memory or a model refuses; a campaign that is not complete.
pub fn profile(
    bed: &Bed,
    store: &Store,
    label: &str,
    calibration: &Calibration,
    options: ProfileOptions,
) -> Result<Profile, ExperimentError> {
    let profiler = WcetProfiler::new(bed.system(), calibration, options);
    let state = profiler.run(profiler.blank(), Stage::All, None, |_| {}, |_| Ok(()))?;
    let path = store.path(&format!("{label}-profile"));
    let profile = profiler.profile(&state, &path, Level::Fleet)?;
    profile.save(&path)?;
    Ok(profile)
}

/// A certification: what is measured, where, and how the search for lanes goes on.
pub struct Search<'a> {
    /// Where results are kept.
    pub store: &'a Store,
    /// What the files of this search are called.
    pub label: &'a str,
    /// What the machine costs.
    pub calibration: &'a Calibration,
    /// What is fixed of the fleet.
    pub outline: &'a Outline,
    /// How budgets are measured.
    pub options: ProfileOptions,
    /// Rounds at most.
    pub rounds: usize,
}

impl Search<'_> {
    /// Rounds of: measure in this company, certify in it, ask `next` for lanes that may carry more than this load with
    /// budgets like these. Ends when `next` knows none, and returns the best that was certified in its own company; the
    /// bed's tasks stand on its lanes then. Rounds are kept: a search that was cut off, or is to go further, begins with the best lanes
    /// that it knows, whose budgets it measures again.
    ///
    /// # Errors
    /// As [`profile`]; [`ExperimentError::Illegal`] if no load at all was certified.
    pub fn run(
        &self,
        bed: &mut Bed,
        start: &[LaneId],
        mut next: impl FnMut(&Case, &[LaneId], u64) -> Option<Vec<LaneId>>,
    ) -> Result<(Certified, Vec<RoundRow>), ExperimentError> {
        let mut best: Option<Certified> = None;
        let kept = format!("{}-rounds", self.label);
        let mut rows: Vec<RoundRow> = self.store.load(&kept).unwrap_or_default();
        let (mut lanes, mut tried) = known(&rows, start);
        for round in (rows.len()..).take(self.rounds.max(1)) {
            self.store.tell(&format!("{}: round {round}, measuring budgets", self.label));
            bed.assign(&lanes);
            tried.push(lanes.clone());
            let (case, profile) = self.measured(bed)?;
            let fitted = case.capacity(&Fit::Fixed(lanes.clone()), STEP, MOST);
            rows.push(round_row(&case, fitted.as_ref(), &lanes));
            self.store.save(&kept, &rows)?;
            let load = fitted.as_ref().map_or(0, |fitted| fitted.load);
            self.store.tell(&format!("{}: round {round} certifies {:.2}", self.label, load as f64 / 1e3));
            if let Some(fitted) = fitted
                && best.as_ref().is_none_or(|best| best.fitted.load < fitted.load)
            {
                best = Some(Certified { case: case.clone(), fitted, profile });
            }
            match next(&case, &lanes, load).filter(|lanes| !tried.contains(lanes)) {
                Some(others) => lanes = others,
                None => break,
            }
        }
        let best = best.ok_or_else(|| ExperimentError::Illegal {
            what: format!("{}: no load is certified on any lanes that were tried", self.label),
            legal: "shorter budgets or longer deadlines".into(),
        })?;
        bed.assign(&best.fitted.lanes);
        best.profile.save(&self.store.path(&format!("{}-profile", self.label)))?;
        Ok((best, rows))
    }

    /// The fleet with budgets measured in the company of the lanes that the bed's tasks stand on.
    fn measured(&self, bed: &Bed) -> Result<(Case, Profile), ExperimentError> {
        let label = format!("{}-round", self.label);
        let profile = profile(bed, self.store, &label, self.calibration, self.options)?;
        let prepared = bed.system().prepare(Some(&profile), self.calibration)?;
        Ok((self.outline.case(&prepared.set), profile))
    }

    /// Measures these lanes for one load, which `known` certifies on its own: whichever has its bounds farther below the
    /// deadlines there.
    ///
    /// # Errors
    /// As [`profile`].
    pub fn calmer(
        &self,
        bed: &mut Bed,
        known: &Certified,
        load: u64,
        lanes: Vec<LaneId>,
    ) -> Result<Certified, ExperimentError> {
        self.store.tell(&format!(
            "{}: other lanes for {:.2}, measuring budgets",
            self.label,
            load as f64 / 1e3
        ));
        bed.assign(&lanes);
        let (case, profile) = self.measured(bed)?;
        let found = Certified { case, fitted: Fitted { load, lanes }, profile };
        let certified = found.case.set(load, &found.fitted.lanes).is_ok_and(|set| is_certified(&set));
        let slacks = [known, &found].map(|of| of.case.quick_slack(&of.fitted.lanes, load));
        let told = slacks.map(|slack| format!("{:.3}", 1.0 - slack as f64 / 1e6)).join(", then ");
        self.store.tell(&format!("{}: worst bound / D at {:.2}: {told}", self.label, load as f64 / 1e3));
        Ok(if certified && slacks[1] > slacks[0] { found } else { known.clone() })
    }
}

/// The lanes of the best round that was run for as many tasks, or `start`; and those of all others.
fn known(rows: &[RoundRow], start: &[LaneId]) -> (Vec<LaneId>, Vec<Vec<LaneId>>) {
    let lanes = |row: &RoundRow| row.lanes.iter().copied().map(LaneId::new).collect::<Vec<_>>();
    let fitting = || rows.iter().filter(|row| row.lanes.len() == start.len());
    let best = fitting().filter(|row| row.load > 0).max_by_key(|row| row.load).map(lanes);
    let best = best.unwrap_or_else(|| start.to_vec());
    let others = fitting().map(lanes).filter(|lanes| *lanes != best).collect();
    (best, others)
}

/// Lanes that best fit finds for more than `load` with the budgets of this company, which certify nothing there.
pub fn best_fit(case: &Case, load: u64) -> Option<Vec<LaneId>> {
    case.capacity(&Fit::Best, STEP, MOST).filter(|found| found.load > load).map(|found| found.lanes)
}

/// What a round came to.
pub fn round_row(case: &Case, fitted: Option<&Fitted>, lanes: &[LaneId]) -> RoundRow {
    let mut slowdowns: Vec<u64> = case
        .tasks
        .iter()
        .map(|task| {
            let budget: u64 = task.budgets.iter().map(|budget| budget.get()).sum();
            super::pace::milli(Nanos::new(budget), task.alone)
        })
        .collect();
    slowdowns.sort_unstable();
    RoundRow {
        load: fitted.map_or(0, |fitted| fitted.load),
        slowdown_max: slowdowns.last().copied().unwrap_or(0),
        slowdown_median: slowdowns.get(slowdowns.len() / 2).copied().unwrap_or(0),
        lanes: lanes.iter().map(|lane| lane.get()).collect(),
    }
}

/// Lanes to begin with: tasks of similar periods together, and each lane with about the same load. Tasks that may use
/// the same lanes are cut, in the order of their periods, into as many parts as there are lanes.
pub fn first_lanes(outline: &Outline) -> Vec<LaneId> {
    let load = |task: usize| outline.alone[task].get() as f64 / outline.natural[task].get().max(1) as f64;
    let mut order: Vec<usize> = (0..outline.alone.len()).collect();
    order.sort_by_key(|&task| (outline.natural[task], task));
    let mut lanes = vec![LaneId::default(); outline.alone.len()];
    for allowed in outline.lanes.iter().collect::<BTreeSet<_>>() {
        let group = || order.iter().copied().filter(|&task| outline.lanes[task] == *allowed);
        let total: f64 = group().map(load).sum();
        let mut before = 0.0;
        for task in group() {
            // The part that holds the middle of the task's load.
            let part = ((before + load(task) / 2.0) / total * allowed.len() as f64) as usize;
            lanes[task] = allowed.get(part).or(allowed.last()).copied().unwrap_or_default();
            before += load(task);
        }
    }
    lanes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outline(tasks: usize, lanes: u16) -> Outline {
        let us = |n: u64| Nanos::from_micros(n);
        Outline {
            alone: (0..tasks as u64).map(|n| us(100 + 7 * n)).collect(),
            natural: (0..tasks as u64).map(|n| us(2_000 + 331 * (n % 5))).collect(),
            phases: vec![0; tasks],
            lanes: vec![(0..lanes).map(LaneId::new).collect(); tasks],
        }
    }

    #[test]
    fn first_lanes_are_about_equally_loaded_and_sorted_by_period() {
        let outline = outline(20, 4);
        let lanes = first_lanes(&outline);
        let load = |lane: u16| -> f64 {
            let own = (0..20).filter(|&task| lanes[task] == LaneId::new(lane));
            own.map(|task| outline.alone[task].get() as f64 / outline.natural[task].get() as f64).sum()
        };
        let loads: Vec<f64> = (0..4).map(load).collect();
        let (low, high) =
            (loads.iter().copied().fold(f64::MAX, f64::min), loads.iter().copied().fold(0.0, f64::max));
        assert!(high < 1.7 * low, "{loads:?}");
        let longest =
            |lane: u16| (0..20).filter(|&t| lanes[t] == LaneId::new(lane)).map(|t| outline.natural[t]).max();
        let shortest =
            |lane: u16| (0..20).filter(|&t| lanes[t] == LaneId::new(lane)).map(|t| outline.natural[t]).min();
        assert!((0..3).all(|lane| longest(lane) <= shortest(lane + 1)), "similar periods together");
    }

    #[test]
    fn a_search_goes_on_with_the_best_lanes_that_it_knows() {
        let lanes = |numbers: [u16; 2]| numbers.map(LaneId::new).to_vec();
        let row = |load, numbers: &[u16]| RoundRow { load, lanes: numbers.to_vec(), ..RoundRow::default() };
        let start = lanes([0, 0]);
        assert_eq!(known(&[], &start), (start.clone(), vec![]));
        assert_eq!(known(&[row(0, &[0, 1])], &start), (start.clone(), vec![lanes([0, 1])]));
        let rows = [row(900, &[0, 1]), row(1_200, &[1, 0]), row(1_100, &[1, 1]), row(2_000, &[0, 1, 2])];
        assert_eq!(known(&rows, &start), (lanes([1, 0]), vec![lanes([0, 1]), lanes([1, 1])]));
    }

    #[test]
    fn tasks_that_may_use_one_lane_only_stand_there() {
        let mut outline = outline(6, 3);
        outline.lanes[2] = vec![LaneId::new(2)];
        assert_eq!(first_lanes(&outline)[2], LaneId::new(2));
    }
}
