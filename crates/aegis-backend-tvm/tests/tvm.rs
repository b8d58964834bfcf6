//! The backend against the vendor's library and compiled models, on the host. Needs the folder named by `AEGIS_CACHE`
//! with what `cargo xtask models --tvm` put there; skips without.

mod support;
mod tvm {
    mod archive;
    mod conformance;
    pub mod counting;
    mod outputs;
    mod refusals;
    mod serving;
}

#[global_allocator]
static ALLOCATOR: tvm::counting::Counting = tvm::counting::Counting;
