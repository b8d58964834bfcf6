//! Benches of AegisRT.
