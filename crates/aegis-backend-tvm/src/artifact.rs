//! The file that holds a compiled model: a ZIP archive of three parts, stored as they are.
//!
//! | part | what it is |
//! |---|---|
//! | `description.json` | inputs, outputs, parameters, target, operators |
//! | `module.so` | the compiled module, a shared library for the host's processor |
//! | `weights.bin` | every parameter at the offset that the description names |
//!
//! `cargo xtask models --tvm` writes such files. Parts are stored without compression, so that none can be larger than
//! the file itself, and each has a checksum, so that damage is found before any of it is executed.

use std::collections::BTreeMap;
use std::io::{Cursor, Read};

use aegis_cuda::{BackendError, ElementType};
use serde::Deserialize;
use zip::{CompressionMethod, ZipArchive};

/// The layout of the archive that this code reads.
const FORMAT: u32 = 1;
/// Names of the parts.
const DESCRIPTION: &str = "description.json";
const MODULE: &str = "module.so";
const WEIGHTS: &str = "weights.bin";
/// The compiler whose modules are read: the machine's code and the layout of its objects belong to it.
const COMPILER: &str = "0.27.";
/// Alignment of parameters inside of their part.
pub(crate) const WEIGHT_ALIGNMENT: u64 = 256;

/// A compiled model.
pub(crate) struct Artifact {
    pub(crate) description: Description,
    /// The shared library.
    pub(crate) module: Vec<u8>,
    /// The parameters.
    pub(crate) weights: Vec<u8>,
}

/// What the file says of the model.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Description {
    format: u32,
    /// Version of the compiler.
    tvm: String,
    /// The function to call.
    pub(crate) function: String,
    pub(crate) target: Target,
    pub(crate) inputs: Vec<Tensor>,
    pub(crate) outputs: Vec<Tensor>,
    /// Arguments behind the inputs, in order.
    pub(crate) parameters: Vec<Parameter>,
    /// Operators by name with how often they occur.
    pub(crate) operators: BTreeMap<String, u32>,
}

/// What the module was compiled for.
#[derive(Debug, Deserialize, Clone, PartialEq, Eq)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub(crate) enum Target {
    /// The host's processor.
    Cpu {
        /// What it must be able to do, as the compiler names it.
        cpu: String,
    },
    /// A GPU.
    Cuda {
        /// As the compiler names it: `sm_90`.
        arch: String,
        /// Whether the kernels are source text, to be compiled when they are loaded.
        source: bool,
    },
}

/// An input or output.
#[derive(Debug, Deserialize, Clone, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) element: ElementType,
    pub(crate) shape: Vec<u64>,
}

/// A weight.
#[derive(Debug, Deserialize, Clone, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parameter {
    pub(crate) name: String,
    pub(crate) element: ElementType,
    pub(crate) shape: Vec<u64>,
    /// Where it starts in `weights.bin`.
    pub(crate) offset: u64,
}

/// Bytes of a tensor; `None` if they cannot be addressed.
pub(crate) fn bytes_of(element: ElementType, shape: &[u64]) -> Option<u64> {
    let bytes = shape.iter().try_fold(element.size().get(), |size, &length| size.checked_mul(length));
    bytes.filter(|&bytes| i64::try_from(bytes).is_ok())
}

impl Artifact {
    /// Reads a file and checks it as far as that is possible without running it.
    ///
    /// # Errors
    /// [`BackendError::InvalidModel`] naming the part and what is wrong with it.
    pub(crate) fn read(model: &str, file: &[u8]) -> Result<Self, BackendError> {
        let invalid = |reason: String| BackendError::InvalidModel { model: model.to_owned(), reason };
        let mut archive = ZipArchive::new(Cursor::new(file))
            .map_err(|error| invalid(format!("it is not a TVM model of this project: {error}")))?;
        let text = part(&mut archive, DESCRIPTION).map_err(invalid)?;
        let description = Description::read(&text).map_err(invalid)?;
        let module = part(&mut archive, MODULE).map_err(invalid)?;
        check_library(&module).map_err(|reason| invalid(format!("`{MODULE}`: {reason}")))?;
        let weights = part(&mut archive, WEIGHTS).map_err(invalid)?;
        let artifact = Self { description, module, weights };
        artifact.check_parameters().map_err(|reason| invalid(format!("`{WEIGHTS}`: {reason}")))?;
        Ok(artifact)
    }

    /// Every parameter lies inside of its part, aligned as kernels want it.
    fn check_parameters(&self) -> Result<(), String> {
        let whole = self.weights.len() as u64;
        for Parameter { name, element, shape, offset } in &self.description.parameters {
            let bytes = bytes_of(*element, shape).ok_or_else(|| format!("`{name}` is too large"))?;
            let end = offset.checked_add(bytes).filter(|&end| end <= whole);
            if end.is_none() || !offset.is_multiple_of(WEIGHT_ALIGNMENT) {
                return Err(format!(
                    "parameter `{name}` is said to have {bytes} bytes at {offset}; legal is what lies inside of the \
                     {whole} bytes at a multiple of {WEIGHT_ALIGNMENT}"
                ));
            }
        }
        Ok(())
    }
}

impl Description {
    fn read(text: &[u8]) -> Result<Self, String> {
        let read: Self = serde_json::from_slice(text).map_err(|error| format!("`{DESCRIPTION}`: {error}"))?;
        if read.format != FORMAT {
            return Err(format!("`{DESCRIPTION}`: format {}; legal is {FORMAT}", read.format));
        }
        if !read.tvm.starts_with(COMPILER) {
            return Err(format!(
                "`{DESCRIPTION}`: compiled by TVM {}; legal is {COMPILER}x, whose runtime this backend knows",
                read.tvm
            ));
        }
        Ok(read)
    }
}

/// Reads one part, whose checksum is compared on the way.
fn part(archive: &mut ZipArchive<Cursor<&[u8]>>, name: &str) -> Result<Vec<u8>, String> {
    let mut entry = archive.by_name(name).map_err(|error| format!("`{name}`: {error}"))?;
    if entry.compression() != CompressionMethod::Stored {
        return Err(format!("`{name}`: it is compressed; legal is a part that is stored as it is"));
    }
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes).map_err(|error| format!("`{name}`: it is damaged: {error}"))?;
    Ok(bytes)
}

/// Checks that the part is a whole shared library for this machine: the dynamic loader believes what a library says of
/// its own pieces, and the process dies of a page that the file does not have.
fn check_library(module: &[u8]) -> Result<(), String> {
    let own: u16 = match std::env::consts::ARCH {
        "aarch64" => 183,
        _ => 62,
    };
    // A library of 64-bit words, the least significant byte first.
    if !module.starts_with(b"\x7fELF\x02\x01") {
        return Err("it is not a shared library of a 64-bit machine".to_owned());
    }
    let cut_off = || "it is cut off".to_owned();
    let machine = number::<2>(module, 18).ok_or_else(cut_off)?;
    if machine != u64::from(own) {
        let here = std::env::consts::ARCH;
        return Err(format!("it was compiled for processor {machine}; legal is {own}, which is {here}"));
    }
    pieces_are_inside(module).filter(|&inside| inside).map(|_| ()).ok_or_else(cut_off)
}

/// Whether every piece that the file is said to have lies inside of it; `None` if its list does not.
fn pieces_are_inside(module: &[u8]) -> Option<bool> {
    let (list, size, count) = (number::<8>(module, 32)?, number::<2>(module, 54)?, number::<2>(module, 56)?);
    for index in 0..count {
        let entry = usize::try_from(list.checked_add(index.checked_mul(size)?)?).ok()?;
        let (offset, length) =
            (number::<8>(module, entry.checked_add(8)?)?, number::<8>(module, entry.checked_add(32)?)?);
        if offset.checked_add(length)? > module.len() as u64 {
            return Some(false);
        }
    }
    Some(count > 0)
}

/// A number of `N` bytes, the least significant first.
fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(N)?)?;
    Some(bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The smallest file that passes: a header, and a list of one piece which is the whole.
    fn library() -> Vec<u8> {
        let mut module = vec![0; 128];
        module[..6].copy_from_slice(b"\x7fELF\x02\x01");
        let own: u16 = if cfg!(target_arch = "aarch64") { 183 } else { 62 };
        module[18..20].copy_from_slice(&own.to_le_bytes());
        (module[32], module[54], module[56]) = (64, 56, 1);
        module[96] = 128;
        module
    }

    #[test]
    fn libraries_that_are_not_whole_or_not_for_this_machine_are_named() {
        assert_eq!(check_library(&library()), Ok(()));
        let check = |change: fn(&mut Vec<u8>), said: &str| {
            let mut module = library();
            change(&mut module);
            let refused = check_library(&module);
            assert!(refused.as_ref().is_err_and(|reason| reason.contains(said)), "{said}: {refused:?}");
        };
        check(|module| module[0] = 0, "not a shared library");
        check(|module| module[4] = 1, "64-bit");
        check(|module| module[18] = 243, "processor 243");
        check(|module| module.truncate(19), "cut off");
        check(|module| module.truncate(127), "cut off");
        check(|module| module[96] = 129, "cut off");
        check(|module| module[56] = 2, "cut off");
        check(|module| module[39] = 255, "cut off");
        check(|module| module[56] = 0, "cut off");
    }

    #[test]
    fn sizes_do_not_wrap() {
        assert_eq!(bytes_of(ElementType::F32, &[2, 3]), Some(24));
        assert_eq!(bytes_of(ElementType::F64, &[u64::MAX / 4, 2]), None);
        assert_eq!(bytes_of(ElementType::U8, &[u64::MAX / 2 + 1]), None);
    }
}
