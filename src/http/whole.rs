//! Whole numbers of JSON bodies: `5.0` is one, as JSON Schema has it and as some programs write them.

use serde::{Deserialize, Deserializer, de::Error};

/// A number as it is written.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Whole(u64),
    Real(f64),
}

/// The largest whole number up to which a floating one is exact.
const EXACT: f64 = 9_007_199_254_740_992.0;

impl Written {
    fn whole<T: TryFrom<u64>, E: Error>(self) -> Result<T, E> {
        let whole = match self {
            Self::Whole(whole) => Some(whole),
            Self::Real(real) if real.fract() == 0.0 && (0.0..=EXACT).contains(&real) => Some(real as u64),
            Self::Real(_) => None,
        };
        let number = whole.and_then(|whole| T::try_from(whole).ok());
        number.ok_or_else(|| E::custom("a whole number is expected, which is not too large"))
    }
}

/// Reads a whole number.
pub(super) fn whole<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<u64>,
{
    Written::deserialize(deserializer)?.whole()
}

/// Reads a whole number that may be left out.
pub(super) fn maybe_whole<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<u64>,
{
    let written = Option::<Written>::deserialize(deserializer)?;
    written.map(Written::whole).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Numbers {
        #[serde(deserialize_with = "whole")]
        a: u64,
        #[serde(default, deserialize_with = "maybe_whole")]
        b: Option<u32>,
    }

    #[test]
    fn a_whole_number_is_read_however_it_is_written() {
        for (json, a, b) in [
            (r#"{"a":5}"#, 5, None),
            (r#"{"a":5.0,"b":7.0}"#, 5, Some(7)),
            (r#"{"a":5e3,"b":null}"#, 5000, None),
            (r#"{"a":18446744073709551615,"b":0}"#, u64::MAX, Some(0)),
            (r#"{"a":9007199254740992.0}"#, 1 << 53, None),
        ] {
            assert_eq!(
                serde_json::from_str::<Numbers>(json).ok(),
                Some(Numbers { a, b }),
                "{json}"
            );
        }
        for json in [
            r#"{"a":5.5}"#,
            r#"{"a":-1}"#,
            r#"{"a":-1.0}"#,
            r#"{"a":1e300}"#,
            r#"{"a":"5"}"#,
            r#"{"a":null}"#,
            r#"{"a":1,"b":4294967296}"#,
            r#"{}"#,
        ] {
            assert_eq!(serde_json::from_str::<Numbers>(json).ok(), None, "{json}");
        }
    }
}
