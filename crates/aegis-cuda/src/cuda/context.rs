//! Green contexts: the driver's way to bind contexts to SMs.
//!
//! All of them come from one split, because a remainder cannot be split again; an unequal partition is described by
//! several groups of that split. A device that is not divided has one green context of all SMs, so that its kernels run
//! under the same rules; where the driver has no green contexts, its one partition is the primary context.

use std::ffi::c_int;

use cudarc::driver::sys;

use super::api::GreenApi;
use super::apportion::{Share, Split};
use super::code::NOT_SUPPORTED;
use super::driver::{Driver, NON_BLOCKING, Token};
use crate::error::DeviceError;

const SM: u32 = sys::CUdevResourceType::CU_DEV_RESOURCE_TYPE_SM as u32;
/// The priority of streams of which nothing is said: the lowest. Higher ones are negative.
const ORDINARY: c_int = 0;
const DEFAULT_STREAM: u32 = sys::CUgreenCtxCreate_flags::CU_GREEN_CTX_DEFAULT_STREAM as u32;

/// The context of one partition. Given back by [`destroy`](Self::destroy), which may block.
#[derive(Clone, Copy)]
pub(super) struct PartitionContext {
    green: Option<Token<sys::CUgreenCtx_st>>,
    context: Token<sys::CUctx_st>,
    units: u32,
}

impl PartitionContext {
    /// The context to make current.
    pub(super) const fn context(&self) -> Token<sys::CUctx_st> {
        self.context
    }

    /// SMs that the driver says it has.
    pub(super) const fn units(&self) -> u32 {
        self.units
    }

    /// Whether it may be current to one thread at a time only.
    pub(super) const fn is_green(&self) -> bool {
        self.green.is_some()
    }

    /// A stream whose kernels run on this partition's SMs, with the device's highest priority if it is `urgent`.
    pub(super) fn make_stream(
        &self,
        driver: &Driver,
        urgent: bool,
    ) -> Result<Token<sys::CUstream_st>, DeviceError> {
        driver.enter(self.context)?;
        let priority = if urgent { highest_priority(driver)? } else { ORDINARY };
        let mut stream = std::ptr::null_mut();
        if let (Some(green), Some(api)) = (self.green, &driver.green_stream) {
            // SAFETY: `cuGreenCtxStreamCreate` wants a place for the stream, a live green context (destroyed when the
            //  device is closed), the non-blocking flag and a priority, which it moves into the device's range.
            let code = unsafe { (api.green_stream)(&raw mut stream, green.0, NON_BLOCKING, priority) };
            driver.check(code, "cuGreenCtxStreamCreate")?;
        } else {
            // SAFETY: `cuStreamCreateWithPriority` wants a place for the stream, a current context (entered above), and a
            //  priority, which it moves into the device's range.
            let code = unsafe { (driver.api.stream_create_at)(&raw mut stream, NON_BLOCKING, priority) };
            driver.check(code, "cuStreamCreateWithPriority")?;
        }
        Ok(Token(stream))
    }

    /// Gives the green context back. Nothing made in it may be alive, and no thread may have it current.
    pub(super) fn destroy(self, driver: &Driver) -> Result<(), DeviceError> {
        let (Some(green), Some(api)) = (self.green, &driver.green) else { return Ok(()) };
        // SAFETY: `cuGreenCtxDestroy` wants a live green context that nobody uses: the caller's promise.
        let code = unsafe { (api.green_destroy)(green.0) };
        driver.check(code, "cuGreenCtxDestroy")
    }
}

/// The highest priority of streams of the context that is current; [`ORDINARY`] where the device knows no other.
fn highest_priority(driver: &Driver) -> Result<c_int, DeviceError> {
    let (mut least, mut greatest) = (ORDINARY, ORDINARY);
    // SAFETY: `cuCtxGetStreamPriorityRange` wants a current context (the caller entered one) and two places.
    let code = unsafe { (driver.api.stream_priorities)(&raw mut least, &raw mut greatest) };
    driver.check(code, "cuCtxGetStreamPriorityRange")?;
    Ok(greatest)
}

/// How the device splits; `None` where it cannot be split.
pub(super) fn probe(driver: &Driver) -> Result<Option<Split>, DeviceError> {
    let Some(api) = &driver.green else { return Ok(None) };
    let mut all = empty();
    // SAFETY: `cuDeviceGetDevResource` wants a device, a place for the resource and its type.
    let code = unsafe { (api.device_resource)(driver.device, &raw mut all, SM) };
    if code == NOT_SUPPORTED {
        return Ok(None);
    }
    driver.check(code, "cuDeviceGetDevResource")?;
    // One group of at least one SM: its size is the smallest that the driver makes.
    let (mut first, mut made) = (empty(), 1);
    // SAFETY: `cuDevSmResourceSplitByCount` wants room for the groups that `made` asks for: one; the device's own
    //  resource; and may be given no place for the remainder.
    let code = unsafe {
        (api.resource_split)(&raw mut first, &raw mut made, &raw const all, std::ptr::null_mut(), 0, 1)
    };
    if code == NOT_SUPPORTED {
        return Ok(None);
    }
    driver.check(code, "cuDevSmResourceSplitByCount")?;
    let group = sms(&first);
    let mut groups = 0;
    // SAFETY: as above; without a place for the groups, only their number is told.
    let code = unsafe {
        let (none, number) = (std::ptr::null_mut(), &raw mut groups);
        (api.resource_split)(none, number, &raw const all, std::ptr::null_mut(), 0, group)
    };
    driver.check(code, "cuDevSmResourceSplitByCount")?;
    Ok((group > 0 && groups > 0).then_some(Split { total: sms(&all), group, groups }))
}

/// Makes the contexts of a division; none on an error.
pub(super) fn divide(
    driver: &Driver,
    split: &Split,
    shares: &[Share],
) -> Result<Vec<PartitionContext>, DeviceError> {
    let Some(api) = &driver.green else { return Ok(vec![primary(driver, split)]) };
    // A share of everything needs no split, and then nothing is lost to rounding.
    let resources = match shares {
        [only] if only.units == split.total => vec![vec![whole_resource(driver, api)?]],
        _ => split_resources(driver, api, split, shares)?,
    };
    let mut made: Vec<PartitionContext> = Vec::with_capacity(shares.len());
    for (share, mut resources) in shares.iter().zip(resources) {
        let context = make(driver, api, &mut resources).and_then(|context| verify(driver, context, share));
        match context {
            Ok(context) => made.push(context),
            Err(error) => {
                for context in made {
                    context.destroy(driver)?;
                }
                return Err(error);
            }
        }
    }
    Ok(made)
}

/// The one context of a device that is not divided.
pub(super) fn undivided(driver: &Driver, split: Option<&Split>) -> Result<PartitionContext, DeviceError> {
    match (split, &driver.green) {
        (Some(_), Some(api)) => make(driver, api, &mut [whole_resource(driver, api)?]),
        _ => Ok(primary(driver, &Split::whole(driver.attribute(UNITS)?))),
    }
}

/// The attribute that tells the number of SMs.
pub(super) const UNITS: sys::CUdevice_attribute =
    sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT;

const fn primary(driver: &Driver, split: &Split) -> PartitionContext {
    PartitionContext { green: None, context: driver.primary(), units: split.total }
}

fn whole_resource(driver: &Driver, api: &GreenApi) -> Result<sys::CUdevResource, DeviceError> {
    let mut all = empty();
    // SAFETY: as in `probe`.
    let code = unsafe { (api.device_resource)(driver.device, &raw mut all, SM) };
    driver.check(code, "cuDeviceGetDevResource")?;
    Ok(all)
}

/// Splits the device once, and gives each share its groups.
fn split_resources(
    driver: &Driver,
    api: &GreenApi,
    split: &Split,
    shares: &[Share],
) -> Result<Vec<Vec<sys::CUdevResource>>, DeviceError> {
    let all = whole_resource(driver, api)?;
    let mut groups = vec![empty(); split.groups as usize];
    let (mut made, mut rest) = (split.groups, empty());
    // SAFETY: `cuDevSmResourceSplitByCount` wants room for as many groups as `made` asks for: the length of `groups`;
    //  the device's own resource; and a place for the remainder.
    let code = unsafe {
        let (place, input) = (groups.as_mut_ptr(), &raw const all);
        (api.resource_split)(place, &raw mut made, input, &raw mut rest, 0, split.group)
    };
    driver.check(code, "cuDevSmResourceSplitByCount")?;
    groups.truncate(made as usize);
    let resources = |share: &Share| {
        let mut own = groups.get(share.groups.clone())?.to_vec();
        own.extend(share.remainder.then_some(rest));
        Some(own)
    };
    let fewer = || DeviceError::Refused {
        call: "cuDevSmResourceSplitByCount",
        reason: format!("{made} groups of {} SMs were made, {} announced", split.group, split.groups),
    };
    shares.iter().map(resources).collect::<Option<_>>().ok_or_else(fewer)
}

fn make(
    driver: &Driver,
    api: &GreenApi,
    resources: &mut [sys::CUdevResource],
) -> Result<PartitionContext, DeviceError> {
    let count = u32::try_from(resources.len()).unwrap_or(u32::MAX);
    let mut descriptor = std::ptr::null_mut();
    // SAFETY: `cuDevResourceGenerateDesc` wants a place for the descriptor and `count` resources of one split.
    let code = unsafe { (api.resource_describe)(&raw mut descriptor, resources.as_mut_ptr(), count) };
    driver.check(code, "cuDevResourceGenerateDesc")?;
    let mut green = std::ptr::null_mut();
    // SAFETY: `cuGreenCtxCreate` wants a place for the context, a descriptor made above for this device, and the flag
    //  that it demands.
    let code = unsafe { (api.green_create)(&raw mut green, descriptor, driver.device, DEFAULT_STREAM) };
    driver.check(code, "cuGreenCtxCreate")?;
    let mut made =
        PartitionContext { green: Some(Token(green)), context: Token(std::ptr::null_mut()), units: 0 };
    match describe(driver, api, &mut made) {
        Ok(()) => Ok(made),
        Err(error) => {
            made.destroy(driver)?;
            Err(error)
        }
    }
}

/// Asks for the context to make current, and for the SMs that it really has.
fn describe(driver: &Driver, api: &GreenApi, made: &mut PartitionContext) -> Result<(), DeviceError> {
    let Some(green) = made.green else { return Ok(()) };
    let mut context = std::ptr::null_mut();
    // SAFETY: `cuCtxFromGreenCtx` wants a place for the context and a live green context: just made.
    let code = unsafe { (api.green_context)(&raw mut context, green.0) };
    driver.check(code, "cuCtxFromGreenCtx")?;
    made.context = Token(context);
    made.units = sms(&resource_of(driver, api, green)?);
    Ok(())
}

/// The SMs of a green context.
fn resource_of(
    driver: &Driver,
    api: &GreenApi,
    green: Token<sys::CUgreenCtx_st>,
) -> Result<sys::CUdevResource, DeviceError> {
    let mut own = empty();
    // SAFETY: `cuGreenCtxGetDevResource` wants a live green context, a place for the resource and its type.
    let code = unsafe { (api.green_resource)(green.0, &raw mut own, SM) };
    driver.check(code, "cuGreenCtxGetDevResource")?;
    Ok(own)
}

/// Another context on the SMs of `first`, for a further thread: a green context is current to one thread at a time. The
/// primary context may be current to any number, so that it is its own twin.
pub(super) fn twin(driver: &Driver, first: PartitionContext) -> Result<PartitionContext, DeviceError> {
    let (Some(green), Some(api)) = (first.green, &driver.green) else { return Ok(first) };
    let made = make(driver, api, &mut [resource_of(driver, api, green)?])?;
    if made.units == first.units {
        return Ok(made);
    }
    made.destroy(driver)?;
    let reason = format!("a twin of {} SMs was made with {}", first.units, made.units);
    Err(DeviceError::Refused { call: "cuGreenCtxCreate", reason })
}

/// A partition with fewer SMs than it was promised would void every budget.
fn verify(driver: &Driver, made: PartitionContext, share: &Share) -> Result<PartitionContext, DeviceError> {
    if made.units >= share.units {
        return Ok(made);
    }
    made.destroy(driver)?;
    let reason = format!("a partition of {} SMs was made with {}", share.units, made.units);
    Err(DeviceError::Refused { call: "cuGreenCtxCreate", reason })
}

fn sms(resource: &sys::CUdevResource) -> u32 {
    // SAFETY: reading this member of the union wants it to be the one that was written, or plain bytes: the driver fills
    //  it for resources of type SM, and `empty` is all zeroes, which is a number, too.
    unsafe { resource.__bindgen_anon_1.sm.smCount }
}

const fn empty() -> sys::CUdevResource {
    sys::CUdevResource {
        type_: sys::CUdevResourceType::CU_DEV_RESOURCE_TYPE_INVALID,
        _internal_padding: [0; 92],
        __bindgen_anon_1: sys::CUdevResource_st__bindgen_ty_1 { _oversize: [0; 48] },
    }
}
