//! What is refused, by whom it is named, and that nothing stays taken.

use std::collections::BTreeMap;

use aegis_backend_tvm::{TvmLoader, TvmOptions, TvmRuntime};
use aegis_cuda::{BackendError, BackendLoader};
use aegis_types::{LaneId, PartitionId, Severity};
use zip::CompressionMethod;

use crate::support::Model;
use crate::support::lane::{Lane, request};
use crate::tvm::archive::{pack, parts, saying, with};
use crate::tvm::outputs::{host, prepared};

/// Loads `artifact` and returns the refusal, after checking that it is permanent and gave everything back.
fn refused(loader: &TvmLoader, artifact: &[u8]) -> BackendError {
    let shapes = BTreeMap::new();
    let device = host();
    let mut lane = Lane::new(&device, PartitionId::new(0), LaneId::new(0));
    let Err(error) = lane.load(loader, &request("m", artifact, &shapes)) else {
        panic!("a damaged model was loaded");
    };
    assert_eq!(error.severity(), Severity::Permanent, "{error}");
    assert!(lane.grant.used_total().is_zero(), "{error}");
    error
}

#[test]
fn damage_is_named_by_its_part() {
    let Some((runtime, folder)) = prepared("damage") else { return };
    let loader = TvmLoader::new(runtime);
    let whole = Model::read(&folder, "mlp", "cpu").artifact;
    let cut = |name: &str| with(&whole, name, |bytes| bytes.truncate(bytes.len() / 2));
    let gone = |name: &str| {
        let kept: Vec<_> = parts(&whole).into_iter().filter(|(part, _)| part != name).collect();
        pack(&kept, CompressionMethod::Stored)
    };
    // One byte of the weights, which lie in the middle of the file: the checksum alone can tell.
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    for (artifact, named) in [
        (gone("description.json"), "description.json"),
        (cut("description.json"), "description.json"),
        (saying(&whole, "\"format\": 1", "\"format\": 2"), "description.json"),
        (saying(&whole, "\"tvm\": \"0.27", "\"tvm\": \"0.26"), "compiled by TVM 0.26"),
        (saying(&whole, "\"function\": \"main\"", "\"function\": \"niam\""), "niam"),
        (saying(&whole, "\"cpu\": \"", "\"cpu\": \"not-"), "not-"),
        (gone("module.so"), "module.so"),
        (with(&whole, "module.so", |bytes| bytes[0] = 0), "module.so"),
        (with(&whole, "module.so", |bytes| bytes[18] = 0xF3), "module.so"),
        (with(&whole, "module.so", |bytes| bytes.truncate(1000)), "module.so"),
        (gone("weights.bin"), "weights.bin"),
        (cut("weights.bin"), "weights.bin"),
        (flipped, "weights.bin"),
        (pack(&parts(&whole), CompressionMethod::Deflated), "compressed"),
        (whole[..whole.len() / 2].to_vec(), "not a TVM model"),
        (Vec::new(), "not a TVM model"),
    ] {
        let error = refused(&loader, &artifact).to_string();
        assert!(error.contains(named), "{named} is not named: {error}");
    }
}

#[test]
fn a_description_that_the_module_contradicts_is_refused() {
    let Some((runtime, folder)) = prepared("contradictions") else { return };
    let loader = TvmLoader::new(runtime);
    let whole = Model::read(&folder, "cnn", "cpu").artifact;
    // The second of two outputs is left out: the module returns more than it is said to.
    let text = String::from_utf8(parts(&whole)[0].1.clone()).expect("text");
    let second = text.find("\"name\": \"z\"").expect("an output");
    let start = text[..second].rfind("},").expect("the first output ends");
    let end = second + text[second..].find('}').expect("ends");
    let one = format!("{}{}", &text[..start], &text[end..]);
    let error = refused(&loader, &with(&whole, "description.json", |bytes| *bytes = one.into_bytes()));
    assert!(error.to_string().contains("it returns 2"), "{error}");
    let wrong = saying(&whole, "\"name\": \"y\"", "\"name\": \"q\"");
    let shapes = BTreeMap::new();
    let described = loader.inspect(&request("m", &wrong, &shapes)).expect("names are the file's own");
    assert_eq!(described.outputs[0].name, "q");
}

#[test]
fn shapes_other_than_the_compiled_ones_are_refused() {
    let Some((runtime, folder)) = prepared("shapes") else { return };
    let loader = TvmLoader::new(runtime);
    let artifact = Model::read(&folder, "mlp", "cpu").artifact;
    for (name, shape, said) in [("x", vec![2, 128], "[1, 128]"), ("w", vec![1], "inputs are `x`")] {
        let shapes = BTreeMap::from([(name.to_owned(), shape)]);
        let error = loader.inspect(&request("m", &artifact, &shapes)).expect_err("not compiled for it");
        assert!(matches!(error, BackendError::Shape { .. }) && error.to_string().contains(said), "{error}");
    }
}

#[test]
fn a_library_that_is_not_there_or_was_loaded_before_is_refused() {
    let missing = TvmOptions { folder: "no-such-folder".into(), ..TvmOptions::default() };
    let error = TvmRuntime::load(&missing).expect_err("there is none");
    assert!(error.to_string().contains("no-such-folder/libtvm_ffi.so"), "{error}");
    let Some((runtime, folder)) = prepared("loading twice") else { return };
    assert!(runtime.version().starts_with("0.1."), "{runtime:?}");
    let again = TvmOptions { folder: folder.join("lib"), ..TvmOptions::default() };
    let error = TvmRuntime::load(&again).expect_err("once in a process");
    assert!(error.to_string().contains("loaded TVM before"), "{error}");
}
