//! The screens of `top`, compared with the text files in `tests/fixtures/screens`.
//!
//! `KVM_COLLECTOR_WRITE_SCREENS=1 cargo test -p kvm-collector --test top_screens` rewrites the files.

#[path = "common/simulated_host.rs"]
mod simulated_host;

use std::{fs, path::Path};

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
use simulated_host::{
    ExitLoad, HLT, IO, MSR, NPF, SimulatedHost, SimulatedVm, draw_text, small_host,
};

const SMALL: (u16, u16) = (80, 24);
const LARGE: (u16, u16) = (160, 50);

fn press(app: &mut App, keys: &[KeyCode]) {
    for key in keys {
        app.handle_key(KeyEvent::new(*key, KeyModifiers::NONE));
    }
}

/// A host with 200 VMs that have 8 vCPUs each.
fn large_host(exits: &[ExitLoad]) -> SimulatedHost {
    let vm = |index: u32| {
        let mut vm = SimulatedVm::new(5000 + index, &format!("vm-{index:03}"), 8, exits);
        for (factor, exits) in (1..).zip(&mut vm.exits) {
            exits.per_s = exits.per_s * u64::from((index * factor) % 23 + 1) / 12;
        }
        vm
    };
    SimulatedHost {
        vms: (0..200).map(vm).collect(),
        ..SimulatedHost::default()
    }
}

/// Compares the screen with its file.
fn check_screen(name: &str, app: &App, size: (u16, u16)) {
    let (width, height) = size;
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/screens")
        .join(format!("{name}-{width}x{height}.txt"));
    let drawn = draw_text(app, size);
    if std::env::var_os("KVM_COLLECTOR_WRITE_SCREENS").is_some() {
        fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
        fs::write(&file, drawn).expect("cannot write the screen");
        return;
    }
    let expected = fs::read_to_string(&file).unwrap_or_default();
    assert!(
        drawn == expected,
        "{} differs from the screen (KVM_COLLECTOR_WRITE_SCREENS=1 rewrites it):\n{drawn}",
        file.display()
    );
}

/// Presses the keys, adds two more readings and checks the screen, in both sizes.
fn check_both_sizes(name: &str, host: &SimulatedHost, keys: &[KeyCode]) {
    for size in [SMALL, LARGE] {
        // Readings of many VMs are slow.
        let seconds = if host.vms.len() > 100 { 6 } else { 20 };
        let mut app = host.app_after(seconds, size);
        press(&mut app, keys);
        host.add_readings(&mut app, seconds + 1..=seconds + 2);
        check_screen(name, &app, size);
    }
}

#[test]
fn vms() {
    check_both_sizes("vms", &small_host(), &[]);
}

#[test]
fn vcpus_of_a_vm() {
    check_both_sizes("vcpus", &small_host(), &[KeyCode::Enter]);
}

#[test]
fn reasons_of_a_vcpu() {
    let keys = [KeyCode::Down, KeyCode::Enter, KeyCode::Enter];
    check_both_sizes("reasons", &small_host(), &keys);
}

#[test]
fn histogram_of_a_reason() {
    let keys = [KeyCode::Enter, KeyCode::Enter, KeyCode::Char('H')];
    // The large screen shows the histogram by default: there, the key hides it.
    check_both_sizes("histogram", &small_host(), &keys);
}

#[test]
fn percentiles_of_an_opened_level_are_first_since_the_start() {
    let host = small_host();
    let mut app = host.app_after(20, SMALL);
    press(&mut app, &[KeyCode::Enter, KeyCode::Char('H')]);
    app.set_histogram_base(host.reading(20, app.scope()));
    check_screen("just-entered", &app, SMALL);
}

#[test]
fn exits_of_many_vms_by_reason() {
    check_both_sizes(
        "by-reason",
        &large_host(&[HLT, IO, MSR, NPF]),
        &[KeyCode::Tab, KeyCode::Tab],
    );
}

#[test]
fn many_vms() {
    check_both_sizes("200-vms", &large_host(&[HLT, IO]), &[]);
}

#[test]
fn many_vms_sorted_by_name_and_scrolled() {
    let keys = [
        KeyCode::Char('S'),
        KeyCode::Char('S'),
        KeyCode::Char('r'),
        KeyCode::PageDown,
    ];
    check_both_sizes("200-vms-scrolled", &large_host(&[HLT, IO]), &keys);
}

#[test]
fn preempted_time_has_a_column_with_preempt() {
    let host = SimulatedHost {
        preempt_watched: true,
        ..small_host()
    };
    check_both_sizes("preempt", &host, &[]);
}

#[test]
fn losses() {
    let host = SimulatedHost {
        loss: Some(|second| Loss {
            map_full: 1000 * second,
            unmatched: 3,
            ..Loss::default()
        }),
        ..small_host()
    };
    check_both_sizes("loss", &host, &[]);
}

#[test]
fn ended_vm() {
    let mut host = small_host();
    host.vms[0].ended_s = Some(15);
    check_both_sizes("ended", &host, &[]);
}

#[test]
fn all_time_paused_and_filtered() {
    let keys = [
        KeyCode::Char('a'),
        KeyCode::Char(' '),
        KeyCode::Char('/'),
        KeyCode::Char('W'),
        KeyCode::Char('e'),
    ];
    check_both_sizes("filtering", &small_host(), &keys);
    let keys = [&keys[..], &[KeyCode::Char('x'), KeyCode::Enter]].concat();
    check_both_sizes("filtered", &small_host(), &keys);
}

#[test]
fn help() {
    check_both_sizes("help", &small_host(), &[KeyCode::Char('?')]);
}

#[test]
fn event_kind_without_times() {
    let port = |code, per_s| ExitLoad { code, per_s, ..IO };
    let host = SimulatedHost {
        kind: Some("pio"),
        vms: vec![SimulatedVm::new(
            77,
            "web-1",
            2,
            &[port(0x3f8, 400), port(0x70, 2)],
        )],
        ..SimulatedHost::default()
    };
    check_both_sizes("pio", &host, &[KeyCode::Tab]);
}

#[test]
fn without_utf8() {
    let host = SimulatedHost {
        is_ascii: true,
        ..small_host()
    };
    check_both_sizes("ascii", &host, &[KeyCode::Char('H')]);
}

#[test]
fn end_of_a_recording() {
    let host = SimulatedHost {
        recording: Some("web.data"),
        ..small_host()
    };
    let mut app = host.app_after(4, SMALL);
    press(&mut app, &[KeyCode::Enter]);
    app.set_source_ended();
    check_screen("recording-ended", &app, SMALL);
    let host = SimulatedHost {
        vms: Vec::new(),
        ..host
    };
    let mut app = host.new_app(SMALL);
    app.set_source_ended();
    check_screen("recording-empty", &app, SMALL);
}

#[test]
fn unknown_key() {
    let mut app = small_host().app_after(3, SMALL);
    press(&mut app, &[KeyCode::Char('x')]);
    check_screen("unknown-key", &app, SMALL);
}

#[test]
fn names_of_ports() {
    let port = |code, per_s| ExitLoad { code, per_s, ..IO };
    let host = SimulatedHost {
        kind: Some("pio"),
        vms: vec![SimulatedVm::new(
            77,
            "web-1",
            2,
            &[port(0x3f8, 400), port(0x70, 2)],
        )],
        ..SimulatedHost::default()
    };
    check_both_sizes("ports", &host, &[KeyCode::Enter, KeyCode::Enter]);
}

#[test]
fn no_vms() {
    let host = SimulatedHost::default();
    check_screen("before", &host.new_app(SMALL), SMALL);
    check_screen("waiting", &host.app_after(2, SMALL), SMALL);
    check_screen("waiting-long", &host.app_after(7, SMALL), SMALL);
}

#[test]
fn every_terminal_size_is_drawn() {
    let mut many = large_host(&[HLT]);
    many.vms.truncate(70);
    for host in [SimulatedHost::default(), small_host(), many] {
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
                let mut app = host.app_after(2, size);
                for key in keys.chars() {
                    let code = match key {
                        '\t' => KeyCode::Tab,
                        key => KeyCode::Char(key),
                    };
                    press(&mut app, &[code, KeyCode::Down]);
                }
                // The terminal may have been resized since the last event.
                for (width, height) in [size, (3, 3), (90, 30)] {
                    let mut buffer = Buffer::empty(Rect::new(0, 0, width, height));
                    tui::draw(&app, &mut buffer);
                }
            }
        }
    }
}

#[test]
fn without_color_no_cell_is_colored() {
    let host = small_host();
    let colored_cells = |app: &App| {
        let mut buffer = Buffer::empty(Rect::new(0, 0, 160, 50));
        tui::draw(app, &mut buffer);
        let is_colored = |color: Color| color != Color::Reset;
        let cells = buffer.content.iter();
        cells
            .filter(|cell| is_colored(cell.fg) || is_colored(cell.bg))
            .count()
    };
    assert!(colored_cells(&host.app_after(3, LARGE)) > 100);
    let setup = tui::Setup {
        kind: "vmexit".into(),
        preempt_watched: false,
        color: false,
        unicode: true,
        recording: None,
        selection: String::new(),
        vcpus_from_thread_names: false,
        interactive: true,
    };
    let mut app = App::new(
        setup,
        tui::Sort::Cost,
        std::time::Duration::from_secs(1),
        LARGE,
    );
    host.add_readings(&mut app, 1..=3);
    assert_eq!(colored_cells(&app), 0);
}
