//! Turns facts about the host and the result of the probe into checks.

use super::{
    CommandCheck, Diagnosis, EventCounts, Facts, Refusal, Status, TestGuestError,
    kernel_checks::{btf, kernel, lockdown, tracefs},
    kvm_checks::{device, events, exit_events, kvm_modules},
    process_checks::{pid_namespace, privileges, sandbox, time_namespace},
};
use crate::host::sandbox::InForce;

/// Builds the diagnosis from the facts about the host, the event counts of the test guest, the sandbox that is in force, and the
/// results for commands.
#[must_use]
pub fn diagnose(
    facts: &Facts,
    counts: &Result<EventCounts, TestGuestError>,
    in_force: Option<&InForce>,
    mut commands: Vec<CommandCheck>,
) -> Diagnosis {
    let checks = vec![
        kernel(&facts.kernel),
        privileges(&facts.privileges, &facts.kernel),
        sandbox(in_force),
        pid_namespace(facts.ids),
        time_namespace(facts.clock_offset_ns),
        lockdown(facts.kernel.lockdown),
        btf(facts.kernel.btf),
        tracefs(facts.tracefs.as_ref(), facts.kernel.lockdown),
        kvm_modules(&facts.kvm),
        device(facts.kvm.device),
        events(facts.tracefs.as_ref()),
        exit_events(counts, &facts.kvm),
    ];
    let exits_fire = counts.as_ref().ok().map(EventCounts::exit_events_fire);
    if exits_fire != Some(true) {
        let is_known = exits_fire.is_some();
        for command in &mut commands {
            refuse_without_exit_events(command, is_known);
        }
    }
    Diagnosis::new(exits_fire, checks, commands)
}

/// Changes the result of a command that needs events which do not fire, or of which that is unknown.
fn refuse_without_exit_events(command: &mut CommandCheck, is_known: bool) {
    if !command.needs_exit_events || !command.works() {
        return;
    }
    let (status, error) = match is_known {
        true => (
            Status::Fail,
            "its programs work, but kvm_exit and kvm_entry do not fire",
        ),
        false => (
            Status::Skip,
            "its programs work, but it is unknown whether kvm_exit and kvm_entry fire",
        ),
    };
    command.status = status;
    command.refusal = Some(Refusal {
        error: error.to_owned(),
        advice: "see exits fire".to_owned(),
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        doctor::write_text,
        guest::GuestError,
        host::{
            clock::UnknownOffset,
            kernel::{Kernel, Lockdown},
            kvm::{Device, Flavour, Kvm, Presence},
            namespaces::ForeignIds,
            privileges::Privileges,
            tracefs::Tracefs,
        },
    };

    fn healthy_host() -> Facts {
        let flavour = Flavour {
            name: "kvm_amd".to_owned(),
            presence: Presence::Module,
            nested: Some(true),
        };
        Facts {
            privileges: Privileges {
                sys_admin: true,
                ..Privileges::default()
            },
            ids: Ok(()),
            clock_offset_ns: Ok(0),
            kernel: Kernel {
                release: "6.1".to_owned(),
                btf: true,
                ..Kernel::default()
            },
            kvm: Kvm {
                device: Device::Usable,
                core: Some(Presence::Module),
                flavour: Some(flavour),
            },
            tracefs: Some(Tracefs {
                path: "/t".into(),
                readable: true,
                kvm_events: 70,
                kvmmmu_events: 15,
            }),
        }
    }

    fn works(command: &'static str, needs_exit_events: bool) -> CommandCheck {
        CommandCheck {
            command,
            status: Status::Ok,
            refusal: None,
            without: Vec::new(),
            needs_exit_events,
        }
    }

    fn diagnose(facts: &Facts, counts: &Result<EventCounts, TestGuestError>) -> Diagnosis {
        let commands = vec![works("stat", false), works("exits", true)];
        super::diagnose(facts, counts, None, commands)
    }

    #[test]
    fn a_host_where_no_command_works_is_not_usable() {
        let mut stat = works("stat", false);
        stat.status = Status::Fail;
        let diagnosis = super::diagnose(&healthy_host(), &ALL_EVENTS_FIRE, None, vec![stat]);
        assert!(!diagnosis.usable, "{diagnosis:?}");
    }

    fn statuses(
        facts: &Facts,
        counts: &Result<EventCounts, TestGuestError>,
    ) -> Vec<(&'static str, Status)> {
        let not_ok = diagnose(facts, counts)
            .checks
            .into_iter()
            .filter(|check| check.status != Status::Ok);
        not_ok.map(|check| (check.name, check.status)).collect()
    }

    const ALL_EVENTS_FIRE: Result<EventCounts, TestGuestError> = Ok(EventCounts {
        expected_userspace_exits: 5,
        kvm_userspace_exit: 5,
        kvm_exit: 9,
        kvm_entry: 9,
    });

    #[test]
    fn healthy_host_passes_all_checks() {
        let diagnosis = diagnose(&healthy_host(), &ALL_EVENTS_FIRE);
        assert!(
            diagnosis.usable && diagnosis.exits_fire == Some(true),
            "{diagnosis:?}"
        );
        assert_eq!(statuses(&healthy_host(), &ALL_EVENTS_FIRE), []);
    }

    #[test]
    fn host_without_kvm_exit_is_usable_with_a_warning() {
        let counts = Ok(EventCounts {
            expected_userspace_exits: 5,
            kvm_userspace_exit: 5,
            kvm_exit: 0,
            kvm_entry: 0,
        });
        let diagnosis = diagnose(&healthy_host(), &counts);
        assert!(
            diagnosis.usable && diagnosis.exits_fire == Some(false),
            "{diagnosis:?}"
        );
        assert_eq!(
            statuses(&healthy_host(), &counts),
            [("exits fire", Status::Warn)]
        );
        let commands = diagnosis.commands.iter().map(|it| it.status);
        assert!(commands.eq([Status::Ok, Status::Fail]));
    }

    #[test]
    fn a_host_where_no_guest_runs_may_lack_exit_events() {
        let diagnosis = diagnose(
            &healthy_host(),
            &Err(TestGuestError::Guest(GuestError::NoKvm)),
        );
        assert!(
            diagnosis.usable && diagnosis.exits_fire.is_none(),
            "{diagnosis:?}"
        );
        let commands = diagnosis.commands.iter().map(|it| it.status);
        assert!(commands.eq([Status::Ok, Status::Skip]));
        let error = &diagnosis.commands[1].refusal.as_ref().unwrap().error;
        assert!(error.contains("unknown whether kvm_exit"), "{error}");
        let mut text = Vec::new();
        write_text(&mut text, &diagnosis, None).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(
            text.ends_with("can work here: stat. It is unknown whether these work: exits.\n"),
            "{text}"
        );
    }

    #[test]
    fn container_checks_name_their_namespace() {
        let check = |facts: &Facts, name| {
            let checks = diagnose(facts, &ALL_EVENTS_FIRE).checks;
            checks.into_iter().find(|check| check.name == name).unwrap()
        };
        let mut facts = healthy_host();
        facts.privileges.in_user_namespace = true;
        facts.clock_offset_ns = Ok(-86_400_500_000_000);
        // Capabilities in a user namespace do not count.
        let privileges = check(&facts, "privileges");
        assert_eq!(privileges.status, Status::Fail);
        assert!(privileges.advice.unwrap().contains("user namespace"));
        let time = check(&facts, "time namespace");
        assert_eq!(time.status, Status::Ok);
        assert!(time.found.contains("86400 s behind"), "{}", time.found);
        // tracefs is missing although the kernel is not locked down.
        facts.tracefs = None;
        assert_eq!(check(&facts, "tracefs").status, Status::Fail);
    }

    #[test]
    fn each_problem_is_reported_by_its_own_check() {
        let nothing = Facts {
            privileges: Privileges {
                euid: 1000,
                ..Privileges::default()
            },
            ids: Err(ForeignIds::ChildNamespace),
            clock_offset_ns: Err(UnknownOffset),
            kernel: Kernel {
                lockdown: Some(Lockdown::Confidentiality),
                ..Kernel::default()
            },
            kvm: Kvm {
                device: Device::Missing,
                core: None,
                flavour: None,
            },
            tracefs: None,
        };
        let diagnosis = diagnose(&nothing, &Err(TestGuestError::NoTracefs));
        assert!(!diagnosis.usable && diagnosis.exits_fire.is_none());
        let expected = [
            ("privileges", Status::Fail),
            ("pid namespace", Status::Warn),
            ("time namespace", Status::Fail),
            ("lockdown", Status::Fail),
            ("tracefs", Status::Skip),
            ("kvm", Status::Fail),
            ("/dev/kvm", Status::Warn),
            ("events", Status::Skip),
            ("exits fire", Status::Skip),
        ];
        assert_eq!(
            statuses(&nothing, &Err(TestGuestError::NoTracefs)),
            expected
        );
        assert!(
            diagnosis
                .checks
                .iter()
                .filter(|check| check.status != Status::Ok)
                .all(|check| check.advice.is_some())
        );
    }
}
