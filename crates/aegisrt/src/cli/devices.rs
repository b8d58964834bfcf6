//! `aegis devices`: what this machine offers.

use aegis_cuda::{Device, HostDevice, HostOptions};
use aegis_types::Bytes;
use clap::Args;
use serde_json::json;

use super::answer::{Answer, CliError};
use super::figures;
use crate::machine;

/// Say what this machine offers.
#[derive(Debug, Args)]
pub struct Devices {}

impl Devices {
    pub(super) fn perform(&self) -> Result<Answer, CliError> {
        let (total, free) = memory();
        let device = HostDevice::new(HostOptions { memory: total })?;
        let context = device.context();
        let whole = device.partitions();
        let cores: Vec<u32> =
            whole.iter().flat_map(|partition| partition.unit_numbers.iter().copied()).collect();
        let realtime = realtime_class();
        let capabilities = context.capabilities;
        let listed = cores.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
        let yes = |holds: bool| if holds { "yes" } else { "no" };
        let lines = [
            ("host", context.name.clone()),
            ("  cores", format!("{} usable (numbers {listed})", context.units)),
            (
                "  partitions",
                format!("up to {}, each of at least {} core", context.units, context.unit_minimum),
            ),
            ("  lanes", format!("at most one for each core of a partition, {} in all", context.queue_limit)),
            ("  memory", format!("{}, of which {} are free", figures::size(total), figures::size(free))),
            ("  system", context.versions.join(", ")),
            (
                "  capabilities",
                format!(
                    "partitions {}, asynchronous {}, graphs {}, unified memory {}, copy engines {}",
                    yes(capabilities.partitions),
                    yes(capabilities.asynchronous),
                    yes(capabilities.graphs),
                    yes(capabilities.unified_memory),
                    context.copy_engines
                ),
            ),
            (
                "  real-time class",
                realtime
                    .as_ref()
                    .map_or_else(|reason| format!("not available: {reason}"), |()| "available".into()),
            ),
            ("sim", "virtual time: `aegis simulate`".to_owned()),
            ("cuda", "no CUDA device in this build".to_owned()),
        ];
        let text = lines.iter().map(|(name, value)| format!("{name:<18}{value}\n")).collect();
        let json = json!({
            "machine": machine::name(),
            "kernel": machine::kernel(),
            "devices": [{
                "context": context,
                "cores": cores,
                "memory_bytes": total.get(),
                "memory_free_bytes": free.get(),
                "realtime_class": realtime.is_ok(),
            }],
            "cuda": null,
        });
        Ok(Answer::done(text, json))
    }
}

/// Memory of the machine: all of it, and what is free.
fn memory() -> (Bytes, Bytes) {
    let info = rustix::system::sysinfo();
    let unit = u64::from(info.mem_unit.max(1));
    let bytes = |units: u64| Bytes::new(units.saturating_mul(unit));
    let free = (info.freeram as u64).saturating_add(info.bufferram as u64);
    (bytes(info.totalram as u64), bytes(free))
}

/// Whether a thread may enter the real-time class; tried on a thread that ends at once.
fn realtime_class() -> Result<(), String> {
    let tried = std::thread::spawn(|| aegis_cuda::realtime::enter(1).map_err(|error| error.to_string()));
    tried.join().unwrap_or_else(|_| Err("the trial's thread panicked".to_owned()))
}
