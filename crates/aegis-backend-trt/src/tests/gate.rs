//! What is looked at before the library is let near.

use std::collections::BTreeMap;
use std::path::Path;

use aegis_cuda::conformance::CountingGrant;
use aegis_cuda::{
    BackendError, BackendLoader, CudaDevice, CudaOptions, Device, DeviceError, HostDevice, HostOptions,
    MemorySpace, ModelMemory,
};
use aegis_types::{Bytes, Extent, LaneId, PartitionId};

use super::bench::{Bench, MEMORY, request};
use super::mock::{Mock, other};
use crate::library::TensorRt;
use crate::loader::TensorRtLoader;

fn reason(path: &Path) -> String {
    match TensorRt::load(path) {
        Err(BackendError::Library { backend: "tensorrt", reason }) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_library_of_another_version_is_refused_before_its_first_call() {
    // Each of these ends the process if it is asked for a runtime.
    for (version, word) in [
        (10_700, "TensorRT-RTX 1.7.0"),
        (90_300, "its version is 90300"),
        (120_000, "TensorRT 12.0.0; this program was built for"),
        (8_500, "TensorRT 8.5.0; this program was built for"),
        (7, "its version is 7"),
    ] {
        match other(version, None) {
            Ok(path) => {
                let reason = reason(&path);
                assert!(reason.contains(word), "{version}: {reason}");
                std::fs::remove_file(&path).unwrap();
            }
            Err(missing) => return println!("skipped: {missing}"),
        }
    }
}

#[test]
fn a_file_that_is_no_library_is_named() {
    if TensorRt::built_for().is_empty() {
        let reason = reason(Path::new("libnvinfer.so.11"));
        assert!(reason.contains("TENSORRT_INCLUDE_DIR") && reason.contains("cargo xtask fetch"), "{reason}");
        return;
    }
    let reason_of = |name: &str, word: &str| {
        let reason = reason(Path::new(name));
        assert!(reason.contains(name) && reason.contains(word), "{reason}");
    };
    reason_of("no/such/libnvinfer.so.11", "cannot be loaded");
    reason_of("libc.so.6", "is no TensorRT");
}

#[test]
fn a_runtime_that_is_no_pointer_is_refused() {
    let Some(mock) = Mock::fresh() else { return };
    let version = mock.library.version();
    let number = version.major * 10_000 + version.minor * 100 + version.patch;
    for (runtime, word) in [(0x228, "it returned 0x228"), (0, "no reason")] {
        let path = other(number, Some(runtime)).unwrap();
        let library = TensorRt::load(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let loader = TensorRtLoader::on(library, std::sync::Arc::new(super::bench::Host::default()));
        let error = loader.inspect(&request(b"x", &BTreeMap::new())).unwrap_err();
        assert!(matches!(&error, BackendError::Library { reason, .. } if reason.contains(word)), "{error}");
    }
}

#[test]
fn without_a_gpu_the_library_is_not_called() {
    let Some(mock) = Mock::fresh() else { return };
    if CudaDevice::open(CudaOptions::default()).is_ok() {
        return println!("skipped: there is a GPU");
    }
    let loader = TensorRtLoader::new(mock.library.clone(), 0);
    let error = loader.inspect(&request(b"x", &BTreeMap::new())).unwrap_err();
    assert!(matches!(error, BackendError::Device(DeviceError::Unavailable { .. })), "{error}");
}

#[test]
fn a_lane_of_another_device_is_refused_before_the_library_is_called() {
    let Some(mock) = Mock::fresh() else { return };
    let loader = TensorRtLoader::new(mock.library.clone(), 0);
    let device = HostDevice::new(HostOptions { memory: MEMORY }).unwrap();
    let mut stream = device.bind_lane(PartitionId::new(0), LaneId::new(0)).unwrap();
    let region = device.reserve(MemorySpace::Device, Bytes::new(4096)).unwrap();
    let grant = CountingGrant::new(Extent { offset: Bytes::ZERO, len: region.size() });
    let memory = ModelMemory { grant: Box::new(grant), region };
    let error = loader.load(&request(b"x", &BTreeMap::new()), &mut *stream, memory).err();
    assert!(matches!(error, Some(BackendError::Device(DeviceError::Unsupported { .. }))), "{error:?}");
    assert_eq!(mock.live(), (0, 0));
}

#[test]
fn the_library_is_told_its_name_and_version() {
    let Some(bench) = Bench::open() else { return };
    assert_eq!(bench.loader.name(), "tensorrt");
    let built = TensorRt::built_for().join(", ");
    assert!(built.contains(&format!("{}.x", bench.mock.library.version().major)), "{built}");
}
