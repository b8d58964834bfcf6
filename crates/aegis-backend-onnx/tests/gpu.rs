//! The backend on a GPU. Without one, or without the library that reaches it, every test is reported as ignored and the
//! reason is printed.
//!
//! `AEGIS_ONNXRUNTIME` names a libonnxruntime beside which its CUDA provider lies; the vendor's CUDA libraries are found
//! as the system finds libraries. `AEGIS_CACHE` names the folder with the models; those that are there are run.

mod gpu {
    pub mod lane;
    pub mod memory;
    pub mod outputs;
    pub mod timing;
}

#[path = "support/grant.rs"]
mod grant;
#[expect(dead_code, reason = "state is carried in the tests of the host")]
#[path = "support/models.rs"]
mod models;

use std::path::PathBuf;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};

/// A test: its name and what it checks.
type Test = (&'static str, fn() -> Result<(), Failed>);

const TESTS: [Test; 10] = [
    // First, because the vendor's libraries keep memory at every opening of a device after the first load.
    ("unloading gives the device's memory back", gpu::memory::unloading),
    ("conformance", gpu::outputs::conformance),
    ("outputs are those of the host", gpu::outputs::like_the_host),
    ("replays give the bits of runs", gpu::outputs::replays),
    ("two lanes run at the same time", gpu::outputs::two_lanes),
    ("two partitions run at the same time", gpu::outputs::two_partitions),
    ("what is no model is refused", gpu::outputs::corrupted),
    ("a budget that is too small is refused", gpu::memory::budget),
    ("jobs allocate nothing", gpu::memory::serving),
    ("times", gpu::timing::times),
];

/// The folder with the models.
fn cache() -> Option<PathBuf> {
    std::env::var_os("AEGIS_CACHE").map(PathBuf::from)
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Tests look at the whole device's memory: they would see each other.
    arguments.test_threads = Some(1);
    let missing = gpu::lane::missing();
    if let (Some(reason), false) = (&missing, arguments.list) {
        TESTS.iter().for_each(|(name, _)| println!("skipped: {name}: {reason}"));
    }
    let trial = |&(name, body): &Test| Trial::test(name, body).with_ignored_flag(missing.is_some());
    libtest_mimic::run(&arguments, TESTS.iter().map(trial).collect()).exit_code()
}
