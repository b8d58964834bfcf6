//! The backend against the real library and real models. Needs the folder named by `AEGIS_CACHE`; skips without.

mod support;

mod onnx {
    mod budget;
    mod conformance;
    mod outputs;
    mod refusals;
    mod segments;
}
