//! What keys and readings do to the screen of `top`, without a screen.

#[path = "common/host.rs"]
mod host;

use std::{collections::HashSet, time::Duration};

use host::{HLT, Host, IO, SECOND, Vm, picture, small};
use kvm_collector::{
    model::Loss,
    tui::{Action, App, Control, Sort},
    view::{GroupBy, ReadingHistory, Scope, TrendMetric, Window},
};
use kvm_ebpf_common::Key;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

const SIZE: (u16, u16) = (80, 24);

fn key(app: &mut App, code: KeyCode) -> Action {
    app.handle_key(KeyEvent::new(code, KeyModifiers::NONE))
}

fn char(app: &mut App, char: char) -> Action {
    key(app, KeyCode::Char(char))
}

fn control(app: &mut App, char: char) -> Action {
    app.handle_key(KeyEvent::new(KeyCode::Char(char), KeyModifiers::CONTROL))
}

fn names(app: &App) -> Vec<&str> {
    app.rows().iter().map(|row| row.name.as_str()).collect()
}

#[test]
fn enter_goes_in_and_escape_comes_back_to_the_same_row() {
    let mut app = small().watched(SIZE, 3);
    key(&mut app, KeyCode::Down);
    let row = app.rows()[1].clone();
    let action = key(&mut app, KeyCode::Enter);
    let inside = app.scope();
    assert_eq!(action, Action::Control(Control::SelectScope(inside)));
    assert_eq!((inside.by, inside.within), (GroupBy::Vcpu, row.key));
    assert_eq!(app.cursor(), 0);
    char(&mut app, 'l');
    assert_eq!(app.scope().by, GroupBy::Reason);
    // There is nothing inside a reason of a vCPU: its histogram is shown.
    let scope = app.scope();
    assert_eq!(key(&mut app, KeyCode::Enter), Action::None);
    assert_eq!(app.scope(), scope);
    assert!(picture(&app, SIZE).contains("being read"));
    app.set_histogram_base(small().reading(3, scope));
    assert!(picture(&app, SIZE).contains("since the start"));
    app.add_reading(small().reading(4, scope));
    assert!(picture(&app, SIZE).contains("in the last"));
    key(&mut app, KeyCode::Backspace);
    assert_eq!(
        key(&mut app, KeyCode::Esc),
        Action::Control(Control::SelectScope(Scope::default()))
    );
    assert_eq!(app.rows()[app.cursor()].key, row.key);
    assert_eq!(
        key(&mut app, KeyCode::Esc),
        Action::None,
        "there is no further out"
    );
}

#[test]
fn tab_tells_the_same_exits_apart_otherwise() {
    let mut app = small().watched(SIZE, 3);
    let all: u64 = app.rows().iter().map(|row| row.breakdown.exits).sum();
    for by in [GroupBy::Vcpu, GroupBy::Reason, GroupBy::Vm] {
        let action = key(&mut app, KeyCode::Tab);
        assert_eq!(action, Action::Control(Control::SelectScope(app.scope())));
        assert_eq!(app.scope().by, by);
        let sum: u64 = app.rows().iter().map(|row| row.breakdown.exits).sum();
        assert_eq!(sum, all);
    }
    // A vCPU's exits have nothing but their reason to be told apart by.
    key(&mut app, KeyCode::Enter);
    key(&mut app, KeyCode::Enter);
    assert_eq!(key(&mut app, KeyCode::Tab), Action::None);
}

#[test]
fn the_cursor_stays_on_its_row_wherever_that_goes() {
    let host = small();
    let mut app = host.watched(SIZE, 3);
    key(&mut app, KeyCode::End);
    let last = app.rows()[app.cursor()].key;
    assert_eq!(app.cursor(), 4);
    char(&mut app, 'r');
    assert_eq!((app.cursor(), app.rows()[0].key), (0, last));
    host.watch(&mut app, 4, 5);
    assert_eq!(app.rows()[app.cursor()].key, last);
    // At the top it is on whatever comes to the top.
    key(&mut app, KeyCode::Home);
    char(&mut app, 'r');
    assert_eq!(app.cursor(), 0);
    for _ in 0..20 {
        char(&mut app, 'j');
    }
    assert_eq!(app.cursor(), 4);
    for _ in 0..20 {
        char(&mut app, 'k');
    }
    assert_eq!(app.cursor(), 0);
}

#[test]
fn rows_are_sorted_by_what_is_asked_for() {
    let mut app = small().watched(SIZE, 3);
    char(&mut app, 'S');
    assert_eq!(
        (app.effective_sort(), app.trend_metric()),
        (Sort::Exits, TrendMetric::Exits)
    );
    assert!(
        app.rows()
            .is_sorted_by_key(|row| std::cmp::Reverse(row.breakdown.exits))
    );
    char(&mut app, '<');
    assert_eq!(app.effective_sort(), Sort::Name);
    assert_eq!(
        names(&app),
        [
            "db-primary-eu-central-1a.production.example.com",
            "idle",
            "web-1",
            "web-2",
            "データベース"
        ]
    );
    char(&mut app, '>');
    char(&mut app, 's');
    assert_eq!(
        (app.effective_sort(), app.trend_metric()),
        (Sort::Cost, TrendMetric::Busy)
    );
    assert!(
        app.rows()
            .is_sorted_by_key(|row| std::cmp::Reverse(row.breakdown.busy_ns()))
    );
}

#[test]
fn a_filter_is_kept_or_taken_back() {
    let mut app = small().watched(SIZE, 3);
    for c in ['/', 'W', 'e', 'b', 'x'] {
        char(&mut app, c);
    }
    assert!(names(&app).is_empty());
    key(&mut app, KeyCode::Backspace);
    char(&mut app, '-');
    key(&mut app, KeyCode::Enter);
    assert_eq!(names(&app), ["web-1", "web-2"]);
    assert_eq!(char(&mut app, 'q'), Action::Quit, "keys are keys again");
    // Another one, taken back.
    for c in ['/', '2', 'q'] {
        assert_eq!(char(&mut app, c), Action::None);
    }
    key(&mut app, KeyCode::Esc);
    assert_eq!(names(&app), ["web-1", "web-2"]);
    // Inside there is none; outside it is still there.
    key(&mut app, KeyCode::Enter);
    assert_eq!(app.rows().len(), 4);
    key(&mut app, KeyCode::Esc);
    assert_eq!(names(&app), ["web-1", "web-2"]);
    key(&mut app, KeyCode::Esc);
    assert_eq!(app.rows().len(), 5);
    // Nothing left to take away ends it.
    char(&mut app, '/');
    key(&mut app, KeyCode::Backspace);
    assert_eq!(char(&mut app, 'q'), Action::Quit);
}

#[test]
fn pause_and_interval_are_told_to_the_source() {
    let mut app = small().app(SIZE);
    assert_eq!(char(&mut app, ' '), Action::Control(Control::Pause(true)));
    assert_eq!(char(&mut app, 'p'), Action::Control(Control::Pause(false)));
    let half = Control::Interval(Duration::from_millis(500));
    assert_eq!(char(&mut app, '-'), Action::Control(half));
    for _ in 0..20 {
        char(&mut app, '-');
    }
    assert_eq!(char(&mut app, '-'), Action::None, "there is a shortest one");
    let next = Control::Interval(Duration::from_millis(200));
    assert_eq!(char(&mut app, '+'), Action::Control(next));
}

#[test]
fn control_keys_work_whatever_lies_over_the_screen() {
    for over in ['j', '?', '/'] {
        let mut app = small().watched(SIZE, 1);
        char(&mut app, over);
        assert_eq!(control(&mut app, 'z'), Action::Suspend);
        assert_eq!(control(&mut app, 'l'), Action::Redraw);
        assert_eq!(control(&mut app, 'c'), Action::Quit);
    }
}

#[test]
fn help_goes_with_any_key_that_does_not_scroll_it() {
    let mut app = small().watched(SIZE, 1);
    char(&mut app, '?');
    char(&mut app, 'j');
    assert!(picture(&app, SIZE).contains("kvm-collector top ─"));
    assert_eq!(char(&mut app, 'q'), Action::None);
    assert!(!picture(&app, SIZE).contains("kvm-collector top ─"));
}

#[test]
fn the_numbers_are_those_of_the_last_interval_or_of_all_time() {
    let mut host = small();
    host.vms[0].ended_s = Some(4);
    let exits = |app: &App| {
        let row = app.rows().iter().find(|row| row.name == "web-1");
        row.map(|row| (row.breakdown.exits > 0, row.has_ended()))
    };
    let mut app = host.watched(SIZE, 5);
    assert_eq!(exits(&app), Some((false, true)));
    char(&mut app, 'a');
    assert_eq!(exits(&app), Some((true, true)));
    // After two minutes without anything it is among what there was, not what there is.
    host.watch(&mut app, 6, 130);
    assert_eq!(exits(&app), Some((true, true)));
    char(&mut app, 'a');
    assert_eq!(exits(&app), None);
}

#[test]
fn shares_add_up_to_all_the_time() {
    let host = small();
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
            for row in history.rows(&scope, window, TrendMetric::Busy) {
                let spent = row.breakdown;
                let sum = spent.kernel_ns + spent.vmm_ns + spent.halted_ns + spent.preempted_ns;
                assert_eq!(sum, spent.time_ns, "{}", row.name);
                let known = row.guest_ns.expect("whole vCPUs") + spent.time_ns;
                assert_eq!(known, row.wall_ns, "{}", row.name);
            }
        }
    }
}

#[test]
fn a_pause_is_as_long_in_the_trend_as_it_was() {
    let host = small();
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
fn what_the_source_forgets_is_forgotten() {
    let mut host = Host {
        vms: (1..=50)
            .map(|tgid| Vm::new(tgid, "short", 4, &[HLT]))
            .collect(),
        ..Host::default()
    };
    let mut app = host.watched(SIZE, 2);
    assert_eq!(app.rows().len(), 50);
    host.vms.truncate(1);
    host.watch(&mut app, 3, 3);
    char(&mut app, 'a');
    assert_eq!(app.rows().len(), 1);
}

#[test]
fn names_are_forgotten_with_what_they_are_of() {
    let mut host = Host {
        vms: vec![
            Vm::new(1, "first", 1, &[HLT]),
            Vm::new(2, "second", 1, &[HLT, IO]),
        ],
        ..Host::default()
    };
    let mut history = ReadingHistory::default();
    let mut named = HashSet::new();
    let mut take = |host: &Host, history: &mut ReadingHistory, seconds| {
        history.add_reading(
            &host.reading_of(seconds, Scope::default(), &mut named),
            SECOND,
        );
    };
    take(&host, &mut history, 1);
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
    take(&host, &mut history, 2);
    assert_eq!(
        (history.vm_name(2).as_str(), history.key_name(io).as_str()),
        ("pid 2", "0x7b")
    );
    host.vms.push(second);
    take(&host, &mut history, 3);
    assert_eq!(
        (history.vm_name(2).as_str(), history.key_name(io).as_str()),
        ("second", "io")
    );
}

#[test]
fn losses_since_the_last_reading_are_told_from_older_ones() {
    let host = Host {
        loss: Some(|second| Loss {
            unmatched: if second < 3 { 0 } else { 7 },
            ..Loss::default()
        }),
        ..small()
    };
    let mut app = host.watched(SIZE, 2);
    assert!(!picture(&app, SIZE).contains("incomplete"));
    host.watch(&mut app, 3, 3);
    assert!(picture(&app, SIZE).contains("unmatched 7 (+7)"));
    host.watch(&mut app, 4, 4);
    assert!(picture(&app, SIZE).contains("unmatched 7\n"));
}
