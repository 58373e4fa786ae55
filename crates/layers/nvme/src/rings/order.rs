//! The order in which a device and the CPU see each other's stores.

use std::sync::atomic::Ordering;

/// What was stored in memory before is seen by a device before what is stored after.
#[inline(always)]
pub(crate) fn before_doorbell() {
    // On x86 stores are seen in their order (Intel SDM 3A, 9.2), also those to uncached memory behind them; the compiler has
    // to keep it.
    #[cfg(target_arch = "x86_64")]
    std::sync::atomic::compiler_fence(Ordering::Release);
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    std::sync::atomic::fence(Ordering::SeqCst);
    // A device lies outside of the inner shareable domain that Rust's fences order (Arm ARM B2.3.12).
    #[cfg(target_arch = "aarch64")]
    // SAFETY: a barrier changes no memory or register.
    unsafe {
        std::arch::asm!("dmb oshst", options(nostack, preserves_flags));
    }
}

/// What a device stored before what was just loaded is seen by what is loaded after.
#[inline(always)]
pub(super) fn after_phase() {
    #[cfg(target_arch = "x86_64")]
    std::sync::atomic::compiler_fence(Ordering::Acquire);
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    std::sync::atomic::fence(Ordering::SeqCst);
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as in `before_doorbell`.
    unsafe {
        std::arch::asm!("dmb oshld", options(nostack, preserves_flags));
    }
}
