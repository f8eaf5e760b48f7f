//! How an offset is written: the epoch of the database, and a number.

use std::sync::Arc;

/// Names the database that offsets are of. Clones are the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Epoch(Arc<str>);

impl Epoch {
    /// The epoch of a database.
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// Its name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// An offset as clients are told it.
    pub fn write(&self, offset: u64) -> String {
        format!("{}-{offset}", self.0)
    }

    /// Reads an offset; `None` for one of another epoch, or for what is none.
    pub fn read(&self, text: &str) -> Option<u64> {
        let number = text.strip_prefix(&*self.0)?.strip_prefix('-')?;
        let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| number.parse().ok()).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_read_back_and_those_of_another_epoch_are_not() {
        let epoch = Epoch::new("a1b2");
        for offset in [0, 1, u64::MAX] {
            assert_eq!(epoch.read(&epoch.write(offset)), Some(offset));
        }
        for text in [
            "",
            "1",
            "a1b2",
            "a1b2-",
            "a1b3-1",
            "a1b2-+1",
            "a1b2--1",
            "a1b2-1x",
            "a1b2-99999999999999999999",
        ] {
            assert_eq!(epoch.read(text), None, "{text:?}");
        }
    }
}
