//! The suite on the devices and the backend of this crate, and proof that it can fail.

use std::collections::BTreeMap;

use aegis_types::Bytes;

use super::*;
use crate::backend::{BackendLoader, ModelDescription, ModelMemory, ModelRequest, RuntimeBackend};
use crate::device::Device;
use crate::host::{HostDevice, HostOptions};
use crate::memory::DeviceSlice;
use crate::script::{Durations, ScriptedLoader, expected_outputs};
use crate::sim::{SimClock, SimDevice, SimOptions};
use crate::stream::{CompletionFlag, Stream};

const MODEL: &str = "script 1\ninput x f32 1x4\ninput t i64 scalar\noutput y f32 1x4\noutput z u8 3\n\
    weights 4KiB\nscratch 1KiB\nsegment 1us..2us\nsegment 1us scratch 2KiB\nend\n";

fn host() -> Result<Box<dyn Device>, DeviceError> {
    Ok(Box::new(HostDevice::new(HostOptions { memory: Bytes::new(1 << 20) })?))
}

fn sim() -> Result<Box<dyn Device>, DeviceError> {
    let options = SimOptions { memory: Bytes::new(1 << 20), ..SimOptions::default() };
    Ok(Box::new(SimDevice::new(options, SimClock::new())?))
}

fn check_backend(device: &dyn Device, loader: &dyn BackendLoader) -> Result<Report, Violation> {
    let shapes = BTreeMap::new();
    let request =
        ModelRequest { name: "m", artifact: MODEL.as_bytes(), shapes: &shapes, allow_control_flow: false };
    let jobs: Vec<Vec<Vec<u8>>> = (0..3).map(|job| vec![vec![job; 16], vec![!job; 8]]).collect();
    let judge = |inputs: &[Vec<u8>], outputs: &[Vec<u8>]| {
        let expected = expected_outputs(&request, inputs).map_err(|error| error.to_string())?;
        if expected == outputs { Ok(()) } else { Err(format!("{outputs:?}, expected {expected:?}")) }
    };
    let memory = Bytes::new(8192);
    backend(&BackendCase { device, loader, request, jobs: &jobs, judge: &judge, memory })
}

fn passes(report: Result<Report, Violation>) {
    match report {
        Ok(report) => report.skipped.iter().for_each(|(check, why)| println!("skipped: {check}: {why}")),
        Err(violation) => panic!("{violation}"),
    }
}

#[test]
fn the_host_device_conforms() {
    passes(device(&host));
}

#[test]
fn the_simulated_device_conforms() {
    passes(device(&sim));
}

#[test]
fn scripts_conform_on_the_simulated_device() {
    let device = sim().expect("legal options");
    passes(check_backend(&*device, &ScriptedLoader::new(Durations::Seeded(1))));
}

#[test]
fn scripts_conform_on_the_host_device() {
    let device = host().expect("a thread has cores");
    passes(check_backend(&*device, &ScriptedLoader::new(Durations::Seeded(1))));
}

/// A host device that says of itself what is not true, and may forget to copy slices of one length.
struct Boastful {
    device: Box<dyn Device>,
    context: crate::device::DeviceContext,
    forgets: Option<u64>,
}

impl Boastful {
    fn make(forgets: Option<u64>) -> Result<Box<dyn Device>, DeviceError> {
        let device: Box<dyn Device> =
            Box::new(HostDevice::new(HostOptions { memory: Bytes::new(64 << 20) })?);
        let mut context = device.context().clone();
        context.capabilities.asynchronous = true;
        context.capabilities.graphs = true;
        Ok(Box::new(Self { device, context, forgets }))
    }
}

struct Forgetful {
    stream: Box<dyn Stream>,
    forgets: Option<u64>,
}

impl Stream for Forgetful {
    fn lane(&self) -> aegis_types::LaneId {
        self.stream.lane()
    }

    fn partition(&self) -> aegis_types::PartitionId {
        self.stream.partition()
    }

    fn copy(&mut self, from: &DeviceSlice, to: &DeviceSlice) -> Result<(), DeviceError> {
        if self.forgets == Some(from.len().get()) { Ok(()) } else { self.stream.copy(from, to) }
    }

    fn signal(&mut self, seq: aegis_types::DispatchSeq) -> Result<(), DeviceError> {
        self.stream.signal(seq)
    }

    fn flag(&self) -> std::sync::Arc<dyn CompletionFlag> {
        self.stream.flag()
    }

    fn synchronize(&mut self) -> Result<(), DeviceError> {
        self.stream.synchronize()
    }

    fn as_any_mut(&mut self) -> &mut dyn std::any::Any {
        self.stream.as_any_mut()
    }
}

impl Device for Boastful {
    fn context(&self) -> &crate::device::DeviceContext {
        &self.context
    }

    fn partition(
        &self,
        requests: &[crate::device::PartitionRequest],
    ) -> Result<Vec<crate::device::Partition>, DeviceError> {
        self.device.partition(requests)
    }

    fn partitions(&self) -> Vec<crate::device::Partition> {
        self.device.partitions()
    }

    fn reserve(
        &self,
        space: crate::memory::MemorySpace,
        bytes: Bytes,
    ) -> Result<std::sync::Arc<dyn crate::memory::DeviceMemory>, DeviceError> {
        self.device.reserve(space, bytes)
    }

    fn bind_lane(
        &self,
        partition: aegis_types::PartitionId,
        lane: aegis_types::LaneId,
    ) -> Result<Box<dyn Stream>, DeviceError> {
        let stream = self.device.bind_lane(partition, lane)?;
        Ok(Box::new(Forgetful { stream, forgets: self.forgets }))
    }
}

fn no_probe(_: &mut dyn Stream) -> Result<Box<dyn Probe>, BackendError> {
    Err(DeviceError::Unsupported { what: "a kernel" }.into())
}

fn queued(make: super::device::Make<'_>) -> AsynchronousCase<'_> {
    AsynchronousCase { make, probe: &no_probe, copy_chunk: Bytes::new(1000), copy_small: Bytes::new(77) }
}

/// Lengths at which a device changes its way, and one that only the check of flags copies.
#[test]
fn a_copy_that_is_not_made_is_found() {
    for (forgets, check) in
        [(77, "copies"), (78, "copies"), (1001, "copies"), (48, "flag"), (16 << 20, "flag")]
    {
        let make = || Boastful::make(Some(forgets));
        let violation = asynchronous(&queued(&make)).expect_err("a copy is missing");
        assert!(violation.check.contains(check), "{forgets}: {violation}");
    }
}

/// Host lanes have their copies and flags in order, and no graphs: the suite sees both.
#[test]
fn a_device_that_claims_graphs_and_has_none_is_found() {
    let boastful = || Boastful::make(None);
    let case = queued(&boastful);
    let violation = asynchronous(&case).expect_err("no graphs");
    assert!(violation.check.contains("graph"), "{violation}");
    let honest = AsynchronousCase { make: &host, ..case };
    let report = asynchronous(&honest).expect("everything is skipped");
    assert!(report.passed.is_empty() && report.skipped.len() == 6, "{report:?}");
}

/// Keeps a byte of its grant for ever.
struct Leaky(ScriptedLoader);

impl BackendLoader for Leaky {
    fn name(&self) -> &'static str {
        "leaky"
    }

    fn inspect(&self, request: &ModelRequest<'_>) -> Result<ModelDescription, BackendError> {
        self.0.inspect(request)
    }

    fn load(
        &self,
        request: &ModelRequest<'_>,
        stream: &mut dyn Stream,
        memory: ModelMemory,
    ) -> Result<Box<dyn RuntimeBackend>, BackendError> {
        let class = aegis_types::MemoryClass::Persistent;
        let kept = memory.grant.allocate(class, Bytes::new(1), Bytes::new(1));
        kept.map_err(|source| BackendError::Memory { model: request.name.into(), source })?;
        self.0.load(request, stream, memory)
    }
}

#[test]
fn a_leak_is_found() {
    let device = sim().expect("legal options");
    let leaky = Leaky(ScriptedLoader::new(Durations::Longest));
    let violation = check_backend(&*device, &leaky).expect_err("a leak");
    assert!(violation.detail.contains("outlived"), "{violation}");
}

/// Claims its units twice.
struct Doubled(Box<dyn Device>);

impl Device for Doubled {
    fn context(&self) -> &crate::device::DeviceContext {
        self.0.context()
    }

    fn partition(
        &self,
        requests: &[crate::device::PartitionRequest],
    ) -> Result<Vec<crate::device::Partition>, DeviceError> {
        let mut made = self.0.partition(requests)?;
        let units = made[0].unit_numbers.clone();
        made.iter_mut().for_each(|partition| partition.unit_numbers.clone_from(&units));
        Ok(made)
    }

    fn partitions(&self) -> Vec<crate::device::Partition> {
        let mut made = self.0.partitions();
        let units = made[0].unit_numbers.clone();
        made.iter_mut().for_each(|partition| partition.unit_numbers.clone_from(&units));
        made
    }

    fn reserve(
        &self,
        space: crate::memory::MemorySpace,
        bytes: Bytes,
    ) -> Result<std::sync::Arc<dyn crate::memory::DeviceMemory>, DeviceError> {
        self.0.reserve(space, bytes)
    }

    fn bind_lane(
        &self,
        partition: aegis_types::PartitionId,
        lane: aegis_types::LaneId,
    ) -> Result<Box<dyn Stream>, DeviceError> {
        self.0.bind_lane(partition, lane)
    }
}

#[test]
fn partitions_that_share_units_are_found() {
    let violation = device(&|| Ok(Box::new(Doubled(sim()?)))).expect_err("shared units");
    assert!(violation.check.contains("disjoint"), "{violation}");
}
