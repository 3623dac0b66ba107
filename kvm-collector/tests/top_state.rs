//! The state of `top`: how keys and readings change it.

#[path = "common/simulated_host.rs"]
mod simulated_host;

use std::{collections::HashSet, time::Duration};

use kvm_collector::{
    host::{IdleVcpu, IdleVm, VcpuActivity},
    model::{Loss, process_id},
    tui::{self, Action, App, Control, Sort},
    view::{GroupBy, ReadingHistory, Scope, TrendMetric, Window},
};
use kvm_ebpf_common::Key;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use simulated_host::{
    ExitLoad, HLT, IO, SECOND, SimulatedHost, SimulatedVm, draw_text, small_host,
};

const SIZE: (u16, u16) = (80, 24);

fn press(app: &mut App, code: KeyCode) -> Action {
    app.handle_key(KeyEvent::new(code, KeyModifiers::NONE))
}

fn press_char(app: &mut App, char: char) -> Action {
    press(app, KeyCode::Char(char))
}

fn press_ctrl(app: &mut App, char: char) -> Action {
    app.handle_key(KeyEvent::new(KeyCode::Char(char), KeyModifiers::CONTROL))
}

fn row_names(app: &App) -> Vec<&str> {
    app.rows().iter().map(|row| row.name.as_str()).collect()
}

#[test]
fn a_failure_to_list_vms_is_shown() {
    let host = small_host();
    let mut app = host.app_after(3, SIZE);
    let mut reading = host.reading(4, app.scope());
    reading.idle_failure = Some("VMs cannot be listed".to_owned());
    app.add_reading(reading);
    assert!(draw_text(&app, SIZE).contains("VMs cannot be listed"));
}

#[test]
fn enter_opens_a_row_and_escape_returns_to_it() {
    let mut app = small_host().app_after(3, SIZE);
    press(&mut app, KeyCode::Down);
    let row = app.rows()[1].clone();
    let action = press(&mut app, KeyCode::Enter);
    let opened = app.scope();
    assert_eq!(action, Action::Control(Control::SelectScope(opened)));
    assert_eq!((opened.by, opened.within), (GroupBy::Vcpu, row.key));
    assert_eq!(app.cursor(), 0);
    press_char(&mut app, 'l');
    assert_eq!(app.scope().by, GroupBy::Reason);
    // The reasons of a vCPU are the innermost level: Enter shows the histogram.
    let scope = app.scope();
    assert_eq!(press(&mut app, KeyCode::Enter), Action::None);
    assert_eq!(app.scope(), scope);
    assert!(draw_text(&app, SIZE).contains("reading ..."));
    app.set_histogram_base(small_host().reading(3, scope));
    assert!(draw_text(&app, SIZE).contains("since the start"));
    app.add_reading(small_host().reading(4, scope));
    assert!(draw_text(&app, SIZE).contains("in the last"));
    press(&mut app, KeyCode::Backspace);
    assert_eq!(
        press(&mut app, KeyCode::Esc),
        Action::Control(Control::SelectScope(Scope::default()))
    );
    assert_eq!(app.rows()[app.cursor()].key, row.key);
    assert_eq!(
        press(&mut app, KeyCode::Esc),
        Action::None,
        "the VMs are the outermost level"
    );
}

#[test]
fn a_row_that_was_opened_within_an_interval_has_percentiles_since_the_start() {
    let host = small_host();
    let mut app = host.app_after(3, SIZE);
    press(&mut app, KeyCode::Enter);
    press_char(&mut app, 'H');
    // While a recording waits for the next reading, it is already at the end of the interval.
    app.set_histogram_base(host.reading(4, app.scope()));
    app.add_reading(host.reading(4, app.scope()));
    let text = draw_text(&app, SIZE);
    assert!(text.contains("exits since the start"), "{text}");
    assert!(app.rows().iter().all(|row| row.durations.is_some()));
    host.add_readings(&mut app, 5..=5);
    assert!(draw_text(&app, SIZE).contains("in the last"));
}

#[test]
fn the_histogram_of_a_row_without_recent_exits_is_that_since_the_start() {
    let host = small_host();
    let mut app = host.app_after(3, SIZE);
    press_char(&mut app, 'H');
    let mut last = host.reading(3, app.scope());
    last.time_ns = 3 * SECOND + SECOND / 4;
    app.add_reading(last);
    let text = draw_text(&app, SIZE);
    assert!(
        text.contains("since the start, 0 in the last 250ms"),
        "{text}"
    );
}

#[test]
fn the_title_shows_the_length_of_a_short_interval() {
    let host = SimulatedHost {
        recording: Some("kvm.data"),
        ..small_host()
    };
    let mut app = host.app_after(3, SIZE);
    let text = draw_text(&app, SIZE);
    assert!(
        text.contains("every 1s") && !text.contains("last "),
        "{text}"
    );
    let mut last = host.reading(4, app.scope());
    last.time_ns = 3 * SECOND + SECOND / 4;
    app.add_reading(last);
    app.set_source_ended();
    assert_eq!(app.window_ns(), SECOND / 4);
    let text = draw_text(&app, SIZE);
    assert!(text.contains("  last 250ms"), "{text}");
    press_char(&mut app, 'a');
    assert!(draw_text(&app, SIZE).contains("every 1s"));
}

#[test]
fn columns_name_what_is_counted() {
    let host = SimulatedHost {
        kind: Some("pio"),
        ..small_host()
    };
    for (host, heading, other) in [
        (host, "events/s", "exits/s"),
        (small_host(), "exits/s", "events/s"),
    ] {
        let mut app = host.app_after(3, (160, 24));
        press_char(&mut app, 'S');
        let text = draw_text(&app, (160, 24));
        assert!(text.contains(heading) && !text.contains(other), "{text}");
    }
}

#[test]
fn an_empty_screen_names_the_options_that_select() {
    let host = SimulatedHost {
        recording: Some("kvm.data"),
        selection: "--vcpu 7",
        ..SimulatedHost::default()
    };
    let mut app = host.app_after(1, SIZE);
    app.set_source_ended();
    let text = draw_text(&app, SIZE);
    assert!(text.contains("no VM exits matched --vcpu 7"), "{text}");
}

#[test]
fn tab_changes_the_grouping_of_the_same_exits() {
    let mut app = small_host().app_after(3, SIZE);
    let total: u64 = app.rows().iter().map(|row| row.breakdown.exits).sum();
    for by in [GroupBy::Vcpu, GroupBy::Reason, GroupBy::Vm] {
        let action = press(&mut app, KeyCode::Tab);
        assert_eq!(action, Action::Control(Control::SelectScope(app.scope())));
        assert_eq!(app.scope().by, by);
        let sum: u64 = app.rows().iter().map(|row| row.breakdown.exits).sum();
        assert_eq!(sum, total);
    }
    // The exits of one vCPU can only be grouped by reason.
    press(&mut app, KeyCode::Enter);
    press(&mut app, KeyCode::Enter);
    assert_eq!(press(&mut app, KeyCode::Tab), Action::None);
}

#[test]
fn the_cursor_follows_its_row() {
    let host = small_host();
    let mut app = host.app_after(3, SIZE);
    press(&mut app, KeyCode::End);
    let last = app.rows()[app.cursor()].key;
    assert_eq!(app.cursor(), 4);
    press_char(&mut app, 'r');
    assert_eq!((app.cursor(), app.rows()[0].key), (0, last));
    host.add_readings(&mut app, 4..=5);
    assert_eq!(app.rows()[app.cursor()].key, last);
    // A cursor in the first line stays there.
    press(&mut app, KeyCode::Home);
    press_char(&mut app, 'r');
    assert_eq!(app.cursor(), 0);
    for _ in 0..20 {
        press_char(&mut app, 'j');
    }
    assert_eq!(app.cursor(), 4);
    for _ in 0..20 {
        press_char(&mut app, 'k');
    }
    assert_eq!(app.cursor(), 0);
}

#[test]
fn vms_of_the_same_name_are_shown_with_their_pid() {
    let mut host = small_host();
    for vm in &mut host.vms[..2] {
        vm.name = "web-with-a-name-that-is-cut-on-narrow-screens".into();
    }
    for size in [(80, 24), (200, 24)] {
        let mut app = host.app_after(3, size);
        let text = draw_text(&app, size);
        assert!(
            text.contains("(pid 1201)") && text.contains("(pid 1202)"),
            "{text}"
        );
        assert!(!text.contains("(pid 1300)"), "{text}");
        press(&mut app, KeyCode::Tab);
        let text = draw_text(&app, size);
        assert!(text.contains("(pid 1201) vCPU 3"), "{text}");
    }
}

#[test]
fn keys_select_the_sort_column() {
    let mut app = small_host().app_after(3, SIZE);
    press_char(&mut app, 'S');
    assert_eq!(
        (app.effective_sort(), app.trend_metric()),
        (Sort::Exits, TrendMetric::Exits)
    );
    assert!(
        app.rows()
            .is_sorted_by_key(|row| std::cmp::Reverse(row.breakdown.exits))
    );
    press_char(&mut app, '<');
    assert_eq!(app.effective_sort(), Sort::Name);
    assert_eq!(
        row_names(&app),
        [
            "db-primary-eu-central-1a.production.example.com",
            "idle",
            "web-1",
            "web-2",
            "データベース"
        ]
    );
    press_char(&mut app, '>');
    press_char(&mut app, 's');
    assert_eq!(
        (app.effective_sort(), app.trend_metric()),
        (Sort::Cost, TrendMetric::Cost)
    );
    assert!(
        app.rows()
            .is_sorted_by_key(|row| std::cmp::Reverse(row.breakdown.cost_ns()))
    );
}

#[test]
fn a_filter_is_applied_or_cancelled() {
    let mut app = small_host().app_after(3, SIZE);
    for c in ['/', 'W', 'e', 'b', 'x'] {
        press_char(&mut app, c);
    }
    assert!(row_names(&app).is_empty());
    press(&mut app, KeyCode::Backspace);
    press_char(&mut app, '-');
    press(&mut app, KeyCode::Enter);
    assert_eq!(row_names(&app), ["web-1", "web-2"]);
    assert_eq!(
        press_char(&mut app, 'q'),
        Action::Quit,
        "keys are commands again"
    );
    // Escape cancels the second filter.
    for c in ['/', '2', 'q'] {
        assert_eq!(press_char(&mut app, c), Action::None);
    }
    press(&mut app, KeyCode::Esc);
    assert_eq!(row_names(&app), ["web-1", "web-2"]);
    // The filter applies only to the level where it was entered.
    press(&mut app, KeyCode::Enter);
    assert_eq!(app.rows().len(), 4);
    press(&mut app, KeyCode::Esc);
    assert_eq!(row_names(&app), ["web-1", "web-2"]);
    press(&mut app, KeyCode::Esc);
    assert_eq!(app.rows().len(), 5);
    // Backspace in an empty filter closes the prompt.
    press_char(&mut app, '/');
    press(&mut app, KeyCode::Backspace);
    assert_eq!(press_char(&mut app, 'q'), Action::Quit);
}

#[test]
fn pause_and_interval_control_the_source() {
    let mut app = small_host().new_app(SIZE);
    assert_eq!(
        press_char(&mut app, ' '),
        Action::Control(Control::Pause(true))
    );
    assert_eq!(
        press_char(&mut app, 'p'),
        Action::Control(Control::Pause(false))
    );
    let half = Control::Interval(Duration::from_millis(500));
    assert_eq!(press_char(&mut app, '-'), Action::Control(half));
    for _ in 0..20 {
        press_char(&mut app, '-');
    }
    assert_eq!(
        press_char(&mut app, '-'),
        Action::None,
        "this is the shortest interval"
    );
    let next = Control::Interval(Duration::from_millis(200));
    assert_eq!(press_char(&mut app, '+'), Action::Control(next));
}

#[test]
fn control_keys_work_in_the_help_and_in_the_filter_prompt() {
    for first_key in ['j', '?', '/'] {
        let mut app = small_host().app_after(1, SIZE);
        press_char(&mut app, first_key);
        assert_eq!(press_ctrl(&mut app, 'z'), Action::Suspend);
        assert_eq!(press_ctrl(&mut app, 'l'), Action::Redraw);
        assert_eq!(press_ctrl(&mut app, 'c'), Action::Quit);
    }
}

#[test]
fn any_key_that_does_not_scroll_closes_the_help() {
    let mut app = small_host().app_after(1, SIZE);
    press_char(&mut app, '?');
    press_char(&mut app, 'j');
    assert!(draw_text(&app, SIZE).contains("kvm-collector top ─"));
    assert_eq!(press_char(&mut app, 'q'), Action::None);
    assert!(!draw_text(&app, SIZE).contains("kvm-collector top ─"));
}

#[test]
fn rows_show_the_last_interval_or_all_time() {
    let mut host = small_host();
    host.vms[0].ended_s = Some(4);
    let has_exits_and_has_ended = |app: &App| {
        let row = app.rows().iter().find(|row| row.name == "web-1");
        row.map(|row| (row.breakdown.exits > 0, row.has_ended))
    };
    let mut app = host.app_after(5, SIZE);
    assert_eq!(has_exits_and_has_ended(&app), Some((false, true)));
    press_char(&mut app, 'a');
    assert_eq!(has_exits_and_has_ended(&app), Some((true, true)));
    // After two minutes without exits, an ended VM is only in the view of all time.
    host.add_readings(&mut app, 6..=130);
    assert_eq!(has_exits_and_has_ended(&app), Some((true, true)));
    press_char(&mut app, 'a');
    assert_eq!(has_exits_and_has_ended(&app), None);
}

#[test]
fn parts_add_up_to_the_wall_time() {
    let host = small_host();
    let mut history = ReadingHistory::default();
    for second in 1..=4 {
        history.add_reading(&host.reading(second, Scope::default()), SECOND);
    }
    for window in [Window::Recent, Window::All] {
        for by in [GroupBy::Vm, GroupBy::Vcpu] {
            let scope = Scope {
                by,
                ..Scope::default()
            };
            for row in history.rows(&scope, window, TrendMetric::Cost) {
                let breakdown = row.breakdown;
                let sum_ns = breakdown.kernel_ns
                    + breakdown.vmm_ns
                    + breakdown.idle_ns
                    + breakdown.preempted_ns;
                assert_eq!(sum_ns, breakdown.time_ns, "{}", row.name);
                let wall_ns = row.guest_ns.expect("guest time") + breakdown.time_ns;
                assert_eq!(wall_ns, row.wall_ns, "{}", row.name);
            }
        }
    }
}

#[test]
fn a_pause_has_its_real_length_in_the_trend() {
    let host = small_host();
    let mut history = ReadingHistory::default();
    history.add_reading(&host.reading(1, Scope::default()), SECOND);
    history.add_reading(&host.reading(11, Scope::default()), SECOND);
    assert_eq!(history.sample_count(), 11);
    let rows = history.rows(&Scope::default(), Window::Recent, TrendMetric::Exits);
    let trend = &rows[0].trend;
    assert!(trend[..109].iter().all(|it| *it == 0.0));
    assert!(trend[109..].iter().all(|it| *it > 0.0));
    assert_eq!(trend[119], trend[110]);
}

#[test]
fn vms_that_are_missing_in_a_reading_are_removed() {
    let mut host = SimulatedHost {
        vms: (1..=50)
            .map(|tgid| SimulatedVm::new(tgid, "short", 4, &[HLT]))
            .collect(),
        ..SimulatedHost::default()
    };
    let mut app = host.app_after(2, SIZE);
    assert_eq!(app.rows().len(), 50);
    host.vms.truncate(1);
    host.add_readings(&mut app, 3..=3);
    press_char(&mut app, 'a');
    assert_eq!(app.rows().len(), 1);
}

#[test]
fn names_are_removed_with_their_rows() {
    let mut host = SimulatedHost {
        vms: vec![
            SimulatedVm::new(1, "first", 1, &[HLT]),
            SimulatedVm::new(2, "second", 1, &[HLT, IO]),
        ],
        ..SimulatedHost::default()
    };
    let mut history = ReadingHistory::default();
    let mut named_keys = HashSet::new();
    let mut add_reading = |host: &SimulatedHost, history: &mut ReadingHistory, seconds| {
        history.add_reading(
            &host.reading_without_known_names(seconds, Scope::default(), &mut named_keys),
            SECOND,
        );
    };
    add_reading(&host, &mut history, 1);
    let io = Key {
        code: IO.code,
        subcode: 2,
        kind: 0,
    };
    assert_eq!(
        (history.vm_name(2).as_str(), history.key_name(io).as_str()),
        ("second", "io")
    );
    let second = host.vms.pop().expect("a VM");
    add_reading(&host, &mut history, 2);
    assert_eq!(
        (history.vm_name(2).as_str(), history.key_name(io).as_str()),
        ("pid 2", "0x7b")
    );
    host.vms.push(second);
    add_reading(&host, &mut history, 3);
    assert_eq!(
        (history.vm_name(2).as_str(), history.key_name(io).as_str()),
        ("second", "io")
    );
}

#[test]
fn new_losses_are_shown_separately() {
    let host = SimulatedHost {
        loss: Some(|second| Loss {
            unmatched: if second < 3 { 0 } else { 7 },
            ..Loss::default()
        }),
        ..small_host()
    };
    let mut app = host.app_after(2, SIZE);
    assert!(!draw_text(&app, SIZE).contains("incomplete"));
    host.add_readings(&mut app, 3..=3);
    assert!(draw_text(&app, SIZE).contains("unmatched 7 (+7)"));
    host.add_readings(&mut app, 4..=4);
    assert!(draw_text(&app, SIZE).contains("unmatched 7\n"));
}

#[test]
fn an_unknown_key_shows_a_message_until_the_next_key() {
    let mut app = small_host().app_after(3, SIZE);
    for (key, message) in [
        (KeyCode::Char('x'), "no key `x`: ? shows the keys"),
        (KeyCode::F(5), "no key `F5`: ? shows the keys"),
    ] {
        assert_eq!(press(&mut app, key), Action::None);
        assert!(app.has_message());
        assert!(draw_text(&app, SIZE).contains(message));
        press(&mut app, KeyCode::Down);
        assert!(!app.has_message());
        assert!(!draw_text(&app, SIZE).contains(message));
    }
    press_ctrl(&mut app, 'x');
    assert!(draw_text(&app, SIZE).contains("no key `Ctrl-x`"));
    app.clear_message();
    assert!(draw_text(&app, SIZE).contains("? help"));
}

#[test]
fn an_arrow_marks_the_sort_column_and_its_order() {
    for (is_ascii, down, up) in [(false, '▼', '▲'), (true, 'v', '^')] {
        let host = SimulatedHost {
            is_ascii,
            ..small_host()
        };
        let mut app = host.app_after(3, SIZE);
        assert!(draw_text(&app, SIZE).contains(&format!(" {down}cost/s")));
        press_char(&mut app, 'r');
        assert!(draw_text(&app, SIZE).contains(&format!(" {up}cost/s")));
        for _ in 0..2 {
            press_char(&mut app, '<');
        }
        assert!(draw_text(&app, SIZE).contains(&format!("\n{down}VM ")));
        press_char(&mut app, 'r');
        assert!(draw_text(&app, SIZE).contains(&format!("\n{up}VM ")));
    }
}

#[test]
fn the_filter_says_what_it_hides() {
    let mut app = small_host().app_after(3, SIZE);
    let type_filter = |app: &mut App, text: &str| {
        for c in text.chars() {
            press_char(app, c);
        }
        press(app, KeyCode::Enter);
    };
    type_filter(&mut app, "/web");
    assert!(draw_text(&app, SIZE).contains("filter `web` hides 3 VMs\n"));
    press(&mut app, KeyCode::Enter);
    type_filter(&mut app, "/web");
    let text = draw_text(&app, SIZE);
    assert!(text.contains("no vCPU matches `web`: Esc removes the filter"));
    assert!(text.contains("filter `web` hides 4 vCPUs"));
}

/// The sum of the columns of time is the time of the vCPU, also if the VMM waits during halts.
#[test]
fn a_halt_in_the_vmm_is_idle_time() {
    let in_vmm = ExitLoad {
        parts: [96, 0, 0],
        ..HLT
    };
    let host = SimulatedHost {
        vms: vec![SimulatedVm::new(7, "web", 1, &[in_vmm, IO])],
        ..SimulatedHost::default()
    };
    let mut app = host.app_after(3, SIZE);
    press(&mut app, KeyCode::Tab);
    press(&mut app, KeyCode::Tab);
    for (name, is_idle) in [("hlt", true), ("io", false)] {
        let mut rows = app.rows().iter();
        let row = rows.find(|row| row.name == name).expect("a row");
        let breakdown = row.breakdown;
        assert_eq!(breakdown.idle_ns > 0, is_idle);
        assert_eq!(breakdown.vmm_ns > 0, !is_idle);
        assert_eq!(breakdown.cost_ns() + breakdown.idle_ns, breakdown.time_ns);
    }
    // Overhead is cost / (cost + guest time), and the rows of reasons add up to the vCPU.
    let cost_ns: u64 = app.rows().iter().map(|it| it.breakdown.cost_ns()).sum();
    let active_ns = app.rows()[0].active_ns;
    press(&mut app, KeyCode::Tab);
    let vm = &app.rows()[0];
    assert_eq!(vm.breakdown.cost_ns(), cost_ns);
    assert_eq!(vm.active_ns, active_ns);
    assert_eq!(vm.active_ns, cost_ns + vm.guest_ns.expect("guest time"));
    assert!(draw_text(&app, SIZE).contains("idle%"));
}

#[test]
fn without_utf8_the_screen_is_ascii() {
    let mut host = SimulatedHost {
        is_ascii: true,
        ..small_host()
    };
    host.vms.retain(|vm| vm.name.is_ascii());
    for (size, keys) in [
        (SIZE, ""),
        ((160, 50), ""),
        (SIZE, "H"),
        (SIZE, "?"),
        (SIZE, "/w"),
    ] {
        let mut app = host.app_after(3, size);
        for key in keys.chars() {
            press_char(&mut app, key);
        }
        let text = draw_text(&app, size);
        assert!(text.is_ascii(), "{text}");
    }
}

#[test]
fn printed_text_ends_with_its_last_row() {
    for (host, last) in [
        (small_host(), "idle "),
        (SimulatedHost::default(), "`kvm-collector doctor`"),
    ] {
        let setup = tui::Setup {
            kind: "vmexit".into(),
            preempt_watched: false,
            color: false,
            unicode: true,
            recording: None,
            selection: String::new(),
            vcpus_from_thread_names: false,
            interactive: false,
        };
        let mut app = App::new(setup, Sort::Cost, Duration::from_secs(1), (0, 0));
        host.add_readings(&mut app, 1..=1);
        let mut text = Vec::new();
        tui::print(&mut app, 120, &mut text).expect("text");
        let text = String::from_utf8(text).expect("text");
        assert!(
            text.lines()
                .last()
                .is_some_and(|line| line.trim().starts_with(last)),
            "{text}"
        );
    }
}

#[test]
fn a_vcpu_without_a_known_index_is_named_by_its_thread() {
    let host = SimulatedHost {
        hides_vcpu_indices: true,
        vms: vec![SimulatedVm::new(7, "web", 2, &[IO])],
        ..SimulatedHost::default()
    };
    let mut app = host.app_after(3, SIZE);
    press(&mut app, KeyCode::Enter);
    press_char(&mut app, 'S');
    press_char(&mut app, 'S');
    assert_eq!(row_names(&app), ["tid 10007", "tid 20007"]);
    press(&mut app, KeyCode::End);
    press(&mut app, KeyCode::Enter);
    assert!(draw_text(&app, SIZE).contains("all > web > tid 20007  by exit reason"));
}

#[test]
fn the_interval_of_a_recording_does_not_change() {
    let host = SimulatedHost {
        recording: Some("web.data"),
        ..small_host()
    };
    let mut app = host.app_after(3, SIZE);
    for key in ['+', '-'] {
        assert_eq!(press_char(&mut app, key), Action::None);
        assert!(draw_text(&app, SIZE).contains("the interval of a recording is set with -I"));
    }
}

#[test]
fn a_recording_that_has_ended_cannot_be_paused() {
    let host = SimulatedHost {
        recording: Some("web.data"),
        ..small_host()
    };
    let mut app = host.app_after(3, SIZE);
    app.set_source_ended();
    assert!(draw_text(&app, SIZE).contains("end of the recording: `a` shows all of it"));
    assert_eq!(press_char(&mut app, ' '), Action::None);
    let text = draw_text(&app, SIZE);
    assert!(text.contains("the recording has ended") && text.contains("END OF RECORDING"));
    assert!(!text.contains("PAUSED"));
}

#[test]
fn a_vm_without_a_name_is_called_by_its_pid() {
    let history = ReadingHistory::default();
    for reuses in [0, 3] {
        assert_eq!(history.vm_name(process_id(77, reuses)), "pid 77");
    }
}

#[test]
fn a_vcpu_without_a_known_index_ends() {
    let mut host = SimulatedHost {
        hides_vcpu_indices: true,
        ..small_host()
    };
    host.vms[0].ended_s = Some(3);
    let app = host.app_after(5, SIZE);
    let text = draw_text(&app, SIZE);
    assert!(
        text.contains("web-1 (ended)") && text.contains("4 VMs  13 vCPUs"),
        "{text}"
    );
}

#[test]
fn vms_without_exits_are_rows_with_what_they_do() {
    let host = small_host();
    let scope = Scope::default();
    let mut app = host.app_after(2, SIZE);
    let vcpu = |vcpu, tid, state| IdleVcpu {
        vcpu: Some(vcpu),
        tid,
        state,
    };
    let idle_vm = |pid: u32, name: &str, states: [VcpuActivity; 2]| IdleVm {
        vm_uuid: None,
        vm: name.to_owned(),
        pid,
        vcpus: vec![vcpu(0, pid + 1, states[0]), vcpu(1, pid + 2, states[1])],
    };
    let mut reading = host.reading(3, scope);
    let halted = idle_vm(2000, "asleep", [VcpuActivity::Halted; 2]);
    reading.add_idle_vm(2000, &halted);
    let states = [VcpuActivity::Stopped, VcpuActivity::InGuest];
    reading.add_idle_vm(3000, &idle_vm(3000, "mixed", states));
    // A VM whose earlier exits are known keeps its times.
    reading.add_idle_vm(1202, &idle_vm(1202, "web-2", [VcpuActivity::Halted; 2]));
    app.add_reading(reading);
    let row = |app: &App, name: &str| {
        let mut rows = app.rows().iter();
        rows.find(|it| it.name == name).cloned().expect("a row")
    };
    let asleep = row(&app, "asleep");
    assert_eq!(asleep.activity.map(|it| it.text()), Some("halted"));
    assert_eq!((asleep.vcpus, asleep.guest_ns), ((2, 2), None));
    assert_eq!(asleep.breakdown, Default::default());
    let mixed = row(&app, "mixed");
    assert_eq!(mixed.activity.map(|it| it.text()), Some("no exits"));
    assert!(row(&app, "web-2").guest_ns.is_some());
    assert_eq!(row(&app, "web-1").activity, None);
    let text = draw_text(&app, SIZE);
    assert!(text.contains("7 VMs"), "{text}");
    let line = text.lines().find(|it| it.contains("asleep (halted)"));
    let cells: Vec<_> = line.expect("a line").split_whitespace().collect();
    assert_eq!(cells[2..4], ["0", "-"], "{text}");
    // When the VM ends, or makes exits, the state is gone.
    app.add_reading(host.reading(4, scope));
    assert!(!row_names(&app).contains(&"asleep"));
    assert_eq!(row(&app, "web-2").activity, None);
}

#[test]
fn a_reading_of_the_whole_time_has_vcpus_that_ended_in_it() {
    let mut host = small_host();
    host.vms[0].ended_s = Some(3);
    let mut app = host.app_after(0, SIZE);
    let mut reading = host.reading(5, app.scope());
    reading.cover_whole_time();
    app.add_reading(reading);
    let text = draw_text(&app, SIZE);
    assert!(text.contains("5 VMs"), "{text}");
    assert!(
        text.contains("web-1") && !text.contains("(ended)"),
        "{text}"
    );
}

#[test]
fn only_vms_and_vcpus_end() {
    let mut host = small_host();
    for vm in &mut host.vms {
        vm.ended_s = Some(4);
    }
    let mut app = host.app_after(5, SIZE);
    let has_ended = |app: &App| {
        assert!(!app.rows().is_empty());
        app.rows().iter().any(|row| row.has_ended)
    };
    assert!(has_ended(&app), "VMs");
    press(&mut app, KeyCode::Tab);
    assert!(has_ended(&app), "vCPUs");
    press(&mut app, KeyCode::Tab);
    assert!(!has_ended(&app), "reasons");
    assert!(!draw_text(&app, SIZE).contains("(ended)"));
}

#[test]
fn an_unknown_key_has_a_message_at_the_end_of_a_recording() {
    let host = SimulatedHost {
        recording: Some("web.data"),
        ..small_host()
    };
    let mut app = host.app_after(3, SIZE);
    app.set_source_ended();
    press_char(&mut app, 'Z');
    assert!(draw_text(&app, SIZE).contains("no key `Z`: ? shows the keys"));
}
