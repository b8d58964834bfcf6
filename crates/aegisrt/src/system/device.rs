//! Opening the device that a fleet names, and dividing it as the fleet says.

use std::sync::Arc;

use aegis_cuda::cuda::{CudaDevice, CudaOptions, QueueLimit};
use aegis_cuda::host::{HostDevice, HostOptions};
use aegis_cuda::{Device, DeviceError, DeviceKind, Partition, Units};
use aegis_types::Bytes;

use crate::config::{Fleet, WaitMode};
use crate::error::RuntimeError;

/// Opens the device that a fleet names. `queues` is how many hardware queues the process was given
/// (`CUDA_DEVICE_MAX_CONNECTIONS`); it means nothing to other devices. Where the fleet's driver sleeps, the device wakes
/// the thread that calls this.
///
/// # Errors
/// [`RuntimeError::Device`] with what is missing; [`RuntimeError::System`] for the simulator, which has no fleet.
pub fn open(fleet: &Fleet, queues: u32) -> Result<Arc<dyn Device>, RuntimeError> {
    match fleet.device() {
        DeviceKind::Host => {
            let memory = fleet.memory().unwrap_or_else(half_of_the_free);
            Ok(Arc::new(HostDevice::new(HostOptions { memory })?))
        }
        DeviceKind::Cuda => open_cuda(fleet, queues),
        DeviceKind::Sim => Err(RuntimeError::System {
            what: "opening the device",
            reason: "the simulator is not driven from a fleet; `aegis simulate` runs it".into(),
        }),
    }
}

/// Divides the device as the fleet says, and pairs every partition with its number of lanes.
///
/// # Errors
/// A refusal of the device, with the fleet's line where a number of units is refused or where there are more lanes
/// than hardware queues: lanes that share a queue would wait for each other's whole segments.
pub fn divide(device: &dyn Device, fleet: &Fleet) -> Result<Vec<(Partition, u16)>, RuntimeError> {
    check_queues(device, fleet)?;
    let partitions = device.partition(&fleet.partition_requests()).map_err(|error| placed(fleet, error))?;
    let lanes = fleet.partitions().iter().map(|partition| partition.lanes);
    Ok(partitions.into_iter().zip(lanes).collect())
}

fn check_queues(device: &dyn Device, fleet: &Fleet) -> Result<(), RuntimeError> {
    let context = device.context();
    if !context.capabilities.asynchronous {
        return Ok(());
    }
    let mut lanes = 0u32;
    for (index, partition) in fleet.partitions().iter().enumerate() {
        lanes = lanes.saturating_add(partition.lanes.into());
        if lanes > context.queue_limit {
            let problem = format!("{lanes} lanes up to here, on {} hardware queues", context.queue_limit);
            let legal = format!(
                "at most {} lanes in all partitions together; CUDA_DEVICE_MAX_CONNECTIONS sets it, 32 at most",
                context.queue_limit
            );
            return Err(fleet.complain_partition(index, "lanes", problem, legal).into());
        }
    }
    Ok(())
}

/// A refused number of units is the fleet's: it is answered with its line.
fn placed(fleet: &Fleet, error: DeviceError) -> RuntimeError {
    let DeviceError::BadPartition { partition, reason, legal } = &error else { return error.into() };
    let place = fleet.partitions().iter().position(|known| known.name == *partition);
    match place {
        Some(index) if matches!(fleet.partitions()[index].units, Units::Count(_)) => {
            fleet.complain_partition(index, "sms", reason.clone(), legal.clone()).into()
        }
        _ => error.into(),
    }
}

fn open_cuda(fleet: &Fleet, queues: u32) -> Result<Arc<dyn Device>, RuntimeError> {
    let sleeps = fleet.wait() == WaitMode::Blocking;
    let device = CudaDevice::open(CudaOptions {
        ordinal: fleet.device_config().ordinal,
        memory: fleet.memory(),
        queues: QueueLimit::FromEnvironmentValue(queues),
        blocking: sleeps,
        ..CudaOptions::default()
    })?;
    if sleeps {
        let driver = std::thread::current();
        device.set_waker(Arc::new(move || driver.unpark()));
    }
    Ok(Arc::new(device))
}

/// Half of the memory that is free, where the fleet names none.
fn half_of_the_free() -> Bytes {
    let info = rustix::system::sysinfo();
    let unit = u64::from(info.mem_unit.max(1));
    let free = (info.freeram as u64).saturating_add(info.bufferram as u64).saturating_mul(unit);
    Bytes::new(free / 2)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use aegis_cuda::{
        DeviceContext, DeviceMemory, MemorySpace, PartitionRequest, SimClock, SimDevice, SimOptions, Stream,
    };
    use aegis_types::{LaneId, PartitionId};

    use super::*;

    /// The simulator with few hardware queues, and a partition that it refuses.
    struct Narrow {
        sim: SimDevice,
        context: DeviceContext,
        refused: Option<&'static str>,
    }

    impl Narrow {
        fn new(queues: u32, refused: Option<&'static str>) -> Self {
            let sim = SimDevice::new(SimOptions::default(), SimClock::new()).expect("legal options");
            let context = DeviceContext { queue_limit: queues, ..sim.context().clone() };
            Self { sim, context, refused }
        }
    }

    impl Device for Narrow {
        fn context(&self) -> &DeviceContext {
            &self.context
        }

        fn partition(&self, requests: &[PartitionRequest]) -> Result<Vec<Partition>, DeviceError> {
            match self.refused {
                Some(name) => Err(DeviceError::BadPartition {
                    partition: name.into(),
                    reason: "too many units".into(),
                    legal: "8, 16 or 24".into(),
                }),
                None => self.sim.partition(requests),
            }
        }

        fn partitions(&self) -> Vec<Partition> {
            self.sim.partitions()
        }

        fn reserve(&self, space: MemorySpace, bytes: Bytes) -> Result<Arc<dyn DeviceMemory>, DeviceError> {
            self.sim.reserve(space, bytes)
        }

        fn bind_lane(&self, partition: PartitionId, lane: LaneId) -> Result<Box<dyn Stream>, DeviceError> {
            self.sim.bind_lane(partition, lane)
        }
    }

    const FLEET: &str = "[device]\nkind = \"sim\"\n[[partition]]\nname = \"a\"\nsms = 8\nlanes = 2\n[[partition]]\n\
                         name = \"b\"\nsms = 4\nlanes = 3\n[policy]\nkind = \"edf\"\n[[task]]\nname = \"t\"\n\
                         model = \"m\"\nbackend = \"script\"\nperiod = \"1ms\"\npartition = \"a\"\n\
                         budget = { memory = \"1MiB\" }\n";

    fn check(device: &Narrow, parts: &[&str]) {
        let fleet = Fleet::parse(Path::new("fleet.toml"), FLEET).expect("it is legal");
        let error = divide(device, &fleet).expect_err("it is refused").to_string();
        for part in parts {
            assert!(error.contains(part), "`{part}` was due: {error}");
        }
    }

    #[test]
    fn lanes_find_a_queue_each_or_the_fleet_is_refused() {
        let fleet = Fleet::parse(Path::new("fleet.toml"), FLEET).expect("it is legal");
        let made = divide(&Narrow::new(5, None), &fleet).expect("five lanes on five queues");
        assert_eq!(
            made.iter().map(|(partition, lanes)| (partition.units, *lanes)).collect::<Vec<_>>(),
            [(8, 2), (4, 3)]
        );
        check(
            &Narrow::new(4, None),
            &["fleet.toml:10:", "`b`.lanes = 3", "5 lanes", "at most 4", "CUDA_DEVICE_MAX"],
        );
        check(&Narrow::new(1, None), &["fleet.toml:6:", "`a`.lanes = 2", "at most 1"]);
    }

    #[test]
    fn units_that_the_device_refuses_have_a_line() {
        check(&Narrow::new(8, Some("b")), &["fleet.toml:9:", "`b`.sms = 4", "too many units", "8, 16 or 24"]);
        // A name that the fleet does not know is the device's own affair.
        check(&Narrow::new(8, Some("z")), &["partition `z`", "8, 16 or 24"]);
    }
}
