//! The loop: whatever happens changes the state, and then it is drawn, once.

use std::{
    io::{self, Write},
    sync::mpsc::{Receiver, Sender, TryRecvError},
    thread,
};

use ratatui::{
    buffer::Buffer,
    crossterm::event::{self, Event, KeyEventKind},
    layout::Rect,
    text::Span,
};

use super::{Action, App, Control, Screen, draw, layout::Layout};
use crate::view::TopReading;

/// What can happen.
#[derive(Debug)]
pub enum Message {
    /// Somebody did something at the terminal.
    Input(Event),
    /// The source has read.
    Reading(Box<TopReading>),
    /// The source has read histograms to count the next ones from.
    Histograms(Box<TopReading>),
    /// It is over.
    End,
}

/// Passes on what happens at the terminal, in a thread of its own, until nobody wants it.
///
/// # Errors
/// When there can be no thread.
pub fn listen(to: Sender<Message>) -> io::Result<()> {
    let listen = move || {
        loop {
            // A terminal that cannot be read is gone.
            let message = event::read().map_or(Message::End, Message::Input);
            let last = matches!(message, Message::End);
            if to.send(message).is_err() || last {
                return;
            }
        }
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
    messages: &Receiver<Message>,
    control: &mut dyn FnMut(Control),
) -> io::Result<()> {
    loop {
        screen.show(|buffer| {
            app.resize(buffer.area.width, buffer.area.height);
            draw(app, buffer);
        })?;
        let Ok(mut message) = messages.recv() else {
            return Ok(());
        };
        // All that has come by now is worth one picture.
        loop {
            match take(app, message) {
                Action::None => {}
                Action::Quit => return Ok(()),
                Action::Redraw => screen.forget()?,
                Action::Suspend => screen.lend(suspend)?,
                Action::Control(what) => control(what),
            }
            message = match messages.try_recv() {
                Ok(message) => message,
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return Ok(()),
            };
        }
    }
}

fn take(app: &mut App, message: Message) -> Action {
    match message {
        Message::Input(Event::Key(key)) if key.kind != KeyEventKind::Release => app.key(key),
        Message::Input(Event::Resize(width, height)) => {
            app.resize(width, height);
            Action::None
        }
        Message::Input(_) => Action::None,
        Message::Reading(reading) => {
            app.take(*reading);
            Action::None
        }
        Message::Histograms(reading) => {
            app.begin_histograms(*reading);
            Action::None
        }
        Message::End => Action::Quit,
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
    for line in lines(&buffer) {
        writeln!(out, "{line}")?;
    }
    let hidden = app
        .rows
        .len()
        .saturating_sub(usize::from(Layout::of(app).rows.height));
    if hidden > 0 && !app.rows.is_empty() {
        writeln!(out, "{hidden} more rows")?;
    }
    Ok(())
}

/// A picture as lines of text.
pub fn lines(buffer: &Buffer) -> impl Iterator<Item = String> {
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
