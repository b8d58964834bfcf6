//! `cargo xtask jetson`: a bundle for Jetson Orin, built on another machine and, on request, tried there.
//!
//! Cargo is the pinned one; compiler and standard library for the board come from where [`standard`] says. The bundle is
//! made by the same code as every other; what is special to a board stands in [`board`].

mod board;
mod debian;
mod emulator;
mod options;
mod packages;
mod standard;
mod toolchain;
mod trial;

use std::path::Path;
use std::time::Instant;

use crate::bundle;
use crate::error::Error;
use crate::table;
use crate::workspace::{Workspace, in_ci};
use options::Options;

/// The triple of the board.
pub const TARGET: &str = "aarch64-unknown-linux-gnu";

/// The most that a bundle may come to without libraries of a vendor, in bytes.
const SIZE_LIMIT: u64 = 60_000_000;

/// Builds the bundle; with `--test` one that is quick to build, and runs its tests, a fleet and the exchange of traces.
///
/// # Errors
/// [`Error::Usage`], failures of the programs that are run, and [`Error::Jetson`] where this machine cannot build for
/// the board or what it built does not hold.
pub fn run(arguments: &[String]) -> Result<(), Error> {
    if arguments.iter().any(|argument| argument == "--help" || argument == "-h") {
        println!("{}", options::USAGE);
        return Ok(());
    }
    let options = Options::parse(arguments)?;
    let workspace = Workspace::current();
    let begun = Instant::now();
    refuse_a_board()?;
    packages::ensure(options.test)?;
    let toolchain = standard::toolchain(&workspace, options.standard)?;
    let prepared = begun.elapsed();
    let tests = if options.test { trial::TESTED.map(str::to_owned).to_vec() } else { Vec::new() };
    let out = options.out.or_else(|| options.test.then(|| workspace.jetson_trial().join("bundle")));
    let mut order = board::order(options.features, out, tests);
    order.variables = if options.test {
        toolchain.variables_of_a_trial(&workspace.jetson().join("trial"))
    } else {
        toolchain.variables(&workspace.jetson())
    };
    let made = Instant::now();
    let bundle = bundle::make(workspace.clone(), order)?;
    list(&bundle)?;
    println!("preparing took {}, the bundle {}", table::spelled(prepared), table::spelled(made.elapsed()));
    if options.test {
        trial::run(&workspace, &bundle)?;
        println!("all of it took {}", table::spelled(begun.elapsed()));
    }
    Ok(())
}

fn refuse_a_board() -> Result<(), Error> {
    if std::env::consts::ARCH == "aarch64" {
        let text = "this machine has the board's processor: `cargo xtask bundle` builds for it and \
                    `cargo xtask test` runs the tests";
        return Err(Error::Jetson(text.to_owned()));
    }
    Ok(())
}

/// Prints what is in the bundle, the largest first, and checks its size. Test programs are listed as one.
fn list(bundle: &Path) -> Result<(), Error> {
    let (tests, mut files): (Vec<_>, Vec<_>) =
        bundle::contents(bundle)?.into_iter().partition(|(path, _)| path.starts_with("tests/"));
    files.sort_by(|left, right| right.1.cmp(&left.1).then_with(|| left.0.cmp(&right.0)));
    let bytes = |files: &[(String, u64)]| files.iter().map(|(_, bytes)| bytes).sum::<u64>();
    let (product, of_tests) = (bytes(&files), bytes(&tests));
    let mut rows: Vec<[String; 2]> =
        files.iter().map(|(path, bytes)| [path.clone(), megabytes(*bytes)]).collect();
    rows.push(["together, without test programs".to_owned(), megabytes(product)]);
    if !tests.is_empty() {
        rows.push([format!("test programs and their data ({} files)", tests.len()), megabytes(of_tests)]);
    }
    print!("\n{}", table::aligned(["file", "MB"], &rows));
    if product > SIZE_LIMIT {
        let (found, limit) = (megabytes(product), megabytes(SIZE_LIMIT));
        return Err(Error::Jetson(format!("the bundle comes to {found} MB, above its limit of {limit} MB")));
    }
    Ok(())
}

fn megabytes(bytes: u64) -> String {
    format!("{}.{:03}", bytes / 1_000_000, bytes % 1_000_000 / 1_000)
}

/// Whether `cargo xtask test` can build for the board and run what it built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// Everything is there, or may be installed without asking.
    Ready,
    /// What is missing, in words.
    Missing(Vec<String>),
}

/// What a test of everything finds here. Packages are installed unasked under continuous integration only, where the
/// machine was made for this one run.
pub fn readiness(workspace: &Workspace) -> Readiness {
    let debian = standard::system() == "debian";
    judged(
        packages::missing(true)
            .iter()
            .map(|(thing, package)| format!("{thing} (package {package})"))
            .collect(),
        standard::is_present(workspace),
        in_ci() && debian && packages::can_be_installed(),
        std::env::consts::ARCH,
    )
}

fn judged(things: Vec<String>, standard: bool, installable: bool, processor: &str) -> Readiness {
    if processor != "x86_64" {
        return Readiness::Missing(vec![format!("an x86_64 machine to emulate on: this one is {processor}")]);
    }
    let mut missing = things;
    if !standard {
        missing.push(format!("a standard library for {TARGET} (`cargo xtask jetson` brings one)"));
    }
    if missing.is_empty() || installable { Readiness::Ready } else { Readiness::Missing(missing) }
}

/// The compiler for the board where it is there, for whoever only checks; nothing is downloaded.
pub fn present(workspace: &Workspace) -> Option<Vec<(String, std::ffi::OsString)>> {
    let usable = std::env::consts::ARCH == "x86_64"
        && packages::missing(false).is_empty()
        && standard::is_present(workspace);
    let toolchain = usable.then(|| standard::toolchain(workspace, None).ok()).flatten()?;
    Some(toolchain.variables(&workspace.jetson()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_unless_it_may_be_installed() {
        let thing = || vec!["qemu-aarch64 (package qemu-user)".to_owned()];
        assert_eq!(judged(Vec::new(), true, false, "x86_64"), Readiness::Ready);
        assert_eq!(judged(thing(), false, true, "x86_64"), Readiness::Ready);
        let Readiness::Missing(missing) = judged(thing(), false, false, "x86_64") else { panic!("ready") };
        assert_eq!(missing.len(), 2);
        assert!(missing[1].contains(TARGET), "{missing:?}");
        let Readiness::Missing(missing) = judged(Vec::new(), true, true, "aarch64") else { panic!("ready") };
        assert!(missing[0].contains("aarch64"), "{missing:?}");
    }

    #[test]
    fn a_bundle_that_is_too_large_is_refused_and_tests_do_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let put = |path: &str, bytes: u64| {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::File::create(path).unwrap().set_len(bytes).unwrap();
        };
        put("bin/aegis", 1_000);
        put("tests/bin/a", SIZE_LIMIT);
        list(folder.path()).unwrap();
        put("cache/library", SIZE_LIMIT);
        let error = list(folder.path()).unwrap_err().to_string();
        assert!(error.contains("60.001 MB") && error.contains("60.000 MB"), "{error}");
    }
}
