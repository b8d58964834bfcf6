//! Faults: what the driver refuses, what loses the device, and what needs a process of its own to go wrong.

use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use aegis_cuda::conformance::KernelProbe;
use aegis_cuda::cuda::{DeviceClock, Event, Module};
use aegis_cuda::interop::with_cuda_stream;
use aegis_cuda::{CudaDevice, Device, DeviceError, DeviceSlice, HostClock, MemorySpace, Stream};
use aegis_types::{Bytes, DispatchSeq, Extent, LaneId, PartitionId, Severity};
use libtest_mimic::Failed;

use super::device::options;
use super::suite::serialised;

/// Tells a child what to provoke.
pub const CHILD: &str = "--child";
const ILLEGAL_ADDRESS: &str = "illegal-address";
const OUT_OF_MEMORY: &str = "out-of-memory";
const ONE_QUEUE: &str = "one-queue";
/// The exit code of a program whose device is lost.
const FATAL: u8 = 70;
const PATIENCE: Duration = Duration::from_secs(20);

fn refused<T>(outcome: Option<Result<T, DeviceError>>, what: &str) -> Result<(), Failed> {
    match outcome.ok_or("no CUDA stream")? {
        Err(error @ DeviceError::Refused { .. }) if error.severity() == Severity::Permanent => {
            println!("refused: {what}: {error}");
            Ok(())
        }
        Err(error) => Err(format!("{what} gave {error:?}").into()),
        Ok(_) => Err(format!("{what} was accepted").into()),
    }
}

/// An image that is none, a kernel that is not there, an event that was never marked.
pub fn refusals() -> Result<(), Failed> {
    let device = CudaDevice::open(options())?;
    let mut stream = device.bind_lane(PartitionId::new(0), LaneId::new(0))?;
    let garbage = with_cuda_stream(&mut *stream, |stream| Module::load(stream, c".version 7.8\nnonsense"));
    refused(garbage, "an image that is none")?;
    let absent = with_cuda_stream(&mut *stream, |stream| {
        Module::load(stream, aegis_cuda::kernel::PTX)?.function(c"aegis_absent")
    });
    refused(absent, "a kernel that is not there")?;
    let unmarked = with_cuda_stream(&mut *stream, |stream| {
        let clock = DeviceClock::new(stream, HostClock::start())?;
        clock.map(&Event::new(stream)?)
    });
    refused(unmarked, "an invalid handle")?;
    stream.signal(DispatchSeq::new(1))?;
    stream.synchronize()?;
    if stream.flag().load() != DispatchSeq::new(1) {
        return Err("the lane is lost after refusals".into());
    }
    drop(stream);
    Ok(device.close()?)
}

pub fn memory() -> Result<(), Failed> {
    let text = ended(Command::new(std::env::current_exe()?).args([CHILD, OUT_OF_MEMORY]), 0)?;
    says(&text, &["device memory asked for"])?;
    says(&text, &["free"])
}

/// A tool that watches memory stops the kernel before the device does; the driver then has another word for it.
pub fn illegal_address() -> Result<(), Failed> {
    let text = ended(Command::new(std::env::current_exe()?).args([CHILD, ILLEGAL_ADDRESS]), FATAL)?;
    says(&text, &["the device context is lost"])?;
    says(&text, &["CUDA_ERROR_ILLEGAL_ADDRESS (700)", "CUDA_ERROR_LAUNCH_FAILED (719)"])
}

/// The suite's check that lanes do not wait for each other fails on a device where they do.
pub fn one_queue() -> Result<(), Failed> {
    let mut child = Command::new(std::env::current_exe()?);
    let child = child.args([CHILD, ONE_QUEUE]).env("CUDA_DEVICE_MAX_CONNECTIONS", "1");
    says(&ended(child, 0)?, &["waited for a segment of lane"])
}

/// Runs a child and returns what it reported, if it ended with `code`.
fn ended(child: &mut Command, code: u8) -> Result<String, Failed> {
    let output = child.output()?;
    let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    println!("{}: {text}", output.status);
    if output.status.code() == Some(i32::from(code)) {
        Ok(text)
    } else {
        Err(format!("the child ended with {}, not {code}: {text}", output.status).into())
    }
}

/// Fails unless one of the wordings is in the text.
fn says(text: &str, one_of: &[&str]) -> Result<(), Failed> {
    if one_of.iter().any(|words| text.contains(words)) {
        Ok(())
    } else {
        Err(format!("the child said none of {one_of:?}: {text}").into())
    }
}

/// Does what the parent asks for, reports it and ends as a program should.
pub fn child(fault: &str) -> ExitCode {
    let outcome = match fault {
        ILLEGAL_ADDRESS => lose().map(told),
        OUT_OF_MEMORY => exhaust().map(told),
        ONE_QUEUE => serialised().map(|text| (text, ExitCode::SUCCESS)),
        _ => Err(format!("no fault is called {fault}").into()),
    };
    let (text, code) =
        outcome.unwrap_or_else(|failed| (failed.message().unwrap_or("failed").to_owned(), ExitCode::FAILURE));
    eprintln!("{text}");
    code
}

fn told(error: DeviceError) -> (String, ExitCode) {
    let fatal = error.severity() == Severity::Fatal;
    (error.to_string(), if fatal { ExitCode::from(FATAL) } else { ExitCode::SUCCESS })
}

/// Two openings of one device each count on its free memory; the driver knows better.
fn exhaust() -> Result<DeviceError, Failed> {
    let (first, second) = (CudaDevice::open(options())?, CudaDevice::open(options())?);
    let most = Bytes::new(first.context().memory.get() / 8 * 5);
    let held = first.reserve(MemorySpace::Device, most)?;
    let error = match second.reserve(MemorySpace::Device, most) {
        Err(error @ DeviceError::OutOfMemory { .. }) => error,
        other => return Err(format!("twice {most} gave {:?}", other.map(|_| ())).into()),
    };
    drop(held);
    second.reserve(MemorySpace::Device, Bytes::new(1 << 20))?;
    // What the first has given up is given back when it is asked for more, and not before.
    first.reserve(MemorySpace::Device, most)?;
    Ok(error)
}

/// A kernel writes to an illegal address; the loss is noticed by asking, and everything says so from then on.
fn lose() -> Result<DeviceError, Failed> {
    let device = CudaDevice::open(options())?;
    let memory = device.reserve(MemorySpace::Device, Bytes::new(4096))?;
    let mut stream = device.bind_lane(PartitionId::new(0), LaneId::new(0))?;
    let mut probe = KernelProbe::load(&mut *stream)?;
    let word = Extent { offset: Bytes::ZERO, len: Bytes::new(4) };
    let counter = DeviceSlice::lend(&memory, word)?;
    probe.stray(&mut *stream, &counter)?;
    let start = Instant::now();
    let error = loop {
        let asked = with_cuda_stream(&mut *stream, |stream| stream.finished()).ok_or("no CUDA stream")?;
        match asked {
            Err(error) => break error,
            Ok(true) => return Err("the kernel ran to its end".into()),
            Ok(false) if start.elapsed() > PATIENCE => return Err("the fault was not noticed".into()),
            Ok(false) => std::hint::spin_loop(),
        }
    };
    let later = [
        stream.signal(DispatchSeq::new(1)).err(),
        stream.synchronize().err(),
        device.reserve(MemorySpace::Device, Bytes::new(1)).map(drop).err(),
        device.reserve(MemorySpace::Staging, Bytes::new(1)).map(drop).err(),
        device.bind_lane(PartitionId::new(0), LaneId::new(1)).map(drop).err(),
    ];
    if later.iter().any(|later| later.as_ref() != Some(&error)) {
        return Err(format!("after {error:?} later calls gave {later:?}").into());
    }
    if stream.flag().load() != DispatchSeq::NONE {
        return Err("the flag shows a dispatch that never ended".into());
    }
    drop((probe, stream, counter, memory));
    match device.close() {
        Err(closed) if closed == error => Ok(error),
        other => Err(format!("closing a lost device gave {other:?}").into()),
    }
}
