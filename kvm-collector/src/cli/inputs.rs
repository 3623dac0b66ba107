//! The recordings that `-i` names: a file, several files, or all recordings in a directory or of a glob.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use super::{
    usage::{UsageError, bail_usage},
    warnings::Warnings,
};
use crate::{
    bounds::{Letters, compile_glob, excerpt},
    format::units::plural,
    recording::{ReadError, is_directory_recording, is_empty_file},
    source::Recording,
};

/// The recordings that `-i` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Inputs {
    /// None: the running kernel is measured.
    None,
    /// One file, which may be `-`.
    One(PathBuf),
    /// At least two files.
    Several(Vec<PathBuf>),
}

impl Inputs {
    /// Finds the recordings.
    ///
    /// # Errors
    /// When a directory or glob has no recording, or a file cannot be read.
    pub(super) fn find(given: &[PathBuf]) -> anyhow::Result<Self> {
        match given {
            [] => return Ok(Self::None),
            [path] if is_stdin(path) || is_one_recording(path) => {
                return Ok(Self::One(path.clone()));
            }
            _ => {}
        }
        let mut files = Vec::new();
        for path in given {
            if is_stdin(path) {
                bail_usage!("-i -: standard input cannot be read together with other recordings");
            }
            if is_one_recording(path) {
                if fs::metadata(path).is_ok_and(|it| !it.is_file() && !it.is_dir()) {
                    // Each recording is opened twice.
                    bail_usage!(
                        "-i {}: a pipe or device cannot be read together with other recordings",
                        path.display()
                    );
                }
                files.push(path.clone());
            } else if path.is_dir() {
                let all = entries(path)?;
                let is_candidate = |it: &PathBuf| it.is_file() || is_directory_recording(it);
                files.extend(recordings_of(path, all.into_iter().filter(is_candidate))?);
            } else {
                files.extend(recordings_of(path, matches(path)?.into_iter())?);
            }
        }
        remove_duplicates(&mut files);
        Ok(match files.len() {
            1 => Self::One(files.remove(0)),
            _ => Self::Several(files),
        })
    }

    /// Finds the recording of a command that reads only one.
    ///
    /// # Errors
    /// As [`Inputs::find`], and when there are several.
    pub(super) fn find_one(given: &[PathBuf], command: &str) -> anyhow::Result<Option<PathBuf>> {
        match Self::find(given)? {
            Self::None => Ok(None),
            Self::One(path) => Ok(Some(path)),
            Self::Several(files) => bail_usage!(
                "`{command}` reads one recording, and -i names {}: events of several recordings have no common order. `stat` and `exits` sum up several",
                files.len()
            ),
        }
    }
}

fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// Returns whether a path names one recording: a file, or a directory of `perf record --threads`.
fn is_one_recording(path: &Path) -> bool {
    match path.is_dir() {
        true => is_directory_recording(path),
        false => !is_glob(path),
    }
}

/// Returns whether a path is a glob. A file with this name is that file.
fn is_glob(path: &Path) -> bool {
    let has_wildcard = path
        .to_str()
        .is_some_and(|it| it.contains(['*', '?', '[', '{']));
    has_wildcard && fs::symlink_metadata(path).is_err()
}

/// Returns the entries of a directory, sorted by name.
fn entries(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let read = || {
        let entries = fs::read_dir(folder)?;
        entries.map(|it| Ok(it?.path())).collect()
    };
    let entries: Result<Vec<_>, std::io::Error> = read();
    let mut entries = entries.with_context(|| format!("cannot read {}", folder.display()))?;
    entries.sort();
    Ok(entries)
}

/// Returns the files that match a glob, whose wildcards may be in any component.
fn matches(glob: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = vec![PathBuf::new()];
    for component in glob.components() {
        let Some(pattern) = component
            .as_os_str()
            .to_str()
            .filter(|it| it.contains(['*', '?', '[', '{']))
        else {
            for path in &mut found {
                path.push(component);
            }
            continue;
        };
        let matcher = compile_glob(pattern, Letters::CaseSensitive).map_err(|error| {
            let text = glob.to_string_lossy();
            UsageError(format!("-i {}: not a valid glob: {error}", excerpt(&text)))
        })?;
        let mut next = Vec::new();
        for path in found {
            let is_here = path.as_os_str().is_empty();
            let folder = if is_here { Path::new(".") } else { &path };
            if !folder.is_dir() {
                continue;
            }
            for entry in entries(folder)? {
                let Some(name) = entry.file_name().map(PathBuf::from) else {
                    continue;
                };
                // As in a shell, wildcards do not match hidden files.
                let is_hidden = name.to_str().is_some_and(|it| it.starts_with('.'));
                if matcher.is_match(&name) && (!is_hidden || pattern.starts_with('.')) {
                    next.push(if is_here { name } else { path.join(name) });
                }
            }
        }
        found = next;
    }
    found.retain(|it| it.is_file() || is_directory_recording(it));
    Ok(found)
}

/// Returns those of some files that are recordings, and warns about the others.
fn recordings_of(
    given: &Path,
    files: impl Iterator<Item = PathBuf>,
) -> anyhow::Result<Vec<PathBuf>> {
    let mut recordings = Vec::new();
    let mut skipped = Warnings::default();
    for file in files {
        if is_empty_file(&file) {
            skipped.warn(|| format!("skipped {}: no recording, but empty", file.display()));
            continue;
        }
        match Recording::open(&file) {
            Ok(_) => recordings.push(file),
            Err(error) => {
                let Some(reason) = skip_reason(&error) else {
                    // Whoever reads it says what is wrong with it.
                    recordings.push(file);
                    continue;
                };
                skipped.warn(|| format!("skipped {}: {reason}", file.display()));
            }
        }
    }
    let others = skipped.count();
    skipped.finish(|more| {
        format!(
            "skipped {} in {}",
            plural(more, "more file"),
            given.display()
        )
    });
    if recordings.is_empty() {
        let found = match others {
            0 => "there is no file".to_owned(),
            1 => "the only file is no recording".to_owned(),
            others => format!("none of {others} files is a recording"),
        };
        return Err(UsageError(format!("no recording in {}: {found}", given.display())).into());
    }
    Ok(recordings)
}

/// Returns in short why a file among others is skipped; `None` if it may be a damaged recording.
fn skip_reason(error: &ReadError) -> Option<String> {
    match error {
        ReadError::NotARecording { found, .. } => Some(format!("no recording, but {found}")),
        ReadError::Unsuitable { problem, .. } => Some(format!("it {problem}")),
        _ => None,
    }
}

/// Removes files that are named more than once: their events would be counted twice.
fn remove_duplicates(files: &mut Vec<PathBuf>) {
    let mut seen = HashMap::new();
    let mut repeated = Warnings::default();
    files.retain(|file| {
        let path = file.canonicalize().unwrap_or_else(|_| file.clone());
        let count = seen.entry(path).or_insert(0u64);
        *count += 1;
        if *count == 2 {
            repeated.warn(|| format!("{} is named more than once, and read once", file.display()));
        }
        *count == 1
    });
    repeated.finish(|more| {
        let files = plural(more, "more file");
        format!("named more than once, and read once: {files}")
    });
}
