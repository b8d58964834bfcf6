//! Opening the device that a fleet names, and dividing it as the fleet says.

use std::sync::Arc;

use aegis_cuda::cuda::{CudaDevice, CudaOptions, QueueLimit};
use aegis_cuda::host::{HostDevice, HostOptions};
use aegis_cuda::{Device, DeviceError, DeviceKind, Partition, Units};
use aegis_types::{Bytes, PartitionId};

use crate::config::{Fleet, LaunchMode, WaitMode};
use crate::error::RuntimeError;

/// Opens the device that a fleet names. `queues` is how many hardware queues the process was given
/// (`CUDA_DEVICE_MAX_CONNECTIONS`, or 8 where that is unset); it means nothing to other devices. Where the fleet's driver
/// sleeps, the crew that serves the lanes tells the device whom to wake.
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

/// As [`open`], by a caller that may not know the queues.
pub(super) fn open_told(fleet: &Fleet, queues: Option<u32>) -> Result<Arc<dyn Device>, RuntimeError> {
    match (fleet.device(), queues) {
        (DeviceKind::Cuda, None) => Err(RuntimeError::System {
            what: "opening the device",
            reason: "nothing says how many hardware queues the process was given; legal: Builder::queues with the value \
                     of CUDA_DEVICE_MAX_CONNECTIONS, or 8 where it is unset"
                .into(),
        }),
        (_, queues) => open(fleet, queues.unwrap_or(0)),
    }
}

/// Refuses lanes on every queue where the device's own stream is used while they serve, as overwriting scratch does: a
/// lane that shares its queue with that stream waits for it.
///
/// # Errors
/// [`RuntimeError::System`] with how many lanes there may be.
pub(crate) fn spare_queue(device: &dyn Device, lanes: usize) -> Result<(), RuntimeError> {
    let context = device.context();
    let legal = context.queue_limit.saturating_sub(1);
    if !context.capabilities.asynchronous || lanes <= usize::try_from(legal).unwrap_or(usize::MAX) {
        return Ok(());
    }
    let reason = format!(
        "scratch is overwritten on a stream of its own, and {lanes} lanes leave it none of {} hardware queues; legal: at \
         most {legal} lanes, or more queues by CUDA_DEVICE_MAX_CONNECTIONS, 32 at most",
        context.queue_limit
    );
    Err(RuntimeError::System { what: "poisoning scratch", reason })
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

/// For each lane what the device binds it in: its partition, or a twin of it where another thread carries other lanes
/// of that.
///
/// # Errors
/// A refusal of the device, with the fleet's line where lanes have carriers of their own anyway.
pub fn places(
    device: &dyn Device,
    fleet: &Fleet,
    made: &[(Partition, u16)],
) -> Result<Vec<PartitionId>, RuntimeError> {
    if fleet.launch() == LaunchMode::Driver && !device.context().capabilities.asynchronous {
        let problem = "a segment of this device runs where it is launched, and the driver would wait for it";
        let legal = "no entry, or a device whose work runs later than it is launched";
        return Err(fleet.complain_device("launch", problem, legal).into());
    }
    let mut places = Vec::new();
    for (index, (config, (partition, lanes))) in fleet.partitions().iter().zip(made).enumerate() {
        if !config.own_carriers.is_empty() && !device.context().capabilities.asynchronous {
            let problem = "every lane of this device has a carrier of its own";
            let legal = "no entry, or a device whose lanes share a launcher";
            return Err(fleet.complain_partition(index, "own_carriers", problem, legal).into());
        }
        // The launcher's lanes keep the partition itself, or where it has none there, the first of the others.
        let mut is_free = !config.is_mixed();
        for lane in 0..*lanes {
            let shares = !config.own_carriers.contains(&lane);
            let place = if shares || std::mem::take(&mut is_free) {
                partition.id
            } else {
                device.twin(partition.id)?
            };
            places.push(place);
        }
    }
    Ok(places)
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
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU16, Ordering};

    use aegis_cuda::{
        DeviceContext, DeviceMemory, HostClock, MemorySpace, PartitionRequest, SimClock, SimDevice,
        SimOptions, Stream,
    };
    use aegis_types::LaneId;

    use super::*;
    use crate::carrier::{Crew, CrewOptions};
    use crate::waiting::Waiting;

    /// The simulator with few hardware queues, and a partition that it refuses.
    struct Narrow {
        sim: SimDevice,
        context: DeviceContext,
        refused: Option<&'static str>,
        waker: Mutex<Option<Waker>>,
        twins: AtomicU16,
    }

    type Waker = Arc<dyn Fn() + Send + Sync>;

    impl Narrow {
        fn new(queues: u32, refused: Option<&'static str>) -> Self {
            let sim = SimDevice::new(SimOptions::default(), SimClock::new()).expect("legal options");
            let context = DeviceContext { queue_limit: queues, ..sim.context().clone() };
            Self { sim, context, refused, waker: Mutex::default(), twins: AtomicU16::default() }
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

        /// Numbers that no partition has.
        fn twin(&self, partition: PartitionId) -> Result<PartitionId, DeviceError> {
            assert!(partition.index() < self.sim.partitions().len(), "a twin of {partition}");
            Ok(PartitionId::new(100 + self.twins.fetch_add(1, Ordering::Relaxed)))
        }

        fn reserve(&self, space: MemorySpace, bytes: Bytes) -> Result<Arc<dyn DeviceMemory>, DeviceError> {
            self.sim.reserve(space, bytes)
        }

        fn bind_lane(&self, partition: PartitionId, lane: LaneId) -> Result<Box<dyn Stream>, DeviceError> {
            self.sim.bind_lane(partition, lane)
        }

        fn set_waker(&self, waker: Waker) {
            *self.waker.lock().expect("nobody panics") = Some(waker);
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
    fn lanes_with_carriers_of_their_own_are_bound_in_twins() {
        let places = |own: [&str; 2], asynchronous: bool| {
            let mut text = FLEET.to_owned();
            for (name, lanes) in [("a", own[0]), ("b", own[1])] {
                let keys = format!("name = \"{name}\"\nown_carriers = {lanes}");
                text = text.replace(&format!("name = \"{name}\""), &keys);
            }
            let text = text.replace("partition = \"a\"", "partition = \"a\"\nlane = 0");
            let fleet = Fleet::parse(Path::new("fleet.toml"), &text).expect("it is legal");
            let mut device = Narrow::new(8, None);
            device.context.capabilities.asynchronous = asynchronous;
            let made = divide(&device, &fleet)?;
            let places = places(&device, &fleet, &made)?;
            Ok(places.into_iter().map(PartitionId::get).collect::<Vec<u16>>())
        };
        let twins = |own| places(own, true).map_err(|error: RuntimeError| error.to_string());
        assert_eq!(twins(["[]", "[]"]), Ok(vec![0, 0, 1, 1, 1]));
        assert_eq!(twins(["[1]", "[2, 0]"]), Ok(vec![0, 100, 101, 1, 102]));
        // Nobody shares: the first has the partition to itself.
        assert_eq!(twins(["[0, 1]", "[]"]), Ok(vec![0, 100, 1, 1, 1]));
        let refused: Result<_, RuntimeError> = places(["[]", "[1]"], false);
        let error = refused.expect_err("every lane has its carrier").to_string();
        for part in ["`b`.own_carriers = [1]", "every lane of this device", "legal"] {
            assert!(error.contains(part), "`{part}` was due: {error}");
        }
    }

    #[test]
    fn a_gpu_is_not_opened_without_its_queues() {
        let text = FLEET.replace("\"sim\"", "\"cuda:0\"").replace("\"script\"", "\"kernel\"");
        let fleet = Fleet::parse(Path::new("fleet.toml"), &text).expect("it is legal");
        let Err(error) = crate::system::Builder::new(fleet).build(|_| {}) else { panic!("nothing was told") };
        let error = error.to_string();
        assert!(
            error.contains("Builder::queues") && error.contains("CUDA_DEVICE_MAX_CONNECTIONS"),
            "{error}"
        );
    }

    #[test]
    fn poison_takes_a_queue_of_its_own() {
        let spare = |queues: u32, asynchronous: bool| {
            let mut device = Narrow::new(queues, None);
            device.context.capabilities.asynchronous = asynchronous;
            spare_queue(&device, 5).map_err(|error| error.to_string())
        };
        assert_eq!((spare(6, true), spare(5, false)), (Ok(()), Ok(())));
        let error = spare(5, true).expect_err("five lanes and a stream on five queues");
        assert!(error.contains("5 lanes") && error.contains("at most 4"), "{error}");
    }

    #[test]
    fn a_device_wakes_who_drives_it_and_not_who_opened_it() {
        let opener = || {
            let narrow = Arc::new(Narrow::new(8, None));
            let device: Arc<dyn Device> = Arc::<Narrow>::clone(&narrow);
            (narrow, device)
        };
        let (narrow, device) = std::thread::spawn(opener).join().expect("it opens");
        let start = |waiting| {
            let (clock, options) = (HostClock::start(), CrewOptions { waiting, ..CrewOptions::default() });
            let crew = Crew::start(&device, clock, &std::thread::current(), options, Vec::new());
            drop(crew.expect("no lanes"));
            narrow.waker.lock().expect("nobody panics").clone()
        };
        assert!(start(Waiting::Spin).is_none(), "nobody sleeps");
        let waker = start(Waiting::Blocking).expect("the driver sleeps");
        std::thread::spawn(move || waker()).join().expect("it wakes");
        // Comes back at once, or never.
        std::thread::park();
    }

    #[test]
    fn units_that_the_device_refuses_have_a_line() {
        check(&Narrow::new(8, Some("b")), &["fleet.toml:9:", "`b`.sms = 4", "too many units", "8, 16 or 24"]);
        // A name that the fleet does not know is the device's own affair.
        check(&Narrow::new(8, Some("z")), &["partition `z`", "8, 16 or 24"]);
    }
}
