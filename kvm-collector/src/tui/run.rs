//! The loop: whatever happens changes the state, and then it is drawn, once.

use std::{
    io::{self, Write},
    sync::Arc,
    thread,
};

use ratatui::{
    buffer::Buffer,
    crossterm::event::{self, Event, KeyEventKind},
    layout::Rect,
    text::Span,
};

use super::{Action, App, Control, Mailbox, Screen, draw};
use crate::view::PendingReading;

/// Passes on what happens at the terminal, in a thread of its own, as long as the process lives.
///
/// # Errors
/// When there can be no thread.
pub fn start_input_thread(to: Arc<Mailbox>) -> io::Result<()> {
    let listen = move || {
        while let Ok(event) = event::read() {
            to.add_input(event);
        }
        // A terminal that cannot be read is gone.
        to.end();
    };
    thread::Builder::new()
        .name("input".into())
        .spawn(listen)
        .map(drop)
}

/// Shows the state, and what happens to it, until the end.
///
/// # Errors
/// When the terminal cannot be written to.
pub fn run(
    app: &mut App,
    screen: &mut Screen,
    mailbox: &Mailbox,
    control: &mut dyn FnMut(Control),
) -> io::Result<()> {
    loop {
        screen.draw(|buffer| {
            app.resize(buffer.area.width, buffer.area.height);
            draw(app, buffer);
        })?;
        // All that has come by now is worth one picture.
        let mail = mailbox.take();
        if mail.is_ended {
            return Ok(());
        }
        // Keys first: they are about what the screen shows now.
        for event in mail.input {
            match handle_input(app, &event) {
                Action::None => {}
                Action::Quit => return Ok(()),
                Action::Redraw => screen.invalidate()?,
                Action::Suspend => screen.suspend(suspend)?,
                Action::Control(what) => control(what),
            }
        }
        for unread in mail.readings {
            match unread {
                PendingReading::Reading(reading) => app.add_reading(*reading),
                PendingReading::Histograms(reading) => app.set_histogram_base(*reading),
            }
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

/// Stops until the shell continues us.
fn suspend() {
    // The whole job stops, as at a shell's Ctrl-Z: `sudo` must notice as well.
    let _ = rustix::process::kill_current_process_group(rustix::process::Signal::TSTP);
}

/// Writes the state as text, with as many rows as there are.
///
/// # Errors
/// When it cannot be written.
pub fn print(app: &mut App, width: u16, out: &mut impl Write) -> io::Result<()> {
    // A picture has at most 65,535 cells, and nobody reads more lines.
    const MOST_LINES: u16 = 300;
    app.fit_rows(width.clamp(1, 200), MOST_LINES);
    let mut buffer = Buffer::empty(Rect::new(0, 0, app.size.0, app.size.1));
    draw(app, &mut buffer);
    for line in text_lines(&buffer) {
        writeln!(out, "{line}")?;
    }
    let hidden = app
        .rows
        .len()
        .saturating_sub(usize::from(app.layout().rows.height));
    if hidden > 0 && !app.rows.is_empty() {
        writeln!(out, "{hidden} more rows")?;
    }
    Ok(())
}

/// A picture as lines of text.
pub fn text_lines(buffer: &Buffer) -> impl Iterator<Item = String> {
    let width = usize::from(buffer.area.width).max(1);
    buffer.content.chunks(width).map(|cells| {
        let mut line = String::new();
        let mut at = 0;
        while let Some(cell) = cells.get(at) {
            line.push_str(cell.symbol());
            // What is wide lies over the cells after it.
            at += Span::raw(cell.symbol()).width().max(1);
        }
        line.truncate(line.trim_end().len());
        line
    })
}
