//! Reads the metadata of a finished file: the attributes of the events and the features.

use std::{fs::File, io, os::unix::fs::FileExt as _};

use bytes::Bytes;

use super::{
    abi::{Section, record, u32_at, u64_at},
    input::{Input, InputChunk, records},
    metadata::Metadata,
};

/// The maximum size of an entry in the table of attributes.
const MAX_ATTR_BYTES: u64 = 4096;
/// The maximum size of all attributes, and of the ids of an event.
const MAX_ATTRS_BYTES: u64 = 64 << 20;
/// The maximum size of a feature.
const MAX_FEATURE_BYTES: u64 = 64 << 20;

/// Reads a section. `None` if the file ends before the section does.
pub(super) fn read_section(file: &File, section: Section) -> io::Result<Option<Bytes>> {
    // Check this first, so that a damaged size does not cause a huge allocation.
    let Ok(size) = usize::try_from(section.size) else {
        return Ok(None);
    };
    let length = file.metadata()?.len();
    if file.metadata()?.is_file() && section.offset.saturating_add(section.size) > length {
        return Ok(None);
    }
    let mut bytes = vec![0; size];
    match file.read_exact_at(&mut bytes, section.offset) {
        Ok(()) => Ok(Some(bytes.into())),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads the attributes and ids of all events. The error is `None` if the table is malformed.
pub(super) fn read_attrs(
    metadata: &mut Metadata,
    attrs: Section,
    attr_size: u64,
    pread: &impl Fn(Section) -> io::Result<Option<Bytes>>,
) -> Result<(), Option<io::Error>> {
    if !(64..=MAX_ATTR_BYTES).contains(&attr_size) || attrs.size > MAX_ATTRS_BYTES {
        return Err(None);
    }
    let attr_size = usize::try_from(attr_size).map_err(|_| None)?;
    let bytes = pread(attrs).map_err(Some)?.ok_or(None)?;
    for entry in bytes.chunks_exact(attr_size) {
        let (attr, section) = entry.split_at(attr_size - 16);
        let (offset, size) = u64_at(section, 0).zip(u64_at(section, 8)).ok_or(None)?;
        let ids = Section { offset, size };
        if ids.size > MAX_ATTRS_BYTES {
            return Err(None);
        }
        let ids = pread(ids).map_err(Some)?.ok_or(None)?;
        if !metadata.add_attr(attr, &ids) {
            return Err(None);
        }
    }
    Ok(())
}

/// Reads the features that [`Metadata`] uses. Returns false if one is cut off.
pub(super) fn read_features(
    metadata: &mut Metadata,
    data: Section,
    feature_bits: &[u64],
    pread: &impl Fn(Section) -> io::Result<Option<Bytes>>,
) -> bool {
    let is_present = |number: &u32| {
        feature_bits
            .get((number / 64) as usize)
            .is_some_and(|word| word & (1 << (number % 64)) != 0)
    };
    let numbers: Vec<u32> = (0..256).filter(is_present).collect();
    let table = Section {
        offset: data.offset + data.size,
        size: 16 * numbers.len() as u64,
    };
    let Ok(Some(table)) = pread(table) else {
        return false;
    };
    let mut is_complete = true;
    for (number, entry) in numbers.iter().zip(table.chunks_exact(16)) {
        if !Metadata::USED_FEATURES.contains(number) {
            continue;
        }
        let section = u64_at(entry, 0).zip(u64_at(entry, 8));
        let content = section
            .filter(|it| it.1 <= MAX_FEATURE_BYTES)
            .and_then(|(offset, size)| pread(Section { offset, size }).ok().flatten());
        match content {
            Some(content) => metadata.add_feature(*number, &content),
            None => is_complete = false,
        }
    }
    is_complete
}

/// Reads features and tracing data from the records between the attributes and the events, which our
/// recordings have.
pub(super) fn read_stream_metadata(metadata: &mut Metadata, bytes: Bytes) {
    let mut input = Input::from_bytes(bytes);
    loop {
        match input.next() {
            Ok(InputChunk::Records(chunk, _)) => {
                for (_, record) in records(&chunk) {
                    match u32_at(record, 0) {
                        Some(record::HEADER_FEATURE) => metadata.add_header_feature(record),
                        Some(record::PADDING) => metadata.add_hidden_feature(record),
                        _ => {}
                    }
                }
            }
            Ok(InputChunk::TracingData(data)) => metadata.add_tracing_data(&data),
            _ => return,
        }
    }
}
