//! `aegis-memory`: what one memory plan for the demo's models saves, and that their outputs stay the same. Needs the
//! folder that `cargo xtask demo` fills.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use aegis_benches::gpu::card::Gpu;
use aegis_benches::sharing::{Alone, Apart, Bed, Choice, SharingError, Together, Untouched, report};
use clap::Parser;

/// Trained models with private memory beside the same models from one plan, jobs in random order, scratch poisoned.
#[derive(Debug, Parser)]
#[command(name = "aegis-memory")]
struct Arguments {
    /// The folder with library and models [default: what AEGIS_CACHE says].
    #[arg(long)]
    cache: Option<PathBuf>,
    /// The number of the GPU that the models run on; without it they run on the host's cores.
    #[arg(long)]
    gpu: Option<u32>,
    /// Which tasks.
    #[arg(long, value_enum, default_value_t = Choice::Fifteen)]
    fleet: Choice,
    /// Jobs of all tasks together, for each number of lanes.
    #[arg(long, default_value_t = 10_000)]
    jobs: u64,
    /// Where the order of the jobs begins to draw.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Numbers of lanes.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2, 4])]
    lanes: Vec<u16>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let cache = arguments.cache.clone().or_else(|| std::env::var_os("AEGIS_CACHE").map(PathBuf::from));
    let Some(cache) = cache else {
        eprintln!("aegis-memory: no folder with models and library; legal: --cache FOLDER, or AEGIS_CACHE");
        return ExitCode::from(2);
    };
    // Paths of a fleet count from the fleet's folder, which lies in there.
    let cache = std::path::absolute(&cache).unwrap_or(cache);
    match measure(&arguments, &cache) {
        Ok(wrong) => ExitCode::from(u8::from(wrong)),
        Err(error) => {
            eprintln!("aegis-memory: {error}");
            ExitCode::from(2)
        }
    }
}

/// Hardware queues of a process that says nothing else: more than there are lanes here.
const QUEUES: u32 = 8;

/// Prints the tables and says whether anything is wrong.
fn measure(arguments: &Arguments, cache: &Path) -> Result<bool, SharingError> {
    let bed = match arguments.gpu {
        None => Bed::open(cache, arguments.fleet)?,
        Some(ordinal) => Bed::open_on(Gpu::find(ordinal, QUEUES)?, cache, arguments.fleet)?,
    };
    // On the host before anything else, because it is measured by what the process grows; on a GPU behind what loads
    // the libraries' code for ever.
    let early = if bed.is_on_gpu() { None } else { Some(Untouched::run(&bed)?) };
    let order = bed.order(arguments.jobs, arguments.seed);
    eprintln!("every model with memory of its own");
    let alone = Alone::run(&bed, &order)?;
    eprintln!("the library by itself, and private contexts");
    let untouched = early.map_or_else(|| Untouched::run(&bed), Ok)?;
    let apart = bed.is_on_gpu().then(|| Apart::run(&bed, &alone)).transpose()?;
    let run = |&lanes: &u16| {
        eprintln!("one plan, lanes: {lanes}");
        Together::run(&bed, &alone, &order, lanes)
    };
    let runs = arguments.lanes.iter().map(run).collect::<Result<Vec<_>, _>>()?;
    println!("{} jobs from seed {}; sizes in MiB", arguments.jobs, arguments.seed);
    println!("{}", report(&untouched, apart.as_ref(), &alone, &runs, &bed));
    for wrong in runs.iter().flat_map(|run| &run.wrong).take(8) {
        println!("WRONG: {wrong:?}");
    }
    Ok(runs.iter().any(|run| !run.wrong.is_empty() || run.measured() > run.plan.peak()))
}
