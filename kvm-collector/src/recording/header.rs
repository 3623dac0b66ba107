//! The bytes of a recording before its first event, and the header of a finished file.
//!
//! While recording, the file is a stream (perf's pipe mode), because a stream stays readable if the
//! recorder is killed. Finishing turns it into a regular perf.data file without moving data. For this,
//! the stream starts with a padding record, which readers skip. It reserves space for the file header,
//! and already contains the events' attributes. Finishing appends a table of a few hundred bytes, then
//! overwrites the start of the stream with the file header in one write.

use std::collections::BTreeMap;

use super::{
    abi::{
        ATTR_BYTES, FILE_HEADER_BYTES, MAGIC, OWN_FEATURE_MARK, PIPE_HEADER_BYTES, RECORD_HEADER,
        Section, feature, put_u32, record,
    },
    features::{encode_attr, encode_event_desc, encode_features, encode_string},
    host_facts::{HostFacts, RecordedEvent},
    record_writer::{event_id, put_record_header},
    tracing_data,
};

/// The start of a recording: everything before the first event.
#[derive(Debug, Clone)]
pub(super) struct Header {
    bytes: Vec<u8>,
    attrs: Section,
    sample_time: Section,
    features: BTreeMap<u32, Section>,
}

impl Header {
    /// Encodes the header. `zstd_level` is the compression level, if the recording is compressed.
    pub(super) fn new(
        events: &[RecordedEvent],
        facts: &HostFacts,
        zstd_level: Option<i32>,
    ) -> Self {
        let mut header = Self {
            bytes: Vec::with_capacity(256 << 10),
            attrs: Section::default(),
            sample_time: Section::default(),
            features: BTreeMap::new(),
        };
        header.bytes.extend_from_slice(&MAGIC.to_ne_bytes());
        header
            .bytes
            .extend_from_slice(&(PIPE_HEADER_BYTES as u64).to_ne_bytes());
        header.put_reserved_record(events);
        for (index, event) in events.iter().enumerate() {
            let attr = encode_attr(event);
            let size = RECORD_HEADER + attr.len() + 8;
            put_record_header(&mut header.bytes, record::HEADER_ATTR, 0, size);
            header.bytes.extend_from_slice(&attr);
            header
                .bytes
                .extend_from_slice(&event_id(index).to_ne_bytes());
        }
        for (number, content) in encode_features(facts, zstd_level) {
            header.put_feature(number, &content);
        }
        header.put_feature(feature::EVENT_DESC, &encode_event_desc(events));
        if let Some(boot_id) = &facts.machine.boot_id {
            header.put_hidden_feature(feature::BOOT_ID, &encode_string(boot_id));
        }
        if !facts.kernel_types.is_empty() {
            let text = facts.kernel_types.to_text();
            header.put_hidden_feature(feature::KERNEL_TYPES, text.as_bytes());
        }
        let tracing_data = tracing_data::encode(&facts.kernel_formats, events);
        put_record_header(
            &mut header.bytes,
            record::TRACING_DATA,
            0,
            RECORD_HEADER + 8,
        );
        let padded = tracing_data.len().next_multiple_of(8);
        put_u32(&mut header.bytes, padded);
        put_u32(&mut header.bytes, 0);
        let section = header.put_section(&tracing_data);
        header.features.insert(feature::TRACING_DATA, section);
        header
            .bytes
            .resize(header.bytes.len().next_multiple_of(8), 0);
        header
    }

    /// Appends the padding record. It has space for the file header and for the first and last time,
    /// then the event ids, and the attributes with the sections of their ids.
    fn put_reserved_record(&mut self, events: &[RecordedEvent]) {
        let ids_offset = FILE_HEADER_BYTES + 16;
        let attrs_offset = ids_offset + 8 * events.len();
        let end = attrs_offset + (ATTR_BYTES + 16) * events.len();
        put_record_header(&mut self.bytes, record::PADDING, 0, end - PIPE_HEADER_BYTES);
        self.bytes.resize(FILE_HEADER_BYTES, 0);
        self.sample_time = self.put_section(&[0; 16]);
        for index in 0..events.len() {
            self.put_section(&event_id(index).to_ne_bytes());
        }
        let attrs_start = self.bytes.len();
        for (index, event) in events.iter().enumerate() {
            self.put_section(&encode_attr(event));
            let ids = Section {
                offset: (ids_offset + 8 * index) as u64,
                size: 8,
            };
            self.put_section(&ids.to_bytes());
        }
        self.attrs = Section {
            offset: attrs_start as u64,
            size: (self.bytes.len() - attrs_start) as u64,
        };
        debug_assert_eq!((attrs_start, self.bytes.len()), (attrs_offset, end));
    }

    fn put_section(&mut self, bytes: &[u8]) -> Section {
        let offset = self.bytes.len() as u64;
        self.bytes.extend_from_slice(bytes);
        Section {
            offset,
            size: bytes.len() as u64,
        }
    }

    /// Appends a feature as a record, and remembers where its content is.
    fn put_feature(&mut self, number: u32, content: &[u8]) {
        let size = RECORD_HEADER + 8 + content.len().next_multiple_of(8);
        if size > usize::from(u16::MAX) {
            // It does not fit into a record. Only the command line and the event descriptions can be
            // this long, and readers do not need them.
            return;
        }
        put_record_header(&mut self.bytes, record::HEADER_FEATURE, 0, size);
        self.bytes
            .extend_from_slice(&u64::from(number).to_ne_bytes());
        let section = self.put_section(content);
        self.features.insert(number, section);
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
    }

    /// Appends one of our own features in a padding record, because perf warns of unknown features in a
    /// stream.
    fn put_hidden_feature(&mut self, number: u32, content: &[u8]) {
        let start = [&OWN_FEATURE_MARK[..], &u64::from(number).to_ne_bytes()].concat();
        let size = (RECORD_HEADER + start.len() + content.len()).next_multiple_of(8);
        if size > usize::from(u16::MAX) {
            return;
        }
        put_record_header(&mut self.bytes, record::PADDING, 0, size);
        self.bytes.extend_from_slice(&start);
        let section = self.put_section(content);
        self.features.insert(number, section);
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
    }

    /// Returns the bytes before the first event.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the section for the times of the first and the last event.
    pub(super) fn sample_time_section(&self) -> Section {
        self.sample_time
    }

    /// Encodes what a finished file needs. Returns the table of features and the file header. The
    /// table belongs at `end`, where the records end, and includes the names of the VMs. The file
    /// header belongs at the start, and must be written last.
    pub(super) fn finish(&self, end: u64, vm_names: &[u8]) -> (Vec<u8>, [u8; FILE_HEADER_BYTES]) {
        let mut features = self.features.clone();
        features.insert(feature::SAMPLE_TIME, self.sample_time);
        let table_bytes = 16 * (features.len() + usize::from(!vm_names.is_empty()));
        if !vm_names.is_empty() {
            let names = Section {
                offset: end + table_bytes as u64,
                size: vm_names.len() as u64,
            };
            features.insert(feature::VM_NAMES, names);
        }
        let mut table = Vec::with_capacity(table_bytes + vm_names.len());
        let mut bits = [0u64; 4];
        for (number, section) in &features {
            table.extend_from_slice(&section.to_bytes());
            if let Some(word) = bits.get_mut((number / 64) as usize) {
                *word |= 1 << (number % 64);
            }
        }
        table.extend_from_slice(vm_names);
        let start = self.bytes.len() as u64;
        let data = Section {
            offset: start,
            size: end.saturating_sub(start),
        };
        let mut header = Vec::with_capacity(FILE_HEADER_BYTES);
        header.extend_from_slice(&MAGIC.to_ne_bytes());
        header.extend_from_slice(&(FILE_HEADER_BYTES as u64).to_ne_bytes());
        header.extend_from_slice(&((ATTR_BYTES + 16) as u64).to_ne_bytes());
        for section in [self.attrs, data, Section::default()] {
            header.extend_from_slice(&section.to_bytes());
        }
        for word in bits {
            header.extend_from_slice(&word.to_ne_bytes());
        }
        let mut fixed = [0; FILE_HEADER_BYTES];
        fixed.copy_from_slice(&header);
        (table, fixed)
    }
}
