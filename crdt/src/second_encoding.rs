//! Updates in Yjs' second encoding (`encodeStateAsUpdateV2`), as some servers store them, made into the first one.

use yrs::updates::{decoder::Decode, encoder::Encode};

/// Bytes that are no update in the second encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("these bytes are no update in Yjs' second encoding")]
pub struct NotSecondEncoding;

/// The same update in the first encoding. Whether a page takes it is the gate's to say. The engine reads the bytes: for a process whose
/// end hurts nobody.
///
/// # Errors
/// When the bytes are something else.
pub fn first_of_second_encoding(update: &[u8]) -> Result<Vec<u8>, NotSecondEncoding> {
    let update = yrs::Update::decode_v2(update).map_err(|_| NotSecondEncoding)?;
    Ok(update.encode_v1())
}

#[cfg(test)]
mod tests {
    use yrs::{Doc, GetString, ReadTxn, StateVector, Text, Transact};

    use super::*;

    #[test]
    fn an_update_in_the_second_encoding_says_the_same_in_the_first() {
        let document = Doc::new();
        let text = document.get_or_insert_text("content");
        text.insert(&mut document.transact_mut(), 0, "Grüße 👋");
        text.remove_range(&mut document.transact_mut(), 0, 1);
        let second = document
            .transact()
            .encode_state_as_update_v2(&StateVector::default());
        let first = first_of_second_encoding(&second).unwrap();
        let copy = Doc::new();
        let content = copy.get_or_insert_text("content");
        let update = yrs::Update::decode_v1(&first).unwrap();
        copy.transact_mut().apply_update(update).unwrap();
        assert_eq!(content.get_string(&copy.transact()), "rüße 👋");
        let limits = crate::Limits::default();
        assert!(crate::Document::load(limits, [first.into()]).is_ok());
        assert!(crate::Document::load(limits, [second.into()]).is_err());
        assert_eq!(first_of_second_encoding(b"no update"), Err(NotSecondEncoding));
    }
}
