//! Modules and the kernels in them, loaded inside the partition where they will run.

use std::ffi::{CStr, c_void};
use std::sync::Arc;

use aegis_types::{Bytes, PartitionId};
use cudarc::driver::sys;

use super::driver::{Driver, Token};
use super::retire::{Handle, Scope};
use super::stream::CudaStream;
use crate::error::DeviceError;
use crate::stream::Stream;

const ERROR_LOG: u32 = sys::CUjit_option::CU_JIT_ERROR_LOG_BUFFER as u32;
const ERROR_LOG_SIZE: u32 = sys::CUjit_option::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES as u32;
const STATIC_SHARED: u32 = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES as u32;
const DYNAMIC_SHARED: u32 = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES as u32;
const SHARED_LIMIT: sys::CUdevice_attribute =
    sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN;

/// A module loaded in one partition. Dropping it and every function of it gives it up.
#[derive(Clone)]
pub struct Module {
    inner: Arc<Loaded>,
}

struct Loaded {
    driver: Arc<Driver>,
    partition: PartitionId,
    raw: Token<sys::CUmod_st>,
}

/// A kernel; keeps its module alive.
#[derive(Clone)]
pub struct Function {
    module: Arc<Loaded>,
    raw: Token<sys::CUfunc_st>,
}

/// How many blocks of how many threads run a kernel, and their dynamic shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaunchShape {
    /// Blocks along each axis.
    pub grid: [u32; 3],
    /// Threads of a block along each axis.
    pub block: [u32; 3],
    /// Dynamic shared memory of a block.
    pub shared: Bytes,
}

/// An argument of a kernel, passed by value; an address is a `U64`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Argument {
    /// Four bytes.
    U32(u32),
    /// Eight bytes, or an address.
    U64(u64),
    /// A float.
    F32(f32),
}

impl Argument {
    /// Its bytes as the kernel reads them, from the start.
    pub(super) const fn bytes(self) -> [u8; 8] {
        let four = match self {
            Self::U64(word) => return word.to_ne_bytes(),
            Self::U32(word) => word.to_ne_bytes(),
            Self::F32(number) => number.to_ne_bytes(),
        };
        [four[0], four[1], four[2], four[3], 0, 0, 0, 0]
    }
}

impl Module {
    /// Loads an image (PTX text, or a binary) inside the partition of `stream`. Load time only: PTX is compiled here.
    ///
    /// # Errors
    /// [`DeviceError::Refused`] with the compiler's words, or [`DeviceError::Lost`].
    pub fn load(stream: &mut CudaStream, image: &CStr) -> Result<Self, DeviceError> {
        let driver = Arc::clone(stream.driver());
        driver.empty_queue(Scope::Partition(stream.partition()))?;
        stream.enter()?;
        let mut log = [0_u8; 2048];
        let mut options = [ERROR_LOG, ERROR_LOG_SIZE];
        let mut values = [log.as_mut_ptr().cast(), std::ptr::without_provenance_mut::<c_void>(log.len())];
        let mut raw = std::ptr::null_mut();
        // SAFETY: `cuModuleLoadDataEx` wants a place for the module, an image that ends (text with zero), as many
        //  options as values, a log buffer of the size told, and a current context: the partition's.
        let code = unsafe {
            let (options, values) = (options.as_mut_ptr(), values.as_mut_ptr());
            (driver.api.module_load)(&raw mut raw, image.as_ptr().cast(), 2, options, values)
        };
        driver.check(code, "cuModuleLoadDataEx").map_err(|error| with_log(error, &log))?;
        let inner = Loaded { driver, partition: stream.partition(), raw: Token(raw) };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The kernel of this name, loaded at once and allowed as much dynamic shared memory as the device has. Load time
    /// only, on the thread of the partition.
    ///
    /// # Errors
    /// [`DeviceError::Refused`] if there is none, or [`DeviceError::Lost`].
    pub fn function(&self, name: &CStr) -> Result<Function, DeviceError> {
        let driver = &self.inner.driver;
        self.inner.enter()?;
        let mut raw = std::ptr::null_mut();
        // SAFETY: `cuModuleGetFunction` wants a place for the function, a live module and a name that ends.
        let code = unsafe { (driver.api.module_function)(&raw mut raw, self.inner.raw.0, name.as_ptr()) };
        driver.check(code, "cuModuleGetFunction").map_err(|error| named(error, name))?;
        if let Some(load) = &driver.load {
            // SAFETY: `cuFuncLoad` wants a live function: just found in a live module.
            let code = unsafe { (load.function_load)(raw) };
            driver.check(code, "cuFuncLoad")?;
        }
        let function = Function { module: Arc::clone(&self.inner), raw: Token(raw) };
        function.allow_shared()?;
        Ok(function)
    }

    /// What must stay alive while its kernels may run.
    pub(super) fn keep(&self) -> Arc<dyn std::any::Any + Send + Sync> {
        Arc::<Loaded>::clone(&self.inner)
    }
}

impl Function {
    /// The partition in which it was loaded.
    pub(super) fn partition(&self) -> PartitionId {
        self.module.partition
    }

    /// Whether it is a kernel of this driver's device.
    pub(super) fn belongs_to(&self, driver: &Arc<Driver>) -> bool {
        Arc::ptr_eq(&self.module.driver, driver)
    }

    /// The driver's handle.
    pub(super) const fn raw(&self) -> Token<sys::CUfunc_st> {
        self.raw
    }

    /// What must stay alive while it may run.
    pub(super) fn keep(&self) -> Arc<dyn std::any::Any + Send + Sync> {
        Module { inner: Arc::clone(&self.module) }.keep()
    }

    /// Without this, a block gets 48 KiB of shared memory at most.
    fn allow_shared(&self) -> Result<(), DeviceError> {
        let driver = &self.module.driver;
        let mut own = 0;
        // SAFETY: `cuFuncGetAttribute` wants a place for the value, an attribute and a live function.
        let code = unsafe { (driver.api.function_attribute)(&raw mut own, STATIC_SHARED, self.raw.0) };
        driver.check(code, "cuFuncGetAttribute")?;
        let limit = i32::try_from(driver.attribute(SHARED_LIMIT)?).unwrap_or(i32::MAX);
        // SAFETY: `cuFuncSetAttribute` wants a live function, an attribute and a value: what the device has at most,
        //  less what the function has already.
        let code = unsafe {
            (driver.api.function_set_attribute)(self.raw.0, DYNAMIC_SHARED, limit.saturating_sub(own).max(0))
        };
        driver.check(code, "cuFuncSetAttribute")
    }
}

impl Loaded {
    fn enter(&self) -> Result<(), DeviceError> {
        let context = self.driver.contexts().get(self.partition.index()).map(|made| made.context());
        let lost = DeviceError::UnknownPartition { partition: self.partition, made: 0 };
        self.driver.enter(context.ok_or(lost)?)
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        self.driver.retire(Some(self.partition), Handle::Module(self.raw));
    }
}

/// Adds what the compiler wrote, which says what is wrong with the image.
fn with_log(error: DeviceError, log: &[u8]) -> DeviceError {
    let end = log.iter().position(|&byte| byte == 0).unwrap_or(log.len());
    let text = String::from_utf8_lossy(&log[..end]);
    match error {
        DeviceError::Refused { call, reason } if !text.trim().is_empty() => {
            DeviceError::Refused { call, reason: format!("{reason}: {}", text.trim()) }
        }
        other => other,
    }
}

fn named(error: DeviceError, name: &CStr) -> DeviceError {
    match error {
        DeviceError::Refused { call, reason } => {
            DeviceError::Refused { call, reason: format!("kernel `{}`: {reason}", name.to_string_lossy()) }
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_start_with_their_own_bytes() {
        assert_eq!(Argument::U64(u64::MAX - 1).bytes(), (u64::MAX - 1).to_ne_bytes());
        assert_eq!(Argument::U32(7).bytes()[..4], 7_u32.to_ne_bytes());
        assert_eq!(Argument::F32(1.5).bytes()[..4], 1.5_f32.to_ne_bytes());
    }

    #[test]
    fn a_refused_image_is_explained_by_the_compiler() {
        let refused = DeviceError::Refused { call: "c", reason: "r".into() };
        let explained = with_log(refused.clone(), b"line 3: bad\n\0\0");
        assert_eq!(explained, DeviceError::Refused { call: "c", reason: "r: line 3: bad".into() });
        assert_eq!(with_log(refused.clone(), b"\0"), refused);
    }
}
