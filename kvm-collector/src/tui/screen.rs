//! The terminal: taken, and given back as it was, whatever happens.

use std::{
    io::{self, BufWriter},
    panic,
    sync::{
        Once,
        atomic::{AtomicBool, Ordering},
    },
};

use ratatui::{
    Terminal,
    backend::CrosstermBackend,
    buffer::Buffer,
    crossterm::{
        cursor::Show,
        execute,
        terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode},
    },
    layout::{Position, Rect},
};

use super::terminal::{TerminalWriter, write_or_discard_queued};

/// Is the terminal ours? There is one, whoever panics.
static IS_ACTIVE: AtomicBool = AtomicBool::new(false);

/// The terminal, for as long as this lives.
#[derive(Debug)]
pub struct Screen {
    terminal: Terminal<CrosstermBackend<BufWriter<TerminalWriter>>>,
    log_level: log::LevelFilter,
}

impl Screen {
    /// Takes the terminal. A panic of any thread gives it back before it says anything.
    ///
    /// # Errors
    /// When there is no terminal.
    pub fn open() -> io::Result<Self> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let before = panic::take_hook();
            panic::set_hook(Box::new(move |what| {
                restore();
                before(what);
            }));
        });
        let log_level = log::max_level();
        activate()?;
        let backend = CrosstermBackend::new(BufWriter::with_capacity(64 << 10, TerminalWriter::open()?));
        match Terminal::new(backend) {
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

    /// Width and height.
    ///
    /// # Errors
    /// When the terminal does not say.
    pub fn size(&self) -> io::Result<(u16, u16)> {
        let size = self.terminal.size()?;
        Ok((size.width, size.height))
    }

    /// Shows a picture: only what has changed is written.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn draw(&mut self, draw: impl FnOnce(&mut Buffer)) -> io::Result<()> {
        // After a panic elsewhere the terminal is not ours any more.
        if IS_ACTIVE.load(Ordering::SeqCst) {
            self.terminal.draw(|frame| draw(frame.buffer_mut()))?;
        }
        Ok(())
    }

    /// The next picture is written in full.
    ///
    /// # Errors
    /// When the terminal cannot be cleared.
    pub fn invalidate(&mut self) -> io::Result<()> {
        // `clear` would ask the terminal where the cursor is, and the answer is read by who listens to keys.
        let size = self.terminal.size()?;
        self.terminal.resize(Rect::from((Position::ORIGIN, size)))
    }

    /// Gives the terminal back while `pause` runs, and takes it again.
    ///
    /// # Errors
    /// When it cannot be taken again.
    pub fn suspend(&mut self, pause: impl FnOnce()) -> io::Result<()> {
        restore();
        pause();
        activate()?;
        self.invalidate()
    }
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
    // Messages would be written across the picture; what ends the program is said at its end. Where they
    // go to a file they harm nobody.
    if io::IsTerminal::is_terminal(&io::stderr()) {
        log::set_max_level(log::LevelFilter::Off);
    }
    TerminalWriter::open()
        .and_then(|mut out| execute!(out, EnterAlternateScreen))
        .inspect_err(|_| restore())
}

/// Puts the terminal as it was, once.
fn restore() {
    if IS_ACTIVE.swap(false, Ordering::SeqCst) {
        let mut bytes = Vec::new();
        // If the terminal is gone there is nobody to tell.
        let _ = execute!(bytes, LeaveAlternateScreen, Show).and_then(|()| write_or_discard_queued(&bytes));
        let _ = disable_raw_mode();
    }
}
