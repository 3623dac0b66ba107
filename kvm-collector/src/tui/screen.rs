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

use super::terminal::{Out, last_words};

/// Is the terminal ours? There is one, whoever panics.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// The terminal, for as long as this lives.
#[derive(Debug)]
pub struct Screen {
    terminal: Terminal<CrosstermBackend<BufWriter<Out>>>,
    log_level: log::LevelFilter,
}

impl Screen {
    /// Takes the terminal. A panic of any thread gives it back before it says anything.
    ///
    /// # Errors
    /// When there is no terminal.
    pub fn take() -> io::Result<Self> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let before = panic::take_hook();
            panic::set_hook(Box::new(move |what| {
                give_back();
                before(what);
            }));
        });
        let log_level = log::max_level();
        acquire()?;
        let backend = CrosstermBackend::new(BufWriter::with_capacity(64 << 10, Out::open()?));
        match Terminal::new(backend) {
            Ok(terminal) => Ok(Self {
                terminal,
                log_level,
            }),
            Err(error) => {
                give_back();
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
    pub fn show(&mut self, draw: impl FnOnce(&mut Buffer)) -> io::Result<()> {
        // After a panic elsewhere the terminal is not ours any more.
        if TAKEN.load(Ordering::SeqCst) {
            self.terminal.draw(|frame| draw(frame.buffer_mut()))?;
        }
        Ok(())
    }

    /// The next picture is written in full.
    ///
    /// # Errors
    /// When the terminal cannot be cleared.
    pub fn forget(&mut self) -> io::Result<()> {
        // `clear` would ask the terminal where the cursor is, and the answer is read by who listens to keys.
        let size = self.terminal.size()?;
        self.terminal.resize(Rect::from((Position::ORIGIN, size)))
    }

    /// Gives the terminal back while `pause` runs, and takes it again.
    ///
    /// # Errors
    /// When it cannot be taken again.
    pub fn lend(&mut self, pause: impl FnOnce()) -> io::Result<()> {
        give_back();
        pause();
        acquire()?;
        self.forget()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
        log::set_max_level(self.log_level);
    }
}

fn acquire() -> io::Result<()> {
    enable_raw_mode()?;
    TAKEN.store(true, Ordering::SeqCst);
    // Messages would be written across the picture; what ends the program is said at its end. Where they
    // go to a file they harm nobody.
    if io::IsTerminal::is_terminal(&io::stderr()) {
        log::set_max_level(log::LevelFilter::Off);
    }
    Out::open()
        .and_then(|mut out| execute!(out, EnterAlternateScreen))
        .inspect_err(|_| give_back())
}

/// Puts the terminal as it was, once.
fn give_back() {
    if TAKEN.swap(false, Ordering::SeqCst) {
        let mut bytes = Vec::new();
        // If the terminal is gone there is nobody to tell.
        let _ = execute!(bytes, LeaveAlternateScreen, Show).and_then(|()| last_words(&bytes));
        let _ = disable_raw_mode();
    }
}
