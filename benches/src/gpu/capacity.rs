//! Certified capacity: twenty networks, more and more lanes, and what naive sharing of the same arrivals carries.

use std::collections::BTreeMap;

use aegis_sched::{Basis, Overheads, PartitionModel, Platform};
use aegis_types::{Bytes, LaneId, Nanos};
use aegisrt::config::Calibration;
use serde::{Deserialize, Serialize};

use super::bed::Bed;
use super::card::Gpu;
use super::case::{Case, Fit};
use super::certify::{self, Certified, MOST, Outline, RoundRow, STEP, Search};
use super::contention::{Forecast, NONE, improve, relax};
use super::error::ExperimentError;
use super::fleet::{FleetPlan, PartitionPlan, TaskPlan};
use super::jobs::Care;
use super::loss::{self, Lengths, LossLine};
use super::serve::{Contract, ServedTotals, serve};
use super::store::Store;
use super::wide::WideReport;
use super::workload::Specimen;
use crate::sets::SplitMix;

/// Margin of the plain method: a tenth and 20 us.
const PLAIN_MARGIN: (u64, Nanos) = (1_100_000, Nanos::from_micros(20));
/// Assignments that the search tries between two measurements.
const TRIES: u32 = 4_000;

/// Loads of the plain method, in thousandths; zero where nothing is certified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlainRow {
    /// Largest occupancy beside busy lanes over execution alone, of all tasks, in thousandths.
    pub slowdown_max: u64,
    /// Median of the tasks' largest.
    pub slowdown_median: u64,
    /// One slowdown for all, largest utilisation to the emptiest lane.
    pub one_worst: u64,
    /// One slowdown for all, shortest deadline to the fullest lane that holds it.
    pub one_best: u64,
    /// A slowdown for each task, emptiest lane.
    pub each_worst: u64,
    /// A slowdown for each task, fullest lane that holds it.
    pub each_best: u64,
}

/// One number of lanes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CapacityRow {
    /// Lanes.
    pub lanes: u16,
    /// The plain method, on budgets of random assignments.
    pub plain: PlainRow,
    /// Rounds of measuring an assignment in its own company and searching for a better one.
    pub rounds: Vec<RoundRow>,
    /// The highest load that was certified in its own company, in thousandths.
    pub certified: u64,
    /// Its lanes, by task.
    pub assignment: Vec<u16>,
    /// Probability that one occupancy exceeds its budget, in millionths, the largest of all tasks.
    pub exceedance_ppm: u64,
    /// Seconds of the run at that load.
    pub seconds: f64,
    /// What was counted there.
    pub served: ServedTotals,
    /// Broken assumptions there, by kind.
    pub breaches: BTreeMap<String, u64>,
    /// Largest execution there over execution alone, in thousandths.
    pub slowdown_served: u64,
    /// Where capacity goes.
    pub losses: Vec<LossLine>,
    /// Why there is no load.
    pub refused: String,
}

/// Shares, periods and phases of the fleet, drawn before anything is measured in company.
pub fn outline(specimens: &[Specimen], lanes: u16) -> Outline {
    let mut draw = SplitMix(0xCA9_0001);
    let alone: Vec<Nanos> = specimens.iter().map(|specimen| Nanos::new(specimen.alone_ns)).collect();
    // Each task asks for between half and one and a half of an equal share of the device.
    let shares: Vec<u64> = specimens.iter().map(|_| draw.between(500, 1_500)).collect();
    let total: u64 = shares.iter().sum();
    let natural = |(alone, share): (&Nanos, &u64)| Nanos::new(alone.get() * total / share);
    Outline {
        natural: alone.iter().zip(&shares).map(natural).collect(),
        phases: specimens.iter().map(|_| draw.between(0, 999)).collect(),
        lanes: vec![(0..lanes).map(LaneId::new).collect(); specimens.len()],
        alone,
    }
}

/// The fleet's arrivals without budgets: what naive sharing needs.
///
/// # Errors
/// Never in practice: one partition of one lane is a platform.
pub fn arrivals_case(specimens: &[Specimen]) -> Result<Case, ExperimentError> {
    let platform =
        Platform::new(vec![PartitionModel { name: "all".into(), lanes: 1 }], Overheads::default())?;
    let outline = outline(specimens, 1);
    let open = |(n, specimen): (usize, &Specimen)| super::case::Open {
        name: specimen.name.clone(),
        alone: outline.alone[n],
        natural: outline.natural[n],
        deadline_ppm: super::case::WHOLE,
        phase: outline.phases[n],
        budgets: vec![outline.alone[n]],
        lanes: outline.lanes[n].clone(),
        basis: Basis::Declared,
    };
    Ok(Case { platform, tasks: specimens.iter().enumerate().map(open).collect() })
}

/// The fleet on so many lanes of the whole device.
pub fn plan(gpu: &Gpu, specimens: &[Specimen], lanes: u16) -> FleetPlan {
    let task = |specimen: &Specimen| {
        TaskPlan::plain(specimen.name.clone(), specimen.artifact.clone(), Bytes::new(specimen.memory))
    };
    FleetPlan {
        name: format!("capacity-{lanes}"),
        ordinal: gpu.ordinal,
        partitions: PartitionPlan::whole(gpu.sms, lanes),
        tasks: specimens.iter().map(task).collect(),
    }
}

/// The plain method: budgets from random assignments, which hold for any as far as they were tried.
pub fn plain(case: &Case, saturated: &[u64]) -> (PlainRow, Option<Vec<LaneId>>) {
    let (ppm, constant) = PLAIN_MARGIN;
    let budget = |span: Nanos| {
        vec![span.scale_ppm_up(ppm).and_then(|span| span.checked_add(constant)).unwrap_or(Nanos::MAX)]
    };
    let mut slowdowns: Vec<u64> = case
        .tasks
        .iter()
        .zip(saturated)
        .map(|(task, most)| super::pace::milli(Nanos::new(*most), task.alone))
        .collect();
    let each: Vec<Vec<Nanos>> = saturated.iter().map(|most| budget(Nanos::new(*most))).collect();
    let factor = slowdowns.iter().copied().max().unwrap_or(1_000);
    let one: Vec<Vec<Nanos>> = case
        .tasks
        .iter()
        .map(|task| budget(task.alone.scale_ppm_up(factor * 1_000).unwrap_or(Nanos::MAX)))
        .collect();
    slowdowns.sort_unstable();
    let (one, each) = (case.with_budgets(&one), case.with_budgets(&each));
    let load = |case: &Case, fit: &Fit| case.capacity(fit, STEP, MOST).map_or(0, |found| found.load);
    let best = each.capacity(&Fit::Best, STEP, MOST);
    let row = PlainRow {
        slowdown_max: factor,
        slowdown_median: slowdowns.get(slowdowns.len() / 2).copied().unwrap_or(0),
        one_worst: load(&one, &Fit::Worst),
        one_best: load(&one, &Fit::Best),
        each_worst: load(&each, &Fit::Worst),
        each_best: best.as_ref().map_or(0, |found| found.load),
    };
    (row, best.map(|found| found.lanes))
}

/// Better lanes than these, by the table of pairs and what was measured here.
pub fn next_lanes(
    case: &Case,
    report: &WideReport,
    lanes: &[LaneId],
    load: u64,
    seed: u64,
) -> Option<Vec<LaneId>> {
    if case.platform.lanes() < 2 {
        return None;
    }
    let forecast = forecast(case, report, lanes);
    let start = certify::best_fit(case, load).unwrap_or_else(|| lanes.to_vec());
    let found = improve(case, &forecast, &start, TRIES, seed, MOST);
    let stay = improve(case, &forecast, lanes, TRIES, seed + 1, MOST);
    let better = if found.load >= stay.load { found } else { stay };
    // Forecasts err; one that promises a little less than what stands is worth a measurement too.
    (better.load * 100 >= load * 97).then_some(better.lanes)
}

/// Lanes on which bounds at this load are expected to be farther below deadlines than on `lanes`, if there are any.
pub fn calmer_lanes(
    case: &Case,
    report: &WideReport,
    lanes: &[LaneId],
    load: u64,
    seed: u64,
) -> Option<Vec<LaneId>> {
    let found = relax(case, &forecast(case, report, lanes), lanes, TRIES, seed, load).1;
    (found != lanes).then_some(found)
}

/// What is expected of other lanes, by the table of pairs and the budgets that were measured on these.
fn forecast(case: &Case, report: &WideReport, lanes: &[LaneId]) -> Forecast {
    let slowdown = |task: &super::case::Open| {
        let budget: u64 = task.budgets.iter().map(|budget| budget.get()).sum();
        super::pace::milli(Nanos::new(budget), task.alone).saturating_mul(1_000).max(NONE)
    };
    let measured: Vec<u64> = case.tasks.iter().map(slowdown).collect();
    Forecast::new(report.pairs(), &measured, lanes, case.platform.lanes())
}

/// How much time and care one number of lanes gets.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// How carefully budgets are measured.
    pub care: Care,
    /// Seconds of the run at the certified load.
    pub run: u64,
}

/// Certifies and serves the fleet on so many lanes. A device that has not enough queues for them says so in the row.
///
/// # Errors
/// What device, memory or a model refuses otherwise.
pub fn measure(
    gpu: &Gpu,
    store: &Store,
    specimens: &[Specimen],
    report: &WideReport,
    lanes: u16,
    effort: Effort,
) -> Result<CapacityRow, ExperimentError> {
    let label = format!("capacity-{lanes}");
    let mut bed = Bed::open(gpu, store, &plan(gpu, specimens, lanes))?;
    let calibration = bed.calibrate(store, &label, 4)?;
    let outline = outline(specimens, lanes);
    let mut case = arrivals_case(specimens)?;
    case.platform = calibration.platform(bed.system().fleet().partition_models())?;
    case.tasks.iter_mut().zip(&outline.lanes).for_each(|(task, lanes)| task.lanes.clone_from(lanes));
    let saturated = report.saturated.get(&lanes).cloned().unwrap_or_default();
    let (plain, start) = plain(&case, &saturated);
    let mut row = CapacityRow { lanes, plain, ..CapacityRow::default() };
    let start = start.unwrap_or_else(|| certify::first_lanes(&outline));
    let options = certify::campaign(specimens.len(), effort.care.campaign, effort.care.margin_ppm, 3);
    let search = Search {
        store,
        label: &label,
        calibration: &calibration,
        outline: &outline,
        options,
        rounds: effort.care.rounds,
    };
    let mut seed = 1;
    let found = search.run(&mut bed, &start, |case, lanes, load| {
        seed += 2;
        next_lanes(case, report, lanes, load, seed)
    });
    match found {
        Ok((certified, rounds)) => {
            row.rounds = rounds;
            serve_row(&bed, &calibration, &certified, effort.run, &mut row)?;
        }
        Err(ExperimentError::Illegal { what, .. }) => row.refused = what,
        Err(error) => return Err(error),
    }
    bed.close();
    Ok(row)
}

fn serve_row(
    bed: &Bed,
    calibration: &Calibration,
    certified: &Certified,
    seconds: u64,
    row: &mut CapacityRow,
) -> Result<(), ExperimentError> {
    let Certified { case, fitted, profile } = certified;
    let set = case.set(fitted.load, &fitted.lanes)?;
    let contract = Contract { set: &set, calibration, profile: Some(profile) };
    let served = serve(bed, &contract, Nanos::from_millis(seconds * 1_000))?;
    row.certified = fitted.load;
    row.assignment = fitted.lanes.iter().map(|lane| lane.get()).collect();
    row.exceedance_ppm = super::jobs::exceedance(profile);
    row.seconds = served.seconds;
    row.served = served.totals();
    let execution = |task: &super::serve::ServedTask| Nanos::new(task.execution_max_ns);
    let slowdowns = served
        .tasks
        .iter()
        .zip(&case.tasks)
        .map(|(task, open)| super::pace::milli(execution(task), open.alone));
    row.slowdown_served = slowdowns.max().unwrap_or(0);
    let marks = profile
        .tasks
        .iter()
        .map(|task| Nanos::new(task.segments.iter().map(|segment| segment.high_water.get()).sum()));
    let lengths = Lengths {
        certified: case.tasks.iter().map(|task| task.budgets.clone()).collect(),
        saturated: marks.collect(),
        served: served
            .tasks
            .iter()
            .zip(&case.tasks)
            .map(|(task, open)| execution(task).max(open.alone))
            .collect(),
    };
    row.losses = loss::lines(case, &fitted.lanes, &lengths, MOST);
    row.breaches = served.breaches;
    Ok(())
}

/// What the runtime says to so many lanes on a device with so many hardware queues.
///
/// # Errors
/// [`ExperimentError::Illegal`] if it says nothing against it.
pub fn refusal(
    gpu: &Gpu,
    store: &Store,
    specimens: &[Specimen],
    lanes: u16,
    queues: u32,
) -> Result<String, ExperimentError> {
    match Bed::open(&gpu.with_queues(queues), store, &plan(gpu, specimens, lanes)) {
        Err(error) => Ok(error.to_string()),
        Ok(bed) => {
            bed.close();
            Err(ExperimentError::Illegal {
                what: format!("{lanes} lanes were accepted on {queues} hardware queues"),
                legal: "a refusal".into(),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::card::tests::imagined;
    use super::super::case::tests::case;
    use super::*;

    fn specimens() -> Vec<Specimen> {
        let specimen = |n: u64| Specimen {
            name: format!("net-{n:02}"),
            artifact: "kernel 1\nsegment\nstorm 1\nend\n".to_owned().into(),
            memory: 1 << 20,
            alone_ns: 300_000 + 80_000 * n,
        };
        (0..20).map(specimen).collect()
    }

    #[test]
    fn the_fleet_has_a_load_of_one_at_its_natural_periods() {
        let case = arrivals_case(&specimens()).expect("a case");
        assert!(case.natural_load().abs_diff(1_000) <= 1, "{}", case.natural_load());
        let of = |lanes| outline(&specimens(), lanes);
        assert_eq!((of(2).natural, of(2).phases), (of(8).natural, of(8).phases), "lanes change no arrival");
        plan(&imagined(), &specimens(), 8).check().expect("a legal fleet");
    }

    #[test]
    fn one_factor_never_certifies_more_than_a_factor_for_each() {
        let case = case(16, 4);
        // Every second task is slowed down three times as much.
        let saturated: Vec<u64> = case
            .tasks
            .iter()
            .enumerate()
            .map(|(n, task)| task.alone.get() * if n % 2 == 0 { 3 } else { 1 } + 1_000)
            .collect();
        let (row, lanes) = plain(&case, &saturated);
        assert!(row.each_best >= row.one_best && row.each_worst >= row.one_worst, "{row:?}");
        assert!(row.each_best > row.one_best + 200, "the difference is large here: {row:?}");
        assert_eq!(lanes.map(|lanes| lanes.len()), Some(16));
        assert!(row.slowdown_max >= 3_000 && row.slowdown_max < 3_100, "{row:?}");
    }

    #[test]
    fn better_lanes_are_looked_for_and_one_lane_has_no_others() {
        let tasks = 8;
        let wide = |report: Vec<Vec<u64>>| WideReport { pairs_milli: report, ..WideReport::default() };
        let mut table = vec![vec![1_000; tasks]; tasks];
        for (victim, row) in table.iter_mut().enumerate() {
            for (other, milli) in row.iter_mut().enumerate() {
                *milli = if victim % 2 == other % 2 { 2_500 } else { 1_000 };
            }
        }
        let two = case(tasks as u64, 2);
        let lanes: Vec<LaneId> = (0..tasks as u16).map(|n| LaneId::new(n / 4)).collect();
        let next = next_lanes(&two, &wide(table.clone()), &lanes, 100, 3).expect("others");
        assert!((0..tasks).all(|task| next[task] == next[task % 2]), "by parity: {next:?}");
        assert_eq!(next_lanes(&case(8, 1), &wide(table), &[LaneId::default(); 8], 100, 3), None);
    }
}
