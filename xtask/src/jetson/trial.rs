//! `cargo xtask jetson --test`: the programs of a bundle for the board, run on this machine under emulation.
//!
//! Three parts: the test programs, as the bundle's own script runs them; a fleet of real models on the real library of
//! the board's processor; and traces handed from one architecture to the other, read and replayed there.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::emulator::{self, Emulator};
use super::packages::EMULATOR;
use super::{TARGET, board};
use crate::error::Error;
use crate::process;
use crate::table;
use crate::workspace::Workspace;

/// The crates whose tests say something about another processor: what touches memory order, byte order, clocks,
/// threads, the system's calls and the library of the models. Analysis and planning are arithmetic on whole numbers;
/// the replays below make their decisions on both architectures.
pub const TESTED: [&str; 5] =
    ["aegis-types", "aegis-trace", "aegis-cuda", "aegis-context", "aegis-backend-onnx"];

/// Longest run of one test program; a program that hangs must not cost the whole stage.
const PROGRAM_LIMIT: &str = "180";

/// Cases of each property: an emulator needs ten to fifty times as long for each.
const PROPERTY_CASES: &str = "16";

/// One group of test programs, by words of their names, the tests of theirs that are run, none for all, and those that
/// are not.
struct Group {
    folder: &'static str,
    programs: &'static [&'static str],
    tests: &'static [&'static str],
    left_out: &'static [&'static str],
}

/// What is run. Of the tests with real models those with small ones: an emulator needs minutes for a large network, and
/// the fleet runs more. Left out are two controls of the conformance suite, which say nothing about a processor and
/// compute for minutes.
const GROUPS: [Group; 2] = [
    Group {
        folder: "logs",
        programs: &["aegis-types", "aegis-trace", "aegis-cuda", "aegis-context", "aegis-backend-onnx.lib"],
        tests: &[],
        left_out: &["a_copy_that_is_not_made_is_found", "a_device_that_claims_graphs_and_has_none_is_found"],
    },
    Group {
        folder: "logs-models",
        programs: &["aegis-backend-onnx.onnx"],
        tests: &["budget::", "refusals::", "a_recurrent_model_conforms", "silero_equals_the_plain_run"],
        left_out: &[],
    },
];

/// Exit code of `aegis run` where every miss is explained: an emulated machine breaks its assumptions as it likes.
const EXPLAINED: i32 = 4;

/// What a trial works with.
struct Trial {
    bundle: PathBuf,
    folder: PathBuf,
    emulator: Emulator,
    native: PathBuf,
}

/// What the test programs came to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Count {
    programs: usize,
    passed: u64,
    ignored: u64,
}

impl Count {
    const fn add(&mut self, other: &Self) {
        self.programs += other.programs;
        self.passed += other.passed;
        self.ignored += other.ignored;
    }
}

/// Runs all three parts on `bundle` and prints what came of them.
///
/// # Errors
/// The first failure of a program, and [`Error::Jetson`] where no test ran or a trace differs between architectures.
pub fn run(workspace: &Workspace, bundle: &Path) -> Result<(), Error> {
    let begun = Instant::now();
    let native = build_native(workspace)?;
    let folder = workspace.jetson_trial();
    let emulator = Emulator::prepare(&folder, emulator::cores())?;
    let trial = Trial { bundle: absolute(bundle)?, folder, emulator, native };
    let cache = trial.link_cache(workspace)?;
    let tests = Instant::now();
    let count = trial.tests(&cache)?;
    let tests = tests.elapsed();
    let fleet = Instant::now();
    trial.fleet(&cache)?;
    trial.exchange(&cache)?;
    let rows = [
        row(
            "test programs",
            tests,
            &format!(
                "{} tests of {} programs passed, {} ignored",
                count.passed, count.programs, count.ignored
            ),
        ),
        row(
            "fleet and traces",
            fleet.elapsed(),
            "every job's output compared; traces read and replayed both ways",
        ),
        row("total", begun.elapsed(), ""),
    ];
    print!("\nunder {EMULATOR}:\n{}", table::aligned(["part", "time", "result"], &rows));
    Ok(())
}

fn row(part: &str, took: Duration, result: &str) -> [String; 3] {
    [part.to_owned(), table::spelled(took), result.to_owned()]
}

/// The command line for this machine, which the traces are exchanged with.
///
/// It is built as what one of its tests needs: after the tests of the workspace nothing is left to do, while a build of
/// it alone chooses other features of what it stands on, and would compile all of that again.
fn build_native(workspace: &Workspace) -> Result<PathBuf, Error> {
    let mut build = process::cargo(workspace.root());
    process::run(build.args(["test", "--no-run", "--workspace", "--test", "host"]), None)?;
    Ok(workspace.debug_aegis())
}

impl Trial {
    /// A folder with the library of the board's processor and the models, as the programs look for them.
    fn link_cache(&self, workspace: &Workspace) -> Result<PathBuf, Error> {
        let cache = self.folder.join("cache");
        std::fs::create_dir_all(&cache).map_err(Error::io("create", &cache))?;
        let shared = absolute(&workspace.cache())?;
        let library = shared.join(TARGET).join("onnxruntime");
        for (name, source) in [("onnxruntime", library), ("models", shared.join("models"))] {
            let place = cache.join(name);
            if place.symlink_metadata().is_ok() {
                std::fs::remove_file(&place).map_err(Error::io("remove", &place))?;
            }
            symlink(source, &place).map_err(Error::io("link", &place))?;
        }
        Ok(cache)
    }

    fn tests(&self, cache: &Path) -> Result<Count, Error> {
        println!("\n== test programs under {EMULATOR}");
        let mut all = Count::default();
        for group in &GROUPS {
            all.add(&self.group(group, cache)?);
        }
        Ok(all)
    }

    fn group(&self, group: &Group, cache: &Path) -> Result<Count, Error> {
        let logs = self.folder.join(group.folder);
        let aegis = self.emulator.wrapper("aegis", &self.bundle.join("bin/aegis"))?;
        let mut command = Command::new("sh");
        command.arg(self.bundle.join("run-tests.sh")).args(["--limit", PROGRAM_LIMIT, "--logs"]).arg(&logs);
        command.args(group.programs.iter().flat_map(|word| ["--only", word])).arg("--").args(group.tests);
        command.args(group.left_out.iter().flat_map(|test| ["--skip", test]));
        command.env("AEGIS_RUNNER", EMULATOR).env("AEGIS_PROGRAM", aegis).env("AEGIS_CACHE", cache);
        command.env("PROPTEST_CASES", PROPERTY_CASES).envs(self.emulator.variables());
        process::run(&mut command, None)?;
        let place = logs.join("table.txt");
        let text = std::fs::read_to_string(&place).map_err(Error::io("read", &place))?;
        let count = counted(&text);
        if count.passed == 0 {
            return Err(Error::Jetson(format!("no test ran under {EMULATOR}: {}", place.display())));
        }
        Ok(count)
    }

    /// The main job on the board's processor.
    fn fleet(&self, cache: &Path) -> Result<(), Error> {
        println!("\n== a fleet of real models under {EMULATOR}");
        let fleet = self.folder.join("fleets").join("emulated.toml");
        let folder = fleet.parent().unwrap_or(&self.folder);
        // What an earlier trial measured must not take part in this one.
        if folder.exists() {
            std::fs::remove_dir_all(folder).map_err(Error::io("remove", folder))?;
        }
        std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        let text = board::emulated(first_cores());
        std::fs::write(&fleet, text).map_err(Error::io("write", &fleet))?;
        for arguments in [
            &["devices"][..],
            &["calibrate", "emulated.toml", "--duration", "1s"],
            &["profile", "emulated.toml", "--seconds", "1s"],
            // How slow the emulator is nobody knows before: the periods follow from what was measured.
            &["admit", "emulated.toml", "--fit", "100ms", "--slack", "10%", "--write", "board.toml"],
            &["run", "board.toml", "--duration", "6s", "--trace", "board.aegis", "--check-outputs"],
            &["explain", "board.aegis", "--task", "silero_vad"],
        ] {
            self.step(self.emulated(cache).args(arguments))?;
        }
        Ok(())
    }

    /// Each architecture reads what the other one wrote, says the same of it byte for byte, and makes every decision
    /// of it again.
    fn exchange(&self, cache: &Path) -> Result<(), Error> {
        println!("\n== traces from one architecture to the other");
        let measured = ["--platform", "here-platform.json", "--profile", "here-profile.json"];
        for arguments in [
            &["calibrate", "emulated.toml", "--duration", "1s", "--output", "here-platform.json"][..],
            &[
                "profile",
                "emulated.toml",
                "--seconds",
                "1s",
                "--platform",
                measured[1],
                "--output",
                measured[3],
            ],
            &["run", "emulated.toml", "--duration", "4s", "--trace", "here.aegis"],
        ] {
            let measured = if arguments[0] == "run" { &measured[..] } else { &[] };
            self.step(self.own(cache).args(arguments).args(measured))?;
        }
        for trace in ["board.aegis", "here.aegis"] {
            self.step(self.own(cache).args(["replay", trace]))?;
            self.step(self.emulated(cache).args(["replay", trace]))?;
            let mut said = Vec::new();
            for (mut program, place) in [(self.own(cache), "here.json"), (self.emulated(cache), "board.json")]
            {
                self.step(program.args(["export", trace, "--json", place]).stdout(Stdio::null()))?;
                let place = self.folder.join("fleets").join(place);
                said.push(std::fs::read(&place).map_err(Error::io("read", &place))?);
            }
            if said[0] != said[1] || said[0].is_empty() {
                return Err(Error::Jetson(format!("{trace} reads differently on the two architectures")));
            }
            println!("{trace}: {} bytes of records read alike on both architectures", said[0].len());
        }
        Ok(())
    }

    /// The command line of the board, in the folder of the fleet.
    fn emulated(&self, cache: &Path) -> Command {
        let mut command = Command::new(EMULATOR);
        command.arg(self.bundle.join("bin/aegis")).envs(self.emulator.variables());
        command.env("AEGIS_CACHE", cache).current_dir(self.folder.join("fleets"));
        command
    }

    /// The command line of this machine, with the models and the library of its own.
    fn own(&self, cache: &Path) -> Command {
        let mut command = Command::new(&self.native);
        // Beside the models stands the other processor's library: this one's is a folder above what it links to.
        let library = std::fs::canonicalize(cache.join("models")).unwrap_or_default();
        let library = library.join("../onnxruntime/libonnxruntime.so");
        command.env("AEGIS_ONNXRUNTIME", library).current_dir(self.folder.join("fleets"));
        command
    }

    fn step(&self, command: &mut Command) -> Result<(), Error> {
        match process::exit_code(command, None)? {
            0 | EXPLAINED => Ok(()),
            code => Err(Error::Failed { command: process::line(command), code }),
        }
    }
}

/// The sums over the lines of a table that `run-tests.sh` writes.
fn counted(table: &str) -> Count {
    let mut count = Count::default();
    for line in table.lines().skip(1) {
        let mut columns = line.split_whitespace().skip(1).map(|word| word.parse::<u64>().unwrap_or(0));
        let (passed, _failed, ignored) = (columns.next(), columns.next(), columns.next());
        count.programs += 1;
        count.passed += passed.unwrap_or(0);
        count.ignored += ignored.unwrap_or(0);
    }
    count
}

/// The first two cores that this process may use.
fn first_cores() -> [u32; 2] {
    crate::fleet::two_cores()
}

fn absolute(path: &Path) -> Result<PathBuf, Error> {
    std::path::absolute(path).map_err(Error::io("find", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_that_are_chosen_exist() {
        let crates = Workspace::current().root().join("crates");
        let suite = std::fs::read_to_string(crates.join("aegis-cuda/src/conformance/tests.rs")).unwrap();
        for test in GROUPS[0].left_out {
            assert!(suite.contains(&format!("fn {test}(")), "there is no test {test}");
        }
        let folder = crates.join("aegis-backend-onnx/tests/onnx");
        let mut names = Vec::new();
        let mut sources = String::new();
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            names.push(format!("{}::", path.file_stem().unwrap().to_string_lossy()));
            sources.push_str(&std::fs::read_to_string(path).unwrap());
        }
        for test in GROUPS[1].tests {
            let exists = names.iter().any(|name| name == test) || sources.contains(&format!("fn {test}("));
            assert!(exists, "there is no test {test} among {names:?}");
        }
    }

    #[test]
    fn passes_are_summed_and_silence_counts_for_nothing() {
        let table = "program passed failed ignored left-out s result\n\
                     a.lib 5 0 1 0 3 ok\nb.lib - - - 0 1 SILENT: nothing\n\
                     c.suite 7 0 0 2 9 ok\n";
        assert_eq!(counted(table), Count { programs: 3, passed: 12, ignored: 1 });
        assert_eq!(counted("program passed\n"), Count::default());
    }
}
