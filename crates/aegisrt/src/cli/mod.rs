//! The command line `aegis`: one file for each command, and what they share.
//!
//! Every command is a function from its arguments to an [`Answer`]: text for people, JSON for programs, an exit code.
//! Only this module reads the environment and only [`main`] writes to standard output; progress and live lines go to
//! standard error, so that what is piped is the answer alone.
//!
//! | module | what it is |
//! |---|---|
//! | [`connections`] | hardware queues of a GPU, asked for before anything is started |
//! | [`answer`], `misuse` | answers, errors and the documented exit codes; wrong arguments |
//! | [`figures`], [`table`], [`progress`] | quantities, tables and progress for people |
//! | [`backends`] | the backends of this program, and the libraries that they stand on |
//! | [`setup`] | a fleet with its measured files, on its device, every task on a lane |
//! | [`recorded`] | a device of another machine, as its measured files tell of it |
//! | [`pressure`] | how full a device is, and who could make room |
//! | [`chains`] | cause-effect chains beside their limits |
//! | [`groups`] | groups of tasks beside their budgets and agreements |
//! | [`verdict`], [`summary`], [`outputs`] | what admission says, what a run left, whether its outputs are right |
//! | [`stored`] | a run read back from its trace |
//! | [`target`] | the files that a command is about to write: checked, and written whole |

mod admit;
pub mod answer;
pub mod backends;
mod calibrate;
pub mod chains;
pub mod connections;
mod devices;
mod explain;
mod export;
pub mod figures;
mod fit;
pub mod groups;
mod misuse;
pub mod outputs;
mod overload;
mod plan;
pub mod pressure;
mod profile;
pub mod progress;
pub mod recorded;
mod replay;
mod run;
mod sag;
#[cfg(feature = "onnx")]
mod segment;
pub mod setup;
mod simulate;
pub mod stored;
pub mod summary;
mod svg;
pub mod table;
pub mod target;
pub mod verdict;

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use answer::{Answer, CliError, Exit};

const EXIT_CODES: &str = "\
Exit codes:
    0  done
    1  a deadline was missed or a bound exceeded although every assumption held, an output was wrong, or a
       check failed
    2  bad input
    3  refused by admission, in time or in memory, or because a group exceeds its budgets
    4  deadlines were missed, or jobs failed or were dropped, each explained by a broken assumption
    5  undecided: a limit of states, memory or time was reached before a verdict, or a change still waits at the
       end of a simulation
   70  the machine or a library failed
  130  ended by Ctrl-C, with a complete trace

Environment:
  AEGIS_ONNXRUNTIME  the path of libonnxruntime.so
  AEGIS_TVM          the folder of TVM's runtime libraries
  AEGIS_TENSORRT     the path of TensorRT's lean runtime or of libnvinfer.so
  AEGIS_CACHE        a folder that `cargo xtask fetch` filled, used where one of these is not set
  CUDA_DEVICE_MAX_CONNECTIONS
                     hardware queues of a GPU, 1 to 32; where it is not set and the fleet names a cuda
                     device, the program starts itself over with 32";

/// Lets many models share one device with certified response times, and says where the time of every job went.
#[derive(Debug, Parser)]
#[command(name = "aegis", version, after_help = EXIT_CODES, arg_required_else_help = true)]
struct Cli {
    /// How the answer is written.
    #[arg(long, global = true, value_enum, default_value_t = Format::Text)]
    format: Format,
    #[command(subcommand)]
    command: Command,
}

/// For whom the answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people: numbers rounded to four digits.
    Text,
    /// For programs: one JSON object, spans as whole nanoseconds.
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Say what this machine offers: cores, partitions, memory, capabilities.
    Devices(devices::Devices),
    /// Measure what the runtime itself costs on this machine.
    Calibrate(calibrate::Calibrate),
    /// Measure what each model of a fleet costs, alone and beside the others.
    Profile(profile::ProfileCommand),
    /// Say whether a fleet fits, with the worst-case response time of every task, or why not and what would.
    Admit(admit::Admit),
    /// Show one memory plan for all models of a fleet.
    Plan(plan::Plan),
    /// Run a fleet that is admitted, and say what came of it.
    Run(run::Run),
    /// Say where the time of a job went, from the trace of a run.
    Explain(explain::Explain),
    /// Make the decisions of a run again, or show what another policy would have decided.
    Replay(replay::ReplayCommand),
    /// Explore every schedule of a file of jobs, and say whether each deadline is always met.
    Sag(sag::Sag),
    /// Cut an ONNX model into segments, the fewest that each keep a limit of time.
    #[cfg(feature = "onnx")]
    Segment(segment::Segment),
    /// Run seeded task sets, or a fleet, in virtual time under every checker.
    Simulate(simulate::Simulate),
    /// Write a trace for other programs.
    Export(export::Export),
}

/// What the process's environment says. Libraries below never look at it.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// `AEGIS_ONNXRUNTIME`.
    pub onnxruntime: Option<PathBuf>,
    /// `AEGIS_TVM`.
    pub tvm: Option<PathBuf>,
    /// `AEGIS_TENSORRT`.
    pub tensorrt: Option<PathBuf>,
    /// `AEGIS_CACHE`.
    pub cache: Option<PathBuf>,
    /// `CUDA_DEVICE_MAX_CONNECTIONS`.
    pub connections: Option<OsString>,
}

impl Environment {
    fn read() -> Self {
        let path =
            |name| std::env::var_os(name).filter(|value: &OsString| !value.is_empty()).map(PathBuf::from);
        Self {
            onnxruntime: path("AEGIS_ONNXRUNTIME"),
            tvm: path("AEGIS_TVM"),
            tensorrt: path("AEGIS_TENSORRT"),
            cache: path("AEGIS_CACHE"),
            connections: std::env::var_os(connections::VARIABLE),
        }
    }
}

/// Reads the arguments of the process, does what they ask, and writes the answer.
pub fn main() -> ExitCode {
    let matches = match Cli::command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => return misuse::told(&error),
    };
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => return misuse::told(&error),
    };
    connections::provide(&matches);
    let answer = perform(cli.command, &Environment::read());
    let (text, exit) = match (answer, cli.format) {
        (Ok(answer), Format::Text) => (shown(&answer.text), answer.exit),
        (Ok(answer), Format::Json) => (format!("{:#}\n", answer.json), answer.exit),
        (Err(error), format) => {
            complain(&error);
            (
                if format == Format::Json { format!("{:#}\n", error.json()) } else { String::new() },
                error.exit(),
            )
        }
    };
    ExitCode::from(deliver(&text, exit).code())
}

/// Writes the answer to standard output, and says with which code to end.
fn deliver(text: &str, exit: Exit) -> Exit {
    let mut out = std::io::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => exit,
        // Whoever closed the pipe does not want the rest; the exit code still says what happened.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => exit,
        Err(error) => {
            complain(&CliError::Unwritable { path: "standard output".into(), reason: error.to_string() });
            // An answer that nobody got must not look like one that is done; any other code says more.
            if exit == Exit::Done { Exit::Fatal } else { exit }
        }
    }
}

fn complain(error: &CliError) {
    let _closed = writeln!(std::io::stderr(), "error: {}", shown(&error.to_string()));
}

/// Names in files come from anyone, and a terminal obeys control characters.
fn shown(text: &str) -> String {
    let plain = |c: char| if c.is_control() && c != '\n' { char::REPLACEMENT_CHARACTER } else { c };
    text.chars().map(plain).collect()
}

fn perform(command: Command, environment: &Environment) -> Result<Answer, CliError> {
    match command {
        Command::Devices(command) => command.perform(environment),
        Command::Calibrate(command) => command.perform(environment),
        Command::Profile(command) => command.perform(environment),
        Command::Admit(command) => command.perform(environment),
        Command::Plan(command) => command.perform(environment),
        Command::Run(command) => command.perform(environment),
        Command::Explain(command) => command.perform(),
        Command::Replay(command) => command.perform(),
        Command::Sag(command) => command.perform(),
        #[cfg(feature = "onnx")]
        Command::Segment(command) => command.perform(environment),
        Command::Simulate(command) => command.perform(environment),
        Command::Export(command) => command.perform(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_do_not_contradict_each_other() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_terminal_is_told_nothing_that_it_obeys() {
        assert_eq!(shown("a\u{1b}[2J\nb\u{7}\u{9b}"), "a\u{fffd}[2J\nb\u{fffd}\u{fffd}");
    }
}
