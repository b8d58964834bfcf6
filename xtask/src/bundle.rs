//! `cargo xtask bundle`: programs, tests and libraries in one folder that runs on another machine of
//! the same processor without Rust, and on request in parts that a shell puts together again.
//!
//! The folder is put together under another name and gets its own only when it is whole.

mod build;
mod compiled;
mod elf;
mod experiments;
mod fatbin;
mod fleets;
mod folder;
mod licences;
mod manifest;
mod options;
mod parts;
pub mod platform;
mod suite;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use cargo_metadata::{Metadata, MetadataCommand};

use crate::error::Error;
use crate::fetch::{self, Processor, cuda};
use crate::models::{MODELS, Model};
use crate::workspace::Workspace;
use crate::{fleet, process};
use folder::Folder;
use manifest::{Identity, Needs};
use platform::{DEBIAN_12, Platform};

pub use build::Features;
pub use options::Options;

const README: &str = include_str!("bundle/scripts/README.txt");
const AEGIS: &str = include_str!("bundle/scripts/aegis.sh");
const RUN_TESTS: &str = include_str!("bundle/scripts/run-tests.sh");
const RUN_BENCHES: &str = include_str!("bundle/scripts/run-benches.sh");

/// Builds what the options ask for and puts it into one folder.
///
/// # Errors
/// [`Error::Usage`], failures of cargo and of downloads, [`Error::Io`], and [`Error::Bundle`] where
/// the folder would not run on Debian 12 or would replace something that is no bundle.
pub fn run(arguments: &[String]) -> Result<(), Error> {
    if arguments.iter().any(|argument| argument == "--help" || argument == "-h") {
        println!("{}", options::USAGE);
        return Ok(());
    }
    let options = Options::parse(arguments)?;
    make(Workspace::current(), Order::new(options)).map(drop)
}

/// What makes a bundle, beyond the options that a command line has.
pub struct Order {
    /// What goes in.
    pub options: Options,
    /// The system that it promises to run on.
    pub platform: Platform,
    /// What its name ends with; `None` for the target.
    pub ending: Option<&'static str>,
    /// Variables that cargo is given.
    pub variables: Vec<(String, OsString)>,
    /// Models by name, where not all of them are wanted.
    pub models: Vec<&'static str>,
    /// Texts of its own.
    pub additions: Vec<Addition>,
}

/// A text that goes into a bundle.
pub struct Addition {
    /// Its place in the folder.
    pub place: &'static str,
    /// What it says.
    pub text: String,
    /// Whether it is started.
    pub is_program: bool,
}

impl Order {
    /// A bundle for an ordinary machine.
    pub const fn new(options: Options) -> Self {
        Self {
            options,
            platform: DEBIAN_12,
            ending: None,
            variables: Vec::new(),
            models: Vec::new(),
            additions: Vec::new(),
        }
    }
}

/// Makes the bundle that was ordered, says what it needs and returns its folder.
///
/// # Errors
/// Those of [`run`].
pub fn make(workspace: Workspace, order: Order) -> Result<PathBuf, Error> {
    let plan = Plan::new(workspace, order)?;
    let out = plan.out();
    let parts = beside(&out, ".parts");
    replaceable(&out, folder::SUMS)?;
    replaceable(&parts, "assemble.sh")?;
    let programs = plan.build()?;
    let parent = out.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
    let scratch = tempfile::Builder::new()
        .prefix(".partial-")
        .tempdir_in(parent)
        .map_err(Error::io("create a scratch folder in", parent))?;
    let made = scratch.path().join("bundle");
    let needs = plan.fill(&made, &programs)?;
    let cut = scratch.path().join("parts");
    if let Some(bytes) = plan.order.options.part_bytes {
        for part in parts::write(&made, &plan.identity.name, bytes, &cut)? {
            println!("{}  {} bytes", part.name, part.bytes);
        }
    }
    put_in_place(&made, &out)?;
    put_in_place(&cut, &parts)?;
    report(&out, &parts, &needs)?;
    Ok(out)
}

/// Path and size in bytes of every file of a bundle.
///
/// # Errors
/// [`Error::Io`].
pub fn contents(bundle: &Path) -> Result<Vec<(String, u64)>, Error> {
    Ok(folder::entries(bundle)?.into_iter().map(|entry| (entry.path, entry.bytes)).collect())
}

/// What is built, for where, and how it is called.
struct Plan {
    workspace: Workspace,
    order: Order,
    setup: build::Setup,
    metadata: Metadata,
    identity: Identity,
    processor: Processor,
}

/// What cargo built.
struct Programs {
    aegis: build::Program,
    tests: Vec<build::Program>,
    benches: Vec<build::Program>,
    experiments: Vec<build::Program>,
}

impl Plan {
    fn new(workspace: Workspace, order: Order) -> Result<Self, Error> {
        let options = &order.options;
        let target = match &options.target {
            Some(target) => target.clone(),
            None => native(workspace.root())?,
        };
        let processor = processor(&target)?;
        let metadata = MetadataCommand::new()
            .manifest_path(workspace.root().join("Cargo.toml"))
            .other_options(["--filter-platform".to_owned(), target.clone()])
            .exec()
            .map_err(|error| Error::Workspace(error.to_string()))?;
        build::known(&metadata, &options.packages)?;
        let version = metadata.workspace_packages().first().map(|package| package.version.to_string());
        let version = version.unwrap_or_default();
        let name = format!("aegis-{version}-{}", order.ending.unwrap_or(&target));
        let commit = manifest::commit(workspace.root());
        let setup = build::Setup {
            root: workspace.root().to_owned(),
            target: options.target.clone(),
            variables: order.variables.clone(),
            features: options.features.clone(),
        };
        let identity = Identity { name, version, target, commit, platform: order.platform };
        Ok(Self { workspace, order, setup, metadata, identity, processor })
    }

    fn out(&self) -> PathBuf {
        self.order.options.out.clone().unwrap_or_else(|| self.workspace.bundles().join(&self.identity.name))
    }

    /// The downloads for the target: those of this machine serve `test` and `demo` too.
    fn cache(&self) -> PathBuf {
        let shared = self.workspace.cache();
        if self.identity.target.starts_with(std::env::consts::ARCH) {
            shared
        } else {
            shared.join(&self.identity.target)
        }
    }

    fn packages(&self) -> Vec<String> {
        match &self.order.options.packages {
            chosen if chosen.is_empty() => build::reaching_the_device(&self.metadata),
            chosen => chosen.clone(),
        }
    }

    fn build(&self) -> Result<Programs, Error> {
        fetch::library(&self.cache(), self.processor)?;
        let options = &self.order.options;
        if options.onnx_cuda.is_some() {
            fetch::cuda_runtime(&self.cache(), self.processor)?;
        }
        if self.models().next().is_some() {
            fetch::into(&self.workspace.cache())?;
        }
        let setup = &self.setup;
        let aegis = build::aegis(setup)?;
        let tests = if options.tests { build::tests(setup, &self.packages())? } else { Vec::new() };
        let (benches, experiments) = if options.benches {
            (build::benches(setup)?, build::experiments(setup, &self.metadata)?)
        } else {
            (Vec::new(), Vec::new())
        };
        Ok(Programs { aegis, tests, benches, experiments })
    }

    /// Puts everything into the folder `made` and checks it.
    fn fill(&self, made: &Path, programs: &Programs) -> Result<Needs, Error> {
        let (bundle, options) = (Folder::at(made), &self.order.options);
        self.programs(&bundle, programs)?;
        if options.strip {
            self.strip(made, programs)?;
        }
        self.libraries(&bundle)?;
        self.fleets(&bundle)?;
        for Addition { place, text, is_program } in &self.order.additions {
            if *is_program { bundle.script(place, text)? } else { bundle.text(place, text)? }
        }
        bundle.data("LICENSE", &self.workspace.root().join("LICENSE"))?;
        let mut roots = vec!["aegisrt".to_owned()];
        if options.tests {
            roots.extend(self.packages());
        }
        if options.benches {
            roots.push("aegis-benches".to_owned());
        }
        let with_tests = options.tests || options.benches;
        bundle.text("licences/crates.txt", &licences::text(&self.metadata, &roots, with_tests)?)?;
        let Identity { target, platform, .. } = &self.identity;
        let needs = manifest::needs(made, &folder::entries(made)?, target, platform)?;
        bundle.text("README.txt", &self.readme(&needs))?;
        manifest::write(&bundle, &self.identity, &needs, &folder::entries(made)?)?;
        folder::write_sums(made)?;
        Ok(needs)
    }

    fn programs(&self, bundle: &Folder, programs: &Programs) -> Result<(), Error> {
        bundle.program("bin/aegis", &programs.aegis.file)?;
        bundle.script("aegis.sh", AEGIS)?;
        if !programs.tests.is_empty() {
            for warning in suite::warnings(&programs.tests, self.workspace.root())? {
                eprintln!("{warning}");
            }
            suite::put(bundle, &programs.tests)?;
            bundle.script("run-tests.sh", RUN_TESTS)?;
        }
        if !programs.benches.is_empty() {
            bundle.script("run-benches.sh", RUN_BENCHES)?;
            bundle.script("run-experiments.sh", experiments::SCRIPT)?;
        }
        for bench in &programs.benches {
            bundle.program(&format!("benches/{}", bench.name), &bench.file)?;
        }
        // Beside the command line: what runs all benches must not run these.
        for experiment in &programs.experiments {
            bundle.program(&format!("bin/{}", experiment.name), &experiment.file)?;
        }
        Ok(())
    }

    /// Takes symbols and line tables out of our own programs. A build without them would be one more
    /// build of everything; the linker that made these brought the program that does it.
    fn strip(&self, made: &Path, programs: &Programs) -> Result<(), Error> {
        let program = match &self.order.options.target {
            None => "strip".to_owned(),
            Some(target) => format!("{}-strip", target.replacen("-unknown-", "-", 1)),
        };
        let tests = programs.tests.iter().map(|test| format!("tests/bin/{}", test.name));
        let benches = programs.benches.iter().map(|bench| format!("benches/{}", bench.name));
        let experiments = programs.experiments.iter().map(|experiment| format!("bin/{}", experiment.name));
        let mut command = Command::new(program);
        command.current_dir(made).args(["--strip-all", "--", "bin/aegis"]);
        command.args(tests).args(benches).args(experiments);
        process::run(&mut command, None)
    }

    fn libraries(&self, bundle: &Folder) -> Result<(), Error> {
        self.onnx(bundle)?;
        let Options { features, models, .. } = &self.order.options;
        if features.has("tvm") { compiled::put(bundle, &self.cache(), *models) } else { Ok(()) }
    }

    fn onnx(&self, bundle: &Folder) -> Result<(), Error> {
        let target = "cache/onnxruntime";
        let Some(architecture) = self.order.options.onnx_cuda else {
            for file in ["libonnxruntime.so", "LICENSE", "ThirdPartyNotices.txt"] {
                let place = format!("onnxruntime/{file}");
                bundle.data(&format!("cache/{place}"), &self.cache().join(&place))?;
            }
            return Ok(());
        };
        // This library serves hosts without a GPU as well, so it takes the place of the other.
        let source = self.cache().join(cuda::RUNTIME_FOLDER);
        for file in cuda::COMPANIONS {
            bundle.data(&format!("{target}/{file}"), &source.join(file))?;
        }
        let provider = source.join(cuda::PROVIDER);
        let mut library = std::fs::read(&provider).map_err(Error::io("read", &provider))?;
        let reduced = fatbin::reduce(&mut library, architecture)?;
        let fatbin::Reduced { containers, whole, kept, zeroed } = reduced;
        println!(
            "{}: {containers} containers, {kept} bytes of code for sm_{architecture} kept, {zeroed} zeroed, {whole} \
             containers without it whole",
            cuda::PROVIDER
        );
        bundle.bytes(&format!("{target}/{}", cuda::PROVIDER), &library)
    }

    /// The models that go in.
    fn models(&self) -> impl Iterator<Item = &'static Model> {
        let Order { options, models, .. } = &self.order;
        MODELS.iter().filter(|model| options.models || models.contains(&model.name))
    }

    /// The demo's models with its fleets, every fleet of the folders that were named, and the licences of models.
    fn fleets(&self, bundle: &Folder) -> Result<(), Error> {
        for model in self.models() {
            let place = model.place();
            bundle.data(&format!("cache/{place}"), &self.workspace.cache().join(&place))?;
        }
        if self.order.options.models {
            let cache = Path::new("..").join("cache");
            bundle.text("fleets/natural.toml", &fleet::natural(&cache, [0, 1]))?;
            bundle.text("fleets/one_more.toml", &fleet::one_more(&cache))?;
        }
        let placed = fleets::put(bundle, &self.order.options.fleets, &self.workspace.cache())?;
        let ordered: Vec<&str> = self.models().map(|model| model.name).collect();
        let is_there = |model: &&Model| {
            ordered.contains(&model.name) || placed.contains(&Path::new("cache").join(model.place()))
        };
        let licence = |model: &Model| format!("{}: {}, {}\n", model.name, model.requirement, model.licence);
        let licences: String = MODELS.iter().filter(is_there).map(licence).collect();
        if licences.is_empty() { Ok(()) } else { bundle.text("cache/models/LICENCES.txt", &licences) }
    }

    fn readme(&self, needs: &Needs) -> String {
        let glibc = needs.glibc.as_ref().map_or_else(String::new, |(need, _)| need.glibc.to_string());
        README
            .replace("@VERSION@", &self.identity.version)
            .replace("@TARGET@", &self.identity.target)
            .replace("@GLIBC@", &glibc)
    }
}

/// The triple that cargo builds for by itself, from the compiler that it uses.
fn native(root: &Path) -> Result<String, Error> {
    if let Some(target) = std::env::var("CARGO_BUILD_TARGET").ok().filter(|target| !target.is_empty()) {
        return Ok(target);
    }
    let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut command = Command::new(compiler);
    command.arg("-vV").current_dir(root);
    let line = process::line(&command);
    let output = command.output().map_err(|source| Error::Start { command: line.clone(), source })?;
    let said = String::from_utf8_lossy(&output.stdout);
    let host = said.lines().find_map(|line| line.strip_prefix("host: ")).map(str::to_owned);
    host.ok_or_else(|| Error::Workspace(format!("`{line}` names no host")))
}

/// The processor of a triple that a runtime library is pinned for.
fn processor(target: &str) -> Result<Processor, Error> {
    match target {
        "x86_64-unknown-linux-gnu" => Ok(Processor::X86),
        "aarch64-unknown-linux-gnu" => Ok(Processor::Arm),
        other => Err(Error::Bundle(format!(
            "no bundle can be made for `{other}`; there are libraries for x86_64-unknown-linux-gnu and \
             aarch64-unknown-linux-gnu"
        ))),
    }
}

/// `path` with an ending behind its name.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

/// Refuses to replace a folder that does not hold `mark`, by which it is known to be of our making.
fn replaceable(place: &Path, mark: &str) -> Result<(), Error> {
    if !place.exists() || place.join(mark).is_file() {
        return Ok(());
    }
    let text = format!("{} is there and holds no {mark}: it is no bundle, so it is kept", place.display());
    Err(Error::Bundle(text))
}

/// Moves `made` to `place`, in place of an older one; where nothing was made, nothing old stays.
fn put_in_place(made: &Path, place: &Path) -> Result<(), Error> {
    if place.exists() {
        std::fs::remove_dir_all(place).map_err(Error::io("remove", place))?;
    }
    if made.exists() {
        std::fs::rename(made, place).map_err(Error::io("write", place))?;
    }
    Ok(())
}

fn report(out: &Path, parts: &Path, needs: &Needs) -> Result<(), Error> {
    let bytes: u64 = folder::entries(out)?.iter().map(|entry| entry.bytes).sum();
    println!("\n{}: {:.1} MiB", out.display(), bytes as f64 / f64::from(1 << 20));
    if let Some((need, file)) = &needs.glibc {
        println!("needs glibc {} ({} in {file})", need.glibc, need.symbol);
    }
    let libraries: Vec<&str> = needs.libraries.iter().map(String::as_str).collect();
    println!("needs on the machine: {}", libraries.join(", "));
    if parts.exists() {
        println!("{}: sh assemble.sh DIR puts the parts together", parts.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_bundle_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("out");
        assert!(replaceable(&place, folder::SUMS).is_ok());
        Folder::at(&place).text("precious", "").unwrap();
        let error = replaceable(&place, folder::SUMS).unwrap_err().to_string();
        assert!(error.contains("out") && error.contains("no bundle"), "{error}");
        folder::write_sums(&place).unwrap();
        assert!(replaceable(&place, folder::SUMS).is_ok());
    }

    #[test]
    fn what_is_put_in_place_replaces_the_old_and_nothing_made_leaves_nothing_old() {
        let folder = tempfile::tempdir().unwrap();
        let (made, place) = (folder.path().join("made"), folder.path().join("place"));
        Folder::at(&place).text("old", "").unwrap();
        Folder::at(&made).text("new", "").unwrap();
        put_in_place(&made, &place).unwrap();
        assert!(place.join("new").is_file() && !place.join("old").exists());
        put_in_place(&made, &place).unwrap();
        assert!(!place.exists());
    }

    #[test]
    fn the_triple_of_this_machine_is_one_that_libraries_are_pinned_for() {
        let target = native(Workspace::current().root()).unwrap();
        assert!(target.starts_with(std::env::consts::ARCH), "{target}");
        assert!(processor(&target).is_ok());
        let error = processor("riscv64gc-unknown-linux-gnu").err().unwrap().to_string();
        assert!(error.contains("riscv64gc") && error.contains("aarch64-unknown-linux-gnu"), "{error}");
    }

    #[test]
    fn the_wrapper_starts_the_program_with_the_libraries_of_its_own_folder() {
        let folder = tempfile::tempdir().unwrap();
        let bundle = Folder::at(&folder.path().join("a folder"));
        bundle.script("aegis.sh", AEGIS).unwrap();
        bundle.script("bin/aegis", "#!/bin/sh\necho \"$AEGIS_CACHE|$1\"; exit 3\n").unwrap();
        let script = folder.path().join("a folder/aegis.sh");
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&script, &link).unwrap();
        for start in [script, link] {
            let mut command = Command::new("sh");
            command.arg(start).arg("two words").env_clear().env("PATH", "/usr/bin:/bin").current_dir("/");
            let output = command.output().unwrap();
            let said = String::from_utf8(output.stdout).unwrap();
            assert!(said.ends_with("a folder/cache|two words\n"), "{said}");
            assert_eq!(output.status.code(), Some(3));
        }
    }
}
