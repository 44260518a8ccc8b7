//! Values as people write them.

use std::{fmt, str::FromStr, time::Duration};

use serde::Serialize;

/// A share between 0 and 1, written `2%`.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default, Serialize)]
#[serde(transparent)]
pub struct Share(f64);

/// Bits in a second, written `20mbit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Rate(u64);

impl Share {
    /// Nothing.
    pub const NONE: Self = Self(0.0);

    /// As a number between 0 and 1.
    #[must_use]
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl Rate {
    /// So many bits a second; `None` for 0.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Option<Self> {
        if bits == 0 { None } else { Some(Self(bits)) }
    }

    /// Bits in a second, never 0.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Time that so many bytes take.
    #[must_use]
    pub fn time_of(self, bytes: usize) -> Duration {
        let nanoseconds = bytes as u128 * 8 * 1_000_000_000 / u128::from(self.0);
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no share: write percent, such as 0%, 0.5% or 2%");
        let percent: f64 = text
            .strip_suffix('%')
            .ok_or_else(wrong)?
            .parse()
            .map_err(|_| wrong())?;
        if (0.0..=100.0).contains(&percent) {
            Ok(Self(percent / 100.0))
        } else {
            Err(wrong())
        }
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("{text:?} is no rate: write 500kbit, 20mbit or 1gbit (bits a second)");
        let (number, factor) = split(text).ok_or_else(wrong)?;
        let factor = match factor {
            "bit" => 1.0,
            "kbit" => 1e3,
            "mbit" => 1e6,
            "gbit" => 1e9,
            _ => return Err(wrong()),
        };
        Self::from_bits((number * factor).round() as u64).ok_or_else(wrong)
    }
}

/// A time such as `25ms`, `500us` or `1s`.
///
/// # Errors
/// What is wrong, and how to write it.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time: write 500us, 25ms or 1s");
    let (number, unit) = split(text).ok_or_else(wrong)?;
    let seconds = match unit {
        "us" => number / 1e6,
        "ms" => number / 1e3,
        "s" => number,
        _ => return Err(wrong()),
    };
    if seconds > MAX_SECONDS {
        return Err(format!(
            "{text:?} is too long: at most {MAX_SECONDS} s make sense on a link"
        ));
    }
    Ok(Duration::from_secs_f64(seconds))
}

/// Longer than any link, short enough for every sum of times.
const MAX_SECONDS: f64 = 60.0;

/// A number without sign, and its unit.
fn split(text: &str) -> Option<(f64, &str)> {
    let unit = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(unit);
    if !number.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    Some((number.parse().ok()?, unit))
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Rounded to what is written: 0.07 * 100 is not 7.
        write!(f, "{}%", (self.0 * 1e8).round() / 1e6)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = self.0 as f64;
        if bits >= 1e9 {
            write!(f, "{}gbit", bits / 1e9)
        } else if bits >= 1e6 {
            write!(f, "{}mbit", bits / 1e6)
        } else {
            write!(f, "{}kbit", bits / 1e3)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_read_as_they_are_written() {
        assert_eq!("2%".parse::<Share>().unwrap().get(), 0.02);
        assert_eq!("7%".parse::<Share>().unwrap().to_string(), "7%");
        assert_eq!("0.5%".parse::<Share>().unwrap().to_string(), "0.5%");
        assert_eq!("20mbit".parse::<Rate>().unwrap().bits(), 20_000_000);
        assert_eq!("1.5gbit".parse::<Rate>().unwrap().to_string(), "1.5gbit");
        assert_eq!("500kbit".parse::<Rate>().unwrap().to_string(), "500kbit");
        assert_eq!(duration("25ms"), Ok(Duration::from_millis(25)));
        assert_eq!(duration("500us"), Ok(Duration::from_micros(500)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
    }

    #[test]
    fn what_is_no_value_is_refused() {
        for text in ["", "2", "-1%", "101%", "NaN%", "%"] {
            assert!(text.parse::<Share>().is_err(), "{text:?}");
        }
        for text in ["", "20", "20 mbit", "0mbit", "-1mbit", "20mbits", "inf"] {
            assert!(text.parse::<Rate>().is_err(), "{text:?}");
        }
        for text in ["", "25", "ms", "-1ms", "61s", "1h", "é"] {
            assert!(duration(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_rate_says_how_long_bytes_take() {
        let rate: Rate = "20mbit".parse().unwrap();
        assert_eq!(rate.time_of(1500), Duration::from_micros(600));
    }
}
