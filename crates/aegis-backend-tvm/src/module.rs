//! A compiled module in this process: its library opened from memory, its machine set up, its function at hand.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{MemfdFlags, memfd_create};

use crate::abi::{self, Any, Device};
use crate::api::{Api, Reason};
use crate::object::{Argument, Object, Value, global};
use crate::runtime::{c_name, fixed};

/// The vendor's allocator of the machine, "naive". Ours stands before it; it is named because one must be.
const NAIVE: i64 = 1;

/// A module that is ready to run. Fields are dropped in this order: each refers to code of the next.
pub(crate) struct Module {
    main: Object,
    _machine: Object,
    _library: Object,
    /// Open for as long as the library: see [`Module::load`].
    _file: OwnedFd,
}

impl Module {
    /// Loads the shared library `code` and sets up a machine for `device` that runs its function `entry`.
    ///
    /// The library never touches a disk: it is written to an anonymous file in memory and opened through the name that
    /// the process has for it, so there is no folder to choose, nothing to clean up after a crash, and nobody can
    /// change it between writing and opening. The dynamic loader takes a name that it has seen before for the library
    /// that it opened then; the file stays open as long as the library, so that no other gets its name. The vendor's
    /// general loader goes by the ending of a file's name, which this one does not have: the loader of shared
    /// libraries is called by its own name.
    ///
    /// # Errors
    /// Which part of it failed, with the vendor's message.
    pub(crate) fn load(api: &'static Api, code: &[u8], entry: &str, device: Device) -> Result<Self, Reason> {
        let (file, path) = anonymous(code).map_err(|error| format!("no file in memory for it: {error}"))?;
        let path = c_name(&path)?;
        let library = global(api, "ffi.Module.load_from_file.so")?
            .call(&[Argument::text(&path), fixed(c"so")])?
            .object("module")?;
        check_constants(api, &library)?;
        let machine = function(api, &library, "vm_load_executable")?.call(&[])?.object("machine")?;
        let host = Device { kind: abi::CPU, id: 0 };
        let mut devices = Vec::from(setup(device));
        if device != host {
            // The host comes last, because the machine takes the last device for it.
            devices.extend(setup(host));
        }
        function(api, &machine, "vm_initialization")?.call(&devices)?;
        let main = function(api, &machine, entry)?;
        Ok(Self { main, _machine: machine, _library: library, _file: file })
    }

    /// Runs it.
    ///
    /// # Safety
    /// The arguments are tensors as the module wants them, alive, on memory that stays alive until the work is done.
    ///
    /// # Errors
    /// The vendor's message.
    pub(crate) unsafe fn run(&self, arguments: &[Any]) -> Result<Value, Reason> {
        // SAFETY: wants live arguments, which the caller answers for.
        unsafe { self.main.call_raw(arguments) }
    }
}

fn setup(device: Device) -> [Argument<'static>; 3] {
    [Argument::int(device.kind.into()), Argument::int(device.id.into()), Argument::int(NAIVE)]
}

/// A function of a module or of what it imports.
fn function(api: &'static Api, module: &Object, name: &str) -> Result<Object, Reason> {
    let text = c_name(name)?;
    let arguments = [module.as_argument(), Argument::text(&text), Argument::int(1)];
    let found = global(api, "ffi.ModuleGetFunction")?.call(&arguments)?;
    found.object("function").map_err(|_| format!("it has no function `{name}`"))
}

/// Refuses tensors that lie in the module itself: the vendor would put them into memory of its own.
fn check_constants(api: &'static Api, library: &Object) -> Result<(), Reason> {
    let statistics = function(api, library, "stats")?.call(&[])?.object("statistics")?;
    let statistics = statistics.text().ok_or("its statistics are not text")?;
    match constants(&statistics) {
        Some(0) => Ok(()),
        Some(count) => Err(format!(
            "it holds {count} constant tensors, which would lie in memory that is not the task's; legal is a module \
             whose weights are arguments"
        )),
        None => Err("its statistics do not list its constants".to_owned()),
    }
}

/// How many tensors stand in the list of constants, among shapes, types, numbers and texts.
fn constants(statistics: &str) -> Option<usize> {
    let (_, pool) = statistics.split_once("Constant pool")?;
    let (_, pool) = pool.lines().next()?.split_once("): [")?;
    let starts =
        |entry: &str| pool.matches(&format!(", {entry}")).count() + usize::from(pool.starts_with(entry));
    Some(starts("[") + starts("scalar"))
}

fn anonymous(code: &[u8]) -> std::io::Result<(OwnedFd, String)> {
    let mut file = File::from(memfd_create("aegis-module", MemfdFlags::CLOEXEC)?);
    file.write_all(code)?;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok((file.into(), path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_are_counted_among_other_constants() {
        for (pool, count) in [
            ("(# 3): [float32, \"main\", shapetuple[1, 2], ]", 0),
            ("(# 2): [[8, 3], shapetuple[4], [2], ]", 2),
            ("(# 2): [scalar, 5, scalar, ]", 2),
            ("(# 0): [", 0),
        ] {
            let text = format!("Statistics:\n  Constant pool {pool}\n  Globals (#1): [[main]]\n");
            assert_eq!(constants(&text), Some(count), "{pool}");
        }
        assert_eq!(constants("nothing"), None);
    }
}
