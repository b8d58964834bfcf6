//! What a result code of the driver demands.

use super::api::Code;

/// Success.
pub(super) const SUCCESS: Code = 0;
/// Memory, of the device or the host, does not suffice.
pub(super) const OUT_OF_MEMORY: Code = 2;
/// Work is not finished: the answer of a query, not a failure.
pub(super) const NOT_READY: Code = 600;
/// The device or driver does not have the feature.
pub(super) const NOT_SUPPORTED: Code = 801;

/// The classes of result codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// The same call may work later.
    Later,
    /// The driver and the device cannot serve at all.
    Absent,
    /// This call is refused, others are unaffected.
    Refused,
    /// The context is unusable: every later call fails too.
    Sticky,
}

/// The class of a code that is not [`SUCCESS`].
///
/// A code is harmless only if it is listed as harmless. One that is not known to leave the context intact, or that a
/// newer driver may bring, loses it: going on over a broken context would break promises silently.
pub(super) const fn class(code: Code) -> Class {
    match code {
        // Not ready, the system or MPS server not ready, too many MPS clients or connections, a timeout.
        600 | 802 | 807 | 808 | 809 | 909 => Class::Later,
        // Not initialised, stub library, newer driver needed, device unavailable, no or unlicensed device, driver and
        // library mismatch, no forward compatibility, no MPS connection, loader too old.
        3 | 34 | 36 | 46 | 100 | 102 | 227 | 803 | 804 | 805 => Class::Absent,
        // Invalid value, out of memory, profiler states, multicast resources.
        1 | 2 | 5..=8 | 47
        // Invalid device, image, context; mapping states; limits; peers; PTX and its compiler.
        | 101 | 200..=213 | 215..=219 | 221..=225
        // Source, files, shared objects, operating system.
        | 300..=304
        // Invalid handle, illegal state, query that would lose information, not found.
        | 400..=402 | 500
        // Launch resources and textures, peer access, primary context, host memory registration, cooperative launch.
        | 701 | 703..=705 | 708 | 711..=713 | 720
        // Not permitted, not supported, device-side launches.
        | 800 | 801 | 811 | 812
        // Stream capture and graphs, cluster size, functions and resources, keys, detached streams.
        | 900..=908 | 910 | 912..=919 => Class::Refused,
        _ => Class::Sticky,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cudarc::driver::sys::CUresult;

    fn check(codes: &[CUresult], expected: Class) {
        for &code in codes {
            assert_eq!(class(code as Code), expected, "{code:?}");
        }
    }

    #[test]
    fn codes_that_destroy_the_context_are_sticky() {
        check(
            &[
                CUresult::CUDA_ERROR_DEINITIALIZED,
                CUresult::CUDA_ERROR_ECC_UNCORRECTABLE,
                CUresult::CUDA_ERROR_NVLINK_UNCORRECTABLE,
                CUresult::CUDA_ERROR_ILLEGAL_ADDRESS,
                CUresult::CUDA_ERROR_LAUNCH_TIMEOUT,
                CUresult::CUDA_ERROR_CONTEXT_IS_DESTROYED,
                CUresult::CUDA_ERROR_ASSERT,
                CUresult::CUDA_ERROR_HARDWARE_STACK_ERROR,
                CUresult::CUDA_ERROR_ILLEGAL_INSTRUCTION,
                CUresult::CUDA_ERROR_MISALIGNED_ADDRESS,
                CUresult::CUDA_ERROR_INVALID_ADDRESS_SPACE,
                CUresult::CUDA_ERROR_INVALID_PC,
                CUresult::CUDA_ERROR_LAUNCH_FAILED,
                CUresult::CUDA_ERROR_EXTERNAL_DEVICE,
                CUresult::CUDA_ERROR_MPS_RPC_FAILURE,
                CUresult::CUDA_ERROR_MPS_CLIENT_TERMINATED,
                CUresult::CUDA_ERROR_UNKNOWN,
            ],
            Class::Sticky,
        );
        // Codes of drivers newer than the binding: contained error, tensor memory leak; and one that nobody has.
        for code in [226, 721, 100_000] {
            assert_eq!(class(code), Class::Sticky, "{code}");
        }
    }

    #[test]
    fn refusals_leave_the_context_usable() {
        check(
            &[
                CUresult::CUDA_ERROR_INVALID_VALUE,
                CUresult::CUDA_ERROR_OUT_OF_MEMORY,
                CUresult::CUDA_ERROR_INVALID_PTX,
                CUresult::CUDA_ERROR_INVALID_HANDLE,
                CUresult::CUDA_ERROR_NOT_FOUND,
                CUresult::CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES,
                CUresult::CUDA_ERROR_NOT_SUPPORTED,
                CUresult::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED,
                CUresult::CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD,
                CUresult::CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION,
            ],
            Class::Refused,
        );
        check(&[CUresult::CUDA_ERROR_NOT_READY, CUresult::CUDA_ERROR_SYSTEM_NOT_READY], Class::Later);
        check(&[CUresult::CUDA_ERROR_NO_DEVICE, CUresult::CUDA_ERROR_SYSTEM_DRIVER_MISMATCH], Class::Absent);
    }

    #[test]
    fn the_named_codes_are_the_drivers() {
        assert_eq!(SUCCESS, CUresult::CUDA_SUCCESS as Code);
        assert_eq!(OUT_OF_MEMORY, CUresult::CUDA_ERROR_OUT_OF_MEMORY as Code);
        assert_eq!(NOT_READY, CUresult::CUDA_ERROR_NOT_READY as Code);
        assert_eq!(NOT_SUPPORTED, CUresult::CUDA_ERROR_NOT_SUPPORTED as Code);
    }
}
