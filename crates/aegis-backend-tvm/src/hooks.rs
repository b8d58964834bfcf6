//! What the vendor's library calls instead of its own: memory, threads, and the compiler of GPU kernels.
//!
//! Three doors lead to memory while a module runs, and all three end in the [`Charge`](crate::charge::Charge) of the
//! model at work: storage of tensors (`vm.builtin.alloc_storage`, a function of the table), and temporaries inside of
//! kernels (`TVMBackendAllocWorkspace` and its counterpart, addresses that a module gets when it is loaded). Loops that
//! a kernel would share between threads run on the calling thread alone (`TVMBackendParallelLaunch`): the vendor's
//! threads would leave the lane's cores.

use std::ffi::{CStr, c_void};
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

use crate::abi::{self, Any, DataType, ParallelBody, ParallelGroup, ShapeObject, kind};
use crate::api::{Api, Reason};
use crate::charge::{self, Refusal};
use crate::object::{self, Object, make_function, raise, raised, set_global};

/// The function that makes storage.
const ALLOC_STORAGE: &str = "vm.builtin.alloc_storage";
/// Marks a process whose functions were replaced.
const MARK: &str = "aegis.tvm.hooks";
/// The vendor's own alignment of temporaries.
const WORKSPACE_ALIGNMENT: usize = 64;

/// What the callbacks stand on. It lives for ever, like the table that refers to it.
pub(crate) struct Hooks {
    pub(crate) api: &'static Api,
    /// The vendor's kind of storage objects.
    pub(crate) storage_kind: i32,
    /// What stood in the table before.
    original: Object,
    uncharged: AtomicU64,
}

// SAFETY: `Send` and `Sync` want accesses from several threads to be free of races: functions of the vendor's table
//  may be called from any thread, their references are counted atomically, and the counter is atomic.
unsafe impl Send for Hooks {}
// SAFETY: as for `Send`, above.
unsafe impl Sync for Hooks {}

impl Hooks {
    /// Replaces the vendor's functions by ours, once in the life of the process.
    ///
    /// # Errors
    /// The vendor's message, or that it was done before.
    pub(crate) fn install(api: &'static Api) -> Result<&'static Self, Reason> {
        if object::global(api, MARK).is_ok() {
            return Err("this process has loaded TVM before; hand the first one on".to_owned());
        }
        let original = object::global(api, ALLOC_STORAGE)?;
        let hooks = Self { api, storage_kind: storage_kind(api)?, original, uncharged: AtomicU64::new(0) };
        // Leaked on purpose: the table refers to it until the process ends.
        let hooks: &'static Self = Box::leak(Box::new(hooks));
        let ours = make_function(api, hooks, alloc_storage)?;
        set_global(api, ALLOC_STORAGE, &ours)?;
        set_global(api, MARK, &ours)?;
        // A module takes the last address that was registered under a name.
        register(api, c"__TVMBackendAllocWorkspace", alloc_workspace as *const () as *mut c_void)?;
        register(api, c"__TVMBackendFreeWorkspace", free_workspace as *const () as *mut c_void)?;
        register(api, c"__TVMBackendParallelLaunch", parallel_launch as *const () as *mut c_void)?;
        Ok(hooks)
    }

    /// Storage that was asked for while no model was at work on the thread, and that the vendor made itself.
    pub(crate) fn uncharged(&self) -> u64 {
        self.uncharged.load(Ordering::Relaxed)
    }
}

fn storage_kind(api: &'static Api) -> Result<i32, Reason> {
    let mut index = 0;
    let key = abi::ByteArray::of(b"vm.Storage");
    // SAFETY: wants a name that lives during the call and a place for the number.
    let code = unsafe { (api.type_key_to_index)(&raw const key, &raw mut index) };
    if code == 0 { Ok(index) } else { Err(raised(api)) }
}

fn register(api: &'static Api, name: &CStr, address: *mut c_void) -> Result<(), Reason> {
    // SAFETY: wants a name that lives during the call, and an address that is good for ever: that of a function here,
    //  with the signature that the vendor's header declares for the name.
    let code = unsafe { (api.register_context_symbol)(name.as_ptr(), address) };
    if code == 0 { Ok(()) } else { Err(raised(api)) }
}

/// `vm.builtin.alloc_storage(machine, shape, device, type, scope)`.
unsafe extern "C" fn alloc_storage(
    context: *mut c_void,
    arguments: *const Any,
    count: i32,
    result: *mut Any,
) -> i32 {
    // SAFETY: wants the context that the function was made with: a `Hooks` that lives for ever.
    let hooks = unsafe { &*context.cast::<Hooks>() };
    let Some(charge) = charge::current() else {
        hooks.uncharged.fetch_add(1, Ordering::Relaxed);
        // SAFETY: wants what this function was given.
        return unsafe { call_original(hooks, arguments, count, result) };
    };
    // SAFETY: wants a live charge that nothing mutates: its scope lives until after the call that led here, and all
    //  of its state is in cells.
    let charge = unsafe { charge.as_ref() };
    let count = usize::try_from(count).unwrap_or(0);
    // SAFETY: wants `count` live values: the vendor's arguments.
    let arguments = unsafe { std::slice::from_raw_parts(arguments, count) };
    // SAFETY: wants the vendor's arguments, alive.
    let bytes = match unsafe { storage_bytes(arguments, charge.processor().device().kind) } {
        Ok(bytes) => bytes,
        Err(reason) => {
            charge.refuse(Refusal::Unexpected(reason));
            raise(hooks.api, c"this storage cannot be served");
            return -1;
        }
    };
    match charge.take_storage(bytes) {
        Some(storage) => {
            let made = Any::pointer(hooks.storage_kind, storage.as_ptr().cast());
            // SAFETY: wants a place for the result, which holds no object yet by the vendor's convention.
            unsafe { result.write(made) };
            0
        }
        None => {
            raise(hooks.api, c"the memory budget of the task is exceeded");
            -1
        }
    }
}

/// # Safety
/// The arguments are those of `alloc_storage`.
unsafe fn call_original(hooks: &Hooks, arguments: *const Any, count: i32, result: *mut Any) -> i32 {
    // SAFETY: wants a live object.
    let function = unsafe { hooks.original.as_any().payload.pointer };
    // SAFETY: wants a live function and the arguments of a call, which the vendor made.
    unsafe { (hooks.api.function_call)(function, arguments, count, result) }
}

/// How many bytes are asked for.
///
/// # Safety
/// The arguments are the vendor's, alive.
unsafe fn storage_bytes(arguments: &[Any], processor: i32) -> Result<u64, Reason> {
    let [_machine, shape, device, data_type, scope] = arguments else {
        return Err(format!("storage is asked for with {} arguments; TVM 0.27 passes 5", arguments.len()));
    };
    if shape.kind != kind::SHAPE || device.kind != kind::INT || data_type.kind != kind::DATA_TYPE {
        return Err("storage is asked for with arguments that TVM 0.27 does not pass".to_owned());
    }
    // SAFETY: the kind says which field was written.
    let device = unsafe { device.payload.int };
    // SAFETY: as above.
    let data_type = unsafe { data_type.payload.data_type };
    // -1 stands for the host, and the first device is the only one that a module is loaded for.
    if device != 0 && !(device == -1 && processor == abi::CPU) {
        return Err(format!("the module computes on a second device ({device}); legal is one"));
    }
    // SAFETY: the scope is a live value of the vendor.
    if !unsafe { is_global(scope) } {
        return Err("storage of a scope of its own is asked for; legal is `global`".to_owned());
    }
    // SAFETY: the kind says which field was written.
    let shape = unsafe { shape.payload.pointer }.cast::<ShapeObject>();
    // SAFETY: the kind says that it points to a shape, which the argument keeps alive.
    let shape = unsafe { &*shape };
    let axes: &[i64] = if shape.size == 0 {
        &[]
    } else {
        // SAFETY: wants so many lengths, alive: they are the shape's own.
        unsafe { std::slice::from_raw_parts(shape.data, shape.size) }
    };
    size_of_tensor(axes, data_type).ok_or_else(|| format!("storage of shape {axes:?} cannot be addressed"))
}

fn size_of_tensor(axes: &[i64], data_type: DataType) -> Option<u64> {
    let bits = u64::from(data_type.bits) * u64::from(data_type.lanes);
    let elements =
        axes.iter().try_fold(1_u64, |product, &axis| product.checked_mul(u64::try_from(axis).ok()?))?;
    Some(elements.checked_mul(bits)?.div_ceil(8))
}

/// Whether a scope is the ordinary one. No text is made of it, because this is asked in every run.
///
/// # Safety
/// The value is the vendor's, alive.
unsafe fn is_global(scope: &Any) -> bool {
    let is = |bytes: &[u8]| bytes.is_empty() || bytes == b"global";
    match scope.kind {
        kind::SMALL_STRING => {
            // SAFETY: the kind says which field was written.
            let bytes = unsafe { scope.payload.text };
            let length = usize::try_from(scope.small).unwrap_or(0).min(bytes.len());
            is(&bytes[..length])
        }
        kind::STRING => {
            // SAFETY: the kind says which field was written.
            let string = unsafe { scope.payload.pointer }.cast::<abi::StringObject>();
            // SAFETY: the kind says that it points to a live string object.
            let bytes = unsafe { (*string).bytes };
            if bytes.size == 0 {
                return true;
            }
            // SAFETY: wants so many bytes, alive: they are the string's own.
            is(unsafe { std::slice::from_raw_parts(bytes.data.cast::<u8>(), bytes.size) })
        }
        _ => false,
    }
}

/// Memory for a temporary inside of a kernel; null with an error raised.
unsafe extern "C" fn alloc_workspace(
    device: i32,
    _id: i32,
    bytes: u64,
    _code: i32,
    _bits: i32,
) -> *mut c_void {
    let Some(charge) = charge::current() else {
        // SAFETY: `aligned_alloc` wants an alignment that is a power of two and a size that is a multiple of it.
        return unsafe { libc::aligned_alloc(WORKSPACE_ALIGNMENT, round_up(bytes)) };
    };
    // SAFETY: wants a live charge that nothing mutates, as in `alloc_storage`.
    let charge = unsafe { charge.as_ref() };
    let here = device == charge.processor().device().kind;
    if !here {
        charge.refuse(Refusal::Unexpected(
            "a kernel asks for temporaries on another device than the model's".to_owned(),
        ));
    }
    let address = if here { charge.take(bytes) } else { None };
    let Some(address) = address.and_then(|address| usize::try_from(address).ok()) else {
        raise(charge.api(), c"temporaries of a kernel cannot be served");
        return ptr::null_mut();
    };
    ptr::with_exposed_provenance_mut(address)
}

fn round_up(bytes: u64) -> usize {
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    bytes.max(1).checked_next_multiple_of(WORKSPACE_ALIGNMENT).unwrap_or(usize::MAX)
}

unsafe extern "C" fn free_workspace(_device: i32, _id: i32, address: *mut c_void) -> i32 {
    match charge::current() {
        Some(charge) => {
            // SAFETY: wants a live charge that nothing mutates, as in `alloc_storage`.
            unsafe { charge.as_ref() }.give_back(address.addr() as u64);
        }
        // A kernel gives back what it took on the same thread in the same call, so this came from the allocator.
        // SAFETY: wants an address that the allocator gave, or null.
        None => unsafe { libc::free(address) },
    }
    0
}

/// Runs the whole loop as one task on the calling thread.
unsafe extern "C" fn parallel_launch(body: ParallelBody, data: *mut c_void, _tasks: i32) -> i32 {
    let mut counter = AtomicI32::new(0);
    let mut group = ParallelGroup { sync: ptr::from_mut(&mut counter).cast(), tasks: 1 };
    // SAFETY: wants the loop's own data, which the vendor passes, and a group of one task that lives during the call.
    unsafe { body(0, &raw mut group, data) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_follow_shape_and_type_and_do_not_wrap() {
        let float = DataType { code: 2, bits: 32, lanes: 1 };
        assert_eq!(size_of_tensor(&[2, 3], float), Some(24));
        assert_eq!(size_of_tensor(&[], float), Some(4));
        assert_eq!(size_of_tensor(&[3], DataType { code: 1, bits: 1, lanes: 1 }), Some(1));
        assert_eq!(size_of_tensor(&[-1], float), None);
        assert_eq!(size_of_tensor(&[i64::MAX, 2], float), None);
    }

    #[test]
    fn a_shared_loop_runs_once_and_alone() {
        unsafe extern "C" fn body(task: i32, group: *mut ParallelGroup, data: *mut c_void) -> i32 {
            // SAFETY: the group lives during the call.
            let tasks = unsafe { (*group).tasks };
            // SAFETY: the test passes a number.
            unsafe { data.cast::<i32>().write(10 * task + tasks) };
            7
        }
        let mut seen = -1;
        // SAFETY: wants data that the body knows.
        let code = unsafe { parallel_launch(body, ptr::from_mut(&mut seen).cast(), 8) };
        assert_eq!((code, seen), (7, 1));
    }

    #[test]
    fn temporaries_outside_of_a_model_come_from_the_allocator() {
        // SAFETY: wants nothing else.
        let address = unsafe { alloc_workspace(abi::CPU, 0, 100, 2, 32) };
        assert!(!address.is_null() && address.addr().is_multiple_of(64));
        // SAFETY: the address was just given.
        assert_eq!(unsafe { free_workspace(abi::CPU, 0, address) }, 0);
    }
}
