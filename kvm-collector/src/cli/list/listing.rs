//! Collects what `list` prints, from the running kernel or from a recording.

use std::path::Path;

use clap::ValueEnum;
use serde::Serialize;

use super::recorded_vms::{ProcessCounter, RecordedVm};
use crate::{
    cli::{
        origin,
        recording::warn_if_damaged,
        selection::EventArgs,
        time_range::RangeArgs,
        tracefs::{find_kvm_format, open_tracefs},
    },
    host::{self, namespaces, vm::VmList},
    model::{EventKind, StreamItem, VMEXIT},
    source::{PlaybackOptions, Recording, TimeLimits},
    tracefs::{Format, ReasonNames},
    view::{OutputHeader, ReportInput, ReportOrigin, SelectedBy},
};

/// What can be listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Subject {
    /// Events of the kvm and kvmmmu systems, with their fields
    #[value(alias = "event")]
    Events,
    /// VMs with their vCPUs
    #[value(alias = "vm")]
    Vms,
    /// Names of exit reasons, for --reason
    #[value(alias = "reason")]
    Reasons,
    /// Kinds of events, for --kind and --cause
    #[value(alias = "kind")]
    Kinds,
}

/// What `list` prints. Subjects that are not requested are absent.
#[derive(Debug, Serialize)]
pub(super) struct Listing {
    #[serde(flatten)]
    pub(super) header: OutputHeader,
    /// The recording that is listed; `None` for the running kernel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) recording: Option<ListedRecording>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) events: Option<Vec<Event>>,
    #[serde(flatten)]
    pub(super) vms: Option<VmList>,
    /// The VMs of a recording.
    #[serde(rename = "vms", skip_serializing_if = "Option::is_none")]
    pub(super) recorded_vms: Option<Vec<RecordedVm>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reasons: Option<Vec<Reason>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) kinds: Option<Vec<Kind>>,
}

/// The recording that is listed.
#[derive(Debug, Serialize)]
pub(super) struct ListedRecording {
    #[serde(flatten)]
    pub(super) input: ReportInput,
    #[serde(skip)]
    pub(super) origin: ReportOrigin,
    /// The period that was read, in ns of the clock of the events; `None` if the recording has no events. The outer one is `None` if
    /// the period is unknown, because only the metadata was read.
    #[serde(skip)]
    pub(super) period_ns: Option<Option<(u64, u64)>>,
}

impl ListedRecording {
    fn new(origin: ReportOrigin, period_ns: Option<Option<(u64, u64)>>) -> Self {
        Self {
            input: ReportInput::new(&origin, period_ns.flatten()),
            origin,
            period_ns,
        }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct Event {
    pub(super) event: String,
    pub(super) field_names: Vec<String>,
}

/// An exit reason.
#[derive(Debug, Serialize)]
pub(super) struct Reason {
    /// `vmx`, `svm` or `arm64`.
    pub(super) isa: &'static str,
    pub(super) reason_code: u32,
    pub(super) reason: String,
}

#[derive(Debug, Serialize)]
pub(super) struct Kind {
    pub(super) kind: String,
    /// The event that is counted, and the fields by which.
    pub(super) event: String,
    pub(super) field_names: Vec<String>,
}

impl Listing {
    pub(super) fn new(header: OutputHeader) -> Self {
        Self {
            header,
            recording: None,
            events: None,
            vms: None,
            recorded_vms: None,
            reasons: None,
            kinds: None,
        }
    }

    /// Lists what the running kernel has.
    pub(super) fn of_host(subjects: &[Subject], patterns: &[String]) -> anyhow::Result<Self> {
        let mut listing = Self::new(origin::header_of_host());
        for subject in subjects {
            match subject {
                Subject::Events => listing.events = Some(host_events(patterns)?),
                Subject::Vms => {
                    if let Err(foreign) = namespaces::check_kernel_ids() {
                        log::warn!(
                            "VMs may be missing, and their ids differ from those in events: {foreign}"
                        );
                    }
                    listing.vms = Some(host::vm::list(Path::new("/proc"))?);
                }
                Subject::Reasons => {
                    let exit = find_kvm_format(&open_tracefs()?, "kvm_exit")?;
                    listing.reasons = Some(reasons(exit.as_ref(), host::kvm::isa()));
                }
                Subject::Kinds => {
                    // All kinds, if the events of this kernel cannot be read.
                    let events = open_tracefs().and_then(|it| Ok(it.kvm_events()?)).ok();
                    let has = |event: &str| match &events {
                        Some(events) => events.iter().any(|it| it.name == event),
                        None => true,
                    };
                    listing.kinds = Some(kinds(has));
                }
            }
        }
        Ok(listing)
    }

    /// Lists what a recording has. `range` limits the VMs to those with events in a time range.
    pub(super) fn of_recording(
        path: &Path,
        subjects: &[Subject],
        patterns: &[String],
        range: &RangeArgs,
    ) -> anyhow::Result<Self> {
        let mut recording = Recording::open(path)?;
        let formats = recording.formats().to_vec();
        let selected = EventArgs::with_patterns(patterns).select_from(&formats, &[], path)?;
        let selected_by = range.add_to(SelectedBy {
            event: patterns.to_vec(),
            ..SelectedBy::default()
        });
        let origin = origin::of_recording(path, &recording, selected_by);
        let mut listing = Self::new(origin.header.clone());
        for subject in subjects {
            match subject {
                Subject::Events => listing.events = Some(selected.iter().map(event).collect()),
                Subject::Reasons => {
                    let exit = formats.iter().find(|it| it.is_event("kvm", "kvm_exit"));
                    listing.reasons = Some(reasons(exit, recording.metadata().isa()));
                }
                Subject::Kinds => {
                    let has = |event: &str| formats.iter().any(|it| it.is_event("kvm", event));
                    listing.kinds = Some(kinds(has));
                }
                // Last, because it reads the recording to its end.
                Subject::Vms => {}
            }
        }
        if !subjects.contains(&Subject::Vms) {
            // The header of a finished recording has the same period. It is 0 if there are no events.
            let times_ns = recording.metadata().sample_times_ns;
            let period_ns = times_ns.map(|times_ns| Some(times_ns).filter(|it| *it != (0, 0)));
            listing.recording = Some(ListedRecording::new(origin, period_ns));
        } else {
            recording.select_events(&selected);
            recording.identify_vms();
            recording.identify_vcpus();
            let options = PlaybackOptions {
                limits: range.apply(TimeLimits::default(), recording.metadata(), path)?,
                ..PlaybackOptions::default()
            };
            let wall_offset_ns = recording.metadata().wall_offset_ns();
            let mut processes = ProcessCounter::new(&selected);
            let summary = recording.play(&options, |item, context| {
                if let StreamItem::Event(event) = item
                    && !context.is_before_range
                {
                    processes.add(event, context.vcpu);
                }
                Ok::<_, anyhow::Error>(())
            })?;
            warn_if_damaged(&summary, path);
            range.check(&summary, wall_offset_ns, path)?;
            listing.recorded_vms = Some(processes.vms(&summary, !range.is_empty()));
            listing.recording = Some(ListedRecording::new(origin, Some(summary.period_ns)));
        }
        Ok(listing)
    }
}

fn host_events(patterns: &[String]) -> anyhow::Result<Vec<Event>> {
    let tracefs = open_tracefs()?;
    let selected = if patterns.is_empty() {
        tracefs.kvm_events()?
    } else {
        tracefs.select_events(patterns)?
    };
    let formats = selected.iter().map(|event| tracefs.read_format(event));
    Ok(formats
        .map(|format| Ok(event(&format?)))
        .collect::<Result<_, crate::tracefs::EventsError>>()?)
}

fn event(format: &Format) -> Event {
    Event {
        event: format.event_name().to_string(),
        field_names: format.fields.iter().map(|it| it.name.clone()).collect(),
    }
}

/// Returns the exit reasons that `kvm_exit` can name, of one instruction set if it is known.
fn reasons(exit: Option<&Format>, isa: Option<u32>) -> Vec<Reason> {
    let names = ReasonNames::new(exit);
    let isas = match (names.is_x86(), isa) {
        (false, _) => vec![2],
        (true, Some(isa)) => vec![isa],
        (true, None) => vec![1, 2],
    };
    let mut reasons = Vec::new();
    for isa in isas {
        reasons.extend(
            names
                .of_isa(isa)
                .into_iter()
                .map(|(reason_code, reason)| Reason {
                    isa: names.isa_name(isa),
                    reason_code,
                    reason,
                }),
        );
    }
    reasons
}

/// Returns the kinds of the events that `has_event` tells are there.
fn kinds(has_event: impl Fn(&str) -> bool) -> Vec<Kind> {
    let by_reason = Kind {
        kind: VMEXIT.to_owned(),
        event: "kvm:kvm_exit".to_owned(),
        field_names: vec!["exit_reason".to_owned()],
    };
    let builtin = EventKind::builtin_kinds().into_iter();
    let builtin = builtin.filter(|kind| has_event(&kind.event));
    let builtin = builtin.map(|kind| Kind {
        field_names: [Some(kind.code_field), kind.subcode_field]
            .into_iter()
            .flatten()
            .collect(),
        event: format!("kvm:{}", kind.event),
        kind: kind.name,
    });
    let by_reason = has_event("kvm_exit").then_some(by_reason);
    by_reason.into_iter().chain(builtin).collect()
}
