//! The test programs of a bundle: their folder, their data and the list that `run-tests.sh` goes by.

use std::path::Path;

use super::build::Program;
use super::elf;
use super::folder::{self, Folder};
use crate::error::Error;

/// Tests that read the checkout itself, by program: they hold for the sources wherever these lie,
/// and say nothing about another machine.
const OF_THE_CHECKOUT: [(&str, &[&str]); 2] = [
    ("aegis-context.suite", &["the_page_of_state_machines_is_current"]),
    (
        "aegisrt.examples",
        &["each_example_is_one_file_that_brings_everything", "nothing_in_the_product_names_the_examples"],
    ),
];

/// Puts the test programs, the folders that they are started in and their list in place.
///
/// A program starts in the folder of its crate, as under cargo; what lies below the crate's `tests`
/// beside the sources lies there too.
///
/// # Errors
/// [`Error::Io`].
pub fn put(bundle: &Folder, programs: &[Program]) -> Result<(), Error> {
    let mut list = String::new();
    for program in programs {
        bundle.program(&format!("tests/bin/{}", program.name), &program.file)?;
        let folder = name_of(&program.folder);
        bundle.data(&format!("tests/crates/{folder}/Cargo.toml"), &program.folder.join("Cargo.toml"))?;
        for path in data(&program.folder.join("tests"))? {
            let source = program.folder.join("tests").join(&path);
            bundle.data(&format!("tests/crates/{folder}/tests/{path}"), &source)?;
        }
        let line = format!("{} {folder} {}", program.name, left_out(&program.name).join(" "));
        list.push_str(line.trim_end());
        list.push('\n');
    }
    bundle.text("tests/suite", &list)
}

/// Says which programs hold the path of the checkout and are not known to: a test that follows it
/// fails on another machine for no reason of its own.
///
/// # Errors
/// [`Error::Io`]; [`Error::Bundle`] where a file is no program.
pub fn warnings(programs: &[Program], root: &Path) -> Result<Vec<String>, Error> {
    let root = root.to_string_lossy();
    let mut warnings = Vec::new();
    for program in programs.iter().filter(|program| left_out(&program.name).is_empty()) {
        let bytes = std::fs::read(&program.file).map_err(Error::io("read", &program.file))?;
        let holds = elf::holds(&bytes, &root);
        if holds
            .map_err(|error| Error::Bundle(format!("{} is no program: {error}", program.file.display())))?
        {
            warnings.push(format!(
                "warning: {} holds the path of this checkout: a test that reads files below it will fail elsewhere",
                program.name
            ));
        }
    }
    Ok(warnings)
}

/// The tests of a program that are not run elsewhere.
fn left_out(program: &str) -> &'static [&'static str] {
    OF_THE_CHECKOUT.iter().find(|(name, _)| *name == program).map_or(&[], |(_, tests)| tests)
}

fn name_of(folder: &Path) -> String {
    folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Files below `tests` that are no sources, relative to it.
fn data(tests: &Path) -> Result<Vec<String>, Error> {
    if !tests.is_dir() {
        return Ok(Vec::new());
    }
    let files = folder::files_below(tests)?;
    let is_data = |path: &&std::path::PathBuf| path.extension().is_none_or(|extension| extension != "rs");
    Ok(files.iter().filter(is_data).map(|path| path.to_string_lossy().into_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;
    use std::process::{Command, Output};

    const RUN_TESTS: &str = include_str!("scripts/run-tests.sh");

    /// A stand-in for a test program: says what the harness would say.
    fn program(folder: &Path, name: &str, script: &str) -> Program {
        let krate = folder.join("checkout/crates/made");
        let made = Folder::at(&krate);
        made.text("Cargo.toml", "[package]\n").unwrap();
        made.text("tests/vectors/data.json", "{}").unwrap();
        made.text("tests/source.rs", "").unwrap();
        made.script(&format!("../../{name}"), &format!("#!/bin/sh\n{script}\n")).unwrap();
        Program { name: format!("made.{name}"), file: krate.join(format!("../../{name}")), folder: krate }
    }

    fn result(words: &str) -> String {
        format!("echo 'test result: {words}; 0 measured; 0 filtered out; finished in 0.00s'")
    }

    fn run(bundle: &Path, arguments: &[&str]) -> (i32, String) {
        let mut command = Command::new("sh");
        command.arg(bundle.join("run-tests.sh")).args(arguments).current_dir("/");
        let Output { status, stdout, stderr } =
            command.env_clear().env("PATH", "/usr/bin:/bin").output().unwrap();
        let said = [stdout, stderr].concat();
        (status.code().unwrap(), String::from_utf8(said).unwrap())
    }

    fn bundle(folder: &Path, programs: &[Program]) -> PathBuf {
        let root = folder.join("bundle");
        let bundle = Folder::at(&root);
        put(&bundle, programs).unwrap();
        bundle.script("run-tests.sh", RUN_TESTS).unwrap();
        root
    }

    fn line<'a>(said: &'a str, start: &str) -> &'a str {
        said.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("no line {start}: {said}"))
    }

    #[test]
    fn passes_skips_and_their_reasons_are_in_the_table() {
        let folder = tempfile::tempdir().unwrap();
        let good = format!(
            "[ -f tests/vectors/data.json ] && [ -f \"$CARGO_MANIFEST_DIR/Cargo.toml\" ] || exit 9\n\
             [ ! -e tests/source.rs ] || exit 8\n\
             echo 'test a::gpu ... ignored, needs a GPU'\n\
             echo '---- a::models stdout ----'\n\
             echo 'skipped: AEGIS_CACHE is not set'\n\
             echo 'skipped: AEGIS_CACHE is not set'\n{}",
            result("ok. 5 passed; 0 failed; 1 ignored")
        );
        let root = bundle(folder.path(), &[program(folder.path(), "good", &good)]);
        let (code, said) = run(&root, &[]);
        assert_eq!(code, 0, "{said}");
        let row: Vec<&str> = line(&said, "made.good ").split_whitespace().collect();
        assert_eq!((&row[1..5], row[6]), (&["5", "0", "1", "0"][..], "ok"), "{said}");
        assert!(said.contains("made.good: a::gpu: needs a GPU"), "{said}");
        assert_eq!(
            said.matches("made.good: a::models: skipped: AEGIS_CACHE is not set").count(),
            1,
            "{said}"
        );
    }

    #[test]
    fn failures_deaths_silence_and_overtime_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let failing =
            format!("echo why it failed\n{}\nexit 101", result("FAILED. 1 passed; 2 failed; 0 ignored"));
        let programs = [
            program(folder.path(), "failing", &failing),
            program(folder.path(), "dying", "kill -SEGV $$"),
            program(folder.path(), "silent", "true"),
            program(folder.path(), "hanging", "exec sleep 30"),
        ];
        let root = bundle(folder.path(), &programs);
        let (code, said) = run(&root, &["--limit", "1"]);
        assert_eq!(code, 1, "{said}");
        assert!(line(&said, "made.failing ").ends_with("FAILED"), "{said}");
        assert!(said.contains("why it failed"), "{said}");
        assert!(line(&said, "made.dying ").contains("DIED with exit code 139"), "{said}");
        assert!(line(&said, "made.silent ").contains("SILENT"), "{said}");
        assert!(line(&said, "made.hanging ").contains("limit of 1 s"), "{said}");
    }

    #[test]
    fn arguments_choose_programs_and_reach_them() {
        let folder = tempfile::tempdir().unwrap();
        let echo = format!("echo \"given $*\"\n{}", result("ok. 1 passed; 0 failed; 0 ignored"));
        let programs = [program(folder.path(), "one", &echo), program(folder.path(), "two", "exit 1")];
        let root = bundle(folder.path(), &programs);
        let (code, said) = run(&root, &["--only", "one", "--", "--include-ignored", "a name"]);
        assert_eq!(code, 0, "{said}");
        let log = std::fs::read_to_string(root.join("logs/made.one.log")).unwrap();
        assert!(log.starts_with("given --show-output --include-ignored a name\n"), "{log}");
        assert_eq!(run(&root, &["--only", "three"]).0, 2);
        assert_eq!(run(&root, &["--limit", "soon"]).0, 2);
    }

    #[test]
    fn tests_are_told_of_a_cache_only_where_it_holds_models() {
        let folder = tempfile::tempdir().unwrap();
        let echo =
            format!("echo \"cache ${{AEGIS_CACHE-unset}}\"\n{}", result("ok. 1 passed; 0 failed; 0 ignored"));
        let root = bundle(folder.path(), &[program(folder.path(), "one", &echo)]);
        let told = || {
            assert_eq!(run(&root, &[]).0, 0);
            std::fs::read_to_string(root.join("logs/made.one.log")).unwrap()
        };
        Folder::at(&root).text("cache/onnxruntime/LICENSE", "").unwrap();
        assert!(told().starts_with("cache unset\n"), "{}", told());
        Folder::at(&root).text("cache/models/a.onnx", "").unwrap();
        assert!(told().trim_end().lines().any(|line| line.ends_with("/bundle/cache")), "{}", told());
    }

    #[test]
    fn tests_of_the_checkout_are_left_out_by_name_and_exist() {
        let folder = tempfile::tempdir().unwrap();
        let echo = format!("echo \"given $*\"\n{}", result("ok. 1 passed; 0 failed; 0 ignored"));
        let mut stranger = program(folder.path(), "suite", &echo);
        stranger.name = "aegis-context.suite".to_owned();
        let root = bundle(folder.path(), &[stranger]);
        let (code, said) = run(&root, &[]);
        assert_eq!(code, 0, "{said}");
        assert!(said.contains("the_page_of_state_machines_is_current: left out"), "{said}");
        let log = std::fs::read_to_string(root.join("logs/aegis-context.suite.log")).unwrap();
        assert!(log.contains("--skip the_page_of_state_machines_is_current"), "{log}");

        let checkout = crate::workspace::Workspace::current().root().join("crates");
        for (program, tests) in OF_THE_CHECKOUT {
            let (krate, target) = program.split_once('.').unwrap();
            let tests_folder = checkout.join(krate).join("tests");
            let sources: String = folder::files_below(&tests_folder)
                .unwrap()
                .iter()
                .filter(|path| path.to_string_lossy().starts_with(target))
                .map(|path| std::fs::read_to_string(tests_folder.join(path)).unwrap())
                .collect();
            for test in tests {
                assert!(sources.contains(&format!("fn {test}(")), "{program} has no test {test}");
            }
        }
    }

    #[test]
    fn a_program_that_holds_the_path_of_the_checkout_is_warned_of() {
        let own = Program {
            name: "xtask.bin-xtask".to_owned(),
            folder: PathBuf::from(env!("CARGO_MANIFEST_DIR")),
            file: std::env::current_exe().unwrap(),
        };
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        assert_eq!(warnings(std::slice::from_ref(&own), root).unwrap().len(), 1);
        let known = Program { name: "aegisrt.examples".to_owned(), ..own };
        assert!(warnings(&[known], root).unwrap().is_empty());
    }
}
