//! The CUDA device: partitions are green contexts, lanes are streams, completion is a number that the stream writes.
