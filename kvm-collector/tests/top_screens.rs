//! The screens of `top`, as text: each is kept beside the tests, and must not change by itself.
//!
//! `KVM_COLLECTOR_WRITE_SCREENS=1 cargo test -p kvm-collector --test top_screens` writes them anew.

#[path = "common/host.rs"]
mod host;

use std::{fs, path::Path};

use host::{Exits, HLT, Host, IO, MSR, NPF, Vm, picture, small};
use kvm_collector::{
    model::Loss,
    tui::{self, App},
};
use ratatui::{
    buffer::Buffer,
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers},
    layout::Rect,
    style::Color,
};

const SMALL: (u16, u16) = (80, 24);
const LARGE: (u16, u16) = (160, 50);

fn press(app: &mut App, keys: &[KeyCode]) {
    for key in keys {
        app.handle_key(KeyEvent::new(*key, KeyModifiers::NONE));
    }
}

/// 200 VMs of 8 vCPUs.
fn large(exits: &[Exits]) -> Host {
    let vm = |index: u32| {
        let mut vm = Vm::new(5000 + index, &format!("vm-{index:03}"), 8, exits);
        for (of, exits) in (1..).zip(&mut vm.exits) {
            exits.per_s = exits.per_s * u64::from((index * of) % 23 + 1) / 12;
        }
        vm
    };
    Host {
        vms: (0..200).map(vm).collect(),
        ..Host::default()
    }
}

/// Compares what is on the screen with what was kept.
fn check(name: &str, app: &App, size: (u16, u16)) {
    let (width, height) = size;
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/screens")
        .join(format!("{name}-{width}x{height}.txt"));
    let now = picture(app, size);
    if std::env::var_os("KVM_COLLECTOR_WRITE_SCREENS").is_some() {
        fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
        fs::write(&file, now).expect("the screen is written");
        return;
    }
    let kept = fs::read_to_string(&file).unwrap_or_default();
    assert!(
        now == kept,
        "{} is not what is shown now (KVM_COLLECTOR_WRITE_SCREENS=1 writes it anew):\n{now}",
        file.display()
    );
}

/// The same keys on both sizes, and then two more seconds.
fn check_both(name: &str, host: &Host, keys: &[KeyCode]) {
    for size in [SMALL, LARGE] {
        // Many VMs take long enough as it is.
        let seconds = if host.vms.len() > 100 { 6 } else { 20 };
        let mut app = host.watched(size, seconds);
        press(&mut app, keys);
        host.watch(&mut app, seconds + 1, seconds + 2);
        check(name, &app, size);
    }
}

#[test]
fn some_vms() {
    check_both("vms", &small(), &[]);
}

#[test]
fn the_vcpus_of_a_vm() {
    check_both("vcpus", &small(), &[KeyCode::Enter]);
}

#[test]
fn the_reasons_of_a_vcpu() {
    let keys = [KeyCode::Down, KeyCode::Enter, KeyCode::Enter];
    check_both("reasons", &small(), &keys);
}

#[test]
fn the_histogram_of_a_reason() {
    let keys = [KeyCode::Enter, KeyCode::Enter, KeyCode::Char('H')];
    // The large screen has it by itself: there, the key takes it away.
    check_both("histogram", &small(), &keys);
}

#[test]
fn percentiles_of_a_new_level_are_those_since_the_start_at_first() {
    let host = small();
    let mut app = host.watched(SMALL, 20);
    press(&mut app, &[KeyCode::Enter, KeyCode::Char('H')]);
    app.set_histogram_base(host.reading(20, app.scope()));
    check("just-entered", &app, SMALL);
}

#[test]
fn all_exits_by_reason_of_many_vms() {
    check_both(
        "by-reason",
        &large(&[HLT, IO, MSR, NPF]),
        &[KeyCode::Tab, KeyCode::Tab],
    );
}

#[test]
fn many_vms() {
    check_both("200-vms", &large(&[HLT, IO]), &[]);
}

#[test]
fn the_end_of_many_vms_by_name() {
    let keys = [
        KeyCode::Char('S'),
        KeyCode::Char('S'),
        KeyCode::Char('r'),
        KeyCode::PageDown,
    ];
    check_both("200-vms-scrolled", &large(&[HLT, IO]), &keys);
}

#[test]
fn preempted_time_has_a_column_where_it_is_watched() {
    let host = Host {
        preempt_watched: true,
        ..small()
    };
    check_both("preempt", &host, &[]);
}

#[test]
fn what_is_missing() {
    let host = Host {
        loss: Some(|second| Loss {
            map_full: 1000 * second,
            unmatched: 3,
            ..Loss::default()
        }),
        ..small()
    };
    check_both("loss", &host, &[]);
}

#[test]
fn a_vm_that_ended() {
    let mut host = small();
    host.vms[0].ended_s = Some(15);
    check_both("ended", &host, &[]);
}

#[test]
fn since_the_start_paused_and_filtered() {
    let keys = [
        KeyCode::Char('a'),
        KeyCode::Char(' '),
        KeyCode::Char('/'),
        KeyCode::Char('W'),
        KeyCode::Char('e'),
    ];
    check_both("filtering", &small(), &keys);
    let keys = [&keys[..], &[KeyCode::Char('x'), KeyCode::Enter]].concat();
    check_both("filtered", &small(), &keys);
}

#[test]
fn help() {
    check_both("help", &small(), &[KeyCode::Char('?')]);
}

#[test]
fn kinds_without_times() {
    let port = |code, per_s| Exits { code, per_s, ..IO };
    let host = Host {
        kind: Some("pio"),
        vms: vec![Vm::new(77, "web-1", 2, &[port(0x3f8, 400), port(0x70, 2)])],
        ..Host::default()
    };
    check_both("pio", &host, &[KeyCode::Tab]);
}

#[test]
fn nothing() {
    let host = Host::default();
    check("before", &host.app(SMALL), SMALL);
    check("waiting", &host.watched(SMALL, 2), SMALL);
    check("waiting-long", &host.watched(SMALL, 7), SMALL);
}

#[test]
fn no_size_is_too_small_or_too_large() {
    let mut many = large(&[HLT]);
    many.vms.truncate(70);
    for host in [Host::default(), small(), many] {
        for size in [
            (1, 1),
            (0, 0),
            (20, 5),
            (5, 20),
            (1, 60),
            (500, 1),
            (79, 3),
            (400, 120),
        ] {
            for keys in ["", "H", "?", "/x", "\t\tH"] {
                let mut app = host.watched(size, 2);
                for key in keys.chars() {
                    let code = match key {
                        '\t' => KeyCode::Tab,
                        key => KeyCode::Char(key),
                    };
                    press(&mut app, &[code, KeyCode::Down]);
                }
                // The terminal may be another size by the time it is drawn.
                for (width, height) in [size, (3, 3), (90, 30)] {
                    let mut buffer = Buffer::empty(Rect::new(0, 0, width, height));
                    tui::draw(&app, &mut buffer);
                }
            }
        }
    }
}

#[test]
fn without_colours_there_are_none() {
    let host = small();
    let colours = |app: &App| {
        let mut buffer = Buffer::empty(Rect::new(0, 0, 160, 50));
        tui::draw(app, &mut buffer);
        let coloured = |color: Color| color != Color::Reset;
        let cells = buffer.content.iter();
        cells
            .filter(|cell| coloured(cell.fg) || coloured(cell.bg))
            .count()
    };
    assert!(colours(&host.watched(LARGE, 3)) > 100);
    let setup = tui::Setup {
        kind: "vmexit".into(),
        preempt_watched: false,
        color: false,
        interactive: true,
    };
    let mut app = App::new(
        setup,
        tui::Sort::Cost,
        std::time::Duration::from_secs(1),
        LARGE,
    );
    host.watch(&mut app, 1, 3);
    assert_eq!(colours(&app), 0);
}
