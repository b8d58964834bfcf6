//! What only the host device does: pinning, names of cores, addresses.

use super::*;
use crate::device::Units;
use crate::interop::with_host_pointer;
use aegis_types::Extent;

fn device() -> HostDevice {
    HostDevice::new(HostOptions { memory: Bytes::new(1 << 20) }).expect("a thread has cores")
}

#[test]
fn a_bound_thread_stays_on_its_partition() {
    let device = device();
    let core = device.partitions()[0].unit_numbers[0];
    let request = PartitionRequest { name: "one".into(), units: Units::These(vec![core]) };
    device.partition(&[request]).expect("the core may be used");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let stream = device.bind_lane(PartitionId::new(0), LaneId::new(0)).expect("the first lane");
            let set = sched_getaffinity(None).expect("affinity");
            assert!(set.is_set(core as usize) && set.count() == 1);
            assert_eq!(stream.lane(), LaneId::new(0));
            let second = device.bind_lane(PartitionId::new(0), LaneId::new(1)).err();
            assert_eq!(second, Some(DeviceError::TooManyStreams { asked: 2, limit: 1 }));
        });
    });
}

#[test]
fn an_unknown_core_is_refused_with_the_legal_ones() {
    let device = device();
    let request = PartitionRequest { name: "far".into(), units: Units::These(vec![40_000]) };
    let error = device.partition(&[request]).expect_err("no such core").to_string();
    let first = device.partitions()[0].unit_numbers[0].to_string();
    assert!(error.contains("far") && error.contains("40000") && error.contains(&first), "{error}");
}

#[test]
fn an_address_is_lent_only_inside_the_region() {
    let region = device().reserve(MemorySpace::Device, Bytes::new(8192)).expect("fits");
    let extent = |offset, len| Extent { offset: Bytes::new(offset), len: Bytes::new(len) };
    let aligned = with_host_pointer(&*region, extent(4096, 64), |pointer| pointer as usize % 4096);
    assert_eq!(aligned, Some(0));
    assert_eq!(with_host_pointer(&*region, extent(8192, 1), |_| ()), None);
    assert_eq!(with_host_pointer(&*region, extent(u64::MAX, 2), |_| ()), None);
}
