//! What keys do.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::{App, Control, Overlay};

/// What the world has to do after a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Nothing, but to draw.
    None,
    /// End.
    Quit,
    /// Stop as Ctrl-Z does, until the shell continues us.
    Suspend,
    /// Draw from scratch.
    Redraw,
    /// Tell the source.
    Control(Control),
}

impl From<Option<Control>> for Action {
    fn from(control: Option<Control>) -> Self {
        control.map_or(Self::None, Self::Control)
    }
}

/// The keys and what they do, as the help says it.
pub(super) const HELP: &[(&str, &str)] = &[
    ("Up Down j k", "move; PgUp PgDn Home End too"),
    (
        "Enter l Right",
        "into the row: VM, then vCPU, then exit reason",
    ),
    ("Esc h Left", "back out (Backspace too)"),
    ("Tab", "the same exits by VM, by vCPU or by exit reason"),
    ("s S  > <", "sort by the next column, by the one before"),
    ("r", "reverse the order"),
    (
        "/",
        "only rows whose name contains a text; Esc takes it away",
    ),
    ("a", "since the start, or in the last interval"),
    ("Space p", "pause; counting goes on"),
    ("+ -", "longer or shorter interval"),
    ("H", "histogram of the row"),
    ("Ctrl-L", "draw again"),
    ("?", "this help"),
    ("q", "quit"),
    ("", ""),
    (
        "cost/s",
        "time out of the guest in each second, without idle",
    ),
    ("busy%", "that, as a share of the vCPUs' time without idle"),
    (
        "out%",
        "time out of the guest, of the vCPUs' time, with idle",
    ),
    ("guest%", "time in the guest, of the vCPUs' time"),
    ("kern% VMM%", "in the kernel; in the VMM's user space"),
    ("halt%", "halted: the guest has nothing to do (idle)"),
    ("prmt%", "ready, but another thread had the CPU (--preempt)"),
    ("open%", "out of the guest and not back yet"),
    (
        "mean .. max",
        "from an exit to the next entry; dim: since the start",
    ),
    ("trend", "cost, or exits, of the last 120 intervals"),
];

impl App {
    /// Takes a key.
    pub fn handle_key(&mut self, key: KeyEvent) -> Action {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c') => Action::Quit,
                KeyCode::Char('l') => Action::Redraw,
                KeyCode::Char('z') => Action::Suspend,
                _ => Action::None,
            };
        }
        match self.overlay.clone() {
            Overlay::None => self.main_key(key.code),
            Overlay::Help(line) => self.help_key(key.code, line),
            Overlay::Filter(before) => self.filter_key(key.code, before),
        }
    }

    fn main_key(&mut self, code: KeyCode) -> Action {
        match code {
            KeyCode::Char('q') => return Action::Quit,
            KeyCode::Up | KeyCode::Char('k') => self.move_by(-1),
            KeyCode::Down | KeyCode::Char('j') => self.move_by(1),
            KeyCode::PageUp => self.move_by(-self.page_rows()),
            KeyCode::PageDown => self.move_by(self.page_rows()),
            KeyCode::Home | KeyCode::Char('g') => self.select_first(),
            KeyCode::End | KeyCode::Char('G') => self.select(self.rows.len().saturating_sub(1)),
            KeyCode::Enter | KeyCode::Right | KeyCode::Char('l') => return self.drill_down().into(),
            KeyCode::Esc if !self.level().filter.is_empty() => self.set_filter(String::new()),
            KeyCode::Esc | KeyCode::Left | KeyCode::Backspace | KeyCode::Char('h') => {
                return self.go_back().into();
            }
            KeyCode::Tab => return self.next_grouping().into(),
            KeyCode::Char('s' | '>' | '.') => self.step_sort(true),
            KeyCode::Char('S' | '<' | ',') => self.step_sort(false),
            KeyCode::Char('r') => self.toggle_reverse(),
            KeyCode::Char('/') => {
                self.overlay = Overlay::Filter(self.level().filter.clone());
            }
            KeyCode::Char('a') => self.toggle_window(),
            KeyCode::Char('p' | ' ') => return Action::Control(self.toggle_pause()),
            KeyCode::Char('+' | '=') => return self.step_interval(true).into(),
            KeyCode::Char('-') => return self.step_interval(false).into(),
            KeyCode::Char('H') => self.toggle_pane(),
            KeyCode::Char('?') | KeyCode::F(1) => self.overlay = Overlay::Help(0),
            _ => {}
        }
        Action::None
    }

    fn step_sort(&mut self, forward: bool) {
        self.sort_by(self.sort.step(forward, self.setup.preempt_watched));
    }

    fn help_key(&mut self, code: KeyCode, line: u16) -> Action {
        let last = u16::try_from(HELP.len()).unwrap_or(u16::MAX) - 1;
        self.overlay = match code {
            KeyCode::Down | KeyCode::Char('j') => Overlay::Help((line + 1).min(last)),
            KeyCode::Up | KeyCode::Char('k') => Overlay::Help(line.saturating_sub(1)),
            // Any other key has been read by somebody who is done with the help.
            _ => Overlay::None,
        };
        Action::None
    }

    fn filter_key(&mut self, code: KeyCode, before: String) -> Action {
        let mut filter = self.level().filter.clone();
        match code {
            KeyCode::Enter => self.overlay = Overlay::None,
            KeyCode::Esc => {
                self.overlay = Overlay::None;
                self.set_filter(before);
            }
            KeyCode::Backspace => {
                // With nothing to take away, there is nothing to type any more either.
                if filter.pop().is_none() {
                    self.overlay = Overlay::None;
                }
                self.set_filter(filter);
            }
            KeyCode::Char(c) => {
                filter.push(c);
                self.set_filter(filter);
            }
            KeyCode::Up => self.move_by(-1),
            KeyCode::Down => self.move_by(1),
            _ => {}
        }
        Action::None
    }
}
