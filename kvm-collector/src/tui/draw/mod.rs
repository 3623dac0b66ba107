//! Draws the state into a buffer of cells. The same state always gives the same screen.

mod bins;
mod canvas;
mod columns;
mod help;
mod histogram;
mod sparkline;
mod symbols;
mod table;

use ratatui::{buffer::Buffer, layout::Rect};

use super::{
    App, Overlay,
    sort::{share, to_f64},
};
use crate::{
    format::units,
    model::VMEXIT,
    view::{GroupBy, ScopeTotals, Window},
};
use canvas::{Canvas, TextRole, line};
use symbols::Symbols;

/// Time without events after which the screen shows what to check.
const HINT_AFTER_NS: u64 = 5_000_000_000;

/// Draws the screen.
pub fn draw(app: &App, buffer: &mut Buffer) {
    let layout = app.layout();
    let mut canvas = Canvas {
        buffer,
        color: app.setup.color,
        symbols: Symbols::new(app.setup.unicode),
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

fn draw_title(app: &App, area: Rect, canvas: &mut Canvas<'_>) {
    let number = |number: usize, unit: &str| units::plural(number as u64, unit);
    let mut texts = vec![("kvm-collector top".to_owned(), TextRole::Strong)];
    let mut add = |text: String, role| texts.push((text, role));
    if app.paused {
        add("PAUSED".into(), TextRole::Warning);
    }
    if app.source_ended {
        add("END OF RECORDING".into(), TextRole::Warning);
    }
    add(number(app.totals.vms, "VM"), TextRole::Plain);
    add(number(app.totals.vcpus, "vCPU"), TextRole::Plain);
    if app.setup.interactive {
        match app.unusual_interval_ns() {
            Some(ns) => add(
                format!("last {}", units::short_duration(ns)),
                TextRole::Warning,
            ),
            None => {
                let every = humantime::format_duration(app.interval);
                add(format!("every {every}"), TextRole::Plain);
            }
        }
        let elapsed = units::elapsed(app.history.time_ns());
        let age = match app.setup.recording {
            Some(_) => format!("at {elapsed}"),
            None => format!("running {elapsed}"),
        };
        add(age, TextRole::Plain);
    } else {
        add(
            format!("in {}", units::duration(app.window_ns())),
            TextRole::Plain,
        );
    }
    if let Some(name) = &app.setup.recording {
        add(name.clone(), TextRole::Plain);
    }
    if app.setup.vcpus_from_thread_names {
        add("vCPU numbers from thread names".into(), TextRole::Plain);
    }
    canvas.text_list(canvas::skip_cells(area, 1), &texts);
    canvas.apply_style(area, TextRole::Bar);
}

/// Draws the totals of the host or of the scope.
fn draw_totals(app: &App, totals: &ScopeTotals, area: Rect, canvas: &mut Canvas<'_>) {
    let breakdown = &totals.breakdown;
    let seconds = to_f64(app.window_ns().max(1)) / 1e9;
    let rate = units::short_rate(to_f64(breakdown.exits) / seconds);
    let event_name = if app.setup.kind == VMEXIT {
        "exits"
    } else {
        app.setup.kind.as_str()
    };
    let mut texts = vec![(format!("{rate} {event_name}/s"), TextRole::Strong)];
    let overhead = share(breakdown.cost_ns(), totals.active_ns);
    let part = |name, ns, role| (name, share(ns, totals.wall_ns), role);
    for (name, share, role) in [
        ("overhead", overhead, TextRole::Strong),
        part("guest", totals.guest_ns, TextRole::Guest),
        part("kernel", breakdown.kernel_ns, TextRole::Kernel),
        part("VMM", breakdown.vmm_ns, TextRole::Vmm),
        part("idle", breakdown.idle_ns, TextRole::Idle),
        part("preempted", breakdown.preempted_ns, TextRole::Preempted),
        part("in progress", breakdown.open_ns, TextRole::Dim),
    ] {
        if share > 0.0 {
            texts.push((format!("{name} {}%", units::share(share)), role));
        }
    }
    canvas.text_list(area, &texts);
}

/// Draws the path to the scope, grouping, window and filter.
fn draw_path(app: &App, area: Rect, canvas: &mut Canvas<'_>) {
    let scope = app.scope();
    let mut path = vec!["all".to_owned()];
    path.extend(app.history.scope_path(&scope.within));
    let by = match scope.by {
        GroupBy::Vm => "by VM".to_owned(),
        GroupBy::Vcpu => "by vCPU".to_owned(),
        GroupBy::Reason if app.setup.kind == VMEXIT => "by exit reason".to_owned(),
        GroupBy::Reason => format!("by {}", app.setup.kind),
    };
    let mut settings = vec![(by, TextRole::Plain)];
    if app.window == Window::All {
        settings.push(("since the start".into(), TextRole::Warning));
    }
    let filter = &app.level().filter;
    if !filter.is_empty() {
        let hidden = units::plural(app.hidden_by_filter as u64, app.row_noun());
        let text = format!("filter `{filter}` hides {hidden}");
        settings.push((text, TextRole::Warning));
    }
    // A long path must leave space for the settings.
    let settings_width: usize = settings
        .iter()
        .map(|(text, _)| canvas::text_width(text) + 2)
        .sum();
    let settings_width = u16::try_from(settings_width).unwrap_or(u16::MAX);
    let path_area = Rect {
        width: area
            .width
            .saturating_sub(settings_width)
            .max(area.width / 3),
        ..area
    };
    let used = canvas.text(path_area, &path.join(" > "), TextRole::Heading);
    canvas.text_list(canvas::skip_cells(area, used.saturating_add(2)), &settings);
}

fn draw_loss(app: &App, area: Rect, canvas: &mut Canvas<'_>) {
    let (all, recent) = app.history.total_and_recent_loss();
    let mut texts = vec![("incomplete:".to_owned(), TextRole::Warning)];
    for (entry, recent) in all.entries().iter().zip(recent.entries()) {
        let Some(count) = entry.count.filter(|it| *it > 0) else {
            continue;
        };
        let more = match recent.count {
            Some(recent) if recent > 0 => format!(" (+{})", units::count(recent)),
            _ => String::new(),
        };
        texts.push((
            format!(
                "{} {}{more}",
                entry.name.replace('_', " "),
                units::count(count)
            ),
            TextRole::Warning,
        ));
    }
    canvas.text_list(area, &texts);
}

/// Draws the reason why there are no rows.
fn draw_empty_message(app: &App, area: Rect, canvas: &mut Canvas<'_>) {
    let event_name = if app.setup.kind == VMEXIT {
        "VM exits".to_owned()
    } else {
        format!("events of kind {}", app.setup.kind)
    };
    let mut lines: Vec<String> = Vec::new();
    if app.history.time_ns() == 0 && !app.source_ended && app.setup.interactive {
        lines.push(format!(
            "counting {event_name}: results follow after the first interval"
        ));
    } else if app.hidden_by_filter > 0 {
        let (noun, filter) = (app.row_noun(), &app.level().filter);
        lines.push(format!(
            "no {noun} matches `{filter}`: Esc removes the filter"
        ));
    } else if app.is_narrowed() {
        lines.push("no events here: Esc goes back".into());
    } else if !app.setup.selection.is_empty() && (app.source_ended || !app.setup.interactive) {
        let selection = &app.setup.selection;
        lines.push(format!("no {event_name} matched {selection}"));
    } else if app.setup.recording.is_some() {
        lines.push(match app.source_ended || !app.setup.interactive {
            true => format!("no {event_name} in this recording"),
            false => format!("no {event_name} so far"),
        });
    } else {
        lines.push(if app.setup.interactive {
            format!("waiting for {event_name}")
        } else {
            format!("no {event_name}")
        });
        if app.history.time_ns() > HINT_AFTER_NS || !app.setup.interactive {
            lines.push("`kvm-collector list` shows the running VMs,".into());
            lines
                .push("`kvm-collector doctor` checks whether this host reports their exits".into());
        }
    }
    for (index, text) in (1..).zip(&lines) {
        let area = canvas::skip_cells(line(area, index), 2);
        canvas.text(
            area,
            text,
            if index == 1 {
                TextRole::Plain
            } else {
                TextRole::Dim
            },
        );
    }
}

fn draw_keys(app: &App, area: Rect, canvas: &mut Canvas<'_>) {
    if let Overlay::Filter(_) = app.overlay {
        let prompt = format!("/{}{}", app.level().filter, canvas.symbols.cursor);
        let hints = "Enter: apply, Esc: cancel".to_owned();
        canvas.text_list(area, &[(prompt, TextRole::Strong), (hints, TextRole::Dim)]);
        return;
    }
    if let Some(message) = &app.message {
        canvas.text(area, message, TextRole::Warning);
        return;
    }
    let pause = if app.paused { "resume" } else { "pause" };
    let window = match app.window {
        Window::Recent => "since start",
        Window::All => "interval",
    };
    let texts: Vec<_> = [
        ("?", "help"),
        ("q", "quit"),
        ("Enter", "open"),
        ("Esc", "back"),
        ("Tab", "group"),
        ("s", "sort"),
        ("/", "filter"),
        ("Space", pause),
        ("H", "histogram"),
        ("a", window),
        ("r", "reverse"),
        ("+-", "interval"),
    ]
    .into_iter()
    .map(|(key, action)| (format!("{key} {action}"), TextRole::Plain))
    .collect();
    canvas.text_list(canvas::skip_cells(area, 1), &texts);
    canvas.apply_style(area, TextRole::Bar);
}
