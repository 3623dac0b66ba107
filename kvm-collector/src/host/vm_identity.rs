//! What identifies a VM: its name, and its UUID where known.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// A UUID, such as `1b4e28ba-2fa1-11d2-883f-0016d3cca427`. It is written in lower case.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VmUuid([u8; 16]);

/// Numbers of hexadecimal digits between the hyphens.
const DIGITS: [usize; 5] = [8, 4, 4, 4, 12];

impl VmUuid {
    /// Parses hexadecimal digits in groups of 8, 4, 4, 4 and 12, in upper or lower case. `None` if the text
    /// is anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut groups = text.split('-');
        let mut bytes = [0; 16];
        let mut unfilled = bytes.iter_mut();
        for digits in DIGITS {
            let group = groups.next()?.as_bytes();
            if group.len() != digits {
                return None;
            }
            for (pair, byte) in group.chunks_exact(2).zip(&mut unfilled) {
                let digit = |ascii: u8| char::from(ascii).to_digit(16);
                let value = digit(pair[0])? << 4 | digit(pair[1])?;
                *byte = u8::try_from(value).ok()?;
            }
        }
        groups.next().is_none().then_some(Self(bytes))
    }
}

impl fmt::Display for VmUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = self.0.iter();
        for (index, digits) in DIGITS.into_iter().enumerate() {
            if index > 0 {
                f.write_str("-")?;
            }
            for byte in bytes.by_ref().take(digits / 2) {
                write!(f, "{byte:02x}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for VmUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for VmUuid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for VmUuid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom("not a UUID"))
    }
}

/// The name of a VM, and its UUID where known.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VmName {
    /// The name, or one that is made from the process.
    pub name: String,
    /// The UUID, if the command line of the process has one.
    pub uuid: Option<VmUuid>,
}

impl VmName {
    /// A VM whose name could not be read.
    #[must_use]
    pub fn unknown() -> Self {
        "?".into()
    }
}

impl From<String> for VmName {
    /// A name without a UUID.
    fn from(name: String) -> Self {
        Self { name, uuid: None }
    }
}

impl From<&str> for VmName {
    /// A name without a UUID.
    fn from(name: &str) -> Self {
        name.to_owned().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_written_in_lower_case() {
        let uuid = VmUuid::parse("1B4E28BA-2fa1-11d2-883F-0016d3cca427").unwrap();
        assert_eq!(uuid.to_string(), "1b4e28ba-2fa1-11d2-883f-0016d3cca427");
        let json = serde_json::to_string(&uuid).unwrap();
        assert_eq!(json, "\"1b4e28ba-2fa1-11d2-883f-0016d3cca427\"");
    }

    #[test]
    fn other_text_is_no_uuid() {
        for text in [
            "",
            "web-1",
            "1b4e28ba2fa111d2883f0016d3cca427",
            "1b4e28ba-2fa1-11d2-883f-0016d3cca42",
            "1b4e28ba-2fa1-11d2-883f-0016d3cca427-",
            "1b4e28ba-2fa1-11d2-883f-0016d3cca42g",
            "{1b4e28ba-2fa1-11d2-883f-0016d3cca427}",
            "1b4e28b-a2fa1-11d2-883f-0016d3cca427",
            "+b4e28ba-2fa1-11d2-883f-0016d3cca427",
            "1b4e28bä-2fa1-11d2-883f-0016d3cca42",
        ] {
            assert_eq!(VmUuid::parse(text), None, "{text}");
        }
    }
}
