//! Key bindings.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::{App, Control, Overlay};

/// What the main loop has to do after a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Draw the state.
    None,
    /// End the screen.
    Quit,
    /// Stop the process until the shell continues it.
    Suspend,
    /// Redraw all cells.
    Redraw,
    /// Send a request to the reader.
    Control(Control),
}

impl From<Option<Control>> for Action {
    fn from(control: Option<Control>) -> Self {
        control.map_or(Self::None, Self::Control)
    }
}

/// Lines of the help: keys or columns, and their meaning.
pub(super) const HELP: &[(&str, &str)] = &[
    ("Up Down j k", "move the cursor (also PgUp PgDn Home End)"),
    (
        "Enter l Right",
        "open the row: VM, then vCPU, then exit reason",
    ),
    ("Esc h Left", "go back (also Backspace)"),
    ("Tab", "group by VM, vCPU or exit reason"),
    ("s S  > <", "sort by the next or previous column"),
    ("r", "reverse the order"),
    ("/", "filter rows by name; Esc removes the filter"),
    ("a", "show totals since the start, or the last interval"),
    ("Space p", "pause: counting continues, a recording stops"),
    ("+ -", "longer or shorter interval"),
    ("H", "show or hide the histogram of the row"),
    ("Ctrl-L", "redraw the screen"),
    ("?", "show this help"),
    ("q", "quit"),
    ("", ""),
    (
        "cost/s",
        "time outside the guest without idle time, per second",
    ),
    ("overhead%", "cost / (cost + guest time)"),
    ("out%", "time outside the guest: cost and idle time"),
    ("guest%", "time in the guest"),
    ("kern%", "time in the kernel"),
    ("VMM%", "time in the VMM's user space, except during halts"),
    ("idle%", "halted: time waiting, in the kernel or in the VMM"),
    ("prmt%", "time runnable, but not running (--preempt)"),
    ("open%", "time of exits still in progress"),
    (
        "mean .. max",
        "exit durations; dim: since the start, not the interval",
    ),
    ("trend", "cost or exits of the last 120 intervals"),
    (
        "",
        "The shares of time from guest% to open% add up to 100 %,",
    ),
    ("", "or to less if vCPUs started or ended in the interval."),
];

impl App {
    /// Handles a key.
    pub fn handle_key(&mut self, key: KeyEvent) -> Action {
        self.clear_message();
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            match key.code {
                KeyCode::Char('c') => return Action::Quit,
                KeyCode::Char('l') => return Action::Redraw,
                KeyCode::Char('z') => return Action::Suspend,
                code => self.report_unknown_key(&format!("Ctrl-{code}")),
            }
            return Action::None;
        }
        match self.overlay.clone() {
            Overlay::None => self.main_key(key.code),
            Overlay::Help(line) => self.help_key(key.code, line),
            Overlay::Filter(previous) => self.filter_key(key.code, previous),
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
            KeyCode::Enter | KeyCode::Right | KeyCode::Char('l') => {
                return self.drill_down().into();
            }
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
            KeyCode::Char('p' | ' ') if self.source_ended => {
                self.message = Some("the recording has ended".into());
            }
            KeyCode::Char('p' | ' ') => return Action::Control(self.toggle_pause()),
            KeyCode::Char('+' | '=' | '-') if self.setup.recording.is_some() => {
                self.message = Some("the interval of a recording is set with -I".into());
            }
            KeyCode::Char('+' | '=') => return self.step_interval(true).into(),
            KeyCode::Char('-') => return self.step_interval(false).into(),
            KeyCode::Char('H') => self.toggle_pane(),
            KeyCode::Char('?') | KeyCode::F(1) => self.overlay = Overlay::Help(0),
            code => self.report_unknown_key(&code.to_string()),
        }
        Action::None
    }

    fn report_unknown_key(&mut self, key: &str) {
        self.message = Some(format!("no key `{key}`: ? shows the keys"));
    }

    fn step_sort(&mut self, forward: bool) {
        self.sort_by(self.sort.step(forward, self.setup.preempt_watched));
    }

    fn help_key(&mut self, code: KeyCode, line: u16) -> Action {
        let last = u16::try_from(HELP.len()).unwrap_or(u16::MAX) - 1;
        self.overlay = match code {
            KeyCode::Down | KeyCode::Char('j') => Overlay::Help((line + 1).min(last)),
            KeyCode::Up | KeyCode::Char('k') => Overlay::Help(line.saturating_sub(1)),
            // Any other key closes the help.
            _ => Overlay::None,
        };
        Action::None
    }

    fn filter_key(&mut self, code: KeyCode, previous: String) -> Action {
        let mut filter = self.level().filter.clone();
        match code {
            KeyCode::Enter => self.overlay = Overlay::None,
            KeyCode::Esc => {
                self.overlay = Overlay::None;
                self.set_filter(previous);
            }
            KeyCode::Backspace => {
                // Backspace in an empty filter closes the prompt.
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
