//! The conformance suite on the GPU.

use aegis_cuda::conformance::{
    AsynchronousCase, KernelProbe, Probe, Report, Violation, asynchronous, device,
};
use aegis_cuda::{BackendError, CudaOptions, Device, DeviceError, Stream, kernel};
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

/// Pieces smaller than the default, so that one copy becomes many.
fn queued(options: CudaOptions) -> Result<(), Failed> {
    let copy_chunk = Bytes::new(65_536);
    let options = CudaOptions { copy_chunk, ..options };
    passes(asynchronous(&AsynchronousCase { make: &|| make(options), probe: &probe, copy_chunk }))
}

pub fn queued_work() -> Result<(), Failed> {
    queued(options())
}

pub fn waking_work() -> Result<(), Failed> {
    queued(CudaOptions { blocking: true, ..options() })
}

pub fn kernels() -> Result<(), Failed> {
    let device = make(options())?;
    passes(kernel::conformance(&*device))
}
