//! The main loop: waits for input and readings, updates the state, and draws it.

use std::{
    io::{self, Write},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use ratatui::{
    buffer::Buffer,
    crossterm::event::{self, Event, KeyEventKind},
    layout::Rect,
    text::Span,
};

use super::{Action, App, Control, Mailbox, Screen, draw};
use crate::{format::units, view::PendingReading};

/// How long a message is shown if no key is pressed.
const MESSAGE_TIME: Duration = Duration::from_secs(4);

/// Starts a thread that passes input of the terminal to the mailbox. It runs until the process ends.
///
/// # Errors
/// When the thread cannot be created.
pub fn start_input_thread(to: Arc<Mailbox>) -> io::Result<()> {
    let listen = move || {
        while let Ok(event) = event::read() {
            to.add_input(event);
        }
        // The terminal is gone.
        to.end();
    };
    thread::Builder::new()
        .name("input".into())
        .spawn(listen)
        .map(drop)
}

/// Runs the screen until the user quits or the mailbox ends. Requests to the reader go to `control`.
///
/// # Errors
/// When the terminal cannot be written to.
pub fn run(
    app: &mut App,
    screen: &mut Screen,
    mailbox: &Mailbox,
    control: &mut dyn FnMut(Control),
) -> io::Result<()> {
    let mut message_end = None;
    loop {
        screen.draw(|buffer| {
            app.resize(buffer.area.width, buffer.area.height);
            draw(app, buffer);
        })?;
        // Handle everything that has arrived before drawing again.
        let Some(mail) = mailbox.take(message_end) else {
            app.clear_message();
            message_end = None;
            continue;
        };
        if mail.is_ended {
            return Ok(());
        }
        // Input first: it refers to the screen that the user sees.
        let may_have_message = !mail.input.is_empty() || mail.is_source_ended;
        for event in mail.input {
            match handle_input(app, &event) {
                Action::None => {}
                Action::Quit => return Ok(()),
                Action::Redraw => screen.invalidate()?,
                Action::Suspend => screen.suspend(suspend)?,
                Action::Control(what) => control(what),
            }
        }
        for pending in mail.readings {
            match pending {
                PendingReading::Reading(reading) => app.add_reading(*reading),
                PendingReading::Histograms(reading) => app.set_histogram_base(*reading),
            }
        }
        if mail.is_source_ended {
            app.set_source_ended();
        }
        if may_have_message {
            let end = || Instant::now().checked_add(MESSAGE_TIME);
            message_end = app.has_message().then(end).flatten();
        }
    }
}

fn handle_input(app: &mut App, event: &Event) -> Action {
    match event {
        Event::Key(key) if key.kind != KeyEventKind::Release => app.handle_key(*key),
        Event::Resize(width, height) => {
            app.resize(*width, *height);
            Action::None
        }
        _ => Action::None,
    }
}

/// Stops the process until the shell continues it.
fn suspend() {
    // Stop the whole process group, as the terminal does at Ctrl-Z: `sudo` must notice it too.
    let _ = rustix::process::kill_current_process_group(rustix::process::Signal::TSTP);
}

/// Prints the state as text, with all rows.
///
/// # Errors
/// When the output cannot be written.
pub fn print(app: &mut App, width: u16, out: &mut impl Write) -> io::Result<()> {
    // A buffer has at most 65,535 cells.
    const MAX_LINES: u16 = 300;
    app.fit_rows(width.clamp(1, 200), MAX_LINES);
    let mut buffer = Buffer::empty(Rect::new(0, 0, app.size.0, app.size.1));
    draw(app, &mut buffer);
    let mut lines: Vec<_> = text_lines(&buffer).collect();
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    for line in lines {
        writeln!(out, "{line}")?;
    }
    let hidden = app
        .rows
        .len()
        .saturating_sub(usize::from(app.layout().rows.height));
    if hidden > 0 && !app.rows.is_empty() {
        writeln!(out, "{}", units::plural(hidden as u64, "more row"))?;
    }
    Ok(())
}

/// Converts a buffer to lines of text.
pub fn text_lines(buffer: &Buffer) -> impl Iterator<Item = String> {
    let width = usize::from(buffer.area.width).max(1);
    buffer.content.chunks(width).map(|cells| {
        let mut line = String::new();
        let mut at = 0;
        while let Some(cell) = cells.get(at) {
            line.push_str(cell.symbol());
            // A wide character also covers the next cell.
            at += Span::raw(cell.symbol()).width().max(1);
        }
        line.truncate(line.trim_end().len());
        line
    })
}
