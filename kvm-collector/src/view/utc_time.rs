//! Times as dates in UTC.

use std::{
    fmt,
    time::{Duration, UNIX_EPOCH},
};

use serde::{Serialize, Serializer};

/// A time in ns since 1970. It is written as RFC 3339, such as `2026-11-25T13:17:08.613208100Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UtcTime {
    /// Nanoseconds since 1970.
    pub ns: u64,
}

impl fmt::Display for UtcTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A `u64` of ns is a date before the year 2555.
        let time = UNIX_EPOCH + Duration::from_nanos(self.ns);
        humantime::format_rfc3339_nanos(time).fmt(f)
    }
}

impl Serialize for UtcTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_has_a_date() {
        for (ns, text) in [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (1_795_612_628_613_208_100, "2026-11-25T13:17:08.613208100Z"),
            (u64::MAX, "2554-07-21T23:34:33.709551615Z"),
        ] {
            assert_eq!(UtcTime { ns }.to_string(), text);
        }
        let json = serde_json::to_string(&UtcTime { ns: 1 }).unwrap();
        assert_eq!(json, "\"1970-01-01T00:00:00.000000001Z\"");
    }
}
