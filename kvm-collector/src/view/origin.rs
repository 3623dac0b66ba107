//! Where and when a report was measured.

use serde::Serialize;

use super::{RecordedHost, SelectedBy, UtcTime, json_line::SCHEMA_VERSION};

/// The first fields of every JSON object that describes a host or a measurement: who wrote it, and about which host.
#[derive(Debug, Clone, Serialize)]
pub struct OutputHeader {
    /// Version of the JSON output.
    pub schema_version: u32,
    /// Version of kvm-collector.
    pub tool_version: &'static str,
    /// Name of the host; `None` if a recording does not contain it, or if recordings are of several hosts.
    pub host: Option<String>,
    /// Id of the host's boot, which is unique; `None` as for the host.
    pub boot_id: Option<String>,
    /// Release of the host's kernel.
    pub kernel: Option<String>,
}

impl Default for OutputHeader {
    /// Names this version of kvm-collector, and no host.
    fn default() -> Self {
        Self {
            schema_version: SCHEMA_VERSION,
            tool_version: env!("CARGO_PKG_VERSION"),
            host: None,
            boot_id: None,
            kernel: None,
        }
    }
}

/// Describes the measurement of which reports are made.
#[derive(Debug, Clone, Serialize)]
pub struct ReportOrigin {
    /// Who wrote the report, and about which host.
    #[serde(flatten)]
    pub header: OutputHeader,
    /// Path of the recording; `None` for live measurements and for several recordings.
    pub input: Option<String>,
    /// Command that ran during the measurement.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// The recordings, if there are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<ReportInput>,
    /// What was selected.
    pub selection: SelectedBy,
    /// What the recording was limited to when it was made. Empty if that is not known.
    #[serde(skip_serializing_if = "SelectedBy::is_empty")]
    pub recording_selection: SelectedBy,
    /// Whether vCPU indices are from the names of threads, because the events do not have them.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub vcpus_from_thread_names: bool,
    /// Parts of the time of exits that are in `kernel_ns`, because the events that tell them were not recorded.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unmeasured: Vec<&'static str>,
    /// Difference between the date, in ns since the epoch, and the clock of the events; `None` if a recording does not contain
    /// the date.
    #[serde(skip)]
    pub wall_offset_ns: Option<u64>,
}

/// One of several recordings of which a report is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReportInput {
    /// Path of the recording.
    pub path: String,
    /// Name of the host; `None` if the recording does not contain it.
    pub host: Option<String>,
    /// Id of the host's boot; `None` if the recording does not contain it.
    pub boot_id: Option<String>,
    /// Release of the host's kernel.
    pub kernel: Option<String>,
    /// What the recording was limited to when it was made. Empty if that is not known.
    #[serde(skip_serializing_if = "SelectedBy::is_empty")]
    pub recording_selection: SelectedBy,
    /// Start in UTC; `None` if the recording does not contain the date.
    pub start: Option<String>,
    /// End in UTC.
    pub end: Option<String>,
    /// Duration in ns.
    pub elapsed_ns: u64,
}

impl ReportInput {
    /// Describes a recording with this origin, of which a period was read, in ns of the clock of the events. `None` is the period
    /// of a recording without events.
    #[must_use]
    pub fn new(origin: &ReportOrigin, period_ns: Option<(u64, u64)>) -> Self {
        Self {
            path: origin.input.clone().unwrap_or_default(),
            host: origin.header.host.clone(),
            boot_id: origin.header.boot_id.clone(),
            kernel: origin.header.kernel.clone(),
            recording_selection: origin.recording_selection.clone(),
            start: period_ns.and_then(|(start_ns, _)| origin.utc(start_ns)),
            end: period_ns.and_then(|(_, end_ns)| origin.utc(end_ns)),
            elapsed_ns: period_ns.map_or(0, |(start_ns, end_ns)| end_ns.saturating_sub(start_ns)),
        }
    }
}

impl ReportOrigin {
    /// Describes a measurement by this version of kvm-collector. The other fields are empty.
    #[must_use]
    pub fn new(selection: SelectedBy) -> Self {
        Self {
            header: OutputHeader::default(),
            input: None,
            command: None,
            inputs: Vec::new(),
            selection,
            recording_selection: SelectedBy::default(),
            vcpus_from_thread_names: false,
            unmeasured: Vec::new(),
            wall_offset_ns: None,
        }
    }

    /// Returns the host for rows by host. A recording without the name of its host is named after the file.
    #[must_use]
    pub fn recorded_host(&self) -> RecordedHost {
        match &self.header.host {
            Some(name) => RecordedHost::Named(name.clone()),
            None => RecordedHost::OfFile(self.input.clone().unwrap_or_else(|| "?".to_owned())),
        }
    }

    /// Converts a time of the clock of the events to UTC (RFC 3339), if the date is known.
    #[must_use]
    pub fn utc(&self, time_ns: u64) -> Option<String> {
        Some(self.utc_time(time_ns)?.to_string())
    }

    /// As [`ReportOrigin::utc`], but as a time.
    #[must_use]
    pub fn utc_time(&self, time_ns: u64) -> Option<UtcTime> {
        let ns = self.wall_offset_ns?.checked_add(time_ns)?;
        Some(UtcTime { ns })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc() {
        let mut origin = ReportOrigin::new(SelectedBy::default());
        assert_eq!(origin.utc(0), None);
        origin.wall_offset_ns = Some(1_795_612_627_613_208_100);
        let time = origin.utc(1_000_000_000);
        assert_eq!(time.as_deref(), Some("2026-11-25T13:17:08.613208100Z"));
        assert_eq!(origin.utc(u64::MAX), None);
    }
}
