//! Options of a session on the GPU, and which nodes the library left on the host.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr::{self, NonNull};

use ort::AsPointer;
use ort::session::builder::SessionBuilder;
use ort::sys;

use crate::raw::{self, Reason};

/// Asks the library to remember which provider runs which node.
pub(crate) const RECORD_ASSIGNMENT: &str = "session.record_ep_graph_assignment_info";

/// The name that the library gives the provider of the host.
const HOST_PROVIDER: &str = "CPUExecutionProvider";

/// Where a session computes, and how.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Target {
    /// The number of the device.
    pub ordinal: i32,
    /// The lane's stream, which outlives the session; none for one of the library's own.
    pub stream: Option<*mut c_void>,
    /// How algorithms of convolutions are chosen.
    pub rules: Rules,
}

/// The vendor's rules for the algorithms of convolutions. Neither set is better: twenty networks of half precision take 1.8
/// times as long by the second, and one recogniser of text takes 1.85 GiB of workspace by the first instead of 3 MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rules {
    /// By shape, whatever workspace that takes.
    First,
    /// What the provider calls an exhaustive search: the vendor's other heuristic, which tries nothing either.
    Second,
}

impl Rules {
    const fn word(self) -> &'static CStr {
        match self {
            Self::First => c"HEURISTIC",
            Self::Second => c"EXHAUSTIVE",
        }
    }
}

/// The provider's options, released when dropped.
struct Options(NonNull<sys::OrtCUDAProviderOptionsV2>);

impl Drop for Options {
    fn drop(&mut self) {
        // SAFETY: wants a live handle that nothing uses afterwards; sessions copy what it says.
        unsafe { (ort::api().ReleaseCUDAProviderOptions)(self.0.as_ptr()) }
    }
}

impl Options {
    fn new(pairs: &[(&CStr, CString)]) -> Result<Self, Reason> {
        let mut options = ptr::null_mut();
        // SAFETY: wants a place for the handle.
        raw::check(unsafe { (ort::api().CreateCUDAProviderOptions)(&raw mut options) })?;
        let options = Self(NonNull::new(options).ok_or("the library made no options of the CUDA provider")?);
        let keys: Vec<*const c_char> = pairs.iter().map(|pair| pair.0.as_ptr()).collect();
        let values: Vec<*const c_char> = pairs.iter().map(|pair| pair.1.as_ptr()).collect();
        // SAFETY: wants a live handle and as many keys as values, all terminated; they are borrowed for the call.
        raw::check(unsafe {
            (ort::api().UpdateCUDAProviderOptions)(
                options.0.as_ptr(),
                keys.as_ptr(),
                values.as_ptr(),
                keys.len(),
            )
        })?;
        Ok(options)
    }
}

/// Makes the session compute on a GPU.
///
/// Algorithms of convolutions are chosen by the vendor's [rules](Rules), not by trying them out: trials take memory that
/// no job takes, and two loads of one model could choose differently, so that neither times nor results would be those
/// that were measured. Numbers keep their precision: the provider's default would round to 10 bits of mantissa.
///
/// # Errors
/// The library's message: it was built without the provider, or cannot load it.
pub(crate) fn append(builder: &mut SessionBuilder, target: Target) -> Result<(), Reason> {
    let text = |value: String| CString::new(value).map_err(|error| error.to_string());
    let Target { ordinal, stream, rules } = target;
    let mut pairs = vec![
        (c"device_id", text(ordinal.to_string())?),
        (c"cudnn_conv_algo_search", rules.word().to_owned()),
        (c"use_tf32", text("0".to_owned())?),
    ];
    if let Some(stream) = stream {
        pairs.push((c"has_user_compute_stream", text("1".to_owned())?));
        pairs.push((c"user_compute_stream", text(stream.addr().to_string())?));
    }
    let options = Options::new(&pairs)?;
    // SAFETY: wants live session options, which the builder owns, and live provider options.
    raw::check(unsafe {
        (ort::api().SessionOptionsAppendExecutionProvider_CUDA_V2)(builder.ptr_mut(), options.0.as_ptr())
    })
}

/// Nodes that the library runs on the host, by operator with how often: whatever it has no kernel for, and arithmetic
/// on shapes.
///
/// # Safety
/// `session` is live and was told to [`RECORD_ASSIGNMENT`].
pub(crate) unsafe fn on_host(session: *const sys::OrtSession) -> Result<BTreeMap<String, usize>, Reason> {
    let (mut groups, mut count) = (ptr::null(), 0);
    // SAFETY: wants a live session (the caller's promise) and two places.
    raw::check(unsafe {
        (ort::api().Session_GetEpGraphAssignmentInfo)(session, &raw mut groups, &raw mut count)
    })?;
    let mut found = BTreeMap::new();
    // SAFETY: `list` wants an array of so many handles that lives while it is used: the session owns it.
    for &group in unsafe { list(groups, count) } {
        let mut name = ptr::null();
        // SAFETY: wants a live group, of the session's, and a place for its name.
        raw::check(unsafe { (ort::api().EpAssignedSubgraph_GetEpName)(group, &raw mut name) })?;
        // SAFETY: `text` wants null or a string that ends and lives while it is copied: the session owns it.
        if unsafe { text(name) } == HOST_PROVIDER {
            // SAFETY: `operators` wants a live group.
            for operator in unsafe { operators(group) }? {
                *found.entry(operator).or_insert(0) += 1;
            }
        }
    }
    Ok(found)
}

/// The operators of a group's nodes.
///
/// # Safety
/// `group` is live.
unsafe fn operators(group: *const sys::OrtEpAssignedSubgraph) -> Result<Vec<String>, Reason> {
    let (mut nodes, mut count) = (ptr::null(), 0);
    // SAFETY: wants a live group (the caller's promise) and two places.
    raw::check(unsafe { (ort::api().EpAssignedSubgraph_GetNodes)(group, &raw mut nodes, &raw mut count) })?;
    let mut operators = Vec::with_capacity(count);
    // SAFETY: `list` wants an array of so many handles that lives while it is used: the group owns it.
    for &node in unsafe { list(nodes, count) } {
        let mut name = ptr::null();
        // SAFETY: wants a live node, of the group's, and a place for its operator.
        raw::check(unsafe { (ort::api().EpAssignedNode_GetOperatorType)(node, &raw mut name) })?;
        // SAFETY: `text` wants null or a string that ends and lives while it is copied: the node owns it.
        operators.push(unsafe { text(name) });
    }
    Ok(operators)
}

/// An array of the library's as a slice.
///
/// # Safety
/// `start` is null, or the start of `count` handles that live as long as the slice is used.
unsafe fn list<'a, T>(start: *const *const T, count: usize) -> &'a [*const T] {
    if start.is_null() || count == 0 {
        return &[];
    }
    // SAFETY: `from_raw_parts` wants what the caller promises.
    unsafe { std::slice::from_raw_parts(start, count) }
}

/// A copy of a string of the library's.
///
/// # Safety
/// `start` is null, or a string that ends and lives for the call.
unsafe fn text(start: *const c_char) -> String {
    if start.is_null() {
        return String::new();
    }
    // SAFETY: `from_ptr` wants what the caller promises.
    unsafe { CStr::from_ptr(start) }.to_string_lossy().into_owned()
}
