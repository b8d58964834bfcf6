//! What the vendor's management library tells: clocks, heat, power, and who uses a device.
//!
//! The library is loaded at run time. It needs no context on the device, so asking it disturbs nobody but for the
//! time that the call takes.

use std::collections::BTreeSet;
use std::ffi::OsStr;

use aegis_types::Bytes;
use nvml_wrapper::bitmasks::device::ThrottleReasons;
use nvml_wrapper::enum_wrappers::device::{Clock, TemperatureSensor};
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::struct_wrappers::device::ProcessInfo;
use nvml_wrapper::{Device, Nvml};

use super::Source;
use super::quantity::{Hertz, Millicelsius, Milliwatts, Permille};
use super::reading::Reading;
use super::regime::{Regime, ThrottleReason};
use super::report::{GpuProcess, GpuReport, Identity, pci_place};

/// The name under which drivers install the library; the name without a number comes with development packages only.
const LIBRARY: &str = "libnvidia-ml.so.1";

/// The management library, loaded.
#[derive(Debug)]
pub struct Management {
    library: Nvml,
    own: u32,
}

impl Management {
    /// Loads the library.
    ///
    /// # Errors
    /// Why it cannot be used, in words.
    pub fn open() -> Result<Self, String> {
        let library = Nvml::builder().lib_path(OsStr::new(LIBRARY)).init().map_err(|error| match error {
            NvmlError::LibloadingError(_) => format!("{LIBRARY} cannot be loaded"),
            other => format!("{LIBRARY}: {other}"),
        })?;
        Ok(Self { library, own: std::process::id() })
    }

    fn device(&self, identity: &Identity) -> Result<Device<'_>, String> {
        let by_place = identity.pci.known().map(|place| self.library.device_by_pci_bus_id(place.as_str()));
        let by_identifier = || identity.uuid.known().map(|uuid| self.library.device_by_uuid(uuid.as_str()));
        match by_place.or_else(by_identifier) {
            Some(found) => found.map_err(|error| error.to_string()),
            None => Err("neither the place nor the identifier of the device is known".to_owned()),
        }
    }

    fn report(&self, ordinal: u32) -> Result<GpuReport, NvmlError> {
        let device = self.library.device_by_index(ordinal)?;
        let mut report = GpuReport::untold(ordinal);
        report.identity.name = device.name().into();
        report.identity.uuid = device.uuid().into();
        report.identity.pci = place(&device);
        let memory = device.memory_info();
        report.memory.total = memory.as_ref().map(|memory| Bytes::new(memory.total)).into();
        report.memory.free = memory.as_ref().map(|memory| Bytes::new(memory.free)).into();
        report.memory.ecc = device.is_ecc_enabled().map(|state| state.currently_enabled).into();
        report.clocks.sm = device.clock_info(Clock::SM).map(Hertz::from_megahertz).into();
        report.clocks.sm_max = device.max_clock_info(Clock::SM).map(Hertz::from_megahertz).into();
        report.clocks.memory = device.clock_info(Clock::Memory).map(Hertz::from_megahertz).into();
        report.clocks.memory_max = device.max_clock_info(Clock::Memory).map(Hertz::from_megahertz).into();
        report.clocks.throttle = throttle(&device);
        report.clocks.load =
            device.utilization_rates().map(|rates| Permille::new(rates.gpu.saturating_mul(10))).into();
        report.clocks.temperature = device.temperature(TemperatureSensor::Gpu).map(millicelsius).into();
        report.clocks.power = device.power_usage().map(Milliwatts::new).into();
        report.tenancy.mig = device.mig_mode().map(|mode| mode.current != 0).into();
        report.tenancy.others = self.others(&device);
        Ok(report)
    }

    /// All processes but this one. A process that computes and draws is listed twice by the library.
    fn others(&self, device: &Device<'_>) -> Reading<Vec<GpuProcess>> {
        let drawing = match device.running_graphics_processes() {
            Err(NvmlError::NotSupported) => Ok(Vec::new()),
            told => told,
        };
        let all = device.running_compute_processes().and_then(|computing| Ok((computing, drawing?)));
        all.map(|(computing, drawing)| listed(computing.into_iter().chain(drawing), self.own)).into()
    }
}

impl Source for Management {
    fn name(&self) -> &'static str {
        "management library"
    }

    fn driver_version(&self) -> Reading<String> {
        self.library.sys_driver_version().into()
    }

    fn devices(&self) -> Result<Vec<GpuReport>, String> {
        let count = self.library.device_count().map_err(|error| error.to_string())?;
        // A device that this user may not open is no device for this user, and the others are still there.
        Ok((0..count).filter_map(|ordinal| self.report(ordinal).ok()).collect())
    }

    fn regime(&self, device: &Identity) -> Regime {
        let device = match self.device(device) {
            Ok(device) => device,
            Err(reason) => return Regime::untold().settled(&format!("{}: {reason}", self.name())),
        };
        let pids = |others: Vec<GpuProcess>| others.iter().map(|process| process.pid).collect();
        Regime {
            sm_clock: device.clock_info(Clock::SM).map(Hertz::from_megahertz).into(),
            memory_clock: device.clock_info(Clock::Memory).map(Hertz::from_megahertz).into(),
            throttle: throttle(&device),
            others: self.others(&device).map(pids),
            ..Regime::untold()
        }
    }
}

fn place(device: &Device<'_>) -> Reading<String> {
    let told = device.pci_info().map_err(|error| error.to_string());
    told.and_then(|told| {
        pci_place(&told.bus_id).ok_or_else(|| format!("`{}` is no place on a bus", told.bus_id))
    })
    .into()
}

fn throttle(device: &Device<'_>) -> Reading<BTreeSet<ThrottleReason>> {
    match device.current_throttle_reasons_strict() {
        Ok(reasons) => Reading::Known(named(reasons)),
        Err(NvmlError::IncorrectBits(_)) => {
            // The driver has more reasons than this crate has names; that there is one must not get lost.
            let rest = device.current_throttle_reasons().map(named);
            rest.map(|mut reasons| {
                reasons.insert(ThrottleReason::Unnamed);
                reasons
            })
            .into()
        }
        Err(error) => Reading::Unknown(error.to_string()),
    }
}

fn named(reasons: ThrottleReasons) -> BTreeSet<ThrottleReason> {
    let names = [
        (ThrottleReasons::GPU_IDLE, ThrottleReason::Idle),
        (ThrottleReasons::APPLICATIONS_CLOCKS_SETTING, ThrottleReason::ClockSetting),
        (ThrottleReasons::DISPLAY_CLOCK_SETTING, ThrottleReason::DisplayClock),
        (ThrottleReasons::SW_POWER_CAP, ThrottleReason::PowerCap),
        (ThrottleReasons::SYNC_BOOST, ThrottleReason::SyncBoost),
        (ThrottleReasons::SW_THERMAL_SLOWDOWN, ThrottleReason::Heat),
        (ThrottleReasons::HW_THERMAL_SLOWDOWN, ThrottleReason::HardwareHeat),
        (ThrottleReasons::HW_POWER_BRAKE_SLOWDOWN, ThrottleReason::PowerBrake),
        (ThrottleReasons::HW_SLOWDOWN, ThrottleReason::HardwareSlowdown),
    ];
    names.into_iter().filter(|(bit, _)| reasons.contains(*bit)).map(|(_, name)| name).collect()
}

fn millicelsius(degrees: u32) -> Millicelsius {
    Millicelsius::new(i32::try_from(degrees).unwrap_or(i32::MAX).saturating_mul(1_000))
}

/// Each process once, ascending, without the own one.
fn listed(processes: impl Iterator<Item = ProcessInfo>, own: u32) -> Vec<GpuProcess> {
    let mut listed: Vec<GpuProcess> = processes
        .filter(|process| process.pid != own)
        .map(|process| GpuProcess { pid: process.pid, memory: used(&process.used_gpu_memory) })
        .collect();
    // The stable sort keeps the compute context first, which is the one whose memory counts.
    listed.sort_by_key(|process| process.pid);
    listed.dedup_by_key(|process| process.pid);
    listed
}

fn used(memory: &UsedGpuMemory) -> Reading<Bytes> {
    match memory {
        UsedGpuMemory::Used(bytes) => Reading::Known(Bytes::new(*bytes)),
        UsedGpuMemory::Unavailable => Reading::Unknown("the library does not tell it".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_name_and_only_its_own() {
        assert_eq!(named(ThrottleReasons::empty()), BTreeSet::new());
        let all: Vec<ThrottleReasons> = ThrottleReasons::all().iter().collect();
        let names: BTreeSet<ThrottleReason> = all.iter().flat_map(|one| named(*one)).collect();
        assert!(all.iter().all(|one| named(*one).len() == 1), "{all:?}");
        assert_eq!(names.len(), 9);
    }

    #[test]
    fn other_processes_are_listed_once_without_this_one() {
        let process = |pid, used_gpu_memory| ProcessInfo {
            pid,
            used_gpu_memory,
            gpu_instance_id: None,
            compute_instance_id: None,
        };
        let seen = [
            process(9, UsedGpuMemory::Used(64)),
            process(4, UsedGpuMemory::Used(32)),
            process(2, UsedGpuMemory::Unavailable),
            process(9, UsedGpuMemory::Used(1)),
        ];
        let others = listed(seen.into_iter(), 4);
        assert_eq!(others.iter().map(|process| process.pid).collect::<Vec<_>>(), [2, 9]);
        assert_eq!(others[1].memory, Reading::Known(Bytes::new(64)));
        assert!(others[0].memory.reason().is_some());
    }

    #[test]
    fn heat_beyond_the_type_does_not_wrap() {
        assert_eq!(millicelsius(44), Millicelsius::new(44_000));
        assert_eq!(millicelsius(u32::MAX), Millicelsius::new(i32::MAX));
    }
}
