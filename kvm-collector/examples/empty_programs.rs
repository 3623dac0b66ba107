//! Attaches an empty program to KVM events, as a raw or a classic tracepoint program, until standard input ends.
//! `cargo xtask bench` measures with it the minimum cost of any program on these events.
//!
//!     empty_programs raw|classic EVENT...

use std::io::Read as _;

use kvm_collector::{
    probe::EmptyPrograms,
    tracefs::{Tracefs, events},
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let raw = match args.next().as_deref() {
        Some("raw") => true,
        Some("classic") => false,
        _ => return Err("usage: empty_programs raw|classic EVENT...".into()),
    };
    let tracefs = Tracefs::find_or_mount()?;
    let patterns: Vec<_> = args.collect();
    let formats = events::select(&tracefs.kvm_events()?, &patterns)?
        .iter()
        .map(|event| tracefs.read_format(event))
        .collect::<Result<Vec<_>, _>>()?;
    let programs = EmptyPrograms::attach(&formats, raw)?;
    println!("attached");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    drop(programs);
    Ok(())
}
