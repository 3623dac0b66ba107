//! What is where on the screen.

use ratatui::layout::Rect;

use super::App;

/// The histogram pane at the side.
const SIDE_PANE: u16 = 52;
/// The rows keep at least this much width beside it.
const ROWS_BESIDE_PANE: u16 = 76;
/// The histogram pane below.
const LOW_PANE: u16 = 10;
/// The rows keep at least this much height above it.
const ROWS_ABOVE_PANE: u16 = 4;

/// Places; a place without room has no height.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    /// What this is, of what, since when.
    pub(super) title: Rect,
    /// The host's totals.
    pub(super) totals: Rect,
    /// What is looked at.
    pub(super) path: Rect,
    /// The totals of that; only if it is not the host.
    pub(super) scope_totals: Rect,
    /// What is missing; only if something is.
    pub(super) loss: Rect,
    /// The columns' names.
    pub(super) header: Rect,
    pub(super) rows: Rect,
    pub(super) pane: Option<Rect>,
    /// Which keys there are.
    pub(super) keys: Rect,
}

impl Layout {
    pub(super) fn of(app: &App) -> Self {
        let (width, height) = app.size;
        let mut left = Rect::new(0, 0, width, height);
        // On a screen that is too low for all, the rows are what it is for.
        let top = |wanted: bool, left: &mut Rect| {
            let lines = u16::from(wanted);
            let line = Rect {
                height: lines,
                ..*left
            };
            left.y += lines;
            left.height -= lines;
            line
        };
        let title = top(height >= 4, &mut left);
        let totals = top(height >= 8, &mut left);
        let path = top(height >= 6, &mut left);
        let scope_totals = top(height >= 10 && app.is_inside(), &mut left);
        let loss = top(height >= 5 && !app.ledger.total_and_recent_loss().0.is_empty(), &mut left);
        let lines = u16::from(height >= 7 && app.setup.interactive);
        left.height -= lines;
        let keys = Rect {
            y: left.bottom(),
            height: lines,
            ..left
        };
        let mut pane = None;
        if app.wants_pane() {
            if width >= SIDE_PANE + 1 + ROWS_BESIDE_PANE {
                left.width -= SIDE_PANE + 1;
                pane = Some(Rect {
                    x: left.right() + 1,
                    width: SIDE_PANE,
                    ..left
                });
            } else if left.height > LOW_PANE + ROWS_ABOVE_PANE {
                left.height -= LOW_PANE;
                pane = Some(Rect {
                    y: left.bottom(),
                    height: LOW_PANE,
                    ..left
                });
            }
        }
        let header = top(left.height >= 2, &mut left);
        Self {
            title,
            totals,
            path,
            scope_totals,
            loss,
            header,
            rows: left,
            pane,
            keys,
        }
    }
}
