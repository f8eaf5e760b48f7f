//! How long the past of pages is kept, as a setting.

use std::str::FromStr;

/// How long the past is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Not at all.
    Nothing,
    /// For ever.
    Everything,
    /// For so many days.
    Days(u32),
    /// From the oldest of so many versions on.
    Versions(u32),
}

/// It is none of the words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write `off`, `all`, or a number from 1 on with a unit, such as `30 days` or `100 versions`")]
pub struct KeepError;

impl FromStr for Keep {
    type Err = KeepError;

    fn from_str(text: &str) -> Result<Self, KeepError> {
        let text = text.trim();
        let (number, unit) = text.split_at(
            text.find(|letter: char| !letter.is_ascii_digit())
                .unwrap_or(text.len()),
        );
        match (number, unit.trim()) {
            ("", "off") => Ok(Self::Nothing),
            ("", "all") => Ok(Self::Everything),
            (number, unit) => {
                let number = number
                    .parse()
                    .ok()
                    .filter(|number| *number > 0)
                    .ok_or(KeepError)?;
                match unit {
                    "d" | "day" | "days" => Ok(Self::Days(number)),
                    "version" | "versions" => Ok(Self::Versions(number)),
                    _ => Err(KeepError),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_a_unit_and_the_words_stand_alone() {
        for (text, keep) in [
            ("off", Keep::Nothing),
            (" all ", Keep::Everything),
            ("30 days", Keep::Days(30)),
            ("1day", Keep::Days(1)),
            ("7d", Keep::Days(7)),
            ("100 versions", Keep::Versions(100)),
            ("1 version", Keep::Versions(1)),
        ] {
            assert_eq!(text.parse(), Ok(keep), "{text}");
        }
        for text in [
            "",
            "30",
            "0 days",
            "-1 days",
            "days",
            "99999999999 days",
            "30 weeks",
            "3 off",
            "alle",
        ] {
            assert_eq!(text.parse::<Keep>(), Err(KeepError), "{text}");
        }
    }
}
