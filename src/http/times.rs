//! Times of requests, as they are written there.

use std::time::{Duration, SystemTime};

/// Seconds.
const HOUR: u64 = 60 * 60;
const MINUTE: u64 = 60;
/// After so many years the days of a year are the same again.
const CYCLE: u32 = 400;

/// Reads a time of RFC 3339, with any offset; a time before 1970 is the beginning of 1970. `None` for what is no time.
pub(super) fn time(text: &str) -> Option<SystemTime> {
    let (local, offset) = match text.strip_suffix(['Z', 'z']) {
        Some(local) => (local, None),
        None => {
            let at = text.len().checked_sub(6)?;
            let (local, offset) = (text.get(..at)?, text.get(at..)?);
            (local, Some(offset))
        }
    };
    let year: u32 = local.get(..4)?.parse().ok()?;
    let is_before = year < 1970;
    let later = match is_before {
        true => format!("{:04}{}Z", year % CYCLE + 5 * CYCLE, local.get(4..)?),
        false => format!("{local}Z"),
    };
    let time = humantime::parse_rfc3339(&later.to_ascii_uppercase()).ok()?;
    let time = match offset {
        None => time,
        Some(offset) => {
            let (sign, rest) = offset.split_at_checked(1)?;
            let (hours, minutes) = rest.split_once(':')?;
            let two_digits = |text: &str| {
                let is_right = text.len() == 2 && text.bytes().all(|digit| digit.is_ascii_digit());
                is_right.then(|| text.parse::<u64>().ok()).flatten()
            };
            let hours = two_digits(hours).filter(|hours| *hours < 24)?;
            let minutes = two_digits(minutes).filter(|minutes| *minutes < 60)?;
            let offset = Duration::from_secs(hours * HOUR + minutes * MINUTE);
            match sign {
                "+" => time.checked_sub(offset)?,
                "-" => time.checked_add(offset)?,
                _ => return None,
            }
        }
    };
    Some(match is_before {
        true => SystemTime::UNIX_EPOCH,
        false => time.max(SystemTime::UNIX_EPOCH),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_any_offset() {
        for (text, seconds) in [
            ("1970-01-01T00:00:01Z", Some(1)),
            ("1970-01-01t00:00:01z", Some(1)),
            ("1970-01-01T01:00:00+00:59", Some(60)),
            ("1970-01-01T00:00:00-01:00", Some(3600)),
            ("1970-01-01T00:00:00+01:00", Some(0)),
            ("1970-01-01T00:00:01.000+00:00", Some(1)),
            // Leap days are where they were 400 years later.
            ("1600-02-29T12:00:00Z", Some(0)),
            ("0000-01-01T00:00:00Z", Some(0)),
            ("1700-02-29T12:00:00Z", None),
            ("1970-01-01T00:00:00", None),
            ("1970-01-01", None),
            ("1970-01-01T00:00:00+0100", None),
            ("1970-01-01T00:00:00+24:00", None),
            ("1970-01-01T00:00:00*01:00", None),
            ("1970-13-01T00:00:00Z", None),
            ("\u{e4}\u{e4}\u{e4}\u{e4}\u{e4}", None),
            ("", None),
        ] {
            let expected = seconds.map(|seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
            assert_eq!(time(text), expected, "{text}");
        }
    }
}
