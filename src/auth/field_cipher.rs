//! Texts that PageSpace keeps encrypted in its tables, such as names of users.
//!
//! AES-256-GCM with an IV of 16 bytes, written as `iv:tag:content` in hexadecimal digits, under a key that scrypt makes of the
//! secret and a fixed salt; older ones are `salt:iv:tag:content` with a salt of their own. Whatever is of neither form is no
//! ciphertext.

use aes::Aes256;
use aes_gcm::{AesGcm, KeyInit, Nonce, Tag, aead::AeadInOut, aead::consts::U16};

use super::Secret;

const SALT: &[u8] = b"pagespace:encryption-utils:master-key:v1";
/// N = 2^14, r = 8, p = 1.
const COST: (u8, u32, u32) = (14, 8, 1);

/// Decrypts such texts.
#[derive(Clone)]
pub(super) struct FieldCipher {
    secret: Secret,
    key: [u8; 32],
}

/// A text as it is kept.
pub(super) enum Field {
    /// As anybody may read it.
    Plain(String),
    /// With the salt, if it has one of its own.
    Encrypted(Option<Vec<u8>>, Ciphertext),
}

pub(super) struct Ciphertext {
    iv: Vec<u8>,
    tag: Vec<u8>,
    content: Vec<u8>,
}

impl Field {
    pub(super) fn new(text: String) -> Self {
        let parts: Option<Vec<_>> = text.split(':').map(bytes).collect();
        let (salt, iv, tag, content) = match parts.as_deref() {
            Some([iv, tag, content]) => (None, iv, tag, content),
            Some([salt, iv, tag, content]) if salt.len() == 32 => (Some(salt.clone()), iv, tag, content),
            Some(_) | None => return Self::Plain(text),
        };
        if iv.len() != 16 || tag.len() != 16 {
            return Self::Plain(text);
        }
        let ciphertext = Ciphertext {
            iv: iv.clone(),
            tag: tag.clone(),
            content: content.clone(),
        };
        Self::Encrypted(salt, ciphertext)
    }
}

impl FieldCipher {
    /// Takes a moment: making the key is meant to be slow.
    pub(super) fn new(secret: &Secret) -> Option<Self> {
        Some(Self {
            secret: secret.clone(),
            key: derive(secret, SALT)?,
        })
    }

    /// The text; `None` if the secret is another one or the ciphertext was changed. Takes as long as [`Self::new`] for one with a
    /// salt of its own.
    pub(super) fn open(&self, salt: Option<&[u8]>, ciphertext: Ciphertext) -> Option<String> {
        let key = match salt {
            Some(salt) => derive(&self.secret, salt)?,
            None => self.key,
        };
        let Ciphertext { iv, tag, mut content } = ciphertext;
        let nonce = Nonce::<U16>::try_from(iv.as_slice()).ok()?;
        let tag = Tag::try_from(tag.as_slice()).ok()?;
        AesGcm::<Aes256, U16>::new(&key.into())
            .decrypt_inout_detached(&nonce, &[], content.as_mut_slice().into(), &tag)
            .ok()?;
        String::from_utf8(content).ok()
    }
}

fn derive(secret: &Secret, salt: &[u8]) -> Option<[u8; 32]> {
    let (log_n, r, p) = COST;
    let cost = scrypt::Params::new(log_n, r, p).ok()?;
    let mut key = [0; 32];
    scrypt::scrypt(secret.expose().as_bytes(), salt, &cost, &mut key).ok()?;
    Some(key)
}

/// The bytes that hexadecimal digits stand for.
fn bytes(digits: &str) -> Option<Vec<u8>> {
    if !digits.len().is_multiple_of(2) || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let pairs = (0..digits.len()).step_by(2);
    pairs
        .map(|at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn texts_are_read_as_they_were_written() {
        let vectors: Value =
            serde_json::from_str(include_str!("../../tests/vectors/pagespace.json")).expect("vectors");
        let vectors = &vectors["field_crypto"];
        let text = |name: &str| vectors[name].as_str().expect("a text").to_owned();
        let cipher = FieldCipher::new(&Secret::new(&text("ENCRYPTION_KEY"))).expect("a key");
        let other =
            FieldCipher::new(&Secret::new("somebody else's key, as long as it must be")).expect("a key");
        let open = |cipher: &FieldCipher, text: String| match Field::new(text) {
            Field::Encrypted(salt, ciphertext) => cipher.open(salt.as_deref(), ciphertext),
            Field::Plain(text) => panic!("not encrypted: {text}"),
        };
        for name in ["three_part", "four_part_legacy"] {
            assert_eq!(open(&cipher, text(name)), Some(text("plaintext")), "{name}");
            assert_eq!(open(&other, text(name)), None, "{name}");
        }
        let forged = text("three_part").replace("0b8a", "0b8b");
        assert_eq!(open(&cipher, forged), None);
        for plain in vectors["not_ciphertext_examples"].as_array().expect("a list") {
            let plain = plain.as_str().expect("a text");
            assert!(matches!(Field::new(plain.to_owned()), Field::Plain(same) if same == plain));
        }
    }
}
