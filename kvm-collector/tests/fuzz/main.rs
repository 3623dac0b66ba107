//! Runs each fuzz target on mutations of its seeds for a few seconds, on stable Rust. `cargo xtask fuzz` runs them longer, with
//! the coverage of cargo-fuzz.
//!
//! `KVM_COLLECTOR_FUZZ_SECONDS` is the time per target. `KVM_COLLECTOR_FUZZ_CORPUS` is a folder that gets the seeds of each
//! target instead.

#[path = "../common/raw_event.rs"]
mod raw_event;
#[path = "../common/raw_record.rs"]
mod raw_record;
#[path = "../consistency/recording_file.rs"]
#[expect(dead_code, reason = "other tests use all of it")]
mod recording_file;

mod mutations;
mod seeds;
#[expect(unreachable_pub, reason = "the crate in fuzz/ has them as a library")]
mod targets;

use std::{
    env, fs,
    panic::catch_unwind,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use mutations::{Random, mutate};

/// Default time per target.
const SECONDS: u64 = 3;

/// A single input takes far less. More means that a parser does not end.
const MAX_TIME: Duration = Duration::from_secs(10);

/// Defines a test for each target, with its seeds.
macro_rules! fuzz {
    ($($target:ident),*) => {$(
        #[test]
        fn $target() {
            fuzz(stringify!($target), targets::$target, &seeds::$target());
        }
    )*};
}

fuzz!(
    arguments, filter, patterns, baseline, ring, proc_files, names, format, recording
);

/// Runs a target on its seeds and on mutations of them until the time is over. An input that fails is kept in a file.
fn fuzz(name: &str, target: fn(&[u8]), seeds: &[Vec<u8>]) {
    if let Some(corpus) = env::var_os("KVM_COLLECTOR_FUZZ_CORPUS") {
        write_seeds(&Path::new(&corpus).join(name), seeds);
        return;
    }
    let seconds = env::var("KVM_COLLECTOR_FUZZ_SECONDS").ok();
    let seconds = seconds.map_or(SECONDS, |it| it.parse().expect("a number of seconds"));
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut random = Random(std::process::id().into());
    let mut runs = 0u64;
    let mut seeds_left = seeds.iter();
    while Instant::now() < end || seeds_left.len() > 0 {
        let data = match seeds_left.next() {
            Some(seed) => seed.clone(),
            None => mutate(seeds, &mut random),
        };
        // The file remains if the input overflows the stack or never ends.
        let file = InputFile::create(name, &data);
        let start = Instant::now();
        let result = catch_unwind(|| target(&data));
        let took = start.elapsed();
        if result.is_err() || took > MAX_TIME {
            panic!("the input {} failed after {took:?}", file.keep().display());
        }
        runs += 1;
    }
    println!("{name}: {runs} inputs in {seconds} s");
}

fn write_seeds(folder: &Path, seeds: &[Vec<u8>]) {
    fs::create_dir_all(folder).expect("cannot create a folder");
    for (number, seed) in seeds.iter().enumerate() {
        fs::write(folder.join(format!("seed-{number}")), seed).expect("cannot write a seed");
    }
}

/// A file with the current input, removed when dropped.
struct InputFile(Option<PathBuf>);

impl InputFile {
    fn create(name: &str, data: &[u8]) -> Self {
        let path = format!("/dev/shm/kvm-collector-fuzz-{}-{name}", std::process::id());
        fs::write(&path, data).expect("cannot write to /dev/shm");
        Self(Some(path.into()))
    }

    fn keep(mut self) -> PathBuf {
        self.0.take().unwrap_or_default()
    }
}

impl Drop for InputFile {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _ = fs::remove_file(path);
        }
    }
}
