//! Has cargo build the programs and learns from its messages where each of them lies.
//!
//! The place of a program is never guessed: target folder, triple and the hash in a test's name may
//! all be set from outside.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use cargo_metadata::{Artifact, Message, Metadata, TargetKind};

use crate::error::Error;
use crate::process;

/// The crate through which everything reaches the device.
const DEVICE: &str = "aegis-cuda";
/// The crate that measures.
const BENCHES: &str = "aegis-benches";

/// One program that cargo left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Its name in the bundle, unique among programs of its kind.
    pub name: String,
    /// The folder of its crate's manifest, where `cargo test` would start it.
    pub folder: PathBuf,
    /// The file.
    pub file: PathBuf,
}

/// The crate of the command line, whose features choose the backends.
const PRODUCT: &str = "aegisrt";

/// How cargo is set up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Setup {
    /// The folder of the root manifest.
    pub root: PathBuf,
    /// The target triple; `None` for what cargo builds for by itself.
    pub target: Option<String>,
    /// Variables that cargo is given beyond those of this process.
    pub variables: Vec<(String, OsString)>,
    /// Which features of the product are built.
    pub features: Features,
}

/// Features of the product.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Features {
    /// Whether those that are on by default are left out.
    pub without_default: bool,
    /// Those named in addition.
    pub chosen: Vec<String>,
}

impl Features {
    /// Whether this one was named.
    pub fn has(&self, feature: &str) -> bool {
        self.chosen.iter().any(|chosen| chosen == feature)
    }

    /// The arguments that choose them, in a command that builds the product, alone or among other crates.
    pub fn arguments(&self) -> Vec<String> {
        let mut arguments = Vec::new();
        if self.without_default {
            arguments.push("--no-default-features".to_owned());
        }
        for feature in &self.chosen {
            arguments.extend(["--features".to_owned(), format!("{PRODUCT}/{feature}")]);
        }
        arguments
    }
}

/// Builds the command line `aegis`.
///
/// # Errors
/// The failure of cargo, [`Error::Bundle`] where it left no such program.
pub fn aegis(setup: &Setup) -> Result<Program, Error> {
    let mut command = cargo(setup, &["build", "--release", "-p", PRODUCT, "--bin", "aegis"]);
    command.args(setup.features.arguments());
    let artifacts = built(command)?;
    let program = artifacts.iter().filter(|artifact| !artifact.profile.test).find_map(program);
    program.ok_or_else(|| Error::Bundle("cargo built no program `aegis`".to_owned()))
}

/// Builds the test programs of `packages`, as the tests of a release run on the device: optimised.
///
/// # Errors
/// The failure of cargo.
pub fn tests(setup: &Setup, packages: &[String]) -> Result<Vec<Program>, Error> {
    let mut command = cargo(setup, &["test", "--no-run", "--release", "--lib", "--bins", "--tests"]);
    command.args(packages.iter().flat_map(|package| ["-p", package]));
    if packages.iter().any(|package| package == PRODUCT) {
        command.args(setup.features.arguments());
    }
    let artifacts = built(command)?;
    let mut tests: Vec<Program> =
        artifacts.iter().filter(|artifact| artifact.profile.test).filter_map(program).collect();
    // Cargo names them in the order in which they were done, which differs between builds.
    tests.sort_by(|left, right| left.name.cmp(&right.name));
    Ok(tests)
}

/// Builds the bench programs.
///
/// # Errors
/// The failure of cargo.
pub fn benches(setup: &Setup) -> Result<Vec<Program>, Error> {
    let artifacts = built(cargo(setup, &["bench", "--no-run", "-p", BENCHES]))?;
    let is_bench = |artifact: &&Artifact| artifact.target.kind.contains(&TargetKind::Bench);
    Ok(artifacts.iter().filter(is_bench).filter_map(program).collect())
}

/// Builds the experiments: programs of the same crate that run stage by stage and not under the bench harness. Features
/// of the product that this crate knows too are theirs as well.
///
/// # Errors
/// The failure of cargo.
pub fn experiments(setup: &Setup, metadata: &Metadata) -> Result<Vec<Program>, Error> {
    let mut command = cargo(setup, &["build", "--release", "-p", BENCHES, "--bins"]);
    let package = metadata.workspace_packages().into_iter().find(|package| package.name.as_str() == BENCHES);
    let known = |feature: &&String| package.is_some_and(|package| package.features.contains_key(*feature));
    for feature in setup.features.chosen.iter().filter(known) {
        command.args(["--features", &format!("{BENCHES}/{feature}")]);
    }
    let artifacts = built(command)?;
    let is_program = |artifact: &&Artifact| artifact.target.kind.contains(&TargetKind::Bin);
    Ok(artifacts.iter().filter(is_program).filter_map(program).collect())
}

/// The crates of the workspace that reach the device, itself first.
pub fn reaching_the_device(metadata: &Metadata) -> Vec<String> {
    let mut found = vec![DEVICE.to_owned()];
    loop {
        let known = |name: &str| found.iter().any(|reached| reached == name);
        let next = metadata.workspace_packages().into_iter().find(|package| {
            let reaches = package.dependencies.iter().any(|edge| edge.path.is_some() && known(&edge.name));
            reaches && !known(&package.name)
        });
        match next {
            Some(package) => found.push(package.name.to_string()),
            None => return found,
        }
    }
}

/// Refuses names that are no crate of the workspace, with those that are.
///
/// # Errors
/// [`Error::Usage`] naming the first stranger.
pub fn known(metadata: &Metadata, packages: &[String]) -> Result<(), Error> {
    let members: Vec<String> =
        metadata.workspace_packages().iter().map(|package| package.name.to_string()).collect();
    match packages.iter().find(|package| !members.contains(package)) {
        None => Ok(()),
        Some(other) => {
            Err(Error::Usage(format!("there is no crate `{other}`; there are {}", members.join(", "))))
        }
    }
}

fn cargo(setup: &Setup, arguments: &[&str]) -> Command {
    let mut command = process::cargo(&setup.root);
    command.args(arguments).arg("--message-format=json-render-diagnostics");
    command.args(setup.target.iter().flat_map(|target| ["--target", target]));
    command.envs(setup.variables.iter().map(|(name, value)| (name, value)));
    command
}

/// Runs cargo with its diagnostics on the terminal and returns what it made or found fresh.
fn built(mut command: Command) -> Result<Vec<Artifact>, Error> {
    let line = process::line(&command);
    println!("$ {line}");
    let start = |source| Error::Start { command: line.clone(), source };
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(start)?;
    let artifacts = child.stdout.take().map_or_else(|| Ok(Vec::new()), |stdout| read(BufReader::new(stdout)));
    let status = child.wait().map_err(start)?;
    match status.code() {
        Some(0) => artifacts.map_err(start),
        code => Err(Error::Failed { command: line.clone(), code: code.unwrap_or(1) }),
    }
}

/// The artifacts among cargo's messages.
fn read(messages: impl BufRead) -> std::io::Result<Vec<Artifact>> {
    let mut artifacts = Vec::new();
    for message in Message::parse_stream(messages) {
        if let Message::CompilerArtifact(artifact) = message? {
            artifacts.push(artifact);
        }
    }
    Ok(artifacts)
}

/// `None` for what cannot be started: a library, a macro.
fn program(artifact: &Artifact) -> Option<Program> {
    let file = artifact.executable.as_ref()?.as_std_path().to_owned();
    let folder = artifact.manifest_path.parent()?.as_std_path().to_owned();
    let target = &artifact.target.name;
    let package = folder.file_name()?.to_string_lossy().into_owned();
    let kind = &artifact.target.kind;
    let name = if kind.contains(&TargetKind::Bench) || !artifact.profile.test {
        target.clone()
    } else if kind.contains(&TargetKind::Test) {
        format!("{package}.{target}")
    } else if kind.contains(&TargetKind::Bin) {
        format!("{package}.bin-{target}")
    } else {
        format!("{package}.lib")
    };
    Some(Program { name, folder, file })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// One message as cargo writes it.
    fn message(kind: &str, name: &str, test: bool, executable: &str) -> String {
        format!(
            r#"{{"reason":"compiler-artifact","package_id":"path+file:///w/crates/aegisrt#0.1.0","manifest_path":"/w/crates/aegisrt/Cargo.toml","target":{{"kind":["{kind}"],"crate_types":["bin"],"name":"{name}","src_path":"/w/x.rs","edition":"2024","doc":false,"doctest":false,"test":true}},"profile":{{"opt_level":"3","debuginfo":1,"debug_assertions":false,"overflow_checks":false,"test":{test}}},"features":[],"filenames":[],"executable":{executable},"fresh":true}}"#
        )
    }

    fn names(messages: &[String]) -> Vec<String> {
        let text = messages.join("\n");
        read(text.as_bytes()).unwrap().iter().filter_map(program).map(|program| program.name).collect()
    }

    #[test]
    fn programs_of_one_crate_have_names_of_their_own() {
        let messages = [
            message("lib", "aegisrt", false, "null"),
            message("lib", "aegisrt", true, "\"/w/deps/aegisrt-1\""),
            message("bin", "aegis", true, "\"/w/deps/aegis-2\""),
            message("bin", "aegis", false, "\"/w/aegis\""),
            message("test", "host", true, "\"/w/deps/host-3\""),
            message("bench", "plan", true, "\"/w/deps/plan-4\""),
            r#"{"reason":"build-finished","success":true}"#.to_owned(),
        ];
        assert_eq!(names(&messages), ["aegisrt.lib", "aegisrt.bin-aegis", "aegis", "aegisrt.host", "plan"]);
    }

    #[test]
    fn a_program_knows_its_file_and_the_folder_it_is_started_in() {
        let text = message("test", "host", true, "\"/w/deps/host-3\"");
        let program = program(&read(text.as_bytes()).unwrap()[0]).unwrap();
        assert_eq!(program.file, Path::new("/w/deps/host-3"));
        assert_eq!(program.folder, Path::new("/w/crates/aegisrt"));
    }

    #[test]
    fn a_setup_reaches_the_command_line() {
        let features = Features { without_default: true, chosen: vec!["tract".to_owned()] };
        assert_eq!(features.arguments(), ["--no-default-features", "--features", "aegisrt/tract"]);
        let setup = Setup {
            root: PathBuf::from("w"),
            target: Some("t".to_owned()),
            variables: vec![("RUSTC".to_owned(), "r".into())],
            features,
        };
        let line = process::line(&cargo(&setup, &["build"]));
        assert_eq!(line, "RUSTC=r cargo build --message-format=json-render-diagnostics --target t");
        assert!(Features::default().arguments().is_empty());
    }

    #[test]
    fn a_failed_build_is_the_failure_of_the_command() {
        let mut command = Command::new("sh");
        command.args(["-c", "exit 101"]);
        assert_eq!(built(command).unwrap_err().exit_code(), 101);
    }

    #[test]
    fn the_crates_that_reach_the_device_are_read_from_the_manifests() {
        let root = crate::workspace::Workspace::current().root().join("Cargo.toml");
        let metadata = cargo_metadata::MetadataCommand::new().manifest_path(root).no_deps().exec().unwrap();
        let reaching = reaching_the_device(&metadata);
        for name in ["aegis-cuda", "aegis-context", "aegisrt"] {
            assert!(reaching.iter().any(|reached| reached == name), "{name}: {reaching:?}");
        }
        for name in ["aegis-types", "aegis-sched", "xtask"] {
            assert!(!reaching.iter().any(|reached| reached == name), "{name}: {reaching:?}");
        }
        assert!(known(&metadata, &reaching).is_ok());
        let error = known(&metadata, &["aegis-tuda".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("`aegis-tuda`") && error.contains("aegis-cuda"), "{error}");
    }
}
