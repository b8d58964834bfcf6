//! `aegis calibrate`: what the runtime itself costs on this machine, as a file that admission charges.

use std::path::{Path, PathBuf};

use aegis_types::Nanos;
use clap::Args;
use serde_json::json;

use super::answer::{Answer, CliError};
use super::progress::line;
use super::setup::{beside, open_system};
use super::table::Grid;
use super::{Environment, figures, target};
use crate::calibrate::{CalibrateOptions, Samples};
use crate::config::{Calibration, Fleet};
use crate::measure::{self, CHARGES, NamedSamples, samples_of};

/// Measure what the runtime itself costs on this machine.
#[derive(Debug, Args)]
pub struct Calibrate {
    /// The fleet on whose partitions and lanes it is measured.
    fleet: PathBuf,
    /// Where the calibration is written [default: platform.json beside the fleet].
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// How long the lanes are kept busy.
    #[arg(long, value_name = "SPAN", default_value = "5s")]
    duration: Nanos,
    /// Ask for the system's real-time class, as `aegis run --realtime` does.
    #[arg(long)]
    realtime: bool,
}

impl Calibrate {
    pub(super) fn perform(&self, environment: &Environment) -> Result<Answer, CliError> {
        if self.duration.is_zero() {
            return Err(CliError::Input(
                "--duration: is 0ns; legal: a span above zero, for example 5s".to_owned(),
            ));
        }
        let fleet = Fleet::read(&self.fleet)?;
        let output = self.output.clone().unwrap_or_else(|| beside(&self.fleet, "platform.json"));
        target::check("--output", &output, &target::files_of(&fleet))?;
        let (system, _library) = open_system(fleet, environment)?;
        let options = CalibrateOptions { duration: self.duration, ..CalibrateOptions::default() };
        line(&format!("keeping every lane busy for {} ...", figures::span(options.duration)));
        let (file, samples) = measure::calibrate(&system, &output, options, self.realtime)?;
        file.save(&output)?;
        Ok(answer(&file, &samples, options.margin_ppm, &output))
    }
}

fn answer(file: &Calibration, samples: &[NamedSamples], margin_ppm: u64, output: &Path) -> Answer {
    let mut grid = Grid::new(1, &["overhead", "n", "p50", "p99", "max", "charged"]);
    let mut rows = Vec::new();
    for (&(name, from, method), charged) in CHARGES.iter().zip(file.charged()) {
        let of = from.and_then(|from| samples_of(samples, from));
        let figure = |figure: fn(&Samples) -> Nanos| of.map(figure);
        let marks = [figure(|of| of.quantile(500)), figure(|of| of.quantile(990)), figure(Samples::max)];
        let count = of.map_or_else(|| "-".to_owned(), |of| of.count().to_string());
        let [p50, p99, max] = marks.map(figures::maybe);
        grid.row([name.to_owned(), count, p50, p99, max, figures::span(charged)]);
        let [p50, p99, max] = marks.map(|mark| mark.map(Nanos::get));
        rows.push(json!({
            "overhead": name, "method": method, "samples": of.map(Samples::count),
            "p50_ns": p50, "p99_ns": p99, "max_ns": max, "charged_ns": charged.get(),
        }));
    }
    let text = format!(
        "{}, {}\ndriver: {}\n\n{}\ncharged: the largest sample plus {}; of engine steps without the largest \
         thousandth, which are stalls\nwrote {}\n",
        file.machine,
        file.kernel,
        file.driver,
        grid.text(),
        figures::margin(margin_ppm),
        output.display()
    );
    let json = json!({
        "machine": file.machine, "kernel": file.kernel, "driver": file.driver, "output": output,
        "decider_shares_cores": file.decider_shares_cores, "overheads": rows,
    });
    Answer::done(text, json)
}

#[cfg(test)]
mod tests {
    use aegis_sched::Overheads;

    use super::*;

    #[test]
    fn every_overhead_has_a_charge_in_its_own_place() {
        let names: Vec<&str> = CHARGES.iter().map(|(name, _, _)| *name).collect();
        assert_eq!(names, Calibration::OVERHEADS);
        for (place, name) in names.iter().enumerate() {
            let mut written = serde_json::to_value(Overheads::default()).unwrap();
            written[*name] = json!("7ns");
            let overheads: Overheads = serde_json::from_value(written).unwrap();
            let charged = Calibration::new(Path::new("x"), overheads).charged();
            assert_eq!(charged[place], Nanos::new(7), "{name}");
        }
    }
}
