//! What GPUs there are and what state they are in.
