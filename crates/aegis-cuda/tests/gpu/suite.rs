//! The conformance suite on the GPU.

use aegis_cuda::conformance::{
    AsynchronousCase, KernelProbe, Probe, Report, Violation, asynchronous, device, independence,
};
use aegis_cuda::{BackendError, CudaOptions, Device, DeviceError, QueueLimit, Stream, kernel};
use aegis_types::Bytes;
use libtest_mimic::Failed;

use super::device::{Closing, options};

/// Reservations of the suite fill the capacity; a small one is filled quickly.
const MEMORY: Bytes = Bytes::new(256 << 20);

fn passes(report: Result<Report, Violation>) -> Result<(), Failed> {
    let report = report?;
    report.passed.iter().for_each(|check| println!("passed: {check}"));
    report.skipped.iter().for_each(|(check, why)| println!("skipped: {check}: {why}"));
    Ok(())
}

fn make(options: CudaOptions) -> Result<Box<dyn Device>, DeviceError> {
    Ok(Box::new(Closing::open(CudaOptions { memory: Some(MEMORY), ..options })?))
}

pub fn every_device() -> Result<(), Failed> {
    passes(device(&|| make(options())))
}

fn probe(stream: &mut dyn Stream) -> Result<Box<dyn Probe>, BackendError> {
    Ok(Box::new(KernelProbe::load(stream)?))
}

/// Pieces smaller than the default, so that one copy becomes many; copies by a kernel below that.
fn queued(options: CudaOptions) -> Result<(), Failed> {
    let (copy_chunk, copy_small) = (Bytes::new(65_536), options.copy_by_kernel);
    let options = CudaOptions { copy_chunk, ..options };
    let make = || make(options);
    passes(asynchronous(&AsynchronousCase { make: &make, probe: &probe, copy_chunk, copy_small }))
}

pub fn queued_work() -> Result<(), Failed> {
    queued(CudaOptions { copy_by_kernel: Bytes::new(20_003), ..options() })
}

/// Here the copy engines make every copy.
pub fn waking_work() -> Result<(), Failed> {
    queued(CudaOptions { blocking: true, copy_by_kernel: Bytes::ZERO, ..options() })
}

/// Lanes of a device that has fewer queues than it is believed to have; how the suite finds that out.
pub fn serialised() -> Result<String, Failed> {
    let believed = CudaOptions { queues: QueueLimit::Unchecked, memory: Some(MEMORY), ..options() };
    let make = || -> Result<Box<dyn Device>, DeviceError> { Ok(Box::new(Closing::believed(believed, 4)?)) };
    let (copy_chunk, copy_small) = (believed.copy_chunk, believed.copy_by_kernel);
    match independence(&AsynchronousCase { make: &make, probe: &probe, copy_chunk, copy_small }) {
        Err(violation) => Ok(violation.to_string()),
        Ok(report) => Err(format!("one queue looked like four: {report:?}").into()),
    }
}

pub fn kernels() -> Result<(), Failed> {
    let device = make(options())?;
    passes(kernel::conformance(&*device))
}
