//! The kernels on the host, thread by thread: what tests run where there is no GPU.
//!
//! It follows the kernels' source, not the reference: it looks at whole regions, the reference at samples.

use aegis_types::Extent;

use super::entry::Entry;
use super::processor::{Argument, Launch, Processor};
use super::reference::{STATE_WORDS, blend, low, sample_position, samples_of};
use crate::error::{BackendError, DeviceError};
use crate::interop::with_host_pointer;
use crate::memory::DeviceMemory;
use crate::stream::Stream;

/// Executes every launch at once, on memory of the host device.
struct Emulator;

pub(super) fn load(_stream: &mut dyn Stream) -> Result<Box<dyn Processor>, BackendError> {
    Ok(Box::new(Emulator))
}

/// A piece of memory, by bytes.
#[derive(Clone, Copy)]
struct Place(u64);

impl Place {
    fn byte(self, at: u64) -> *mut u8 {
        std::ptr::with_exposed_provenance_mut(
            usize::try_from(self.0 + at).expect("an address of this process"),
        )
    }

    fn load(self, word: u64, bytes: u64) -> u32 {
        let mut value = [0; 4];
        for (byte, at) in value.iter_mut().zip(4 * word..bytes) {
            // SAFETY: `read` wants a valid address: within the extent that the launch was given, by its caller's word.
            *byte = unsafe { self.byte(at).read() };
        }
        u32::from_le_bytes(value)
    }

    fn store(self, word: u64, bytes: u64, value: u32) {
        for (byte, at) in value.to_le_bytes().into_iter().zip(4 * word..bytes) {
            // SAFETY: as in `load`; the tests of a lane run on one thread, so nothing else looks.
            unsafe { self.byte(at).write(byte) }
        }
    }
}

impl Processor for Emulator {
    unsafe fn launch(&mut self, _stream: &mut dyn Stream, launch: Launch<'_>) -> Result<(), DeviceError> {
        use Argument::{U32, U64};
        match (launch.entry, launch.arguments) {
            (Entry::Generate, &[U64(data), U64(words), U32(seed)]) => {
                (0..words).for_each(|at| Place(data).store(at, 4 * words, blend(seed, low(at))));
            }
            (Entry::Fold, &[U64(state), U64(data), U64(bytes), U32(salt), U32(begin)]) => {
                fold(Place(state), Place(data), bytes, salt, begin == 1);
            }
            (Entry::Spread, &[U64(state), U64(data), U64(words)]) => {
                for sample in 0..samples_of(words) {
                    let own = Place(state).load(sample % STATE_WORDS as u64, u64::MAX);
                    Place(data).store(sample_position(sample, words), u64::MAX, blend(own, low(sample)));
                }
            }
            (Entry::Emit, &[U64(state), U64(out), U64(bytes), U32(salt)]) => {
                for at in 0..bytes.div_ceil(4) {
                    let own = Place(state).load(at % STATE_WORDS as u64, u64::MAX);
                    Place(out).store(at, bytes, blend(blend(own, salt), low(at)));
                }
            }
            (Entry::Stream, &[U64(data), U64(quads), U32(rounds), U32(key)]) => {
                for at in (0..rounds).flat_map(|_| 0..4 * quads) {
                    let word = Place(data).load(at, u64::MAX);
                    Place(data).store(at, u64::MAX, word ^ key);
                }
            }
            (Entry::Overrun, &[U64(counter), U32(_), U64(_)])
            | (Entry::Stray, &[U64(counter), U32(_), U64(_)]) => {
                let execution = Place(counter).load(0, 4) + 1;
                Place(counter).store(0, 4, execution);
            }
            (Entry::Read, &[U64(_), U64(_), U32(_), U32(key), U64(_)]) => assert_ne!(key, 0),
            (Entry::Compute, &[U32(_), U64(_)])
            | (Entry::Fill, &[U32(_), U32(_), U64(_)])
            | (Entry::Hold, &[U64(_)])
            | (Entry::Nothing, &[]) => {}
            (entry, arguments) => panic!("{entry:?} was called with {arguments:?}"),
        }
        Ok(())
    }

    fn address(&self, region: &dyn DeviceMemory, extent: Extent) -> Option<u64> {
        with_host_pointer(region, extent, |pointer| pointer.expose_provenance() as u64)
    }
}

fn fold(state: Place, data: Place, bytes: u64, salt: u32, begin: bool) {
    let words = bytes.div_ceil(4);
    let threads = 0..STATE_WORDS as u64;
    let own: Vec<u32> = threads
        .map(|lane| {
            let start = if begin { 0 } else { state.load(lane, u64::MAX) };
            (lane..samples_of(words)).step_by(STATE_WORDS).fold(blend(start, salt), |own, sample| {
                blend(own, data.load(sample_position(sample, words), bytes))
            })
        })
        .collect();
    let total = own.iter().fold(0u32, |sum, word| sum.wrapping_add(*word));
    for (lane, own) in (0u64..).zip(own) {
        state.store(lane, u64::MAX, blend(own, total.wrapping_add(low(lane))));
    }
}
