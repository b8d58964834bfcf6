//! Side by side: one fleet of networks under several ways to share the device, with the same models and arrivals.
//!
//! Naive sharing, a single queue and stream priorities stand on beds with a lane for every task; ours on lanes with a
//! certificate where one was given, served by the whole runtime, and beyond what is certified as lanes without, under the
//! runtime's rule for jobs that come too soon ([`super::pace`]).

use std::collections::BTreeMap;

use aegis_types::{Bytes, LaneId, Nanos};
use aegisrt::profile::ProfileOptions;
use serde::{Deserialize, Serialize};

use super::bed::Bed;
use super::capacity::{calmer_lanes, next_lanes, outline};
use super::card::Gpu;
use super::case::Case;
use super::certify::{self, Certified, Outline, Search};
use super::circuit::{Circuit, Lanes};
use super::error::ExperimentError;
use super::fleet::{FleetPlan, PartitionPlan, TaskPlan};
use super::pace::{Fate, Job, Sharing, milli, pace_told};
use super::recipe::Recipe;
use super::serve::{Contract, serve_report};
use super::spread::{Spread, SpreadRow};
use super::store::Store;
use super::wide::{self, WideReport, arrivals};
use super::workload::Specimen;

/// A network of the fleet under test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The model.
    pub specimen: Specimen,
    /// `high`, `medium` or `low`.
    pub criticality: String,
    /// What the application would have as its period; how fast all are is scaled.
    pub natural_ns: u64,
}

/// What jobs of one criticality met.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ClassRow {
    /// The criticality.
    pub criticality: String,
    /// Jobs that ended.
    pub jobs: u64,
    /// Jobs that ended too late, never, or were refused.
    pub misses: u64,
    /// Responses.
    pub response: SpreadRow,
}

/// One way to share at one load.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// The way.
    pub way: String,
    /// Execution alone over period, in thousandths.
    pub load: u64,
    /// Whether every deadline was certified beforehand.
    pub certified: bool,
    /// Lanes, by task; of certified cells only.
    #[serde(default)]
    pub lanes: Vec<u16>,
    /// Seconds.
    pub seconds: u64,
    /// By criticality, and all together.
    pub classes: Vec<ClassRow>,
    /// Worst response over deadline, in thousandths.
    pub response_milli: u64,
    /// Largest execution over execution alone, in thousandths.
    pub slowdown_milli: u64,
    /// Covered jobs over ended ones, in millionths; of certified cells only.
    pub covered_ppm: u64,
    /// Covered jobs beyond their bound: none, or the certificate is wrong.
    pub beyond_bound: u64,
}

/// How long a pair of tasks runs side by side: a dozen jobs of a network.
const PAIR: Nanos = Nanos::from_millis(20);

/// Counts of a cell while it is measured.
struct Meter<'a> {
    members: &'a [Member],
    spreads: BTreeMap<String, (Spread, u64)>,
}

/// The name of the row of all jobs.
const EVERYONE: &str = "all";

impl<'a> Meter<'a> {
    fn new(members: &'a [Member]) -> Self {
        Self { members, spreads: BTreeMap::new() }
    }

    fn each(&mut self, task: usize, mut add: impl FnMut(&mut (Spread, u64))) {
        for class in [self.members[task].criticality.as_str(), EVERYONE] {
            add(self.spreads.entry(class.to_owned()).or_default());
        }
    }

    fn rows(self) -> Vec<ClassRow> {
        let row = |(criticality, (spread, misses)): (String, (Spread, u64))| ClassRow {
            criticality,
            jobs: spread.count(),
            misses,
            response: spread.row(),
        };
        self.spreads.into_iter().map(row).collect()
    }
}

/// A way to share that needs no certificate.
pub struct Uncertified<'a> {
    /// What it is called.
    pub way: &'a str,
    /// Who may be in flight together.
    pub sharing: Sharing,
}

/// Serves every load in every way on one bed with a lane for each task, by turns.
///
/// # Errors
/// What device or models refuse.
pub fn baselines(
    gpu: &Gpu,
    store: &Store,
    members: &[Member],
    ways: &[Uncertified<'_>],
    loads: &[u64],
    seconds: u64,
) -> Result<Vec<Cell>, ExperimentError> {
    let specimens: Vec<Specimen> = members.iter().map(|member| member.specimen.clone()).collect();
    let case = case_of(members)?;
    wide::visit(gpu, store, &specimens, &case, |bed| {
        let mut cells = Vec::new();
        for &load in loads {
            for way in ways {
                store.tell(&format!("rivals: {} at {:.2}", way.way, load as f64 / 1e3));
                cells.push(paced(bed.circuit, &case, members, way, load, seconds)?);
            }
        }
        Ok(cells)
    })
}

/// The highest load at which naive sharing misses nothing, in thousandths.
///
/// # Errors
/// What device or models refuse.
pub fn naive_clean(gpu: &Gpu, store: &Store, members: &[Member]) -> Result<u64, ExperimentError> {
    let specimens: Vec<Specimen> = members.iter().map(|member| member.specimen.clone()).collect();
    let case = case_of(members)?;
    wide::visit(gpu, store, &specimens, &case, |bed| bed.sweep(store).map(|(_, clean)| clean))
}

/// Slowdown of each task beside each other one, in thousandths.
///
/// # Errors
/// What device or models refuse.
pub fn pairs(gpu: &Gpu, store: &Store, members: &[Member]) -> Result<Vec<Vec<u64>>, ExperimentError> {
    let specimens: Vec<Specimen> = members.iter().map(|member| member.specimen.clone()).collect();
    let case = case_of(members)?;
    store.tell("rivals: every pair");
    wide::visit(gpu, store, &specimens, &case, |bed| bed.pairs(PAIR))
}

/// Serves one load without a certificate.
fn paced<L: Lanes>(
    circuit: &mut Circuit<'_, L>,
    case: &Case,
    members: &[Member],
    way: &Uncertified<'_>,
    load: u64,
    seconds: u64,
) -> Result<Cell, ExperimentError> {
    let mut meter = Meter::new(members);
    let mut tell = |job: Job| {
        meter.each(job.task, |(spread, misses)| match job.fate {
            Fate::Ended { response, missed, .. } => {
                spread.add(response);
                *misses += u64::from(missed);
            }
            Fate::Refused => *misses += 1,
        });
    };
    let alone: Vec<Nanos> = case.tasks.iter().map(|task| task.alone).collect();
    let (times, length) = (arrivals(case, load), Nanos::from_millis(seconds * 1_000));
    let row = pace_told(circuit, &alone, &times, &way.sharing, length, false, &mut tell)?;
    let mut classes = meter.rows();
    // Whose jobs never ended is known for all together only.
    let everyone = classes.iter_mut().filter(|class| class.criticality == EVERYONE);
    everyone.for_each(|class| class.misses += row.unfinished);
    Ok(Cell {
        way: way.way.to_owned(),
        load,
        seconds,
        classes,
        response_milli: row.response_milli,
        slowdown_milli: row.slowdown_milli,
        ..Cell::default()
    })
}

/// The fleet with its periods open; budgets are not looked at.
///
/// # Errors
/// As [`super::capacity::arrivals_case`].
pub fn case_of(members: &[Member]) -> Result<Case, ExperimentError> {
    let specimens: Vec<Specimen> = members.iter().map(|member| member.specimen.clone()).collect();
    let mut case = super::capacity::arrivals_case(&specimens)?;
    for (task, member) in case.tasks.iter_mut().zip(members) {
        task.natural = Nanos::new(member.natural_ns);
    }
    Ok(case)
}

/// How the device is divided for a certified way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// What it is called, and its files.
    pub label: String,
    /// Lanes on the whole device, or of everybody else beside a critical partition.
    pub lanes: u16,
    /// Multiprocessors and lanes of a partition of its own for tasks of high criticality.
    pub critical: Option<(u32, u16)>,
    /// How many of the lanes have streams of the highest priority; they are those of tasks of high criticality, and the
    /// others are everybody else's. Zero: all lanes are everybody's.
    pub urgent: u16,
    /// Into how many segments each network is cut.
    pub pieces: usize,
}

impl Layout {
    /// The whole device with so many lanes for everybody.
    pub fn whole(lanes: u16) -> Self {
        Self { label: format!("{lanes} lanes"), lanes, critical: None, urgent: 0, pieces: 1 }
    }

    /// Whether whole networks share the whole device, as when it was measured who slows whom.
    fn is_whole(&self) -> bool {
        self.critical.is_none() && self.urgent == 0 && self.pieces < 2
    }

    fn partitions(&self, sms: u32) -> Vec<PartitionPlan> {
        let Some((own, lanes)) = self.critical else { return PartitionPlan::whole(sms, self.lanes) };
        let rest = sms.saturating_sub(own).max(1);
        vec![
            PartitionPlan { name: "critical".into(), sms: own, lanes },
            PartitionPlan { name: "rest".into(), sms: rest, lanes: self.lanes },
        ]
    }

    fn partition_of(&self, member: &Member) -> usize {
        usize::from(self.critical.is_some() && member.criticality != "high")
    }

    fn lanes_of(&self, member: &Member) -> Vec<LaneId> {
        let is_high = member.criticality == "high";
        let range = match (self.critical, self.urgent) {
            (None, 0) => 0..self.lanes,
            (None, urgent) if is_high => 0..urgent,
            (None, urgent) => urgent..self.lanes,
            (Some((_, own)), _) if is_high => 0..own,
            (Some((_, own)), _) => own..own + self.lanes,
        };
        range.map(LaneId::new).collect()
    }

    /// The fleet so divided.
    pub fn plan(&self, gpu: &Gpu, members: &[Member]) -> FleetPlan {
        let task = |member: &Member| {
            let mut artifact = member.specimen.artifact.clone();
            if let Recipe::Network { pieces, .. } = &mut artifact {
                *pieces = self.pieces;
            }
            let memory = Bytes::new(member.specimen.memory);
            TaskPlan {
                partition: self.partition_of(member),
                ..TaskPlan::plain(member.specimen.name.clone(), artifact, memory)
            }
        };
        FleetPlan {
            name: self.label.clone(),
            ordinal: gpu.ordinal,
            partitions: self.partitions(gpu.sms),
            tasks: members.iter().map(task).collect(),
        }
    }

    /// What is fixed of the fleet before anything is measured in company.
    pub fn outline(&self, members: &[Member]) -> Outline {
        let specimens: Vec<Specimen> = members.iter().map(|member| member.specimen.clone()).collect();
        let plain = outline(&specimens, self.lanes);
        Outline {
            natural: members.iter().map(|member| Nanos::new(member.natural_ns)).collect(),
            lanes: members.iter().map(|member| self.lanes_of(member)).collect(),
            ..plain
        }
    }
}

/// A layout with the highest load that was certified on it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LayoutRow {
    /// The layout.
    pub label: String,
    /// The highest certified load, in thousandths; zero for none.
    pub certified: u64,
    /// What came of measuring and certifying, round by round.
    pub rounds: Vec<certify::RoundRow>,
    /// Probability that one occupancy exceeds its budget, in millionths, the largest of all tasks.
    pub exceedance_ppm: u64,
    /// What was served.
    pub cells: Vec<Cell>,
}

/// How carefully a layout is measured.
pub struct Care<'a> {
    /// Seconds of each cell.
    pub seconds: u64,
    /// Execution alone over period of the cells, in thousandths.
    pub loads: &'a [u64],
    /// How budgets are measured.
    pub options: ProfileOptions,
    /// Rounds of campaign and search at most.
    pub rounds: usize,
    /// Which tasks slow each other, for the search on lanes of the whole device.
    pub known: &'a WideReport,
}

/// Certifies the fleet on a layout and serves every load: with a certificate where the load has one, on the lanes that
/// promise the smallest response over deadline, and without one beyond. The highest certified load itself is served, too.
/// `keep` is given what there is after every cell.
///
/// # Errors
/// What device, memory or a model refuses, and what `keep` says.
pub fn ours(
    gpu: &Gpu,
    store: &Store,
    members: &[Member],
    layout: &Layout,
    care: Care<'_>,
    mut keep: impl FnMut(&LayoutRow) -> Result<(), ExperimentError>,
) -> Result<(), ExperimentError> {
    let Care { seconds, loads, options, rounds, known } = care;
    let mut bed = Bed::open(&gpu.with_urgent(layout.urgent), store, &layout.plan(gpu, members))?;
    let calibration = bed.calibrate(store, &layout.label, 4)?;
    let outline = layout.outline(members);
    let search =
        Search { store, label: &layout.label, calibration: &calibration, outline: &outline, options, rounds };
    let start = certify::first_lanes(&outline);
    let mut seed = 1;
    let (certified, rows) = search.run(&mut bed, &start, |case, lanes, load| {
        seed += 2;
        if layout.is_whole() {
            next_lanes(case, known, lanes, load, seed)
        } else {
            certify::best_fit(case, load)
        }
    })?;
    let mut row = LayoutRow {
        label: layout.label.clone(),
        certified: certified.fitted.load,
        rounds: rows,
        exceedance_ppm: super::jobs::exceedance(&certified.profile),
        cells: Vec::new(),
    };
    // The highest first: it is what the comparison is about. What carries the most is not what answers soonest where there
    // is little to carry, so lower loads get lanes of their own.
    let within = loads.iter().copied().filter(|load| *load < certified.fitted.load);
    for load in std::iter::once(certified.fitted.load).chain(within) {
        let lanes = &certified.fitted.lanes;
        let calmer = (load < certified.fitted.load && layout.is_whole())
            .then(|| calmer_lanes(&certified.case, known, lanes, load, load))
            .flatten();
        let own = match calmer {
            Some(lanes) => search.calmer(&mut bed, &certified, load, lanes)?,
            None => certified.clone(),
        };
        store.tell(&format!("rivals: {} at {:.2}, certified", layout.label, load as f64 / 1e3));
        bed.assign(&own.fitted.lanes);
        row.cells.push(serve_cell(&bed, members, layout, &calibration, &own, load, seconds)?);
        keep(&row)?;
    }
    let beyond: Vec<u64> = loads.iter().copied().filter(|load| *load > certified.fitted.load).collect();
    row.cells.extend(lanes_beyond(&mut bed, store, members, layout, &certified, &beyond, seconds)?);
    bed.close();
    keep(&row)
}

fn serve_cell(
    bed: &Bed,
    members: &[Member],
    layout: &Layout,
    calibration: &aegisrt::config::Calibration,
    certified: &Certified,
    load: u64,
    seconds: u64,
) -> Result<Cell, ExperimentError> {
    let Certified { case, fitted, profile } = certified;
    let set = case.set(load, &fitted.lanes)?;
    let contract = Contract { set: &set, calibration, profile: Some(profile) };
    let (report, served) = serve_report(bed, &contract, Nanos::from_millis(seconds * 1_000))?;
    let mut meter = Meter::new(members);
    for (task, tally) in report.tally.tasks().iter().enumerate() {
        meter.each(task, |(spread, misses)| {
            spread.add_histogram(&tally.responses, tally.response_max);
            *misses += tally.misses + tally.lost();
        });
    }
    let totals = served.totals();
    let slowdown = |(task, open): (&super::serve::ServedTask, &super::case::Open)| {
        milli(Nanos::new(task.execution_max_ns), open.alone)
    };
    Ok(Cell {
        way: layout.label.clone(),
        load,
        certified: true,
        lanes: fitted.lanes.iter().map(|lane| lane.get()).collect(),
        seconds,
        classes: meter.rows(),
        response_milli: (totals.response * 1e3) as u64,
        slowdown_milli: served.tasks.iter().zip(&case.tasks).map(slowdown).max().unwrap_or(0),
        covered_ppm: (totals.covered * 1e6) as u64,
        beyond_bound: totals.beyond_bound,
    })
}

/// Loads that nothing certifies, on lanes that share out what is too much.
fn lanes_beyond(
    bed: &mut Bed,
    store: &Store,
    members: &[Member],
    layout: &Layout,
    certified: &Certified,
    loads: &[u64],
    seconds: u64,
) -> Result<Vec<Cell>, ExperimentError> {
    if loads.is_empty() {
        return Ok(Vec::new());
    }
    let lanes = certified.case.balanced().unwrap_or_else(|| certified.fitted.lanes.clone());
    bed.assign(&lanes);
    let sharing = Sharing::Lanes(wide::groups(&lanes, certified.case.platform.lanes()));
    let way = Uncertified { way: &layout.label, sharing };
    bed.drive(|circuit, _| {
        let cell = |&load: &u64| {
            store.tell(&format!("rivals: {} at {:.2}, not certified", layout.label, load as f64 / 1e3));
            paced(circuit, &certified.case, members, &way, load, seconds)
        };
        loads.iter().map(cell).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::super::card::tests::imagined;
    use super::super::circuit::tests::{VirtualLanes, carried};
    use super::*;

    fn members() -> Vec<Member> {
        let member = |n: u64| Member {
            specimen: Specimen {
                name: format!("m{n}"),
                artifact: Recipe::Network { design: "signs".into(), seed: n, half: true, pieces: 1 },
                memory: 1 << 20,
                alone_ns: 100_000,
            },
            criticality: if n == 0 { "high" } else { "low" }.to_owned(),
            natural_ns: 1_000_000 * (n + 1),
        };
        (0..3).map(member).collect()
    }

    #[test]
    fn a_cell_counts_every_job_in_its_class_and_in_all() {
        let (members, lengths) = (members(), vec![Nanos::from_micros(100); 3]);
        let case = case_of(&members).expect("a case");
        for (sharing, worst) in [(Sharing::Naive, 1_000), (Sharing::Queue, 400)] {
            let mut lanes = VirtualLanes::new(lengths.clone(), 3);
            let tasks = carried(3, true);
            let mut circuit = Circuit::new(&mut lanes, &tasks);
            let way = Uncertified { way: "w", sharing };
            let cell = paced(&mut circuit, &case, &members, &way, 180, 1).expect("runs");
            let jobs = |name: &str| {
                let row = cell.classes.iter().find(|class| class.criticality == name);
                row.map_or(0, |class| class.jobs)
            };
            assert_eq!(jobs("high") + jobs("low"), jobs(EVERYONE), "{cell:?}");
            // The shortest of three periods in the ratio 1 : 2 : 3.
            assert!(jobs("high") > jobs("low") && jobs("low") > 0, "{cell:?}");
            assert!(cell.response_milli <= worst && !cell.certified, "{cell:?}");
        }
    }

    #[test]
    fn layouts_are_legal_fleets_and_keep_the_critical_apart() {
        let members = members();
        let layout = |critical, urgent| Layout { critical, urgent, ..Layout::whole(2) };
        let legal = [
            (None, 0, vec![0, 1], vec![0, 1]),
            (None, 1, vec![0], vec![1]),
            (Some((32, 1)), 0, vec![0], vec![1, 2]),
        ];
        for (critical, urgent, high, low) in legal {
            let layout = layout(critical, urgent);
            layout.plan(&imagined(), &members).check().expect("a legal fleet");
            let lanes = layout.outline(&members).lanes;
            let numbers = |lanes: &[LaneId]| lanes.iter().map(|lane| lane.get()).collect::<Vec<_>>();
            assert_eq!((numbers(&lanes[0]), numbers(&lanes[1])), (high, low));
        }
    }
}
