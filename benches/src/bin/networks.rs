//! `aegis-networks`: makes networks and writes a fleet of them, where it is to run.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

use aegis_benches::networks::fleets::{Costs, FLEETS, FleetPlan, Kind, Place, Utilisation, write};
use aegis_benches::networks::{DESIGNS, Precision, Size};
use aegisrt::config::Profile;
use clap::Parser;

/// Makes networks with seeded weights as ONNX files, and a fleet of them at a target utilisation.
///
/// Networks have the operators and shapes of published ones and know nothing: they stand for work.
#[derive(Debug, Parser)]
#[command(name = "aegis-networks")]
struct Arguments {
    /// The fleet, or `list` for all fleets and networks.
    fleet: String,
    /// Folder for the networks and fleet.toml; it is made if need be.
    #[arg(long, default_value = "fleet")]
    out: PathBuf,
    /// Sum over tasks of execution alone over period, for example 0.9.
    #[arg(long, default_value = "0.5")]
    utilisation: Utilisation,
    /// How numbers inside the networks are stored.
    #[arg(long, value_enum, default_value = "fp32")]
    precision: Precision,
    /// What the fleet runs on.
    #[arg(long, value_enum, default_value = "cuda")]
    device: Kind,
    /// The word for the backend in the fleet.
    #[arg(long, default_value = "onnx")]
    backend: String,
    /// A profile of the same tasks: what each costs alone. Without it costs are estimated from the networks' work.
    #[arg(long)]
    profile: Option<PathBuf>,
    /// Cores of a host.
    #[arg(long, value_delimiter = ',', default_values_t = [0, 1])]
    cores: Vec<u32>,
    /// Streaming multiprocessors of a GPU.
    #[arg(long, default_value_t = 132)]
    sms: u32,
    /// Lanes of a GPU; a host has one for each core.
    #[arg(long, default_value_t = 4)]
    lanes: u32,
    /// Multiprocessors or cores that only tasks of high criticality use; 0 for one partition.
    #[arg(long, default_value_t = 0)]
    critical: u32,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("aegis-networks: {message}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: Arguments) -> Result<String, String> {
    if arguments.fleet == "list" {
        return Ok(list());
    }
    let plan = FleetPlan::find(&arguments.fleet).ok_or_else(|| {
        let names: Vec<&str> = FLEETS.iter().map(|fleet| fleet.name).collect();
        format!("there is no fleet `{}`; legal: {}, list", arguments.fleet, names.join(", "))
    })?;
    let costs = match &arguments.profile {
        Some(path) => Costs::of(&Profile::load(path).map_err(|error| error.to_string())?),
        None => Costs::default(),
    };
    let place = Place {
        kind: arguments.device,
        backend: arguments.backend,
        precision: arguments.precision,
        cores: arguments.cores,
        sms: arguments.sms,
        lanes: arguments.lanes,
        critical: arguments.critical,
    };
    let written = write(plan, &place, &costs, arguments.utilisation, &arguments.out)
        .map_err(|error| error.to_string())?;
    let mut text = format!("{}\n", plan.about);
    for (name, cost, measured, time) in &written.tasks {
        let origin = if *measured { "measured" } else { "estimated" };
        text +=
            &format!("  {name:<16} {cost} {origin}, every {}, due within {}\n", time.period, time.deadline);
    }
    Ok(text + &format!("{}\n", written.fleet.display()))
}

fn list() -> String {
    let mut text = String::from("fleets:\n");
    for fleet in &FLEETS {
        text += &format!("  {:<18} {}\n", fleet.name, fleet.about);
    }
    text += "networks, in full size and 32 bits:\n";
    for design in &DESIGNS {
        let made = design.make(Size::Full, Precision::Fp32, 1);
        text += &format!(
            "  {:<18} {}; {} operators, {} million multiplications, {} MB of weights\n",
            design.name,
            design.about,
            made.nodes,
            made.work / 1_000_000,
            made.weights / 1_000_000
        );
    }
    text
}
