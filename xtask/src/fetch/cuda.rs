//! What models on a GPU need besides: the runtime library with its CUDA provider, and the vendor's libraries under it.

use super::pins::{Pin, Platform, Processor, Wheel};
use crate::error::Error;

/// Where the runtime library with its CUDA provider lies, below the folder that is fetched into. Apart from the one for
/// hosts: both go by the same names.
pub const RUNTIME_FOLDER: &str = "onnxruntime-cuda";
/// Where the vendor's libraries lie: beside the runtime library's folder, where the backend looks for them.
pub const VENDOR_FOLDER: &str = "cuda";
/// The provider's own library.
pub const PROVIDER: &str = "libonnxruntime_providers_cuda.so";
/// The other files of that folder.
pub const COMPANIONS: [&str; 4] =
    ["libonnxruntime.so", "libonnxruntime_providers_shared.so", "LICENSE", "ThirdPartyNotices.txt"];

/// A file of a package: its path there, its name here, bytes and SHA-256.
type File = (&'static str, &'static str, u64, &'static str);

/// The runtime library with its CUDA provider, for `processor`.
///
/// # Errors
/// [`Error::Fetch`] for a processor that it is not published for.
pub fn runtime(processor: Processor) -> Result<Wheel, Error> {
    if processor != Processor::X86 {
        return Err(Error::Fetch("the runtime library with CUDA is pinned for x86_64 only".to_owned()));
    }
    Ok(wheel("onnxruntime-gpu==1.31.1", RUNTIME_FOLDER, 255_560_985, &RUNTIME))
}

/// The vendor's libraries under the provider, for `processor`.
///
/// # Errors
/// [`Error::Fetch`] for a processor that they are not pinned for.
pub fn vendor(processor: Processor) -> Result<Vec<Wheel>, Error> {
    runtime(processor)?;
    let packages = VENDOR.iter();
    Ok(packages.map(|(requirement, bytes, files)| wheel(requirement, VENDOR_FOLDER, *bytes, files)).collect())
}

fn wheel(requirement: &str, folder: &str, bytes: u64, files: &[File]) -> Wheel {
    let pin = |(member, name, bytes, sha256): &File| Pin {
        member: (*member).to_owned(),
        sha256: (*sha256).to_owned(),
        bytes: *bytes,
        place: format!("{folder}/{name}"),
        executable: false,
    };
    let platform = Platform::Native(Processor::X86);
    Wheel { requirement: requirement.to_owned(), platform, bytes, pins: files.iter().map(pin).collect() }
}

/// The runtime library with its provider.
const RUNTIME: [File; 5] = [
    (
        "onnxruntime/capi/libonnxruntime.so.1.31.1",
        "libonnxruntime.so",
        29_421_832,
        "5104254339ecadae808da771bd0b63b240f0dbd466514234905e54372435c303",
    ),
    (
        "onnxruntime/capi/libonnxruntime_providers_shared.so",
        "libonnxruntime_providers_shared.so",
        14_632,
        "086ec1d5388f64153d9c63470d126693db9a182c8ce236d3a1119068471b8a0d",
    ),
    (
        "onnxruntime/capi/libonnxruntime_providers_cuda.so",
        "libonnxruntime_providers_cuda.so",
        284_014_752,
        "d5290158115fa5569a3fe8f1f4037ee9b0e86658a96e52f852bbb7039aa88137",
    ),
    (
        "onnxruntime/LICENSE",
        "LICENSE",
        1_073,
        "2f07c72751aed99790b8a4869cf2311df85a860b22ded05fa22803587a48922c",
    ),
    (
        "onnxruntime/ThirdPartyNotices.txt",
        "ThirdPartyNotices.txt",
        338_088,
        "143764b952fdb1a7c69ce653bfba74a7744d6a8a573bfb73e235fba356c83de3",
    ),
];

/// Of the package nvidia-cuda-runtime.
const CUDA_RUNTIME: [File; 1] = [(
    "nvidia/cu13/lib/libcudart.so.13",
    "libcudart.so.13",
    704_288,
    "96c42e418cec19054186b9429c321603cc190bf26a18104e19408117a2a817b0",
)];

/// Of the package nvidia-cuda-nvrtc.
const CUDA_NVRTC: [File; 2] = [
    (
        "nvidia/cu13/lib/libnvrtc.so.13",
        "libnvrtc.so.13",
        109_338_064,
        "a49e67e8e74590f1e98de55c39c6287efd3f59e3c3797464d7bbe0fe01349b11",
    ),
    (
        "nvidia/cu13/lib/libnvrtc-builtins.so.13.0",
        "libnvrtc-builtins.so.13.0",
        4_380_616,
        "91dcd944d01da9c0f08fff5d779db136a47f6d62bdb63bae900d2f481e92c3a2",
    ),
];

/// Of the package nvidia-curand.
const CURAND: [File; 1] = [(
    "nvidia/cu13/lib/libcurand.so.10",
    "libcurand.so.10",
    104_860_296,
    "82586610865e67dc73505087e04dd40a3cc69b281028731ce763faafe14b1347",
)];

/// Of the package nvidia-cufft.
const CUFFT: [File; 1] = [(
    "nvidia/cu13/lib/libcufft.so.12",
    "libcufft.so.12",
    286_542_352,
    "0933f68bb7e3bf90f86d70bc87cd2f69027f7757e89e5de5e19ec33a53fd8d3a",
)];

/// Of the package nvidia-cublas.
const CUBLAS: [File; 2] = [
    (
        "nvidia/cu13/lib/libcublasLt.so.13",
        "libcublasLt.so.13",
        541_592_848,
        "0e6ff90bf9b303b22c7bce79b3451f750d031f9f87d1657ecc8143e729d68c5e",
    ),
    (
        "nvidia/cu13/lib/libcublas.so.13",
        "libcublas.so.13",
        54_177_976,
        "93be72e110054c369bce87f0ebb47881d9cce75ec95752d8aca7e80a0e9e6235",
    ),
];

/// Of the package nvidia-cudnn-cu13.
const CUDNN: [File; 10] = [
    (
        "nvidia/cudnn/lib/libcudnn.so.9",
        "libcudnn.so.9",
        137_432,
        "727cf38cefa39f745dee3caa207395163a86e8fafdb47e3af6d185fdd67858d4",
    ),
    (
        "nvidia/cudnn/lib/libcudnn_adv.so.9",
        "libcudnn_adv.so.9",
        92_392_360,
        "dacc728ce31957600d3dd6c3767bb6706424651d9c572d5938934fa62652c7ee",
    ),
    (
        "nvidia/cudnn/lib/libcudnn_cnn.so.9",
        "libcudnn_cnn.so.9",
        4_204_144,
        "8e4f3c018a5f0e5ca6718cb0760c0039eccab9771e8bd358c2aa34ea4f4d3ae6",
    ),
    (
        "nvidia/cudnn/lib/libcudnn_engines_precompiled.so.9",
        "libcudnn_engines_precompiled.so.9",
        260_072_128,
        "67452bcacd3e0e9cbb17f25be1716209749d67798ffab637ed15bcd7c6144f62",
    ),
    (
        "nvidia/cudnn/lib/libcudnn_engines_runtime_compiled.so.9",
        "libcudnn_engines_runtime_compiled.so.9",
        41_978_752,
        "274ebd014eda330d14ca01b7330d8e891f273426dac5f3cace2e14a5ae871e70",
    ),
    (
        "nvidia/cudnn/lib/libcudnn_engines_tensor_ir.so.9",
        "libcudnn_engines_tensor_ir.so.9",
        249_581_552,
        "03eca268e48e9730ea06b0099b2dbbb1eedd5e9864413f8bdd34e412f4aeb5d1",
    ),
    (
        "nvidia/cudnn/lib/libcudnn_ext.so.9",
        "libcudnn_ext.so.9",
        10_492_592,
        "46c273e178b7733ffa5d56bd9719f378a20b94e07d2ccf23c4078e22bced0652",
    ),
    (
        "nvidia/cudnn/lib/libcudnn_graph.so.9",
        "libcudnn_graph.so.9",
        149_118_552,
        "85b298a6d79f972cffa0497a112f4b9bfc8299fdc08134607145a7d346febe69",
    ),
    (
        "nvidia/cudnn/lib/libcudnn_heuristic.so.9",
        "libcudnn_heuristic.so.9",
        96_473_968,
        "0a7d28b75585be9a59a1dc289ca833014987e379ee60393db17bf2571126cc7a",
    ),
    (
        "nvidia/cudnn/lib/libcudnn_ops.so.9",
        "libcudnn_ops.so.9",
        35_661_648,
        "175918d68a9e5f92b072200dc3e1cde70fc5f1497cf9d9b9d7f4a18aa9e6df8d",
    ),
];

/// Packages of the vendor's libraries: requirement, bytes of the download, files.
const VENDOR: [(&str, u64, &[File]); 6] = [
    ("nvidia-cuda-runtime==13.0.96", 2_243_632, &CUDA_RUNTIME),
    ("nvidia-cuda-nvrtc==13.0.88", 90_215_200, &CUDA_NVRTC),
    ("nvidia-curand==10.4.5.25", 77_113_015, &CURAND),
    ("nvidia-cufft==12.0.0.61", 214_085_489, &CUFFT),
    ("nvidia-cublas==13.1.2.11", 423_122_711, &CUBLAS),
    ("nvidia-cudnn-cu13==9.28.0.42", 516_782_127, &CUDNN),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_library_has_a_place_of_its_own_and_no_processor_gets_another_ones() {
        let mut wheels = vendor(Processor::X86).unwrap();
        wheels.push(runtime(Processor::X86).unwrap());
        let places: Vec<&str> =
            wheels.iter().flat_map(|wheel| &wheel.pins).map(|pin| pin.place.as_str()).collect();
        assert_eq!(places.iter().collect::<BTreeSet<_>>().len(), places.len());
        for name in COMPANIONS.iter().chain([&PROVIDER]) {
            assert!(places.contains(&format!("{RUNTIME_FOLDER}/{name}").as_str()), "{name}");
        }
        let hashes = wheels.iter().flat_map(|wheel| &wheel.pins).map(|pin| &pin.sha256);
        assert!(hashes.into_iter().all(|hash| hash.len() == 64));
        let error = runtime(Processor::Arm).unwrap_err().to_string();
        assert!(error.contains("x86_64"), "{error}");
    }
}
