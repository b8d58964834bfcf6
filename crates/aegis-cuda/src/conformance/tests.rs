//! The suite on the devices and the backend of this crate, and proof that it can fail.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use aegis_types::{Bytes, MemoryClass};

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

type Suite = fn(&BackendCase<'_>) -> Result<Report, Violation>;

fn check_backend(device: &dyn Device, loader: &dyn BackendLoader, suite: Suite) -> Result<Report, Violation> {
    let shapes = BTreeMap::new();
    let request =
        ModelRequest { name: "m", artifact: MODEL.as_bytes(), shapes: &shapes, allow_control_flow: false };
    let jobs: Vec<Vec<Vec<u8>>> = (0..3).map(|job| vec![vec![job; 16], vec![!job; 8]]).collect();
    let judge = |inputs: &[Vec<u8>], outputs: &[Vec<u8>]| {
        let expected = expected_outputs(&request, inputs).map_err(|error| error.to_string())?;
        if expected == outputs { Ok(()) } else { Err(format!("{outputs:?}, expected {expected:?}")) }
    };
    let memory = Bytes::new(8192);
    suite(&BackendCase { device, loader, request, jobs: &jobs, judge: &judge, memory })
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
    passes(check_backend(&*device, &ScriptedLoader::new(Durations::Seeded(1)), backend));
}

#[test]
fn scripts_conform_on_the_host_device() {
    let device = host().expect("a thread has cores");
    passes(check_backend(&*device, &ScriptedLoader::new(Durations::Seeded(1)), backend));
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
    let violation = check_backend(&*device, &leaky, backend::unrecorded).expect_err("a leak");
    assert!(violation.detail.contains("outlived"), "{violation}");
}

/// Asks for exchange memory in every segment and gives it back at once.
struct Hungry(ScriptedLoader);

struct HungryModel {
    model: Box<dyn RuntimeBackend>,
    grant: Shared,
}

type Shared = Arc<Mutex<Box<dyn aegis_types::MemoryGrant>>>;

struct Forwarded(Shared);

impl Forwarded {
    fn grant(&self) -> MutexGuard<'_, Box<dyn aegis_types::MemoryGrant>> {
        self.0.lock().expect("nobody panics")
    }
}

impl aegis_types::MemoryGrant for Forwarded {
    fn owner(&self) -> aegis_types::TaskId {
        self.grant().owner()
    }

    fn allocate(
        &self,
        class: MemoryClass,
        bytes: Bytes,
        align: Bytes,
    ) -> Result<aegis_types::Extent, aegis_types::GrantRefused> {
        self.grant().allocate(class, bytes, align)
    }

    fn free(&self, class: MemoryClass, extent: aegis_types::Extent) {
        self.grant().free(class, extent);
    }

    fn used(&self, class: MemoryClass) -> Bytes {
        self.grant().used(class)
    }

    fn high_water(&self, class: MemoryClass) -> Bytes {
        self.grant().high_water(class)
    }
}

impl BackendLoader for Hungry {
    fn name(&self) -> &'static str {
        "hungry"
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
        let grant: Shared = Arc::new(Mutex::new(memory.grant));
        let lent = ModelMemory { grant: Box::new(Forwarded(Arc::clone(&grant))), region: memory.region };
        Ok(Box::new(HungryModel { model: self.0.load(request, stream, lent)?, grant }))
    }
}

impl RuntimeBackend for HungryModel {
    fn describe(&self) -> &ModelDescription {
        self.model.describe()
    }

    fn bind(&mut self, bindings: crate::Bindings) -> Result<crate::BindingId, BackendError> {
        self.model.bind(bindings)
    }

    fn enqueue(
        &mut self,
        stream: &mut dyn Stream,
        segment: aegis_types::SegmentIndex,
        binding: crate::BindingId,
    ) -> Result<(), BackendError> {
        let grant = self.grant.lock().expect("nobody panics");
        if let Ok(taken) = grant.allocate(MemoryClass::Exchange, Bytes::new(1), Bytes::new(1)) {
            grant.free(MemoryClass::Exchange, taken);
        }
        drop(grant);
        self.model.enqueue(stream, segment, binding)
    }
}

#[test]
fn asking_for_memory_while_serving_is_found() {
    let device = sim().expect("legal options");
    let hungry = Hungry(ScriptedLoader::new(Durations::Longest));
    let violation = check_backend(&*device, &hungry, backend::unrecorded).expect_err("it asks");
    assert_eq!(violation.check, "serving asks for no memory");
    assert!(violation.detail.contains("Exchange"), "{violation}");
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
