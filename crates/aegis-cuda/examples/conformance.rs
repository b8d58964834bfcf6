//! Prints the table of what each backend supports from what runs of the suite wrote.
//!
//! ```text
//! AEGIS_CONFORMANCE_OUT=$PWD/found.tsv cargo test -p aegis-cuda conformance
//! cargo run -p aegis-cuda --example conformance -- found.tsv
//! ```
//!
//! Every test that runs the suite adds to the file that `AEGIS_CONFORMANCE_OUT` names: an absolute path, because tests
//! run in their crates' folders. Files of several machines are given one after the other.

use std::process::ExitCode;

use aegis_cuda::conformance::{Row, markdown};

/// Stands above the table.
const HEAD: &str = "\
# What each backend supports

Written by the conformance suite: every test that runs it adds its findings to the file that `AEGIS_CONFORMANCE_OUT`
names, and `cargo run -p aegis-cuda --example conformance -- FILE...` makes this page of such files. A cell says `yes`, what
else all models had in common, or how many models passed of how many; why checks did not pass stands below.
";

const USAGE: &str =
    "usage: conformance [--note TEXT]... FILE...; FILE is what AEGIS_CONFORMANCE_OUT named while tests ran";

fn main() -> ExitCode {
    let (mut notes, mut rows, mut files) = (String::new(), Vec::new(), 0);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        if argument == "--note" {
            let Some(note) = arguments.next() else {
                eprintln!("{USAGE}");
                return ExitCode::from(2);
            };
            notes.push_str(&format!("\n{note}\n"));
            continue;
        }
        files += 1;
        match std::fs::read_to_string(&argument) {
            Ok(text) => rows.extend(text.lines().filter_map(Row::parse)),
            Err(error) => {
                eprintln!("{argument}: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    if files == 0 {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    }
    print!("{HEAD}{notes}\n{}", markdown(&rows));
    ExitCode::SUCCESS
}
