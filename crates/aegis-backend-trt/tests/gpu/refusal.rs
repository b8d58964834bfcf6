//! What the vendor's library says no to, and what is left afterwards.

use std::collections::BTreeMap;
use std::sync::Arc;

use aegis_backend_trt::{TensorRt, TensorRtLoader};
use aegis_cuda::conformance::CountingGrant;
use aegis_cuda::{
    BackendError, BackendLoader, CudaDevice, CudaOptions, Device, DeviceError, MemorySpace, ModelMemory,
    ModelRequest, PartitionRequest, Units,
};
use aegis_types::{Bytes, Extent, LaneId, PartitionId};
use libtest_mimic::Failed;

/// Memory that the tests reserve.
const MEMORY: Bytes = Bytes::new(64 << 20);

/// Bytes that are no plan: none of the vendor's tag, and some behind it.
fn damaged() -> Vec<Vec<u8>> {
    let tagged = b"ftrt".iter().copied().chain((0..4096_u32).map(|at| (at * 31 % 251) as u8)).collect();
    vec![vec![0xFF; 64], vec![0; 8192], tagged]
}

fn request<'a>(artifact: &'a [u8], shapes: &'a BTreeMap<String, Vec<u64>>) -> ModelRequest<'a> {
    ModelRequest { name: "damaged", artifact, shapes, allow_control_flow: false }
}

/// The refusal names the model and says more than that the library gave no reason.
fn readable(error: &BackendError) -> Result<(), Failed> {
    println!("refused: {error}");
    let text = error.to_string();
    let told = text.contains("`damaged`") && text.contains("refuses it") && !text.contains("gave no reason");
    let typed = matches!(error, BackendError::InvalidModel { .. });
    if typed && told { Ok(()) } else { Err(format!("no readable reason: {error:?}").into()) }
}

pub fn version() -> Result<(), Failed> {
    let version = crate::library()?.version();
    println!("TensorRT {version}, built for {}", TensorRt::built_for().join(", "));
    if version.major >= 8 { Ok(()) } else { Err(format!("version {version}").into()) }
}

/// Where there is a GPU, a number that none has is refused in the same place.
pub fn without_gpu() -> Result<(), Failed> {
    let loader = TensorRtLoader::new(crate::library()?, 4096);
    match loader.inspect(&request(&[0; 64], &BTreeMap::new())) {
        Err(BackendError::Device(DeviceError::Unavailable { reason, .. })) => {
            println!("refused: {reason}");
            Ok(())
        }
        other => Err(format!("{other:?}").into()),
    }
}

pub fn inspection() -> Result<(), Failed> {
    let loader = TensorRtLoader::new(crate::library()?, 0);
    // More than once: what a first refusal leaves behind would be in the way of the next.
    for artifact in damaged().iter().chain(&damaged()) {
        match loader.inspect(&request(artifact, &BTreeMap::new())) {
            Err(error) => readable(&error)?,
            Ok(described) => return Err(format!("described: {described:?}").into()),
        }
    }
    Ok(())
}

/// Loads on a lane, which must be refused, and checks that the grant and the lane are as before.
fn refused_on(device: &CudaDevice, partition: u16) -> Result<(), Failed> {
    let loader = TensorRtLoader::new(crate::library()?, 0);
    let region = device.reserve(MemorySpace::Device, MEMORY)?;
    let mut stream = device.bind_lane(PartitionId::new(partition), LaneId::new(partition))?;
    let grant = CountingGrant::new(Extent { offset: Bytes::ZERO, len: MEMORY });
    for artifact in &damaged() {
        let memory = ModelMemory { grant: Box::new(grant.clone()), region: Arc::clone(&region) };
        match loader.load(&request(artifact, &BTreeMap::new()), &mut *stream, memory) {
            Err(error) => readable(&error)?,
            Ok(_) => return Err("a damaged plan was loaded".into()),
        }
        stream.synchronize()?;
        if !grant.used_total().is_zero() {
            return Err(format!("{} stay taken", grant.used_total()).into());
        }
    }
    Ok(())
}

pub fn lanes() -> Result<(), Failed> {
    let device = CudaDevice::open(CudaOptions::default())?;
    refused_on(&device, 0)?;
    Ok(device.close()?)
}

pub fn partitions() -> Result<(), Failed> {
    let device = CudaDevice::open(CudaOptions::default())?;
    let context = device.context().clone();
    if !context.capabilities.partitions {
        println!("skipped: this driver makes no partitions");
        return Ok(device.close()?);
    }
    let share =
        |name: &str| PartitionRequest { name: name.into(), units: Units::Count(context.unit_minimum) };
    device.partition(&[share("left"), share("right")])?;
    let refused = std::thread::scope(|scope| {
        let threads = [0, 1].map(|partition| {
            scope.spawn({
                let device = &device;
                move || {
                    refused_on(device, partition).map_err(|error| error.message().unwrap_or("?").to_owned())
                }
            })
        });
        threads.map(|thread| thread.join().unwrap_or_else(|_| Err("a thread panicked".into())))
    });
    refused.into_iter().try_for_each(|refused| refused.map_err(Failed::from))?;
    Ok(device.close()?)
}
