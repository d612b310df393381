//! Distribution documents (배포용 문서): their text is encrypted with a key that the file itself carries.
//!
//! The scheme hinders editing, not reading: Hancom documents it for readers in "한글 문서 파일 형식: 배포용 문서",
//! revision 1.2, section 2. The first record of each stream hides an AES-128 key; the rest of the stream is encrypted
//! block by block (ECB).

use aes::Aes128;
use aes::cipher::{Array, BlockCipherDecrypt, KeyInit};

use super::record::{Records, tag};

/// The compressed records of an encrypted stream, or `None` where the stream does not begin with a key record.
pub(super) fn decrypt(stream: &[u8]) -> Option<Vec<u8>> {
    let mut records = Records::new(stream);
    let record = records
        .next()
        .filter(|record| record.tag == tag::DISTRIBUTE_DOC_DATA)?;
    let key = key(record.data.first_chunk()?)?;
    let cipher = Aes128::new(&Array::from(key));
    let (blocks, _) = records.rest().as_chunks::<16>();
    let mut plain = Vec::with_capacity(16 * blocks.len());
    for block in blocks {
        let mut block = Array::from(*block);
        cipher.decrypt_block(&mut block);
        plain.extend_from_slice(&block);
    }
    Some(plain)
}

/// The key record is masked with runs of bytes from Microsoft C's `rand`, seeded by its own first four bytes.
fn key(hidden: &[u8; 256]) -> Option<[u8; 16]> {
    let seed = u32::from_le_bytes(*hidden.first_chunk()?);
    let mut state = seed;
    let mut rand = || {
        state = state.wrapping_mul(214_013).wrapping_add(2_531_011);
        (state >> 16) & 0x7FFF
    };
    let mut mask = Vec::with_capacity(256 + 16);
    while mask.len() < hidden.len() {
        let [byte, ..] = rand().to_le_bytes();
        let n_times = (rand() & 0x0F) + 1;
        mask.extend((0..n_times).map(|_| byte));
    }
    let offset = usize::try_from(4 + (seed & 0x0F)).ok()?;
    let mut key = [0; 16];
    let masked = hidden.iter().zip(mask).skip(offset);
    for (byte, (hidden, mask)) in key.iter_mut().zip(masked) {
        *byte = hidden ^ mask;
    }
    Some(key)
}

#[cfg(test)]
pub(super) mod tests {
    use aes::cipher::BlockCipherEncrypt;

    use super::*;

    /// Encrypts a stream as Hangul does: for tests, a key record of seed 5 and the key "0123456789abcdef".
    pub(in super::super) fn encrypt(plain: &[u8]) -> Vec<u8> {
        const KEY: [u8; 16] = *b"0123456789abcdef";
        let mut hidden = [0; 256];
        hidden[0] = 5;
        // Masking is its own inverse: what is found where the key belongs, unmasked, masks the key.
        let mask = key(&hidden).unwrap();
        for index in 0..16 {
            hidden[9 + index] = mask[index] ^ KEY[index];
        }
        let mut stream = (tag::DISTRIBUTE_DOC_DATA | 256 << 20)
            .to_le_bytes()
            .to_vec();
        stream.extend(hidden);
        let cipher = Aes128::new(&Array::from(KEY));
        for chunk in plain.chunks(16) {
            let mut block = [0; 16];
            block[..chunk.len()].copy_from_slice(chunk);
            let mut block = Array::from(block);
            cipher.encrypt_block(&mut block);
            stream.extend_from_slice(&block);
        }
        stream
    }

    #[test]
    fn what_was_encrypted_is_decrypted() {
        let plain = decrypt(&encrypt("배포용 문서의 본문".as_bytes())).unwrap();
        assert!(plain.starts_with("배포용 문서의 본문".as_bytes()));
    }

    #[test]
    fn other_streams_are_refused() {
        assert_eq!(decrypt(b""), None);
        assert_eq!(decrypt(&[0; 300]), None);
        assert_eq!(decrypt(&encrypt(b"x")[..200]), None);
    }
}
