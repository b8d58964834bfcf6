//! `aegis-gpu`: the experiments on a GPU, one stage at a time. Without a GPU it says what is missing and ends in order.
#![forbid(unsafe_code)]

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use aegis_benches::CountingAllocator;
use aegis_benches::gpu::backends::Libraries;
use aegis_benches::gpu::capacity::Effort;
use aegis_benches::gpu::card::{Gpu, QUEUES_VARIABLE};
use aegis_benches::gpu::error::ExperimentError;
use aegis_benches::gpu::jobs::{Care, Division};
use aegis_benches::gpu::rivals::Layout;
use aegis_benches::gpu::stages::{self, Bench};
use aegis_benches::gpu::store::{Allowance, Store};
use aegis_types::Nanos;
use aegisrt::config::LaunchMode;
use clap::{Args, Parser, Subcommand, ValueEnum};

/// Counted, because "allocates nothing" is a claim.
#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// As many hardware queues as the driver knows.
const QUEUES: u32 = 32;

/// Experiments on a GPU. Every stage writes FOLDER/STAGE.json and goes on from it when it is started again.
#[derive(Debug, Parser)]
#[command(
    name = "aegis-gpu",
    after_help = "Exit codes: 0 measured, 1 something failed, 2 wrong arguments, 77 there is no such GPU, and why is said"
)]
struct Arguments {
    /// The GPU's number.
    #[arg(long, default_value_t = 0)]
    device: u32,
    /// Where results are written.
    #[arg(long, value_name = "FOLDER", default_value = "gpu-results")]
    out: PathBuf,
    /// ONNX Runtime with its CUDA provider beside it, for experiments on networks.
    #[arg(long, value_name = "LIBRARY")]
    onnx: Option<PathBuf>,
    /// Let the driver launch, in every fleet that an experiment serves; without it, carriers do.
    #[arg(long)]
    driver_launches: bool,
    /// How long the stage may take; what is missing then is measured by the next call.
    #[arg(long, default_value_t = 520)]
    seconds: u64,
    #[command(subcommand)]
    stage: Stage,
}

/// How carefully budgets are measured.
#[derive(Clone, Copy, Debug, Args)]
struct CareArguments {
    /// Seconds of one campaign over the whole fleet: 28 for short tasks, 40 for networks.
    #[arg(long)]
    campaign: Option<f64>,
    /// Rounds of campaign and search for better lanes.
    #[arg(long, default_value_t = 2)]
    rounds: usize,
    /// Margin of budgets, in millionths.
    #[arg(long, default_value_t = 100_000)]
    margin: u64,
}

impl CareArguments {
    fn care(self, campaign: f64) -> Care {
        let campaign = self.campaign.unwrap_or(campaign);
        Care { campaign, rounds: self.rounds, margin_ppm: self.margin }
    }
}

/// Seconds of a campaign over the short tasks.
const SHORT_CAMPAIGN: f64 = 28.0;
/// Seconds of a campaign over the networks.
const NETWORK_CAMPAIGN: f64 = 40.0;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum DivisionName {
    /// One lane.
    One,
    /// Four lanes.
    Four,
    /// Eight lanes.
    Eight,
    /// Two partitions of three lanes.
    Partitions,
}

#[derive(Debug, Subcommand)]
enum Stage {
    /// One graph launch with a polled flag, from one spinning thread.
    Floor {
        /// Launches back to back; a tenth of it with pauses.
        #[arg(long, default_value_t = 100_000)]
        count: u64,
    },
    /// Small copies by a kernel beside copies by the copy engines.
    Copies {
        /// Seconds of all slices together.
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=3_600))]
        seconds: u64,
    },
    /// What a job costs over its backend's own loop; or whether the outputs of a served fleet are right.
    Backends {
        /// The fleet whose tasks are measured one by one, or served.
        fleet: PathBuf,
        /// The folder of TVM's libraries, for tasks that run on it.
        #[arg(long, value_name = "FOLDER")]
        tvm: Option<PathBuf>,
        /// Only these tasks.
        #[arg(long, value_name = "TASK", value_delimiter = ',', conflicts_with = "served")]
        tasks: Vec<String>,
        /// Serve the fleet for so many seconds, as it was calibrated and profiled, and compare the outputs of its first
        /// jobs with plain runs.
        #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3_600))]
        served: Option<u64>,
    },
    /// What the whole runtime adds to the floor.
    Overhead {
        /// Numbers of tasks.
        #[arg(long, value_delimiter = ',', default_values_t = [1, 8, 30])]
        tasks: Vec<u16>,
        /// Repetitions at most, floor and runtime by turns, a quarter of a second each.
        #[arg(long, default_value_t = 400)]
        repetitions: u32,
    },
    /// Thirty short tasks at the highest certified load, until a million jobs are through.
    Jobs {
        /// Which divisions of the device.
        #[arg(long, value_enum, value_delimiter = ',')]
        divisions: Vec<DivisionName>,
        /// Jobs of all divisions together.
        #[arg(long, default_value_t = 1_040_000)]
        total: u64,
        #[command(flatten)]
        care: CareArguments,
    },
    /// Twenty networks: certified capacity beside naive sharing.
    Capacity {
        /// Numbers of lanes.
        #[arg(long, value_delimiter = ',', default_values_t = [1, 2, 4, 6, 8, 10])]
        lanes: Vec<u16>,
        #[command(flatten)]
        care: CareArguments,
        /// Seconds of the run at the certified load.
        #[arg(long, default_value_t = 8)]
        run: u64,
        /// Cut networks into segments that take no longer than this alone, in microseconds.
        #[arg(long)]
        cut: Option<u64>,
    },
    /// A generated fleet of networks: ours beside naive sharing, a single queue and stream priorities.
    Rivals {
        /// The fleet.
        #[arg(long, default_value = "ad20")]
        fleet: String,
        /// Networks that compute with 32 bits instead of 16.
        #[arg(long)]
        fp32: bool,
        /// Execution alone over period, in thousandths.
        #[arg(long, value_delimiter = ',', default_values_t = [500, 900, 1_500, 2_500])]
        loads: Vec<u64>,
        /// Numbers of lanes of the whole device.
        #[arg(long, value_delimiter = ',', default_values_t = [8])]
        lanes: Vec<u16>,
        /// Multiprocessors of a critical partition with two lanes, beside one with four; 0 for none.
        #[arg(long, default_value_t = 64)]
        critical: u32,
        /// Lanes of the highest stream priority, for tasks of high criticality only, in one more layout on the last number
        /// of lanes; 0 for none.
        #[arg(long, default_value_t = 0)]
        urgent: u16,
        /// Segments of each network in one more layout, on the last number of lanes; below 2 for none.
        #[arg(long, default_value_t = 2)]
        pieces: usize,
        /// Seconds of each cell.
        #[arg(long, default_value_t = 5)]
        run: u64,
        #[command(flatten)]
        care: CareArguments,
    },
    /// A thousand jobs of every kind of kernel alone.
    Determinism {
        /// Numbers of lanes.
        #[arg(long, value_delimiter = ',', default_values_t = [1, 4, 8])]
        lanes: Vec<u16>,
    },
    /// A small network beside a hog.
    Isolation,
    /// A long run: nothing grows, nobody allocates.
    Soak {
        /// How long it serves.
        #[arg(long, default_value_t = 480)]
        length: u64,
        #[command(flatten)]
        care: CareArguments,
    },
}

/// Nothing was measured: what test harnesses take for "skipped", so that no script takes it for a result.
const SKIPPED: u8 = 77;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let queues = match queues() {
        Ok(queues) => queues,
        Err(reason) => {
            eprintln!("{reason}");
            return ExitCode::from(2);
        }
    };
    match perform(&arguments, queues) {
        Ok(table) => {
            print!("{table}");
            ExitCode::SUCCESS
        }
        Err(skipped @ ExperimentError::Skipped(_)) => {
            eprintln!("{skipped}");
            ExitCode::from(SKIPPED)
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// How many hardware queues the driver gives this process. Where nothing is said, the program replaces itself by itself
/// with the variable set: the driver reads it once, and no other thread runs yet.
fn queues() -> Result<u32, String> {
    if let Some(value) = std::env::var_os(QUEUES_VARIABLE) {
        let number = value.to_str().and_then(|text| text.parse().ok());
        return number.filter(|number| (1..=QUEUES).contains(number)).ok_or_else(|| {
            format!("{QUEUES_VARIABLE}: is {value:?}; legal: a whole number from 1 to {QUEUES}")
        });
    }
    let program = std::env::current_exe().map_err(|error| format!("finding this program: {error}"))?;
    let arguments = std::env::args_os().skip(1);
    // Returns only if it failed.
    let error = Command::new(program).args(arguments).env(QUEUES_VARIABLE, QUEUES.to_string()).exec();
    Err(format!("setting {QUEUES_VARIABLE}: {error}"))
}

fn perform(arguments: &Arguments, queues: u32) -> Result<String, ExperimentError> {
    let allowance = Allowance::of(Duration::from_secs(arguments.seconds));
    let launch = if arguments.driver_launches { LaunchMode::Driver } else { LaunchMode::Carrier };
    let gpu = Gpu { launch, ..Gpu::find(arguments.device, queues)? };
    let store = Store::open(&arguments.out)?;
    println!("{} ({}), {} SMs, {} hardware queues", gpu.name, gpu.versions.join(", "), gpu.sms, gpu.queues);
    let bench = Bench { gpu, store, allowance };
    match &arguments.stage {
        Stage::Floor { count } => stages::floor(&bench, *count),
        Stage::Copies { seconds } => stages::copies(&bench, *seconds),
        Stage::Backends { fleet, tvm, tasks, served } => {
            let gpu = match &arguments.onnx {
                None => bench.gpu.clone(),
                path => bench.gpu.clone().with_networks(path.as_deref())?,
            };
            let libraries = Libraries { tvm: tvm.clone() };
            stages::backends(&Bench { gpu, ..bench }, &libraries, fleet, tasks, *served)
        }
        Stage::Overhead { tasks, repetitions } => stages::overhead(&bench, tasks, *repetitions),
        Stage::Jobs { divisions, total, care } => {
            stages::jobs(&bench, &chosen(divisions), *total, care.care(SHORT_CAMPAIGN))
        }
        Stage::Capacity { lanes, care, run, cut } => {
            let effort = Effort { care: care.care(NETWORK_CAMPAIGN), run: *run };
            stages::capacity(&bench, lanes, effort, cut.map(Nanos::from_micros))
        }
        Stage::Rivals { fleet, fp32, loads, lanes, critical, urgent, pieces, run, care } => {
            let gpu = bench.gpu.clone().with_networks(arguments.onnx.as_deref())?;
            let effort = Effort { care: care.care(NETWORK_CAMPAIGN), run: *run };
            let layouts = layouts(lanes, *critical, *urgent, *pieces)?;
            stages::rivals(&Bench { gpu, ..bench }, fleet, !fp32, &layouts, loads, effort)
        }
        Stage::Determinism { lanes } => stages::determinism(&bench, lanes),
        Stage::Isolation => stages::isolation(&bench),
        Stage::Soak { length, care } => stages::soak(&bench, *length, care.care(SHORT_CAMPAIGN)),
    }
}

/// The whole device with so many lanes each, then a critical partition, then urgent lanes, then networks in segments.
fn layouts(lanes: &[u16], critical: u32, urgent: u16, pieces: usize) -> Result<Vec<Layout>, ExperimentError> {
    let whole = |&lanes: &u16| Layout::whole(lanes);
    let mut layouts: Vec<Layout> = lanes.iter().map(whole).collect();
    let last = whole(lanes.last().unwrap_or(&1));
    if critical > 0 {
        let label = format!("critical {critical} SMs");
        layouts.push(Layout { label, critical: Some((critical, 2)), ..Layout::whole(4) });
    }
    if urgent >= last.lanes {
        let what = format!("--urgent: {urgent} of {}", last.label);
        return Err(ExperimentError::Illegal { what, legal: "fewer than all lanes".into() });
    }
    if urgent > 0 {
        let label = format!("{}, {urgent} urgent", last.label);
        layouts.push(Layout { label, urgent, ..last.clone() });
    }
    if pieces > 1 {
        let label = format!("{}, {pieces} segments", last.label);
        layouts.push(Layout { label, pieces, ..last });
    }
    Ok(layouts)
}

fn chosen(names: &[DivisionName]) -> Vec<Division> {
    if names.is_empty() {
        return Division::ALL.to_vec();
    }
    let division = |name: &DivisionName| match name {
        DivisionName::One => Division::Lanes(1),
        DivisionName::Four => Division::Lanes(4),
        DivisionName::Eight => Division::Lanes(8),
        DivisionName::Partitions => Division::TwoPartitions,
    };
    names.iter().map(division).collect()
}
