//! Loops compiled for the vector instructions of the machine they run on.
//!
//! The compiler vectorises a plain loop for what it was told the machine has, which for a program that runs everywhere is
//! what every machine had in 2003. Code that is not a loop over numbers does not belong here.

/// Runs `loops` compiled for the widest vector instructions of this machine: AVX-512, else AVX2, else what the
/// program was compiled for. The closure must be `#[inline(always)]`: compiled on its own it would know none of these
/// instructions, and each fused multiply-add would be a call.
pub(crate) fn widest(loops: impl FnOnce()) {
    #[cfg(target_arch = "x86_64")]
    {
        if let Some(avx512) = pulp::x86::V4::try_new() {
            return avx512.vectorize(loops);
        }
        if let Some(avx2) = pulp::x86::V3::try_new() {
            return avx2.vectorize(loops);
        }
    }
    loops();
}
