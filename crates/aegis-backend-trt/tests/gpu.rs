//! The vendor's own library, on a GPU. What is missing is told: each test is ignored then, with the reason printed.
//!
//! The library is the file that `AEGIS_TENSORRT` names, the lean runtime below `AEGIS_CACHE` (`cargo xtask fetch
//! --tensorrt`), or one that the system's search finds. The package indexes have no builder, so that no plan can be
//! made here: tests of a running plan take the one that `AEGIS_TENSORRT_PLAN` names, made for this GPU with
//! `trtexec --saveEngine` and fixed shapes.

mod gpu {
    pub mod plan;
    pub mod refusal;
}

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use aegis_backend_trt::TensorRt;
use aegis_cuda::{CudaDevice, CudaOptions};
use libtest_mimic::{Arguments, Failed, Trial};

/// A test: its name, what it needs and what it checks.
type Test = (&'static str, Need, fn() -> Result<(), Failed>);

/// What a test cannot do without.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Need {
    Library,
    Gpu,
    Plan,
}

const TESTS: [Test; 7] = [
    ("the library is taken by its version", Need::Library, gpu::refusal::version),
    ("without a GPU nothing is asked of the library", Need::Library, gpu::refusal::without_gpu),
    ("a damaged plan is refused with a reason", Need::Gpu, gpu::refusal::inspection),
    ("a damaged plan leaves a lane and its memory as they were", Need::Gpu, gpu::refusal::lanes),
    ("a damaged plan is refused inside a partition", Need::Gpu, gpu::refusal::partitions),
    ("a plan conforms", Need::Plan, gpu::plan::conforms),
    ("a captured plan answers as a plain one", Need::Plan, gpu::plan::captured),
];

/// Loads the library.
///
/// # Errors
/// What was looked for and not found.
pub fn library() -> Result<TensorRt, String> {
    let named = std::env::var_os("AEGIS_TENSORRT").map(PathBuf::from);
    let fetched =
        std::env::var_os("AEGIS_CACHE").map(|cache| Path::new(&cache).join("tensorrt/libnvinfer_lean.so.11"));
    let file = named.or_else(|| fetched.filter(|file| file.is_file()));
    match file {
        Some(file) => TensorRt::load(&file),
        None => TensorRt::find(),
    }
    .map_err(|error| error.to_string())
}

/// The file of the user's plan.
///
/// # Errors
/// How to name it.
pub fn plan() -> Result<PathBuf, String> {
    let named = std::env::var_os("AEGIS_TENSORRT_PLAN").map(PathBuf::from);
    named.ok_or_else(|| "AEGIS_TENSORRT_PLAN names no plan".to_owned())
}

/// The first thing that is missing of what a test needs.
fn missing(need: Need) -> Option<String> {
    let library = library().err();
    let device = || CudaDevice::open(CudaOptions::default()).and_then(CudaDevice::close).err();
    library
        .or_else(|| (need >= Need::Gpu).then(|| device().map(|error| error.to_string())).flatten())
        .or_else(|| (need >= Need::Plan).then(|| plan().err()).flatten())
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // They count what the device's memory holds, and would see each other.
    arguments.test_threads = Some(1);
    let needs = [Need::Library, Need::Gpu, Need::Plan].map(|need| (need, missing(need)));
    let missing =
        |need: Need| needs.iter().find(|(other, _)| *other == need).and_then(|(_, reason)| reason.clone());
    let trial = |&(name, need, body): &Test| {
        let reason = missing(need);
        if let (Some(reason), false) = (&reason, arguments.list) {
            println!("skipped: {name}: {reason}");
        }
        Trial::test(name, body).with_ignored_flag(reason.is_some())
    };
    let trials = TESTS.iter().map(trial).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
