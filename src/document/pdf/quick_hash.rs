//! A quick hash for small keys that are looked up for every glyph.
//!
//! Nobody gains by making keys collide: the time budget ends any page.

use std::hash::{BuildHasherDefault, Hasher};

/// What a `HashMap` with this hash is built with.
pub(super) type QuickHash = BuildHasherDefault<QuickHasher>;

/// Multiplication by the golden ratio (Knuth, TAOCP 6.4), word by word.
#[derive(Debug, Default)]
pub(super) struct QuickHasher(u64);

impl Hasher for QuickHasher {
    fn finish(&self) -> u64 {
        // The good bits of a product are its high ones; tables are indexed by the low ones.
        self.0 ^ (self.0 >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u32(u32::from(byte));
        }
    }

    fn write_u32(&mut self, word: u32) {
        self.0 = (self.0.rotate_left(23) ^ u64::from(word)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    fn write_i32(&mut self, word: i32) {
        self.write_u32(word.cast_unsigned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::hash::BuildHasher;

    #[test]
    fn neighbouring_keys_spread() {
        let hash = QuickHash::default();
        let low_bits = |key: (i32, i32)| hash.hash_one(key) % 1024;
        let keys = (0..32).flat_map(|x| (0..32).map(move |y| (x, y)));
        let places: HashSet<u64> = keys.map(low_bits).collect();
        // 1,024 keys thrown at random into as many places hit about 647 of them.
        assert!(places.len() > 550, "{}", places.len());
    }
}
