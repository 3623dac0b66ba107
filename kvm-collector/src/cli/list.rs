//! `kvm-collector list`.

use std::{io::Write as _, path::Path, process::ExitCode};

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::{output, tracefs::open_tracefs};
use crate::{
    format::json,
    host::{self, namespaces, vm::VmList},
};

/// List the events, VMs and vCPUs of this host
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// List only this [default: everything]
    #[arg(value_name = "WHAT")]
    what: Option<Subject>,

    /// Select events by name; globs work (kvm_exit, 'kvmmmu:*')
    #[arg(short, long = "event", value_name = "GLOB", value_delimiter = ',')]
    events: Vec<String>,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Subject {
    /// Events of the kvm and kvmmmu systems, with their fields
    Events,
    /// VMs with their vCPUs
    Vms,
}

#[derive(Serialize)]
struct Listing {
    #[serde(skip_serializing_if = "Option::is_none")]
    events: Option<Vec<Event>>,
    #[serde(flatten)]
    vms: Option<VmList>,
}

#[derive(Serialize)]
struct Event {
    event: String,
    fields: Vec<String>,
}

pub(super) fn run(args: &ListArgs) -> anyhow::Result<ExitCode> {
    let wants = |what| args.what.is_none_or(|only| only == what);
    let listing = Listing {
        events: if wants(Subject::Events) {
            Some(list_events(&args.events)?)
        } else {
            None
        },
        vms: if wants(Subject::Vms) {
            if let Err(foreign) = namespaces::check_kernel_ids() {
                log::warn!(
                    "VMs may be missing, and their ids differ from those in events: {foreign}"
                );
            }
            Some(host::vm::list(Path::new("/proc"))?)
        } else {
            None
        },
    };
    let mut out = output::open_output(None)?;
    if args.json {
        json::write_line(&listing, &mut out)?;
    } else {
        write_text(&listing, &mut out)?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn list_events(patterns: &[String]) -> anyhow::Result<Vec<Event>> {
    let tracefs = open_tracefs()?;
    let selected = if patterns.is_empty() {
        tracefs.kvm_events()?
    } else {
        tracefs.select_events(patterns)?
    };
    let mut events = Vec::with_capacity(selected.len());
    for event in selected {
        let format = tracefs.read_format(&event)?;
        events.push(Event {
            event: event.to_string(),
            fields: format
                .fields
                .iter()
                .map(|field| field.name.clone())
                .collect(),
        });
    }
    Ok(events)
}

fn write_text(listing: &Listing, out: &mut impl std::io::Write) -> std::io::Result<()> {
    if let Some(events) = &listing.events {
        writeln!(out, "{} events:", events.len())?;
        let width = events
            .iter()
            .map(|event| event.event.len())
            .max()
            .unwrap_or(0);
        for event in events {
            writeln!(out, "  {:width$}  {}", event.event, event.fields.join(" "))?;
        }
    }
    if let Some(VmList { vms, unreadable }) = &listing.vms {
        if listing.events.is_some() {
            writeln!(out)?;
        }
        writeln!(out, "{} VMs:", vms.len())?;
        if *unreadable > 0 {
            writeln!(
                out,
                "  ({unreadable} processes cannot be read: run as root to list all VMs)"
            )?;
        }
        for vm in vms {
            writeln!(out, "  {} (pid {}, {})", vm.name, vm.tgid, vm.vmm)?;
            for vcpu in &vm.vcpus {
                let index = vcpu.index.map_or("?".into(), |index| index.to_string());
                writeln!(out, "    vCPU {index}  tid {}  {}", vcpu.tid, vcpu.comm)?;
            }
        }
    }
    Ok(())
}
