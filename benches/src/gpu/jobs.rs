//! Thirty short tasks at the highest load that is certified, served until a million jobs are through.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use aegis_types::{Bytes, LaneId, Nanos};
use aegisrt::config::{Calibration, Profile};
use serde::{Deserialize, Serialize};

use super::anatomy::{BoundRow, anatomy};
use super::bed::Bed;
use super::card::Gpu;
use super::case::{Case, Fit, Fitted, Open};
use super::certify::{self, Certified, Outline, RoundRow};
use super::error::ExperimentError;
use super::fleet::{FleetPlan, PartitionPlan, TaskPlan};
use super::ranks::{balanced, ranked};
use super::serve::{Contract, Served, serve};
use super::store::{Allowance, Store};
use super::workload::Specimen;

/// How the device is divided for the jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Division {
    /// One partition of all multiprocessors with so many lanes.
    Lanes(u16),
    /// One of 64 multiprocessors and one of the rest, three lanes each.
    TwoPartitions,
}

impl Division {
    /// Every division that is measured.
    pub const ALL: [Self; 4] = [Self::Lanes(1), Self::Lanes(4), Self::Lanes(8), Self::TwoPartitions];

    /// What it is called.
    pub fn name(self) -> String {
        match self {
            Self::Lanes(lanes) => format!("{lanes}-lanes"),
            Self::TwoPartitions => "2-partitions".to_owned(),
        }
    }

    /// The partitions of it.
    pub fn partitions(self, sms: u32) -> Vec<PartitionPlan> {
        match self {
            Self::Lanes(lanes) => PartitionPlan::whole(sms, lanes),
            Self::TwoPartitions => vec![
                PartitionPlan { name: "left".into(), sms: 64, lanes: 3 },
                PartitionPlan { name: "right".into(), sms: sms.saturating_sub(64).max(1), lanes: 3 },
            ],
        }
    }

    /// The partition of a task: every second one is in the second.
    const fn partition_of(self, task: usize) -> usize {
        match self {
            Self::Lanes(_) => 0,
            Self::TwoPartitions => task % 2,
        }
    }

    /// Lanes that a task may use.
    fn lanes_of(self, task: usize) -> Vec<LaneId> {
        match self {
            Self::Lanes(lanes) => (0..lanes).map(LaneId::new).collect(),
            Self::TwoPartitions if task.is_multiple_of(2) => (0..3).map(LaneId::new).collect(),
            Self::TwoPartitions => (3..6).map(LaneId::new).collect(),
        }
    }

    /// Lanes of all partitions.
    pub const fn count(self) -> usize {
        match self {
            Self::Lanes(lanes) => lanes as usize,
            Self::TwoPartitions => 6,
        }
    }
}

/// One division: what was certified, and what was served of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct JobsRow {
    /// The division's name.
    pub division: String,
    /// Multiprocessors of each partition, as made.
    pub sms: Vec<u32>,
    /// Certified load, execution alone over period, in thousandths.
    pub load: u64,
    /// Rounds of measuring and certifying.
    pub rounds: Vec<RoundRow>,
    /// Lanes of the tasks.
    pub lanes: Vec<u16>,
    /// Probability that one occupancy exceeds its budget, in millionths, the largest of all tasks, with 95 %
    /// confidence.
    pub exceedance_ppm: u64,
    /// What the bound of one task of each lane is made of.
    pub bounds: Vec<BoundRow>,
    /// What was served.
    pub served: Served,
}

/// Periods at which jobs of all tasks come together again and again: one base, and twice the base for every third task.
/// Deadlines and phases follow from the budgets ([`ranked`]).
pub fn outline(specimens: &[Specimen], division: Division) -> Outline {
    let natural = |n: usize| Nanos::from_millis(if n % 3 == 2 { 2 } else { 1 });
    Outline {
        alone: specimens.iter().map(|specimen| Nanos::new(specimen.alone_ns)).collect(),
        natural: (0..specimens.len()).map(natural).collect(),
        phases: vec![0; specimens.len()],
        lanes: (0..specimens.len()).map(|task| division.lanes_of(task)).collect(),
    }
}

/// The fleet of a division; periods are those of a load of one half, and nobody runs it with them.
pub fn plan(gpu: &Gpu, specimens: &[Specimen], division: Division) -> FleetPlan {
    let task = |(n, specimen): (usize, &Specimen)| TaskPlan {
        partition: division.partition_of(n),
        ..TaskPlan::plain(specimen.name.clone(), specimen.artifact.clone(), Bytes::new(specimen.memory))
    };
    FleetPlan {
        name: format!("jobs-{}", division.name()),
        ordinal: gpu.ordinal,
        partitions: division.partitions(gpu.sms),
        tasks: specimens.iter().enumerate().map(task).collect(),
    }
}

/// A division that was certified and can be served.
pub struct Ready {
    /// The fleet, its tasks on the certified lanes.
    pub bed: Bed,
    /// What the machine costs.
    pub calibration: Calibration,
    /// What was certified.
    pub certified: Certified,
}

/// Certifies a division, or takes up what an earlier call certified.
///
/// # Errors
/// What device, memory or a model refuses; that nothing can be certified.
pub fn ready(
    gpu: &Gpu,
    store: &Store,
    specimens: &[Specimen],
    division: Division,
    care: Care,
    row: &mut JobsRow,
) -> Result<Ready, ExperimentError> {
    let label = format!("jobs-{}", division.name());
    let mut bed = Bed::open(gpu, store, &plan(gpu, specimens, division))?;
    let outline = outline(specimens, division);
    let calibration = bed.calibrate(store, &label, 4)?;
    if let Some(certified) = recall(&mut bed, store, &label, &calibration, &outline, row)? {
        return Ok(Ready { bed, calibration, certified });
    }
    let search = Search { store, label: &label, calibration: &calibration, outline: &outline, care };
    let (certified, rounds) = search.run(&mut bed)?;
    *row = JobsRow {
        division: division.name(),
        sms: bed.system().partitions().iter().map(|(partition, _)| partition.units).collect(),
        load: certified.fitted.load,
        rounds,
        lanes: certified.fitted.lanes.iter().map(|lane| lane.get()).collect(),
        exceedance_ppm: exceedance(&certified.profile),
        bounds: bounds(&calibration, &certified)?,
        served: Served::default(),
    };
    Ok(Ready { bed, calibration, certified })
}

/// What the bounds of the certified set are made of.
fn bounds(calibration: &Calibration, certified: &Certified) -> Result<Vec<BoundRow>, ExperimentError> {
    let Certified { case, fitted, profile } = certified;
    let set = case.set(fitted.load, &fitted.lanes)?;
    let contract = Contract { set: &set, calibration, profile: Some(profile) };
    Ok(anatomy(&set, &contract.certify()?))
}

/// Budgets, lanes balanced by them, budgets on those lanes, and the highest load that they certify.
struct Search<'a> {
    store: &'a Store,
    label: &'a str,
    calibration: &'a Calibration,
    outline: &'a Outline,
    care: Care,
}

impl Search<'_> {
    /// The bed's tasks stand on the certified lanes then.
    fn run(&self, bed: &mut Bed) -> Result<(Certified, Vec<RoundRow>), ExperimentError> {
        let mut lanes = balanced(&self.outline.alone, &self.outline.lanes);
        let mut rows = Vec::new();
        // All rounds but the last only say how long the tasks are beside each other: a quarter of the time does.
        for _ in 1..self.care.rounds.max(1) {
            let (case, _) = self.budgets(bed, &lanes, self.care.campaign / 4.0, 2, "round")?;
            rows.push(certify::round_row(&case, None, &lanes));
            let weights: Vec<Nanos> = case.tasks.iter().map(whole).collect();
            let better = balanced(&weights, &self.outline.lanes);
            if better == lanes {
                break;
            }
            lanes = better;
        }
        let (case, profile) = self.budgets(bed, &lanes, self.care.campaign, 4, "profile")?;
        let case = ranked(&case, &lanes)?;
        let fitted = case.capacity(&Fit::Fixed(lanes.clone()), certify::STEP, certify::MOST);
        rows.push(certify::round_row(&case, fitted.as_ref(), &lanes));
        let fitted = fitted.ok_or_else(|| ExperimentError::Illegal {
            what: format!("{}: no load is certified", self.label),
            legal: "shorter budgets or longer deadlines".into(),
        })?;
        self.store.tell(&format!("{}: certified {:.2}", self.label, fitted.load as f64 / 1e3));
        Ok((Certified { case, fitted, profile }, rows))
    }

    /// Measures budgets on these lanes for so many seconds and so many strata of a task.
    fn budgets(
        &self,
        bed: &mut Bed,
        lanes: &[LaneId],
        seconds: f64,
        strata: usize,
        file: &str,
    ) -> Result<(Case, Profile), ExperimentError> {
        self.store.tell(&format!("{}: budgets, {seconds:.0} s, {strata} strata at most", self.label));
        bed.assign(lanes);
        let options = certify::campaign(lanes.len(), seconds, self.care.margin_ppm, strata);
        let label = if file == "profile" { self.label.to_owned() } else { format!("{}-{file}", self.label) };
        let profile = certify::profile(bed, self.store, &label, self.calibration, options)?;
        let prepared = bed.system().prepare(Some(&profile), self.calibration)?;
        Ok((self.outline.case(&prepared.set), profile))
    }
}

/// The budget of a whole job.
fn whole(task: &Open) -> Nanos {
    task.budgets.iter().fold(Nanos::ZERO, |sum, budget| sum.saturating_add(*budget))
}

/// What was certified before, if its profile is still there and admits the same load.
fn recall(
    bed: &mut Bed,
    store: &Store,
    label: &str,
    calibration: &Calibration,
    outline: &Outline,
    row: &JobsRow,
) -> Result<Option<Certified>, ExperimentError> {
    let path = store.path(&format!("{label}-profile"));
    if row.load == 0 || row.lanes.len() != outline.alone.len() || !path.exists() {
        return Ok(None);
    }
    let lanes: Vec<LaneId> = row.lanes.iter().copied().map(LaneId::new).collect();
    bed.assign(&lanes);
    let profile = Profile::load(&path)?;
    let prepared = bed.system().prepare(Some(&profile), calibration)?;
    let case = ranked(&outline.case(&prepared.set), &lanes)?;
    let fitted = Fitted { load: row.load, lanes };
    Ok(Some(Certified { case, fitted, profile }))
}

/// The largest chance of all tasks that one occupancy exceeds its budget, in millionths.
pub fn exceedance(profile: &Profile) -> u64 {
    let segments = profile.tasks.iter().flat_map(|task| &task.segments);
    segments.map(|segment| segment.exceedance.probability_ppm).max().unwrap_or(1_000_000)
}

impl Ready {
    /// Serves the certified set for so long and adds what was counted.
    ///
    /// # Errors
    /// What admission, device or a model refuse.
    pub fn serve(&self, duration: Nanos, into: &mut Served) -> Result<(), ExperimentError> {
        let Certified { case, fitted, profile } = &self.certified;
        let set = case.set(fitted.load, &fitted.lanes)?;
        let contract = Contract { set: &set, calibration: &self.calibration, profile: Some(profile) };
        into.merge(serve(&self.bed, &contract, duration)?);
        Ok(())
    }

    /// Gives the device up.
    pub fn close(self) {
        self.bed.close();
    }
}

/// How carefully budgets are measured.
#[derive(Clone, Copy, Debug)]
pub struct Care {
    /// Seconds of one campaign over the whole fleet.
    pub campaign: f64,
    /// Rounds of campaign and search for better lanes.
    pub rounds: usize,
    /// Margin of the campaign's budgets, in millionths.
    pub margin_ppm: u64,
}

/// When the stage is over.
#[derive(Clone, Copy, Debug)]
pub struct Goal {
    /// Jobs of each division.
    pub jobs_each: u64,
    /// How carefully budgets are measured.
    pub care: Care,
    /// The time that the stage may take.
    pub allowance: Allowance,
}

/// Rows by the division's name.
pub type JobsReport = BTreeMap<String, JobsRow>;

/// Certifies and serves every division in turn, each until it has its share of a million jobs or of the time. Writes
/// after every slice.
///
/// # Errors
/// As [`ready`] and [`Ready::serve`].
pub fn stage(
    gpu: &Gpu,
    store: &Store,
    specimens: &[Specimen],
    divisions: &[Division],
    goal: Goal,
) -> Result<JobsReport, ExperimentError> {
    let mut report: JobsReport = store.load("jobs").unwrap_or_default();
    let jobs = |report: &JobsReport, division: &Division| {
        report.get(&division.name()).map_or(0, |row| row.served.totals().jobs)
    };
    let open: Vec<Division> =
        divisions.iter().copied().filter(|division| jobs(&report, division) < goal.jobs_each).collect();
    for (position, &division) in open.iter().enumerate() {
        let left = goal.allowance.left().as_secs_f64() / (open.len() - position) as f64;
        let end = Instant::now() + Duration::from_secs_f64(left);
        let mut row = report.get(&division.name()).cloned().unwrap_or_default();
        if row.load == 0 && !goal.allowance.allows(Duration::from_secs_f64(goal.care.campaign * 1.5 + 10.0)) {
            break;
        }
        store.tell(&format!("jobs: {}", division.name()));
        let ready = ready(gpu, store, specimens, division, goal.care, &mut row)?;
        report.insert(division.name(), row);
        store.save("jobs", &report)?;
        while jobs(&report, &division) < goal.jobs_each && Instant::now() < end {
            let left = end.saturating_duration_since(Instant::now()).as_secs_f64();
            let slice = Nanos::new((left.clamp(2.0, 15.0) * 1e9) as u64);
            if let Some(row) = report.get_mut(&division.name()) {
                ready.serve(slice, &mut row.served)?;
            }
            store.save("jobs", &report)?;
        }
        ready.close();
    }
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::super::card::tests::imagined;
    use super::*;

    fn specimens() -> Vec<Specimen> {
        let specimen = |n: u64| Specimen {
            name: format!("jobs-{n:02}"),
            artifact: "kernel 1\nsegment\nstorm 1\nend\n".to_owned().into(),
            memory: 1 << 20,
            alone_ns: 50_000 + 8_000 * n,
        };
        (0..30).map(specimen).collect()
    }

    #[test]
    fn every_division_is_a_legal_fleet_and_its_tasks_stay_in_their_partitions() {
        for division in Division::ALL {
            let plan = plan(&imagined(), &specimens(), division);
            let fleet = plan.check().expect("a legal fleet");
            let outline = outline(&specimens(), division);
            for (task, lanes) in fleet.tasks().iter().zip(&outline.lanes) {
                let range = fleet.lanes_of(task.partition);
                assert!(lanes.iter().all(|lane| range.contains(&lane.get())), "{division:?}");
                assert_eq!(lanes.len(), range.len());
            }
            let count: usize = plan.partitions.iter().map(|partition| usize::from(partition.lanes)).sum();
            assert_eq!(count, division.count());
        }
    }

    #[test]
    fn all_tasks_come_together_again_soon() {
        let outline = outline(&specimens(), Division::Lanes(4));
        let base = Nanos::from_millis(2);
        assert!(outline.natural.iter().all(|period| base.get().is_multiple_of(period.get())), "{outline:?}");
        let short = outline.natural.iter().filter(|period| **period < base).count();
        assert_eq!((short, outline.natural.len()), (20, 30));
    }
}
