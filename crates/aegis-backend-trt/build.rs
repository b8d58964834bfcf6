//! Compiles the C++ shim against the TensorRT headers of this machine, once for each generation found.
//!
//! Headers are looked for, in this order: the folders in `TENSORRT_INCLUDE_DIR` (separated by `:`, and then nowhere
//! else), the system's include folder of the target, where JetPack puts them, and what `cargo xtask fetch` brought.
//! Without headers the crate is built without a shim, and says so when it is asked to load the library.

use std::env;
use std::path::{Path, PathBuf};

/// Generations of headers that the shim is written for; `src/library.rs` knows the same.
const GENERATIONS: [u32; 3] = [8, 10, 11];

/// The header that the shim includes.
const HEADER: &str = "NvInferRuntime.h";

/// Where `cargo xtask fetch` puts the headers, below the target folder.
const FETCHED: &str = "aegis-cache/tensorrt/include";

fn main() {
    println!("cargo::rerun-if-env-changed=TENSORRT_INCLUDE_DIR");
    println!("cargo::rerun-if-changed=src/shim");
    for generation in GENERATIONS {
        println!("cargo::rustc-check-cfg=cfg(tensorrt_{generation})");
    }
    let named = env::var_os("TENSORRT_INCLUDE_DIR").filter(|value| !value.is_empty());
    let folders = match &named {
        Some(named) => env::split_paths(named).collect(),
        None => usual_folders(),
    };
    let mut done = Vec::new();
    for folder in folders {
        // A file that is not there makes cargo run this again at the next build: it may have come.
        println!("cargo::rerun-if-changed={}", folder.join(HEADER).display());
        match attempt(&folder, &done) {
            Ok(Some(generation)) => done.push(generation),
            Ok(None) => {}
            Err(reason) if named.is_some() => panic!("TENSORRT_INCLUDE_DIR: {}: {reason}", folder.display()),
            Err(reason) if folder.join(HEADER).exists() => {
                println!("cargo::warning=no TensorRT shim from {}: {reason}", folder.display());
            }
            Err(_) => {}
        }
    }
}

/// The system's folder for the target, and the download's below any folder that the output lies in.
fn usual_folders() -> Vec<PathBuf> {
    let architecture = env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    let system = PathBuf::from(format!("/usr/include/{architecture}-linux-gnu"));
    let output = env::var_os("OUT_DIR").map(PathBuf::from).unwrap_or_default();
    let fetched = output.ancestors().map(|folder| folder.join(FETCHED)).find(|folder| folder.exists());
    let expected = || output.ancestors().nth(4).map(|target| target.join(FETCHED));
    std::iter::once(system).chain(fetched.or_else(expected)).collect()
}

/// Compiles the shim against the headers in a folder; `None` if their generation has been compiled already.
fn attempt(folder: &Path, done: &[u32]) -> Result<Option<u32>, String> {
    let version = folder.join("NvInferVersion.h");
    let text =
        std::fs::read_to_string(&version).map_err(|error| format!("{}: {error}", version.display()))?;
    let generation = generation(&text)?;
    if done.contains(&generation) {
        return Ok(None);
    }
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .file("src/shim/shim.cpp")
        .include("src/shim")
        // System headers: their own warnings are not ours to answer.
        .flag("-isystem")
        .flag(folder)
        .flag("-fvisibility=hidden")
        .flag_if_supported("-Wno-deprecated-declarations")
        .define("AEGIS_TRT_TABLE", format!("aegis_trt_table_{generation}").as_str())
        .define("nvinfer1", format!("aegis_trt_nvinfer_{generation}").as_str())
        .try_compile(&format!("aegis_trt_shim_{generation}"))
        .map_err(|error| error.to_string())?;
    println!("cargo::rustc-cfg=tensorrt_{generation}");
    if done.is_empty() {
        // For the tests, which compile a library of their own against the same headers.
        println!("cargo::rustc-env=AEGIS_TENSORRT_INCLUDE={}", folder.display());
    }
    Ok(Some(generation))
}

/// The major version that a version header defines, directly or through the name of a product.
fn generation(text: &str) -> Result<u32, String> {
    let defined = |name: &str| {
        let mut words = text.lines().map(str::split_whitespace);
        words.find_map(|mut words| {
            (words.next() == Some("#define") && words.next() == Some(name)).then(|| words.next()).flatten()
        })
    };
    let value = defined("NV_TENSORRT_MAJOR").ok_or("NvInferVersion.h defines no NV_TENSORRT_MAJOR")?;
    let number = value.parse().ok().or_else(|| defined(value)?.parse().ok());
    match number {
        Some(number) if GENERATIONS.contains(&number) => Ok(number),
        _ => Err(format!("NV_TENSORRT_MAJOR is {value}; legal are 8 (from 8.6), 10 (from 10.1) and 11")),
    }
}
