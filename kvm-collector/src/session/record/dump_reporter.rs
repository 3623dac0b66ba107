//! Messages of the flight recorder: why it wrote a file, and which time the file covers.

use std::{
    borrow::Cow,
    collections::HashMap,
    path::PathBuf,
    time::{Duration, UNIX_EPOCH},
};

use kvm_ebpf_common::{SlowExit, VCPU_UNKNOWN};

use super::super::progress::print_message;
use crate::{
    format::units::{duration, plural},
    host::clock,
    model::VmName,
    outside_text::OutsideText,
    tracefs::{Format, ReasonNames},
};

/// Reports the dumps of the flight recorder on stderr.
#[derive(Debug, Default)]
pub(super) struct DumpReporter {
    /// Formats of the events, with the names of exit reasons.
    formats: Vec<Format>,
    pub(super) output: PathBuf,
    pub(super) quiet: bool,
    /// The slowest exit that fired the trigger since the last dump.
    slowest: Option<SlowExit>,
    /// Number of exits that fired the trigger since the last dump.
    fired: u64,
}

/// What a message needs to know besides the exits.
#[derive(Debug)]
struct Context<'a> {
    /// VM names by process id.
    vm_names: &'a HashMap<u32, VmName>,
    /// Wall-clock time minus the time of the events, in ns.
    wall_offset_ns: u64,
}

impl DumpReporter {
    pub(super) fn new(formats: &[Format]) -> Self {
        Self {
            formats: formats.to_vec(),
            ..Self::default()
        }
    }

    /// Adds an exit that fired the trigger.
    pub(super) fn add_exit(&mut self, exit: SlowExit) {
        self.fired += 1;
        let is_slower = |it: SlowExit| it.span.busy_ns() < exit.span.busy_ns();
        if self.slowest.is_none_or(is_slower) {
            self.slowest = Some(exit);
        }
    }

    /// Prints why a dump was written, and the range of times of its events.
    pub(super) fn report(&mut self, vm_names: &HashMap<u32, VmName>, range_ns: Option<(u64, u64)>) {
        let context = Context {
            vm_names,
            wall_offset_ns: clock::real_offset_ns(),
        };
        let message = self.message(&context, range_ns);
        (self.slowest, self.fired) = (None, 0);
        if !self.quiet {
            print_message(&message);
        }
    }

    fn message(&self, context: &Context<'_>, range_ns: Option<(u64, u64)>) -> String {
        let why = match self.slowest {
            None => "SIGUSR1".to_owned(),
            Some(exit) => {
                let more = match self.fired {
                    1 => String::new(),
                    number => format!(" (the slowest of {})", plural(number, "exit")),
                };
                format!("{}{more}", self.describe(&exit, context))
            }
        };
        let output = self.output.display();
        match range_ns {
            None => format!("{why}: wrote {output} without events"),
            Some((first_ns, last_ns)) => format!(
                "{why}: wrote {} of events, up to {}, to {output}",
                duration(last_ns.saturating_sub(first_ns)),
                context.wall_time(last_ns)
            ),
        }
    }

    /// Describes an exit: `web-1 (pid 100), vCPU 1: io took 12.25 ms at 2026-01-02T13:17:09.123456Z`.
    fn describe(&self, exit: &SlowExit, context: &Context<'_>) -> String {
        let format = self
            .formats
            .iter()
            .find(|it| it.is_event("kvm", "kvm_exit"));
        let code = u32::try_from(exit.span.key.code).unwrap_or(u32::MAX);
        let reason = ReasonNames::new(format).name(exit.span.key.subcode, code);
        let header = &exit.header;
        let vm = context
            .vm_names
            .get(&header.tgid)
            .map_or(Cow::Borrowed("?"), |vm| {
                OutsideText::new(&vm.name).as_name()
            });
        let vcpu = match exit.vcpu {
            VCPU_UNKNOWN => format!("thread {}", header.tid),
            vcpu => format!("vCPU {vcpu}"),
        };
        format!(
            "{vm} (pid {}), {vcpu}: {reason} took {} at {}",
            header.tgid,
            duration(exit.span.busy_ns()),
            context.wall_time(header.time_ns)
        )
    }
}

impl Context<'_> {
    fn wall_time(&self, time_ns: u64) -> String {
        let since_epoch = Duration::from_nanos(time_ns.wrapping_add(self.wall_offset_ns));
        match UNIX_EPOCH.checked_add(since_epoch) {
            Some(time) => humantime::format_rfc3339_micros(time).to_string(),
            None => format!("{time_ns} ns"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvm_ebpf_common::{Key, RecordHeader, Span, SpanBreakdown};

    const EXIT: &str = include_str!("../../../tests/fixtures/formats/6.12-x86_64/kvm/kvm_exit");

    fn exit(vcpu: u32, total_ns: u64) -> SlowExit {
        SlowExit {
            header: RecordHeader {
                time_ns: 2_000_000_000,
                tgid: 100,
                tid: 101,
                ..RecordHeader::default()
            },
            span: Span {
                key: Key {
                    code: 0x7b,
                    subcode: 2,
                    kind: 0,
                },
                total_ns,
                breakdown: SpanBreakdown {
                    halted_ns: 1_000_000,
                    ..SpanBreakdown::default()
                },
            },
            cause: Key::default(),
            guest_rip: 0,
            vcpu,
            padding: 0,
        }
    }

    #[test]
    fn the_message_names_the_exit_and_the_written_time() {
        let formats = [Format::parse("kvm", EXIT).unwrap()];
        let context = Context {
            vm_names: &HashMap::from([(100, "web-1".into())]),
            wall_offset_ns: 1_000_000_000_000_000_000,
        };
        let range = Some((500_000_000, 2_500_000_000));
        let reporter = || DumpReporter {
            output: "fr.data".into(),
            quiet: true,
            ..DumpReporter::new(&formats)
        };
        let mut one = reporter();
        one.add_exit(exit(1, 13_250_000));
        assert_eq!(
            one.message(&context, range),
            "web-1 (pid 100), vCPU 1: io took 12.25 ms at 2001-09-09T01:46:42.000000Z: \
             wrote 2.000 s of events, up to 2001-09-09T01:46:42.500000Z, to fr.data"
        );
        one.report(context.vm_names, range);
        let signal = one.message(&context, None);
        assert_eq!(signal, "SIGUSR1: wrote fr.data without events");
        let mut two = reporter();
        two.add_exit(exit(VCPU_UNKNOWN, 5_000_000));
        two.add_exit(exit(1, 4_000_000));
        let message = two.message(&context, range);
        let start = "web-1 (pid 100), thread 101: io took 4.000 ms at ";
        assert!(message.starts_with(start), "{message}");
        assert!(
            message.contains(" (the slowest of 2 exits): wrote"),
            "{message}"
        );
    }
}
