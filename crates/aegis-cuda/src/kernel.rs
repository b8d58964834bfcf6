//! The built-in workload: models made of kernels of known behaviour, for GPUs without any vendor backend.
