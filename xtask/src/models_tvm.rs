//! `cargo xtask models --tvm`: networks compiled by TVM, for the tests and fleets of its backend.
//!
//! The compiler is a Python package. It lives in an environment of its own below the target folder, at pinned versions,
//! and writes one file for each network and target, with the outputs that two seeded jobs should have beside it. The
//! runtime's libraries are put where tests and fleets look for them. What is compiled for a GPU needs none.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

use crate::error::Error;
use crate::fetch::hexadecimal;
use crate::process;
use crate::workspace::Workspace;

/// The compiler and what it stands on.
const COMPILER: [&str; 7] = [
    "apache-tvm==0.27.0.post1",
    "apache-tvm-ffi==0.1.15.post2",
    "ml_dtypes==0.6.0",
    "numpy==2.4.6",
    "onnx==1.23.2",
    "protobuf==7.36.2",
    "typing_extensions==4.16.0",
];

/// What compiles kernels for GPUs, without one.
const GPU_COMPILER: [&str; 5] = [
    "nvidia-cuda-nvrtc==13.0.88",
    "nvidia-cuda-runtime==13.0.96",
    "nvidia-cuda-cccl==13.0.85",
    "cuda-bindings==13.0.3",
    "cuda-pathfinder==1.9.0",
];

/// The scripts. A change of either makes every model anew.
const SCRIPTS: [(&str, &str); 2] = [
    ("compile.py", include_str!("models_tvm/compile.py")),
    ("networks.py", include_str!("models_tvm/networks.py")),
];

/// Libraries of the runtime, by their place among the installed packages.
const LIBRARIES: [&str; 2] = ["tvm_ffi/lib/libtvm_ffi.so", "tvm/lib/libtvm_runtime.so"];
/// Those of the runtime's part for GPUs.
const GPU_LIBRARIES: [&str; 2] = ["tvm/lib/libtvm_runtime_cuda.so", "nvidia/cu13/lib/libcudart.so.13"];

/// The packages that these libraries come from, whose licences go with them.
const LICENSED: [&str; 2] = [COMPILER[0], COMPILER[1]];
/// That of the part for GPUs.
const GPU_LICENSED: [&str; 1] = [GPU_COMPILER[1]];

/// Where the libraries lie, below the downloads.
pub const LIBRARIES_FOLDER: &str = "tvm/lib";
/// Where compiled models lie, with inputs and outputs.
pub const MODELS_FOLDER: &str = "tvm/models";

const USAGE: &str = "\
usage: cargo xtask models --tvm [--for KIND]... [--arch sm_90] [--network NAME]...

  --for       what to compile for: `cpu`, `cuda` (machine code) or `cuda-source` (compiled when loaded); default `cpu`
  --arch      the GPU's architecture
  --network   one of mlp, cnn, twin, resnet_small, resnet; default all but the last, which is large";

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
struct Options {
    kinds: Vec<String>,
    arch: String,
    networks: Vec<String>,
}

/// Compiles the networks that are not there yet.
///
/// # Errors
/// [`Error::Usage`] for other arguments, [`Error::Start`] and [`Error::Failed`] where Python, pip or the compiler
/// fails, whose own words are printed, and [`Error::Io`].
pub fn run(arguments: &[String]) -> Result<(), Error> {
    let options = Options::parse(arguments)?;
    let workspace = Workspace::current();
    let (models, libraries) =
        (workspace.cache().join(MODELS_FOLDER), workspace.cache().join(LIBRARIES_FOLDER));
    let environment = Environment { folder: workspace.tools().join("tvm") };
    for kind in &options.kinds {
        let stamp = Stamp::of(&models, kind, &options);
        if stamp.is_current() {
            println!("{kind}: {} are compiled", options.networks.join(", "));
            continue;
        }
        let on_gpu = kind != "cpu";
        environment.ensure(&COMPILER)?;
        if on_gpu {
            environment.ensure(&GPU_COMPILER)?;
        }
        environment.compile(&workspace, &models, kind, &options)?;
        let wanted = LIBRARIES.iter().chain(GPU_LIBRARIES.iter().filter(|_| on_gpu));
        wanted.into_iter().try_for_each(|member| environment.hand_out(member, &libraries))?;
        let licensed = LICENSED.iter().chain(GPU_LICENSED.iter().filter(|_| on_gpu));
        licensed.into_iter().try_for_each(|package| environment.hand_out_licences(package, &libraries))?;
        stamp.write()?;
    }
    println!("libraries in {}, models in {}", libraries.display(), models.display());
    Ok(())
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Self, Error> {
        let usage = |what: String| Error::Usage(format!("{what}\n{USAGE}"));
        let Some(rest) = arguments.strip_prefix(&["--tvm".to_owned()]) else {
            return Err(usage("`cargo xtask models` wants `--tvm` first".to_owned()));
        };
        let mut options = Self { kinds: Vec::new(), arch: "sm_90".to_owned(), networks: Vec::new() };
        for pair in rest.chunks(2) {
            match pair {
                [name, value]
                    if name == "--for" && ["cpu", "cuda", "cuda-source"].contains(&value.as_str()) =>
                {
                    options.kinds.push(value.clone());
                }
                [name, value] if name == "--arch" && value.starts_with("sm_") => {
                    options.arch.clone_from(value)
                }
                [name, value] if name == "--network" => options.networks.push(value.clone()),
                other => return Err(usage(format!("`{}` is not legal", other.join(" ")))),
            }
        }
        if options.kinds.is_empty() {
            options.kinds.push("cpu".to_owned());
        }
        if options.networks.is_empty() {
            options.networks = ["mlp", "cnn", "twin", "resnet_small"].map(str::to_owned).to_vec();
        }
        Ok(options)
    }
}

/// The Python environment that the compiler lives in.
struct Environment {
    folder: PathBuf,
}

impl Environment {
    fn python(&self) -> PathBuf {
        self.folder.join("bin").join("python")
    }

    /// Makes the environment and installs these packages, each at its pinned version and nothing that they ask for
    /// besides: the list is whole.
    fn ensure(&self, packages: &[&str]) -> Result<(), Error> {
        if !self.python().is_file() {
            process::run(Command::new("python3").args(["-m", "venv"]).arg(&self.folder), None)?;
        }
        let mut install = Command::new(self.python());
        install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]);
        process::run(install.args(["--no-deps", "--only-binary=:all:"]).args(packages), None)
    }

    fn compile(
        &self,
        workspace: &Workspace,
        models: &Path,
        kind: &str,
        options: &Options,
    ) -> Result<(), Error> {
        let mut command = Command::new(self.python());
        command.arg(workspace.root().join("xtask/src/models_tvm/compile.py")).arg(models);
        command.args(["--kind", kind, "--arch", &options.arch, "--networks"]).args(&options.networks);
        // Byte code of the scripts belongs to nobody's checkout.
        process::run(command.env("PYTHONDONTWRITEBYTECODE", "1"), None)
    }

    /// Copies an installed file into `folder`.
    fn hand_out(&self, member: &str, folder: &Path) -> Result<(), Error> {
        let from = self.packages()?.join(member);
        let name = from.file_name().unwrap_or_default().to_owned();
        copy_whole(&from, folder, &name)
    }

    /// Copies the licences of a package, given as it is pinned, into `folder`, under its name and theirs.
    fn hand_out_licences(&self, pin: &str, folder: &Path) -> Result<(), Error> {
        let package = pin.replace('-', "_").replace("==", "-");
        let from = self.packages()?.join(format!("{package}.dist-info/licenses"));
        for entry in std::fs::read_dir(&from).map_err(Error::io("read", &from))? {
            let entry = entry.map_err(Error::io("read", &from))?;
            let mut name = OsString::from(format!("{package}-"));
            name.push(entry.file_name());
            copy_whole(&entry.path(), folder, &name)?;
        }
        Ok(())
    }

    /// Where packages are installed: below the only folder of a Python version.
    fn packages(&self) -> Result<PathBuf, Error> {
        let library = self.folder.join("lib");
        let mut versions = std::fs::read_dir(&library).map_err(Error::io("read", &library))?;
        match versions.next() {
            Some(Ok(version)) => Ok(version.path().join("site-packages")),
            Some(Err(error)) => Err(Error::io("read", &library)(error)),
            None => Err(Error::Fetch(format!("{} holds no Python", library.display()))),
        }
    }
}

/// Copies a file into `folder` under this name, whole or not at all.
fn copy_whole(from: &Path, folder: &Path, name: &OsStr) -> Result<(), Error> {
    let (part, to) = (folder.join(".part"), folder.join(name));
    std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    std::fs::copy(from, &part).map_err(Error::io("copy", from))?;
    std::fs::rename(&part, &to).map_err(Error::io("write", &to))
}

/// What a set of models was made from, kept beside them.
struct Stamp {
    path: PathBuf,
    text: String,
}

impl Stamp {
    fn of(models: &Path, kind: &str, options: &Options) -> Self {
        let scripts = SCRIPTS.map(|(name, text)| format!("{name} {}", hexadecimal(&Sha256::digest(text))));
        let packages = COMPILER.iter().chain(&GPU_COMPILER).copied().collect::<Vec<_>>();
        // A cache from before the licences lay beside the libraries is filled again.
        let (scripts, packages) = (scripts.join("\n"), packages.join(" ") + " with licences");
        let text = format!("{scripts}\n{packages}\n{} {}\n", options.arch, options.networks.join(" "));
        Self { path: models.join(format!("{kind}.stamp")), text }
    }

    fn is_current(&self) -> bool {
        std::fs::read_to_string(&self.path).is_ok_and(|text| text == self.text)
    }

    fn write(&self) -> Result<(), Error> {
        std::fs::write(&self.path, &self.text).map_err(Error::io("write", &self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, Error> {
        Options::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn options_have_defaults_and_name_what_is_not_legal() {
        let plain = parse("--tvm").unwrap();
        assert_eq!(
            (plain.kinds, plain.arch.as_str(), plain.networks.len()),
            (vec!["cpu".to_owned()], "sm_90", 4)
        );
        let asked = parse("--tvm --for cuda --for cpu --arch sm_87 --network resnet").unwrap();
        assert_eq!((asked.kinds.len(), asked.arch.as_str()), (2, "sm_87"));
        assert_eq!(asked.networks, ["resnet"]);
        for (line, named) in [("", "--tvm"), ("--tvm --for gpu", "--for gpu"), ("--tvm --arch", "--arch")] {
            assert!(parse(line).unwrap_err().to_string().contains(named), "{line}");
        }
    }

    #[test]
    fn a_stamp_is_current_until_anything_that_made_the_models_changes() {
        let folder = tempfile::tempdir().unwrap();
        let stamp = Stamp::of(folder.path(), "cpu", &parse("--tvm").unwrap());
        assert!(!stamp.is_current());
        stamp.write().unwrap();
        assert!(stamp.is_current());
        assert!(!Stamp::of(folder.path(), "cpu", &parse("--tvm --network mlp").unwrap()).is_current());
        assert!(!Stamp::of(folder.path(), "cuda", &parse("--tvm").unwrap()).is_current());
    }

    #[test]
    fn every_requirement_names_one_version() {
        for requirement in COMPILER.iter().chain(&GPU_COMPILER) {
            assert_eq!(requirement.split("==").count(), 2, "{requirement}");
        }
    }
}
