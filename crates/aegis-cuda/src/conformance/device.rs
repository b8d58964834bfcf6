//! What every device does alike.

use std::sync::Arc;

use aegis_types::{Bytes, DispatchSeq, Extent, LaneId, PartitionId, Severity};

use super::{Report, Stop, Violation, ensure, on_thread, run};
use crate::device::{Device, Partition, PartitionRequest, Units};
use crate::error::DeviceError;
use crate::memory::{DeviceMemory, DeviceSlice, MemorySpace};

/// Bytes that the checks reserve at a time.
const REGION: u64 = 1 << 16;

/// Makes the device under test. Called for each check, because a device is divided once.
pub type Make<'a> = &'a (dyn Fn() -> Result<Box<dyn Device>, DeviceError> + Sync);

/// Checks the contract of [`Device`], [`Stream`](crate::Stream) and [`DeviceMemory`] on fresh devices from `make`.
///
/// # Errors
/// The first [`Violation`].
pub fn device(make: Make<'_>) -> Result<Report, Violation> {
    run(
        &make,
        &[
            ("undivided, there is one partition of all units", undivided),
            ("partitions are disjoint and as large as asked", partitions),
            ("illegal partitions are refused and change nothing", illegal_partitions),
            ("a device is divided once", divided_once),
            ("slices inside a region are lent once at a time", lending),
            ("bytes written are read, bytes reserved are zero", bytes),
            ("memory is bounded, and given back with its region", out_of_memory),
            ("a lane is bound on its thread, once", lanes),
            ("no more lanes than queues", queue_limit),
            ("copies take effect in order", copies),
            ("the flag rises to each signal and never falls", signals),
        ],
    )
}

fn request(name: &str, units: Units) -> PartitionRequest {
    PartitionRequest { name: name.into(), units }
}

fn undivided(make: &Make<'_>) -> Result<(), Stop> {
    let device = make()?;
    let (units, partitions) = (device.context().units, device.partitions());
    let whole = partitions.len() == 1 && partitions[0].units == units && partitions[0].id.index() == 0;
    ensure(whole, || format!("{partitions:?} of {units} units"))
}

/// Two partitions of the smallest size, or why there cannot be two.
pub(super) fn two(device: &dyn Device) -> Result<Vec<PartitionRequest>, Stop> {
    let context = device.context();
    if !context.capabilities.partitions || context.units / 2 < context.unit_minimum {
        return Err(Stop::Skip(format!("{} units cannot be divided", context.units)));
    }
    let half = Units::Count(context.unit_minimum);
    Ok(vec![request("a", half.clone()), request("b", half)])
}

fn partitions(make: &Make<'_>) -> Result<(), Stop> {
    let device = make()?;
    let requests = two(&*device)?;
    let made = device.partition(&requests)?;
    ensure(made == device.partitions(), || format!("told {made:?}, has {:?}", device.partitions()))?;
    let least = device.context().unit_minimum;
    let fits = |partition: &Partition, position: usize| {
        partition.units >= least
            && partition.id.index() == position
            && partition.name == requests[position].name
    };
    let fit = made.len() == 2 && made.iter().enumerate().all(|(at, partition)| fits(partition, at));
    ensure(fit, || format!("{made:?}"))?;
    let shared = made[0].unit_numbers.iter().find(|unit| made[1].unit_numbers.contains(unit));
    ensure(shared.is_none(), || format!("both have unit {shared:?}"))
}

fn illegal_partitions(make: &Make<'_>) -> Result<(), Stop> {
    let device = make()?;
    let before = device.partitions();
    let context = device.context();
    let all = Units::Count(context.units);
    let too_many = context.units.saturating_add(context.unit_granularity.max(1));
    let mut illegal = vec![
        vec![],
        vec![request("none", Units::Count(0))],
        vec![request("vast", Units::Count(too_many))],
        vec![request("a", all.clone()), request("b", all)],
    ];
    if let Some(&unit) = before[0].unit_numbers.first() {
        illegal.push(vec![request("twice", Units::These(vec![unit, unit]))]);
        illegal.push(vec![request("no-units", Units::These(vec![]))]);
        let far = before[0].unit_numbers.iter().max().map_or(0, |last| last.saturating_add(1));
        illegal.push(vec![request("far", Units::These(vec![far]))]);
    }
    for requests in illegal {
        match device.partition(&requests) {
            Err(error) if error.severity() == Severity::Permanent => {}
            other => return Err(Stop::Violated(format!("{requests:?} gave {other:?}"))),
        }
        ensure(device.partitions() == before, || format!("{requests:?} changed the partitions"))?;
    }
    Ok(())
}

fn divided_once(make: &Make<'_>) -> Result<(), Stop> {
    let device = make()?;
    let requests = two(&*device)?;
    device.partition(&requests)?;
    ensure(device.partition(&requests).is_err(), || "a second division was made".into())
}

fn region(device: &dyn Device) -> Result<Arc<dyn DeviceMemory>, Stop> {
    let region = device.reserve(MemorySpace::Device, Bytes::new(REGION))?;
    ensure(region.size() == Bytes::new(REGION), || format!("{} of {REGION} B", region.size()))?;
    ensure(region.space() == MemorySpace::Device, || format!("{:?}", region.space()))?;
    Ok(region)
}

pub(super) fn slice(
    region: &Arc<dyn DeviceMemory>,
    offset: u64,
    len: u64,
) -> Result<DeviceSlice, DeviceError> {
    DeviceSlice::lend(region, Extent { offset: Bytes::new(offset), len: Bytes::new(len) })
}

fn lending(make: &Make<'_>) -> Result<(), Stop> {
    let device = make()?;
    let region = region(&*device)?;
    for (offset, len) in [(REGION, 1), (0, REGION + 1), (u64::MAX, 2)] {
        let lent = slice(&region, offset, len);
        ensure(lent.is_err(), || format!("{len} bytes at {offset} were lent"))?;
    }
    let held = slice(&region, 256, 256)?;
    for (offset, len) in [(256, 256), (0, 257), (511, 1), (300, 8), (0, REGION)] {
        let lent = slice(&region, offset, len);
        ensure(lent.is_err(), || format!("{len} bytes at {offset} were lent twice"))?;
    }
    let neighbours = (slice(&region, 0, 256)?, slice(&region, 512, 256)?, slice(&region, 300, 0)?);
    drop((held, neighbours));
    slice(&region, 0, REGION)?;
    Ok(())
}

fn bytes(make: &Make<'_>) -> Result<(), Stop> {
    let device = make()?;
    let region = region(&*device)?;
    let whole = slice(&region, 0, REGION)?;
    let mut seen = vec![1; 1 << 16];
    whole.read(&mut seen);
    ensure(seen.iter().all(|byte| *byte == 0), || "a fresh region is not zero".into())?;
    drop(whole);
    let (left, right) = (slice(&region, 0, 100)?, slice(&region, 100, 100)?);
    left.write(&[7; 100]);
    right.write(&[9; 50]);
    let mut seen = [0; 100];
    right.read(&mut seen);
    let expected: Vec<u8> = [[9; 50], [0; 50]].concat();
    ensure(seen[..] == expected[..], || format!("{seen:?}"))?;
    left.read(&mut seen);
    ensure(seen == [7; 100], || format!("{seen:?}"))
}

fn out_of_memory(make: &Make<'_>) -> Result<(), Stop> {
    let device = make()?;
    let capacity = device.context().memory;
    let vast = capacity.checked_add(Bytes::new(1)).unwrap_or(Bytes::MAX);
    let refused = device.reserve(MemorySpace::Device, vast).err();
    let typed = matches!(refused, Some(DeviceError::OutOfMemory { .. }));
    ensure(typed, || format!("{vast} of {capacity} gave {refused:?}"))?;
    // Every region given back makes room for the next: more than the capacity fits in turns.
    let half = Bytes::new(capacity.get() / 2 + 1);
    for _ in 0..3 {
        let first = device.reserve(MemorySpace::Device, half)?;
        let second = device.reserve(MemorySpace::Device, half);
        ensure(second.is_err(), || format!("twice {half} of {capacity} were reserved"))?;
        drop(first);
    }
    Ok(())
}

fn lanes(make: &Make<'_>) -> Result<(), Stop> {
    let device = make()?;
    let (home, lane) = (PartitionId::new(0), LaneId::new(0));
    let stream = device.bind_lane(home, lane)?;
    ensure((stream.lane(), stream.partition()) == (lane, home), || "a stream of another lane".into())?;
    let again = on_thread(|| device.bind_lane(home, lane).err());
    let refused = again == Some(DeviceError::LaneTaken { lane });
    ensure(refused, || format!("a second binding of {lane} gave {again:?}"))?;
    let nowhere = PartitionId::new(u16::MAX);
    let unknown = device.bind_lane(nowhere, LaneId::new(1)).err();
    let typed = matches!(unknown, Some(DeviceError::UnknownPartition { .. }));
    ensure(typed, || format!("{nowhere} gave {unknown:?}"))?;
    drop(stream);
    device.bind_lane(home, lane)?;
    Ok(())
}

fn queue_limit(make: &Make<'_>) -> Result<(), Stop> {
    let device = make()?;
    let limit = device.context().queue_limit;
    let Ok(lanes) = u16::try_from(limit) else {
        return Err(Stop::Skip(format!("{limit} queues")));
    };
    let home = PartitionId::new(0);
    let mut streams = Vec::new();
    for lane in 0..lanes {
        streams.push(device.bind_lane(home, LaneId::new(lane))?);
    }
    let past = device.bind_lane(home, LaneId::new(lanes)).err();
    let typed = matches!(past, Some(DeviceError::TooManyStreams { .. }));
    ensure(typed, || format!("lane {lanes} of {limit} gave {past:?}"))
}

fn copies(make: &Make<'_>) -> Result<(), Stop> {
    let device = make()?;
    let region = region(&*device)?;
    let mut stream = device.bind_lane(PartitionId::new(0), LaneId::new(0))?;
    let (a, b, c) = (slice(&region, 0, 64)?, slice(&region, 64, 64)?, slice(&region, 128, 64)?);
    a.write(&[1; 64]);
    b.write(&[2; 64]);
    stream.copy(&b, &c)?;
    stream.copy(&a, &b)?;
    stream.signal(DispatchSeq::new(1))?;
    stream.synchronize()?;
    let mut seen = [0; 64];
    for (slice, expected) in [(&a, 1), (&b, 1), (&c, 2)] {
        slice.read(&mut seen);
        ensure(seen == [expected; 64], || format!("{slice:?} holds {seen:?}, not {expected}"))?;
    }
    let short = self::slice(&region, 512, 63)?;
    ensure(stream.copy(&a, &short).is_err(), || "slices of unequal length were copied".into())
}

fn signals(make: &Make<'_>) -> Result<(), Stop> {
    let device = make()?;
    let mut stream = device.bind_lane(PartitionId::new(0), LaneId::new(0))?;
    let flag = stream.flag();
    ensure(flag.load() == DispatchSeq::NONE, || format!("a fresh flag shows {:?}", flag.load()))?;
    for (signalled, expected) in [(1, 1), (2, 2), (7, 7), (3, 7), (8, 8)] {
        stream.signal(DispatchSeq::new(signalled))?;
        stream.synchronize()?;
        let seen = on_thread(|| flag.load());
        ensure(seen.get() == expected, || format!("after {signalled} the flag shows {}", seen.get()))?;
    }
    Ok(())
}
