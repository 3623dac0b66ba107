//! The state as cells. Pure: the same state is the same picture.

mod canvas;
mod columns;
mod help;
mod histogram;
mod sparkline;
mod table;

use ratatui::{buffer::Buffer, layout::Rect};

use super::{
    App, Overlay,
    sort::{to_f64, share},
};
use crate::{
    format::units,
    model::VMEXIT,
    view::{GroupBy, ScopeTotals, Window},
};
use canvas::{Canvas, TextRole, line};

/// After so long without anything the reader may want to know what could be wrong.
const HINT_AFTER_NS: u64 = 5_000_000_000;

/// Draws all of it.
pub fn draw(app: &App, buffer: &mut Buffer) {
    let layout = app.layout();
    let mut canvas = Canvas {
        buffer,
        color: app.setup.color,
    };
    let canvas = &mut canvas;
    draw_title(app, layout.title, canvas);
    draw_totals(app, &app.totals, layout.totals, canvas);
    draw_path(app, layout.path, canvas);
    draw_totals(app, &app.scope_totals, layout.scope_totals, canvas);
    draw_loss(app, layout.loss, canvas);
    table::draw(app, layout.header, layout.rows, canvas);
    if app.rows.is_empty() {
        draw_empty_message(app, layout.rows, canvas);
    }
    if let Some(pane) = layout.pane {
        histogram::draw(app, pane, canvas);
    }
    draw_keys(app, layout.keys, canvas);
    if let Overlay::Help(from) = app.overlay {
        help::draw(from, app.size, canvas);
    }
}

fn draw_title(app: &App, place: Rect, canvas: &mut Canvas<'_>) {
    let number = |number: usize, what: &str| {
        let plural = if number == 1 { "" } else { "s" };
        format!("{} {what}{plural}", units::count(number as u64))
    };
    let mut words = vec![("kvm-collector top".to_owned(), TextRole::Strong)];
    let mut say = |word: String, look| words.push((word, look));
    if app.paused {
        say("PAUSED".into(), TextRole::Warning);
    }
    say(number(app.totals.vms, "VM"), TextRole::Plain);
    say(number(app.totals.vcpus, "vCPU"), TextRole::Plain);
    if app.setup.interactive {
        let every = humantime::format_duration(app.interval);
        say(format!("every {every}"), TextRole::Plain);
        let up = units::elapsed(app.history.time_ns());
        say(format!("up {up}"), TextRole::Plain);
    } else {
        say(
            format!("in {}", units::duration(app.window_ns())),
            TextRole::Plain,
        );
    }
    canvas.text_list(canvas::skip_cells(place, 1), &words);
    canvas.apply_style(place, TextRole::Bar);
}

/// Where the time of some vCPUs went.
fn draw_totals(app: &App, totals: &ScopeTotals, place: Rect, canvas: &mut Canvas<'_>) {
    let spent = &totals.breakdown;
    let seconds = to_f64(app.window_ns().max(1)) / 1e9;
    let rate = units::short_rate(to_f64(spent.exits) / seconds);
    let what = if app.setup.kind == VMEXIT {
        "exits"
    } else {
        app.setup.kind.as_str()
    };
    let mut words = vec![(format!("{rate} {what}/s"), TextRole::Strong)];
    let busy = share(
        spent.busy_ns(),
        totals.wall_ns.saturating_sub(totals.wall_idle_ns),
    );
    let part = |name, ns, look| (name, share(ns, totals.wall_ns), look);
    for (name, share, look) in [
        ("busy", busy, TextRole::Strong),
        part("guest", totals.guest_ns, TextRole::Guest),
        part("kernel", spent.kernel_ns, TextRole::Kernel),
        part("VMM", spent.vmm_ns, TextRole::Vmm),
        part("halted", spent.halted_ns, TextRole::Idle),
        part("preempted", spent.preempted_ns, TextRole::Preempted),
        part("not over", spent.open_ns, TextRole::Dim),
    ] {
        if share > 0.0 {
            words.push((format!("{name} {}%", units::share(share)), look));
        }
    }
    canvas.text_list(place, &words);
}

/// What is looked at, and how.
fn draw_path(app: &App, place: Rect, canvas: &mut Canvas<'_>) {
    let scope = app.scope();
    let mut path = vec!["all".to_owned()];
    path.extend(app.history.scope_path(&scope.within));
    let by = match scope.by {
        GroupBy::Vm => "by VM".to_owned(),
        GroupBy::Vcpu => "by vCPU".to_owned(),
        GroupBy::Reason if app.setup.kind == VMEXIT => "by exit reason".to_owned(),
        GroupBy::Reason => format!("by {}", app.setup.kind),
    };
    let mut said = vec![(by, TextRole::Plain)];
    let order = if app.reverse { " reversed" } else { "" };
    let sorted = format!("sorted by {}{order}", app.effective_sort().name());
    said.push((sorted, TextRole::Plain));
    if app.window == Window::All {
        said.push(("since the start".into(), TextRole::Warning));
    }
    let filter = &app.level().filter;
    if !filter.is_empty() {
        let left_out = units::count(app.hidden_by_filter as u64);
        let word = format!("filter \"{filter}\" leaves out {left_out}");
        said.push((word, TextRole::Warning));
    }
    // A long name must not push out how it is looked at.
    let said_width: usize = said
        .iter()
        .map(|(word, _)| canvas::text_width(word) + 2)
        .sum();
    let said_width = u16::try_from(said_width).unwrap_or(u16::MAX);
    let room = Rect {
        width: place.width.saturating_sub(said_width).max(place.width / 3),
        ..place
    };
    let used = canvas.text(room, &path.join(" > "), TextRole::Heading);
    canvas.text_list(canvas::skip_cells(place, used.saturating_add(2)), &said);
}

fn draw_loss(app: &App, place: Rect, canvas: &mut Canvas<'_>) {
    let (all, recent) = app.history.total_and_recent_loss();
    let mut words = vec![("incomplete:".to_owned(), TextRole::Warning)];
    for (entry, recent) in all.entries().iter().zip(recent.entries()) {
        let Some(count) = entry.count.filter(|it| *it > 0) else {
            continue;
        };
        let more = match recent.count {
            Some(recent) if recent > 0 => format!(" (+{})", units::count(recent)),
            _ => String::new(),
        };
        words.push((
            format!(
                "{} {}{more}",
                entry.name.replace('_', " "),
                units::count(count)
            ),
            TextRole::Warning,
        ));
    }
    canvas.text_list(place, &words);
}

/// Why there are no rows.
fn draw_empty_message(app: &App, place: Rect, canvas: &mut Canvas<'_>) {
    let what = if app.setup.kind == VMEXIT {
        "VM exits".to_owned()
    } else {
        format!("events of the kind {}", app.setup.kind)
    };
    let mut said: Vec<String> = Vec::new();
    if app.history.time_ns() == 0 {
        said.push(format!(
            "counting {what}: first numbers after the first interval"
        ));
    } else if app.hidden_by_filter > 0 {
        said.push("no name matches the filter: Esc takes it away".into());
    } else if app.has_scope() {
        said.push("nothing here any more: Esc goes back".into());
    } else {
        said.push(if app.setup.interactive {
            format!("waiting for {what}: none happened yet")
        } else {
            format!("no {what}")
        });
        if app.history.time_ns() > HINT_AFTER_NS || !app.setup.interactive {
            said.push("`kvm-collector list` shows which VMs run here,".into());
            said.push("`kvm-collector doctor` whether their exits can be seen on this host".into());
        }
    }
    for (index, text) in (1..).zip(&said) {
        let place = canvas::skip_cells(line(place, index), 2);
        canvas.text(
            place,
            text,
            if index == 1 { TextRole::Plain } else { TextRole::Dim },
        );
    }
}

fn draw_keys(app: &App, place: Rect, canvas: &mut Canvas<'_>) {
    if let Overlay::Filter(_) = app.overlay {
        let prompt = format!("/{}▏", app.level().filter);
        let hints = "Enter keeps it, Esc takes it back".to_owned();
        canvas.text_list(place, &[(prompt, TextRole::Strong), (hints, TextRole::Dim)]);
        return;
    }
    let pause = if app.paused { "go on" } else { "pause" };
    let window = match app.window {
        Window::Recent => "since start",
        Window::All => "interval",
    };
    let words: Vec<_> = [
        ("?", "help"),
        ("q", "quit"),
        ("Enter", "in"),
        ("Esc", "out"),
        ("Tab", "by"),
        ("s", "sort"),
        ("/", "filter"),
        ("Space", pause),
        ("H", "histogram"),
        ("a", window),
        ("r", "reverse"),
        ("+-", "interval"),
    ]
    .into_iter()
    .map(|(key, what)| (format!("{key} {what}"), TextRole::Plain))
    .collect();
    canvas.text_list(canvas::skip_cells(place, 1), &words);
    canvas.apply_style(place, TextRole::Bar);
}
