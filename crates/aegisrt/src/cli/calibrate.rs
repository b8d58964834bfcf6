//! `aegis calibrate`: what the runtime itself costs on this machine, as a file that admission charges.

use std::path::{Path, PathBuf};

use aegis_sched::{Arrival, Overheads};
use aegis_types::Nanos;
use clap::Args;
use serde_json::{Value, json};

use super::answer::{Answer, CliError};
use super::progress::line;
use super::setup::{beside, open_system};
use super::table::Grid;
use super::{Environment, figures, target};
use crate::calibrate::charges::{Charge, samples_of};
use crate::calibrate::{CalibrateOptions, Samples, gaps};
use crate::config::observed::unrest;
use crate::config::{Calibration, CalibrationRound, Figure, Fleet, WaitMode};
use crate::measure::{self, NamedSamples};
use crate::system::System;

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
    /// The longest stall of the host that is declared, where the driver spins; a cycle of the driver comes on top. Longer
    /// ones void what is in flight, and no budget is measured in them [default: the longest that is seen].
    #[arg(long, value_name = "SPAN")]
    stall: Option<Nanos>,
    /// Into how many rounds the time is cut. Of the driver's steps the largest is charged, and told where another has less than
    /// half of it.
    #[arg(long, value_name = "N", default_value_t = CalibrateOptions::default().rounds)]
    rounds: u32,
    /// Ask for the system's real-time class, as `aegis run --realtime` does.
    #[arg(long)]
    realtime: bool,
}

/// More rounds than this leave nothing for each.
const ROUNDS_MAX: u32 = 100;

impl Calibrate {
    pub(super) fn perform(&self, environment: &Environment) -> Result<Answer, CliError> {
        if self.duration.is_zero() {
            return Err(CliError::Input(
                "--duration: is 0ns; legal: a span above zero, for example 5s".to_owned(),
            ));
        }
        if self.rounds == 0 || self.rounds > ROUNDS_MAX {
            let reason = format!("--rounds: is {}; legal: 1 to {ROUNDS_MAX}", self.rounds);
            return Err(CliError::Input(reason));
        }
        let fleet = Fleet::read(&self.fleet)?;
        let output = self.output.clone().unwrap_or_else(|| beside(&self.fleet, "platform.json"));
        target::check("--output", &output, &target::files_of(&fleet))?;
        let (system, _library) = open_system(fleet, environment)?;
        self.check_stall(&system)?;
        let Self { duration, stall, rounds, .. } = *self;
        let options = CalibrateOptions { duration, stall, rounds, ..CalibrateOptions::default() };
        line(&format!("keeping every lane busy for {} ...", figures::span(options.duration)));
        let (file, samples) = measure::calibrate(&system, &output, options, self.realtime)?;
        file.save(&output)?;
        let charges = measure::charges_of(&system);
        let shown =
            Shown { file: &file, samples: &samples, charges: &charges, margin_ppm: options.margin_ppm };
        Ok(Answer::done(shown.text(&system, &output), shown.json(&output)))
    }

    /// A limit below what a thread that spins does between two looks would call its work a stall; one that sleeps cannot
    /// tell the two apart.
    fn check_stall(&self, system: &System) -> Result<(), CliError> {
        let Some(stall) = self.stall else { return Ok(()) };
        let spins = system.fleet().wait() == WaitMode::Spin;
        let legal = match (spins && system.device().context().capabilities.asynchronous, stall < gaps::STALL)
        {
            (false, _) => "only for a device of its own whose fleet says `wait = \"spin\"`".to_owned(),
            (true, true) => format!("{} or more", figures::span(gaps::STALL)),
            (true, false) => return Ok(()),
        };
        Err(CliError::Input(format!("--stall: is {stall}; legal: {legal}")))
    }
}

/// What is shown of a calibration.
struct Shown<'a> {
    file: &'a Calibration,
    samples: &'a [NamedSamples],
    charges: &'a [Charge; 13],
    margin_ppm: u64,
}

impl Shown<'_> {
    fn text(&self, system: &System, output: &Path) -> String {
        let file = self.file;
        let mut text = format!("{}, {}\n", file.machine, file.kernel);
        if let Some(device) = &file.device {
            text.push_str(&format!("{}, {}\n", device.name, device.versions.join(", ")));
        }
        text.push_str(&format!("driver: {}\n\n{}\n", file.driver, self.charged()));
        if let Some(figures) = grid_of(&file.figures) {
            text.push_str(&format!("{figures}\n"));
        }
        if let Some(stalls) = &file.stalls {
            let closest = stalls.closest.map_or_else(String::new, |closest| {
                format!(", the closest two {} apart", figures::span(closest))
            });
            text.push_str(&format!(
                "stalls: the spinning driver watched itself for {}: {} gaps of {} or more{closest}\n",
                figures::span(stalls.observed),
                stalls.count,
                figures::span(stalls.limit),
            ));
        }
        text.push_str(&format!(
            "decider cycle G of this fleet: {}\n",
            figures::maybe(cycle(&file.overheads, system.fleet()))
        ));
        text.push_str(&rounds_of(&file.rounds));
        text.push_str(&format!(
            "charged: the largest sample plus {}; of what threads do without the largest thousandth, which are \
             stalls and counted beside the figures; release, completion and decision at their 99th percentile, and what \
             they take beyond it together in poll\nwrote {}\n",
            figures::margin(self.margin_ppm),
            output.display()
        ));
        text
    }

    fn charged(&self) -> String {
        let mut grid = Grid::new(1, &["overhead", "n", "p50", "p99", "max", "charged"]);
        for (charge, charged) in self.charges.iter().zip(self.file.charged()) {
            let of = charge.from.and_then(|from| samples_of(self.samples, from));
            let [p50, p99, max] = marks(of).map(figures::maybe);
            let count = of.map_or_else(|| "-".to_owned(), |of| of.count().to_string());
            grid.row([charge.overhead.to_owned(), count, p50, p99, max, figures::span(charged)]);
        }
        grid.text()
    }

    fn json(&self, output: &Path) -> Value {
        let file = self.file;
        let row = |(charge, charged): (&Charge, Nanos)| {
            let of = charge.from.and_then(|from| samples_of(self.samples, from));
            let [p50, p99, max] = marks(of).map(|mark| mark.map(Nanos::get));
            json!({
                "overhead": charge.overhead, "method": charge.method, "samples": of.map(Samples::count),
                "p50_ns": p50, "p99_ns": p99, "max_ns": max, "charged_ns": charged.get(),
            })
        };
        let figure = |figure: &Figure| {
            let [p50, p99, p999, max] = figure.marks().map(|(_, mark)| mark.get());
            json!({
                "name": figure.name, "samples": figure.samples,
                "p50_ns": p50, "p99_ns": p99, "p999_ns": p999, "max_ns": max, "stalls": figure.stalls,
            })
        };
        let round =
            |round: &CalibrationRound| json!({ "steps_ns": round.steps.get(), "stalls": round.stalls });
        let stalls = file.stalls.map(|stalls| {
            json!({
                "observed_ns": stalls.observed.get(), "limit_ns": stalls.limit.get(), "count": stalls.count,
                "largest_ns": stalls.largest.get(), "closest_ns": stalls.closest.map(Nanos::get),
            })
        });
        json!({
            "machine": file.machine, "kernel": file.kernel, "driver": file.driver, "output": output,
            "device": file.device, "decider_shares_cores": file.decider_shares_cores,
            "turn_ns": file.turn.map(Nanos::get),
            "overheads": self.charges.iter().zip(file.charged()).map(row).collect::<Vec<_>>(),
            "figures": file.figures.iter().map(figure).collect::<Vec<_>>(),
            "stalls": stalls,
            "rounds": file.rounds.iter().map(round).collect::<Vec<_>>(),
            "calm": unrest(&file.rounds).is_none(),
        })
    }
}

/// What each round would have charged, and whether that says that the host was not calm.
fn rounds_of(rounds: &[CalibrationRound]) -> String {
    let each: Vec<String> = rounds.iter().map(|round| figures::span(round.steps)).collect();
    let mut text = format!("the driver's steps of a launch, as each round has them: {}\n", each.join(", "));
    if let Some((calmest, worst)) = unrest(rounds) {
        let of = |round: usize| rounds[round - 1].steps.get().max(1);
        text.push_str(&format!(
            "the host was not calm: round {worst} has {} times what round {calmest} has; the most is charged, and another \
             calibration may charge less\n",
            of(worst) / of(calmest)
        ));
    }
    text
}

fn marks(of: Option<&Samples>) -> [Option<Nanos>; 3] {
    let figure = |figure: fn(&Samples) -> Nanos| of.map(figure);
    [figure(|of| of.quantile(500)), figure(|of| of.quantile(990)), figure(Samples::max)]
}

/// What was measured and is not charged; `None` without any.
fn grid_of(measured: &[Figure]) -> Option<String> {
    if measured.is_empty() {
        return None;
    }
    let mut grid = Grid::new(1, &["not charged", "n", "p50", "p99", "p99.9", "max", "stalls"]);
    for figure in measured {
        let mut row = vec![figure.name.clone(), figure.samples.to_string()];
        row.extend(figure.marks().map(|(_, mark)| figures::span(mark)));
        row.push(figure.stalls.to_string());
        grid.row(row);
    }
    Some(grid.text())
}

/// The longest cycle of the decider with the tasks of a fleet, as the analysis will charge it; `None` on overflow.
fn cycle(overheads: &Overheads, fleet: &Fleet) -> Option<Nanos> {
    let sporadic = fleet.tasks().iter().filter(|task| task.arrival == Arrival::Sporadic).count() as u64;
    let periodic = fleet.tasks().len() as u64 - sporadic;
    let lanes = fleet.partitions().iter().map(|partition| u64::from(partition.lanes)).sum();
    let lane = overheads.completion.checked_add(overheads.decision)?.checked_add(overheads.dispatch)?;
    let parts = [
        overheads.release.checked_mul(periodic)?,
        overheads.arrival.checked_mul(sporadic)?,
        lane.checked_mul(lanes)?,
        overheads.control,
    ];
    parts.into_iter().try_fold(overheads.poll, Nanos::checked_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_was_not_calm_is_told_of() {
        let rounds = |steps: [u64; 4]| {
            steps.map(|us| CalibrationRound { steps: Nanos::from_micros(us), stalls: 0 }).to_vec()
        };
        let text = rounds_of(&rounds([61, 60, 250, 62]));
        assert!(text.contains("round 3 has 4 times what round 2 has"), "{text}");
        assert!(text.starts_with("the driver's steps") && text.contains("61"), "{text}");
        assert!(!rounds_of(&rounds([61, 60, 120, 62])).contains("not calm"));
        assert_eq!((unrest(&[]), unrest(&rounds([0, 0, 0, 9]))), (None, Some((1, 4))));
    }

    #[test]
    fn every_overhead_has_a_charge_in_its_own_place() {
        for (place, name) in Calibration::OVERHEADS.iter().enumerate() {
            let mut written = serde_json::to_value(Overheads::default()).unwrap();
            written[*name] = json!("7ns");
            let overheads: Overheads = serde_json::from_value(written).unwrap();
            let charged = Calibration::new(Path::new("x"), overheads).charged();
            assert_eq!(charged[place], Nanos::new(7), "{name}");
        }
    }
}
