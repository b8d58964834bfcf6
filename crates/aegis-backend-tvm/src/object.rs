//! Counted objects of the vendor, owned: functions, modules, tensors and errors.

use std::ffi::{CStr, c_void};
use std::marker::PhantomData;
use std::ptr::{self, NonNull};

use crate::abi::{self, Any, ArrayObject, ByteArray, ErrorObject, Header, StringObject, TensorObject, kind};
use crate::api::{Api, Reason};

/// A reference to an object of the vendor; given back when dropped.
pub(crate) struct Object {
    api: &'static Api,
    raw: NonNull<Header>,
}

impl Object {
    /// Takes over one strong reference; `None` for null.
    ///
    /// # Safety
    /// `raw` is null or an object of which the caller owns a strong reference.
    pub(crate) unsafe fn take(api: &'static Api, raw: *mut c_void) -> Option<Self> {
        NonNull::new(raw.cast::<Header>()).map(|raw| Self { api, raw })
    }

    /// The object as an argument.
    pub(crate) fn as_argument(&self) -> Argument<'_> {
        Argument { any: self.as_any(), alive: PhantomData }
    }

    /// The object as a value that the caller keeps alive.
    pub(crate) fn as_any(&self) -> Any {
        Any::pointer(self.kind(), self.raw.as_ptr().cast())
    }

    fn kind(&self) -> i32 {
        // SAFETY: wants a live object: this one, of which a reference is held.
        unsafe { (*self.raw.as_ptr()).kind }
    }

    /// Calls a function object.
    ///
    /// # Errors
    /// The vendor's message, also if the object is no function.
    pub(crate) fn call(&self, arguments: &[Argument<'_>]) -> Result<Value, Reason> {
        let mut raw = [Any::NONE; 16];
        let Some(raw) = raw.get_mut(..arguments.len()) else {
            return Err(format!("{} arguments; at most 16 are passed this way", arguments.len()));
        };
        for (raw, argument) in raw.iter_mut().zip(arguments) {
            *raw = argument.any;
        }
        // SAFETY: `call_raw` wants live arguments: each `Argument` borrows what it points to.
        unsafe { self.call_raw(raw) }
    }

    /// Calls a function object with values prepared beforehand.
    ///
    /// # Safety
    /// Whatever the arguments point to is alive.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub(crate) unsafe fn call_raw(&self, arguments: &[Any]) -> Result<Value, Reason> {
        if self.kind() != kind::FUNCTION {
            return Err("what is called is not a function".to_owned());
        }
        let mut result = Any::NONE;
        let count = i32::try_from(arguments.len()).map_err(|_| "too many arguments".to_owned())?;
        // SAFETY: wants a live function (checked above), arguments that the caller answers for, and a result that
        //  holds no object yet.
        let code = unsafe {
            (self.api.function_call)(self.raw.as_ptr().cast(), arguments.as_ptr(), count, &raw mut result)
        };
        if code != 0 {
            return Err(raised(self.api));
        }
        // SAFETY: a call that ended well hands its result over, with a reference if it is an object.
        Ok(unsafe { Value::take(self.api, result) })
    }

    /// The text of a string object; `None` for anything else.
    pub(crate) fn text(&self) -> Option<String> {
        if self.kind() != kind::STRING {
            return None;
        }
        // SAFETY: wants a live string object: this one, whose kind was just looked at.
        let bytes = unsafe { (*self.raw.as_ptr().cast::<StringObject>()).bytes };
        // SAFETY: wants bytes that live meanwhile: they are the object's own.
        Some(unsafe { text(bytes) })
    }

    /// The tensors of a result: itself, or what it is an array of; `None` if it is anything else.
    pub(crate) fn tensors(&self) -> Option<Vec<Lies>> {
        match self.kind() {
            kind::TENSOR => {
                // SAFETY: wants a live tensor object: this one, whose kind was just looked at.
                Some(vec![unsafe { Lies::of(self.raw.as_ptr().cast()) }])
            }
            kind::ARRAY => {
                let array = self.raw.as_ptr().cast::<ArrayObject>();
                // SAFETY: wants a live array object: this one, whose kind was just looked at.
                let array = unsafe { &*array };
                let (data, size) = (array.data, array.size);
                let elements = match usize::try_from(size) {
                    Ok(size) if !data.is_null() => {
                        // SAFETY: wants `size` initialised values that are not written meanwhile: arrays that a call
                        //  returned are never changed, and live as long as the object.
                        unsafe { std::slice::from_raw_parts(data, size) }
                    }
                    _ => &[],
                };
                elements.iter().map(Lies::of_value).collect()
            }
            _ => None,
        }
    }
}

/// Where a tensor of a result lies, and how many bytes it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lies {
    pub(crate) address: u64,
    pub(crate) bytes: u64,
}

impl Lies {
    fn of_value(value: &Any) -> Option<Self> {
        if value.kind != kind::TENSOR {
            return None;
        }
        // SAFETY: the kind says that the payload points to an object.
        let object = unsafe { value.payload.pointer };
        // SAFETY: wants a live tensor object: the array that holds the value keeps it alive.
        Some(unsafe { Self::of(object.cast()) })
    }

    /// # Safety
    /// `object` is a live tensor object.
    unsafe fn of(object: *const TensorObject) -> Self {
        // SAFETY: the caller's promise.
        let tensor = unsafe { &(*object).tensor };
        let axes = usize::try_from(tensor.dimensions).unwrap_or(0);
        let shape: &[i64] = if axes == 0 {
            &[]
        } else {
            // SAFETY: wants so many lengths, alive as long as the tensor: the vendor keeps them beside it.
            unsafe { std::slice::from_raw_parts(tensor.shape, axes) }
        };
        let bits = u64::from(tensor.data_type.bits) * u64::from(tensor.data_type.lanes);
        let elements = shape.iter().fold(1_u64, |product, &axis| product.saturating_mul(axis.unsigned_abs()));
        Self {
            address: (tensor.data.addr() as u64).saturating_add(tensor.byte_offset),
            bytes: elements.saturating_mul(bits).div_ceil(8),
        }
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        // SAFETY: wants a live object, of which one reference is given back: the one that was taken over. The code
        //  it returns tells nothing that could be acted upon.
        let _released = unsafe { (self.api.object_dec_ref)(self.raw.as_ptr().cast()) };
    }
}

/// What a call returned.
pub(crate) enum Value {
    /// Nothing, or a number nobody asked for.
    Plain,
    /// An object.
    Object(Object),
}

impl Value {
    /// # Safety
    /// `any` is a value that the caller owns.
    unsafe fn take(api: &'static Api, any: Any) -> Self {
        if any.kind < kind::FIRST_OBJECT {
            return Self::Plain;
        }
        // SAFETY: the kind says which field was written.
        let pointer = unsafe { any.payload.pointer };
        // SAFETY: the pointer is one to an object, and the caller owns the reference.
        match unsafe { Object::take(api, pointer) } {
            Some(object) => Self::Object(object),
            None => Self::Plain,
        }
    }

    /// The object, or what was expected instead.
    pub(crate) fn object(self, what: &str) -> Result<Object, Reason> {
        match self {
            Self::Object(object) => Ok(object),
            Self::Plain => Err(format!("there is no {what}")),
        }
    }
}

/// An argument, alive for `'a`.
#[derive(Clone, Copy)]
pub(crate) struct Argument<'a> {
    any: Any,
    alive: PhantomData<&'a ()>,
}

impl<'a> Argument<'a> {
    /// The value, which lives as long as the argument.
    pub(crate) const fn as_any(&self) -> Any {
        self.any
    }

    pub(crate) const fn int(value: i64) -> Self {
        Self { any: Any::int(value), alive: PhantomData }
    }

    pub(crate) const fn text(text: &'a CStr) -> Self {
        Self { any: Any::pointer(kind::RAW_STRING, text.as_ptr().cast_mut().cast()), alive: PhantomData }
    }

    pub(crate) const fn data_type(data_type: abi::DataType) -> Self {
        let payload = abi::Payload { data_type };
        Self { any: Any { kind: kind::DATA_TYPE, small: 0, payload }, alive: PhantomData }
    }
}

/// A function of the vendor's table, by name.
///
/// # Errors
/// The name, if the library has no such function.
pub(crate) fn global(api: &'static Api, name: &str) -> Result<Object, Reason> {
    let mut found = abi::no_object();
    let key = ByteArray::of(name.as_bytes());
    // SAFETY: wants a name that lives during the call, and a place for the object.
    let code = unsafe { (api.function_get_global)(&raw const key, &raw mut found) };
    if code != 0 {
        return Err(raised(api));
    }
    // SAFETY: the library hands over a reference, or null where it has no such function.
    unsafe { Object::take(api, found) }.ok_or_else(|| format!("this library has no function `{name}`"))
}

/// The message of the error that a call raised on this thread, on one line.
pub(crate) fn raised(api: &'static Api) -> Reason {
    let mut error = abi::no_object();
    // SAFETY: wants a place for the object, which becomes the caller's.
    unsafe { (api.error_move_from_raised)(&raw mut error) };
    // SAFETY: the library handed the reference over, or null.
    let Some(error) = (unsafe { Object::take(api, error) }) else {
        return "TVM failed without saying why".to_owned();
    };
    let cell = error.raw.as_ptr().cast::<ErrorObject>();
    // SAFETY: wants a live error object: the one just taken over.
    let cell = unsafe { &*cell };
    // SAFETY: `text` wants bytes that live meanwhile: they are the error object's own.
    let kind = unsafe { text(cell.kind) };
    // SAFETY: as above.
    let message = unsafe { text(cell.message) };
    one_line(&format!("{kind}: {message}"))
}

/// Raises an error on this thread, for the vendor to find when a callback of ours failed.
pub(crate) fn raise(api: &'static Api, message: &CStr) {
    // SAFETY: wants two texts that live during the call.
    unsafe { (api.error_set_raised)(c"RuntimeError".as_ptr(), message.as_ptr()) }
}

/// # Safety
/// The bytes are alive, or there are none.
pub(crate) unsafe fn text(bytes: ByteArray) -> String {
    if bytes.data.is_null() {
        return String::new();
    }
    // SAFETY: wants so many initialised bytes, which the caller answers for.
    let bytes = unsafe { std::slice::from_raw_parts(bytes.data.cast::<u8>(), bytes.size) };
    String::from_utf8_lossy(bytes).into_owned()
}

/// A message without line breaks, and without what a compiler would print in full.
pub(crate) fn one_line(message: &str) -> Reason {
    const LONGEST: usize = 400;
    let words = message.split_whitespace().collect::<Vec<_>>().join(" ");
    match words.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &words[..end]),
        None => words,
    }
}

/// Registers `function` under `name`, in the place of what the library has there.
///
/// # Errors
/// The vendor's message.
pub(crate) fn set_global(api: &'static Api, name: &str, function: &Object) -> Result<(), Reason> {
    let key = ByteArray::of(name.as_bytes());
    // SAFETY: wants a name that lives during the call and a live function, of which the table takes its own reference.
    let code = unsafe { (api.function_set_global)(&raw const key, function.raw.as_ptr().cast(), 1) };
    if code == 0 { Ok(()) } else { Err(raised(api)) }
}

/// A function object around a callback of ours with a context that lives for ever.
///
/// # Errors
/// The vendor's message.
pub(crate) fn make_function<T>(
    api: &'static Api,
    context: &'static T,
    callback: abi::SafeCall,
) -> Result<Object, Reason> {
    let mut made = abi::no_object();
    let context = ptr::from_ref(context).cast_mut().cast::<c_void>();
    // SAFETY: wants a callback that accepts the context, which the callers in this crate pair up, for as long as the
    //  function exists: it is never freed.
    let code = unsafe { (api.function_create)(context, callback, None, &raw mut made) };
    if code != 0 {
        return Err(raised(api));
    }
    // SAFETY: the library handed the reference over.
    unsafe { Object::take(api, made) }.ok_or_else(|| "TVM made no function".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_one_line_and_bounded() {
        assert_eq!(one_line("a\n  b\tc "), "a b c");
        assert_eq!(one_line(&"word ".repeat(500)).chars().count(), 403);
    }
}
