//! What the CUDA driver tells of a device without making a context on it.
//!
//! The driver's library is loaded at run time and each function is looked up by its name, because drivers of several
//! years are met and a missing function must be a reason in a report. Result codes are plain integers here: a driver
//! that is newer than the binding returns codes which the binding's enumeration does not have.

use std::ffi::{CStr, c_char, c_int, c_uint};
use std::fs;

use aegis_types::Bytes;
use cudarc::driver::sys;

use super::quantity::Hertz;
use super::reading::Reading;
use super::regime::Regime;
use super::report::{ComputeCapability, GpuReport, Identity, Multiprocessors, pci_place};
use super::{CudaVersion, Source};

/// A result code; zero is success.
type Code = c_uint;
/// A device of the driver; no resource, so there is nothing to give back.
type Handle = c_int;
type SplitByCount = unsafe extern "C" fn(
    *mut sys::CUdevResource,
    *mut c_uint,
    *const sys::CUdevResource,
    *mut sys::CUdevResource,
    c_uint,
    c_uint,
) -> Code;

/// Longest text that a device's name or place may have, with its end.
const TEXT: usize = 256;
/// `CU_DEVICE_ATTRIBUTE_MPS_ENABLED`, which the binding's oldest driver does not have.
const MPS_ENABLED: c_uint = 133;

/// The driver, loaded and initialised.
#[derive(Debug)]
pub struct Driver {
    table: Table,
}

impl Driver {
    /// Loads and initialises the driver.
    ///
    /// # Errors
    /// Why it cannot be used, in words.
    pub fn open() -> Result<Self, String> {
        // SAFETY: loading runs the initialisers of a library of that name; the vendor's may run at any time.
        if !unsafe { sys::is_culib_present() } {
            return Err("libcuda.so.1 cannot be loaded".to_owned());
        }
        let driver = Self { table: Table::load()? };
        // SAFETY: `cuInit` wants zero; it may be called on any thread and again.
        let code = unsafe { (driver.table.init)(0) };
        driver.checked("cuInit", code)?;
        Ok(driver)
    }

    fn handle(&self, ordinal: c_int) -> Result<Handle, String> {
        let mut handle = 0;
        // SAFETY: `handle` is writable for the call; a wrong ordinal is an error code.
        let code = unsafe { (self.table.device)(&raw mut handle, ordinal) };
        self.checked("cuDeviceGet", code).map(|()| handle)
    }

    fn report(&self, ordinal: c_int) -> Result<GpuReport, String> {
        let device = self.handle(ordinal)?;
        let number = |which| self.attribute(device, which).and_then(whole);
        let holds = |which| Reading::from(number(which).map(|value| value != 0));
        let mut report = GpuReport::untold(ordinal.unsigned_abs());
        report.identity = self.identity(device);
        report.multiprocessors = self.multiprocessors(device);
        let size = |which| Reading::from(number(which).map(|bytes| Bytes::new(u64::from(bytes))));
        report.memory.total = self.memory(device).into();
        report.memory.l2 = size(attribute::L2);
        report.memory.l2_persisting_max = size(attribute::L2_PERSISTING);
        report.memory.ecc = holds(attribute::ECC);
        report.memory.maps_host_memory = holds(attribute::MAPS_HOST_MEMORY);
        report.abilities.copy_engines = number(attribute::COPY_ENGINES).into();
        report.abilities.concurrent_kernels = holds(attribute::CONCURRENT_KERNELS);
        report.abilities.stream_priorities = holds(attribute::STREAM_PRIORITIES);
        report.abilities.stream_writes = holds(attribute::STREAM_WRITES);
        report.abilities.cooperative_launch = holds(attribute::COOPERATIVE_LAUNCH);
        report.abilities.graphs = Reading::Known(self.table.graphs);
        let divisible = report.multiprocessors.groups.known().is_some();
        report.abilities.green_contexts = Reading::Known(self.table.green_contexts && divisible);
        report.clocks.sm_max = number(attribute::SM_CLOCK).map(Hertz::from_kilohertz).into();
        report.clocks.memory_max = number(attribute::MEMORY_CLOCK).map(Hertz::from_kilohertz).into();
        report.tenancy.compute_mode = number(attribute::COMPUTE_MODE).map(compute_mode).into();
        report.tenancy.mps = holds(MPS_ENABLED);
        Ok(report)
    }

    fn identity(&self, device: Handle) -> Identity {
        let number = |which| self.attribute(device, which).and_then(whole);
        let major = number(attribute::CAPABILITY_MAJOR);
        let capability = major.and_then(|major| {
            number(attribute::CAPABILITY_MINOR).map(|minor| ComputeCapability { major, minor })
        });
        Identity {
            name: self.text("cuDeviceGetName", self.table.name, device).into(),
            board: Reading::untold(),
            uuid: self.uuid(device).into(),
            pci: self.place(device).into(),
            integrated: number(attribute::INTEGRATED).map(|value| value != 0).into(),
            compute_capability: capability.into(),
        }
    }

    /// How the SMs can be divided, by dividing them: the rules differ between generations, and a trial is no guess.
    /// Nothing is made by it.
    fn multiprocessors(&self, device: Handle) -> Multiprocessors {
        let count = self.attribute(device, attribute::MULTIPROCESSORS).and_then(whole);
        let whole_device = self.resource(device);
        let smallest =
            whole_device.and_then(|resource| self.split(&resource, 1).map(|split| (resource, split)));
        let finer = smallest.as_ref().map_err(Clone::clone).and_then(|(resource, (minimum, _))| {
            let next = minimum.checked_add(1).ok_or("the smallest group has no larger one")?;
            let (size, _) = self.split(resource, next)?;
            Ok::<_, String>(size.saturating_sub(*minimum))
        });
        Multiprocessors {
            count: count.into(),
            granularity: finer.into(),
            minimum: smallest.as_ref().map(|(_, (minimum, _))| *minimum).into(),
            groups: smallest.as_ref().map(|(_, (_, groups))| *groups).into(),
        }
    }

    /// All SMs of the device as something that can be divided.
    fn resource(&self, device: Handle) -> Result<sys::CUdevResource, String> {
        let get = self.table.resource.clone()?;
        let mut resource = no_resource();
        let kind = sys::CUdevResourceType::CU_DEV_RESOURCE_TYPE_SM as c_uint;
        // SAFETY: `resource` is writable for the call and of the size that the driver's interface fixes.
        let code = unsafe { get(device, &raw mut resource, kind) };
        self.checked("cuDeviceGetDevResource", code).map(|()| resource)
    }

    /// The size of the groups that hold at least `least` SMs, and how many of them there are.
    fn split(&self, resource: &sys::CUdevResource, least: c_uint) -> Result<(u32, u32), String> {
        const CALL: &str = "cuDevSmResourceSplitByCount";
        let split = self.table.split.clone()?;
        let nothing = std::ptr::null_mut::<sys::CUdevResource>;
        let mut groups: c_uint = 0;
        // SAFETY: without a place for the result the call counts the groups; `groups` is writable and `resource` is
        // an undivided resource of the driver.
        let code = unsafe { split(nothing(), &raw mut groups, resource, nothing(), 0, least) };
        self.checked(CALL, code)?;
        let places = usize::try_from(groups).map_err(|error| error.to_string())?;
        let mut made = vec![no_resource(); places];
        // SAFETY: `made` has room for `groups` results, and the call writes no more than `groups` asks for; the rest
        // is as in the call before.
        let code = unsafe { split(made.as_mut_ptr(), &raw mut groups, resource, nothing(), 0, least) };
        self.checked(CALL, code)?;
        let smallest = made.iter().take(usize::try_from(groups).unwrap_or(places)).map(sms).min();
        smallest.map(|size| (size, groups)).ok_or_else(|| format!("no group of {least} SMs fits the device"))
    }

    fn memory(&self, device: Handle) -> Result<Bytes, String> {
        let mut bytes = 0_usize;
        // SAFETY: `bytes` is writable for the call and `device` came from `cuDeviceGet`.
        let code = unsafe { (self.table.memory)(&raw mut bytes, device) };
        self.checked("cuDeviceTotalMem", code).map(|()| Bytes::new(bytes as u64))
    }

    fn uuid(&self, device: Handle) -> Result<String, String> {
        let get = self.table.uuid.clone()?;
        let mut bytes = [0_u8; 16];
        // SAFETY: the call writes sixteen bytes, which `bytes` has, and `device` came from `cuDeviceGet`.
        let code = unsafe { get(bytes.as_mut_ptr(), device) };
        self.checked("cuDeviceGetUuid", code).map(|()| identifier(bytes))
    }

    fn place(&self, device: Handle) -> Result<String, String> {
        let swapped = self.text("cuDeviceGetPCIBusId", self.table.place, device)?;
        pci_place(&swapped).ok_or_else(|| format!("`{swapped}` is no place on a bus"))
    }

    /// A text of the device; both calls that give one take the same arguments.
    fn text(
        &self,
        what: &str,
        call: unsafe extern "C" fn(*mut c_char, c_int, Handle) -> Code,
        device: Handle,
    ) -> Result<String, String> {
        let mut bytes = [0_u8; TEXT];
        // SAFETY: the call writes at most `TEXT` bytes with a zero at their end, and `device` came from `cuDeviceGet`.
        let code = unsafe { call(bytes.as_mut_ptr().cast(), TEXT as c_int, device) };
        self.checked(what, code)?;
        let text = CStr::from_bytes_until_nul(&bytes).map_err(|error| format!("{what}: {error}"))?;
        Ok(text.to_string_lossy().into_owned())
    }

    fn attribute(&self, device: Handle, which: c_uint) -> Result<c_int, String> {
        let mut value = 0;
        // SAFETY: `value` is writable for the call; an attribute that the driver does not know is an error code.
        let code = unsafe { (self.table.attribute)(&raw mut value, which, device) };
        self.checked("cuDeviceGetAttribute", code).map(|()| value)
    }

    fn checked(&self, what: &str, code: Code) -> Result<(), String> {
        if code == 0 {
            return Ok(());
        }
        let mut text = std::ptr::null();
        // SAFETY: `text` is writable for the call; a code without a text leaves it null.
        let _told = unsafe { (self.table.error_text)(code, &raw mut text) };
        if text.is_null() {
            return Err(format!("{what}: error {code}"));
        }
        // SAFETY: a text that the driver gives is a constant of its library, which is never unloaded.
        let text = unsafe { CStr::from_ptr(text) };
        Err(format!("{what}: {} (error {code})", text.to_string_lossy()))
    }
}

impl Source for Driver {
    fn name(&self) -> &'static str {
        "driver"
    }

    fn driver_version(&self) -> Reading<String> {
        let path = "/proc/driver/nvidia/version";
        let told = fs::read_to_string(path).map_err(|error| format!("{path}: {error}"));
        told.and_then(|text| module_version(&text).ok_or_else(|| format!("{path} names no version"))).into()
    }

    fn cuda_version(&self) -> Reading<CudaVersion> {
        let mut version = 0;
        // SAFETY: `version` is writable for the call.
        let code = unsafe { (self.table.version)(&raw mut version) };
        let told = self.checked("cuDriverGetVersion", code);
        told.and_then(|()| whole(version)).map(CudaVersion::from_number).into()
    }

    fn devices(&self) -> Result<Vec<GpuReport>, String> {
        let mut count = 0;
        // SAFETY: `count` is writable for the call.
        let code = unsafe { (self.table.count)(&raw mut count) };
        self.checked("cuDeviceGetCount", code)?;
        (0..count).map(|ordinal| self.report(ordinal)).collect()
    }

    /// Nothing: clocks and processes are not the driver interface's subject.
    fn regime(&self, _device: &Identity) -> Regime {
        Regime::untold()
    }
}

/// Functions of the driver that need no context.
#[derive(Clone, Debug)]
struct Table {
    init: unsafe extern "C" fn(c_uint) -> Code,
    version: unsafe extern "C" fn(*mut c_int) -> Code,
    count: unsafe extern "C" fn(*mut c_int) -> Code,
    device: unsafe extern "C" fn(*mut Handle, c_int) -> Code,
    name: unsafe extern "C" fn(*mut c_char, c_int, Handle) -> Code,
    place: unsafe extern "C" fn(*mut c_char, c_int, Handle) -> Code,
    memory: unsafe extern "C" fn(*mut usize, Handle) -> Code,
    attribute: unsafe extern "C" fn(*mut c_int, c_uint, Handle) -> Code,
    error_text: unsafe extern "C" fn(Code, *mut *const c_char) -> Code,
    uuid: Result<unsafe extern "C" fn(*mut u8, Handle) -> Code, String>,
    resource: Result<unsafe extern "C" fn(Handle, *mut sys::CUdevResource, c_uint) -> Code, String>,
    split: Result<SplitByCount, String>,
    green_contexts: bool,
    graphs: bool,
}

impl Table {
    /// Looks the functions up; the library must be there.
    fn load() -> Result<Self, String> {
        // SAFETY: the caller has seen the library load; it stays loaded until the process ends.
        let library = unsafe { sys::culib() };
        macro_rules! function {
            ($name:literal) => {
                // SAFETY: the type that the field gives the function is the one under which the driver's interface
                // documents this name; a name keeps its type, and a changed function gets a new name.
                unsafe { library.get($name.to_bytes_with_nul()) }
                    .map(|function| *function)
                    .map_err(|_| format!("the driver has no {}", $name.to_string_lossy()))
            };
        }
        let is_there = |name: &CStr| {
            // SAFETY: the pointer is compared with nothing and never followed: only its presence counts.
            let found = unsafe { library.get::<*const ()>(name.to_bytes_with_nul()) };
            found.is_ok()
        };
        Ok(Self {
            init: function!(c"cuInit")?,
            version: function!(c"cuDriverGetVersion")?,
            count: function!(c"cuDeviceGetCount")?,
            device: function!(c"cuDeviceGet")?,
            name: function!(c"cuDeviceGetName")?,
            place: function!(c"cuDeviceGetPCIBusId")?,
            memory: function!(c"cuDeviceTotalMem_v2")?,
            attribute: function!(c"cuDeviceGetAttribute")?,
            error_text: function!(c"cuGetErrorString")?,
            uuid: function!(c"cuDeviceGetUuid_v2"),
            resource: function!(c"cuDeviceGetDevResource"),
            split: function!(c"cuDevSmResourceSplitByCount"),
            green_contexts: is_there(c"cuGreenCtxCreate"),
            graphs: is_there(c"cuGraphInstantiateWithFlags") && is_there(c"cuGraphLaunch"),
        })
    }
}

/// The attributes that are asked for, as the numbers that the driver takes.
mod attribute {
    use std::ffi::c_uint;

    use cudarc::driver::sys::CUdevice_attribute as Attribute;

    pub const MULTIPROCESSORS: c_uint = Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT as c_uint;
    pub const CAPABILITY_MAJOR: c_uint = Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR as c_uint;
    pub const CAPABILITY_MINOR: c_uint = Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR as c_uint;
    pub const INTEGRATED: c_uint = Attribute::CU_DEVICE_ATTRIBUTE_INTEGRATED as c_uint;
    pub const L2: c_uint = Attribute::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE as c_uint;
    pub const L2_PERSISTING: c_uint = Attribute::CU_DEVICE_ATTRIBUTE_MAX_PERSISTING_L2_CACHE_SIZE as c_uint;
    pub const ECC: c_uint = Attribute::CU_DEVICE_ATTRIBUTE_ECC_ENABLED as c_uint;
    pub const MAPS_HOST_MEMORY: c_uint = Attribute::CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY as c_uint;
    pub const COPY_ENGINES: c_uint = Attribute::CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT as c_uint;
    pub const CONCURRENT_KERNELS: c_uint = Attribute::CU_DEVICE_ATTRIBUTE_CONCURRENT_KERNELS as c_uint;
    pub const STREAM_PRIORITIES: c_uint =
        Attribute::CU_DEVICE_ATTRIBUTE_STREAM_PRIORITIES_SUPPORTED as c_uint;
    pub const STREAM_WRITES: c_uint = Attribute::CU_DEVICE_ATTRIBUTE_CAN_USE_64_BIT_STREAM_MEM_OPS as c_uint;
    pub const COOPERATIVE_LAUNCH: c_uint = Attribute::CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH as c_uint;
    pub const SM_CLOCK: c_uint = Attribute::CU_DEVICE_ATTRIBUTE_CLOCK_RATE as c_uint;
    pub const MEMORY_CLOCK: c_uint = Attribute::CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE as c_uint;
    pub const COMPUTE_MODE: c_uint = Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_MODE as c_uint;
}

const fn no_resource() -> sys::CUdevResource {
    sys::CUdevResource {
        type_: sys::CUdevResourceType::CU_DEV_RESOURCE_TYPE_INVALID,
        _internal_padding: [0; 92],
        __bindgen_anon_1: sys::CUdevResource_st__bindgen_ty_1 { _oversize: [0; 48] },
    }
}

fn sms(resource: &sys::CUdevResource) -> u32 {
    // SAFETY: every bit pattern is a number, and all bytes of the union are initialised by `no_resource`.
    let sm = unsafe { resource.__bindgen_anon_1.sm };
    sm.smCount
}

fn whole(value: c_int) -> Result<u32, String> {
    u32::try_from(value).map_err(|_| format!("the driver told {value}, which is negative"))
}

/// How the vendor's tools write the bytes of an identifier.
fn identifier(bytes: [u8; 16]) -> String {
    let hex = |range: std::ops::Range<usize>| -> String {
        bytes[range].iter().map(|byte| format!("{byte:02x}")).collect()
    };
    format!("GPU-{}-{}-{}-{}-{}", hex(0..4), hex(4..6), hex(6..8), hex(8..10), hex(10..16))
}

fn compute_mode(mode: u32) -> String {
    match mode {
        0 => "shared by processes".to_owned(),
        2 => "closed to processes".to_owned(),
        3 => "one process at a time".to_owned(),
        other => format!("mode {other}"),
    }
}

/// The version of the kernel's module: the first word of its line that is made of digits and points.
fn module_version(text: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with("NVRM version"))?;
    let is_version = |word: &&str| {
        word.contains('.')
            && word.split('.').all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
    };
    line.split_whitespace().find(is_version).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_written_as_the_vendor_does() {
        let bytes = std::array::from_fn(|index| u8::try_from(index * 16 + index).unwrap());
        assert_eq!(identifier(bytes), "GPU-00112233-4455-6677-8899-aabbccddeeff");
    }

    #[test]
    fn the_module_tells_its_version() {
        let cases = [
            (
                "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.159  Tue\nGCC version: 12.2.0",
                Some("580.159"),
            ),
            ("NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  540.4.0  Release", Some("540.4.0")),
            ("NVRM version: none", None),
            ("GCC version: 12.2.0", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(module_version(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn the_resource_has_the_size_that_the_interface_fixes() {
        assert_eq!(size_of::<sys::CUdevResource>(), 144);
        assert_eq!(sms(&no_resource()), 0);
    }

    #[test]
    fn a_driver_tells_its_devices_or_why_there_is_none() {
        match Driver::open() {
            Err(reason) => assert!(reason.starts_with("libcuda") || reason.starts_with("cuInit"), "{reason}"),
            Ok(driver) => {
                for report in driver.devices().unwrap() {
                    assert!(
                        report.multiprocessors.count.known().is_some_and(|count| *count > 0),
                        "{report:?}"
                    );
                }
            }
        }
    }
}
