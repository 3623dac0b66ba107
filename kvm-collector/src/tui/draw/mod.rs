//! The state as cells. Pure: the same state is the same picture.

mod canvas;
mod columns;
mod help;
mod histogram;
mod spark;
mod table;

use ratatui::{buffer::Buffer, layout::Rect};

use super::{
    App, Overlay,
    layout::Layout,
    sort::{float, share},
};
use crate::{
    format::units,
    model::VMEXIT,
    view::{Group, ScopeTotals, Window},
};
use canvas::{Canvas, Look, line};

/// After so long without anything the reader may want to know what could be wrong.
const LONG_WAIT_NS: u64 = 5_000_000_000;

/// Draws all of it.
pub fn draw(app: &App, buffer: &mut Buffer) {
    let layout = Layout::of(app);
    let mut canvas = Canvas {
        buffer,
        color: app.setup.color,
    };
    let canvas = &mut canvas;
    title(app, layout.title, canvas);
    totals(app, &app.totals, layout.totals, canvas);
    path(app, layout.path, canvas);
    totals(app, &app.scope_totals, layout.scope_totals, canvas);
    loss(app, layout.loss, canvas);
    table::draw(app, layout.header, layout.rows, canvas);
    if app.rows.is_empty() {
        nothing(app, layout.rows, canvas);
    }
    if let Some(pane) = layout.pane {
        histogram::draw(app, pane, canvas);
    }
    keys(app, layout.keys, canvas);
    if let Overlay::Help(from) = app.overlay {
        help::draw(from, app.size, canvas);
    }
}

fn title(app: &App, place: Rect, canvas: &mut Canvas<'_>) {
    let number = |number: usize, what: &str| {
        let plural = if number == 1 { "" } else { "s" };
        format!("{} {what}{plural}", units::count(number as u64))
    };
    let mut words = vec![("kvm-collector top".to_owned(), Look::Strong)];
    let mut say = |word: String, look| words.push((word, look));
    if app.paused {
        say("PAUSED".into(), Look::Warning);
    }
    say(number(app.totals.vms, "VM"), Look::Plain);
    say(number(app.totals.vcpus, "vCPU"), Look::Plain);
    if app.setup.interactive {
        let every = humantime::format_duration(app.interval);
        say(format!("every {every}"), Look::Plain);
        let up = units::elapsed(app.ledger.time_ns());
        say(format!("up {up}"), Look::Plain);
    } else {
        say(
            format!("in {}", units::duration(app.shown_ns())),
            Look::Plain,
        );
    }
    canvas.words(canvas::skip(place, 1), &words);
    canvas.paint(place, Look::Bar);
}

/// Where the time of some vCPUs went.
fn totals(app: &App, totals: &ScopeTotals, place: Rect, canvas: &mut Canvas<'_>) {
    let spent = &totals.spent;
    let seconds = float(app.shown_ns().max(1)) / 1e9;
    let rate = units::short_rate(float(spent.exits) / seconds);
    let what = if app.setup.kind == VMEXIT {
        "exits"
    } else {
        app.setup.kind.as_str()
    };
    let mut words = vec![(format!("{rate} {what}/s"), Look::Strong)];
    let busy = share(
        spent.busy_ns(),
        totals.wall_ns.saturating_sub(totals.wall_idle_ns),
    );
    let part = |name, ns, look| (name, share(ns, totals.wall_ns), look);
    for (name, share, look) in [
        ("busy", busy, Look::Strong),
        part("guest", totals.guest_ns, Look::Guest),
        part("kernel", spent.kernel_ns, Look::Kernel),
        part("VMM", spent.vmm_ns, Look::Vmm),
        part("halted", spent.halted_ns, Look::Idle),
        part("preempted", spent.preempted_ns, Look::Preempted),
        part("not over", spent.open_ns, Look::Dim),
    ] {
        if share > 0.0 {
            words.push((format!("{name} {}%", units::share(share)), look));
        }
    }
    canvas.words(place, &words);
}

/// What is looked at, and how.
fn path(app: &App, place: Rect, canvas: &mut Canvas<'_>) {
    let scope = app.scope();
    let mut path = vec!["all".to_owned()];
    path.extend(app.ledger.scope_path(&scope.within));
    let by = match scope.by {
        Group::Vm => "by VM".to_owned(),
        Group::Vcpu => "by vCPU".to_owned(),
        Group::Reason if app.setup.kind == VMEXIT => "by exit reason".to_owned(),
        Group::Reason => format!("by {}", app.setup.kind),
    };
    let mut said = vec![(by, Look::Plain)];
    let order = if app.reverse { " reversed" } else { "" };
    let sorted = format!("sorted by {}{order}", app.sorted_by().name());
    said.push((sorted, Look::Plain));
    if app.window == Window::All {
        said.push(("since the start".into(), Look::Warning));
    }
    let filter = &app.level().filter;
    if !filter.is_empty() {
        let left_out = units::count(app.filtered_out as u64);
        let word = format!("filter \"{filter}\" leaves out {left_out}");
        said.push((word, Look::Warning));
    }
    // A long name must not push out how it is looked at.
    let said_width: usize = said
        .iter()
        .map(|(word, _)| canvas::width_of(word) + 2)
        .sum();
    let said_width = u16::try_from(said_width).unwrap_or(u16::MAX);
    let room = Rect {
        width: place.width.saturating_sub(said_width).max(place.width / 3),
        ..place
    };
    let used = canvas.text(room, &path.join(" > "), Look::Heading);
    canvas.words(canvas::skip(place, used.saturating_add(2)), &said);
}

fn loss(app: &App, place: Rect, canvas: &mut Canvas<'_>) {
    let (all, recent) = app.ledger.total_and_recent_loss();
    let mut words = vec![("incomplete:".to_owned(), Look::Warning)];
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
            Look::Warning,
        ));
    }
    canvas.words(place, &words);
}

/// Why there are no rows.
fn nothing(app: &App, place: Rect, canvas: &mut Canvas<'_>) {
    let what = if app.setup.kind == VMEXIT {
        "VM exits".to_owned()
    } else {
        format!("events of the kind {}", app.setup.kind)
    };
    let mut said: Vec<String> = Vec::new();
    if app.ledger.time_ns() == 0 {
        said.push(format!(
            "counting {what}: first numbers after the first interval"
        ));
    } else if app.filtered_out > 0 {
        said.push("no name matches the filter: Esc takes it away".into());
    } else if app.is_inside() {
        said.push("nothing here any more: Esc goes back".into());
    } else {
        said.push(if app.setup.interactive {
            format!("waiting for {what}: none happened yet")
        } else {
            format!("no {what}")
        });
        if app.ledger.time_ns() > LONG_WAIT_NS || !app.setup.interactive {
            said.push("`kvm-collector list` shows which VMs run here,".into());
            said.push("`kvm-collector doctor` whether their exits can be seen on this host".into());
        }
    }
    for (index, text) in (1..).zip(&said) {
        let place = canvas::skip(line(place, index), 2);
        canvas.text(
            place,
            text,
            if index == 1 { Look::Plain } else { Look::Dim },
        );
    }
}

fn keys(app: &App, place: Rect, canvas: &mut Canvas<'_>) {
    if let Overlay::Filter(_) = app.overlay {
        let prompt = format!("/{}▏", app.level().filter);
        let hints = "Enter keeps it, Esc takes it back".to_owned();
        canvas.words(place, &[(prompt, Look::Strong), (hints, Look::Dim)]);
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
    .map(|(key, what)| (format!("{key} {what}"), Look::Plain))
    .collect();
    canvas.words(canvas::skip(place, 1), &words);
    canvas.paint(place, Look::Bar);
}
