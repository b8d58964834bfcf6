//! Copies between all memory spaces: every byte, no other byte, and in time.

use std::sync::Arc;

use aegis_types::DispatchSeq;

use super::Stop;
use super::asynchronous::{AsynchronousCase, device, holds, lane, pattern, reserve, wait};
use super::device::slice;
use crate::device::Device;
use crate::memory::{DeviceMemory, DeviceSlice, MemorySpace};
use crate::stream::Stream;

/// Where the two ends of a copy begin, beside a multiple of 64 bytes: aligned, misaligned alike, misaligned apart.
const BEGINNINGS: [(u64, u64); 5] = [(0, 0), (16, 48), (3, 3), (0, 5), (8, 4)];
/// Bytes behind each end that a copy leaves alone.
const GUARD: u64 = 32;

/// Copies of lengths around those at which the device changes how it copies.
pub(super) fn copies(case: &AsynchronousCase<'_>) -> Result<(), Stop> {
    let device = device(case)?;
    let (chunk, small) = (case.copy_chunk.get(), case.copy_small.get());
    let around = [small.saturating_sub(1), small, small + 1, chunk - 1, chunk, chunk + 1];
    let mut lengths = vec![1, 15, 16, 17, 63, 2 * chunk + 7, 5 * chunk];
    lengths.extend(around);
    let pitch = (5 * chunk).max(small + 1).next_multiple_of(64) + 128;
    let staging = reserve(&*device, MemorySpace::Staging, 3 * pitch)?;
    let memory = reserve(&*device, MemorySpace::Device, 2 * pitch)?;
    let mut stream = lane(&*device, 0, 0)?;
    let mut seed = 0;
    for len in lengths.into_iter().filter(|&len| len > 0) {
        for (even, odd) in BEGINNINGS {
            seed += 1;
            let end = |region: &Arc<dyn DeviceMemory>, at: u64, begin: u64| {
                End::lend(region, at * pitch, begin, len)
            };
            let ends = [
                end(&staging, 0, even)?,
                end(&memory, 0, odd)?,
                end(&memory, 1, even)?,
                end(&staging, 1, odd)?,
                end(&staging, 2, even)?,
            ];
            copied_along(&mut *stream, seed, &ends)?;
        }
    }
    Ok(())
}

/// One end of a copy, and the bytes around it.
struct End {
    slice: DeviceSlice,
    around: [DeviceSlice; 2],
}

impl End {
    /// An end that begins `begin` bytes into its place.
    fn lend(region: &Arc<dyn DeviceMemory>, place: u64, begin: u64, len: u64) -> Result<Self, Stop> {
        let start = place + begin;
        let around = [slice(region, place, begin)?, slice(region, start + len, GUARD)?];
        Ok(Self { slice: slice(region, start, len)?, around })
    }

    fn guard(&self) {
        for slice in self.around.iter().filter(|slice| !slice.is_empty()) {
            slice.write(&vec![0xA5; usize::try_from(slice.len().get()).unwrap_or(0)]);
        }
    }

    fn guarded(&self, what: &str) -> Result<(), Stop> {
        self.around.iter().filter(|slice| !slice.is_empty()).try_for_each(|slice| {
            let left = vec![0xA5; usize::try_from(slice.len().get()).unwrap_or(0)];
            holds(slice, &left, &format!("beside {what}"))
        })
    }
}

/// Copies from the first end over the others, in, inside, out and on the host, and compares each.
fn copied_along(stream: &mut dyn Stream, seed: u64, ends: &[End; 5]) -> Result<(), Stop> {
    let [source, here, ..] = ends;
    let expected = pattern(seed, source.slice.len().get());
    source.slice.write(&expected);
    ends.iter().for_each(End::guard);
    for pair in ends.windows(2) {
        stream.copy(&pair[0].slice, &pair[1].slice)?;
    }
    stream.copy(&here.slice, &here.slice)?;
    stream.signal(DispatchSeq::new(seed))?;
    stream.synchronize()?;
    for (end, way) in ends[1..].iter().zip(["in", "inside", "out", "on the host"]) {
        let what = format!("a copy {way} of {} to {}", end.slice.len(), end.slice.extent().offset);
        holds(&end.slice, &expected, &what)?;
        end.guarded(&what)?;
    }
    Ok(())
}

/// Copies of every way are done when the flag shows.
pub(super) fn flag_order(case: &AsynchronousCase<'_>) -> Result<(), Stop> {
    const LARGE: u64 = 16 << 20;
    let device = device(case)?;
    let mut stream = lane(&*device, 0, 0)?;
    let small = case.copy_small.get();
    flags_in_order(&*device, &mut *stream, (0, LARGE), 40)?;
    if small > 0 {
        flags_in_order(&*device, &mut *stream, (0, small), 400)?;
        flags_in_order(&*device, &mut *stream, (3, small), 400)?;
        flags_in_order(&*device, &mut *stream, (0, small.min(48)), 400)?;
    }
    Ok(())
}

/// Bytes go to the device and back. They are looked at when the flag shows, without any other wait, and written anew
/// for the next turn.
fn flags_in_order(
    device: &dyn Device,
    stream: &mut dyn Stream,
    (begin, len): (u64, u64),
    turns: u64,
) -> Result<(), Stop> {
    let pitch = begin + len;
    let memory = reserve(device, MemorySpace::Device, pitch)?;
    let staging = reserve(device, MemorySpace::Staging, 2 * pitch)?;
    let flag = stream.flag();
    let (source, here) = (slice(&staging, begin, len)?, slice(&memory, begin, len)?);
    let target = slice(&staging, pitch + begin, len)?;
    let expected = [pattern(1, len), pattern(2, len)];
    let mut seq = flag.load();
    for turn in 0..turns {
        let bytes = &expected[usize::from(turn % 2 == 1)];
        source.write(bytes);
        stream.copy(&source, &here)?;
        stream.copy(&here, &target)?;
        seq = seq.next();
        stream.signal(seq)?;
        wait(&*flag, seq)?;
        let what = format!("turn {turn}: what a copy of {len} bytes wrote before its flag");
        holds(&target, bytes, &what)?;
    }
    Ok(())
}
