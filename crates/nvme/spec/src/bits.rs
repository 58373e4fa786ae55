//! Bit fields of registers and dwords.

/// The `width` bits of `value` from bit `at` up.
pub(crate) const fn get(value: u64, at: u32, width: u32) -> u64 {
    (value >> at) & ((1 << width) - 1)
}

/// `value` with its `width` bits from bit `at` up replaced by the lowest of `field`.
pub(crate) const fn put(value: u64, at: u32, width: u32, field: u64) -> u64 {
    let mask = (1 << width) - 1;
    value & !(mask << at) | (field & mask) << at
}

/// Whether bit `at` is set.
pub(crate) const fn is_set(value: u64, at: u32) -> bool {
    get(value, at, 1) == 1
}
