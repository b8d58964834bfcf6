//! TensorRT: the headers that its backend is compiled against, its lean runtime, and the reader of our own header.
//!
//! The vendor's full library is on no package index. The headers come out of a crate that carries them under
//! Apache-2.0: `cargo info` brings that one file into cargo's own cache, nothing of it is compiled.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use tar::Archive;

use super::cache::{hexadecimal, is_complete, sha256};
use super::pins::{Pin, Platform, Processor, Wheel, native};
use super::{Pip, ensure};
use crate::error::Error;
use crate::process;

/// Where the headers lie, below the folder that is fetched into: the backend's build script looks there.
const INCLUDE: &str = "tensorrt/include";

/// Where the lean runtime lies, below the folder that is fetched into.
const LEAN: &str = "tensorrt/libnvinfer_lean.so.11";

/// Where the library that reads C headers lies, below the folder that is fetched into.
pub const CLANG: &str = "libclang";

/// The crate that carries the headers, and what its file hashes to.
const CRATE: (&str, &str) = ("trtx-sys", "0.9.1+rtx1.7");
const CRATE_SHA256: &str = "5480ee056292951daa1bc74532162d6cb75190f091e45d7d97c0c356916ae171";

/// Where the headers lie inside it.
const INSIDE: &str = "TensorRT-Headers/TRT-Enterprise-11.4";

/// What the header of the runtime reads, itself included. `cuda_runtime_api.h` is the project's own.
const HEADERS: [(&str, u64, &str); 8] = [
    ("NvInferImpl.h", 62_978, "6aa27b9f29cc9bc0ee3d1ab76d864d0e623c461ae516fab3ccb46dce8cc7be99"),
    ("NvInferLegacyDims.h", 4_008, "3e10fe5b85545f2e956e6935271badf0b1c72553b698000a61d46d69c5d53030"),
    ("NvInferPluginBase.h", 8_962, "759f354754e64bf4d1e68d7df796c155c46f8a27541bf1912ba13e79a5a26fc2"),
    ("NvInferRuntime.h", 226_926, "23ce5d1d5735dbb86b357ce7dca44f4f4a7e908faaee9871149664843ade8a50"),
    ("NvInferRuntimeBase.h", 26_853, "fa22f902443d7c832dbf2dd74c8d0744990e9f6118245dca183a8ce23077dac0"),
    ("NvInferRuntimeCommon.h", 9_968, "eff4c0251cb4813bbc7fe34c6b28fdb6c08734c27ae53b07974d2557bf1431be"),
    ("NvInferRuntimePlugin.h", 41_676, "d4db4236da9c03e543949247a75478b5ce68fc84eb30cd15b35081b94c8d8391"),
    ("NvInferVersion.h", 1_839, "6a29a88a274b25cdaf87dbe6e5be1b3b68e6c430308ae9a2c03f6c4282a7f2e7"),
];

/// Fetches the headers and the lean runtime into `folder`.
///
/// # Errors
/// As [`headers`], and [`Error::Fetch`] where the library cannot be had.
pub fn into(folder: &Path) -> Result<(), Error> {
    ensure(folder, &[lean()?], &mut Pip::new())?;
    headers(folder)
}

/// Makes the headers lie in `folder`, which is there.
///
/// # Errors
/// [`Error::Fetch`] where cargo does not bring the crate, or it is another one; [`Error::Io`] on disk errors.
pub fn headers(folder: &Path) -> Result<(), Error> {
    let wanted = as_wheel();
    let (name, version) = CRATE;
    if is_complete(folder, &wanted)? {
        println!("headers of TensorRT 11.4 in {}, verified by hash", folder.join(INCLUDE).display());
        return Ok(());
    }
    let requirement = format!("{name}@{version}");
    // Outside of any workspace, so that no manifest has a say in what is fetched.
    let scratch = tempfile::Builder::new()
        .prefix(".partial-")
        .tempdir_in(folder)
        .map_err(Error::io("create a scratch folder in", folder))?;
    let mut command = process::cargo(scratch.path());
    command.args(["info", "--quiet", &requirement]).stdout(std::process::Stdio::null());
    process::run(&mut command, None)?;
    let archive = cached_crate(&cargo_home()?, &format!("{name}-{version}.crate"))?;
    unpack(&archive, &wanted.pins, scratch.path())?;
    for pin in &wanted.pins {
        let place = folder.join(&pin.place);
        if let Some(parent) = place.parent() {
            std::fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
        }
        let unpacked = scratch.path().join(file_name(&pin.member));
        std::fs::rename(&unpacked, &place).map_err(Error::io("write", &place))?;
    }
    Ok(())
}

/// The headers in the form of the other pins, so that one check serves both.
fn as_wheel() -> Wheel {
    let (name, version) = CRATE;
    let pin = |&(header, bytes, sha256): &(&str, u64, &str)| Pin {
        member: format!("{name}-{version}/{INSIDE}/{header}"),
        sha256: sha256.to_owned(),
        bytes,
        place: format!("{INCLUDE}/{header}"),
        executable: false,
    };
    let pins = HEADERS.iter().map(pin).collect();
    Wheel { requirement: format!("{name}@{version}"), platform: Platform::Any, bytes: 0, pins }
}

fn cargo_home() -> Result<PathBuf, Error> {
    let named = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let usual = || std::env::home_dir().map(|home| home.join(".cargo"));
    named.or_else(usual).ok_or_else(|| Error::Fetch("neither CARGO_HOME nor HOME says where cargo is".into()))
}

/// The file of a crate in cargo's cache, which has a folder for each registry.
fn cached_crate(home: &Path, name: &str) -> Result<PathBuf, Error> {
    let cache = home.join("registry").join("cache");
    let folders = std::fs::read_dir(&cache).map_err(Error::io("read", &cache))?;
    let found = folders.flatten().map(|folder| folder.path().join(name)).find(|path| path.is_file());
    let path = found.ok_or_else(|| {
        Error::Fetch(format!("cargo ended well, but there is no {name} below {}", cache.display()))
    })?;
    let file = File::open(&path).map_err(Error::io("open", &path))?;
    let hash = sha256(file).map_err(Error::io("read", &path))?;
    if hash == CRATE_SHA256 {
        return Ok(path);
    }
    Err(Error::Fetch(format!("{} has SHA-256 {hash}, pinned is {CRATE_SHA256}", path.display())))
}

/// Unpacks the pinned files of a crate into a folder, each verified.
fn unpack(path: &Path, pins: &[Pin], folder: &Path) -> Result<(), Error> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    let damaged = |error| Error::Fetch(format!("{}: not a readable crate: {error}", path.display()));
    let mut archive = Archive::new(GzDecoder::new(file));
    let mut found = 0;
    for entry in archive.entries().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        let member = entry.path().map_err(damaged)?.to_string_lossy().into_owned();
        let Some(pin) = pins.iter().find(|pin| pin.member == member) else { continue };
        let mut content = Vec::new();
        entry.by_ref().take(pin.bytes + 1).read_to_end(&mut content).map_err(damaged)?;
        let hash = hexadecimal(&<sha2::Sha256 as sha2::Digest>::digest(&content));
        if hash != pin.sha256 {
            let wanted = &pin.sha256;
            return Err(Error::Fetch(format!("{member} has SHA-256 {hash}, pinned is {wanted}")));
        }
        let target = folder.join(file_name(&member));
        std::fs::write(&target, content).map_err(Error::io("write", &target))?;
        found += 1;
    }
    if found == pins.len() {
        return Ok(());
    }
    Err(Error::Fetch(format!("{}: {found} of {} headers are in it", path.display(), pins.len())))
}

fn file_name(member: &str) -> &str {
    member.rsplit('/').next().unwrap_or(member)
}

/// The lean runtime for a processor: it runs plans, it does not make any. Its terms are the vendor's own.
fn lean_for(processor: Processor) -> Wheel {
    let (download, bytes, sha256) = match processor {
        Processor::X86 => {
            (44_375_636, 104_837_160, "73fc5dd6f8de7cd7f1dc7b1043329de2dd1606e2bc718fea01359efe0a4849d4")
        }
        Processor::Arm => {
            (67_450_860, 184_510_144, "115bd5c6149c84a784ab2e35c9d788eaaae984e0658fd4525dcc03d3acce6e63")
        }
    };
    let pin = Pin {
        member: "tensorrt_lean_libs/libnvinfer_lean.so.11".to_owned(),
        sha256: sha256.to_owned(),
        bytes,
        place: LEAN.to_owned(),
        executable: false,
    };
    let platform = Platform::Native(processor);
    let requirement = "tensorrt-lean-cu13-libs==11.4.0.106".to_owned();
    Wheel { requirement, platform, bytes: download, pins: vec![pin] }
}

/// The lean runtime for this machine.
///
/// # Errors
/// [`Error::Fetch`] on a machine that no library is pinned for.
fn lean() -> Result<Wheel, Error> {
    native().map(lean_for)
}

/// The library that reads C headers, for this machine.
///
/// # Errors
/// [`Error::Fetch`] on a machine that no library is pinned for.
pub fn libclang() -> Result<Wheel, Error> {
    let processor = native()?;
    let (download, bytes, sha256) = match processor {
        Processor::X86 => {
            (24_515_943, 63_703_544, "a8612b1c9a7125701277f63e5616f1d1eb9c91410c4bf195878067868c927f94")
        }
        Processor::Arm => {
            (23_784_972, 60_393_984, "87cc443de7278fa112ed50fac8844b1d5c6344f549b8b514e4381f26da006f65")
        }
    };
    let pin = Pin {
        member: "libclang-18.1.1.data/platlib/clang/native/libclang.so".to_owned(),
        sha256: sha256.to_owned(),
        bytes,
        place: format!("{CLANG}/libclang.so"),
        executable: false,
    };
    let platform = Platform::Native(processor);
    Ok(Wheel { requirement: "libclang==18.1.1".to_owned(), platform, bytes: download, pins: vec![pin] })
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;

    const MEMBER: &str = "made-1/headers/one.h";

    fn made(folder: &Path, member: &str, content: &[u8]) -> PathBuf {
        let path = folder.join("made-1.crate");
        let mut archive =
            tar::Builder::new(GzEncoder::new(File::create(&path).unwrap(), Compression::fast()));
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, member, content).unwrap();
        archive.into_inner().unwrap().finish().unwrap();
        path
    }

    fn pin(content: &[u8]) -> Pin {
        Pin {
            member: MEMBER.to_owned(),
            sha256: hexadecimal(&<sha2::Sha256 as sha2::Digest>::digest(content)),
            bytes: content.len() as u64,
            place: "one.h".to_owned(),
            executable: false,
        }
    }

    #[test]
    fn headers_come_out_of_a_crate_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = made(folder.path(), MEMBER, b"int one;");
        unpack(&path, &[pin(b"int one;")], folder.path()).unwrap();
        assert_eq!(std::fs::read(folder.path().join("one.h")).unwrap(), b"int one;");
        let error = unpack(&path, &[pin(b"int two;")], folder.path()).unwrap_err().to_string();
        assert!(error.contains(MEMBER) && error.contains("SHA-256"), "{error}");
        let path = made(folder.path(), "made-1/other.h", b"int one;");
        let error = unpack(&path, &[pin(b"int one;")], folder.path()).unwrap_err().to_string();
        assert!(error.contains("0 of 1"), "{error}");
    }

    #[test]
    fn a_crate_of_another_hash_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("registry/cache/index");
        std::fs::create_dir_all(&folder).unwrap();
        let missing = cached_crate(home.path(), "made-1.crate").unwrap_err().to_string();
        assert!(missing.contains("no made-1.crate"), "{missing}");
        made(&folder, MEMBER, b"int one;");
        let other = cached_crate(home.path(), "made-1.crate").unwrap_err().to_string();
        assert!(other.contains(CRATE_SHA256), "{other}");
    }
}
