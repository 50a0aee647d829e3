//! Names of nodes, channels and messages: 128 bits, written as hex in groups (section 2.1).

use std::fmt;
use std::num::NonZeroU128;

/// A GUID. No version is asked for and no bit is ever changed; case does not matter when reading, and writing is in
/// lower case. All zeros is no GUID.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Guid(NonZeroU128);

/// Where the dashes stand.
const DASHES: [usize; 4] = [8, 13, 18, 23];
/// Length of the text.
const LENGTH: usize = 36;

impl Guid {
    /// Reads the form `8-4-4-4-12`.
    pub fn parse(text: &str) -> Option<Guid> {
        if text.len() != LENGTH {
            return None;
        }
        let mut bits: u128 = 0;
        for (place, byte) in text.bytes().enumerate() {
            if DASHES.contains(&place) {
                if byte != b'-' {
                    return None;
                }
                continue;
            }
            let digit = char::from(byte).to_digit(16)?;
            bits = bits << 4 | u128::from(digit);
        }
        NonZeroU128::new(bits).map(Guid)
    }

    /// The next one from a seeded source, marked as random (version 4).
    pub fn draw(dice: &mut fastrand::Rng) -> Guid {
        Guid::marked(dice.u128(..))
    }

    /// True when it has the mark of a random one.
    pub(super) fn is_random(self) -> bool {
        self.0.get() >> 76 & 0xf == 4
    }

    /// The same with the marks of a random one.
    pub(super) fn normalised(self) -> Guid {
        Guid::marked(self.0.get())
    }

    fn marked(bits: u128) -> Guid {
        const VERSION: u128 = 0xf << 76;
        const VARIANT: u128 = 0x3 << 62;
        let bits = bits & !VERSION & !VARIANT | 0x4 << 76 | 0x2 << 62;
        Guid(NonZeroU128::new(bits).expect("the version bits are set"))
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = format!("{:032x}", self.0);
        write!(f, "{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_survive_and_case_does_not_matter() {
        let text = "C0FFEE00-0000-0000-0000-0000000000fF";
        let guid = Guid::parse(text).expect("a GUID");
        assert_eq!(guid.to_string(), text.to_lowercase());
        assert_eq!(Guid::parse(&guid.to_string()), Some(guid));
    }

    #[test]
    fn other_forms_are_no_guids() {
        for text in [
            "",
            "00000000-0000-0000-0000-000000000000",
            "c0ffee0000000000000000000000000000",
            "{0ffee00-0000-4000-8000-00000000001}",
            "c0ffee00-0000-4000-8000-00000000000g",
            "c0ffee00_0000-4000-8000-000000000001",
            "+0ffee00-0000-4000-8000-000000000001",
            "ä0ffee0-0000-4000-8000-000000000001",
        ] {
            assert_eq!(Guid::parse(text), None, "{text}");
        }
    }

    #[test]
    fn drawn_ones_differ_and_read_back() {
        let mut dice = fastrand::Rng::with_seed(7);
        let (one, other) = (Guid::draw(&mut dice), Guid::draw(&mut dice));
        assert_ne!(one, other);
        assert_eq!(Guid::parse(&one.to_string()), Some(one));
    }
}
