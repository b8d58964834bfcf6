//! Where memory comes from and where it goes.

use std::collections::BTreeMap;

use aegis_backend_onnx::PinnedBlocks;
use aegis_cuda::{BackendError, CudaDevice, Device};
use aegis_types::{MemoryClass, MemoryGrant};
use libtest_mimic::Failed;

use super::lane::{Lane, Subject, cached, ensure, on_device, options, runtime};

/// Free memory of the device, as a second opening of it finds it.
fn free() -> Result<u64, Failed> {
    let device = CudaDevice::open(options())?;
    let free = device.context().memory.get();
    device.close()?;
    Ok(free)
}

pub fn budget() -> Result<(), Failed> {
    let subject = Subject::open(cached()[0])?;
    on_device(|device| {
        let mut roomy = Lane::roomy(device, 0, 0)?;
        drop(roomy.load(&subject)?);
        let water = |class| roomy.book.high_water(class).get();
        let own = water(MemoryClass::Persistent) + water(MemoryClass::Exchange);
        let scratch = water(MemoryClass::Scratch);
        println!("{}: own {own} B, scratch {scratch} B", subject.name);
        ensure(own > 0 && scratch > 0, || "nothing went through the grant".into())?;
        drop(roomy);
        for (own, scratch, class) in [
            (own / 2, 2 * scratch, MemoryClass::Persistent),
            (2 * own, scratch / 2, MemoryClass::Scratch),
            (2 * own, 0, MemoryClass::Scratch),
        ] {
            let mut tight = Lane::new(device, (0, 0), own, scratch)?;
            match tight.load(&subject).err() {
                Some(BackendError::Memory { source, .. }) if source.class == class => {
                    println!("refused: {source}")
                }
                other => return Err(format!("own {own}, scratch {scratch}: {other:?}").into()),
            }
            ensure(tight.book.nothing_lent(), || "a refused load keeps memory".into())?;
        }
        let mut enough = Lane::new(device, (0, 0), own + own / 4, scratch + scratch / 4)?;
        enough.bound(&subject)?.run(&mut enough, &subject.job(1)).map(drop)
    })
}

pub fn serving() -> Result<(), Failed> {
    for model in cached() {
        let subject = Subject::open(model)?;
        on_device(|device| {
            let mut lane = Lane::roomy(device, 0, 0)?;
            let mut bound = lane.bound(&subject)?;
            let captured = bound.model.capturable(aegis_types::SegmentIndex::new(0));
            let graph = if captured { Some(lane.capture(&mut bound)?) } else { None };
            bound.run(&mut lane, &subject.job(0))?;
            let (before, asked) = (free()?, runtime()?.device_allocations());
            let pinned = runtime()?.pinned_blocks();
            let (beside, requests) = (runtime()?.host_blocks_beside(), lane.book.scratch_requests());
            for seed in 0..100 {
                match &graph {
                    Some(graph) => bound.replay(&mut lane, &**graph, &subject.job(seed))?,
                    None => bound.run(&mut lane, &subject.job(seed))?,
                };
            }
            let (after, asked_after) = (free()?, runtime()?.device_allocations());
            let name = subject.name;
            ensure(after == before, || {
                format!("{name}: {before} B were free before the jobs, {after} B after")
            })?;
            let taken = lane.book.scratch_requests() - requests;
            let hosts = runtime()?.host_blocks_beside() - beside;
            println!(
                "{name}: 100 jobs, captured: {captured}, {taken} requests of scratch, {hosts} blocks on the host"
            );
            if captured {
                ensure(asked == asked_after && hosts == 0, || {
                    format!("{name}: {asked:?}, then {asked_after:?}")
                })?;
            }
            let counts = asked_after.values().next().copied().unwrap_or_default();
            ensure(counts.charged > 0, || "the provider takes its memory elsewhere".into())?;
            let pinned_after = runtime()?.pinned_blocks();
            println!("{name}: {counts:?}, {pinned:?}, then {pinned_after:?}");
            let kept = |blocks: &BTreeMap<i32, PinnedBlocks>| {
                blocks.values().map(|seen| (seen.live, seen.bytes)).collect::<Vec<_>>()
            };
            ensure(kept(&pinned) == kept(&pinned_after), || {
                format!("{name}: {pinned:?}, then {pinned_after:?}")
            })?;
            ensure(counts.foreign == 0 && counts.unknown == 0, || format!("{name}: {counts:?}"))?;
            ensure(lane.book.used(MemoryClass::Scratch).is_zero(), || {
                format!("{name}: scratch outlived its job")
            })
        })?;
    }
    Ok(())
}

/// Free memory after each of some repetitions; the first may leave what the vendor's libraries keep for the process,
/// later ones must leave nothing.
fn repeated(what: &str, mut once: impl FnMut() -> Result<(), Failed>) -> Result<u64, Failed> {
    let mut frees = Vec::new();
    for _ in 0..5 {
        once()?;
        frees.push(free()?);
    }
    println!("free memory after each {what}: {frees:?} B");
    Ok(frees[1].saturating_sub(frees[4]))
}

pub fn unloading() -> Result<(), Failed> {
    let subject = Subject::open(cached()[0])?;
    let load = |device: &CudaDevice| -> Result<(), Failed> {
        let mut lane = Lane::roomy(device, 0, 0)?;
        let mut bound = lane.bound(&subject)?;
        bound.run(&mut lane, &subject.job(1))?;
        drop(bound);
        ensure(lane.book.nothing_lent(), || "memory outlived the model".into())
    };
    let empty = repeated("opening", || on_device(|device| Lane::roomy(device, 0, 0).map(drop)))?;
    let opened = repeated("opening with a load", || on_device(load))?;
    let mut same = 0;
    on_device(|device| {
        same = repeated("load", || load(device))?;
        Ok(())
    })?;
    // A process opens its device once: what the vendor's libraries keep for each context that they saw is a figure here.
    println!("gone after three more openings with a load: {opened} B");
    let lost = [empty, same];
    ensure(lost.iter().all(|&lost| lost == 0), || format!("{lost:?} B are gone after three more times"))
}
