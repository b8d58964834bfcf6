//! The CUDA device on a GPU. Without one, every test is reported as ignored and the reason is printed.
//!
//! What loses a device, or needs another environment, is done in child processes: this program again, with `--child`.
//!
//! `CUDA_DEVICE_MAX_CONNECTIONS` is taken for the number of hardware queues, as the driver does. Under
//! `compute-sanitizer` the program runs with `--tool memcheck` as it is; `--tool racecheck` and `--tool initcheck` slow
//! kernels down so much that `conformance: queued work` should be run alone and last. `--target-processes all` also
//! follows the children, whose illegal address is then a true finding.

mod gpu {
    pub mod device;
    pub mod faults;
    pub mod suite;
}

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};

/// A test: its name and what it checks.
type Test = (&'static str, fn() -> Result<(), Failed>);

const TESTS: [Test; 15] = [
    // First, because a device that an earlier test could not close would keep the primary context alive.
    ("closing gives everything back", gpu::device::closing),
    ("conformance: every device", gpu::suite::every_device),
    ("conformance: queued work", gpu::suite::queued_work),
    ("conformance: queued work that wakes a waiting thread", gpu::suite::waking_work),
    ("false serialisation is seen where there is one queue", gpu::faults::one_queue),
    ("conformance: models of kernels", gpu::suite::kernels),
    ("one thread carries the lanes of a partition", gpu::device::carriers),
    ("a twin of a partition is carried by another thread on its units", gpu::device::twins),
    ("a device that cannot be is not opened", gpu::device::illegal_options),
    ("a threshold of copies that is none turns the kernel off", gpu::device::engines_only),
    ("a waker is called for each signal", gpu::device::waker),
    ("device time lies where the host saw it", gpu::device::clock),
    ("what the driver refuses leaves the device usable", gpu::faults::refusals),
    ("memory that the device lacks is refused in numbers", gpu::faults::memory),
    ("an illegal address loses the device in order", gpu::faults::illegal_address),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, flag, fault] = &arguments[..]
        && flag == gpu::faults::CHILD
    {
        return gpu::faults::child(fault);
    }
    let mut arguments = Arguments::from_args();
    // Tests measure who waits for whom: they would see each other.
    arguments.test_threads = Some(1);
    let missing = gpu::device::open().map(drop).err();
    if let (Some(reason), false) = (&missing, arguments.list) {
        TESTS.iter().for_each(|(name, _)| println!("skipped: {name}: {reason}"));
    }
    let trial = |&(name, body): &Test| Trial::test(name, body).with_ignored_flag(missing.is_some());
    libtest_mimic::run(&arguments, TESTS.iter().map(trial).collect()).exit_code()
}
