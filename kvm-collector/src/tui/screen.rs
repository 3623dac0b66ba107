//! The terminal in raw mode with the alternate screen. It is always restored, even after a panic.

use std::{
    io::{self, BufWriter},
    panic,
    sync::{
        Once,
        atomic::{AtomicBool, Ordering},
    },
};

use ratatui::{
    Terminal, TerminalOptions, Viewport,
    backend::{Backend as _, CrosstermBackend},
    buffer::Buffer,
    crossterm::{
        cursor::Show,
        execute,
        terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode},
    },
    layout::Rect,
};

use super::terminal::{TerminalWriter, enable_interrupt_key, write_or_discard_queued};

/// The maximum size of the screen. The terminal says how large it is, and each of its cells would take about 100 bytes.
const MAX_SIZE: (u16, u16) = (1000, 500);

/// Whether the terminal is in raw mode. Global, because a panic of any thread must restore it.
static IS_ACTIVE: AtomicBool = AtomicBool::new(false);

/// The terminal in raw mode. Dropping it restores the terminal.
#[derive(Debug)]
pub struct Screen {
    terminal: Terminal<CrosstermBackend<BufWriter<TerminalWriter>>>,
    log_level: log::LevelFilter,
}

impl Screen {
    /// Switches the terminal to raw mode and the alternate screen. A panic of any thread restores it before
    /// the panic message is printed.
    ///
    /// # Errors
    /// When there is no terminal.
    pub fn open() -> io::Result<Self> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let previous_hook = panic::take_hook();
            panic::set_hook(Box::new(move |info| {
                restore();
                previous_hook(info);
            }));
        });
        let log_level = log::max_level();
        activate()?;
        let backend =
            CrosstermBackend::new(BufWriter::with_capacity(64 << 10, TerminalWriter::open()?));
        let terminal = area(&backend).and_then(|area| {
            let viewport = Viewport::Fixed(area);
            Terminal::with_options(backend, TerminalOptions { viewport })
        });
        match terminal {
            Ok(terminal) => Ok(Self {
                terminal,
                log_level,
            }),
            Err(error) => {
                restore();
                Err(error)
            }
        }
    }

    /// Returns the width and height.
    ///
    /// # Errors
    /// When the terminal does not report its size.
    pub fn size(&self) -> io::Result<(u16, u16)> {
        let area = area(self.terminal.backend())?;
        Ok((area.width, area.height))
    }

    /// Draws a frame. Only changed cells are written.
    ///
    /// # Errors
    /// When the terminal cannot be written to.
    pub fn draw(&mut self, draw: impl FnOnce(&mut Buffer)) -> io::Result<()> {
        // A panic in another thread may have restored the terminal.
        if IS_ACTIVE.load(Ordering::SeqCst) {
            if area(self.terminal.backend())? != self.terminal.current_buffer_mut().area {
                self.invalidate()?;
            }
            self.terminal.draw(|frame| draw(frame.buffer_mut()))?;
        }
        Ok(())
    }

    /// Makes the next frame write all cells.
    ///
    /// # Errors
    /// When the terminal cannot be cleared.
    pub fn invalidate(&mut self) -> io::Result<()> {
        // `clear` would query the cursor position, but the input thread reads the answer.
        let area = area(self.terminal.backend())?;
        self.terminal.resize(area)
    }

    /// Restores the terminal, calls `pause`, and switches back.
    ///
    /// # Errors
    /// When the terminal cannot be switched back.
    pub fn suspend(&mut self, pause: impl FnOnce()) -> io::Result<()> {
        restore();
        pause();
        activate()?;
        self.invalidate()
    }
}

/// Returns the part of the terminal that is used: all of it, unless it is larger than [`MAX_SIZE`].
fn area(backend: &CrosstermBackend<BufWriter<TerminalWriter>>) -> io::Result<Rect> {
    let size = backend.size()?;
    let (width, height) = (size.width.min(MAX_SIZE.0), size.height.min(MAX_SIZE.1));
    Ok(Rect::new(0, 0, width, height))
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
        log::set_max_level(self.log_level);
    }
}

fn activate() -> io::Result<()> {
    enable_raw_mode()?;
    IS_ACTIVE.store(true, Ordering::SeqCst);
    // Log messages on the terminal would overwrite the screen. Errors are printed at the end. If stderr is a
    // file, messages do no harm.
    if io::IsTerminal::is_terminal(&io::stderr()) {
        log::set_max_level(log::LevelFilter::Off);
    }
    enable_interrupt_key()
        .and_then(|()| TerminalWriter::open())
        .and_then(|mut out| execute!(out, EnterAlternateScreen))
        .inspect_err(|_| restore())
}

/// Restores the terminal, unless that was done before.
fn restore() {
    if IS_ACTIVE.swap(false, Ordering::SeqCst) {
        let mut bytes = Vec::new();
        // Ignore errors: if the terminal is gone, they cannot be shown.
        let _ = execute!(bytes, LeaveAlternateScreen, Show)
            .and_then(|()| write_or_discard_queued(&bytes));
        let _ = disable_raw_mode();
    }
}
