//! The stages of `aegis-gpu`: each measures what is still missing in its file, writes after every part, and prints a
//! short table.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use aegis_types::Nanos;
use serde::{Deserialize, Serialize};

use super::backends;
use super::between::{Beat, between};
use super::capacity::{self, CapacityRow, Effort, arrivals_case};
use super::card::Gpu;
use super::certify;
use super::copies;
use super::determinism::{self, DeterminismRow};
use super::error::ExperimentError;
use super::floor::{Bare, Floor, FloorRow};
use super::isolation::{self, IsolationRow, Placement};
use super::jobs::{self, Care, Division, JobsReport, JobsRow};
use super::overhead::{GAP, LIMITS, Responses, SlowRow, Subject, above, lanes_for, responses};
use super::pace::Sharing;
use super::recipe::Recipe;
use super::rivals::{self, Cell, Layout, LayoutRow, Member, Uncertified};
use super::saturation::{Enough, alone};
use super::serve::options;
use super::soak::{self, SoakReport};
use super::spread::{Spread, SpreadRow};
use super::store::{Allowance, Store};
use super::tables;
use super::walk;
use super::wide::{self, WideReport};
use super::workload::{NOTHING, Specimen, measure_pace, network_sketches, short_sketches, specimens};
use aegis_types::LaneId;

use crate::networks::fleets::{FLEETS, FleetPlan, Role};

/// What every stage is given.
pub struct Bench {
    /// The device.
    pub gpu: Gpu,
    /// Where results are.
    pub store: Store,
    /// The time that the stage may take.
    pub allowance: Allowance,
}

impl Bench {
    /// Whether the time suffices for `what`; tells if not, since what is left out would not show in a table.
    fn affords(&self, needed: Duration, what: &str) -> bool {
        let affords = self.allowance.allows(needed);
        if !affords {
            let (needed, left) = (needed.as_secs(), self.allowance.left().as_secs());
            self.store.tell(&format!("{what} left out: {needed} s needed, {left} s left"));
        }
        affords
    }
}

/// The floor, back to back and with the pauses that jobs have.
pub type FloorReport = Vec<FloorRow>;

/// Measures the floor.
///
/// # Errors
/// What device or model refuse.
pub fn floor(bench: &Bench, count: u64) -> Result<String, ExperimentError> {
    bench.store.tell("floor");
    let mut bare = Bare::load(&bench.gpu, NOTHING, 1, 1)?;
    let back_to_back = bare.measure(count, Nanos::ZERO)?.row(Nanos::ZERO, 1, 1);
    let paced = bare.measure(count / 10, GAP)?.row(GAP, 1, 1);
    let rows: FloorReport = vec![back_to_back, paced];
    bare.close()?;
    bench.store.save("floor", &rows)?;
    Ok(tables::floor(&rows))
}

/// Measures small copies by a kernel beside copies by the copy engines, for so many seconds. A launch that allocates
/// fails the stage, when its figures are written.
///
/// # Errors
/// As [`copies::measure`] and [`copies::CopiesReport::check`].
pub fn copies(bench: &Bench, seconds: u64) -> Result<String, ExperimentError> {
    bench.store.tell("copies");
    let report = copies::measure(&bench.gpu, &bench.store, Nanos::from_millis(seconds * 1_000))?;
    bench.store.save("copies", &report)?;
    let table = report.table();
    report.check().map(|()| table)
}

/// What the runtime adds, for one number of tasks. Pairs are the median and the 99.9th percentile.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OverheadRow {
    /// Tasks.
    pub tasks: u16,
    /// Lanes that they are served on.
    pub lanes: u16,
    /// From nominal arrival to completion stamp, all slices.
    pub response: SpreadRow,
    /// The same without jobs in which the host stalled.
    pub calm: SpreadRow,
    /// Above the paced floor of as many graphs on as many lanes, in nanoseconds, all slices of both together.
    pub above_paced_ns: [i64; 2],
    /// The same, both without what the host stalled in.
    pub above_calm_ns: [i64; 2],
    /// Above the floor that is launched back to back.
    pub above_back_to_back_ns: [i64; 2],
    /// Above the paced floor slice by slice: each against the floor just before it.
    pub slices: Vec<[i64; 2]>,
    /// The medians of the slices.
    pub slices_median_ns: [i64; 2],
    /// Where the time goes, by [`TERMS`](super::overhead::TERMS).
    pub terms: Vec<SpreadRow>,
    /// Jobs above the 99.9th percentile of the paced floor.
    pub slow: SlowRow,
    /// Gaps of the driver of 20 us or more.
    pub stalls: u64,
}

/// The overhead beside its floors.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OverheadReport {
    /// One graph back to back, then for each row as many graphs on as many lanes with the jobs' pauses.
    pub floors: FloorReport,
    /// The control without a GPU: walks over as much memory as a launch visits, paced as the jobs.
    pub walk: SpreadRow,
    /// One row for each number of tasks.
    pub rows: Vec<OverheadRow>,
}

/// One slice of floor and runtime, by turns with those of other numbers of tasks: both are there at the same time.
const SLICE: Nanos = Nanos::from_millis(1_000);
/// One slice of the control.
const WALK: Nanos = Nanos::from_millis(250);

/// A fleet, and the floor of as many graphs on as many lanes, with what was seen of both.
struct Duel {
    tasks: u16,
    floor: Floor,
    subject: Subject,
    responses: Responses,
    /// Above the floor slice by slice.
    slices: Vec<[i64; 2]>,
}

impl Duel {
    fn open(gpu: &Gpu, store: &Store, tasks: u16) -> Result<Self, ExperimentError> {
        let subject = Subject::open(gpu, store, tasks)?;
        let (floor, responses) = (Floor::default(), Responses::default());
        Ok(Self { tasks, floor, subject, responses, slices: Vec::new() })
    }

    /// One slice of both.
    fn turn(&mut self, gpu: &Gpu) -> Result<(), ExperimentError> {
        let options = options(SLICE, None);
        let measure = |beat: Beat<'_>| {
            let mut bare = Bare::load(gpu, NOTHING, self.tasks, lanes_for(self.tasks))?;
            let floor = bare.measure_between(beat, GAP)?;
            bare.close()?;
            Ok(floor)
        };
        let (floor, trace) = between(&options.live, SLICE, measure, || self.subject.serve(&options))?;
        let responses = responses(&trace, floor.due.quantile(0.99));
        self.slices.push(distances(&responses.response, &floor.due));
        self.responses.merge(&responses);
        self.floor.merge(&floor);
        Ok(())
    }
}

/// Measures floor and overhead side by side, a second for each number of tasks by turns, as often as was asked for or as
/// time allows.
///
/// # Errors
/// What device or model refuse.
pub fn overhead(bench: &Bench, tasks: &[u16], repetitions: u32) -> Result<String, ExperimentError> {
    let (gpu, store) = (&bench.gpu, &bench.store);
    let mut bare = Bare::load(gpu, NOTHING, 1, 1)?;
    let back_to_back = bare.measure(20_000, Nanos::ZERO)?;
    let first = back_to_back.row(Nanos::ZERO, 1, 1);
    bare.close()?;
    let duels = tasks.iter().map(|&count| Duel::open(gpu, store, count));
    let mut duels = duels.collect::<Result<Vec<_>, ExperimentError>>()?;
    let mut walked = Spread::new();
    for repetition in 0..repetitions.max(1) {
        store.tell(&format!("overhead: repetition {repetition}"));
        let begun = bench.allowance.left();
        walked.merge(&walk::measure(WALK, GAP));
        duels.iter_mut().try_for_each(|duel| duel.turn(gpu))?;
        let paced = duels.iter().map(|duel| duel.floor.row(GAP, duel.tasks, lanes_for(duel.tasks)));
        let report = OverheadReport {
            floors: std::iter::once(first.clone()).chain(paced).collect(),
            walk: walked.row(),
            rows: duels.iter().map(|duel| row(duel, &back_to_back)).collect(),
        };
        store.save("overhead", &report)?;
        if !bench.allowance.allows(begun.saturating_sub(bench.allowance.left())) {
            break;
        }
    }
    duels.into_iter().for_each(|duel| duel.subject.close());
    let report: OverheadReport = store.load("overhead").unwrap_or_default();
    Ok(tables::overhead(&report))
}

/// Measures the tasks of a fleet one by one, each beside its backend's own loop; with `served`, serves the fleet for so
/// many seconds and compares outputs instead.
///
/// # Errors
/// As [`backends::measure`] and [`backends::outputs::compare`].
pub fn backends(
    bench: &Bench,
    libraries: &backends::Libraries,
    fleet: &Path,
    tasks: &[String],
    served: Option<u64>,
) -> Result<String, ExperimentError> {
    match served {
        None => backends::measure(bench, libraries, fleet, tasks),
        Some(seconds) => backends::outputs::compare(bench, libraries, fleet, seconds),
    }
}

fn distances(response: &Spread, floor: &Spread) -> [i64; 2] {
    LIMITS.map(|(quantile, _)| above(response, floor, quantile))
}

fn row(duel: &Duel, back_to_back: &Floor) -> OverheadRow {
    let (sum, paced) = (&duel.responses, &duel.floor);
    let median = |which: usize| {
        let mut column: Vec<i64> = duel.slices.iter().map(|pair| pair[which]).collect();
        column.sort_unstable();
        column.get(column.len() / 2).copied().unwrap_or(0)
    };
    OverheadRow {
        tasks: duel.tasks,
        lanes: lanes_for(duel.tasks),
        response: sum.response.row_with_histogram(),
        calm: sum.calm.row(),
        above_paced_ns: distances(&sum.response, &paced.due),
        above_calm_ns: distances(&sum.calm, &paced.calm),
        above_back_to_back_ns: distances(&sum.response, &back_to_back.due),
        slices: duel.slices.clone(),
        slices_median_ns: [median(0), median(1)],
        terms: sum.terms.iter().map(Spread::row).collect(),
        slow: sum.slow_row(paced.due.quantile(0.999)),
        stalls: sum.stalls,
    }
}

/// Measures every kind of kernel on every number of lanes.
///
/// # Errors
/// What device or models refuse.
pub fn determinism(bench: &Bench, lanes: &[u16]) -> Result<String, ExperimentError> {
    let mut rows: Vec<DeterminismRow> = bench.store.load("determinism").unwrap_or_default();
    for &count in lanes {
        let what = format!("determinism: {count} lanes");
        if rows.iter().any(|row| row.lanes == count) || !bench.affords(Duration::from_secs(20), &what) {
            continue;
        }
        bench.store.tell(&what);
        rows.extend(determinism::measure(&bench.gpu, &bench.store, count, bench.gpu.cache)?);
        bench.store.save("determinism", &rows)?;
    }
    Ok(tables::determinism(&rows))
}

/// Measures every placement of victim and hog.
///
/// # Errors
/// What device or models refuse.
pub fn isolation(bench: &Bench) -> Result<String, ExperimentError> {
    let mut rows: Vec<IsolationRow> = bench.store.load("isolation").unwrap_or_default();
    let is_known = |placement: &Placement| rows.iter().any(|row| row.placement == placement.name());
    let open: Vec<Placement> = Placement::ALL.into_iter().filter(|placement| !is_known(placement)).collect();
    if !open.is_empty() {
        bench.store.tell("isolation: the pace of kernels");
        let victim = isolation::victim(&measure_pace(&bench.gpu, &bench.store)?);
        for placement in open {
            bench.store.tell(placement.name());
            rows.push(isolation::measure(&bench.gpu, &bench.store, placement, &victim)?);
            bench.store.save("isolation", &rows)?;
        }
    }
    Ok(tables::isolation(&rows))
}

/// Certifies and serves the short tasks on every division.
///
/// # Errors
/// What device or models refuse.
pub fn jobs(
    bench: &Bench,
    divisions: &[Division],
    total: u64,
    care: Care,
) -> Result<String, ExperimentError> {
    let models = specimens(&bench.gpu, &bench.store, "jobs", &short_sketches())?;
    let jobs_each = total.div_ceil(Division::ALL.len() as u64);
    let goal = jobs::Goal { jobs_each, care, allowance: bench.allowance };
    let report: JobsReport = jobs::stage(&bench.gpu, &bench.store, &models, divisions, goal)?;
    Ok(tables::jobs(&report))
}

/// A long run of the short tasks on four lanes.
///
/// # Errors
/// What device or models refuse.
pub fn soak(bench: &Bench, seconds: u64, care: Care) -> Result<String, ExperimentError> {
    let models = specimens(&bench.gpu, &bench.store, "jobs", &short_sketches())?;
    let division = Division::Lanes(4);
    let report: JobsReport = bench.store.load("jobs").unwrap_or_default();
    let mut row: JobsRow = report.get(&division.name()).cloned().unwrap_or_default();
    let ready = jobs::ready(&bench.gpu, &bench.store, &models, division, care, &mut row)?;
    let left = bench.allowance.left().as_secs().saturating_sub(10);
    bench.store.tell(&format!("soak: {} s", seconds.min(left).max(1)));
    let result: SoakReport = soak::measure(&bench.gpu, &ready, seconds.min(left).max(1))?;
    ready.close();
    bench.store.save("soak", &result)?;
    Ok(tables::soak(&result))
}

/// The networks of the capacity experiments.
fn networks(bench: &Bench, cut: Option<Nanos>) -> Result<Vec<Specimen>, ExperimentError> {
    let name = if cut.is_some() { "cut" } else { "net" };
    specimens(&bench.gpu, &bench.store, name, &network_sketches(cut))
}

/// The networks of a generated fleet with what each takes alone, measured once and kept beside the results.
///
/// # Errors
/// [`ExperimentError::Illegal`] for a fleet that there is not; what device or models refuse.
pub fn members(bench: &Bench, fleet: &str, half: bool) -> Result<Vec<Member>, ExperimentError> {
    let (gpu, store) = (&bench.gpu, &bench.store);
    let file = format!("{fleet}-members");
    if let Some(known) = store.load::<Vec<Member>>(&file) {
        return Ok(known);
    }
    let plan = FleetPlan::find(fleet).ok_or_else(|| ExperimentError::Illegal {
        what: format!("there is no fleet `{fleet}`"),
        legal: FLEETS.map(|fleet| fleet.name).join(", "),
    })?;
    let member = |(seed, role): (usize, &Role)| Member {
        specimen: Specimen {
            name: role.name.to_owned(),
            artifact: Recipe::Network { design: role.design.to_owned(), seed: seed as u64, half, pieces: 1 },
            memory: NETWORK_MEMORY,
            alone_ns: 1,
        },
        criticality: role.criticality.to_owned(),
        natural_ns: role.natural * 1_000,
    };
    let mut members: Vec<Member> = plan.roles.iter().enumerate().map(member).collect();
    store.tell(&format!("{fleet}: every network alone"));
    let specimens: Vec<Specimen> = members.iter().map(|member| member.specimen.clone()).collect();
    let enough = Enough { jobs: 200, time: Nanos::from_millis(300) };
    let case = rivals::case_of(&members)?;
    let spreads = wide::visit(gpu, store, &specimens, &case, |bed| alone(bed.circuit, enough, bed.draw))?;
    for (member, spread) in members.iter_mut().zip(&spreads) {
        member.specimen.alone_ns = spread.quantile(0.5).get();
    }
    store.save(&file, &members)?;
    Ok(members)
}

/// Memory that a network may take, in bytes: weights, and whatever its kernels ask for beside them.
const NETWORK_MEMORY: u64 = 512 << 20;

/// What the comparison came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RivalsReport {
    /// Execution alone, by task, in nanoseconds.
    pub alone_ns: BTreeMap<String, u64>,
    /// Ways that certify nothing.
    pub baselines: Vec<Cell>,
    /// Highest load at which naive sharing misses nothing, in thousandths; zero before it was looked for.
    #[serde(default)]
    pub naive_clean: u64,
    /// Slowdown of each task beside each other one, in thousandths.
    #[serde(default)]
    pub pairs_milli: Vec<Vec<u64>>,
    /// Ours, by layout.
    pub ours: Vec<LayoutRow>,
}

/// Compares ways to share the device on a generated fleet.
///
/// # Errors
/// What device or models refuse.
pub fn rivals(
    bench: &Bench,
    fleet: &str,
    half: bool,
    layouts: &[Layout],
    loads: &[u64],
    effort: Effort,
) -> Result<String, ExperimentError> {
    let (gpu, store) = (&bench.gpu, &bench.store);
    let Effort { care: Care { campaign, rounds, margin_ppm }, run: seconds } = effort;
    let members = members(bench, fleet, half)?;
    let file = format!("rivals-{fleet}");
    let mut report: RivalsReport = store.load(&file).unwrap_or_default();
    let alone = |member: &Member| (member.specimen.name.clone(), member.specimen.alone_ns);
    report.alone_ns = members.iter().map(alone).collect();
    if report.baselines.is_empty() {
        let ways = [("naive", Sharing::Naive), ("one stream, fifo", Sharing::Queue)];
        let ways = ways.map(|(way, sharing)| Uncertified { way, sharing });
        report.baselines = rivals::baselines(gpu, store, &members, &ways, loads, seconds)?;
        // Streams of high criticality stand first, so that the first lanes are theirs.
        let mut sorted = members.clone();
        sorted.sort_by_key(|member| member.criticality != "high");
        let urgent = sorted.iter().filter(|member| member.criticality == "high").count() as u16;
        let way = [Uncertified { way: "stream priorities", sharing: Sharing::Naive }];
        let gpu = gpu.with_urgent(urgent);
        report.baselines.extend(rivals::baselines(&gpu, store, &sorted, &way, loads, seconds)?);
        store.save(&file, &report)?;
    }
    if report.naive_clean == 0 {
        report.naive_clean = rivals::naive_clean(gpu, store, &members)?;
        store.save(&file, &report)?;
    }
    if report.pairs_milli.is_empty() {
        report.pairs_milli = rivals::pairs(gpu, store, &members)?;
        store.save(&file, &report)?;
    }
    let known = WideReport { pairs_milli: report.pairs_milli.clone(), ..WideReport::default() };
    for layout in layouts {
        let campaigns = campaign * (rounds + loads.len()) as f64;
        let needed = Duration::from_secs_f64(campaigns + (seconds + 4) as f64 * 5.0);
        let served = |row: &LayoutRow, load: u64| row.cells.iter().any(|cell| cell.load == load);
        let done = |row: &LayoutRow| row.label == layout.label && loads.iter().all(|load| served(row, *load));
        if report.ours.iter().any(done) || !bench.affords(needed, &format!("rivals: {}", layout.label)) {
            continue;
        }
        let options = certify::campaign(members.len(), campaign, margin_ppm, 3);
        let care = rivals::Care { seconds, loads, options, rounds, known: &known };
        rivals::ours(gpu, store, &members, layout, care, |row| {
            report.ours.retain(|known| known.label != row.label);
            report.ours.push(row.clone());
            store.save(&file, &report)
        })?;
    }
    Ok(tables::rivals(&report))
}

/// What the capacity experiments came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CapacityReport {
    /// Execution alone, by task, in nanoseconds.
    pub alone_ns: Vec<u64>,
    /// Pairs, naive sharing, overload.
    pub wide: WideReport,
    /// By number of lanes.
    pub rows: BTreeMap<u16, CapacityRow>,
    /// What is said to more lanes than hardware queues.
    pub refusal: String,
}

/// Measures what certified lanes and naive sharing carry.
///
/// # Errors
/// What device or models refuse.
pub fn capacity(
    bench: &Bench,
    lanes: &[u16],
    effort: Effort,
    cut: Option<Nanos>,
) -> Result<String, ExperimentError> {
    let file = if cut.is_some() { "capacity-cut" } else { "capacity" };
    let (gpu, store) = (&bench.gpu, &bench.store);
    let models = networks(bench, cut)?;
    let mut report: CapacityReport = store.load(file).unwrap_or_default();
    report.alone_ns = models.iter().map(|model| model.alone_ns).collect();
    measure_wide(bench, &models, lanes, file, &mut report)?;
    let needed = Duration::from_secs_f64(effort.care.campaign * 1.5 + effort.run as f64 + 15.0);
    for &count in lanes {
        let done = report.rows.get(&count).is_some_and(|row| row.certified > 0 || !row.refused.is_empty());
        if done || !bench.affords(needed, &format!("capacity: {count} lanes")) {
            continue;
        }
        let rounds = (bench.allowance.left().as_secs_f64() / (effort.care.campaign * 1.4 + 5.0)) as usize;
        let care = Care { rounds: effort.care.rounds.min(rounds.max(1)), ..effort.care };
        let effort = Effort { care, ..effort };
        store.tell(&format!("capacity: {count} lanes"));
        let row = capacity::measure(gpu, store, &models, &report.wide, count, effort)?;
        report.rows.insert(count, row);
        store.save(file, &report)?;
    }
    if report.refusal.is_empty() {
        report.refusal = capacity::refusal(gpu, store, &models, 10, 8)?;
        store.save(file, &report)?;
    }
    overload(bench, &models, file, &mut report)?;
    Ok(tables::capacity(&report))
}

/// Pairs, naive sharing and busy lanes, as far as they are missing.
fn measure_wide(
    bench: &Bench,
    models: &[Specimen],
    lanes: &[u16],
    file: &str,
    report: &mut CapacityReport,
) -> Result<(), ExperimentError> {
    let missing: Vec<u16> =
        lanes.iter().copied().filter(|count| !report.wide.saturated.contains_key(count)).collect();
    if !report.wide.pairs_milli.is_empty() && report.wide.naive_clean > 0 && missing.is_empty() {
        return Ok(());
    }
    let (case, store) = (arrivals_case(models)?, &bench.store);
    wide::visit(&bench.gpu, store, models, &case, |bed| {
        // First what everything else is compared with.
        if report.wide.naive_clean == 0 {
            store.tell("capacity: naive sharing");
            (report.wide.naive, report.wide.naive_clean) = bed.sweep(store)?;
            store.save(file, report)?;
            println!("naive sharing without a miss up to {:.2}", report.wide.naive_clean as f64 / 1e3);
        }
        if report.wide.pairs_milli.is_empty() {
            store.tell("capacity: pairs");
            report.wide.pairs_milli = bed.pairs(Nanos::from_millis(60))?;
            store.save(file, report)?;
        }
        let pairs = report.wide.pairs();
        for count in missing {
            store.tell(&format!("capacity: {count} busy lanes"));
            let most = bed.saturated(count, 6, Nanos::from_millis(600), &pairs)?;
            report.wide.saturated.insert(count, most);
            store.save(file, report)?;
        }
        Ok(())
    })
}

/// Loads beyond what is certified, for naive sharing and for every assignment that was certified.
fn overload(
    bench: &Bench,
    models: &[Specimen],
    file: &str,
    report: &mut CapacityReport,
) -> Result<(), ExperimentError> {
    let assigned: Vec<(u16, Vec<u16>)> = report
        .rows
        .iter()
        .filter(|(count, row)| **count > 1 && !row.assignment.is_empty())
        .map(|(count, row)| (*count, row.assignment.clone()))
        .collect();
    let mut sharings = vec![Sharing::Naive];
    sharings.extend(assigned.iter().map(|(count, lanes)| {
        let lanes: Vec<LaneId> = lanes.iter().copied().map(LaneId::new).collect();
        Sharing::Lanes(wide::groups(&lanes, usize::from(*count)))
    }));
    let points = sharings.len() as u64 * 2;
    let needed = Duration::from_secs(5 * points);
    if report.wide.overload.len() as u64 >= points || !bench.affords(needed, "capacity: overload") {
        return Ok(());
    }
    let case = arrivals_case(models)?;
    report.wide.overload = wide::visit(&bench.gpu, &bench.store, models, &case, |bed| {
        let mut rows = Vec::new();
        for sharing in &sharings {
            for load in [2_500, 3_500] {
                bench.store.tell(&format!("capacity: overload {:.1}, {}", load as f64 / 1e3, sharing.name()));
                rows.push(bed.serve(load, sharing, 3, false)?);
            }
        }
        Ok(rows)
    })?;
    bench.store.save(file, report)
}
