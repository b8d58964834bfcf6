// Generated from crates/aegis-backend-trt/src/shim/shim.h by `cargo xtask bindgen`: change that file, not this one.

pub const SHIM_AXES: _bindgen_ty_1 = 8;
pub const SHIM_ERRORS: _bindgen_ty_1 = 8;
pub const SHIM_ERROR_TEXT: _bindgen_ty_1 = 256;
pub type _bindgen_ty_1 = ::core::ffi::c_uint;
#[repr(C)]
#[derive(Debug)]
pub struct ShimLogger {
    _unused: [u8; 0],
}
#[repr(C)]
#[derive(Debug)]
pub struct ShimRuntime {
    _unused: [u8; 0],
}
#[repr(C)]
#[derive(Debug)]
pub struct ShimEngine {
    _unused: [u8; 0],
}
#[repr(C)]
#[derive(Debug)]
pub struct ShimContext {
    _unused: [u8; 0],
}
pub type ShimLog = ::core::option::Option<
    unsafe extern "C" fn(owner: *mut ::core::ffi::c_void, severity: i32, message: *const ::core::ffi::c_char),
>;
pub type ShimCreate = ::core::option::Option<
    unsafe extern "C" fn(logger: *mut ::core::ffi::c_void, version: i32) -> *mut ::core::ffi::c_void,
>;
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct ShimMemory {
    pub owner: *mut ::core::ffi::c_void,
    pub allocate: ::core::option::Option<
        unsafe extern "C" fn(
            owner: *mut ::core::ffi::c_void,
            bytes: u64,
            alignment: u64,
        ) -> *mut ::core::ffi::c_void,
    >,
    pub deallocate: ::core::option::Option<
        unsafe extern "C" fn(owner: *mut ::core::ffi::c_void, memory: *mut ::core::ffi::c_void) -> i32,
    >,
}
const _: () = {
    ["Size of ShimMemory"][::core::mem::size_of::<ShimMemory>() - 24usize];
    ["Alignment of ShimMemory"][::core::mem::align_of::<ShimMemory>() - 8usize];
    ["Offset of field: ShimMemory::owner"][::core::mem::offset_of!(ShimMemory, owner) - 0usize];
    ["Offset of field: ShimMemory::allocate"][::core::mem::offset_of!(ShimMemory, allocate) - 8usize];
    ["Offset of field: ShimMemory::deallocate"][::core::mem::offset_of!(ShimMemory, deallocate) - 16usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct ShimShape {
    pub rank: i32,
    pub axes: [i64; 8usize],
}
const _: () = {
    ["Size of ShimShape"][::core::mem::size_of::<ShimShape>() - 72usize];
    ["Alignment of ShimShape"][::core::mem::align_of::<ShimShape>() - 8usize];
    ["Offset of field: ShimShape::rank"][::core::mem::offset_of!(ShimShape, rank) - 0usize];
    ["Offset of field: ShimShape::axes"][::core::mem::offset_of!(ShimShape, axes) - 8usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct ShimTensor {
    pub name: *const ::core::ffi::c_char,
    pub element: i32,
    pub mode: i32,
    pub on_host: i32,
    pub linear: i32,
    pub format: *const ::core::ffi::c_char,
    pub shape: ShimShape,
}
const _: () = {
    ["Size of ShimTensor"][::core::mem::size_of::<ShimTensor>() - 104usize];
    ["Alignment of ShimTensor"][::core::mem::align_of::<ShimTensor>() - 8usize];
    ["Offset of field: ShimTensor::name"][::core::mem::offset_of!(ShimTensor, name) - 0usize];
    ["Offset of field: ShimTensor::element"][::core::mem::offset_of!(ShimTensor, element) - 8usize];
    ["Offset of field: ShimTensor::mode"][::core::mem::offset_of!(ShimTensor, mode) - 12usize];
    ["Offset of field: ShimTensor::on_host"][::core::mem::offset_of!(ShimTensor, on_host) - 16usize];
    ["Offset of field: ShimTensor::linear"][::core::mem::offset_of!(ShimTensor, linear) - 20usize];
    ["Offset of field: ShimTensor::format"][::core::mem::offset_of!(ShimTensor, format) - 24usize];
    ["Offset of field: ShimTensor::shape"][::core::mem::offset_of!(ShimTensor, shape) - 32usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct ShimError {
    pub code: i32,
    pub text: [::core::ffi::c_char; 256usize],
}
const _: () = {
    ["Size of ShimError"][::core::mem::size_of::<ShimError>() - 260usize];
    ["Alignment of ShimError"][::core::mem::align_of::<ShimError>() - 4usize];
    ["Offset of field: ShimError::code"][::core::mem::offset_of!(ShimError, code) - 0usize];
    ["Offset of field: ShimError::text"][::core::mem::offset_of!(ShimError, text) - 4usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct ShimTable {
    pub headers: i32,
    pub oldest: i32,
    pub logger_new: ::core::option::Option<
        unsafe extern "C" fn(log: ShimLog, owner: *mut ::core::ffi::c_void) -> *mut ShimLogger,
    >,
    pub runtime_new: ::core::option::Option<
        unsafe extern "C" fn(
            create: ShimCreate,
            version: i32,
            logger: *mut ShimLogger,
            memory: *const ShimMemory,
            returned: *mut u64,
        ) -> *mut ShimRuntime,
    >,
    pub runtime_delete: ::core::option::Option<unsafe extern "C" fn(runtime: *mut ShimRuntime)>,
    pub runtime_error: ::core::option::Option<
        unsafe extern "C" fn(runtime: *mut ShimRuntime, number: i32, error: *mut ShimError) -> i32,
    >,
    pub runtime_lost: ::core::option::Option<unsafe extern "C" fn(runtime: *mut ShimRuntime) -> i32>,
    pub runtime_forget: ::core::option::Option<unsafe extern "C" fn(runtime: *mut ShimRuntime)>,
    pub engine_new: ::core::option::Option<
        unsafe extern "C" fn(
            runtime: *mut ShimRuntime,
            plan: *const ::core::ffi::c_void,
            bytes: u64,
        ) -> *mut ShimEngine,
    >,
    pub engine_delete: ::core::option::Option<unsafe extern "C" fn(engine: *mut ShimEngine)>,
    pub engine_layers: ::core::option::Option<unsafe extern "C" fn(engine: *const ShimEngine) -> i32>,
    pub engine_streams: ::core::option::Option<unsafe extern "C" fn(engine: *const ShimEngine) -> i32>,
    pub engine_profiles: ::core::option::Option<unsafe extern "C" fn(engine: *const ShimEngine) -> i32>,
    pub engine_tensors: ::core::option::Option<unsafe extern "C" fn(engine: *const ShimEngine) -> i32>,
    pub engine_tensor: ::core::option::Option<
        unsafe extern "C" fn(engine: *const ShimEngine, number: i32, tensor: *mut ShimTensor) -> i32,
    >,
    pub engine_limit: ::core::option::Option<
        unsafe extern "C" fn(
            engine: *const ShimEngine,
            name: *const ::core::ffi::c_char,
            profile: i32,
            which: i32,
            shape: *mut ShimShape,
        ),
    >,
    pub context_new: ::core::option::Option<
        unsafe extern "C" fn(runtime: *mut ShimRuntime, engine: *mut ShimEngine) -> *mut ShimContext,
    >,
    pub context_delete: ::core::option::Option<unsafe extern "C" fn(context: *mut ShimContext)>,
    pub context_profile: ::core::option::Option<
        unsafe extern "C" fn(
            context: *mut ShimContext,
            profile: i32,
            stream: *mut ::core::ffi::c_void,
        ) -> i32,
    >,
    pub context_shape: ::core::option::Option<
        unsafe extern "C" fn(
            context: *mut ShimContext,
            name: *const ::core::ffi::c_char,
            shape: *const ShimShape,
        ) -> i32,
    >,
    pub context_infer: ::core::option::Option<unsafe extern "C" fn(context: *mut ShimContext) -> i32>,
    pub context_inferred: ::core::option::Option<
        unsafe extern "C" fn(
            context: *const ShimContext,
            name: *const ::core::ffi::c_char,
            shape: *mut ShimShape,
        ),
    >,
    pub context_scratch_bytes: ::core::option::Option<
        unsafe extern "C" fn(context: *mut ShimContext, engine: *const ShimEngine) -> i64,
    >,
    pub context_scratch: ::core::option::Option<
        unsafe extern "C" fn(context: *mut ShimContext, memory: *mut ::core::ffi::c_void, bytes: i64),
    >,
    pub context_address: ::core::option::Option<
        unsafe extern "C" fn(
            context: *mut ShimContext,
            name: *const ::core::ffi::c_char,
            memory: *mut ::core::ffi::c_void,
        ) -> i32,
    >,
    pub context_enqueue: ::core::option::Option<
        unsafe extern "C" fn(context: *mut ShimContext, stream: *mut ::core::ffi::c_void) -> i32,
    >,
}
const _: () = {
    ["Size of ShimTable"][::core::mem::size_of::<ShimTable>() - 200usize];
    ["Alignment of ShimTable"][::core::mem::align_of::<ShimTable>() - 8usize];
    ["Offset of field: ShimTable::headers"][::core::mem::offset_of!(ShimTable, headers) - 0usize];
    ["Offset of field: ShimTable::oldest"][::core::mem::offset_of!(ShimTable, oldest) - 4usize];
    ["Offset of field: ShimTable::logger_new"][::core::mem::offset_of!(ShimTable, logger_new) - 8usize];
    ["Offset of field: ShimTable::runtime_new"][::core::mem::offset_of!(ShimTable, runtime_new) - 16usize];
    ["Offset of field: ShimTable::runtime_delete"]
        [::core::mem::offset_of!(ShimTable, runtime_delete) - 24usize];
    ["Offset of field: ShimTable::runtime_error"]
        [::core::mem::offset_of!(ShimTable, runtime_error) - 32usize];
    ["Offset of field: ShimTable::runtime_lost"][::core::mem::offset_of!(ShimTable, runtime_lost) - 40usize];
    ["Offset of field: ShimTable::runtime_forget"]
        [::core::mem::offset_of!(ShimTable, runtime_forget) - 48usize];
    ["Offset of field: ShimTable::engine_new"][::core::mem::offset_of!(ShimTable, engine_new) - 56usize];
    ["Offset of field: ShimTable::engine_delete"]
        [::core::mem::offset_of!(ShimTable, engine_delete) - 64usize];
    ["Offset of field: ShimTable::engine_layers"]
        [::core::mem::offset_of!(ShimTable, engine_layers) - 72usize];
    ["Offset of field: ShimTable::engine_streams"]
        [::core::mem::offset_of!(ShimTable, engine_streams) - 80usize];
    ["Offset of field: ShimTable::engine_profiles"]
        [::core::mem::offset_of!(ShimTable, engine_profiles) - 88usize];
    ["Offset of field: ShimTable::engine_tensors"]
        [::core::mem::offset_of!(ShimTable, engine_tensors) - 96usize];
    ["Offset of field: ShimTable::engine_tensor"]
        [::core::mem::offset_of!(ShimTable, engine_tensor) - 104usize];
    ["Offset of field: ShimTable::engine_limit"][::core::mem::offset_of!(ShimTable, engine_limit) - 112usize];
    ["Offset of field: ShimTable::context_new"][::core::mem::offset_of!(ShimTable, context_new) - 120usize];
    ["Offset of field: ShimTable::context_delete"]
        [::core::mem::offset_of!(ShimTable, context_delete) - 128usize];
    ["Offset of field: ShimTable::context_profile"]
        [::core::mem::offset_of!(ShimTable, context_profile) - 136usize];
    ["Offset of field: ShimTable::context_shape"]
        [::core::mem::offset_of!(ShimTable, context_shape) - 144usize];
    ["Offset of field: ShimTable::context_infer"]
        [::core::mem::offset_of!(ShimTable, context_infer) - 152usize];
    ["Offset of field: ShimTable::context_inferred"]
        [::core::mem::offset_of!(ShimTable, context_inferred) - 160usize];
    ["Offset of field: ShimTable::context_scratch_bytes"]
        [::core::mem::offset_of!(ShimTable, context_scratch_bytes) - 168usize];
    ["Offset of field: ShimTable::context_scratch"]
        [::core::mem::offset_of!(ShimTable, context_scratch) - 176usize];
    ["Offset of field: ShimTable::context_address"]
        [::core::mem::offset_of!(ShimTable, context_address) - 184usize];
    ["Offset of field: ShimTable::context_enqueue"]
        [::core::mem::offset_of!(ShimTable, context_enqueue) - 192usize];
};
// SAFETY: the declaration is the header's; the function takes nothing and returns a constant's address.
unsafe extern "C" {
    pub fn aegis_trt_table_8() -> *const ShimTable;
}
// SAFETY: the declaration is the header's; the function takes nothing and returns a constant's address.
unsafe extern "C" {
    pub fn aegis_trt_table_10() -> *const ShimTable;
}
// SAFETY: the declaration is the header's; the function takes nothing and returns a constant's address.
unsafe extern "C" {
    pub fn aegis_trt_table_11() -> *const ShimTable;
}
