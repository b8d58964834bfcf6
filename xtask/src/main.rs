//! `cargo xtask`: everything a contributor or a new user runs, one file per command.
//!
//! Every command that is started is printed first, so that each line can be repeated by hand, and
//! the exit code of the first command that failed is the exit code of the whole.
#![forbid(unsafe_code)]

mod bench;
mod bindgen;
mod build;
mod bundle;
mod demo;
mod error;
mod features;
mod fetch;
mod fleet;
mod jetson;
mod lint;
mod models;
mod models_tvm;
mod process;
mod ptx;
mod table;
mod test;
mod workspace;

use std::process::ExitCode;

use error::Error;

const USAGE: &str = "\
usage: cargo xtask <command> [arguments]

  build   release build of the workspace; arguments go to cargo build
  test    everything that has to hold: lint, then unit, property, simulation, doc and CLI tests
  lint    formatting, clippy and the project's own rules; arguments pick rules by name
  bench   the benchmarks; arguments go to cargo bench
  demo    fetches models and runtime, then runs the main job on them; `--offline` with networks made here
  fetch   only the downloads of demo and test, into target/aegis-cache
  models  compiles networks for the TVM backend: `--tvm`; see `models --help`
  ptx     compiles the GPU kernels of the built-in workload; `--check` compares with the committed file
  bindgen makes the Rust side of TensorRT's C header; `--check` compares with the committed file
  features  checks every backend alone, none and all of them, for both processors
  jetson  a bundle for Jetson Orin, built here; `--test` tries it under an emulator; see `jetson --help`
  bundle  programs, tests and libraries in one folder that runs elsewhere; see `bundle --help`";

fn main() -> ExitCode {
    let arguments: Vec<String> =
        std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned()).collect();
    match dispatch(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn dispatch(arguments: &[String]) -> Result<(), Error> {
    let Some((command, rest)) = arguments.split_first() else {
        return Err(Error::Usage(USAGE.to_owned()));
    };
    match command.as_str() {
        "build" => build::run(rest),
        "test" => test::run(rest),
        "lint" => lint::run(rest),
        "bench" => bench::run(rest),
        "demo" => demo::run(rest),
        "fetch" => fetch::run(rest),
        "models" => models_tvm::run(rest),
        "ptx" => ptx::run(rest),
        "bindgen" => bindgen::run(rest),
        "features" => features::run(rest),
        "jetson" => jetson::run(rest),
        "bundle" => bundle::run(rest),
        "help" | "--help" | "-h" => {
            println!("{USAGE}");
            Ok(())
        }
        other => Err(Error::Usage(format!("there is no command `{other}`\n{USAGE}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_command_is_answered_with_the_legal_ones_and_exit_code_2() {
        let error = dispatch(&["lnit".to_owned()]).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        let text = error.to_string();
        assert!(text.contains("`lnit`") && text.contains("lint"), "{text}");
    }

    #[test]
    fn no_command_is_a_usage_error() {
        assert_eq!(dispatch(&[]).unwrap_err().exit_code(), 2);
    }
}
