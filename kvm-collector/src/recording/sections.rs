//! What a finished file has before and behind its events: its attrs, and the table of its features.

use std::{fs::File, io, os::unix::fs::FileExt as _};

use bytes::Bytes;

use super::{
    abi::{record, u32_at, u64_at},
    catalog::Catalog,
    head::Section,
    input::{Input, Piece, records},
};

/// An event's attr with its section of ids is not longer.
const MOST_ATTR: u64 = 4096;
/// All attrs are not longer.
const MOST_ATTRS: u64 = 64 << 20;
/// A feature is not longer.
const MOST_FEATURE: u64 = 64 << 20;

/// A section's bytes; none if the file does not have them all.
pub(super) fn read_section(file: &File, section: Section) -> io::Result<Option<Bytes>> {
    // Memory for what is there, not for what is said to be.
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

/// Reads all attrs with their ids. The error is the system's, or none for what makes no sense.
pub(super) fn read_attrs(
    catalog: &mut Catalog,
    attrs: Section,
    attr_size: u64,
    pread: &impl Fn(Section) -> io::Result<Option<Bytes>>,
) -> Result<(), Option<io::Error>> {
    if !(64..=MOST_ATTR).contains(&attr_size) || attrs.size > MOST_ATTRS {
        return Err(None);
    }
    let attr_size = usize::try_from(attr_size).map_err(|_| None)?;
    let bytes = pread(attrs).map_err(Some)?.ok_or(None)?;
    for entry in bytes.chunks_exact(attr_size) {
        let (attr, ids) = entry.split_at(attr_size - 16);
        let ids = u64_at(ids, 0).zip(u64_at(ids, 8)).ok_or(None)?;
        let ids = Section {
            offset: ids.0,
            size: ids.1,
        };
        if ids.size > MOST_ATTRS {
            return Err(None);
        }
        let ids = pread(ids).map_err(Some)?.ok_or(None)?;
        if !catalog.add_attr(attr, &ids) {
            return Err(None);
        }
    }
    Ok(())
}

/// Reads the features that are of use; false if any is cut off.
pub(super) fn read_features(
    catalog: &mut Catalog,
    data: Section,
    bits: &[u64],
    pread: &impl Fn(Section) -> io::Result<Option<Bytes>>,
) -> bool {
    let present = |number: &u32| {
        bits.get((number / 64) as usize)
            .is_some_and(|word| word & (1 << (number % 64)) != 0)
    };
    let numbers: Vec<u32> = (0..256).filter(present).collect();
    let table = Section {
        offset: data.offset + data.size,
        size: 16 * numbers.len() as u64,
    };
    let Ok(Some(table)) = pread(table) else {
        return false;
    };
    let mut whole = true;
    for (number, entry) in numbers.iter().zip(table.chunks_exact(16)) {
        if !Catalog::FEATURES.contains(number) {
            continue;
        }
        let section = u64_at(entry, 0).zip(u64_at(entry, 8));
        let content = section
            .filter(|it| it.1 <= MOST_FEATURE)
            .and_then(|(offset, size)| pread(Section { offset, size }).ok().flatten());
        match content {
            Some(content) => catalog.feature(*number, &content),
            None => whole = false,
        }
    }
    whole
}

/// What one of our files has between its attrs and its events.
pub(super) fn read_gap(catalog: &mut Catalog, bytes: Bytes) {
    let mut input = Input::of_bytes(bytes);
    loop {
        match input.next() {
            Ok(Piece::Records(run, _)) => {
                for (_, record) in records(&run) {
                    if u32_at(record, 0) == Some(record::HEADER_FEATURE) {
                        catalog.header_feature(record);
                    }
                }
            }
            Ok(Piece::TracingData(data)) => catalog.tracing_data(&data),
            _ => return,
        }
    }
}
