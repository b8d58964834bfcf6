//! `aegis devices`: what this machine offers.

use aegis_cuda::discovery::report::{Clocks, Tenancy};
use aegis_cuda::discovery::{self, Discovery, GpuReport, Reading};
use aegis_cuda::{Device, HostDevice, HostOptions};
use aegis_types::Bytes;
use clap::Args;
use serde_json::{Value, json};

use super::answer::{Answer, CliError};
use super::{Environment, connections, figures};
use crate::machine;

/// A name and what is said of it; a name that is set in belongs to the one above it.
type Row = (String, String);

/// Say what this machine offers.
#[derive(Debug, Args)]
pub struct Devices {}

impl Devices {
    pub(super) fn perform(&self, environment: &Environment) -> Result<Answer, CliError> {
        let queues = connections::given(environment.connections.as_deref())?;
        let (mut rows, host) = host()?;
        rows.push(row("sim", "virtual time: `aegis simulate`"));
        let found = discovery::discover(Some(queues));
        rows.extend(overview(&found));
        for device in &found.devices {
            rows.extend(gpu(device, environment.connections.is_some()));
        }
        let text = rows.iter().map(|(name, value)| format!("{name:<18}{value}\n")).collect();
        let json = json!({
            "machine": machine::name(),
            "kernel": machine::kernel(),
            "devices": [host],
            "cuda": found,
        });
        Ok(Answer::done(text, json))
    }
}

/// The host, for people and for programs.
fn host() -> Result<(Vec<Row>, Value), CliError> {
    let (total, free) = memory();
    let device = HostDevice::new(HostOptions { memory: total })?;
    let context = device.context();
    let whole = device.partitions();
    let cores: Vec<u32> = whole.iter().flat_map(|partition| partition.unit_numbers.iter().copied()).collect();
    let realtime = realtime_class();
    let capabilities = context.capabilities;
    let listed = cores.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
    let class = realtime
        .as_ref()
        .map_or_else(|reason| format!("not available: {reason}"), |()| "available".to_owned());
    let rows = vec![
        row("host", context.name.clone()),
        row("  cores", format!("{} usable (numbers {listed})", context.units)),
        row(
            "  partitions",
            format!("up to {}, each of at least {} core", context.units, context.unit_minimum),
        ),
        row("  lanes", format!("at most one for each core of a partition, {} in all", context.queue_limit)),
        row("  memory", format!("{}, of which {} are free", figures::size(total), figures::size(free))),
        row("  system", context.versions.join(", ")),
        row(
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
        row("  real-time class", class),
    ];
    let json = json!({
        "context": context,
        "cores": cores,
        "memory_bytes": total.get(),
        "memory_free_bytes": free.get(),
        "realtime_class": realtime.is_ok(),
    });
    Ok((rows, json))
}

/// What there is of CUDA on this machine, or what is missing.
fn overview(found: &Discovery) -> Vec<Row> {
    let count = |count: &usize| format!("{count} {}", if *count == 1 { "device" } else { "devices" });
    let sources = found.sources.iter().map(|source| match &source.devices {
        Reading::Known(known) => format!("{}: {}", source.name, count(known)),
        Reading::Unknown(reason) => format!("{}: {reason}", source.name),
    });
    let first = if found.devices.is_empty() {
        row("cuda", "no CUDA device")
    } else {
        row("cuda", format!("CUDA {}, driver {}", found.cuda, found.driver))
    };
    vec![first, row("  asked", sources.collect::<Vec<_>>().join("; "))]
}

/// One GPU.
fn gpu(device: &GpuReport, queues_given: bool) -> Vec<Row> {
    let identity = &device.identity;
    let kind = |integrated: &bool| if *integrated { "the host's" } else { "its own" }.to_owned();
    let given = if queues_given { "by" } else { "the default without" };
    let memory = &device.memory;
    let size = |bytes: &Reading<Bytes>| bytes.told(|bytes| figures::size(*bytes));
    let sms = &device.multiprocessors;
    let abilities = &device.abilities;
    let mut rows = vec![
        row(&format!("cuda:{}", device.ordinal), identity.name.to_string()),
        row("  board", identity.board.to_string()),
        row("  identifier", identity.uuid.to_string()),
        row("  place", identity.pci.to_string()),
        row("  generation", format!("compute capability {}", identity.compute_capability)),
        row("  SMs", sms.count.to_string()),
        row(
            "  partitions",
            format!(
                "up to {}, each of at least {} SMs, in steps of {}",
                sms.groups, sms.minimum, sms.granularity
            ),
        ),
        row("  lanes", format!("{} hardware queues, {given} {}", device.queue_limit, connections::VARIABLE)),
        row("  memory", format!("{}, of which {} are free", size(&memory.total), size(&memory.free))),
        row(
            "  L2 cache",
            format!("{}, of which {} can persist", size(&memory.l2), size(&memory.l2_persisting_max)),
        ),
        row(
            "  memory kind",
            format!(
                "{}, host memory mapped {}, errors corrected {}",
                identity.integrated.told(kind),
                holds(&memory.maps_host_memory),
                holds(&memory.ecc)
            ),
        ),
        row("  copy engines", abilities.copy_engines.to_string()),
    ];
    let capabilities = [
        ("green contexts", &abilities.green_contexts),
        ("graphs", &abilities.graphs),
        ("64-bit stream writes", &abilities.stream_writes),
        ("concurrent kernels", &abilities.concurrent_kernels),
        ("stream priorities", &abilities.stream_priorities),
        ("cooperative launch", &abilities.cooperative_launch),
    ];
    let told = capabilities.map(|(name, ability)| format!("{name} {}", holds(ability)));
    rows.push(row("  capabilities", told.join(", ")));
    rows.extend(state(&device.clocks, &device.tenancy));
    rows.extend(around(device));
    rows
}

/// What a board has around its GPU; nothing of a card, which is part of no board.
fn around(device: &GpuReport) -> Vec<Row> {
    let board = &device.board;
    let mut rows = Vec::new();
    if let Some(headroom) = device.memory.headroom.known() {
        rows.push(row(
            "  shared memory",
            format!("{} may be taken; the rest stays with the system", figures::size(*headroom)),
        ));
    }
    if let Some(held) = board.clock_held.known() {
        rows.push(row("  clock held", if *held { "yes" } else { "no: a governor moves it with the load" }));
    }
    if let Some(zones) = board.zones.known() {
        let told: Vec<String> =
            zones.iter().map(|zone| format!("{} {}", zone.name, zone.temperature)).collect();
        rows.push(row("  zones", told.join(", ")));
    }
    if let Some(accelerators) = board.accelerators.known().filter(|found| !found.is_empty()) {
        rows.push(row("  accelerators", format!("{}: second devices, not used", accelerators.join(", "))));
    }
    rows
}

/// What changes of a GPU while it is used.
fn state(clocks: &Clocks, tenancy: &Tenancy) -> Vec<Row> {
    let listed = |words: Vec<String>| if words.is_empty() { "none".to_owned() } else { words.join(", ") };
    let throttle = clocks.throttle.told(|reasons| listed(reasons.iter().map(ToString::to_string).collect()));
    let others = tenancy.others.told(|others| {
        let told = others.iter().map(|process| {
            format!("{} ({})", process.pid, process.memory.told(|bytes| figures::size(*bytes)))
        });
        listed(told.collect())
    });
    vec![
        row("  SM clock", format!("{}, at most {}", clocks.sm, clocks.sm_max)),
        row("  memory clock", format!("{}, at most {}", clocks.memory, clocks.memory_max)),
        row("  throttled by", throttle),
        row("  power mode", clocks.power_mode.to_string()),
        row("  load", clocks.load.to_string()),
        row("  temperature", clocks.temperature.to_string()),
        row("  power", clocks.power.to_string()),
        row("  use", tenancy.compute_mode.to_string()),
        row("  instances (MIG)", holds(&tenancy.mig)),
        row("  server (MPS)", holds(&tenancy.mps)),
        row("  other processes", others),
    ]
}

fn row(name: &str, value: impl Into<String>) -> Row {
    (name.to_owned(), value.into())
}

const fn yes(holds: bool) -> &'static str {
    if holds { "yes" } else { "no" }
}

fn holds(reading: &Reading<bool>) -> String {
    reading.told(|holds| yes(*holds).to_owned())
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

#[cfg(test)]
mod tests {
    use aegis_cuda::discovery::{Hertz, ThrottleReason};

    use super::*;

    fn told(rows: &[Row], name: &str) -> String {
        let found = rows.iter().find(|(row, _)| row.trim() == name);
        found.map(|(_, value)| value.clone()).unwrap_or_else(|| panic!("no row `{name}` in {rows:?}"))
    }

    #[test]
    fn a_gpu_is_told_with_a_reason_for_what_is_unknown() {
        let mut device = GpuReport::untold(1).settled("no library");
        device.queue_limit = 32;
        device.multiprocessors.groups = Reading::Known(16);
        device.multiprocessors.minimum = Reading::Known(8);
        device.memory.total = Reading::Known(Bytes::new(80 << 30));
        device.abilities.graphs = Reading::Known(true);
        device.clocks.sm = Reading::Known(Hertz::from_megahertz(1_980));
        device.clocks.throttle = Reading::Known([ThrottleReason::PowerCap, ThrottleReason::Heat].into());
        device.tenancy.others = Reading::Known(Vec::new());
        let rows = gpu(&device, true);
        assert_eq!(told(&rows, "cuda:1"), "unknown (no library)");
        assert_eq!(
            told(&rows, "partitions"),
            "up to 16, each of at least 8 SMs, in steps of unknown (no library)"
        );
        assert_eq!(told(&rows, "lanes"), "32 hardware queues, by CUDA_DEVICE_MAX_CONNECTIONS");
        assert_eq!(told(&rows, "memory"), "80GiB, of which unknown (no library) are free");
        assert!(
            told(&rows, "capabilities").contains("graphs yes, 64-bit stream writes unknown (no library)")
        );
        assert_eq!(told(&rows, "SM clock"), "1980 MHz, at most unknown (no library)");
        assert_eq!(told(&rows, "throttled by"), "power cap, heat");
        assert_eq!(told(&rows, "other processes"), "none");
        let unset = gpu(&device, false);
        assert_eq!(
            told(&unset, "lanes"),
            "32 hardware queues, the default without CUDA_DEVICE_MAX_CONNECTIONS"
        );
    }

    #[test]
    fn a_board_names_what_stands_beside_its_gpu_and_a_card_has_no_such_rows() {
        let mut device = GpuReport::untold(0).settled("no library");
        let card = gpu(&device, true);
        for name in ["shared memory", "clock held", "zones", "accelerators"] {
            assert!(card.iter().all(|(row, _)| row.trim() != name), "{card:?}");
        }
        let zone = discovery::ThermalZone {
            name: "tj-thermal".into(),
            temperature: discovery::Millicelsius::new(48_500),
        };
        device.memory.headroom = Reading::Known(Bytes::new(4 << 30));
        device.board.clock_held = Reading::Known(false);
        device.board.zones = Reading::Known(vec![zone]);
        device.board.accelerators = Reading::Known(vec!["nvdla0".into(), "nvdla1".into()]);
        let rows = gpu(&device, true);
        assert_eq!(told(&rows, "shared memory"), "4GiB may be taken; the rest stays with the system");
        assert!(told(&rows, "clock held").starts_with("no: "));
        assert_eq!(told(&rows, "zones"), "tj-thermal 48.5 degrees C");
        assert_eq!(told(&rows, "accelerators"), "nvdla0, nvdla1: second devices, not used");
    }

    #[test]
    fn a_machine_without_a_gpu_says_what_it_asked() {
        let found = discovery::Sources::of(vec![discovery::Candidate {
            name: "driver",
            source: Err("it cannot be loaded".into()),
        }])
        .discover(8);
        let rows = overview(&found);
        assert_eq!(told(&rows, "cuda"), "no CUDA device");
        assert_eq!(told(&rows, "asked"), "driver: it cannot be loaded");
    }
}
