//! The command `aegis`: the entry of the process and nothing else, so that all of it can be tested as a library.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    aegisrt::cli::main()
}
