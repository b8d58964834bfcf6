//! What the tests stand on: the library and models of the cache, a lane of the host device, a simple grant, seeded
//! inputs.

pub mod bench;
pub mod dag;
pub mod dense;
pub mod grant;
pub mod models;
pub mod tiny;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::OnceLock;

use aegis_backend_onnx::OnnxRuntime;

/// The vendor library, which a process loads once; `None`, with a printed skip, without a cache.
pub fn runtime(test: &str) -> Option<&'static OnnxRuntime> {
    static RUNTIME: OnceLock<Option<OnnxRuntime>> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| {
        let path = cache()?.join("onnxruntime/libonnxruntime.so");
        Some(OnnxRuntime::load(&path).expect("the cache's library loads"))
    });
    if runtime.is_none() {
        println!("skip {test}: AEGIS_CACHE is not set");
    }
    runtime.as_ref()
}

/// The folder with the library and the models.
pub fn cache() -> Option<PathBuf> {
    std::env::var_os("AEGIS_CACHE").map(PathBuf::from)
}

/// No shapes: for models whose axes are all fixed.
pub fn no_shapes() -> BTreeMap<String, Vec<u64>> {
    BTreeMap::new()
}

/// A seeded generator (SplitMix64): equal seeds give equal inputs on every machine.
pub struct Seeded(pub u64);

impl Seeded {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}
